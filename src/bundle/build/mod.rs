//! Making bundles, and looking at them as a whole: the operator's side, which no device has.
//!
//! [`pack`] makes page table, bodies and data of an image, by all processors and in one pass; [`check`] goes through all
//! of a bundle, down to the digest of the image; [`against`] tells what a device that has another image would fetch.
//! Files are opened, and put together, by whoever calls.
//!
//! # Groups, what they refer to, and how hard to try
//!
//! Measured with a Debian of 1 GiB of ext4, 674 MB of it not zeros. *one binary*: what groups cost a device that has it
//! with another binary of 6.7 MB and what that moved (10.8 MB of chunks are new); *30 packages*: a kernel with all of its
//! modules among them (296 MB are new). *all* is the data of the whole image, extrapolated from a part of its pages, as
//! are the seconds, of one processor.
//!
//! ```text
//! group  prefix  zstd                       one binary  30 packages      all     seconds
//!  64 K     0    level 12                     3.05 MB               191.2 MB        84
//!  64 K   256 K  level 12                     2.82 MB               172.5 MB        26
//!  64 K   256 K  ours (see `squeeze`)                     84.0 MB   181.3 MB *      21
//!  32 K   256 K  level 12                     2.73 MB               172.3 MB        53
//!  32 K   256 K  ours                         2.70 MB     79.9 MB   180.9 MB *      27
//!  32 K   512 K  ours, half as hard           2.70 MB               167.4 MB        41
//!  32 K  1024 K  ours, half as hard           2.70 MB               166.1 MB        67
//!  24 K   256 K  ours                         2.67 MB               178.8 MB *      32
//!  16 K   256 K  ours                                     76.4 MB   181.7 MB *      44
//!  32 K    96 K  optimal parsing, level 16    2.60 MB               163.6 MB       224
//!  32 K    96 K  optimal parsing, hurried     2.66 MB     80.2 MB   180.9 MB *     138
//!  16 K   256 K  level 19                     2.47 MB
//! ```
//!
//! (`*`: of another part of the pages; to be compared among themselves, and 170.5 MB is 180.9 MB.) A group is fetched
//! whole, so long ones bring along what the device has; and each has to index what is before it anew, so with short
//! groups and a long prefix, that is most of what the packer does. Optimal parsing finds 2 to 4 % more, in 5 to 8 times
//! the time: `--level 16` and higher are for those who have it.
//!
//! With 28 packages and no kernel among them (42.7 MB are new), groups of 16 KiB cost 13.7 MB and of 32 KiB 15.6 MB. A
//! dictionary that zstd trained on the image is no help: alone, the pieces of 16 KiB of that binary pack to 2.85 MB
//! without it and to 2.94 MB with it, where those bytes of the image that stand before them give 2.70 MB.
//!
//! A squashfs is packed already. Cut by content at 1, 2, 4 and 8 KiB on average, data and the bodies of pages that have
//! changed are together 86.0, 85.6, 85.2 and 85.5 MB for 30 packages; with 4 KiB, groups of 4, 16 and 32 KiB are 84.3, 85.0
//! and 86.1 MB.

mod against;
mod check;
mod pack;
mod pool;
mod squeeze;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Seek, SeekFrom};

pub use against::{Fetch, Known, against};
pub use check::check;
pub use pack::{Packing, pack};

use super::{HEAD_FIXED, Manifest, Refusal, Table, head_len};

/// Why a bundle cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what it says, or none at all.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// Reads the head of a bundle, from the beginning of the file.
///
/// # Errors
/// If the file cannot be read or is no bundle.
pub fn read_head(bundle: &mut impl Read) -> Result<Vec<u8>, Fault> {
    let mut head = vec![];
    bundle.take(HEAD_FIXED as u64).read_to_end(&mut head)?;
    let len = head_len(&head)?;
    bundle.take(len - HEAD_FIXED as u64).read_to_end(&mut head)?;
    if head.len() as u64 == len {
        Ok(head)
    } else {
        Err(Refusal::damaged("the file ends in its head").into())
    }
}

/// Reads the page table of a bundle whose head has this length.
///
/// # Errors
/// If the file cannot be read or is not the one that the manifest promises.
pub fn read_table<F: Read + Seek>(
    bundle: &mut F,
    manifest: &Manifest,
    head_len: u64,
) -> Result<Table, Fault> {
    bundle.seek(SeekFrom::Start(head_len))?;
    let mut bytes = vec![];
    bundle.take(manifest.slot().table.size).read_to_end(&mut bytes)?;
    Ok(Table::parse(&bytes, manifest.slot())?)
}

/// Reads just so many bytes from a place in the file.
fn read_at<F: Read + Seek>(file: &mut F, at: u64, len: u32, into: &mut Vec<u8>) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    into.resize(len as usize, 0);
    file.read_exact(into)
}
