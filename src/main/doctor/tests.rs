//! What a simulated board cannot have: kernels, clocks, disks and mounts of other kinds. Each judgement by itself.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use twinboot::boot::BootView;
use twinboot::slots::PartView;

use super::kernel::Watchdog;
use super::*;

fn level(check: &Check) -> Level {
    assert_eq!(check.level == Level::Ok, check.remedy.is_empty(), "{check:?}");
    check.level
}

const ROOT: &str = "25 1 179:2 / / rw,relatime - ext4 /dev/root rw\n";

fn line(device: &str, point: &str, kind: &str, source: &str) -> String {
    format!("31 25 {device} / {point} rw,noatime shared:9 master:1 - {kind} {source} rw\n")
}

fn misplaced(mountinfo: &str) -> Option<String> {
    let slots = [("a".to_owned(), "179:2".to_owned()), ("b".to_owned(), "179:3".to_owned())];
    let mounts = storage::mounts(mountinfo);
    storage::misplaced(Path::new("/var/lib/twinboot"), &mounts, &slots).map(|(what, _)| what)
}

#[test]
fn the_state_is_where_the_deepest_and_latest_mount_is() {
    let at = |device, point, kind| ROOT.to_owned() + &line(device, point, kind, "/dev/x");
    assert_eq!(misplaced(""), None, "nothing is known, so nothing is said");
    assert!(misplaced(ROOT).unwrap().contains("lies in slot a"));
    let stacked = "25 1 253:0 / / rw,relatime - ext4 /dev/dm-0 rw\n";
    assert!(misplaced(stacked).unwrap().contains("in the root file system"));
    assert!(misplaced(&at("179:3", "/var", "ext4")).unwrap().contains("slot b"));
    assert!(misplaced(&at("0:31", "/var/lib", "tmpfs")).unwrap().contains("in memory"));
    assert!(
        misplaced(&at("179:7", "/var/lib/twin", "ext4")).unwrap().contains("slot a"),
        "another directory"
    );
    assert_eq!(misplaced(&at("179:7", "/var/lib/twinboot", "ext4")), None);
    let covered =
        at("179:7", "/var/lib/twinboot", "ext4") + &line("0:31", "/var/lib/twinboot", "tmpfs", "tmpfs");
    assert!(misplaced(&covered).unwrap().contains("in memory"), "what was mounted last lies on top");
}

#[test]
fn it_is_mounted_at_each_boot_and_checked() {
    let found = |mountinfo: &str, fstab: &str, unit: &str| {
        let mounts = storage::mounts(&(ROOT.to_owned() + mountinfo));
        level(&storage::mounting(Path::new("/var/lib/twinboot"), &mounts, fstab, |name| name == unit))
    };
    let own = line("179:7", "/var/lib/twinboot", "ext4", "/dev/mmcblk0p7");
    let entry = |pass| format!("# comment\nLABEL=data /var/lib/twinboot ext4 defaults 0{pass}\n");
    assert_eq!(found(&own, &entry(" 2"), ""), Level::Ok);
    assert_eq!(found(&own, &entry(" 0"), ""), Level::Warn);
    assert_eq!(found(&own, &entry(""), ""), Level::Warn, "no number is none");
    assert_eq!(found(&own, "", ""), Level::Warn);
    assert_eq!(found(&own, "", "var-lib-twinboot.mount"), Level::Ok);
    let flash = line("0:40", "/var/lib/twinboot", "ubifs", "ubi0:data");
    assert_eq!(found(&flash, &entry(" 0"), ""), Level::Ok, "it checks itself");
    // Mounted elsewhere, and bound to here.
    let bound = line("179:7", "/my\\040data", "ext4", "/dev/mmcblk0p7") + &own;
    let both = |pass| {
        format!(
            "LABEL=data /my\\040data ext4 defaults 0 {pass}\n/my\\040data/t /var/lib/twinboot none bind 0 0\n"
        )
    };
    assert_eq!(found(&bound, &both(2), ""), Level::Ok);
    assert_eq!(found(&bound, &both(0), ""), Level::Warn);
    assert_eq!(found("", &entry(" 2"), ""), Level::Warn, "it is not mounted now");
}

#[test]
fn a_unit_of_a_path_is_named_as_systemd_does() {
    // As systemd-escape -p --suffix=mount has it.
    for (point, unit) in
        [("/data", "data.mount"), ("/my data/x-y", "my\\x20data-x\\x2dy.mount"), ("/.a", "\\x2ea.mount")]
    {
        let mounts = storage::mounts(&line("179:7", &point.replace(' ', "\\040"), "ext4", "/dev/x"));
        let check = storage::mounting(Path::new(point), &mounts, "", |name| name == unit);
        assert_eq!(level(&check), Level::Ok, "{unit}: {check:?}");
    }
}

