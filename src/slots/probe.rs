//! Which slot are we running from? Two independent facts of the kernel, each enough, never allowed to disagree.
//!
//! The bootloader's environment is deliberately not asked: it says what *will* boot.

use std::fs;
use std::path::Path;

use crate::model::{PerSlot, Slot};

use super::{Error, Identity, SlotMap, identity, name};

/// How far a stack of device-mapper devices (dm-verity on the slot, say) is followed down to the slot.
const STACKED: usize = 4;

/// One fact and the slot it points to.
struct Fact {
    says: String,
    slot: Slot,
}

/// See [`SlotMap::booted`].
pub(super) fn booted(map: &SlotMap, root: &Path) -> Result<Slot, Error> {
    // One slot may be missing (a dead second partition) while we run from the other and must be able to say so.
    let slots = PerSlot { a: map.find(Slot::A).ok(), b: map.find(Slot::B).ok() };
    let known = PerSlot { a: slots.a.as_ref().map(|s| s.identity), b: slots.b.as_ref().map(|s| s.identity) };
    map.refuse_shared()?;
    let mounts = read(&root.join("proc/self/mountinfo"))?;
    let command_line = read(&root.join("proc/cmdline"))?;
    let mut facts = Vec::new();
    if let Some((major, minor)) = root_device(&mounts)
        && let Some(slot) = slot_below(root, &known, major, minor, STACKED)
    {
        facts.push(Fact { says: format!("the root file system on device {major}:{minor}"), slot });
    }
    facts.extend(command_line_facts(&command_line, root, map, &known));
    let Some(first) = facts.first() else {
        let device = root_device(&mounts).map_or("none".into(), |(major, minor)| format!("{major}:{minor}"));
        let looked_at = format!("root device {device}, command line \"{}\"", command_line.trim());
        return Err(Error::BootedUnknown { looked_at });
    };
    match facts.iter().find(|fact| fact.slot != first.slot) {
        None => Ok(first.slot),
        Some(other) => Err(Error::Contradiction {
            one: first.says.clone(),
            first: first.slot,
            other: other.says.clone(),
            second: other.slot,
        }),
    }
}

/// A file of the kernel; one that is absent (in a simulation) is empty.
fn read(path: &Path) -> Result<String, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::Facts { path: path.to_owned(), source }),
    }
}

/// A line of `mountinfo` (proc(5)): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
pub(super) struct Mount<'a> {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) point: &'a str,
}

/// The mounts of `mountinfo`, in the order of mounting.
pub(super) fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (major, minor) = fields.nth(2)?.split_once(':')?;
        let point = fields.nth(1)?;
        Some(Mount { major: major.parse().ok()?, minor: minor.parse().ok()?, point })
    })
}

/// The device of `/`. What was mounted last lies on top.
fn root_device(mountinfo: &str) -> Option<(u32, u32)> {
    mounts(mountinfo).filter(|mount| mount.point == "/").last().map(|mount| (mount.major, mount.minor))
}

/// The slot that device `major:minor` is, or is stacked on.
fn slot_below(
    root: &Path,
    known: &PerSlot<Option<Identity>>,
    major: u32,
    minor: u32,
    depth: usize,
) -> Option<Slot> {
    let device = Some(Identity::Block(rustix::fs::makedev(major, minor)));
    if let Some(slot) = Slot::BOTH.into_iter().find(|slot| *known.of(*slot) == device) {
        return Some(slot);
    }
    let below = fs::read_dir(root.join(format!("sys/dev/block/{major}:{minor}/slaves"))).ok()?;
    below.flatten().filter(|_| depth > 0).find_map(|entry| {
        let number = fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = number.trim().split_once(':')?;
        slot_below(root, known, major.parse().ok()?, minor.parse().ok()?, depth - 1)
    })
}

/// What the kernel's command line says: our own word, RAUC's (for boards that had it), and `root=`.
fn command_line_facts(
    line: &str,
    root: &Path,
    map: &SlotMap,
    known: &PerSlot<Option<Identity>>,
) -> Vec<Fact> {
    let mut facts = Vec::new();
    let fact = |word: &str, slot| Fact { says: format!("\"{word}\" on the kernel's command line"), slot };
    let mut root_word = None;
    for word in line.split_ascii_whitespace() {
        match word.split_once('=') {
            Some(("twinboot.slot" | "rauc.slot", value)) => match value {
                "a" | "A" => facts.push(fact(word, Slot::A)),
                "b" | "B" => facts.push(fact(word, Slot::B)),
                _ => {}
            },
            // The kernel takes the last of several.
            Some(("root", value)) => root_word = Some((word, value)),
            _ => {}
        }
    }
    if let Some((word, value)) = root_word {
        let path = name::path(root, value);
        let found = path.metadata().ok().and_then(|metadata| identity(&metadata));
        let named = |slot: &Slot| map.path(*slot) == path || map.path(*slot) == Path::new(value);
        let same = |slot: &Slot| named(slot) || (found.is_some() && *known.of(*slot) == found);
        if let Some(slot) = Slot::BOTH.into_iter().find(same) {
            facts.push(fact(word, slot));
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_that_was_mounted_last_is_the_one_that_runs() {
        // switch_root(8) leaves the initramfs below the system that it has found.
        let mountinfo = "1 1 0:2 / / rw - rootfs rootfs rw\n\
                         25 1 179:3 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p3 rw\n\
                         26 25 179:2 / /mnt/other ro - ext4 /dev/mmcblk0p2 ro\n";
        assert_eq!(root_device(mountinfo), Some((179, 3)));
        assert_eq!(root_device("25 1 179:3 / /home rw - ext4 /dev/mmcblk0p3 rw\n"), None);
    }
}
