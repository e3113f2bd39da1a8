//! Tests of the whole adapter on regular files.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::env::{Env, Layout, decode, encode};
use super::*;
use crate::model::{Failure, Image, PerSlot, Sha256, TargetSlot};

pub(super) const SIZE: usize = 0x2000;

pub(super) fn verified(slot: Slot) -> VerifiedSlot {
    let wanted = Image { sha256: Sha256::of(b""), len: 0 };
    VerifiedSlot::attest(TargetSlot::new(slot, !slot, !slot).unwrap(), &wanted.sha256, &wanted).unwrap()
}

/// A directory with a redundant environment in one file, and the configuration for it.
pub(super) struct Board(tempfile::TempDir);

impl Board {
    pub(super) fn new() -> Self {
        let board = Self(tempfile::tempdir().unwrap());
        let mut env = Env::default();
        for (name, value) in [("arch", "arm"), ("slot", "a"), ("bootcmd", "run by_slot"), ("zeal", "1")] {
            env.set(name, value);
        }
        let first = encode(Layout::Redundant, SIZE, 4, &env).unwrap();
        let second = encode(Layout::Redundant, SIZE, 3, &env).unwrap();
        std::fs::write(board.path("env"), [first, second].concat()).unwrap();
        let path = board.path("env");
        board.configure(&format!("{0} 0 {SIZE:#x}\n{0} {SIZE:#x} {SIZE:#x}\n", path.display()));
        board
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn configure(&self, text: &str) {
        std::fs::write(self.path("fw_env.config"), text).unwrap();
    }

    pub(super) fn settings(&self) -> Settings {
        let values = PerSlot { a: "a".to_owned(), b: "b".to_owned() };
        Settings {
            fw_env_config: self.path("fw_env.config"),
            dialect: Dialect::UpgradeAvailable { slot_variable: "slot".to_owned(), values },
            tries: 3,
            lock_file: Some(self.path("lock")),
        }
    }

    pub(super) fn open(&self) -> UBoot {
        UBoot::open(self.settings()).unwrap()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path("env")).unwrap()
    }

    pub(super) fn flags(&self) -> [u8; 2] {
        [self.bytes()[4], self.bytes()[SIZE + 4]]
    }

    pub(super) fn damage(&self, at: usize) {
        let mut bytes = self.bytes();
        bytes[at] ^= 1;
        std::fs::write(self.path("env"), bytes).unwrap();
    }
}

#[test]
fn p090_each_verb_is_one_write_of_the_other_copy() {
    let board = Board::new();
    let mut loader = board.open();
    let before = board.bytes();
    assert_eq!(loader.view().unwrap().default, Slot::A);
    assert_eq!(board.bytes(), before, "looking writes nothing");

    loader.arm(&verified(Slot::B)).unwrap();
    assert_eq!(board.flags(), [4, 5]);
    assert_eq!(board.bytes()[..SIZE], before[..SIZE]);
    let armed = decode(Layout::Redundant, &board.bytes()[SIZE..]).unwrap().env;
    let entries: Vec<_> = armed.entries().map(|entry| std::str::from_utf8(entry).unwrap()).collect();
    let wanted = "arch=arm slot=b bootcmd=run_by_slot zeal=1 upgrade_available=1 bootcount=0 bootlimit=3";
    assert_eq!(entries.join(" ").replace("run by", "run_by"), wanted, "order and strangers kept");
    assert_eq!(loader.view().unwrap().trial, Some(Slot::B));

    loader.commit(Slot::B, None).unwrap();
    assert_eq!(board.flags(), [6, 5]);
    loader.revert(Slot::A).unwrap();
    assert_eq!(board.flags(), [6, 7]);
    assert_eq!(loader.view().unwrap().default, Slot::A);
}

#[test]
fn what_is_in_effect_is_not_written_again() {
    let board = Board::new();
    let mut loader = board.open();
    loader.revert(Slot::A).unwrap();
    loader.commit(Slot::A, None).unwrap();
    assert_eq!(board.flags(), [4, 3], "it was so from the start");
    loader.arm(&verified(Slot::B)).unwrap();
    loader.arm(&verified(Slot::B)).unwrap();
    board.open().arm(&verified(Slot::B)).unwrap();
    assert_eq!(board.flags(), [4, 5]);
    loader.commit(Slot::B, None).unwrap();
    loader.commit(Slot::B, None).unwrap();
    assert_eq!(board.flags(), [6, 5]);
}

