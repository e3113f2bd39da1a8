//! Tests of the meaning, with both scripts for GRUB played beside it.
#![allow(clippy::unwrap_used)]

use super::*;

/// Which script GRUB runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Script {
    /// `packaging/boot/grub/grub.cfg`.
    Ours,
    /// `contrib/grub.conf` of RAUC.
    Rauc,
}

fn meaning(tries: u32) -> Meaning {
    Meaning { names: PerSlot { a: "A".to_owned(), b: "B".to_owned() }, tries }
}

fn block(variables: &[(&str, &str)]) -> Block {
    let mut block = Block::default();
    for (name, value) in variables {
        block.set(name, value);
    }
    block
}

fn factory() -> Block {
    block(&[("ORDER", "A B"), ("A_OK", "1"), ("A_TRY", "0"), ("B_OK", "0"), ("B_TRY", "0")])
}

fn put(block: &mut Block, decide: impl FnOnce(&Block) -> Vec<Wanted>) {
    for (name, value) in decide(block) {
        block.set(&name, &value);
    }
}

fn get(block: &Block, name: &str) -> String {
    String::from_utf8(block.get(name).unwrap_or_default().to_vec()).unwrap()
}

fn slot(name: &str) -> Slot {
    if name == "A" { Slot::A } else { Slot::B }
}

/// One reset: the slots whose kernels GRUB tries to load, in turn. What it saves is saved before it loads.
fn reset(script: Script, block: &mut Block, loads: impl Fn(Slot) -> bool) -> Option<Slot> {
    let order = get(block, "ORDER");
    let [first, second] = order.split(' ').collect::<Vec<_>>()[..] else { panic!("{order}") };
    let of = |name: &str, what: &str| format!("{name}_{what}");
    match script {
        Script::Ours => {
            let trial = get(block, TRIAL).to_uppercase();
            let is_ok = |block: &Block, name: &str| get(block, &of(name, "OK")) == "1";
            let mut candidates = vec![];
            if trial == first && is_ok(block, first) && is_ok(block, second) {
                if get(block, &of(second, "TRY")) == "0" {
                    let taken: u32 = get(block, &of(first, "TRY")).parse().unwrap();
                    if taken < get(block, TRIES).parse().unwrap() {
                        block.set(&of(first, "TRY"), &(taken + 1).to_string());
                        if loads(slot(first)) {
                            return Some(slot(first));
                        }
                    }
                    block.set(&of(second, "TRY"), "1");
                }
                candidates.push(second);
            } else {
                candidates.extend([first, second].into_iter().filter(|name| is_ok(block, name)));
            }
            candidates.into_iter().map(slot).find(|slot| loads(*slot))
        }
        Script::Rauc => {
            // The menu's entry is chosen by the variables alone; one that cannot be loaded waits, and is reset.
            for name in [first, second] {
                let bootable = get(block, &of(name, "OK")) == "1" && get(block, &of(name, "TRY")) == "0";
                block.set(&of(name, "TRY"), "1");
                if bootable {
                    return loads(slot(name)).then(|| slot(name));
                }
            }
            for name in [first, second] {
                if get(block, &of(name, "OK")) == "1" {
                    block.set(&of(name, "TRY"), "0");
                }
            }
            None
        }
    }
}

/// Resets until a slot comes up.
fn boot(script: Script, block: &mut Block, comes_up: impl Fn(Slot) -> bool) -> Slot {
    let booted = (0..20).find_map(|_| reset(script, block, |_| true).filter(|slot| comes_up(*slot)));
    booted.expect("no loop of resets")
}

const SCRIPTS: [Script; 2] = [Script::Ours, Script::Rauc];

#[test]
fn a_trial_gets_just_its_boots_and_the_default_follows() {
    for (script, tries) in
        [(Script::Ours, 1), (Script::Ours, 2), (Script::Ours, 3), (Script::Ours, 9), (Script::Rauc, 1)]
    {
        let (meaning, mut block) = (meaning(tries), factory());
        put(&mut block, |block| meaning.armed(block, Slot::B));
        let seen = meaning.view(&block).unwrap();
        assert_eq!((seen.default, seen.trial, seen.tries_left), (Slot::A, Some(Slot::B), Some(tries)));
        for left in (0..tries).rev() {
            assert_eq!(boot(script, &mut block, |_| true), Slot::B, "{script:?} {tries} {left}");
            let seen = meaning.view(&block).unwrap();
            assert_eq!((seen.default, seen.trial, seen.tries_left), (Slot::A, Some(Slot::B), Some(left)));
            assert!(seen.warnings.is_empty());
        }
        for _ in 0..3 {
            assert_eq!(boot(script, &mut block, |slot| slot == Slot::A), Slot::A);
            let seen = meaning.view(&block).unwrap();
            assert_eq!((seen.default, seen.trial, seen.tries_left), (Slot::A, None, None), "{script:?}");
            put(&mut block, |block| meaning.committed(block, Slot::A));
            assert_eq!(get(&block, "B_OK"), "0", "what failed is nobody's fallback");
        }
    }
}

