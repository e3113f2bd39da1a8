#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;

use crate::model::{Failure, TargetSlot};

use super::*;

/// A simulated machine: two slot files, and a place for the kernel's files.
struct Machine {
    directory: tempfile::TempDir,
    map: SlotMap,
}

impl Machine {
    fn new(size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.img", "b.img"] {
            fs::File::create(directory.path().join(name)).unwrap().set_len(size).unwrap();
        }
        let at = |name| directory.path().join(name);
        let map = SlotMap::new(Settings { a: vec![at("a.img")], b: vec![at("b.img")], allow_files: true });
        fs::create_dir_all(at("proc/self")).unwrap();
        Self { directory, map }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn booted(&self, command_line: &str) -> Result<Slot, Error> {
        fs::write(self.path("proc/cmdline"), command_line).unwrap();
        self.map.booted(self.directory.path())
    }

    fn open(&self) -> Result<TargetDevice, Error> {
        TargetDevice::open(&self.map, target(Slot::B), Slot::A)
    }
}

fn target(slot: Slot) -> TargetSlot {
    TargetSlot::new(slot, !slot, !slot).unwrap()
}

fn failure<T>(result: Result<T, Error>) -> Failure {
    result.map(|_| ()).unwrap_err().reason().failure
}

#[test]
fn the_command_line_tells_the_booted_slot() {
    let machine = Machine::new(4096);
    let b = machine.path("b.img").display().to_string();
    for (line, slot) in [
        ("quiet twinboot.slot=a".to_owned(), Slot::A),
        ("rauc.slot=B rw".into(), Slot::B),
        (format!("root={b} ro"), Slot::B),
        (format!("root=/dev/other root={b}"), Slot::B),
        (format!("root=/dev/mapper/verity twinboot.slot=b root={b}"), Slot::B),
    ] {
        assert_eq!(machine.booted(&line).unwrap(), slot, "{line}");
    }
}

#[test]
fn tags_are_looked_up_as_udev_spells_them() {
    let machine = Machine::new(4096);
    for (kind, name) in [
        ("by-partuuid", "0a1b-02"),
        ("by-uuid", "0a-1b"),
        ("by-partlabel", "rootfs\\x20b"),
        ("by-label", "Wurzel_ü"),
    ] {
        let directory = machine.path("dev/disk").join(kind);
        fs::create_dir_all(&directory).unwrap();
        symlink(machine.path("b.img"), directory.join(name)).unwrap();
    }
    for tag in ["PARTUUID=0A1B-02", "UUID=0a-1b", "LABEL=Wurzel_ü"] {
        assert_eq!(machine.booted(&format!("root={tag}")).unwrap(), Slot::B, "{tag}");
    }
    // A blank cannot stand on a command line, so no tag finds the third; its link must still not confuse.
    assert!(machine.booted("root=PARTLABEL=rootfs").is_err());
}

#[test]
fn facts_that_disagree_or_say_nothing_are_errors_that_name_them() {
    let machine = Machine::new(4096);
    let a = machine.path("a.img").display().to_string();
    let error = machine.booted(&format!("root={a} twinboot.slot=b")).unwrap_err().to_string();
    assert!(error.contains("twinboot.slot=b") && error.contains(&format!("root={a}")), "{error}");
    for line in ["", "root=/dev/sda1 quiet", "twinboot.slot=c", "root=PARTUUID=../../a.img"] {
        let error = machine.booted(line).unwrap_err();
        assert!(matches!(error, Error::BootedUnknown { .. }), "{line}: {error}");
        assert!(error.to_string().contains(line), "{error}");
    }
}

#[test]
fn p070_two_names_for_one_slot_are_refused_everywhere() {
    let machine = Machine::new(4096);
    fs::remove_file(machine.path("b.img")).unwrap();
    symlink(machine.path("a.img"), machine.path("b.img")).unwrap();
    assert!(matches!(machine.booted("twinboot.slot=a"), Err(Error::SameDevice { .. })));
    assert!(matches!(machine.open(), Err(Error::SameDevice { .. })));
    // As udev names devices: a link of a link; the path itself; and another name of the same file.
    let by = machine.path("dev/disk/by-partuuid");
    fs::create_dir_all(&by).unwrap();
    symlink(machine.path("b.img"), by.join("0a1b-02")).unwrap();
    fs::hard_link(machine.path("a.img"), machine.path("again.img")).unwrap();
    for other in [by.join("0a1b-02"), machine.path("a.img"), machine.path("again.img")] {
        let settings = Settings { a: vec![machine.path("a.img")], b: vec![other.clone()], allow_files: true };
        let opened = TargetDevice::open(&SlotMap::new(settings), target(Slot::B), Slot::A);
        assert!(matches!(opened, Err(Error::SameDevice { .. })), "{other:?}");
    }
}

#[test]
fn p071_a_missing_second_slot_does_not_hide_the_booted_one() {
    let machine = Machine::new(4096);
    fs::remove_file(machine.path("b.img")).unwrap();
    assert_eq!(machine.booted("twinboot.slot=a").unwrap(), Slot::A);
    assert_eq!(failure(machine.open()), Failure::TargetMissing);
}