#[test]
fn a_used_trial_is_armed_anew() {
    let board = Board::new();
    let mut loader = board.open();
    loader.arm(&verified(Slot::B)).unwrap();
    let mut env = decode(Layout::Redundant, &board.bytes()[SIZE..]).unwrap().env;
    env.set("bootcount", "2");
    let mut bytes = board.bytes();
    bytes[SIZE..].copy_from_slice(&encode(Layout::Redundant, SIZE, 5, &env).unwrap());
    std::fs::write(board.path("env"), bytes).unwrap();
    assert_eq!(loader.view().unwrap().tries_left, Some(1));
    loader.arm(&verified(Slot::B)).unwrap();
    assert_eq!(loader.view().unwrap().tries_left, Some(3));
}

#[test]
fn the_floor_is_one_write_with_the_commit_and_outlives_every_verb() {
    let board = Board::new();
    let mut loader = board.open();
    loader.commit(Slot::A, Some(0)).unwrap();
    assert_eq!((board.flags(), loader.view().unwrap().floor), ([4, 3], None), "nothing to say");
    loader.arm(&verified(Slot::B)).unwrap();
    assert_eq!(board.flags(), [4, 5]);
    loader.commit(Slot::B, Some(7)).unwrap();
    let view = loader.view().unwrap();
    assert_eq!((board.flags(), view.default, view.floor), ([6, 5], Slot::B, Some(7)));
    loader.arm(&verified(Slot::A)).unwrap();
    loader.revert(Slot::B).unwrap();
    loader.commit(Slot::B, None).unwrap();
    assert_eq!(loader.view().unwrap().floor, Some(7));
    loader.commit(Slot::B, Some(u64::MAX)).unwrap();
    loader.commit(Slot::B, Some(3)).unwrap();
    assert_eq!(loader.view().unwrap().floor, Some(3), "with the signed permission it sinks");
}

/// Whoever lists what may be written did not know of the floor; and a full environment takes no more variables.
#[test]
fn a_board_without_a_place_for_the_floor_takes_the_commit() {
    let board = Board::new();
    let path = board.path("env");
    let list =
        ["slot:sw", "upgrade_available:dw", "bootcount:dw", "bootlimit:dw"].map(|it| format!("    - {it}\n"));
    board.configure(&format!(
        "u:\n  size: {SIZE}\n  devices:\n    - path: {0}\n    - path: {0}\n      offset: {SIZE}\n  writelist:\n{1}",
        path.display(),
        list.concat()
    ));
    let mut loader = board.open();
    loader.commit(Slot::B, Some(7)).unwrap();
    let view = loader.view().unwrap();
    assert_eq!((view.default, view.floor), (Slot::B, None));

    let board = Board::new();
    let mut env = Env::from_data(b"slot=a\0bootcount=0\0upgrade_available=0\0\0");
    env.set("x", &"y".repeat(SIZE - 64));
    let image = encode(Layout::Redundant, SIZE, 9, &env).unwrap();
    std::fs::write(board.path("env"), [image.clone(), image].concat()).unwrap();
    let mut loader = board.open();
    loader.commit(Slot::B, Some(u64::MAX)).unwrap();
    let view = loader.view().unwrap();
    assert_eq!((view.default, view.floor), (Slot::B, None));
}

#[test]
fn the_default_is_never_put_on_trial() {
    let board = Board::new();
    let mut loader = board.open();
    let error = loader.arm(&verified(Slot::A)).unwrap_err();
    assert_eq!(error.to_string(), "arming the trial: slot A is the default, it needs no trial");
    loader.arm(&verified(Slot::B)).unwrap();
    assert!(loader.arm(&verified(Slot::A)).is_err(), "nor while the other one is on trial");
    assert_eq!(board.flags(), [4, 5]);
}

