//! One group, packed: a zstd frame without magic, checksum and size, for which the bytes of the image before it are a
//! dictionary that the device has already; or the bytes themselves, where that is no shorter.

use std::io;

use zstd::zstd_safe::{CCtx, CParameter, FrameFormat, ResetDirective, compress_bound, get_error_name};

/// Packs groups that refer to the bytes `'a`.
pub(super) struct Squeezer<'a> {
    context: CCtx<'a>,
    level: i32,
    window_log: u32,
}

impl<'a> Squeezer<'a> {
    /// For groups and what is before them of `reach` bytes together, at most.
    pub(super) fn new(level: i32, reach: usize) -> Self {
        // zstd knows no smaller window.
        let window_log = reach.next_power_of_two().trailing_zeros().max(10);
        Self { context: CCtx::create(), level, window_log }
    }

    /// Adds the packed bytes of `raw`, before which `prefix` stands in the image, to `into`; how many there are.
    ///
    /// # Errors
    /// What libzstd has to say, which it has not with good arguments.
    pub(super) fn squeeze(&mut self, prefix: &'a [u8], raw: &[u8], into: &mut Vec<u8>) -> io::Result<usize> {
        let wrong = |code| io::Error::other(format!("packing with zstd: {}", get_error_name(code)));
        self.context.reset(ResetDirective::SessionAndParameters).map_err(wrong)?;
        for parameter in [
            CParameter::CompressionLevel(self.level),
            CParameter::WindowLog(self.window_log),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
            CParameter::Format(FrameFormat::Magicless),
        ] {
            self.context.set_parameter(parameter).map_err(wrong)?;
        }
        self.context.ref_prefix(prefix).map_err(wrong)?;
        let begin = into.len();
        into.resize(begin + compress_bound(raw.len()), 0);
        let packed = self.context.compress2(&mut into[begin..], raw).map_err(wrong)?;
        if packed < raw.len() {
            into.truncate(begin + packed);
            return Ok(packed);
        }
        into.truncate(begin);
        into.extend_from_slice(raw);
        Ok(raw.len())
    }
}
