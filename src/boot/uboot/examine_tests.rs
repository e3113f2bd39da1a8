//! Environments of boards as they are found, and what is to be said of each.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::boot::Verdict;
use crate::model::PerSlot;

fn env(variables: &[(&str, &str)]) -> Env {
    let mut env = Env::default();
    for (name, value) in variables {
        env.set(name, value);
    }
    env
}

fn counted() -> Dialect {
    let values = PerSlot { a: "a".to_owned(), b: "b".to_owned() };
    Dialect::UpgradeAvailable { slot_variable: "slot".to_owned(), values }
}

fn ordered() -> Dialect {
    Dialect::BootOrder { names: PerSlot { a: "A".to_owned(), b: "B".to_owned() } }
}

fn verdict(variables: &[(&str, &str)], dialect: &Dialect, aspect: Aspect) -> Option<Verdict> {
    let found = scripts(&env(variables), dialect);
    let found = found.iter().find(|it| it.aspect == aspect)?;
    assert_eq!(found.verdict == Verdict::Good, found.remedy.is_empty(), "{found:?}");
    Some(found.verdict)
}

/// Scripts as boards have them, the ways in which they differ among them.
const GOOD: [&[(&str, &str)]; 4] = [
    &[
        ("bootcmd", "run boot_slot; sleep 1; reset"),
        (
            "altbootcmd",
            "if test \"${slot}\" = a; then setenv slot b; else setenv slot a; fi; setenv upgrade_available 0; setenv bootcount 0; saveenv; run bootcmd",
        ),
        ("bootlimit", "3"),
    ],
    &[
        ("bootcmd", "load mmc 0:1 ${scriptaddr} boot.scr && source ${scriptaddr}; sleep 2; reset"),
        ("altbootcmd", "setenv trial_is_over 1; run bootcmd"),
        ("bootcount", "0"),
    ],
    &[
        ("bootcmd", "run load_it || run fail"),
        ("fail", "echo no; reset"),
        ("altbootcmd", "run flip save_it; run bootcmd"),
        ("flip", "if itest.s x${slot} == xa; then setenv slot b; else setenv slot a; fi"),
        ("save_it", "env set upgrade_available 0; env save"),
        ("bootlimit", "2"),
    ],
    // A script that runs itself is followed once.
    &[
        ("bootcmd", "run bootcmd; reset"),
        ("altbootcmd", "setenv slot a; setenv upgrade_available 0; saveenv; run altbootcmd"),
        ("bootlimit", "1"),
    ],
];

#[test]
fn boards_that_go_back_are_good() {
    for variables in GOOD {
        let found = scripts(&env(variables), &counted());
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|it| it.verdict == Verdict::Good), "{found:?}");
    }
}

#[test]
fn what_does_not_go_back_is_bad() {
    let boot = ("bootcmd", "run boot_slot; reset");
    for altbootcmd in [
        None,
        Some("run bootcmd"),
        Some("run boot_slot; reset"),
        Some("setenv upgrade_available 0; saveenv; run bootcmd"),
        Some("setenv slot a; saveenv; run bootcmd"),
        Some("setenv slot a; setenv upgrade_available 0; run bootcmd"),
        // Words that only look like the right ones.
        Some("setenv slots a; setenv upgrade_available 0; saveenv"),
        Some("setenv slot a; setenv upgrade_available 0; echo saveenv"),
    ] {
        let mut variables = vec![boot];
        variables.extend(altbootcmd.map(|value| ("altbootcmd", value)));
        assert_eq!(verdict(&variables, &counted(), Aspect::Fallback), Some(Verdict::Bad), "{altbootcmd:?}");
    }
}

/// A script that counts, as U-Boot's without a counter needs one, and then goes on by these.
const COUNTING: [(&str, &str); 5] = [
    ("setenv slot b", "never sets slot"),
    ("setenv upgrade_available 0", "never sets upgrade_available"),
    ("setexpr bootcount ${bootcount} + 1", "never sets bootcount"),
    ("if test ${bootcount} = ${bootlimit}; then run back; fi", "does not ask for bootlimit"),
    ("saveenv", "saves nothing"),
];

#[test]
fn a_bootcmd_that_counts_needs_no_altbootcmd() {
    let count: Vec<_> = COUNTING.iter().map(|(command, _)| *command).collect();
    let variables = [("bootcmd", "run count; run load_it; reset"), ("count", &count.join("; "))];
    let found = scripts(&env(&variables), &counted());
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|it| it.verdict == Verdict::Good), "{found:?}");
    // An altbootcmd that does not go back is as bad as ever: somebody counts on it.
    let with = [variables[0], variables[1], ("altbootcmd", "run bootcmd")];
    assert_eq!(verdict(&with, &counted(), Aspect::Fallback), Some(Verdict::Bad));
}

#[test]
fn what_a_bootcmd_lacks_that_counts_is_told() {
    for (command, told) in COUNTING {
        // What is only said is not done.
        let others = COUNTING.iter().filter(|(other, _)| *other != command).map(|(other, _)| *other);
        let count: Vec<_> = others.chain(["echo slot ${slot} boot ${bootcount}"]).collect();
        let found =
            scripts(&env(&[("bootcmd", "run count; reset"), ("count", &count.join("; "))]), &counted());
        let of = |aspect| found.iter().find(|it| it.aspect == aspect).unwrap();
        let fallback = of(Aspect::Fallback);
        assert_eq!(fallback.verdict, Verdict::Bad, "{command}");
        assert!(fallback.what.ends_with(&format!("; and that {told}")), "{}", fallback.what);
        assert_eq!(of(Aspect::Counter).verdict, Verdict::Doubtful, "{command}");
    }
}

#[test]
fn a_prompt_is_no_place_to_end() {
    let restart = |variables: &[_]| verdict(variables, &counted(), Aspect::Restart);
    assert_eq!(restart(&[("bootcmd", "run a; echo reset")]), Some(Verdict::Doubtful));
    assert_eq!(restart(&[("bootcmd", "run a"), ("a", "if x; then y; else reset; fi")]), Some(Verdict::Good));
    assert_eq!(restart(&[("bootcmd", "reset"), ("bootdelay", "-1")]), Some(Verdict::Bad));
    assert_eq!(restart(&[("bootcmd", "reset"), ("bootdelay", "2")]), Some(Verdict::Good));
    assert_eq!(restart(&[("slot", "a")]), Some(Verdict::Doubtful), "not this loader's environment, perhaps");
}

#[test]
fn a_counter_leaves_something_behind() {
    let counter = |variables: &[_]| verdict(variables, &counted(), Aspect::Counter);
    assert_eq!(counter(&[("bootcmd", "reset")]), Some(Verdict::Doubtful));
    assert_eq!(counter(&[("bootcmd", "reset"), ("bootcount", "0")]), Some(Verdict::Good));
    assert_eq!(verdict(&[("bootcmd", "reset")], &ordered(), Aspect::Counter), None, "the script counts");
}

#[test]
fn an_order_must_be_followed_and_saved() {
    let fallback = |bootcmd| verdict(&[("bootcmd", bootcmd)], &ordered(), Aspect::Fallback);
    let followed =
        "for n in \"${BOOT_ORDER}\"; do setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1; done; saveenv; run x";
    assert_eq!(fallback(followed), Some(Verdict::Good));
    assert_eq!(fallback("load mmc 0:1 ${a} boot.scr; source ${a}"), Some(Verdict::Good));
    assert_eq!(fallback("for n in ${BOOT_ORDER}; do run x; done"), Some(Verdict::Bad));
    assert_eq!(fallback("run distro_bootcmd; saveenv"), Some(Verdict::Bad));
}
