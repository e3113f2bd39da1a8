//! Tests on a machine that is a directory.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::boot::tryboot::fat::tests::fat16;

/// A machine whose disk has the partitions 1 (with `autoboot.txt`) to 3.
pub(crate) fn machine() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let autoboot = root.join("autoboot.txt");
    fs::write(&autoboot, "").unwrap();
    let device = fs::metadata(&autoboot).unwrap().dev();
    let disk = root.join("sys/devices/disk");
    for number in 1..=3 {
        let partition = disk.join(format!("mmcblk0p{number}"));
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.join("partition"), format!("{number}\n")).unwrap();
    }
    fs::create_dir_all(disk.join("queue")).unwrap();
    fs::create_dir_all(root.join("sys/dev/block")).unwrap();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let link = root.join(format!("sys/dev/block/{major}:{minor}"));
    std::os::unix::fs::symlink("../../devices/disk/mmcblk0p1", link).unwrap();
    fs::create_dir(root.join("dev")).unwrap();
    fill(root, 2, &["CONFIG  TXT", "KERNEL8 IMG"]);
    fill(root, 3, &["CONFIG  TXT", "KERNEL8 IMG"]);
    (directory, autoboot)
}

/// Makes partition `number` a file system with these names.
pub(crate) fn fill(root: &Path, number: u32, names: &[&str]) {
    fs::write(root.join(format!("dev/mmcblk0p{number}")), fat16(names)).unwrap();
}

/// What the firmware says of the boot.
pub(crate) fn boots(root: &Path, partition: u32, is_tryboot: bool) {
    let node = root.join(NODE);
    fs::create_dir_all(&node).unwrap();
    fs::write(node.join("partition"), partition.to_be_bytes()).unwrap();
    fs::write(node.join("tryboot"), u32::from(is_tryboot).to_be_bytes()).unwrap();
}

#[test]
fn what_was_booted_is_read_from_the_device_tree() {
    let (root, _) = machine();
    let root = root.path();
    let error = booted_partition(root).unwrap_err();
    assert!(error.contains("does not say which partition") && error.contains("rpi-eeprom-update"), "{error}");
    boots(root, 3, true);
    assert_eq!(booted_partition(root), Ok(3));
    // What `capabilities` was in a release of 2022-11 that knows it, and without bit 2.
    for (capabilities, is_enough) in [(0x7f_u32, true), (0x7b, false), (4, true), (0, false)] {
        fs::write(root.join(NODE).join("capabilities"), capabilities.to_be_bytes()).unwrap();
        assert_eq!(booted_partition(root).is_ok(), is_enough, "{capabilities:#x}");
    }
    assert!(booted_partition(root).unwrap_err().contains("EEPROM's bootloader is too old"));
    fs::write(root.join(NODE).join("partition"), [0; 3]).unwrap();
    assert!(booted_partition(root).is_err());
}

#[test]
fn a_partition_is_found_on_the_same_disk_and_looked_into() {
    let (root, autoboot) = machine();
    let root = root.path();
    assert_eq!(is_bootable(root, &autoboot, 3), Ok(()));
    for (name, shown) in [("RECOVERYBIN", "RECOVERY.BIN"), ("PIEEPROMUPD", "PIEEPROM.UPD")] {
        fill(root, 3, &["CONFIG  TXT", name]);
        let error = is_bootable(root, &autoboot, 3).unwrap_err();
        assert!(error.contains("an EEPROM update lies in partition 3") && error.contains(shown), "{error}");
    }
    fill(root, 3, &["KERNEL8 IMG"]);
    assert!(is_bootable(root, &autoboot, 3).unwrap_err().contains("has no config.txt"));
    fill(root, 3, &["START4  ELF"]);
    assert_eq!(is_bootable(root, &autoboot, 3), Ok(()));
    fs::write(root.join("dev/mmcblk0p3"), [0; 4096]).unwrap();
    assert!(is_bootable(root, &autoboot, 3).unwrap_err().contains("no FAT file system"));
    let error = is_bootable(root, &autoboot, 4).unwrap_err();
    assert!(error.contains("partition 4") && error.contains("has no such partition"), "{error}");
}
