//! Tests of the whole adapter: on a regular file, and on one that fails and lies.
#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::block::{SECTOR, SIZE};
use super::*;
use crate::boot::Verdict;
use crate::model::{Failure, Image, Sha256, TargetSlot};

const FACTORY: &str = "ORDER=A B\nA_OK=1\nA_TRY=0\nB_OK=0\nB_TRY=0\n";

pub(super) fn verified(slot: Slot) -> VerifiedSlot {
    let wanted = Image { sha256: Sha256::of(b""), len: 0 };
    VerifiedSlot::attest(TargetSlot::new(slot, !slot, !slot).unwrap(), &wanted.sha256, &wanted).unwrap()
}

fn block(text: &str) -> Vec<u8> {
    let mut bytes = format!("# GRUB Environment Block\n{text}").into_bytes();
    bytes.resize(SIZE, b'#');
    bytes
}

/// A place whose cache may differ from what lasts.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lasting: Vec<u8>,
    /// After each write.
    history: Vec<Vec<u8>>,
    /// How the next writes go; empty means well.
    faults: Vec<Fault>,
    obstacles: Vec<Obstacle>,
    script: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// An error, and these sectors are new.
    Error([bool; 2]),
    /// No error, and nothing is new.
    Lie,
    /// An error that comes too late: all is new.
    TooLate,
}

impl Memory {
    pub(super) fn holding(text: &str) -> Self {
        let memory = Self::default();
        memory.0.lock().unwrap().lasting = block(text);
        memory
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().lasting.clone()
    }

    pub(super) fn writes(&self) -> usize {
        self.0.lock().unwrap().history.len()
    }

    fn fail(&self, faults: &[Fault]) {
        self.0.lock().unwrap().faults = faults.to_vec();
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap().trim_end_matches('#').split_once('\n').unwrap().1.to_owned()
    }

    pub(super) fn open(&self) -> Grub {
        Grub { place: Box::new(self.clone()), ..Grub::open(settings(Path::new("/e/grubenv"))).unwrap() }
    }
}

impl Place for Memory {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.bytes())
    }

    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let fault = (!state.faults.is_empty()).then(|| state.faults.remove(0));
        let is_new = match fault {
            None | Some(Fault::TooLate) => [true; 2],
            Some(Fault::Lie) => [false; 2],
            Some(Fault::Error(is_new)) => is_new,
        };
        let mut bytes = block.to_vec();
        if let Some(old) = state.lasting.get(..SECTOR).filter(|_| !is_new[0]).map(<[u8]>::to_vec) {
            bytes[..SECTOR].copy_from_slice(&old);
        }
        if let Some(old) = state.lasting.get(SECTOR..SIZE).filter(|_| !is_new[1]).map(<[u8]>::to_vec) {
            bytes[SECTOR..].copy_from_slice(&old);
        }
        state.lasting.clone_from(&bytes);
        state.history.push(bytes);
        match fault {
            None | Some(Fault::Lie) => Ok(()),
            Some(Fault::Error(_) | Fault::TooLate) => Err(io::Error::other("EIO")),
        }
    }

    fn obstacles(&mut self) -> Vec<Obstacle> {
        self.0.lock().unwrap().obstacles.clone()
    }

    fn script(&mut self) -> Option<String> {
        self.0.lock().unwrap().script.clone()
    }
}

