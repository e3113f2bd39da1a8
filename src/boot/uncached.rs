//! Reading what a device holds, and not what the kernel remembers of it.
//!
//! After a failed write the page cache holds bytes that never reached the device. So what was written is read back with
//! `O_DIRECT`; where a file system refuses that, after asking the kernel to drop the pages. Called by the adapters.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise};
use tracing::debug;

/// Enough for every block device's `O_DIRECT`, and the page size of the cache.
const ALIGNMENT: u64 = 4096;

/// Reads of the file or block device `path` the bytes that `range` names: where they start, and how many.
///
/// # Errors
/// What opening, `range` and reading say; [`ErrorKind::UnexpectedEof`] if it ends before the range does.
pub(super) fn read(path: &Path, range: impl Fn(&File) -> io::Result<(u64, usize)>) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    let direct = options.clone().custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path);
    let read = direct.and_then(|file| {
        let (start, size) = range(&file)?;
        read_aligned(&file, start, size)
    });
    match read {
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            debug!(path = %path.display(), "no O_DIRECT here; dropping the cached pages instead");
            let file = options.open(path)?;
            // All of it: what one copy's read-ahead brought in must not answer for the other.
            fadvise(&file, 0, None::<NonZeroU64>, Advice::DontNeed)?;
            let (start, size) = range(&file)?;
            read_aligned(&file, start, size)
        }
        other => other,
    }
}

/// Reads `size` bytes at `start` through an aligned window in aligned memory, as `O_DIRECT` wants it.
fn read_aligned(file: &File, start: u64, size: usize) -> io::Result<Vec<u8>> {
    let skipped = start % ALIGNMENT;
    let skip = usize::try_from(skipped).map_err(io::Error::other)?;
    let align = usize::try_from(ALIGNMENT).map_err(io::Error::other)?;
    let wanted = skip + size;
    let window = wanted.next_multiple_of(align);
    let mut memory = vec![0; window + align];
    let offset = memory.as_ptr().align_offset(align);
    let window = &mut memory[offset..offset + window];
    let mut filled = 0;
    while filled < wanted {
        let position = start - skipped + filled as u64;
        match file.read_at(&mut window[filled..], position) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The end of a file that is not a multiple of the alignment: the rest cannot be asked for directly.
            Err(_) if filled % align != 0 => break,
            Err(error) => return Err(error),
        }
    }
    if filled < wanted {
        let there = filled.saturating_sub(skip);
        return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("ends after {there} of {size} bytes")));
    }
    Ok(window[skip..wanted].to_vec())
}
