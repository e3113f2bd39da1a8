//! Tests of the two dialects, with each loader's script played beside them.
#![allow(clippy::unwrap_used)]

use super::*;

const TRIES: u32 = 3;

fn counter() -> Dialect {
    let values = PerSlot { a: "a".to_owned(), b: "b".to_owned() };
    Dialect::UpgradeAvailable { slot_variable: "slot".to_owned(), values }
}

fn order_dialect() -> Dialect {
    Dialect::BootOrder { names: PerSlot { a: "A".to_owned(), b: "B".to_owned() } }
}

fn env(variables: &[(&str, &str)]) -> Env {
    let mut env = Env::default();
    for (name, value) in variables {
        env.set(name, value);
    }
    env
}

fn put(env: &mut Env, decide: impl FnOnce(&Env) -> Vec<Wanted>) {
    let wanted = decide(env);
    for Wanted { name, value, .. } in &wanted {
        env.set(name, value);
    }
    assert!(wanted.iter().all(|wanted| wanted.is_in_effect(env)), "what was written is in effect");
}

fn get(env: &Env, name: &str) -> String {
    String::from_utf8(env.get(name).unwrap_or_default().to_vec()).unwrap()
}

fn factory(dialect: &Dialect) -> Env {
    match dialect {
        Dialect::UpgradeAvailable { .. } => env(&[("slot", "a")]),
        Dialect::BootOrder { .. } => {
            env(&[("BOOT_ORDER", "A B"), ("BOOT_A_LEFT", "3"), ("BOOT_B_LEFT", "3")])
        }
    }
}

/// One reset: what the loader does with the variables, and the slot it tries. `None`: it resets by itself.
fn reset(dialect: &Dialect, env: &mut Env) -> Option<Slot> {
    match dialect {
        Dialect::UpgradeAvailable { .. } => {
            // bootcount_inc(), bootcount_error(), and an altbootcmd that turns the slot over.
            if get(env, "upgrade_available") == "1" {
                let count: u32 = get(env, "bootcount").parse::<u32>().unwrap_or(0) + 1;
                env.set("bootcount", &count.to_string());
                if count > get(env, "bootlimit").parse().unwrap() {
                    let other = if get(env, "slot") == "a" { "b" } else { "a" };
                    env.set("slot", other);
                    env.set("upgrade_available", "0");
                }
            }
            Some(if get(env, "slot") == "a" { Slot::A } else { Slot::B })
        }
        Dialect::BootOrder { .. } => {
            for name in get(env, "BOOT_ORDER").split(' ') {
                let variable = format!("BOOT_{name}_LEFT");
                let left = u32::from_str_radix(&get(env, &variable), 16).unwrap();
                if left > 0 {
                    env.set(&variable, &format!("{:x}", left - 1));
                    return Some(if name == "A" { Slot::A } else { Slot::B });
                }
            }
            env.set("BOOT_A_LEFT", "3");
            env.set("BOOT_B_LEFT", "3");
            None
        }
    }
}

/// Resets until a slot that comes up is tried; how many resets, and which slot.
fn boot(dialect: &Dialect, env: &mut Env, comes_up: impl Fn(Slot) -> bool) -> Slot {
    for _ in 0..50 {
        if let Some(slot) = reset(dialect, env).filter(|slot| comes_up(*slot)) {
            return slot;
        }
    }
    panic!("a reset loop");
}

fn view(dialect: &Dialect, env: &Env) -> BootView {
    dialect.view(env, TRIES).unwrap()
}

#[test]
fn a_trial_gets_just_its_tries_and_the_default_follows() {
    for dialect in [counter(), order_dialect()] {
        for tries in [1, 2, 3, 16] {
            let mut env = factory(&dialect);
            put(&mut env, |env| dialect.armed(env, Slot::B, tries));
            let seen = dialect.view(&env, tries).unwrap();
            assert_eq!((seen.default, seen.trial, seen.tries_left), (Slot::A, Some(Slot::B), Some(tries)));
            for left in (0..tries).rev() {
                assert_eq!(boot(&dialect, &mut env, |_| true), Slot::B, "{dialect:?} {tries} {left}");
                let seen = dialect.view(&env, tries).unwrap();
                assert_eq!((seen.default, seen.trial, seen.tries_left), (Slot::A, Some(Slot::B), Some(left)));
                assert!(seen.warnings.is_empty());
            }
            assert_eq!(boot(&dialect, &mut env, |_| true), Slot::A);
            let seen = dialect.view(&env, tries).unwrap();
            assert_eq!((seen.default, seen.trial, seen.tries_left), (Slot::A, None, None));
        }
    }
}

