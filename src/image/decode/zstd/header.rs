//! What stands before a frame's blocks (RFC 8878, section 3.1.1.1).

use super::sum::Sum;
use super::{Error, FRAME, Frame, bad};

/// How long a frame header with this descriptor is, magic number included.
pub(super) fn header_len(descriptor: u8) -> usize {
    let single = descriptor & 0x20 != 0;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content = match descriptor >> 6 {
        0 => usize::from(single),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    5 + usize::from(!single) + dictionary + content
}

/// What the header says, of which all is there.
pub(super) fn parse_header(header: &[u8]) -> Result<Frame, Error> {
    let descriptor = header[4];
    if descriptor & 0x08 != 0 {
        return Err(bad("has a header we do not know"));
    }
    let single = descriptor & 0x20 != 0;
    let mut rest = &header[5..];
    let mut take = |count: usize| {
        let (now, later) = rest.split_at(count);
        rest = later;
        now.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    let window = (!single).then(|| {
        let byte = take(1);
        let base = 1_u64 << (10 + (byte >> 3));
        base + base / 8 * (byte & 7)
    });
    if take([0, 1, 2, 4][usize::from(descriptor & 3)]) != 0 {
        return Err(bad("needs a dictionary"));
    }
    let content = match descriptor >> 6 {
        0 if single => Some(take(1)),
        0 => None,
        1 => Some(take(2) + 256),
        2 => Some(take(4)),
        _ => Some(take(8)),
    };
    let window = window.or(content).unwrap_or(0);
    let checksum = descriptor & 4 != 0;
    Ok(Frame { window, content, checksum, produced: 0, sum: checksum.then(Sum::default) })
}

/// A frame header that asks for a window of at least `window` bytes, and for nothing else.
pub(super) fn header(window: u64) -> [u8; 6] {
    let [a, b, c, d] = FRAME.to_le_bytes();
    let log = window.max(1 << 10).next_power_of_two().ilog2();
    [a, b, c, d, 0, ((log - 10) << 3) as u8]
}
