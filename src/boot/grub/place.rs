//! Where the environment block is: a file that GRUB finds without a file system's help.
//!
//! Called by [`Grub`](super::Grub) through [`Place`].
//!
//! GRUB knows file systems for reading only. To save, it looks up which disk sectors the file occupies and writes those.
//! So the file must stay where it is and as long as it is: it is overwritten in place by one positioned write, never
//! truncated, renamed or created. `grub-editenv` does truncate; a power cut then leaves an empty file.
//!
//! A name that is a link is followed, as GRUB's own tools do. A file that is not there is never made: then most likely
//! the file system it belongs to is not mounted, and GRUB would never see it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use rustix::fs::{AtFlags, SeekFrom, StatxAttributes, StatxFlags};
use tracing::debug;

use super::block::SIZE;
use crate::boot::uncached;

/// Where the block is kept. Each call opens and closes what it needs.
pub(super) trait Place: Send {
    /// All bytes, from the device itself and not from the page cache.
    fn read(&mut self) -> io::Result<Vec<u8>>;

    /// Replaces all bytes in place and makes them durable.
    fn write(&mut self, block: &[u8]) -> io::Result<()>;

    /// Why GRUB could not save there, or another slot not see it, as far as that can be told.
    fn obstacles(&mut self) -> Vec<Obstacle>;

    /// GRUB's script, if it is beside the block.
    fn script(&mut self) -> Option<String>;
}

/// Why the file is of no use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Obstacle {
    /// A sentence for the journal, with the remedy.
    pub(super) what: String,
    /// That is certain, and the next write of ours does not change it.
    pub(super) is_certain: bool,
}

/// A regular file.
pub(super) struct BlockFile {
    path: PathBuf,
    /// `/sys/dev/block`, elsewhere in tests.
    sysfs: PathBuf,
    /// Of the slot that runs.
    root: PathBuf,
}

impl BlockFile {
    pub(super) fn new(path: PathBuf, root: PathBuf) -> Self {
        Self { path, sysfs: "/sys/dev/block".into(), root }
    }

    /// How many bytes it has. More than a block is not ours to shorten.
    fn size(&self) -> io::Result<usize> {
        let metadata = fs::metadata(&self.path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("is no regular file"));
        }
        usize::try_from(metadata.len()).ok().filter(|size| *size <= SIZE).ok_or_else(|| {
            let size = metadata.len();
            io::Error::other(format!(
                "is {size} bytes long, and GRUB's environment block has {SIZE}; make it anew by grub-editenv"
            ))
        })
    }

    fn obstacles_of(&self, file: &File) -> io::Result<Vec<Obstacle>> {
        let mut found = Vec::new();
        let mut tell = |is_certain, what: String| found.push(Obstacle { what, is_certain });
        // Wide or narrow, signed or not, as the processor's kernel has it.
        let [a, b, c, d, ..] = rustix::fs::fstatfs(file)?.f_type.to_le_bytes();
        let kind = u32::from_le_bytes([a, b, c, d]);
        if let Some((_, name)) = NOT_IN_PLACE.iter().find(|(of, _)| *of == kind) {
            tell(true, format!("it is on {name}; put it on ext4 or FAT"));
        } else if !IN_PLACE.contains(&kind) {
            tell(false, format!("it is on a file system of another kind ({kind:#x}) than ext4, FAT or XFS"));
        }
        let metadata = file.metadata()?;
        if fs::metadata(&self.root).is_ok_and(|root| root.dev() == metadata.dev()) {
            tell(
                true,
                "it is on this slot's own file system; put it on one that both slots mount".to_owned(),
            );
        }
        let device = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
        let device = self.sysfs.join(format!("{}:{}", device.0, device.1));
        for (entry, name) in
            [("dm", "a volume of the device mapper (LVM, encryption)"), ("md", "a software RAID")]
        {
            if device.join(entry).exists() {
                tell(false, format!("it is on {name}; put it on a plain partition"));
            }
        }
        // Where that cannot be asked, it is not so.
        let attributes = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
            .map_or(StatxAttributes::empty(), |statx| statx.stx_attributes);
        for (attribute, name) in
            [(StatxAttributes::COMPRESSED, "compressed"), (StatxAttributes::ENCRYPTED, "encrypted")]
        {
            if attributes.contains(attribute) {
                tell(true, format!("it is {name}; put it where files are kept as they are"));
            }
        }
        // Every file ends in a hole, behind its last byte.
        let hole = rustix::fs::seek(file, SeekFrom::Hole(0)).unwrap_or(metadata.len());
        if hole < metadata.len() {
            tell(
                false,
                "it has a hole, for which there is no disk sector; the next write fills it".to_owned(),
            );
        }
        Ok(found)
    }
}

impl Place for BlockFile {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let size = self.size()?;
        uncached::read(&self.path, |_| Ok((0, size)))
    }

    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        debug!(path = %self.path.display(), "writing");
        // A named pipe would have us wait, and a longer file is not a block.
        let size = self.size()?;
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.write_all_at(block, 0)?;
        if size == block.len() { file.sync_data() } else { file.sync_all() }
    }

    fn obstacles(&mut self) -> Vec<Obstacle> {
        // What cannot be opened, reading tells about.
        let mut found = File::open(&self.path).and_then(|file| self.obstacles_of(&file)).unwrap_or_default();
        for obstacle in &mut found {
            obstacle.what = format!("GRUB cannot use {}: {}", self.path.display(), obstacle.what);
        }
        found
    }

    fn script(&mut self) -> Option<String> {
        fs::read_to_string(self.path.with_file_name("grub.cfg")).ok()
    }
}

/// File systems (the kernel's `linux/magic.h`) on which a file's bytes stay in the sectors in which they are: ext2 to
/// ext4, FAT, XFS.
const IN_PLACE: [u32; 3] = [0xef53, 0x4d44, 0x5846_5342];
/// Those that GRUB would damage, or whose sectors it never sees.
const NOT_IN_PLACE: [(u32, &str); 4] = [
    (0x9123_683e, "btrfs, which keeps checksums that GRUB would not renew"),
    (0x2fc1_2fc1, "ZFS, which keeps checksums that GRUB would not renew"),
    (0x794c_7630, "overlayfs, of which GRUB sees the layers only"),
    (0x0102_1994, "tmpfs, which is gone after a boot"),
];

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
