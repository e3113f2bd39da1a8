//! Tests of the adapter on a simulated Raspberry Pi: its bootloader is [`firmware`], rules of its own that read the bytes
//! of the file.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::autoboot::tests::firmware;
use super::firmware::tests::{boots, fill, machine};
use super::*;
use crate::model::{Image, Sha256, TargetSlot};

const PARTITIONS: PerSlot<u32> = PerSlot { a: 2, b: 3 };

fn verified(slot: Slot) -> VerifiedSlot {
    let wanted = Image { sha256: Sha256::of(b""), len: 0 };
    VerifiedSlot::attest(TargetSlot::new(slot, !slot, !slot).unwrap(), &wanted.sha256, &wanted).unwrap()
}

fn says(default: u32, tryboot: u32) -> Vec<u8> {
    Autoboot::new(default, tryboot).encode().unwrap()
}

/// A board, and what the kernel was asked to reboot with.
struct Pi {
    root: tempfile::TempDir,
    autoboot: PathBuf,
}

impl Pi {
    fn new(bytes: &[u8]) -> Self {
        let (root, autoboot) = machine();
        fs::write(&autoboot, bytes).unwrap();
        let pi = Self { root, autoboot };
        pi.boot(None, |_| true);
        pi
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    fn loader(&self) -> Tryboot {
        let (autoboot, root) = (self.autoboot.clone(), self.root().to_owned());
        Tryboot::open(Settings { autoboot, partitions: PARTITIONS, root }).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.autoboot).unwrap()
    }

    /// Plays the bootloader. What does not come up resets, and the flag is gone by then.
    fn boot(&self, argument: Option<&str>, comes_up: impl Fn(Slot) -> bool) -> Slot {
        let mut flag = argument == Some("0 tryboot");
        for _ in 0..3 {
            let (partition, a_b) = firmware(&self.bytes(), flag).unwrap();
            // Without tryboot_a_b other files would be loaded, which are not there.
            let is_there = !flag || a_b;
            let slot = if partition == 2 { Slot::A } else { Slot::B };
            if is_there && comes_up(slot) {
                boots(self.root(), partition, flag);
                return slot;
            }
            flag = false;
        }
        panic!("bricked");
    }
}

fn view(loader: &mut Tryboot) -> (Slot, Option<Slot>) {
    let view = loader.view().unwrap();
    assert_eq!(view.warnings, Vec::<String>::new());
    (view.default, view.trial)
}

#[test]
fn p098_an_update_and_its_way_back_and_a_flag_that_is_lost() {
    use Slot::{A, B};
    let pi = Pi::new(&says(2, 2));
    let mut loader = pi.loader();
    assert_eq!((view(&mut loader), loader.reboot_argument().unwrap()), ((A, None), None));
    loader.arm(&verified(B)).unwrap();
    assert_eq!(view(&mut loader), (A, Some(B)));
    let argument = loader.reboot_argument().unwrap();
    assert_eq!(argument.as_deref(), Some("0 tryboot"));
    // Whatever reboots without the flag, or loses it on the way, is the old system's.
    assert_eq!(pi.boot(None, |_| true), A);
    assert_eq!(pi.boot(argument.as_deref(), |slot| slot == A), A);
    assert_eq!(pi.boot(argument.as_deref(), |_| true), B);
    assert_eq!(view(&mut loader), (A, Some(B)));
    assert_eq!(pi.boot(None, |_| true), A);
    assert_eq!(pi.boot(argument.as_deref(), |_| true), B);
    loader.commit(B, None).unwrap();
    assert_eq!((view(&mut loader), loader.reboot_argument().unwrap()), ((B, None), None));
    // With nothing armed, the flag is nobody's way into the other slot.
    assert_eq!((pi.boot(None, |_| true), pi.boot(argument.as_deref(), |_| true)), (B, B));
    loader.arm(&verified(A)).unwrap();
    assert_eq!(pi.boot(argument.as_deref(), |_| true), A);
    loader.revert(B).unwrap();
    assert_eq!((view(&mut loader), pi.boot(argument.as_deref(), |_| true)), ((B, None), B));
}

#[test]
fn what_is_in_effect_is_not_written_again() {
    let pi = Pi::new(&says(2, 2));
    let mut loader = pi.loader();
    let inode = || {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::metadata(&pi.autoboot).unwrap();
        (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())
    };
    let before = inode();
    loader.revert(Slot::A).unwrap();
    loader.commit(Slot::A, None).unwrap();
    assert_eq!(inode(), before);
    loader.arm(&verified(Slot::B)).unwrap();
    let armed = inode();
    assert_ne!(armed, before);
    loader.arm(&verified(Slot::B)).unwrap();
    assert_eq!(inode(), armed);
}

