//! The files for boards in `packaging/boot`, as an integrator copies them: each is what its loader and we understand.
//! (U-Boot's and GRUB's are booted by the lab; the Edison's are played in `src/boot/uboot/edison_tests.rs`.)

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use twinboot::boot::tryboot::autoboot::{Autoboot, LEN};
use twinboot::config::{Config, Loader};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/boot").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(shipped(name)).expect("it is shipped")
}

/// The shipped configuration with one board's beside it.
fn config(board: &str) -> Config {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let main = directory.path().join("twinboot.toml");
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/twinboot.toml");
    fs::copy(default, &main).expect("copied");
    fs::create_dir(directory.path().join("conf.d")).expect("created");
    fs::write(directory.path().join("conf.d/50-board.toml"), board).expect("written");
    Config::load(&main).expect("it is right")
}

#[test]
fn autoboot_txt_is_as_we_would_write_it_and_has_no_trial() {
    let bytes = fs::read(shipped("raspberry-pi/autoboot.txt")).expect("it is shipped");
    assert_eq!(bytes.len(), LEN);
    let file = Autoboot::parse(&bytes).expect("it has a meaning");
    assert_eq!((file.default, file.tryboot, file.a_b), (2, 2, true));
    assert_eq!(file.encode().as_deref(), Ok(bytes.as_slice()), "so the first change is of one byte");
}

#[test]
fn the_raspberry_pi_s_files_name_the_same_partitions() {
    let layout = text("raspberry-pi/layout.sfdisk");
    let id = layout.lines().find_map(|line| line.strip_prefix("label-id: 0x")).expect("the disk has an id");
    let board = text("raspberry-pi/50-board.toml");
    let boot = config(&board).boot;
    assert_eq!(boot.loader, Loader::Tryboot);
    let tryboot = boot.tryboot;
    let options = text("raspberry-pi/config.txt");
    for (slot, partition, root) in [("a", tryboot.partitions.a, 5), ("b", tryboot.partitions.b, 6)] {
        let line = format!("{slot} = [\"PARTUUID={id}-0{partition}\", \"PARTUUID={id}-0{root}\"]");
        assert!(board.contains(&line), "{line}");
        let filter = format!("[boot_partition={partition}]\ncmdline=cmdline-{slot}.txt\n[tryboot]\n");
        assert!(options.contains(&filter), "{filter}");
        assert!(options.contains(&format!("[tryboot]\ncmdline=cmdline-{slot}-trial.txt\n[all]\n")));
        let usual = text(&format!("raspberry-pi/cmdline-{slot}.txt"));
        let trial = text(&format!("raspberry-pi/cmdline-{slot}-trial.txt"));
        assert_eq!(trial, format!("{} twinboot.trial=1\n", usual.trim_end()));
        for argument in [
            format!("root=PARTUUID={id}-0{root}"),
            format!("twinboot.slot={slot}"),
            "panic=5".into(),
            "rw".into(),
        ] {
            assert!(usual.split_ascii_whitespace().any(|word| word == argument), "{argument}");
        }
    }
    let fstab = text("raspberry-pi/fstab");
    assert!(fstab.contains(&format!("PARTUUID={id}-01  /boot/autoboot ")));
    assert!(tryboot.autoboot.starts_with("/boot/autoboot"));
}

/// Both slots mount the same partition: if it is broken, neither may end in emergency mode, where nobody is.
#[test]
fn a_shared_partition_that_is_lost_does_not_keep_a_gateway_down() {
    for (name, expected) in [("raspberry-pi/fstab", 2), ("edison/README.md", 2)] {
        let text = text(name);
        let lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let options: Vec<_> = lines
            .filter(|fields| {
                fields.len() == 6 && fields[1].starts_with('/') && fields[5].parse::<u8>().is_ok()
            })
            .map(|fields| fields[3].to_owned())
            .collect();
        assert_eq!(options.len(), expected, "{name}");
        assert!(options.iter().all(|it| it.split(',').any(|option| option == "nofail")), "{options:?}");
    }
}

/// `bootcmd` runs before the script is there that has defaults for the rest. A board that has lost its environment has
/// nothing but these files.
#[test]
fn the_script_for_u_boot_is_found_by_the_default_environment_alone() {
    for name in ["uboot/upgrade-available.env", "uboot/boot-order.env"] {
        let environment = text(name);
        let variables: Vec<_> = environment.lines().filter_map(|line| line.split_once('=')).collect();
        let (_, bootcmd) = variables.iter().find(|(name, _)| *name == "bootcmd").expect("it is there");
        let used: Vec<_> = bootcmd.split("${").skip(1).filter_map(|rest| rest.split('}').next()).collect();
        assert!(used.len() > 2, "{used:?}");
        for used in used {
            // Where there is memory, U-Boot's own variables of the board say.
            let is_known = used == "scriptaddr" || variables.iter().any(|(name, _)| *name == used);
            assert!(is_known, "{name}: {used}");
        }
    }
}

#[test]
fn the_edison_s_and_systemd_boot_s_files_are_understood() {
    let edison = config(&text("edison/50-board.toml")).boot;
    assert_eq!((edison.loader, edison.tries), (Loader::Uboot, 3));
    let efi = config(&text("systemd-boot/50-board.toml")).boot;
    assert_eq!(efi.loader, Loader::SystemdBoot);
    for (slot, entry) in [("a", &efi.systemd_boot.entries.a), ("b", &efi.systemd_boot.entries.b)] {
        let options = text(&format!("systemd-boot/loader/entries/{entry}"));
        assert!(options.contains(&format!("/slot-{slot}/vmlinuz\n")));
        assert!(options.contains(&format!("root=PARTLABEL=rootfs-{slot} ")));
        // Without it a kernel that finds no init takes /bin/sh, and stays there.
        assert!(options.contains(" init=/sbin/init "), "{options}");
    }
}