fn settings(environment: &Path) -> Settings {
    let names = PerSlot { a: "A".to_owned(), b: "B".to_owned() };
    Settings { environment: environment.into(), names, tries: 3, root: "/proc".into() }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verb {
    Arm,
    Commit(Slot),
    Raise(Slot, u64),
    Revert(Slot),
}

fn do_it(loader: &mut Grub, verb: Verb) -> Result<(), Error> {
    match verb {
        Verb::Arm => loader.arm(&verified(Slot::B)),
        Verb::Commit(slot) => loader.commit(slot, None),
        Verb::Raise(slot, floor) => loader.commit(slot, Some(floor)),
        Verb::Revert(slot) => loader.revert(slot),
    }
}

const VERBS: [Verb; 7] = [
    Verb::Arm,
    Verb::Commit(Slot::A),
    Verb::Commit(Slot::B),
    Verb::Raise(Slot::A, 7),
    Verb::Raise(Slot::B, 70),
    Verb::Revert(Slot::A),
    Verb::Revert(Slot::B),
];

#[test]
fn p090_each_verb_is_one_write_of_the_first_sector() {
    let others: String = (0..20).map(|n| format!("variable_{n:02}=some value or other\n")).collect();
    let memory = Memory::holding(&format!("# WARNING\n{FACTORY}{others}"));
    let mut loader = memory.open();
    assert_eq!(loader.view().unwrap().default, Slot::A);
    assert_eq!(memory.writes(), 0, "looking writes nothing");
    loader.commit(Slot::A, None).unwrap();
    let (tidy, writes) = (memory.bytes(), memory.writes());
    assert!(
        memory.text().starts_with(&format!("# WARNING\n{FACTORY}twinboot_trial=-\ntwinboot_tries=3\nvar"))
    );
    for (index, (verb, default, trial)) in [
        (Verb::Arm, Slot::A, Some(Slot::B)),
        (Verb::Commit(Slot::B), Slot::B, None),
        (Verb::Revert(Slot::A), Slot::A, None),
    ]
    .into_iter()
    .enumerate()
    {
        do_it(&mut loader, verb).unwrap();
        let view = loader.view().unwrap();
        assert_eq!((view.default, view.trial), (default, trial));
        assert_eq!(memory.writes(), writes + index + 1);
        assert_eq!(memory.bytes()[SECTOR..], tidy[SECTOR..]);
    }
}

#[test]
fn on_a_file_it_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grubenv");
    std::fs::write(&path, block(FACTORY)).unwrap();
    let mut loader = Grub::open(settings(&path)).unwrap();
    assert_eq!(loader.view().unwrap().default, Slot::A);
    loader.commit(Slot::A, None).unwrap();
    let wanted = format!("{FACTORY}twinboot_trial=-\ntwinboot_tries=3\n");
    assert_eq!(std::fs::read(&path).unwrap(), block(&wanted));
    loader.revert(Slot::B).unwrap();
    assert_eq!(Grub::open(settings(&path)).unwrap().view().unwrap().default, Slot::B);
}

#[test]
fn what_is_in_effect_is_not_written_again() {
    let memory = Memory::holding(FACTORY);
    let mut loader = memory.open();
    loader.revert(Slot::A).unwrap();
    loader.commit(Slot::A, None).unwrap();
    assert_eq!(memory.writes(), 1);
    loader.arm(&verified(Slot::B)).unwrap();
    loader.arm(&verified(Slot::B)).unwrap();
    memory.open().arm(&verified(Slot::B)).unwrap();
    assert_eq!(memory.writes(), 2);
    loader.commit(Slot::B, None).unwrap();
    loader.commit(Slot::B, None).unwrap();
    assert_eq!(memory.writes(), 3);
}

#[test]
fn the_floor_is_one_write_with_the_commit_and_outlives_every_verb() {
    let memory = Memory::holding(FACTORY);
    let mut loader = memory.open();
    loader.commit(Slot::A, None).unwrap();
    let before = memory.writes();
    loader.commit(Slot::A, Some(0)).unwrap();
    assert_eq!((memory.writes(), loader.view().unwrap().floor), (before, None), "nothing to say");
    loader.arm(&verified(Slot::B)).unwrap();
    let before = memory.writes();
    loader.commit(Slot::B, Some(7)).unwrap();
    let view = loader.view().unwrap();
    assert_eq!((memory.writes() - before, view.default, view.floor), (1, Slot::B, Some(7)));
    loader.arm(&verified(Slot::A)).unwrap();
    loader.revert(Slot::B).unwrap();
    loader.commit(Slot::B, None).unwrap();
    assert_eq!(loader.view().unwrap().floor, Some(7));
    loader.commit(Slot::B, Some(u64::MAX)).unwrap();
    loader.commit(Slot::B, Some(3)).unwrap();
    assert_eq!(loader.view().unwrap().floor, Some(3), "with the signed permission it sinks");
}

