//! What the firmware says of the boot it made, and what lies in wait for it in a slot's boot partition.
//!
//! The device tree's node `/chosen/bootloader` is described in Raspberry Pi's documentation ("Device trees", "Common
//! bootloader properties"): integers of 32 bits, big endian. `partition` and `tryboot` came with the firmware that knows
//! `autoboot.txt`; bit 2 of `capabilities`, which only models with an EEPROM have, says that it knows `tryboot_a_b`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::fat;

const NODE: &str = "proc/device-tree/chosen/bootloader";
const CAN_TRYBOOT_A_B: u32 = 1 << 2;

/// Files by which the boot ROM or the bootloader writes its own EEPROM before it boots anything. With one of them in a
/// slot, the flag is used up by the update's own reset, or the machine never gets beyond it.
const EEPROM_UPDATES: [&str; 2] = ["RECOVERY.BIN", "PIEEPROM.UPD"];

/// The partition that this boot took the firmware's files from, 1 for the first, as is told below `root`. The error is a
/// sentence with the remedy.
pub(super) fn booted_partition(root: &Path) -> Result<u32, String> {
    let node = root.join(NODE);
    let property = |name: &str| number(&node.join(name));
    let (Ok(partition), Ok(_flag)) = (property("partition"), property("tryboot")) else {
        return Err(format!(
            "the firmware does not say which partition it booted ({} has no partition and tryboot): it is no \
             Raspberry Pi's, or too old for autoboot.txt; update it (rpi-eeprom-update -a)",
            node.display()
        ));
    };
    let lacks = property("capabilities").is_ok_and(|capabilities| capabilities & CAN_TRYBOOT_A_B == 0);
    if lacks {
        let problem = "the EEPROM's bootloader is too old: it does not know tryboot_a_b; update it \
                       (rpi-eeprom-update -a)";
        return Err(problem.to_owned());
    }
    Ok(partition)
}

fn number(file: &Path) -> io::Result<u32> {
    let bytes = <[u8; 4]>::try_from(fs::read(file)?).map_err(|_| io::Error::other("is no number"))?;
    Ok(u32::from_be_bytes(bytes))
}

/// Whether partition `number`, on the disk that `autoboot` is on, may be booted. The error is a sentence with the
/// remedy.
pub(super) fn is_bootable(root: &Path, autoboot: &Path, number: u32) -> Result<(), String> {
    let unreadable =
        |error: io::Error| format!("partition {number}, which is to boot, cannot be looked at: {error}");
    let device = sibling(root, autoboot, number).map_err(unreadable)?;
    let names = File::open(&device).and_then(|file| fat::root_names(&file)).map_err(unreadable)?;
    let shown = device.display();
    if let Some(name) = names.iter().find(|name| EEPROM_UPDATES.contains(&name.as_str())) {
        return Err(format!(
            "an EEPROM update lies in partition {number} ({shown}): {name}; leave it out of the image, and update \
             the EEPROM by itself"
        ));
    }
    // Raspberry Pi 5 looks for the second, the others for the first.
    if !names.iter().any(|name| name == "CONFIG.TXT" || name.starts_with("START")) {
        return Err(format!(
            "partition {number} ({shown}) has no config.txt: the firmware would not boot it"
        ));
    }
    Ok(())
}

/// The device of another partition on the disk that holds `file`, as sysfs knows it.
fn sibling(root: &Path, file: &Path, number: u32) -> io::Result<PathBuf> {
    let device = fs::metadata(file)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let own = fs::canonicalize(root.join(format!("sys/dev/block/{major}:{minor}")))?;
    let disk = own.parent().ok_or_else(|| io::Error::other("is on no disk"))?;
    for entry in fs::read_dir(disk)? {
        let path = entry?.path();
        let found = fs::read_to_string(path.join("partition")).ok().and_then(|it| it.trim().parse().ok());
        if found == Some(number) {
            return Ok(root.join("dev").join(path.file_name().unwrap_or_default()));
        }
    }
    Err(io::Error::other(format!("{} has no such partition", disk.display())))
}

#[cfg(test)]
#[path = "firmware_tests.rs"]
pub(crate) mod tests;