#[test]
fn a_slot_that_never_comes_up_falls_back_in_one_go() {
    for dialect in [counter(), order_dialect()] {
        let mut env = factory(&dialect);
        put(&mut env, |env| dialect.armed(env, Slot::B, TRIES));
        assert_eq!(boot(&dialect, &mut env, |slot| slot == Slot::A), Slot::A);
        assert_eq!((view(&dialect, &env).default, view(&dialect, &env).trial), (Slot::A, None));
    }
}

#[test]
fn a_committed_slot_is_the_default_and_the_other_stays_bootable() {
    for dialect in [counter(), order_dialect()] {
        let mut env = factory(&dialect);
        put(&mut env, |env| dialect.armed(env, Slot::B, TRIES));
        boot(&dialect, &mut env, |_| true);
        put(&mut env, |env| dialect.committed(env, Slot::B, TRIES));
        assert_eq!(
            view(&dialect, &env),
            BootView { default: Slot::B, trial: None, tries_left: None, floor: None, warnings: Vec::new() }
        );
        // A second commit changes nothing.
        assert!(dialect.committed(&env, Slot::B, TRIES).iter().all(|wanted| wanted.is_in_effect(&env)));
        assert_eq!(boot(&dialect, &mut env, |_| true), Slot::B);
    }
    let mut env = factory(&order_dialect());
    put(&mut env, |env| order_dialect().armed(env, Slot::B, TRIES));
    put(&mut env, |env| order_dialect().committed(env, Slot::B, TRIES));
    assert_eq!(get(&env, "BOOT_ORDER"), "B A");
    assert_eq!(
        (get(&env, "BOOT_A_LEFT"), get(&env, "BOOT_B_LEFT"), get(&env, TRIAL)),
        ("3".into(), "3".into(), "".into())
    );
}

#[test]
fn after_a_revert_nothing_else_ever_boots() {
    for dialect in [counter(), order_dialect()] {
        for arm_first in [false, true] {
            let mut env = factory(&dialect);
            if arm_first {
                put(&mut env, |env| dialect.armed(env, Slot::B, TRIES));
                reset(&dialect, &mut env);
            }
            put(&mut env, |env| dialect.reverted(env, Slot::A, TRIES));
            assert_eq!((view(&dialect, &env).default, view(&dialect, &env).trial), (Slot::A, None));
            for _ in 0..20 {
                assert_ne!(
                    reset(&dialect, &mut env),
                    Some(Slot::B),
                    "{dialect:?}: not even after many power cuts"
                );
                assert_eq!(view(&dialect, &env).default, Slot::A);
            }
            // Nor does filling the count up again make the other slot bootable.
            put(&mut env, |env| dialect.committed(env, Slot::A, TRIES));
            for _ in 0..20 {
                assert_ne!(reset(&dialect, &mut env), Some(Slot::B));
            }
        }
    }
}

#[test]
fn committing_the_default_fills_its_count_up_and_nothing_else() {
    let dialect = order_dialect();
    let mut env = factory(&dialect);
    for _ in 0..20 {
        assert_eq!(boot(&dialect, &mut env, |_| true), Slot::A);
        put(&mut env, |env| dialect.committed(env, Slot::A, TRIES));
        assert_eq!(env, factory(&dialect));
    }
    // Without it, the third power cut hands over to the other slot, and the view says so.
    for _ in 0..3 {
        assert_eq!(view(&dialect, &env).default, Slot::A);
        assert_eq!(reset(&dialect, &mut env), Some(Slot::A));
    }
    assert_eq!(view(&dialect, &env).default, Slot::A, "the third boot of it is running");
    assert_eq!(reset(&dialect, &mut env), Some(Slot::B));
    assert_eq!(view(&dialect, &env).default, Slot::B);
}

#[test]
fn committing_after_a_fall_back_drops_the_slot_that_failed() {
    let dialect = order_dialect();
    let mut env = factory(&dialect);
    put(&mut env, |env| dialect.armed(env, Slot::B, TRIES));
    // The default is booted so often that its count is used up, too.
    for _ in 0..TRIES {
        assert_eq!(boot(&dialect, &mut env, |slot| slot == Slot::A), Slot::A);
        assert_eq!((view(&dialect, &env).default, view(&dialect, &env).trial), (Slot::A, None));
    }
    put(&mut env, |env| dialect.committed(env, Slot::A, TRIES));
    assert_eq!((get(&env, "BOOT_ORDER"), get(&env, TRIAL)), ("A".to_owned(), String::new()));
}

