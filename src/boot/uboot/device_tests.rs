//! Tests on regular files: positions, alignment, short files, the switch of eMMC boot partitions.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::path::Path;

use super::*;

fn copy(path: &Path, offset: i64, size: u64) -> DeviceCopy {
    let named_by = "f:1".to_owned();
    let (erase_size, erase_blocks, handle_locks) = (None, None, true);
    DeviceCopy::new(Place {
        named_by,
        path: path.into(),
        offset,
        size,
        erase_size,
        erase_blocks,
        handle_locks,
    })
}

#[test]
fn only_its_own_bytes_are_read_and_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    for (len, offset, start, size) in [
        (20_000, 0, 0, 4096),
        (20_000, 4096, 4096, 8192),
        (20_000, 1000, 1000, 9000),
        (20_000, 19_000, 19_000, 1000),
        (20_000, -20_000, 0, 20_000),
        (20_000, -512, 19_488, 512),
        (20_480, -8192, 12_288, 8192),
    ] {
        let before: Vec<u8> = (0..len).map(|index| (index % 253) as u8).collect();
        fs::write(&path, &before).unwrap();
        let mut copy = copy(&path, offset, size as u64);
        assert_eq!(copy.read().unwrap(), before[start..start + size], "{offset} {size}");
        let image: Vec<u8> = before[start..start + size].iter().map(|byte| !byte).collect();
        copy.write(&image).unwrap();
        assert_eq!(copy.read().unwrap(), image);
        let mut after = before;
        after[start..start + size].copy_from_slice(&image);
        assert_eq!(fs::read(&path).unwrap(), after, "{offset} {size}");
    }
}

#[test]
fn a_short_or_missing_file_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env");
    assert_eq!(copy(&path, 0, 4096).read().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(copy(&path, 0, 4096).write(&[0; 4096]).is_err());
    assert!(!path.exists(), "nothing is created where a device should be");
    fs::write(&path, [1; 5000]).unwrap();
    assert_eq!(copy(&path, 4096, 4096).read().unwrap_err().to_string(), "ends after 904 of 4096 bytes");
    assert_eq!(copy(&path, 8192, 4096).read().unwrap_err().to_string(), "ends after 0 of 4096 bytes");
    assert_eq!(copy(&path, -5001, 4096).read().unwrap_err().to_string(), "the device has only 5000 bytes");
}

#[test]
fn directories_and_terminals_are_no_devices() {
    for path in ["/dev", "/dev/null"] {
        let error = copy(Path::new(path), 0, 4096).read().unwrap_err();
        assert_eq!(error.to_string(), "is neither a block device, a file nor an MTD device");
    }
}

#[test]
fn files_have_serial_numbers_and_no_flag_to_clear() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(copy(file.path(), 0, 4096).scheme().unwrap(), Scheme::Incremental);
    assert!(copy(file.path(), 0, 4096).clear_flag().is_err());
}

#[test]
fn an_emmc_boot_partition_is_made_writable_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    for (name, state, during) in
        [("mmcblk0boot1", "1\n", "0"), ("mmcblk0boot1", "0\n", "0\n"), ("mmcblk0p1", "1\n", "1\n")]
    {
        let (path, sysfs) = (directory.path().join(name), directory.path().join("sys"));
        let switch = sysfs.join(name).join("force_ro");
        fs::create_dir_all(switch.parent().unwrap()).unwrap();
        fs::write(&path, [0; 4096]).unwrap();
        fs::write(&switch, state).unwrap();
        let mut copy = copy(&path, 0, 4096);
        copy.sysfs = sysfs;
        let guard = ForcedReadOnly::lift(&copy.place, &copy.sysfs).unwrap();
        assert_eq!(fs::read_to_string(&switch).unwrap(), during, "{name}");
        drop(guard);
        copy.write(&[7; 4096]).unwrap();
        assert_eq!(fs::read_to_string(&switch).unwrap().trim(), state.trim(), "{name}");
    }
}