#[test]
fn a_full_disk_is_no_place_for_a_record() {
    let space = |bytes, files| level(&storage::space(Path::new("/x"), Some((bytes, files))));
    assert_eq!(space(10 << 20, 1000), Level::Ok);
    assert_eq!(space(1 << 20, 1000), Level::Warn);
    assert_eq!(space(100 << 10, 1000), Level::Fail);
    assert_eq!(space(10 << 20, 3), Level::Fail, "no files can be made");
    assert_eq!(level(&storage::space(Path::new("/x"), None)), Level::Warn);
    assert!(storage::room(Path::new("/")).is_some());
}

#[test]
fn a_panic_must_end_in_a_reboot() {
    let panic = |line, setting| level(&kernel::panic(line, setting));
    assert_eq!(panic("quiet panic=5 ro", None), Level::Ok);
    assert_eq!(panic("panic=-1", Some("-1\n")), Level::Ok, "at once");
    assert_eq!(panic("panic=0", Some("0\n")), Level::Fail);
    assert_eq!(panic("panic=0 panic=3", Some("3")), Level::Ok, "the last one counts");
    assert_eq!(panic("xpanic=5", Some("0")), Level::Fail);
    assert_eq!(panic("", Some("10\n")), Level::Warn);
    assert_eq!(panic("", None), Level::Fail);
}

#[test]
fn a_watchdog_is_worth_what_feeds_it() {
    let dog =
        |identity: &str, is_active| Watchdog { identity: identity.into(), is_active, timeout: Some(30) };
    let of = |found: &[Watchdog], runtime| level(&kernel::watchdog(found, runtime));
    assert_eq!(of(&[dog("bcm2835", Some(true))], None), Level::Ok);
    assert_eq!(of(&[dog("bcm2835", None)], Some("30s")), Level::Ok, "a kernel that does not tell");
    for off in [None, Some(""), Some("0"), Some("off")] {
        assert_eq!(of(&[dog("bcm2835", None)], off), Level::Warn, "{off:?}");
    }
    assert_eq!(of(&[dog("bcm2835", Some(false))], Some("30s")), Level::Warn);
    assert_eq!(
        of(&[dog("Software Watchdog", Some(true))], Some("30s")),
        Level::Warn,
        "it hangs with the kernel"
    );
    assert_eq!(of(&[dog("Software Watchdog", Some(true)), dog("bcm2835", Some(true))], None), Level::Ok);
}

#[test]
fn a_clock_must_be_right_and_stay_so() {
    let clock = |plausible, synchronised, services: &[&str]| {
        level(&kernel::clock(plausible, false, synchronised, services))
    };
    assert_eq!(clock(false, true, &["chrony.service"]), Level::Fail);
    assert_eq!(clock(true, true, &[]), Level::Ok);
    assert_eq!(clock(true, false, &["chrony.service"]), Level::Ok);
    assert_eq!(clock(true, false, &[]), Level::Warn);
}

#[test]
fn what_runs_should_boot_by_default() {
    let view =
        |default, trial| BootView { default, trial, tries_left: None, floor: None, warnings: Vec::new() };
    let agreement = |view, booted| level(&loader::agreement(&view, booted));
    assert_eq!(agreement(view(Slot::A, None), Some(Slot::A)), Level::Ok);
    assert_eq!(agreement(view(Slot::B, None), Some(Slot::A)), Level::Fail);
    assert_eq!(agreement(view(Slot::A, Some(Slot::B)), Some(Slot::B)), Level::Warn);
    assert_eq!(agreement(view(Slot::A, None), None), Level::Ok, "that no slot is booted is told elsewhere");
}

#[test]
fn a_floor_that_the_loader_does_not_know_is_not_taken_for_none() {
    let floor = |known, has_place, told| {
        let view =
            BootView { default: Slot::A, trial: None, tries_left: None, floor: known, warnings: Vec::new() };
        loader::floor(&view, has_place, told)
    };
    assert_eq!(level(&floor(Some(7), true, Some(7))), Level::Ok);
    let none = floor(None, true, Some(0));
    assert!(none.level == Level::Ok && none.what.contains("any rollback index is taken"), "{}", none.what);
    let lost = floor(None, true, Some(7));
    assert!(lost.level == Level::Warn && lost.what.contains("below the rollback index 7"), "{}", lost.what);
    // Nobody was there to be asked: then nothing is claimed.
    let unknown = floor(None, true, None);
    assert!(!unknown.what.contains("is taken"), "{}", unknown.what);
    assert_eq!(level(&floor(None, false, Some(7))), Level::Ok, "it has no place for it, as is told");
}