/// A file whose writes stop after so many bytes, as they do when the power goes.
struct Cut {
    bytes: Arc<Mutex<Vec<u8>>>,
    after: usize,
    writes: usize,
}

impl Block for Cut {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        if self.writes > 0 {
            Err(io::Error::other("the power is gone"))
        } else {
            Ok(self.bytes.lock().unwrap().clone())
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writes += 1;
        if self.writes == 1 {
            self.bytes.lock().unwrap()[..self.after].copy_from_slice(&bytes[..self.after]);
        }
        Err(io::Error::other("the power is gone"))
    }
}

/// A sector is written whole or not at all; but where one slot takes part in a change, as in all that an update does,
/// it is the old one or the new one even torn at any byte.
#[test]
fn p097_a_cut_at_any_byte_of_any_verb_leaves_the_old_or_the_new() {
    use Slot::{A, B};
    type Verb = fn(&mut Tryboot, Slot) -> Result<(), Error>;
    let verbs: [(&str, Verb); 3] = [
        ("arm", |loader, slot| loader.arm(&verified(slot))),
        ("commit", |loader, slot| loader.commit(slot, None)),
        ("revert", |loader, slot| loader.revert(slot)),
    ];
    let meaning = |bytes: &[u8]| [false, true].map(|flag| firmware(bytes, flag).unwrap());
    let mut cuts = 0;
    for before in [says(2, 2), says(2, 3), says(3, 3), says(3, 2)] {
        for (name, verb) in verbs {
            for slot in [A, B] {
                let pi = Pi::new(&before);
                if name == "arm" && pi.loader().view().unwrap().default == slot {
                    continue;
                }
                verb(&mut pi.loader(), slot).unwrap();
                let after = pi.bytes();
                let changes = before.iter().zip(&after).filter(|(old, new)| old != new).count();
                let mut seen = std::collections::BTreeSet::new();
                let points = if changes > 1 { vec![0, LEN] } else { (0..=LEN).collect() };
                for cut in points {
                    let bytes = Arc::new(Mutex::new(before.clone()));
                    let mut loader = pi.loader();
                    loader.file = Box::new(Cut { bytes: Arc::clone(&bytes), after: cut, writes: 0 });
                    let cut_short = verb(&mut loader, slot);
                    assert_eq!(cut_short.is_ok(), before == after, "{name} {slot}");
                    let found = bytes.lock().unwrap().clone();
                    let [default, flagged] = meaning(&found);
                    let whole = [meaning(&before), meaning(&after)].contains(&[default, flagged]);
                    assert!(whole, "{name} {slot}: cut after {cut} bytes");
                    cuts += 1;
                    if !seen.insert(found.clone()) {
                        continue;
                    }
                    // And the next process reads what the bootloader does.
                    fs::write(&pi.autoboot, &found).unwrap();
                    let (slot, trial) = view(&mut pi.loader());
                    assert_eq!((*PARTITIONS.of(slot), trial.is_some()), (default.0, default != flagged));
                }
            }
        }
    }
    assert_eq!(cuts, 16 * (LEN + 1) + 4 * 2);
}

#[test]
fn after_a_failure_the_next_verb_writes_in_any_case() {
    let pi = Pi::new(&says(2, 2));
    let mut loader = pi.loader();
    let bytes = Arc::new(Mutex::new(says(2, 2)));
    loader.file = Box::new(Cut { bytes: Arc::clone(&bytes), after: LEN, writes: 0 });
    let error = loader.arm(&verified(Slot::B)).unwrap_err();
    assert!(matches!(&error, Error::Unwritable(why) if why.starts_with("arming the trial: ")), "{error}");
    // It has arrived all the same, which a read alone does not prove.
    loader.file = Box::new(Cut { bytes: Arc::clone(&bytes), after: LEN, writes: 0 });
    assert!(loader.arm(&verified(Slot::B)).is_err());
    loader.file = Box::new(InPlace::new(pi.autoboot.clone(), LEN));
    fs::write(&pi.autoboot, says(2, 3)).unwrap();
    loader.arm(&verified(Slot::B)).unwrap();
    assert!(!loader.is_unproved);
}