#[test]
fn p091_one_bad_copy_is_reported_and_healed() {
    for (at, healed) in [(100, [4, 3]), (SIZE + 100, [4, 5])] {
        let board = Board::new();
        board.damage(at);
        let mut loader = board.open();
        let warnings = loader.view().unwrap().warnings;
        assert!(warnings[0].starts_with("a copy of the U-Boot environment is lost: "), "{warnings:?}");
        loader.arm(&verified(Slot::B)).unwrap();
        assert_eq!(board.flags(), healed);
        assert_eq!(loader.view().unwrap().warnings, [""; 0]);
        assert_eq!(loader.view().unwrap().trial, Some(Slot::B));
    }
}

#[test]
fn p092_two_bad_copies_are_never_replaced_by_defaults() {
    let board = Board::new();
    board.damage(100);
    board.damage(SIZE + 100);
    let before = board.bytes();
    let mut loader = board.open();
    let view_error = loader.view().unwrap_err();
    assert!(view_error.to_string().starts_with("no U-Boot environment"), "{view_error}");
    assert_eq!(view_error.reason().failure, Failure::BootUnreadable);
    for outcome in [loader.arm(&verified(Slot::B)), loader.commit(Slot::B, None), loader.revert(Slot::A)] {
        assert!(matches!(outcome, Err(Error::Unreadable(_))));
    }
    assert_eq!(board.bytes(), before);
}

#[test]
fn variables_that_mean_nothing_are_not_armed_but_can_be_repaired() {
    let board = Board::new();
    let image = encode(Layout::Redundant, SIZE, 4, &Env::from_data(b"slot=third\0\0")).unwrap();
    std::fs::write(board.path("env"), [image.clone(), image].concat()).unwrap();
    let before = board.bytes();
    let mut loader = board.open();
    let wanted = "slot is \"third\", which is neither \"a\" nor \"b\"";
    assert_eq!(loader.view().unwrap_err().to_string(), wanted);
    assert_eq!(loader.arm(&verified(Slot::B)).unwrap_err().to_string(), wanted);
    assert_eq!(board.bytes(), before);
    loader.revert(Slot::A).unwrap();
    assert_eq!(loader.view().unwrap().default, Slot::A);
}

#[test]
fn p093_a_missing_device_is_told_by_view_and_not_by_open() {
    let board = Board::new();
    std::fs::remove_file(board.path("env")).unwrap();
    let error = board.open().view().unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
    assert!(!board.path("env").exists());
}

#[test]
fn p093_a_configuration_that_cannot_be_right_is_told_by_open() {
    let board = Board::new();
    let error = |settings| UBoot::open(settings).err().unwrap().to_string();
    let missing = Settings { fw_env_config: "/nowhere".into(), ..board.settings() };
    assert!(error(missing).starts_with("reading /nowhere: No such file"));
    board.configure("/dev/mmcblk0 0x1000\n");
    assert!(error(board.settings()).contains("fw_env.config:1: the size is missing"));
    board.configure("/dev/mmcblk0 0x1000 0x1000");
    assert!(error(Settings { tries: 0, ..board.settings() }).contains("at least one boot"));
    let yaml =
        "u:\n  size: 0x1000\n  devices:\n    - path: /e\n  writelist:\n    - slot:sw\n    - bootcount:dw\n";
    board.configure(yaml);
    assert!(error(board.settings()).ends_with("writelist does not name upgrade_available; add it"));
}

#[test]
fn p094_a_lock_that_is_held_stops_writing_and_not_looking() {
    let board = Board::new();
    let mut loader = board.open();
    loader.patience = Duration::from_millis(30);
    let held = lock::acquire(&board.path("lock"), Duration::ZERO).unwrap();
    let error = loader.revert(Slot::B).unwrap_err();
    assert!(matches!(error, Error::Unwritable(_)), "{error}");
    assert!(error.to_string().starts_with("reverting to the slot: another program holds "), "{error}");
    let view = loader.view().unwrap();
    assert_eq!((view.default, view.warnings.len()), (Slot::A, 1));
    drop(held);
    // A program that another test is just starting has our files for a moment, until it becomes that program.
    loader.patience = Duration::from_secs(60);
    loader.revert(Slot::B).unwrap();
    assert_eq!(loader.view().unwrap().default, Slot::B);
}