/// Our script does not know by itself that RAUC's gives one boot only; what is seen is true all the same.
#[test]
fn more_tries_than_raucs_script_gives_end_as_well() {
    let (meaning, mut block) = (meaning(3), factory());
    put(&mut block, |block| meaning.armed(block, Slot::B));
    assert_eq!(boot(Script::Rauc, &mut block, |_| true), Slot::B);
    assert_eq!(meaning.view(&block).unwrap().trial, Some(Slot::B));
    assert_eq!(boot(Script::Rauc, &mut block, |_| true), Slot::A);
    let seen = meaning.view(&block).unwrap();
    assert_eq!((seen.default, seen.trial), (Slot::A, None));
}

#[test]
fn a_kernel_that_cannot_be_loaded_falls_back_in_one_go() {
    let (meaning, mut block) = (meaning(3), factory());
    put(&mut block, |block| meaning.armed(block, Slot::B));
    assert_eq!(reset(Script::Ours, &mut block, |slot| slot == Slot::A), Some(Slot::A));
    let seen = meaning.view(&block).unwrap();
    assert_eq!((seen.default, seen.trial), (Slot::A, None));
    assert_eq!(reset(Script::Ours, &mut block, |_| true), Some(Slot::A), "the trial is over");
}

#[test]
fn a_committed_slot_is_the_default_and_the_other_stays_bootable() {
    for script in SCRIPTS {
        let (meaning, mut block) = (meaning(1), factory());
        put(&mut block, |block| meaning.armed(block, Slot::B));
        boot(script, &mut block, |_| true);
        put(&mut block, |block| meaning.committed(block, Slot::B));
        let wanted =
            BootView { default: Slot::B, trial: None, tries_left: None, floor: None, warnings: vec![] };
        assert_eq!(meaning.view(&block).unwrap(), wanted);
        assert_eq!(
            (get(&block, "ORDER"), get(&block, "A_OK"), get(&block, TRIAL)),
            ("B A".into(), "1".into(), "-".into())
        );
        for _ in 0..5 {
            assert_eq!(boot(script, &mut block, |_| true), Slot::B);
            assert_eq!(meaning.view(&block).unwrap(), wanted);
            put(&mut block, |block| meaning.committed(block, Slot::B));
        }
    }
}

#[test]
fn after_a_revert_nothing_else_ever_boots() {
    for script in SCRIPTS {
        for arm_first in [false, true] {
            let (meaning, mut block) = (meaning(2), factory());
            if arm_first {
                put(&mut block, |block| meaning.armed(block, Slot::B));
                reset(script, &mut block, |_| true);
            }
            put(&mut block, |block| meaning.reverted(block, Slot::A));
            for _ in 0..20 {
                assert_ne!(reset(script, &mut block, |_| true), Some(Slot::B), "{script:?}");
                assert_ne!(reset(script, &mut block, |slot| slot == Slot::B), Some(Slot::B), "{script:?}");
                let seen = meaning.view(&block).unwrap();
                assert_eq!((seen.default, seen.trial), (Slot::A, None));
            }
            put(&mut block, |block| meaning.committed(block, Slot::A));
            assert_ne!(reset(script, &mut block, |slot| slot == Slot::B), Some(Slot::B));
        }
    }
}

/// In ordinary life our script saves nothing.
#[test]
fn boots_of_the_default_change_nothing() {
    let (meaning, mut block) = (meaning(3), factory());
    put(&mut block, |block| meaning.committed(block, Slot::A));
    let before = block.clone();
    for _ in 0..50 {
        assert_eq!(reset(Script::Ours, &mut block, |_| true), Some(Slot::A));
    }
    assert_eq!(block, before);
}

