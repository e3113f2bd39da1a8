//! Slots of several partitions.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::model::TargetSlot;

/// A first partition that is no multiple of what direct I/O wants, a second smaller than a page, and the root file system.
const SIZES: [u64; 3] = [(1 << 20) + 512, 1024, 2 << 20];

struct Board {
    directory: tempfile::TempDir,
}

impl Board {
    fn new() -> Self {
        let board = Self { directory: tempfile::tempdir().unwrap() };
        for slot in ["a", "b"] {
            for (at, size) in SIZES.into_iter().enumerate() {
                board.resize(&format!("{slot}{at}"), size);
            }
        }
        board
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn resize(&self, name: &str, size: u64) {
        fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path(name))
            .unwrap()
            .set_len(size)
            .unwrap();
    }

    fn map(&self, b: [&str; 3]) -> SlotMap {
        let paths = |names: [&str; 3]| names.map(|name| self.path(name)).to_vec();
        SlotMap::new(Settings { a: paths(["a0", "a1", "a2"]), b: paths(b), allow_files: true })
    }

    fn open(&self) -> Result<TargetDevice, Error> {
        let target = TargetSlot::new(Slot::B, Slot::A, Slot::A).unwrap();
        TargetDevice::open(&self.map(["b0", "b1", "b2"]), target, Slot::A)
    }

    /// All partitions of slot B, one behind the other.
    fn bytes(&self) -> Vec<u8> {
        ["b0", "b1", "b2"].iter().flat_map(|name| fs::read(self.path(name)).unwrap()).collect()
    }
}

