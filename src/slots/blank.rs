//! Whether a slot has anything in it.

use super::{Error, SeedDevice, SlotMap};
use crate::model::Slot;

/// Whatever a partition holds shows within these many bytes: a file system's superblock lies there.
const BEGINNING: u64 = 1 << 20;

impl SlotMap {
    /// Whether `slot` is as it came from the factory: each of its partitions begins with a megabyte of one and the same
    /// byte. Such a slot boots nothing, and nothing that ran from it can have asked for anything. Of a partition that is
    /// shorter than it should be, or has no length, nothing is known.
    ///
    /// # Errors
    /// If one of its partitions is missing, is none, or cannot be read.
    pub fn is_blank(&self, slot: Slot) -> Result<bool, Error> {
        let device = SeedDevice::open(self, slot)?;
        let sizes = self.look(slot).into_iter().map(|part| part.found.map_or(0, |(_, size)| size));
        let mut begin = 0;
        for size in sizes {
            let mut bytes = vec![0; size.min(BEGINNING) as usize];
            let read = device.read_at(begin, &mut bytes);
            let count = read.map_err(|source| Error::Open { slot, path: self.device(slot), source })?;
            if count == 0 || count < bytes.len() || bytes.windows(2).any(|pair| pair[0] != pair[1]) {
                return Ok(false);
            }
            begin += size;
        }
        Ok(true)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt as _;

    use crate::slots::Settings;

    use super::*;

    #[test]
    fn only_a_slot_of_which_every_partition_is_empty_is_blank() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["boot-a", "a", "boot-b", "b"] {
            fs::write(at(name), vec![0xff; 3 << 20]).unwrap();
        }
        let settings =
            Settings { a: vec![at("boot-a"), at("a")], b: vec![at("boot-b"), at("b")], allow_files: true };
        let map = SlotMap::new(settings);
        assert!(map.is_blank(Slot::B).unwrap());
        fs::write(at("b"), vec![0; 3 << 20]).unwrap();
        assert!(map.is_blank(Slot::B).unwrap(), "erased by the one and by the other");
        for (name, place) in [("b", 0), ("b", 0x438), ("b", (1 << 20) - 1), ("boot-b", 510)] {
            let old = fs::read(at(name)).unwrap();
            let mut bytes = old.clone();
            bytes[place] ^= 1;
            fs::write(at(name), bytes).unwrap();
            assert!(!map.is_blank(Slot::B).unwrap(), "{name} {place}");
            fs::write(at(name), old).unwrap();
        }
        fs::write(at("b"), "").unwrap();
        assert!(!map.is_blank(Slot::B).unwrap(), "a card that is gone has no length");
        fs::remove_file(at("boot-b")).unwrap();
        assert!(map.is_blank(Slot::B).is_err(), "what cannot be read is not called blank");
    }

    /// Four gigabytes are a number of bytes that 32 bits cannot tell from none.
    #[test]
    fn partitions_of_any_size_are_seen_to_be_blank() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for size in [4 << 30, 8 << 30, (4 << 30) + 4096, 5 << 30] {
            // Sparse: they take no room.
            for name in ["boot-a", "a", "boot-b", "b"] {
                File::create(at(name)).unwrap().set_len(size).unwrap();
            }
            let settings = Settings {
                a: vec![at("boot-a"), at("a")],
                b: vec![at("boot-b"), at("b")],
                allow_files: true,
            };
            let map = SlotMap::new(settings);
            assert!(map.is_blank(Slot::B).unwrap(), "{size}");
            let b = File::options().write(true).open(at("b")).unwrap();
            b.write_all_at(&[1], 0x438).unwrap();
            assert!(!map.is_blank(Slot::B).unwrap(), "{size}");
        }
    }
}