/// By RAUC's script a boot of the default that nobody confirmed gives way to the other slot.
#[test]
fn a_default_that_was_passed_over_is_seen() {
    let (meaning, mut block) = (meaning(1), factory());
    put(&mut block, |block| meaning.armed(block, Slot::B));
    put(&mut block, |block| meaning.committed(block, Slot::B));
    assert_eq!(reset(Script::Rauc, &mut block, |_| true), Some(Slot::B));
    assert_eq!(meaning.view(&block).unwrap().default, Slot::B, "it runs, not confirmed yet");
    assert_eq!(reset(Script::Rauc, &mut block, |_| true), Some(Slot::A));
    assert_eq!(meaning.view(&block).unwrap().default, Slot::A);
}

#[test]
fn every_value_has_one_length() {
    let lengths = |wanted: Vec<Wanted>| -> Vec<(String, usize)> {
        wanted.into_iter().map(|(name, value)| (name, value.len())).collect()
    };
    let names = PerSlot { a: "system0".to_owned(), b: "sys1".to_owned() };
    let meaning = Meaning { names, tries: 9 };
    let known = block(&[("ORDER", "sys1 rescue system0")]);
    let wanted = lengths(meaning.armed(&known, Slot::A));
    let names = wanted.iter().map(|(name, _)| name.clone());
    assert_eq!(meaning.variables(), names.chain([FLOOR.to_owned()]).collect::<Vec<_>>());
    assert_eq!(Meaning::floor(&known, 0), None, "nothing to write");
    for floor in [1, 10, u64::MAX] {
        assert_eq!(Meaning::floor(&known, floor).unwrap().1.len(), 20);
    }
    for slot in Slot::BOTH {
        assert_eq!(lengths(meaning.armed(&known, slot)), wanted);
        assert_eq!(lengths(meaning.committed(&known, slot)), wanted);
        assert_eq!(lengths(meaning.reverted(&known, slot)), wanted);
    }
}

#[test]
fn golden_values() {
    let told = |wanted: Vec<Wanted>| -> Vec<String> {
        wanted.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    };
    let known = block(&[("ORDER", "A B R"), ("A_OK", "1"), ("A_TRY", "0"), ("B_OK", "1"), ("B_TRY", "0")]);
    assert_eq!(
        told(meaning(3).armed(&known, Slot::B)),
        ["ORDER=B A R", "A_OK=1", "A_TRY=0", "B_OK=1", "B_TRY=0", "twinboot_trial=b", "twinboot_tries=3"]
    );
    assert_eq!(
        told(meaning(3).committed(&known, Slot::A)),
        ["ORDER=A B R", "A_OK=1", "A_TRY=0", "B_OK=1", "B_TRY=0", "twinboot_trial=-", "twinboot_tries=3"]
    );
    assert_eq!(
        told(meaning(3).reverted(&known, Slot::A)),
        ["ORDER=A B R", "A_OK=1", "A_TRY=0", "B_OK=0", "B_TRY=0", "twinboot_trial=-", "twinboot_tries=3"]
    );
}

#[test]
fn a_slot_that_was_not_judged_is_no_fallback() {
    let (meaning, mut block) = (meaning(3), factory());
    put(&mut block, |block| meaning.armed(block, Slot::B));
    put(&mut block, |block| meaning.committed(block, Slot::A));
    assert_eq!((get(&block, "ORDER"), get(&block, "B_OK")), ("A B".into(), "0".into()));
}

#[test]
fn what_others_set_is_seen() {
    let seen = |order, a_ok, b_ok, trial| {
        let block = block(&[
            ("ORDER", order),
            ("A_OK", a_ok),
            ("A_TRY", "0"),
            ("B_OK", b_ok),
            ("B_TRY", "0"),
            (TRIAL, trial),
            (TRIES, "3"),
        ]);
        let view = meaning(3).view(&block).unwrap();
        (view.default, view.trial, view.warnings.join("; "))
    };
    assert_eq!(seen("A B", "0", "1", "-"), (Slot::B, None, String::new()), "rauc status mark-bad");
    let guess = "neither slot is marked as bootable: the loader has to guess";
    assert_eq!(seen("B A", "0", "0", "-"), (Slot::B, None, guess.into()));
    let other = "twinboot_trial is set, but ORDER puts slot A first: no trial";
    assert_eq!(seen("A B", "1", "1", "b"), (Slot::A, None, other.into()));
    let alone = "slot B is on trial and slot A may not boot: no way back";
    assert_eq!(seen("B A", "0", "1", "b"), (Slot::A, Some(Slot::B), alone.into()));
    let only = block(&[("ORDER", "B"), ("B_OK", "1"), ("B_TRY", "1")]);
    assert_eq!(meaning(3).view(&only).unwrap().default, Slot::B, "a slot out of the order needs no more");
}