/// The hook for systemd-boot, with a `mount` that puts a system there.
#[test]
fn the_new_kernel_is_copied_out_of_its_slot_and_may_be_copied_twice() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let program = |name: &str, text: &str| {
        fs::create_dir_all(path("bin")).expect("created");
        fs::write(path("bin").join(name), format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(path("bin").join(name), fs::Permissions::from_mode(0o755)).expect("changed");
    };
    // A mount that anybody else can see would stay if this was killed.
    program("unshare", "test \"$1 $2 $3\" = '--mount --propagation slave' && shift 3 && ALONE=1 exec \"$@\"");
    program(
        "mount",
        "test \"$ALONE $3\" = '1 /dev/disk/by-partlabel/rootfs-b' && cp -r \"$IMAGE\" \"$4/boot\"",
    );
    program("umount", "rm -r \"$1/boot\"");
    fs::create_dir_all(path("image")).expect("created");
    fs::create_dir_all(path("esp/slot-a")).expect("created");
    fs::write(path("esp/slot-a/vmlinuz"), "old").expect("written");
    let run = |slot: &str| {
        let output = Command::new(shipped("systemd-boot/pre-arm/10-kernel"))
            .env("PATH", format!("{}:/usr/bin:/bin", path("bin").display()))
            .env("IMAGE", path("image"))
            .env("ESP", path("esp"))
            .env("TMPDIR", directory.path())
            .env("TWINBOOT_SLOT", slot)
            .output();
        output.expect("it can be run")
    };
    assert!(!run("b").status.success(), "there is no kernel in the slot");
    // What a run left that was cut short, and what one leaves that fails, takes nobody's room.
    fs::write(path("esp/slot-b/vmlinuz.new"), "half").expect("written");
    assert!(!run("b").status.success(), "there is still none");
    assert_eq!(fs::read_dir(path("esp/slot-b")).expect("a directory").count(), 0);
    for version in ["new", "newer"] {
        fs::write(path("image/vmlinuz"), version).expect("written");
        fs::write(path("image/initrd.img"), "initrd").expect("written");
        let output = run("b");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(path("esp/slot-b/vmlinuz")).expect("copied"), version);
        assert_eq!(fs::read_to_string(path("esp/slot-b/initrd.img")).expect("copied"), "initrd");
        assert_eq!(fs::read_dir(path("esp/slot-b")).expect("a directory").count(), 2);
    }
    assert_eq!(fs::read_to_string(path("esp/slot-a/vmlinuz")).expect("there"), "old");
    assert!(!run("../a").status.success());
}

/// U-Boot's commands, for a shell. Variables are files in `env`.
const UBOOT: &str = r#"
setenv() { eval "$1=\$2"; if test -n "$2"; then printf %s "$2" > "env/$1"; else rm -f "env/$1"; fi; }
setexpr() { setenv "$1" $(($2 - $4)); }
saveenv() { rm -rf saved; cp -r env saved; }
load() { echo "$1 $2 $4" >> loaded; }
booti() { echo "$bootargs" > booted; exit 0; }
for name in env/*; do eval "${name#env/}=\$(cat "$name")"; done
"#;

/// A default that was saved would be the environment's from then on, and win over a script that was put right.
#[test]
fn the_scripts_for_u_boot_save_none_of_their_defaults() {
    for (script, more, partition, left) in [
        ("upgrade-available", "slot=b\nupgrade_available=1\ntrial_is_over=1\n", "2", ""),
        ("boot-order", "BOOT_ORDER=B A\n", "3", "2"),
        ("boot-order", "BOOT_ORDER=B A\nkernel=/own\n", "3", "2"),
        ("boot-order", "BOOT_A_LEFT=0\nBOOT_B_LEFT=0\n", "", "3"),
    ] {
        let board = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| board.path().join(name);
        fs::create_dir(path("env")).expect("created");
        let variables =
            format!("fdt_addr=0x1f00\nkernel_addr_r=0x2000\n{}{more}", text(&format!("uboot/{script}.env")));
        for (name, value) in variables.lines().filter_map(|line| line.split_once('=')) {
            fs::write(path("env").join(name), value).expect("written");
        }
        let names = |directory: &str| -> Vec<String> {
            let entries = fs::read_dir(path(directory)).expect("a directory");
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
        };
        let before = names("env");
        let line = format!("{UBOOT}{}", text(&format!("uboot/{script}.cmd")));
        let output = Command::new("/bin/sh").args(["-c", &line]).current_dir(board.path()).output();
        let output = output.expect("it can be run");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
        let own = ["BOOT_ORDER", "BOOT_A_LEFT", "BOOT_B_LEFT", "slot", "trial_argument"];
        let saved = names("saved");
        let strange: Vec<_> =
            saved.iter().filter(|name| !before.contains(name) && !own.contains(&name.as_str())).collect();
        assert_eq!(strange, [""; 0], "{script}");
        // It boots what it would have, all the same; or nothing, where no slot has a boot left.
        let kernel = if more.contains("/own") { "/own" } else { "/boot/vmlinuz" };
        let loaded = fs::read_to_string(path("loaded")).unwrap_or_default();
        let wanted =
            if partition.is_empty() { String::new() } else { format!("mmc 0:{partition} {kernel}\n") };
        assert_eq!(loaded, wanted, "{script}");
        let counted = fs::read_to_string(path("saved/BOOT_B_LEFT")).unwrap_or_default();
        assert_eq!(counted, left, "{script}");
    }
}
