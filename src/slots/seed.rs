//! A slot that is only looked at: what of a new image the system that runs has already.
//!
//! It is mounted and in use, so what is read may be old or half new by the time it is used: whoever uses it checks it.
//! It is read past the page cache, or what was read is dropped behind: a gateway's memory is for what it works with, and
//! a gigabyte of image that goes by once would throw all of that out.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{Advice, OFlags};

use crate::model::Slot;

use super::part::{Bounce, read_direct, read_full};
use super::{Error, Found, SlotMap, identity};

/// A slot that is read.
#[derive(Debug)]
pub struct SeedDevice {
    /// With the offset at which each begins.
    parts: Vec<(u64, Part)>,
    size: u64,
    bounce: RefCell<Bounce>,
}

/// A partition that is read.
#[derive(Debug)]
struct Part {
    file: File,
    size: u64,
    is_direct: bool,
}

impl SeedDevice {
    /// Opens all partitions of `slot`, to be read as one, one behind the other. Nobody is kept from anything by it.
    ///
    /// # Errors
    /// If one is missing, is none, or cannot be opened.
    pub fn open(map: &SlotMap, slot: Slot) -> Result<Self, Error> {
        let (mut parts, mut size) = (Vec::new(), 0);
        for found in map.find_all(slot)? {
            let part = Part::open(slot, &found)?;
            let begin = size;
            size += part.size;
            parts.push((begin, part));
        }
        Ok(Self { parts, size, bounce: RefCell::new(Bounce::new()) })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads at `offset`. Returns how many bytes: fewer only at the end.
    ///
    /// # Errors
    /// Whatever the device says.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bounce = self.bounce.borrow_mut();
        let mut done = 0;
        for (begin, part) in &self.parts {
            let at = offset + done as u64;
            if done == buffer.len() || at < *begin || at >= begin + part.size {
                continue;
            }
            // Cut down before it is converted: what is left of a partition may be more than 32 bits can count.
            let left = begin + part.size - at;
            let len = left.min((buffer.len() - done) as u64) as usize;
            let count = part.read_at(at - begin, &mut buffer[done..done + len], &mut bounce)?;
            done += count;
            if count < len {
                break;
            }
        }
        Ok(done)
    }
}

impl Part {
    fn open(slot: Slot, found: &Found) -> Result<Self, Error> {
        let error = |source| Error::Open { slot, path: found.path.clone(), source };
        let (mut file, is_direct) = match open(&found.path, OFlags::DIRECT) {
            Ok(file) if is_readable(&file) => (file, true),
            Ok(_) | Err(_) => (open(&found.path, OFlags::empty()).map_err(error)?, false),
        };
        let metadata = file.metadata().map_err(error)?;
        if identity(&metadata) != Some(found.identity) {
            return Err(Error::NotADevice { slot, path: found.path.clone() });
        }
        let size = file.seek(SeekFrom::End(0)).map_err(error)?;
        Ok(Self { file, size, is_direct })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8], bounce: &mut Bounce) -> io::Result<usize> {
        if self.is_direct {
            return read_direct(&self.file, offset, buffer, bounce);
        }
        let count = read_full(&self.file, offset, buffer)?;
        let len = std::num::NonZeroU64::new(count as u64);
        if len.is_some() {
            rustix::fs::fadvise(&self.file, offset, len, Advice::DontNeed)?;
        }
        Ok(count)
    }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlags::NOFOLLOW | flags).bits() as i32).open(path)
}

/// Some file systems accept the flag and refuse to read.
fn is_readable(file: &File) -> bool {
    read_direct(file, 0, &mut [0; 1], &mut Bounce::new()).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::slots::Settings;

    const SIZES: [usize; 3] = [12_288, 4096, 20_480];

    /// A slot of three partitions, and their bytes one behind the other.
    fn slot(directory: &Path) -> (SlotMap, Vec<u8>) {
        let bytes: Vec<u8> = (0..SIZES.iter().sum::<usize>()).map(|at| (at * 31 % 251) as u8).collect();
        let (mut paths, mut begin) = (Vec::new(), 0);
        for (index, size) in SIZES.into_iter().enumerate() {
            let path = directory.join(format!("a{index}"));
            std::fs::write(&path, &bytes[begin..begin + size]).unwrap();
            begin += size;
            paths.push(path);
        }
        let other: Vec<_> = (0..SIZES.len()).map(|index| directory.join(format!("b{index}"))).collect();
        other.iter().for_each(|path| drop(File::create(path).unwrap()));
        (SlotMap::new(Settings { a: paths, b: other, allow_files: true }), bytes)
    }

    /// Whatever is asked for, blocks and partitions begin where nobody who reads has to know.
    #[test]
    fn partitions_are_read_as_one_wherever_they_meet() {
        let directory = tempfile::tempdir().unwrap();
        let (map, bytes) = slot(directory.path());
        let seed = SeedDevice::open(&map, Slot::A).unwrap();
        assert_eq!(seed.size(), bytes.len() as u64);
        for at in [0, 1, 511, 4095, 12_287, 12_288, 12_289, 16_383, 16_384, 36_000, 36_863, 36_864, 99_999] {
            for len in [0, 1, 511, 4096, 4097, 9000, 36_864, 40_000] {
                let mut buffer = vec![0xee; len];
                let count = seed.read_at(at as u64, &mut buffer).unwrap();
                let there = &bytes[at.min(bytes.len())..(at + len).min(bytes.len()).max(at.min(bytes.len()))];
                assert_eq!((count, &buffer[..count]), (there.len(), there), "{len} bytes at {at}");
                assert!(
                    buffer[count..].iter().all(|byte| *byte == 0xee),
                    "{len} bytes at {at}: no more than that"
                );
            }
        }
    }

    /// The system that runs goes on writing there.
    #[test]
    fn what_changes_is_read_as_it_is_then() {
        let directory = tempfile::tempdir().unwrap();
        let (map, bytes) = slot(directory.path());
        let seed = SeedDevice::open(&map, Slot::A).unwrap();
        let read = || {
            let mut buffer = vec![0; bytes.len()];
            assert_eq!(seed.read_at(0, &mut buffer).unwrap(), buffer.len());
            buffer
        };
        assert_eq!(read(), bytes);
        let writer = OpenOptions::new().write(true).open(directory.path().join("a1")).unwrap();
        writer.write_all_at(&[9; 100], 50).unwrap();
        writer.sync_all().unwrap();
        let mut changed = bytes.clone();
        changed[SIZES[0] + 50..SIZES[0] + 150].fill(9);
        assert_eq!(read(), changed);
        // Cut off under us: fewer bytes, and none that were not there.
        OpenOptions::new().write(true).open(directory.path().join("a1")).unwrap().set_len(0).unwrap();
        let mut buffer = vec![0; bytes.len()];
        assert_eq!(seed.read_at(0, &mut buffer).unwrap(), SIZES[0]);
        assert_eq!(buffer[..SIZES[0]], bytes[..SIZES[0]]);
    }

    #[test]
    fn a_slot_with_a_partition_that_is_not_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let (map, _) = slot(directory.path());
        std::fs::remove_file(directory.path().join("a2")).unwrap();
        assert!(SeedDevice::open(&map, Slot::A).is_err());
    }
}