/// The sector that decides may be full of what somebody else set: a system that proved well is kept all the same.
#[test]
fn a_block_without_room_for_the_floor_takes_the_commit() {
    let full = format!("{FACTORY}{}", "y=0123456789\n".repeat(70));
    let memory = Memory::holding(&full);
    let mut loader = memory.open();
    loader.commit(Slot::B, Some(7)).unwrap();
    let view = loader.view().unwrap();
    assert_eq!((view.default, view.floor), (Slot::B, None));
}

#[test]
fn a_floor_that_means_nothing_is_told_and_written_anew() {
    let memory = Memory::holding(&format!("{FACTORY}twinboot_floor=seven\n"));
    let mut loader = memory.open();
    let view = loader.view().unwrap();
    assert_eq!(view.floor, None);
    assert!(view.warnings[0].contains("twinboot_floor is \"seven\""), "{:?}", view.warnings);
    loader.commit(Slot::A, Some(7)).unwrap();
    assert_eq!(loader.view().unwrap().floor, Some(7));
}

#[test]
fn the_default_is_never_put_on_trial() {
    let memory = Memory::holding(FACTORY);
    let mut loader = memory.open();
    let error = loader.arm(&verified(Slot::A)).unwrap_err();
    assert_eq!(error.to_string(), "arming the trial: slot A is the default, it needs no trial");
    loader.arm(&verified(Slot::B)).unwrap();
    assert!(loader.arm(&verified(Slot::A)).is_err(), "nor while the other one is on trial");
}

/// Blocks from which a verb may begin: fresh, in a trial, fallen back, with ours last and behind the middle.
fn beginnings() -> Vec<String> {
    let trial = "ORDER=B A\nA_OK=1\nA_TRY=0\nB_OK=1\nB_TRY=2\ntwinboot_trial=b\ntwinboot_tries=3\n";
    let others: String = (0..20).map(|n| format!("variable_{n:02}=some value or other\n")).collect();
    vec![
        FACTORY.to_owned(),
        trial.to_owned(),
        format!("{trial}twinboot_floor=00000000000000000005\n"),
        format!("twinboot_floor=5\n{others}{trial}"),
        trial.replace("A_TRY=0", "A_TRY=1"),
        format!("{others}{FACTORY}"),
        format!("{}x=a longer one that moves the middle into a name\n{trial}", &others[..390]),
        format!("{others}{trial}"),
    ]
}

fn meaning_of(bytes: &[u8]) -> BootView {
    let memory = Memory::default();
    memory.0.lock().unwrap().lasting = bytes.to_vec();
    memory.open().view().unwrap()
}

#[test]
fn p096_at_every_power_cut_the_loader_sees_the_old_or_the_new() {
    let mut cuts = 0;
    for text in beginnings() {
        for verb in VERBS {
            let memory = Memory::holding(&text);
            do_it(&mut memory.open(), verb).unwrap();
            let mut last = block(&text);
            let (old, new) = (meaning_of(&last), meaning_of(&memory.bytes()));
            let seen = |view: BootView| (view.default, view.trial, view.tries_left, view.floor);
            let (old, new) = (seen(old), seen(new));
            for step in memory.0.lock().unwrap().history.clone() {
                for (one, two) in [(&last, &step), (&step, &last), (&step, &step)] {
                    let torn = [&one[..SECTOR], &two[SECTOR..]].concat();
                    let found = seen(meaning_of(&torn));
                    assert!(found == old || found == new, "{verb:?} {text}: {found:?}");
                    cuts += 1;
                    // And the verb can be done again.
                    let memory = Memory::default();
                    memory.0.lock().unwrap().lasting = torn;
                    if verb != Verb::Arm || found.0 == Slot::A {
                        do_it(&mut memory.open(), verb).unwrap();
                        assert_eq!(seen(meaning_of(&memory.bytes())), new, "{verb:?} {text}");
                    }
                }
                last = step;
            }
        }
    }
    assert!(cuts > 100, "{cuts}");
}

