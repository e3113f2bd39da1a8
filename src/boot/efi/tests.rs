//! Tests of both managers: the rules of those who read the variables are written down a second time, here.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::model::{Image, Sha256, TargetSlot};

/// Variables in memory, shared by all clones. The `n`-th change from now on fails, before or after it took effect.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    variables: BTreeMap<String, Vec<u8>>,
    changes: usize,
    cut: Option<(usize, bool)>,
    /// Changes are said to be done, and are not.
    is_deaf: bool,
}

impl Memory {
    fn change(&self, name: &str, data: Option<&[u8]>) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.changes += 1;
        if state.is_deaf {
            return Ok(());
        }
        let is_cut = state.cut.is_some_and(|(at, _)| state.changes >= at);
        let is_first = state.cut.is_some_and(|(at, _)| state.changes == at);
        if !is_cut || (is_first && state.cut.is_some_and(|(_, took_effect)| took_effect)) {
            match data {
                Some(data) => drop(state.variables.insert(name.to_owned(), data.to_vec())),
                None => drop(state.variables.remove(name)),
            }
        }
        if is_cut { Err(io::Error::other("the power is gone")) } else { Ok(()) }
    }

    fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().variables.get(name).cloned()
    }

    fn put(&self, name: &str, data: &[u8]) {
        self.0.lock().unwrap().variables.insert(name.to_owned(), data.to_vec());
    }

    fn changes(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().changes)
    }
}

impl Variables for Memory {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.get(name))
    }

    fn write(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        self.change(name, Some(data))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change(name, None)
    }
}

const S_DEFAULT: &str = "LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const S_ONCE: &str = "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const S_BOOTED: &str = "LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const F_DEFAULT: &str = "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const F_ONCE: &str = "BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const F_BOOTED: &str = "BootCurrent-8be4df61-93ca-11d2-aa0d-00e098032b8c";

fn verified(slot: Slot) -> VerifiedSlot {
    let wanted = Image { sha256: Sha256::of(b""), len: 0 };
    VerifiedSlot::attest(TargetSlot::new(slot, !slot, !slot).unwrap(), &wanted.sha256, &wanted).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    SystemdBoot,
    Firmware,
}

struct Board {
    kind: Kind,
    memory: Memory,
}

impl Board {
    /// Boots slot A by default; the firmware knows a network card besides.
    fn new(kind: Kind) -> Self {
        let board = Self { kind, memory: Memory::default() };
        match kind {
            Kind::SystemdBoot => board.memory.put(S_DEFAULT, &utf16("slot-a.conf")),
            Kind::Firmware => board.memory.put(F_DEFAULT, &numbers(&[1, 2, 7])),
        }
        board.boot(|_| true);
        board
    }

    fn loader(&self) -> Efi {
        let manager = match self.kind {
            Kind::SystemdBoot => {
                Manager::SystemdBoot(PerSlot { a: "slot-a.conf".to_owned(), b: "Slot-B.conf".to_owned() })
            }
            Kind::Firmware => Manager::Firmware(PerSlot { a: 1, b: 2 }),
        };
        let mut loader = Efi::open(Settings { manager, efivars: "/nonexistent".into() }).unwrap();
        loader.variables = Box::new(self.memory.clone());
        loader
    }

    /// What is tried, in this order, and what is noted of it.
    fn boot(&self, comes_up: impl Fn(Slot) -> bool) -> Slot {
        for _ in 0..3 {
            let mut variables = self.memory.0.lock().unwrap();
            let variables = &mut variables.variables;
            let candidates: Vec<Vec<u8>> = match self.kind {
                Kind::SystemdBoot => variables
                    .remove(S_ONCE)
                    .or_else(|| variables.get(S_DEFAULT).cloned())
                    .into_iter()
                    .collect(),
                Kind::Firmware => {
                    let order = variables.get(F_DEFAULT).cloned().unwrap_or_default();
                    variables.remove(F_ONCE).into_iter().chain(order.chunks(2).map(<[u8]>::to_vec)).collect()
                }
            };
            // A kernel that hangs or panics resets the machine; the next entry is only for one that is not there.
            for entry in candidates {
                let slot = match (self.kind, entry) {
                    (Kind::SystemdBoot, id) => {
                        let id = String::from_utf16_lossy(
                            &id.chunks(2)
                                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                                .collect::<Vec<_>>(),
                        );
                        match id.trim_end_matches('\0').to_lowercase().as_str() {
                            "slot-a.conf" => Slot::A,
                            "slot-b.conf" => Slot::B,
                            _ => continue,
                        }
                    }
                    (Kind::Firmware, number) => match number[..] {
                        [1, 0] => Slot::A,
                        [2, 0] => Slot::B,
                        _ => continue,
                    },
                };
                if !comes_up(slot) {
                    break;
                }
                let (name, data) = match self.kind {
                    Kind::SystemdBoot => (S_BOOTED, utf16(&format!("slot-{}.conf", slot.letter()))),
                    Kind::Firmware => (F_BOOTED, numbers(&[1 + slot as u16])),
                };
                variables.insert(name.to_owned(), data);
                return slot;
            }
        }
        panic!("bricked");
    }
}

