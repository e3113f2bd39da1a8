//! Any bytes of a bundle, out of a source that gives ranges, or all of it from front to back.
//!
//! Which ranges will be wanted is told in advance ([`Reader::expect`]), so that what lies close together is asked for
//! at once. Nothing depends on it: whatever else is read costs a request of its own.

use bytes::{Buf as _, Bytes, BytesMut};

use super::super::Error;
use super::super::source::Source;

/// So many bytes between two wanted ranges are fetched along: another request and its answer are about as long.
const GAP: u64 = 2 << 10;

/// Ranges of a file that are wanted, in order, those close to each other joined.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds the range that begins at `from`, which lies behind all that were added before.
    pub(super) fn add(&mut self, from: u64, len: u64) {
        match self.0.last_mut() {
            Some(last) if from.saturating_sub(last.1) <= GAP => last.1 = from + len,
            Some(_) | None => self.0.push((from, from + len)),
        }
    }

    /// How many bytes of them lie behind `position`.
    pub(super) fn len_from(&self, position: u64) -> u64 {
        self.0.iter().map(|(from, until)| until.saturating_sub(position.max(*from))).sum()
    }

    /// Where the last one ends.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |last| last.1)
    }

    /// Where the range ends that `at` lies in.
    fn until(&self, at: u64) -> Option<u64> {
        let next = self.0.partition_point(|(from, _)| *from <= at);
        let (_, until) = self.0.get(next.checked_sub(1)?)?;
        (at < *until).then_some(*until)
    }
}

/// Reads a bundle. Cheapest in the order of the file.
pub(super) struct Reader<'a> {
    pub(super) source: Source<'a>,
    expected: Ranges,
    /// What the source gave and nobody took yet; it ends where the source stands.
    held: Bytes,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: Source<'a>) -> Self {
        Self { source, expected: Ranges::default(), held: Bytes::new() }
    }

    /// Everything begins anew, with the first of `ranges`.
    pub(super) fn restart(&mut self, ranges: Ranges) -> Result<(), Error> {
        self.held.clear();
        let (from, until) = ranges.0.first().copied().unwrap_or_default();
        self.expected = ranges;
        self.source.seek(from, until)
    }

    /// Takes all of the range that is on its way: then what comes next can be asked for over the same connection.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        if !self.source.is_remote() {
            return Ok(());
        }
        let mut held = BytesMut::from(&self.held[..]);
        loop {
            let end = self.source.until().min(self.source.total().unwrap_or(0));
            if self.source.is_stream() || self.source.offset() >= end {
                break;
            }
            let begins = self.source.offset();
            let bytes = self.source.next()?.unwrap_or_default();
            if self.source.offset() != begins + bytes.len() as u64 {
                // It began anew, as the whole: what is held lies elsewhere now.
                held.clear();
            }
            held.extend_from_slice(&bytes);
        }
        self.held = held.freeze();
        Ok(())
    }

    /// What will be read from here on.
    pub(super) fn expect(&mut self, ranges: Ranges) {
        self.expected = ranges;
    }

    /// How many bytes of what is expected were not fetched yet; for a source that only gives all of it, how many come
    /// until the last of them.
    pub(super) fn to_come(&self) -> u64 {
        self.cost(&self.expected)
    }

    /// How many bytes it would take to read `ranges` now.
    pub(super) fn cost(&self, ranges: &Ranges) -> u64 {
        let offset = self.source.offset();
        if self.source.is_stream() { ranges.end().saturating_sub(offset) } else { ranges.len_from(offset) }
    }

    /// Puts the `len` bytes at `from` into `out`, instead of what is in there.
    ///
    /// # Errors
    /// Those of the source, and if the file ends before.
    pub(super) fn read(&mut self, from: u64, len: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        out.clear();
        let end = from + len as u64;
        while out.len() < len {
            let at = from + out.len() as u64;
            self.advance(at, end)?;
            let count = self.held.len().min(len - out.len());
            out.extend_from_slice(&self.held[..count]);
            self.held.advance(count);
        }
        Ok(())
    }

    /// Has the next bytes be those at `at`, at least one of them; wanted is all up to `end`.
    fn advance(&mut self, at: u64, end: u64) -> Result<(), Error> {
        loop {
            let stands = self.source.offset();
            let begins = stands - self.held.len() as u64;
            if begins <= at && at < stands {
                self.held.advance((at - begins) as usize);
                return Ok(());
            }
            self.held.clear();
            if self.source.total().is_some_and(|total| at >= total) {
                return Err(Error::damaged("the file ends too early: it is no bundle, or not all of it"));
            }
            let is_ahead = at > stands && !self.source.is_stream() && at - stands > GAP;
            if at < stands || is_ahead || self.source.until() <= at {
                let until = self.expected.until(at).unwrap_or(0).max(end);
                self.source.seek(at, until)?;
            }
            self.held = self.source.next()?.unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_close_together_is_one_range() {
        let mut ranges = Ranges::default();
        for (from, len) in [(100, 50), (150, 10), (160 + GAP, 5), (9000, 1)] {
            ranges.add(from, len);
        }
        assert_eq!(ranges.0, [(100, 165 + GAP), (9000, 9001)]);
        assert_eq!((ranges.len_from(0), ranges.end()), (66 + GAP, 9001));
        for (at, until) in
            [(99, None), (100, Some(2213)), (2212, Some(2213)), (2213, None), (9000, Some(9001))]
        {
            assert_eq!(ranges.until(at), until, "{at}");
        }
        assert_eq!(ranges.len_from(2203), 11);
    }
}