#[test]
fn a_write_that_fails_leaves_the_old_or_the_new_and_is_repeated() {
    let kinds = [
        Fault::Lie,
        Fault::TooLate,
        Fault::Error([false, false]),
        Fault::Error([true, false]),
        Fault::Error([false, true]),
    ];
    for text in beginnings() {
        for fault in kinds {
            for index in 0..4 {
                let memory = Memory::holding(&text);
                let faults = [vec![Fault::Error([true; 2]); 0], vec![fault, fault]].concat();
                let mut loader = memory.open();
                let old = loader.view().unwrap();
                // One failure is made good by the second attempt; two are told.
                memory.fail(&faults[..1]);
                loader.revert(Slot::B).unwrap();
                assert_eq!(loader.view().unwrap().default, Slot::B);
                let memory = Memory::holding(&text);
                let mut loader = memory.open();
                let steps = {
                    let counted = Memory::holding(&text);
                    counted.open().revert(Slot::B).unwrap();
                    counted.writes()
                };
                if index < steps {
                    fail_from(&memory, &mut loader, index, fault, &old);
                }
            }
        }
    }
}

/// Fails the write `index` of a verb for good, and looks; then does it again.
fn fail_from(memory: &Memory, loader: &mut Grub, index: usize, fault: Fault, old: &BootView) {
    // What goes well before it.
    let place = Failing { memory: memory.clone(), left: index, fault };
    loader.place = Box::new(place);
    let error = loader.revert(Slot::B).unwrap_err();
    assert!(matches!(error, Error::Unwritable(_)), "{error}");
    assert!(error.to_string().starts_with("reverting to the slot: /e/grubenv: "), "{error}");
    let seen = meaning_of(&memory.bytes());
    let is_new = (seen.default, seen.trial) == (Slot::B, None);
    assert!(is_new || (seen.default, seen.trial) == (old.default, old.trial), "{fault:?} {index}");
    loader.place = Box::new(memory.clone());
    let before = memory.writes();
    loader.revert(Slot::B).unwrap();
    assert!(memory.writes() > before, "what reads well was not proved to last");
    assert_eq!(meaning_of(&memory.bytes()).default, Slot::B);
}

/// Writes well so many times, and never again.
struct Failing {
    memory: Memory,
    left: usize,
    fault: Fault,
}

impl Place for Failing {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        self.memory.read()
    }

    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        if self.left == 0 {
            self.memory.fail(&[self.fault]);
        }
        self.left = self.left.saturating_sub(1);
        self.memory.write(block)
    }

    fn obstacles(&mut self) -> Vec<Obstacle> {
        vec![]
    }

    fn script(&mut self) -> Option<String> {
        None
    }
}

#[test]
fn p095_a_damaged_block_is_told_and_repaired_by_commit_and_revert() {
    let good = block(&format!("x=1\n{FACTORY}"));
    for bytes in [
        vec![],
        vec![0; SIZE],
        good[..700].to_vec(),
        block("x=1\nORDER=A"),
        [&good[..1000], &[0; 24]].concat(),
    ] {
        let memory = Memory::default();
        memory.0.lock().unwrap().lasting.clone_from(&bytes);
        let mut loader = memory.open();
        let error = loader.view().unwrap_err();
        assert!(error.to_string().contains("a commit or a revert writes it anew"), "{error}");
        assert_eq!(error.reason().failure, Failure::BootUnreadable);
        assert!(matches!(loader.arm(&verified(Slot::B)), Err(Error::Damaged(_))));
        assert_eq!(memory.bytes(), bytes, "nothing is tried on what cannot be read");
        loader.revert(Slot::B).unwrap();
        assert_eq!((loader.view().unwrap().default, memory.writes()), (Slot::B, 1));
        assert_eq!(memory.text().contains("x=1\n"), String::from_utf8_lossy(&bytes).contains("x=1\n"));
    }
}

#[test]
fn variables_that_mean_nothing_are_not_armed_but_can_be_repaired() {
    let memory = Memory::holding("x=1\n");
    let mut loader = memory.open();
    let wanted = "ORDER is not set; see packaging/boot/grub of twinboot for what must be there";
    assert_eq!(loader.view().unwrap_err().to_string(), wanted);
    assert_eq!(loader.arm(&verified(Slot::B)).unwrap_err().to_string(), wanted);
    assert_eq!(memory.writes(), 0);
    loader.commit(Slot::A, None).unwrap();
    assert_eq!(loader.view().unwrap().default, Slot::A);
    assert!(memory.text().ends_with("x=1\n"));
}