#[test]
fn what_means_nothing_is_an_error_and_is_repaired_by_what_has_a_meaning() {
    for bytes in [vec![0; LEN], vec![0xff; LEN], vec![b'\n'; LEN], says(7, 7)] {
        let pi = Pi::new(&says(2, 2));
        fs::write(&pi.autoboot, &bytes).unwrap();
        let mut loader = pi.loader();
        let error = loader.view().unwrap_err().to_string();
        assert!(error.contains("autoboot.txt: "), "{error}");
        assert!(loader.arm(&verified(Slot::B)).is_err());
        assert!(loader.reboot_argument().is_err());
        assert_eq!(pi.bytes(), bytes);
        loader.revert(Slot::A).unwrap();
        assert_eq!((view(&mut loader), pi.bytes().len()), ((Slot::A, None), LEN));
    }
    let pi = Pi::new(&says(2, 2));
    fs::remove_file(&pi.autoboot).unwrap();
    let error = pi.loader().revert(Slot::A).unwrap_err().to_string();
    assert!(error.contains("mount the first partition"), "{error}");
    assert!(!pi.autoboot.exists());
}

#[test]
fn a_file_of_another_length_is_read_and_not_written() {
    let text = b"[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
    let pi = Pi::new(text);
    let mut loader = pi.loader();
    let found = loader.view().unwrap();
    assert_eq!((found.default, found.trial), (Slot::A, Some(Slot::B)));
    assert!(found.warnings[0].contains("64 bytes instead of 512: copy the sample"), "{:?}", found.warnings);
    let error = loader.revert(Slot::A).unwrap_err().to_string();
    assert!(error.contains("cannot be changed in one write"), "{error}");
    assert_eq!(pi.bytes(), text);
}

#[test]
fn a_trial_that_could_not_be_one_is_refused_by_name() {
    let refused = |prepare: &dyn Fn(&Pi), wanted: &str| {
        let pi = Pi::new(&says(2, 2));
        prepare(&pi);
        let error = pi.loader().arm(&verified(Slot::B)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert_eq!(pi.bytes(), says(2, 2));
    };
    refused(
        &|pi| fill(pi.root(), 3, &["CONFIG  TXT", "PIEEPROMUPD"]),
        "an EEPROM update lies in partition 3",
    );
    refused(&|pi| fill(pi.root(), 3, &[]), "has no config.txt");
    refused(
        &|pi| fs::remove_dir_all(pi.root().join("proc")).unwrap(),
        "does not say which partition it booted",
    );
    let old = |pi: &Pi| {
        let node = pi.root().join("proc/device-tree/chosen/bootloader");
        fs::write(node.join("capabilities"), 0x7b_u32.to_be_bytes()).unwrap();
    };
    refused(&old, "too old: it does not know tryboot_a_b");
    refused(&|pi| boots(pi.root(), 3, false), "booted partition 3, and slot A is in partition 2");
    let pi = Pi::new(&says(2, 2));
    assert!(pi.loader().arm(&verified(Slot::A)).unwrap_err().to_string().contains("is the default"));
    boots(pi.root(), 1, false);
    let warnings = pi.loader().view().unwrap().warnings;
    assert_eq!(warnings, ["the firmware booted from partition 1, and the slots' are 2 and 3"]);
}

#[test]
fn settings_that_cannot_be_right_are_refused() {
    for (a, b) in [(2, 2), (0, 3), (2, 0)] {
        let (autoboot, root) = ("/boot/autoboot.txt".into(), "/".into());
        let settings = Settings { autoboot, partitions: PerSlot { a, b }, root };
        assert!(Tryboot::open(settings).is_err());
    }
}

#[test]
fn what_the_doctor_is_told() {
    use crate::boot::Verdict::{self, Bad, Doubtful, Good};
    let verdicts = |pi: &Pi| -> Vec<Verdict> {
        pi.loader().examine().unwrap().iter().map(|observation| observation.verdict).collect()
    };
    let pi = Pi::new(&says(2, 2));
    assert_eq!(verdicts(&pi), [Good, Good, Good]);
    fs::remove_dir_all(pi.root().join("proc")).unwrap();
    assert_eq!(verdicts(&pi), [Good, Bad, Good]);
    fs::write(&pi.autoboot, "boot_partition=2\n").unwrap();
    assert_eq!(verdicts(&pi), [Bad, Bad, Doubtful]);
    fs::write(&pi.autoboot, "").unwrap();
    assert!(pi.loader().examine().is_err());
}