#[test]
fn another_tries_setting_in_the_new_system_does_not_end_its_trial() {
    let dialect = order_dialect();
    let mut env = factory(&dialect);
    put(&mut env, |env| dialect.armed(env, Slot::B, 2));
    reset(&dialect, &mut env);
    reset(&dialect, &mut env);
    let seen = dialect.view(&env, 5).unwrap();
    assert_eq!((seen.trial, seen.tries_left), (Some(Slot::B), Some(0)), "the last boot of the trial");
    reset(&dialect, &mut env);
    assert_eq!(dialect.view(&env, 1).unwrap().trial, None, "fallen back");
}

#[test]
fn golden_values() {
    let pairs = |wanted: Vec<Wanted>| -> Vec<String> {
        wanted.into_iter().map(|wanted| format!("{}={}", wanted.name, wanted.value)).collect()
    };
    let plain = counter();
    assert_eq!(
        pairs(plain.armed(&Env::default(), Slot::B, 3)),
        ["slot=b", "upgrade_available=1", "bootcount=0", "bootlimit=3"]
    );
    assert_eq!(
        pairs(plain.reverted(&Env::default(), Slot::A, 3)),
        ["slot=a", "upgrade_available=0", "bootcount=0"]
    );
    let values = PerSlot { a: "2".to_owned(), b: "11".to_owned() };
    let mender = Dialect::UpgradeAvailable { slot_variable: "mender_boot_part".to_owned(), values };
    assert_eq!(
        pairs(mender.committed(&Env::default(), Slot::B, 3)),
        ["mender_boot_part=11", "mender_boot_part_hex=b", "upgrade_available=0", "bootcount=0"]
    );
    let rauc = order_dialect();
    let with_rescue = env(&[("BOOT_ORDER", "A B R"), ("BOOT_A_LEFT", "3"), ("BOOT_B_LEFT", "3")]);
    assert_eq!(
        pairs(rauc.armed(&with_rescue, Slot::B, 16)),
        ["BOOT_ORDER=B A R", "BOOT_B_LEFT=10", "BOOT_A_LEFT=10", "twinboot_trial=b:10"]
    );
    assert_eq!(
        pairs(rauc.reverted(&with_rescue, Slot::A, 16)),
        ["BOOT_ORDER=A R", "BOOT_A_LEFT=10", "BOOT_B_LEFT=0", "twinboot_trial="]
    );
}

#[test]
fn what_the_loader_takes_for_zero_need_not_be_written() {
    let fresh = env(&[("slot", "a")]);
    assert!(counter().reverted(&fresh, Slot::A, 3).iter().all(|wanted| wanted.is_in_effect(&fresh)));
    let armed = env(&[("slot", "a"), ("upgrade_available", "1")]);
    assert!(!counter().reverted(&armed, Slot::A, 3).iter().all(|wanted| wanted.is_in_effect(&armed)));
}

#[test]
fn p113_a_trial_set_by_hand_is_a_trial() {
    let by_hand = env(&[("slot", "b"), ("upgrade_available", "1"), ("bootcount", "7")]);
    let seen = view(&counter(), &by_hand);
    assert_eq!((seen.default, seen.trial, seen.tries_left), (Slot::A, Some(Slot::B), None));
    assert_eq!(seen.warnings, ["a trial is armed and bootlimit is not set: U-Boot never falls back"]);
}

#[test]
fn another_order_set_by_hand_ends_the_trial() {
    let dialect = order_dialect();
    let mut env = factory(&dialect);
    put(&mut env, |env| dialect.armed(env, Slot::B, TRIES));
    env.set("BOOT_ORDER", "A B");
    let seen = view(&dialect, &env);
    assert_eq!((seen.default, seen.trial), (Slot::A, None));
    assert_eq!(seen.warnings, ["twinboot_trial is set, but BOOT_ORDER puts slot A first: no trial"]);
}

#[test]
fn a_trial_without_a_way_back_is_warned_of() {
    let alone = env(&[("BOOT_ORDER", "B"), ("BOOT_B_LEFT", "2"), (TRIAL, "b:3")]);
    let seen = view(&order_dialect(), &alone);
    assert_eq!(seen.trial, Some(Slot::B));
    assert_eq!(seen.warnings, ["slot B is on trial and slot A has no boots left to fall back to"]);
}