#[test]
fn p071_what_is_no_slot_is_refused() {
    let machine = Machine::new(4096);
    let strict = SlotMap::new(Settings {
        a: vec![machine.path("a.img")],
        b: vec![machine.path("b.img")],
        allow_files: false,
    });
    let opened = TargetDevice::open(&strict, target(Slot::B), Slot::A);
    assert_eq!(failure(opened), Failure::TargetMissing, "a regular file");
    for path in ["/dev/null", "/proc"] {
        let map = SlotMap::new(Settings {
            a: vec![machine.path("a.img")],
            b: vec![path.into()],
            allow_files: true,
        });
        let opened = TargetDevice::open(&map, target(Slot::B), Slot::A);
        assert!(matches!(opened, Err(Error::NotADevice { .. })), "{path}");
    }
    fs::set_permissions(machine.path("b.img"), fs::Permissions::from_mode(0o444)).unwrap();
    let refused = failure(machine.open());
    // Without root the open itself is refused.
    assert!(matches!(refused, Failure::TargetReadOnly | Failure::TargetIo), "{refused}");
}

#[test]
fn an_open_target_is_ours_alone() {
    let machine = Machine::new(4096);
    let first = machine.open().unwrap();
    assert_eq!(failure(machine.open()), Failure::TargetBusy);
    drop(first);
    machine.open().unwrap();
}

/// As a program that was just started does, or udev.
#[test]
fn who_holds_a_target_for_a_moment_is_waited_for() {
    let machine = Machine::new(4096);
    let holder = machine.open().unwrap();
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(holder);
    });
    machine.open().unwrap();
    letting_go.join().unwrap();
}

#[test]
fn p071_users_of_a_device_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let number = rustix::fs::makedev(179, 3);
    let books = root.join("sys/dev/block/179:3");
    fs::create_dir_all(books.join("holders")).unwrap();
    fs::create_dir_all(root.join("proc/self")).unwrap();
    let refuse = || part::refuse_in_use(Slot::B, Path::new("/dev/x"), number, root);
    let mountinfo = |text: &str| fs::write(root.join("proc/self/mountinfo"), text).unwrap();
    mountinfo("22 1 179:2 / / rw - ext4 /dev/root rw\n");
    refuse().unwrap();
    mountinfo("22 1 179:2 / / rw - ext4 /dev/root rw\n40 22 179:3 / /mnt/old ro shared:7 - ext4 /dev/x ro\n");
    assert!(refuse().unwrap_err().to_string().contains("mounted at /mnt/old"));
    mountinfo("");
    fs::write(books.join("holders/dm-0"), "").unwrap();
    assert!(refuse().unwrap_err().to_string().contains("held by dm-0"));
    fs::remove_file(books.join("holders/dm-0")).unwrap();
    fs::write(books.join("ro"), "1\n").unwrap();
    assert!(matches!(refuse(), Err(Error::ReadOnly { .. })));
}

