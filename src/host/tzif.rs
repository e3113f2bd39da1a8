//! The file format of the time zone database (RFC 9636, "TZif"), read for one question: how far is local time ahead of
//! UTC at this moment? Bytes in, answer out; where the files are is [`super::zone`]'s affair.
//!
//! # Why not a library
//!
//! The well kept ones (jiff, chrono-tz, tz-rs) bring calendars, parsers, formatting and some of them the database itself,
//! which on a gateway belongs to the system and is kept up to date with it. What is needed here is this file.
//!
//! Names of time, daylight saving flags and leap seconds are passed over: Unix time counts none, and a file made for
//! clocks that do is off by less than half a minute.

use super::posix_tz::PosixTz;

/// What one file says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct TimeZone {
    /// When the offset changes (seconds since 1970), and to what, in order of time.
    changes: Vec<(i64, i32)>,
    /// The offset before the first change.
    first: i32,
    /// The rule for the time after the last change.
    rule: Option<PosixTz>,
}

/// Sizes of a data block's parts: the counts of a header.
struct Counts {
    ut_flags: usize,
    std_flags: usize,
    leaps: usize,
    times: usize,
    types: usize,
    chars: usize,
}

/// A header is this long.
const HEADER: usize = 44;
/// More than any file has, so that a damaged one cannot make us ask for gigabytes.
const MOST: usize = 100_000;
/// Offsets that can be: RFC 9636, section 3.2, has -89999 to 93599 s.
const OFFSETS: std::ops::RangeInclusive<i32> = -89_999..=93_599;

impl TimeZone {
    /// Reads a file of any version; `None` if it is none.
    pub(super) fn parse(file: &[u8]) -> Option<Self> {
        let (version, counts) = header(file)?;
        if version == 0 {
            return Self::block(file.get(HEADER..)?, &counts, 4).map(|(zone, _)| zone);
        }
        // The first block is for readers of version 1, and may be a stub; the real one has a header of its own.
        let second = file.get(HEADER + counts.block(4)..)?;
        let (_, counts) = header(second)?;
        let (zone, footer) = Self::block(second.get(HEADER..)?, &counts, 8)?;
        let footer = footer.strip_prefix(b"\n")?;
        let end = footer.iter().position(|byte| *byte == b'\n')?;
        let rule = match std::str::from_utf8(&footer[..end]).ok()? {
            "" => None,
            text => Some(PosixTz::parse(text)?),
        };
        Some(Self { rule, ..zone })
    }

    /// Seconds that local time is ahead of UTC at `time`, in seconds since 1970.
    pub(super) fn offset(&self, time: i64) -> i32 {
        let after = self.changes.partition_point(|(at, _)| *at <= time);
        match (&self.rule, after.checked_sub(1)) {
            (Some(rule), _) if after == self.changes.len() => rule.offset(time),
            (_, Some(last)) => self.changes[last].1,
            (_, None) => self.first,
        }
    }

    /// A data block whose times are `width` bytes, and what follows it.
    fn block<'a>(data: &'a [u8], counts: &Counts, width: usize) -> Option<(Self, &'a [u8])> {
        let (times, rest) = data.split_at_checked(counts.times * width)?;
        let (indices, rest) = rest.split_at_checked(counts.times)?;
        let (types, _) = rest.split_at_checked(counts.types * 6)?;
        let offsets: Vec<i32> =
            types.chunks_exact(6).map(|it| i32::from_be_bytes([it[0], it[1], it[2], it[3]])).collect();
        if !offsets.iter().all(|offset| OFFSETS.contains(offset)) {
            return None;
        }
        let change = |(at, index): (&[u8], &u8)| Some((number(at)?, *offsets.get(usize::from(*index))?));
        let changes = times.chunks_exact(width).zip(indices).map(change).collect::<Option<Vec<_>>>()?;
        let in_order = changes.is_sorted_by(|(a, _), (b, _)| a < b);
        let zone = Self { changes, first: *offsets.first()?, rule: None };
        in_order.then_some((zone, data.get(counts.block(width)..)?))
    }
}

impl Counts {
    /// Bytes of a data block whose times are `width` bytes.
    fn block(&self, width: usize) -> usize {
        let per_time = width + 1;
        let leap = width + 4;
        self.times * per_time
            + self.types * 6
            + self.chars
            + self.leaps * leap
            + self.std_flags
            + self.ut_flags
    }
}

/// The version (0 for the first) and the counts of a header.
fn header(data: &[u8]) -> Option<(u8, Counts)> {
    let head = data.get(..HEADER)?;
    let version = match head.strip_prefix(b"TZif")?[0] {
        0 => 0,
        version @ b'2'..=b'9' => version - b'0',
        _ => return None,
    };
    let count = |at: usize| {
        let bytes = head.get(20 + 4 * at..24 + 4 * at)?;
        usize::try_from(number(bytes)?).ok().filter(|count| *count <= MOST)
    };
    let counts = Counts {
        ut_flags: count(0)?,
        std_flags: count(1)?,
        leaps: count(2)?,
        times: count(3)?,
        types: count(4)?,
        chars: count(5)?,
    };
    Some((version, counts))
}

/// A big-endian signed number of four or eight bytes.
fn number(bytes: &[u8]) -> Option<i64> {
    match *bytes {
        [a, b, c, d] => Some(i32::from_be_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Some(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}