#[test]
fn a_service_that_empties_the_block_is_seen() {
    assert_eq!(level(&loader::others(true)), Level::Warn);
    assert_eq!(level(&loader::others(false)), Level::Ok);
}

#[test]
fn a_canary_proves_only_what_was_read_after_it_was_written() {
    let answer = |value, line| level(&loader::answer(value, "this-boot", line));
    assert_eq!(answer(None, "twinboot.canary="), Level::Warn);
    assert_eq!(answer(Some("x"), "ro twinboot.canary=x"), Level::Ok);
    assert_eq!(answer(Some("x"), "ro twinboot.canary=y"), Level::Fail);
    assert_eq!(answer(Some("x"), "ro twinboot.canary="), Level::Fail, "it has the word, and reads nothing");
    assert_eq!(answer(Some("x"), "ro"), Level::Warn);
    assert_eq!(answer(Some("this-boot"), "ro twinboot.canary=y"), Level::Warn, "written just now");
    assert_eq!(answer(Some("this-boot"), "ro"), Level::Warn);
}

#[test]
fn slots_are_measured_and_are_not_tied_to_a_place() {
    let sizes = |a: Result<u64, &str>, b: Result<u64, &str>| {
        level(&slots::sizes(PerSlot { a: a.map_err(str::to_owned), b: b.map_err(str::to_owned) }))
    };
    assert_eq!(sizes(Ok(1), Ok(1)), Level::Ok);
    assert_eq!(sizes(Ok(1), Ok(2)), Level::Warn);
    assert_eq!(sizes(Ok(1), Err("denied")), Level::Warn);
    let part = |name: &str| PartView { name: name.into(), found: Ok(("/dev/mmcblk0p2".into(), 7)) };
    assert_eq!(slots::size(&[part("x"), part("y")]), Ok(14));
    assert!(slots::size(&[part("x"), PartView { found: Err("gone".into()), ..part("y") }]).is_err());
    let names = PerSlot {
        a: slots::names(&part("/dev/disk/by-partlabel/rootfs-a")),
        b: slots::names(&PartView { found: Err("gone".into()), ..part("PARTUUID=0011-03") }),
    };
    let table = |fstab| level(&slots::table(fstab, &names));
    assert_eq!(table("/dev/root / ext4 defaults 0 1\n# PARTLABEL=rootfs-a / ext4\n"), Level::Ok);
    assert_eq!(table("PARTLABEL=rootfs-a / ext4 defaults 0 1\n"), Level::Warn);
    assert_eq!(table("PARTUUID=0011-03 /mnt ext4 defaults 0 1\n"), Level::Warn);
    assert_eq!(table("/dev/disk/by-partlabel/rootfs-a / ext4\n"), Level::Warn);
    assert_eq!(table("/dev/disk/by-partuuid/0011-03 / ext4\n"), Level::Warn);
    assert_eq!(table("/dev/mmcblk0p2 / ext4\n"), Level::Warn);
}

#[test]
fn a_daemon_that_waits_is_no_daemon() {
    let of = |status: serde_json::Value| level(&hub::service(&Ok(status)));
    assert_eq!(of(serde_json::json!({"phase": "idle"})), Level::Ok);
    assert_eq!(of(serde_json::json!({"phase": "downloading"})), Level::Ok);
    let waiting = serde_json::json!({"what": "no slots", "remedy": "name them"});
    assert_eq!(of(serde_json::json!({"phase": "waiting", "waiting": waiting})), Level::Fail);
}

#[test]
fn drop_ins_of_the_service_manager_are_read_in_the_order_of_their_names() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let machine = Machine::new(root.path().to_owned());
    assert_eq!(machine.manager_setting("RuntimeWatchdogSec"), None);
    write("etc/systemd/system.conf", "[Manager]\n#RuntimeWatchdogSec=off\nRuntimeWatchdogSec=10\n");
    write("usr/lib/systemd/system.conf.d/90-last.conf", "[Manager]\nRuntimeWatchdogSec = 30s \n");
    write(
        "etc/systemd/system.conf.d/50-first.conf",
        "[Manager]\nRuntimeWatchdogSec=20\nRebootWatchdogSec=5min\n",
    );
    write("etc/systemd/system.conf.d/99-not.bak", "[Manager]\nRuntimeWatchdogSec=1\n");
    assert_eq!(machine.manager_setting("RuntimeWatchdogSec").as_deref(), Some("30s"));
}