#[test]
fn values_that_mean_nothing_are_named_and_repaired() {
    let good = [("ORDER", "A B"), ("A_OK", "1"), ("A_TRY", "0"), ("B_OK", "0"), ("B_TRY", "0")];
    for (name, value, wanted) in [
        ("ORDER", "", "ORDER is \"\", which begins with neither \"A\" nor \"B\""),
        ("ORDER", "R A B", "ORDER is \"R A B\", which begins with neither"),
        ("A_OK", "2", "A_OK is \"2\", which is no number up to 1"),
        ("A_OK", "yes", "A_OK is \"yes\""),
        ("B_TRY", "-1", "B_TRY is \"-1\", which is no number up to 9"),
        ("B_TRY", "+1", "B_TRY is \"+1\""),
        ("B_TRY", "10", "B_TRY is \"10\""),
        (TRIAL, "c", "twinboot_trial is \"c\", which is neither a slot's letter nor a dash"),
        (TRIES, "0", "twinboot_tries is \"0\", which is no number from 1 to 9"),
    ] {
        let mut bad = block(&good);
        bad.set(name, value);
        let error = meaning(3).view(&bad).unwrap_err();
        assert!(error.starts_with(wanted), "{error}");
        for slot in Slot::BOTH {
            for repair in [Meaning::committed, Meaning::reverted] {
                let mut block = bad.clone();
                put(&mut block, |block| repair(&meaning(3), block, slot));
                let seen = meaning(3).view(&block).unwrap();
                assert_eq!((seen.default, seen.trial), (slot, None));
            }
        }
    }
    for (name, _) in good {
        let mut bad = Block::default();
        good.iter().filter(|(it, _)| *it != name).for_each(|(name, value)| bad.set(name, value));
        let error = meaning(3).view(&bad).unwrap_err();
        assert!(error.starts_with(&format!("{name} is not set; see packaging/boot/grub")), "{error}");
    }
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let check = |a: &str, b: &str, tries| {
        Meaning { names: PerSlot { a: a.to_owned(), b: b.to_owned() }, tries }.check()
    };
    assert_eq!(check("A", "B", 9), Ok(()));
    for (a, b, tries, wanted) in [
        ("A", "B", 0, "GRUB's script cannot count 0 boots of a trial; set [boot] tries to 1 up to 9"),
        ("A", "B", 10, "GRUB's script cannot count 10"),
        ("A", "A", 1, "both slots have the name \"A\""),
        ("", "B", 1, "\"\" cannot be the name of a slot"),
        ("A", "B-1", 1, "\"B-1\" cannot be the name of a slot"),
        ("A", "B=", 1, "\"B=\" cannot"),
        (&"x".repeat(33), "B", 1, "\"xxx"),
    ] {
        let error = check(a, b, tries).unwrap_err();
        assert!(error.starts_with(wanted), "{error}");
    }
}

/// Nothing of ours runs then; what the script does must at least not wear out the flash, and boot whatever is put right.
#[test]
fn p111_with_no_system_left_nothing_is_written_for_ever() {
    let meaning = meaning(3);
    let mut armed = factory();
    put(&mut armed, |block| meaning.armed(block, Slot::B));
    let mut committed = armed.clone();
    put(&mut committed, |block| meaning.committed(block, Slot::B));
    for (what, mut block) in [("armed", armed), ("committed", committed), ("as made", factory())] {
        // A trial may be used up; that is its tries and a fall back.
        for _ in 0..4 {
            assert_eq!(reset(Script::Ours, &mut block, |_| false), None, "{what}");
        }
        let settled = block.clone();
        for _ in 0..100 {
            assert_eq!(reset(Script::Ours, &mut block, |_| false), None, "{what}");
        }
        assert_eq!(block, settled, "{what}");
        let home = meaning.view(&block).unwrap().default;
        assert_eq!(reset(Script::Ours, &mut block, |slot| slot == home), Some(home), "{what}");
    }
}