#[test]
fn values_that_mean_nothing_are_named() {
    for (dialect, variables, wanted) in [
        (counter(), vec![], "slot is not set; set it to \"a\" or \"b\""),
        (counter(), vec![("slot", "c")], "slot is \"c\", which is neither \"a\" nor \"b\""),
        (
            counter(),
            vec![("slot", "a"), ("upgrade_available", "yes")],
            "upgrade_available is \"yes\", which is no decimal",
        ),
        (
            counter(),
            vec![("slot", "a"), ("upgrade_available", "1"), ("bootcount", "-1"), ("bootlimit", "3")],
            "bootcount is \"-1\"",
        ),
        (counter(), vec![("slot", "a"), ("upgrade_available", "+1")], "upgrade_available is \"+1\""),
        (order_dialect(), vec![], "BOOT_ORDER is not set"),
        (
            order_dialect(),
            vec![("BOOT_ORDER", "R A B")],
            "BOOT_ORDER is \"R A B\", which begins with neither \"A\"",
        ),
        (order_dialect(), vec![("BOOT_ORDER", "A B"), ("BOOT_A_LEFT", "3")], "BOOT_B_LEFT is not set"),
        (
            order_dialect(),
            vec![("BOOT_ORDER", "A"), ("BOOT_A_LEFT", "0x3")],
            "BOOT_A_LEFT is \"0x3\", which is no hexadecimal number",
        ),
        (
            order_dialect(),
            vec![("BOOT_ORDER", "A"), ("BOOT_A_LEFT", "3"), (TRIAL, "B")],
            "twinboot_trial is \"B\"",
        ),
    ] {
        let error = dialect.view(&env(&variables), TRIES).unwrap_err();
        assert!(error.starts_with(wanted), "{variables:?}: {error}");
    }
    let only_a = env(&[("BOOT_ORDER", "A"), ("BOOT_A_LEFT", "3")]);
    assert_eq!(
        view(&order_dialect(), &only_a).default,
        Slot::A,
        "a slot that is out of the order needs no count"
    );
}

#[test]
fn garbage_is_repaired_by_commit_and_revert() {
    for dialect in [counter(), order_dialect()] {
        let garbage = env(&[
            ("slot", "?"),
            ("upgrade_available", "?"),
            ("BOOT_ORDER", "?"),
            ("BOOT_A_LEFT", "?"),
            ("BOOT_B_LEFT", "3"),
            (TRIAL, "?"),
        ]);
        for slot in Slot::BOTH {
            for wanted in [dialect.committed(&garbage, slot, TRIES), dialect.reverted(&garbage, slot, TRIES)]
            {
                let mut env = garbage.clone();
                put(&mut env, |_| wanted);
                assert_eq!((view(&dialect, &env).default, view(&dialect, &env).trial), (slot, None));
            }
        }
    }
}

#[test]
fn unusable_names_are_refused() {
    let counting = |variable: &str, a: &str, b: &str| {
        let values = PerSlot { a: a.to_owned(), b: b.to_owned() };
        Dialect::UpgradeAvailable { slot_variable: variable.to_owned(), values }.check(3)
    };
    assert_eq!(counting("slot", "a", "b"), Ok(()));
    assert_eq!(counting("root", "/dev/mmcblk0p2", "/dev/mmcblk0p3"), Ok(()));
    for (variable, a, b, wanted) in [
        ("", "a", "b", "\"\" cannot be the slot variable"),
        ("a=b", "a", "b", "\"a=b\" cannot be the slot variable"),
        ("bootcount", "a", "b", "\"bootcount\" cannot be the slot variable"),
        ("slot", "a", "a", "both slots have the value \"a\""),
        ("slot", "a", "", "\"\" cannot be the value of a slot"),
        ("slot", "a;reset", "b", "\"a;reset\" cannot be the value of a slot"),
        ("mender_boot_part", "a", "b", "the values of mender_boot_part are partition numbers"),
    ] {
        let error = counting(variable, a, b).unwrap_err();
        assert!(error.starts_with(wanted), "{error}");
    }
    assert!(counter().check(0).unwrap_err().starts_with("a trial needs at least one boot"));
    let names = PerSlot { a: "A B".to_owned(), b: "C".to_owned() };
    assert!(Dialect::BootOrder { names }.check(3).unwrap_err().contains("cannot be the name of a slot"));
}