fn view(loader: &mut Efi) -> (Slot, Option<Slot>) {
    let view = loader.view().unwrap();
    (view.default, view.trial)
}

#[test]
fn an_update_and_its_way_back() {
    use Slot::{A, B};
    for kind in [Kind::SystemdBoot, Kind::Firmware] {
        let board = Board::new(kind);
        let mut loader = board.loader();
        loader.commit(A, None).unwrap();
        assert_eq!((view(&mut loader), board.memory.changes()), ((A, None), 0));
        loader.arm(&verified(B)).unwrap();
        loader.arm(&verified(B)).unwrap();
        assert_eq!((view(&mut loader), board.memory.changes()), ((A, Some(B)), 1), "{kind:?}");
        assert_eq!(board.boot(|_| true), B);
        assert_eq!(view(&mut loader), (A, Some(B)));
        assert_eq!(board.boot(|_| true), A, "an interrupted trial");
        assert_eq!(view(&mut loader), (A, None));
        loader.arm(&verified(B)).unwrap();
        assert_eq!(board.boot(|slot| slot == A), A);
        loader.arm(&verified(B)).unwrap();
        board.boot(|_| true);
        board.memory.changes();
        loader.commit(B, None).unwrap();
        assert_eq!((view(&mut loader), board.memory.changes()), ((B, None), 1));
        assert_eq!([board.boot(|_| true), board.boot(|_| true)], [B, B]);
        // Undone before it was booted, and after.
        loader.arm(&verified(A)).unwrap();
        board.memory.changes();
        loader.revert(B).unwrap();
        loader.revert(B).unwrap();
        assert!(board.memory.changes() <= 2);
        assert_eq!((view(&mut loader), board.boot(|_| true)), ((B, None), B));
        loader.arm(&verified(A)).unwrap();
        assert_eq!(board.boot(|_| true), A);
        board.memory.changes();
        loader.revert(B).unwrap();
        assert_eq!(board.memory.changes(), 0, "the next boot is the default's anyway");
        assert_eq!(board.boot(|_| true), B);
    }
}

#[test]
fn the_boot_order_keeps_what_is_not_ours() {
    let manager = Manager::Firmware(PerSlot { a: 1, b: 2 });
    for (order, slot, alone, wanted) in [
        (&[1, 2, 7][..], Slot::A, false, &[1, 2, 7][..]),
        (&[1, 2, 7], Slot::B, false, &[2, 1, 7]),
        (&[1, 2, 7], Slot::A, true, &[1, 7]),
        (&[7, 1, 9, 2], Slot::B, false, &[7, 2, 1, 9]),
        (&[7, 1, 9], Slot::A, false, &[7, 1, 9]),
        (&[7, 1, 9], Slot::B, true, &[7, 2, 9]),
        (&[7, 9], Slot::B, false, &[2, 7, 9]),
        (&[], Slot::A, true, &[1]),
        (&[2, 2, 1, 1], Slot::A, true, &[1]),
    ] {
        assert_eq!(manager.order(&numbers(order), slot, alone), numbers(wanted), "{order:?} {slot} {alone}");
    }
    assert_eq!(manager.order(&[1, 0, 2], Slot::A, true), numbers(&[1]), "cut short");
}