#[test]
fn the_lock_file_of_the_configuration_is_used() {
    let board = Board::new();
    let (env, lock) = (board.path("env"), board.path("other-lock"));
    board.configure(&format!(
        "u:\n  size: {SIZE}\n  lockfile: {}\n  devices:\n    - path: {2}\n    - path: {2}\n      offset: {1}\n",
        lock.display(),
        SIZE,
        env.display()
    ));
    let mut loader = UBoot::open(Settings { lock_file: None, ..board.settings() }).unwrap();
    assert_eq!(loader.view().unwrap().default, Slot::A);
    assert!(lock.exists());
    let classic = Board::new();
    let loader = UBoot::open(Settings { lock_file: None, ..classic.settings() }).unwrap();
    assert_eq!(loader.lock_file, Path::new("/var/lock/fw_printenv.lock"));
}

#[test]
fn a_value_without_a_name_is_told_and_healed() {
    let board = Board::new();
    let env = Env::from_data(b"slot=a\0=odd\0\0");
    let image = encode(Layout::Redundant, SIZE, 9, &env).unwrap();
    std::fs::write(board.path("env"), [image.clone(), image].concat()).unwrap();
    let mut loader = board.open();
    assert!(loader.view().unwrap().warnings[0].starts_with("a U-Boot variable has no name"));
    loader.revert(Slot::B).unwrap();
    assert_eq!(loader.view().unwrap().warnings, [""; 0]);
}

#[test]
fn an_environment_that_u_boot_could_not_save_is_not_armed() {
    let board = Board::new();
    let mut env = Env::from_data(b"slot=a\0\0");
    for index in 0..700 {
        env.set(&format!("v{index:04}"), "12345");
    }
    let image = encode(Layout::Redundant, SIZE + 1000, 9, &env).unwrap();
    let path = board.path("env");
    std::fs::write(&path, [image.clone(), image.clone()].concat()).unwrap();
    let size = image.len();
    board.configure(&format!("{0} 0 {size:#x}\n{0} {size:#x} {size:#x}\n", path.display()));
    let mut loader = board.open();
    let error = loader.arm(&verified(Slot::B)).unwrap_err();
    assert!(error.to_string().contains("so full that U-Boot could not save its boot counter"), "{error}");
    loader.revert(Slot::B).unwrap();
}

/// Opens, fails once, and then looks as if it had worked: what a page cache does after a failed write.
struct Liar {
    bytes: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    writes: std::sync::Arc<std::sync::Mutex<usize>>,
    failures: usize,
}

impl Medium for Liar {
    fn scheme(&mut self) -> std::io::Result<env::Scheme> {
        Ok(env::Scheme::Incremental)
    }

    fn read(&mut self) -> std::io::Result<Vec<u8>> {
        Ok(self.bytes.lock().unwrap().clone())
    }

    fn write(&mut self, image: &[u8]) -> std::io::Result<()> {
        *self.writes.lock().unwrap() += 1;
        *self.bytes.lock().unwrap() = image.to_vec();
        if self.failures > 0 {
            self.failures -= 1;
            return Err(std::io::Error::other("EIO"));
        }
        Ok(())
    }

    fn clear_flag(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn p094_after_a_failed_write_what_is_read_back_proves_nothing() {
    let board = Board::new();
    let mut loader = board.open();
    let writes = std::sync::Arc::default();
    let media = [0, 1].map(|index| {
        let bytes = board.bytes()[index * SIZE..(index + 1) * SIZE].to_vec();
        let liar = Liar {
            bytes: std::sync::Arc::new(std::sync::Mutex::new(bytes)),
            writes: std::sync::Arc::clone(&writes),
            failures: if index == 1 { 2 } else { 0 },
        };
        (Box::new(liar) as Box<dyn Medium>, format!("f:{}: /e", index + 1))
    });
    loader.copies = Copies::new(media.into(), SIZE);
    let error = loader.arm(&verified(Slot::B)).unwrap_err();
    assert_eq!(error.to_string(), "arming the trial: writing f:2: /e: EIO");
    assert_eq!(*writes.lock().unwrap(), 2);
    // It reads as if it were in effect. It is written again all the same.
    assert_eq!(loader.view().unwrap().trial, Some(Slot::B));
    loader.arm(&verified(Slot::B)).unwrap();
    assert_eq!(*writes.lock().unwrap(), 3);
    loader.arm(&verified(Slot::B)).unwrap();
    assert_eq!(*writes.lock().unwrap(), 3, "proved by now");
}