#[test]
fn a_missing_file_is_told_by_view_and_settings_by_open() {
    let error = Grub::open(settings(Path::new("/nowhere/grubenv"))).unwrap().view().unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/grubenv: No such file"), "{error}");
    let settings = Settings { tries: 10, ..settings(Path::new("/e")) };
    let error = Grub::open(settings).err().unwrap().to_string();
    assert!(error.contains("set [boot] tries to 1 up to 9"), "{error}");
}

#[test]
fn where_grub_cannot_count_no_trial_is_armed() {
    let memory = Memory::holding(FACTORY);
    let mut loader = memory.open();
    let obstacle = |is_certain| Obstacle { what: "GRUB cannot save".to_owned(), is_certain };
    memory.0.lock().unwrap().obstacles = vec![obstacle(false)];
    assert_eq!(loader.view().unwrap().warnings, ["GRUB cannot save"]);
    loader.arm(&verified(Slot::B)).unwrap();
    loader.revert(Slot::A).unwrap();
    memory.0.lock().unwrap().obstacles = vec![obstacle(true)];
    let error = loader.arm(&verified(Slot::B)).unwrap_err();
    assert_eq!(error.to_string(), "arming the trial: GRUB cannot save");
    assert_eq!(loader.view().unwrap().trial, None);
    loader.commit(Slot::A, None).unwrap();
}

#[test]
fn a_full_block_is_told() {
    let memory = Memory::holding(&format!("{FACTORY}x={}\n", "y".repeat(900)));
    let error = memory.open().revert(Slot::B).unwrap_err().to_string();
    assert!(error.contains("/e/grubenv: GRUB's environment block is full; remove variables"), "{error}");
    assert_eq!(memory.writes(), 0);
}

#[test]
fn the_canary_changes_nothing_else_and_waits_for_a_trial() {
    let memory = Memory::holding(&format!("{FACTORY}x=1\n"));
    let mut loader = memory.open();
    assert_eq!(loader.canary().unwrap().read().unwrap(), None);
    loader.canary().unwrap().write("0123abcd").unwrap();
    assert_eq!(memory.text(), format!("{FACTORY}twinboot_canary=0123abcd\nx=1\n"));
    let writes = memory.writes();
    loader.canary().unwrap().write("4567abcd").unwrap();
    loader.canary().unwrap().write("4567abcd").unwrap();
    assert_eq!(memory.writes(), writes + 1);
    assert_eq!(loader.canary().unwrap().read().unwrap().as_deref(), Some("4567abcd"));
    loader.arm(&verified(Slot::B)).unwrap();
    let refused = loader.canary().unwrap().write("x").unwrap_err().to_string();
    assert_eq!(refused, "writing the canary: slot B is on trial; wait until that is over");
    assert!(memory.text().contains("twinboot_canary=4567abcd\n"), "it stays");
}

#[test]
fn what_grub_would_do_is_examined() {
    let memory = Memory::holding(FACTORY);
    let verdict = |script: Option<&str>, obstacles: &[bool]| {
        let mut state = memory.0.lock().unwrap();
        state.script = script.map(str::to_owned);
        let told = obstacles.iter().map(|it| Obstacle { what: "so".to_owned(), is_certain: *it });
        state.obstacles = told.collect();
        drop(state);
        let found = memory.open().examine().unwrap();
        found.into_iter().map(|it| it.verdict).collect::<Vec<_>>()
    };
    use Verdict::{Bad, Doubtful, Good};
    let ours = include_str!("../../../packaging/boot/grub/grub.cfg");
    let raucs = "load_env ORDER\nsave_env A_TRY B_TRY\n";
    assert_eq!(verdict(Some(ours), &[]), [Good, Good, Good]);
    assert_eq!(verdict(Some(raucs), &[]), [Good, Good, Doubtful, Doubtful]);
    assert_eq!(verdict(Some("linux /vmlinuz"), &[]), [Good, Bad, Doubtful]);
    assert_eq!(verdict(None, &[true, false]), [Good, Bad, Doubtful, Doubtful]);
    memory.0.lock().unwrap().lasting.clear();
    assert!(memory.open().examine().is_err(), "what is wrong with it is told elsewhere");
}
