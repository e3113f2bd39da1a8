//! The files for the Intel Edison, as they are shipped: the adapter with that board's layout, and `boot.env` in a shell that
//! plays U-Boot's old one. `if`, `test` and quotes mean the same to both; U-Boot's own commands are functions.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use super::copies::Copies;
use super::env::Env;
use super::tests::verified;
use super::*;
use crate::boot::{Aspect, Verdict};
use crate::model::PerSlot;

const SIZE: usize = 0x10000;

/// U-Boot's commands. Variables are files in `env`, and shell variables once they are set or run.
const COMMANDS: &str = r#"
run() { if test -f "env/$1"; then eval "$(cat "env/$1")"; else echo "$1 is not defined"; return 1; fi; }
setenv() { eval "$1=\$2"; if test -n "$2"; then printf %s "$2" > "env/$1"; else rm -f "env/$1"; fi; }
saveenv() { touch saved; rm -rf saved.env; cp -r env saved.env; }
load() { case " $bootable " in *" $2 "*) ;; *) return 1 ;; esac; }
zboot() { echo "$bootargs" > booted; exit 0; }
dfu() { echo "$*" > dfu; return 1; }
sleep() { :; }
reset() { exit 1; }
for name in env/*; do eval "${name#env/}=\$(cat \$name)"; done
"#;

/// What the board has by itself of the way to `do_boot`, and the window for recovery by DFU that it had there.
const STOCK: [(&str, &str); 8] = [
    ("bootcmd", "echo \"Target:${target_name}\"; run do_partition; run do_handle_bootargs_mode;"),
    (
        "do_handle_bootargs_mode",
        "if itest.s $bootargs_mode == \"ota\" ; then run do_ota; fi; if itest.s $bootargs_mode == \"boot\" ; then run do_boot; fi; run do_fallback;",
    ),
    ("do_ota", "fatload mmc 0:9 $ota_script_addr ota_update.scr; source $ota_script_addr; saveenv; reset"),
    ("do_fallback", "env delete -f bootargs_mode; saveenv; reset"),
    ("do_boot", "run boot_target_cmd;"),
    ("do_probe_dfu", "run do_dfu_alt_info_mmc ; dfu 0 mmc 0 $dfu_to_sec"),
    ("do_dfu_alt_info_mmc", "setenv dfu_alt_info \"rootfs part 0 8\""),
    ("dfu_to_sec", "3"),
];

struct Edison(tempfile::TempDir);

impl Edison {
    fn new() -> Self {
        let board = Self(tempfile::tempdir().unwrap());
        let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/boot/edison/boot.env");
        let mut env = Env::default();
        env.set("loadaddr", "0x100000");
        for (name, value) in STOCK {
            env.set(name, value);
        }
        // No other shell understands the modes; what asks for none runs do_boot.
        env.set("bootcmd", "run do_boot");
        for line in fs::read_to_string(packaged).unwrap().lines() {
            let (name, value) = line.split_once('=').unwrap();
            env.set(name, value);
        }
        let image = env::encode(env::Layout::Redundant, SIZE, 1, &env).unwrap();
        // The partitions are larger than the copies at their starts.
        for copy in ["mmcblk0p2", "mmcblk0p4"] {
            fs::write(board.path(copy), [image.as_slice(), &[0x5a; SIZE]].concat()).unwrap();
        }
        let lines =
            ["mmcblk0p2", "mmcblk0p4"].map(|it| format!("{} 0x0 0x10000\n", board.path(it).display()));
        fs::write(board.path("fw_env.config"), lines.concat()).unwrap();
        board
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn loader(&self, tries: u32) -> UBoot {
        let values = PerSlot { a: "a".to_owned(), b: "b".to_owned() };
        let dialect = Dialect::UpgradeAvailable { slot_variable: "slot".to_owned(), values };
        let lock_file = Some(self.path("lock"));
        UBoot::open(Settings { fw_env_config: self.path("fw_env.config"), dialect, tries, lock_file })
            .unwrap()
    }

    fn copies(&self) -> Copies {
        self.loader(1).copies
    }

    /// As by `fw_setenv`.
    fn set(&self, name: &str, value: &str) {
        let mut copies = self.copies();
        let loaded = copies.load().unwrap();
        let mut env = loaded.env.clone();
        env.set(name, value);
        copies.save(&loaded, &env).unwrap();
    }

    /// One start of U-Boot, with these slots able to boot: the kernel's arguments; `None` if it reset. What it saves, it
    /// saves as we do.
    fn start(&self, bootable: &str) -> Option<String> {
        for gone in ["booted", "saved", "dfu"] {
            let _ = fs::remove_file(self.path(gone));
        }
        let _ = fs::remove_dir_all(self.path("env"));
        fs::create_dir(self.path("env")).unwrap();
        let mut copies = self.copies();
        let mut loaded = copies.load().unwrap();
        for entry in loaded.env.entries() {
            let (name, value) = std::str::from_utf8(entry).unwrap().split_once('=').unwrap();
            fs::write(self.path("env").join(name), value).unwrap();
        }
        let script =
            format!("cd '{}'; bootable='{bootable}'\n{COMMANDS}\nrun bootcmd", self.0.path().display());
        let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said, "", "the shell has nothing to say");
        if self.path("saved").exists() {
            let mut env = Env::default();
            for entry in fs::read_dir(self.path("saved.env")).unwrap() {
                let entry = entry.unwrap();
                env.set(entry.file_name().to_str().unwrap(), &fs::read_to_string(entry.path()).unwrap());
            }
            copies.save(&loaded, &env).unwrap();
            loaded = copies.load().unwrap();
            assert_eq!(loaded.env.get("slot"), env.get("slot"));
        }
        fs::read_to_string(self.path("booted")).ok()
    }

    /// Starts until something runs: which slot, on trial or not, and after how many starts.
    fn boot(&self, bootable: &str) -> (&'static str, bool, usize) {
        for start in 1..=10 {
            if let Some(arguments) = self.start(bootable) {
                assert!(arguments.contains(" panic=5 "), "{arguments}");
                let slot = if arguments.contains("root=/dev/mmcblk0p9 ") { "b" } else { "a" };
                assert!(slot == "b" || arguments.contains("root=/dev/mmcblk0p8 "), "{arguments}");
                return (slot, arguments.contains("twinboot.trial=1"), start);
            }
        }
        panic!("bricked");
    }
}

#[test]
fn an_update_and_its_way_back_by_the_shipped_script() {
    for tries in 1..=3 {
        let board = Edison::new();
        let mut loader = board.loader(tries);
        assert_eq!(board.boot("0:8"), ("a", false, 1));
        // By this `twinboot doctor` sees that U-Boot reads what is written.
        loader.canary().unwrap().write("0123456789ab").unwrap();
        assert!(board.start("0:8").unwrap().contains(" twinboot.canary=0123456789ab "));
        loader.revert(Slot::A).unwrap();
        loader.arm(&verified(Slot::B)).unwrap();
        // Boots of a trial are counted, and there are as many as were asked for.
        for left in (0..tries).rev() {
            assert_eq!(board.boot("0:8 0:9"), ("b", true, 1));
            assert_eq!(loader.view().unwrap().tries_left, Some(left));
        }
        assert_eq!(board.boot("0:8 0:9"), ("a", false, 1));
        let view = loader.view().unwrap();
        assert_eq!((view.default, view.trial, view.warnings), (Slot::A, None, vec![]));
        // A slot without a kernel.
        loader.arm(&verified(Slot::B)).unwrap();
        assert_eq!(board.boot("0:8"), ("a", false, tries as usize + 1));
        // A good one.
        loader.arm(&verified(Slot::B)).unwrap();
        assert_eq!(board.boot("0:8 0:9"), ("b", true, 1));
        loader.commit(Slot::B, None).unwrap();
        assert_eq!([board.boot("0:8 0:9"), board.boot("0:8 0:9")], [("b", false, 1); 2]);
    }
}

/// What an ordinary boot does not change, it does not write; and the other partitions' bytes are nobody's.
#[test]
fn an_ordinary_boot_writes_nothing_and_nothing_is_written_beyond_the_copies() {
    let board = Edison::new();
    let bytes = || ["mmcblk0p2", "mmcblk0p4"].map(|copy| fs::read(board.path(copy)).unwrap());
    let before = bytes();
    board.boot("0:8");
    assert_eq!(bytes(), before);
    board.loader(2).arm(&verified(Slot::B)).unwrap();
    board.boot("0:9");
    board.loader(2).commit(Slot::B, None).unwrap();
    assert!(bytes().iter().all(|copy| copy.len() == 2 * SIZE && copy[SIZE..] == [0x5a; SIZE]));
}

/// Variables that somebody broke boot something all the same.
#[test]
fn whatever_the_variables_say_something_boots() {
    for (name, value) in
        [("slot", ""), ("slot", "c"), ("bootcount", ""), ("bootcount", "7"), ("bootlimit", "")]
    {
        let board = Edison::new();
        board.loader(3).arm(&verified(Slot::B)).unwrap();
        board.set(name, value);
        assert_eq!(board.boot("0:8").0, "a", "{name}={value}");
    }
}

/// By DFU a board is brought back that boots nothing any more: each start waits for that, as it did.
#[test]
fn each_start_can_be_used_for_recovery_as_before() {
    let board = Edison::new();
    for bootable in ["0:8", ""] {
        board.start(bootable);
        assert_eq!(fs::read_to_string(board.path("dfu")).unwrap(), "0 mmc 0 3\n", "{bootable}");
    }
    // A U-Boot of one's own may have no such variable. It says so, and goes on.
    board.set("do_probe_dfu", "");
    assert_eq!(board.boot("0:8"), ("a", false, 1));
    assert!(!board.path("dfu").exists());
}

/// The U-Boot of this board cannot count, so there is no `altbootcmd`; what does both is found by the way of the board's own
/// variables.
#[test]
fn the_doctor_finds_nothing_amiss_with_the_shipped_script() {
    let board = Edison::new();
    let [bootcmd, ..] = STOCK;
    board.set(bootcmd.0, bootcmd.1);
    let found = board.loader(3).examine().unwrap();
    for aspect in [Aspect::Restart, Aspect::Fallback, Aspect::Counter, Aspect::Copies] {
        let it = found.iter().find(|it| it.aspect == aspect).unwrap();
        assert_eq!(it.verdict, Verdict::Good, "{it:?}");
    }
    // As the board comes.
    let (name, value) = STOCK[4];
    board.set(name, value);
    let found = board.loader(3).examine().unwrap();
    let fallback = found.iter().find(|it| it.aspect == Aspect::Fallback).unwrap();
    assert_eq!(fallback.verdict, Verdict::Bad);
    assert!(fallback.what.contains("never sets slot, never sets upgrade_available"), "{}", fallback.what);
}