#[test]
fn they_are_one_device_at_any_offset_and_length() {
    let board = Board::new();
    let mut device = board.open().unwrap();
    let size: u64 = SIZES.iter().sum();
    let (first, second) = (SIZES[0] as usize, (SIZES[0] + SIZES[1]) as usize);
    assert_eq!((device.size(), device.root_begins()), (size, second as u64));
    let pattern: Vec<u8> =
        (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect();
    let mut expected = vec![0; size as usize];
    for (offset, len) in [
        (0, first),
        (first - 1, 2),
        (first - 4096, 8192),
        (second - 1, 1),
        (second, 4096),
        (8192, 2_500_000),
        (size as usize - 5000, 5000),
    ] {
        device.write_at(offset as u64, &pattern[..len]).unwrap();
        expected[offset..offset + len].copy_from_slice(&pattern[..len]);
        device.flush().unwrap();
        assert!(board.bytes() == expected, "written at {offset}");
    }
    device.zero(first as u64 - 100, 1024 + 200).unwrap();
    expected[first - 100..first + 1124].fill(0);
    device.flush().unwrap();
    assert!(board.bytes() == expected, "made zero");
    for (offset, len) in [(0, size as usize), (first - 1, 3), (first + 10, 1020), (second, 4096)] {
        let mut found = vec![7; len];
        assert_eq!(device.read_back(offset as u64, &mut found).unwrap(), len);
        assert!(found == expected[offset..offset + len], "read at {offset}");
    }
    let mut beyond = [7; 8192];
    assert_eq!(device.read_back(size - 100, &mut beyond).unwrap(), 100, "short at the end, and only there");
    assert_eq!(device.read_back(size, &mut beyond).unwrap(), 0);
}

#[test]
fn a_flush_is_one_only_if_every_partition_was_flushed() {
    let board = Board::new();
    for part in 0..SIZES.len() {
        let mut device = board.open().unwrap();
        device.flush().unwrap();
        device.break_flush(part).unwrap();
        assert!(device.flush().is_err(), "partition {part}");
    }
}

#[test]
fn the_root_file_system_tells_which_slot_runs() {
    let board = Board::new();
    let map = board.map(["b0", "b1", "b2"]);
    fs::create_dir_all(board.path("proc/self")).unwrap();
    let booted = |line: String| {
        fs::write(board.path("proc/cmdline"), line).unwrap();
        map.booted(board.directory.path())
    };
    assert_eq!(booted(format!("root={}", board.path("b2").display())).unwrap(), Slot::B);
    assert!(
        booted(format!("root={}", board.path("b0").display())).is_err(),
        "a companion is no root file system"
    );
}

#[test]
fn partitions_that_are_shared_or_of_other_sizes_are_refused() {
    let board = Board::new();
    board.resize("b1", 2048);
    let error = board.open().unwrap_err().to_string();
    for part in ["a1 has 1024 bytes", "b1 has 2048"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(board.map(["b0", "b1", "b2"]).check(Slot::B).is_err());
    board.resize("b1", 1024);
    // The last one need not be as large; an image that does not fit is refused by itself.
    board.resize("b2", 3 << 20);
    board.open().unwrap();
    for (b, shared) in [(["a0", "b1", "b2"], "a0"), (["b0", "b1", "b0"], "b0"), (["b0", "b1", "a1"], "a1")] {
        let map = board.map(b);
        let target = TargetSlot::new(Slot::B, Slot::A, Slot::A).unwrap();
        for error in [TargetDevice::open(&map, target, Slot::A).unwrap_err(), map.check(Slot::B).unwrap_err()]
        {
            assert!(
                matches!(&error, Error::SameDevice { path } if *path == board.path(shared)),
                "{b:?}: {error}"
            );
        }
    }
    fs::remove_file(board.path("b0")).unwrap();
    assert!(matches!(board.open(), Err(Error::Missing { .. })));
    symlink(board.path("a0"), board.path("b0")).unwrap();
    assert!(matches!(board.open(), Err(Error::SameDevice { .. })));
}

#[test]
fn all_of_them_are_ours_alone() {
    let board = Board::new();
    let first = board.open().unwrap();
    let other = fs::File::open(board.path("b0")).unwrap();
    assert!(other.try_lock().is_err(), "the companion is held, too");
    drop(first);
    other.try_lock().unwrap();
    assert!(matches!(board.open(), Err(Error::Busy { path, .. }) if path == board.path("b0")));
}

#[test]
fn each_is_shown_with_its_size_or_what_is_wrong() {
    let board = Board::new();
    fs::remove_file(board.path("b1")).unwrap();
    let shown = board.map(["b0", "b1", "b2"]).look(Slot::B);
    assert_eq!(shown[0], PartView { name: board.path("b0"), found: Ok((board.path("b0"), SIZES[0])) });
    assert!(shown[1].found.as_ref().unwrap_err().contains("b1"), "{shown:?}");
    assert_eq!(shown[2].found, Ok((board.path("b2"), SIZES[2])));
}

/// Without udev the kernel is asked; what two devices are called is nobody's name.
#[test]
fn tags_are_found_with_and_without_udev() {
    let board = Board::new();
    let root = board.directory.path();
    let device = |name: &str, uevent: &str| {
        let directory = board.path("sys/class/block").join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(
            directory.join("uevent"),
            format!("MAJOR=179\nDEVNAME={name}\nDEVTYPE=partition\n{uevent}\n"),
        )
        .unwrap();
    };
    device("mmcblk0p2", "PARTNAME=rootfs-a\nPARTUUID=0a1b-02");
    device("mmcblk0p3", "PARTNAME=rootfs-b");
    let found = |name: &str| name::path(root, name);
    assert_eq!(found("PARTLABEL=rootfs-a"), board.path("dev/mmcblk0p2"));
    assert_eq!(found("PARTLABEL=rootfs-b"), board.path("dev/mmcblk0p3"));
    assert_eq!(found("PARTUUID=0A1B-02"), board.path("dev/mmcblk0p2"));
    assert_eq!(found("/dev/disk/by-path/x=y"), Path::new("/dev/disk/by-path/x=y"));
    let link = board.path("dev/disk/by-partlabel/rootfs-b");
    device("sda3", "PARTNAME=rootfs-b");
    assert_eq!(found("PARTLABEL=rootfs-b"), link, "of two none is guessed");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    symlink(board.path("b2"), &link).unwrap();
    assert_eq!(found("PARTLABEL=rootfs-b"), link, "udev has chosen");
    assert_eq!(found("LABEL=rootfs-a"), board.path("dev/disk/by-label/rootfs-a"), "no label of the kernel's");
}