/// The power goes before or after any change of any verb, from any state: what boots is one of the two systems, and the
/// verb can be repeated.
#[test]
fn a_cut_at_any_change_leaves_the_old_or_the_new_or_no_trial() {
    use Slot::{A, B};
    type Verb = fn(&mut Efi, Slot) -> Result<(), Error>;
    let verbs: [(&str, Verb); 3] = [
        ("arm", |loader, slot| loader.arm(&verified(slot))),
        ("commit", |loader, slot| loader.commit(slot, None)),
        ("revert", |loader, slot| loader.revert(slot)),
    ];
    let (mut cuts, mut twofold) = (0, 0);
    for kind in [Kind::SystemdBoot, Kind::Firmware] {
        for (name, verb) in verbs {
            for (slot, default, armed, booted) in (0..16).map(|bits| {
                let bit = |n: u32| if bits >> n & 1 == 1 { B } else { A };
                (bit(0), bit(1), bit(2) == B, bit(3))
            }) {
                for (change, took_effect) in [(1, false), (1, true), (2, false), (2, true)] {
                    let board = Board::new(kind);
                    let mut loader = board.loader();
                    loader.commit(default, None).unwrap();
                    if booted != default {
                        loader.arm(&verified(booted)).unwrap();
                        board.boot(|_| true);
                    }
                    if armed {
                        loader.arm(&verified(!default)).unwrap();
                    }
                    if name == "arm" && slot == default {
                        assert!(loader.arm(&verified(slot)).is_err());
                        continue;
                    }
                    let before = view(&mut loader);
                    board.memory.0.lock().unwrap().changes = 0;
                    board.memory.0.lock().unwrap().cut = Some((change, took_effect));
                    let done = verb(&mut loader, slot);
                    let reached = board.memory.changes() >= change;
                    assert_eq!(done.is_err(), reached, "{kind:?} {name} {slot}");
                    cuts += usize::from(reached);
                    twofold += usize::from(reached && change == 2);
                    board.memory.0.lock().unwrap().cut = None;
                    let found = view(&mut board.loader());
                    let between = if booted == default { None } else { Some(booted) };
                    let mut fine = vec![before, (default, between)];
                    // The same process tries again, and writes whatever it reads.
                    verb(&mut loader, slot).unwrap();
                    fine.push(view(&mut loader));
                    assert!(fine.contains(&found), "{kind:?} {name} {slot}: {found:?} of {fine:?}");
                    board.boot(|_| true);
                }
            }
        }
    }
    assert!(cuts >= 60 && twofold > 0, "{cuts} {twofold}");
}

#[test]
fn a_change_that_the_firmware_only_pretends_is_noticed() {
    for kind in [Kind::SystemdBoot, Kind::Firmware] {
        let board = Board::new(kind);
        let mut loader = board.loader();
        board.memory.0.lock().unwrap().is_deaf = true;
        for done in [loader.arm(&verified(Slot::B)), loader.commit(Slot::B, None)] {
            assert!(matches!(done, Err(Error::Unwritable(_))), "{kind:?}: {done:?}");
        }
    }
}

#[test]
fn what_means_nothing_is_an_error_with_the_remedy_and_is_repaired() {
    for (kind, name, data, wanted) in [
        (Kind::SystemdBoot, S_DEFAULT, Some(utf16("@saved")), "\"@saved\", which is no slot's; run bootctl"),
        (Kind::SystemdBoot, S_DEFAULT, Some(vec![0xff]), "which is no slot's"),
        (Kind::SystemdBoot, S_DEFAULT, None, "is not set, so systemd-boot chooses by itself"),
        (Kind::Firmware, F_DEFAULT, Some(numbers(&[7, 9])), "run efibootmgr --bootorder 0001"),
        (Kind::Firmware, F_DEFAULT, None, "is not set"),
    ] {
        let board = Board::new(kind);
        board.memory.0.lock().unwrap().variables.remove(name);
        data.iter().for_each(|data| board.memory.put(name, data));
        let mut loader = board.loader();
        let error = loader.view().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert!(loader.arm(&verified(Slot::B)).is_err());
        assert_eq!(board.memory.changes(), 0);
        loader.revert(Slot::B).unwrap();
        assert_eq!(view(&mut loader).0, Slot::B);
    }
}

