//! One group, packed: a zstd frame without its magic number, for which the bytes of the image before it are a dictionary
//! that the device has already; or the bytes themselves, where that is no shorter.

use std::io;

use zstd::zstd_safe::{CCtx, CParameter, ResetDirective, Strategy, compress_bound, get_error_name};

/// Bytes of the magic number, which is left out.
const MAGIC: usize = 4;
/// Up to this level parameters are ours: see [`parameters`].
const LAZY: i32 = 12;

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
        for parameter in parameters(self.level, self.window_log) {
            self.context.set_parameter(parameter).map_err(wrong)?;
        }
        self.context.ref_prefix(prefix).map_err(wrong)?;
        let begin = into.len();
        into.resize(begin + compress_bound(raw.len()), 0);
        let packed = self.context.compress2(&mut into[begin..], raw).map_err(wrong)?;
        let packed = packed.saturating_sub(MAGIC);
        if (1..raw.len()).contains(&packed) {
            into.copy_within(begin + MAGIC..begin + MAGIC + packed, begin);
            into.truncate(begin + packed);
            return Ok(packed);
        }
        into.truncate(begin);
        into.extend_from_slice(raw);
        Ok(raw.len())
    }
}

/// What zstd is told for groups of some 32 KiB after some 256 KiB that it may refer to.
///
/// zstd's own table goes by the size of both together and knows nothing of a group that is much shorter than what is
/// before it: at some sizes it takes a binary tree, which has to be filled for each group anew and costs ten times as
/// much for nothing. Measured on images of Debian, the default level packs better than zstd's own in half the time.
fn parameters(level: i32, window_log: u32) -> Vec<CParameter> {
    let mut all = vec![
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(window_log),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ];
    if level <= LAZY {
        // 12: 64 places are looked at for each byte; with each two levels less, half as many.
        let search_log = u32::try_from(level.max(1)).unwrap_or(1).div_ceil(2);
        all.extend([
            CParameter::Strategy(Strategy::ZSTD_lazy2),
            CParameter::SearchLog(search_log),
            CParameter::MinMatch(4),
            CParameter::TargetLength(64),
            CParameter::HashLog(window_log.clamp(10, 17)),
            CParameter::ChainLog(window_log.clamp(10, 18)),
        ]);
    }
    all
}