#[test]
fn bytes_come_back_at_any_offset_and_length() {
    let machine = Machine::new(3 << 20);
    let mut device = machine.open().unwrap();
    assert_eq!(device.size(), 3 << 20);
    let pattern: Vec<u8> = (0..2_500_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut expected = vec![0; 3 << 20];
    for (offset, len) in
        [(0, 4096), (8192, 2_097_152), (8192 + 2_097_152, 100), (5000, 3000), (1 << 20, 1_500_001)]
    {
        device.write_at(offset as u64, &pattern[..len]).unwrap();
        expected[offset..offset + len].copy_from_slice(&pattern[..len]);
    }
    device.zero(16384, 200_000).unwrap();
    expected[16384..216_384].fill(0);
    device.flush().unwrap();
    for (offset, len) in [(0, 3 << 20), (1, 4096), (4095, 2), (8191, 1 << 20), (3_145_000, 728)] {
        let mut found = vec![1; len];
        assert_eq!(device.read_back(offset as u64, &mut found).unwrap(), len);
        assert!(found == expected[offset..offset + len], "{offset} {len}");
    }
    let mut beyond = [1; 8192];
    assert_eq!(device.read_back((3 << 20) - 100, &mut beyond).unwrap(), 100, "short at the end");
    assert_eq!(device.read_back(3 << 20, &mut beyond).unwrap(), 0);
    assert!(fs::read(machine.path("b.img")).unwrap() == expected);
}

/// A slot larger than 32 bits can count, most of it a hole. Worth most where addresses have 32 bits, too: `tests/run
/// packages` runs it there.
#[test]
fn no_offset_wraps() {
    const GIB: u64 = 1 << 30;
    let machine = Machine::new(6 * GIB);
    let mut device = machine.open().unwrap();
    assert_eq!(device.size(), 6 * GIB);
    let places = [0, 2 * GIB - 4096, 2 * GIB, 3 * GIB + 100, 4 * GIB - 1, 4 * GIB, 5 * GIB + 8192];
    let data = |offset: u64| vec![(offset / GIB) as u8 + 1; 5000];
    for offset in places {
        device.write_at(offset, &data(offset)).unwrap();
    }
    device.zero(4 * GIB + 512, 100).unwrap();
    device.flush().unwrap();
    let mut found = vec![0; 5000];
    for offset in places {
        let mut expected = data(offset);
        // Where they overlap, the later one is there.
        if let Some(next) = places.into_iter().find(|next| (offset + 1..offset + 5000).contains(next)) {
            expected.truncate((next - offset) as usize);
        }
        if offset == 4 * GIB {
            expected[512..612].fill(0);
        }
        assert_eq!(device.read_back(offset, &mut found).unwrap(), 5000);
        assert!(found[..expected.len()] == expected, "at {offset}");
    }
    assert_eq!(device.read_back(GIB, &mut found).unwrap(), 5000);
    assert!(found.iter().all(|byte| *byte == 0), "nothing was written here");
}

/// A real block device made of a file.
struct Loop(String);

impl Loop {
    fn new(backing: &Path) -> Self {
        let output =
            std::process::Command::new("losetup").args(["-f", "--show"]).arg(backing).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["-d", &self.0]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

#[test]
#[ignore = "peers: needs root, loop devices and mke2fs"]
fn peers_p067_p071_a_block_device_is_ours_alone_and_read_past_the_cache() {
    let machine = Machine::new(16 << 20);
    let (a, b) = (Loop::new(&machine.path("a.img")), Loop::new(&machine.path("b.img")));
    let map = SlotMap::new(Settings { a: vec![(&a.0).into()], b: vec![(&b.0).into()], allow_files: false });
    let open = || TargetDevice::open(&map, target(Slot::B), Slot::A);
    let mut device = open().unwrap();
    assert_eq!(device.size(), 16 << 20);
    let pattern: Vec<u8> = (0..5_000_001_u32).map(|i| (i >> 7) as u8 | 1).collect();
    device.write_at(4096, &pattern).unwrap();
    device.zero(1 << 20, 1 << 20).unwrap();
    device.flush().unwrap();
    let mut found = vec![0; pattern.len()];
    assert_eq!(device.read_back(4096, &mut found).unwrap(), pattern.len());
    let gap = (1 << 20) - 4096..(2 << 20) - 4096;
    assert!(found[gap.clone()].iter().all(|byte| *byte == 0));
    assert!(found[..gap.start] == pattern[..gap.start] && found[gap.end..] == pattern[gap.end..]);
    assert_eq!(failure(open()), Failure::TargetBusy, "a second exclusive open");
    drop(device);
    run("mke2fs", &["-q", &b.0]);
    let mount = machine.path("mount");
    fs::create_dir(&mount).unwrap();
    run("mount", &[&b.0, mount.to_str().unwrap()]);
    let error = open();
    run("umount", &[mount.to_str().unwrap()]);
    assert!(error.unwrap_err().to_string().contains("mounted at"));
    run("blockdev", &["--setro", &b.0]);
    assert_eq!(failure(open()), Failure::TargetReadOnly);
    run("blockdev", &["--setrw", &b.0]);
    let same = SlotMap::new(Settings { a: vec![(&b.0).into()], b: vec![(&b.0).into()], allow_files: false });
    assert!(matches!(TargetDevice::open(&same, target(Slot::B), Slot::A), Err(Error::SameDevice { .. })));
}

#[test]
#[ignore = "peers: needs root, loop devices and mke2fs"]
fn peers_p071_a_mounted_companion_of_the_target_is_refused_and_that_of_the_booted_slot_is_not() {
    let machine = Machine::new(16 << 20);
    for name in ["boot-a.img", "boot-b.img"] {
        fs::File::create(machine.path(name)).unwrap().set_len(4 << 20).unwrap();
    }
    let device = |name: &str| Loop::new(&machine.path(name));
    let (a, b) = ([device("boot-a.img"), device("a.img")], [device("boot-b.img"), device("b.img")]);
    let paths = |parts: &[Loop; 2]| parts.iter().map(|part| part.0.clone().into()).collect();
    let map = SlotMap::new(Settings { a: paths(&a), b: paths(&b), allow_files: false });
    assert_eq!(TargetDevice::open(&map, target(Slot::B), Slot::A).unwrap().size(), 20 << 20);
    assert_eq!(map.look(Slot::B)[0].found, Ok((b[0].0.clone().into(), 4 << 20)));
    let mount = machine.path("mount");
    fs::create_dir(&mount).unwrap();
    let mounted = |device: &Loop| {
        run("mke2fs", &["-q", &device.0]);
        run("mount", &[&device.0, mount.to_str().unwrap()]);
        let opened = TargetDevice::open(&map, target(Slot::B), Slot::A);
        run("umount", &[mount.to_str().unwrap()]);
        opened.map(drop)
    };
    let refused = mounted(&b[0]).unwrap_err();
    assert!(
        matches!(&refused, Error::Busy { path, by, .. } if *path == Path::new(&b[0].0) && by.contains("mounted at"))
    );
    mounted(&a[0]).unwrap();
}