/// Somebody wants to see another system once: that is not ours to take back.
#[test]
fn what_others_asked_for_once_is_left_alone() {
    let board = Board::new(Kind::SystemdBoot);
    board.memory.put(S_ONCE, &utf16("memtest.conf"));
    board.loader().commit(Slot::A, None).unwrap();
    assert_eq!((view(&mut board.loader()), board.memory.changes()), ((Slot::A, None), 0));
    let manager = Manager::Firmware(PerSlot { a: 3, b: 3 });
    assert!(Efi::open(Settings { manager, efivars: "/nonexistent".into() }).is_err());
}

#[test]
fn a_variable_is_a_file_with_its_attributes_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut variables = EfiVars::new(directory.path().to_owned());
    assert_eq!(variables.read("X-1").unwrap(), None);
    for data in [&b"long"[..], b"s", b"longer than before"] {
        variables.write("X-1", data).unwrap();
        assert_eq!(std::fs::read(directory.path().join("X-1")).unwrap(), [b"\x07\0\0\0", data].concat());
        assert_eq!(variables.read("X-1").unwrap().as_deref(), Some(data));
    }
    variables.remove("X-1").unwrap();
    variables.remove("X-1").unwrap();
    assert_eq!(variables.read("X-1").unwrap(), None);
    std::fs::write(directory.path().join("X-1"), "abc").unwrap();
    assert!(variables.read("X-1").is_err());
    let mut nowhere = EfiVars::new(directory.path().join("efivars"));
    assert!(nowhere.read("X-1").is_err(), "not mounted is not the same as not set");
}

/// efibootmgr on plain files, which it takes when it is told where they are.
#[test]
#[ignore = "peers: needs efibootmgr"]
fn peers_efibootmgr_and_we_read_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, data: &[u8]| {
        let path = directory.path().join(format!("{name}-{GLOBAL}"));
        std::fs::write(path, [&7_u32.to_le_bytes(), data].concat()).unwrap();
    };
    for (name, label) in [("Boot0001", "slot-a"), ("Boot0002", "slot-b"), ("Boot0007", "network")] {
        // An active entry with nothing but the end of a device path.
        let option = [&[1, 0, 0, 0, 4, 0], utf16(label).as_slice(), &[0x7f, 0xff, 4, 0]].concat();
        put(name, &option);
    }
    put("BootOrder", &numbers(&[7, 1, 2]));
    put("BootCurrent", &numbers(&[1]));
    let tool = |arguments: &[&str]| {
        let mut command = std::process::Command::new("efibootmgr");
        command.env("EFIVARFS_PATH", format!("{}/", directory.path().display())).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        ["BootNext: ", "BootOrder: "].map(|head| {
            text.lines().find_map(|line| line.strip_prefix(head)).map(str::to_owned).unwrap_or_default()
        })
    };
    let manager = Manager::Firmware(PerSlot { a: 1, b: 2 });
    let mut loader = Efi::open(Settings { manager, efivars: directory.path().to_owned() }).unwrap();
    assert_eq!((view(&mut loader), tool(&[])), ((Slot::A, None), ["".into(), "0007,0001,0002".to_owned()]));
    loader.arm(&verified(Slot::B)).unwrap();
    assert_eq!(tool(&[]), ["0002", "0007,0001,0002"]);
    loader.revert(Slot::A).unwrap();
    assert_eq!(tool(&[]), ["", "0007,0001"]);
    loader.commit(Slot::B, None).unwrap();
    assert_eq!(tool(&[]), ["", "0007,0002,0001"]);
    // What it writes, we read.
    tool(&["--bootnext", "0001"]);
    assert_eq!(loader.view().unwrap().trial, Some(Slot::A));
    tool(&["--delete-bootnext"]);
    tool(&["--bootorder", "0001,0002,0007"]);
    assert_eq!(view(&mut loader), (Slot::A, None));
}

#[test]
fn what_was_booted_by_something_else_is_seen() {
    use crate::boot::Verdict::{Bad, Good};
    for (kind, booted) in [(Kind::SystemdBoot, S_BOOTED), (Kind::Firmware, F_BOOTED)] {
        let board = Board::new(kind);
        let verdict = |board: &Board| board.loader().examine().unwrap()[0].verdict;
        let before = board.memory.changes();
        assert_eq!(verdict(&board), Good);
        board.memory.put(booted, b"\x09\x00");
        assert_eq!(verdict(&board), Bad);
        assert_eq!(board.memory.changes(), before, "looking writes nothing");
    }
}
