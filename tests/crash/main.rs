//! The real daemon, cut short before each call by which it makes something durable, and with each of them failing.
//!
//! A *story* is what somebody asks of a device; a *life* is a story with trouble in it. The daemon runs in a box
//! (`box.c`) that counts its calls and knows what of them is durable (`disk.c`). Whenever it is gone the device's files
//! are looked through (`truth.rs`); then it boots again, until the story has its end, which must be the right one.
//!
//! `CRASH=update:17:POWER=5 cargo test --test crash one_life -- --nocapture` lives one life and tells it.
#![allow(clippy::unwrap_used)]

mod boxed;
mod bundles;
mod campaign;
mod device;
mod fault;
mod hub;
mod life;
mod stories;
mod truth;

use campaign::{CALLS, Dice, named, run, seed};
use fault::Fault;
use life::{Cut, Plan, live};
use stories::STORIES;

/// A cut before every call: of the daemon, and of the power with all lost that can be, and with some of it.
fn every_cut(dice: &mut Dice) -> Vec<Plan> {
    let points = CALLS
        .iter()
        .enumerate()
        .flat_map(|(story, calls)| (1..=calls.len() as u64).map(move |at| (story, at)));
    let mut plans = Vec::new();
    for (story, at) in points {
        for power in [None, Some(0), Some(dice.seed())] {
            let goes_on = dice.below(4) == 0;
            plans.push(Plan { story, cuts: vec![Cut { at, power }], goes_on, ..Plan::default() });
        }
    }
    plans
}

/// Lives with several cuts, also while it recovers from the one before.
fn many_cuts(dice: &mut Dice, lives: usize) -> Vec<Plan> {
    let life = |_| {
        let story = dice.below(STORIES.len() as u64) as usize;
        let first = 1 + dice.below(CALLS[story].len() as u64);
        // Little is left to do after the first one, and less after the others.
        let cuts = [first, 1 + dice.below(30), 1 + dice.below(15), 1 + dice.below(30)];
        let power =
            |dice: &mut Dice| [None, Some(0), Some(dice.seed()), Some(dice.seed())][dice.below(4) as usize];
        let cuts = cuts.map(|at| Cut { at, power: power(dice) }).to_vec();
        Plan { story, cuts, goes_on: dice.below(4) == 0, ..Plan::default() }
    };
    (0..lives).map(life).collect()
}

/// Each call fails in each way that it can.
fn every_fault() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (story, calls) in CALLS.iter().enumerate() {
        for (at, call) in (1..).zip(calls) {
            let lies = call.contains("sync ") && (call.contains("slot-") || call.contains("env"));
            let faults = Fault::ALL.into_iter().chain(lies.then_some(Fault::LOST));
            // Only what is written can be short.
            let faults = faults.filter(|fault| *fault != Fault::ALL[4] || call.contains("write "));
            plans.extend(faults.map(|fault| Plan {
                story,
                fault: Some((at, fault)),
                goes_on: true,
                ..Plan::default()
            }));
        }
    }
    plans
}

/// So many of them, anywhere.
fn some(mut plans: Vec<Plan>, count: usize, dice: &mut Dice) -> Vec<Plan> {
    (0..count.min(plans.len())).map(|_| plans.swap_remove(dice.below(plans.len() as u64) as usize)).collect()
}

#[test]
fn one_life() {
    let Some(name) = std::env::var("CRASH").ok() else {
        // Without a name: each story, with nothing in its way.
        return assert!(CALLS.iter().all(|calls| calls.len() > 20));
    };
    let lived = live(&named(&name).expect("CRASH is story:call:how"));
    println!("{}", lived.calls.join("\n"));
    assert_eq!(lived.violation.map(|why| println!("{why}")), None);
}

#[test]
fn a_sample_of_cuts_and_failing_calls_is_survived() {
    let mut dice = Dice::new();
    let cuts = every_cut(&mut dice);
    let mut plans = some(cuts, 30, &mut dice);
    plans.extend(many_cuts(&mut dice, 6));
    plans.extend(some(every_fault(), 12, &mut dice));
    assert_eq!(run("a sample", &plans).violations.len(), 0);
}

/// A disk that says that it has flushed a slot, and has not: seen when the slot is read past the cache.
#[test]
fn each_flush_of_a_slot_may_be_a_lie() {
    let lies = every_fault().into_iter().filter(|plan| {
        let (at, fault) = plan.fault.unwrap();
        fault == Fault::LOST && CALLS[plan.story][at as usize - 1].contains("slot-")
    });
    assert_eq!(run("lies", &lies.collect::<Vec<_>>()).violations.len(), 0);
}

/// It is not the daemon that writes then, and the half that is written goes to the file all the same.
#[test]
fn half_a_write_of_a_program_that_the_daemon_started_is_survived() {
    let story = STORIES.iter().position(|known| known.name == "factory-reset").unwrap();
    let at = CALLS[story].iter().position(|call| call.contains(" write machine/etc/data ")).unwrap();
    let fault = Some((at as u64 + 1, Fault::ALL[4]));
    let lived = live(&Plan { story, fault, goes_on: true, ..Plan::default() });
    assert_eq!((lived.hit, lived.violation), (true, None));
}

/// A defect; in which story it must show; at cuts around which calls; and what is seen then.
const PLANTS: [(&str, &str, &str, &str); 7] = [
    ("no-flush=/state/record", "update", "fdatasync state/record", "told was"),
    ("no-flush=/state", "update", "pwrite state/record", "what was granted is forgotten"),
    ("no-flush=/slot-b", "update", "fdatasync env1", "is armed and holds no whole image"),
    ("no-flush=/env1", "update", "fdatasync env1", "boots by default"),
    ("twice", "dead", "pwrite env1", "proven there is None"),
    ("cached", "update", "fdatasync slot-b", "is armed and holds no whole image"),
    ("cached", "update", "fdatasync env1", "B runs, and Some(A) boots by default"),
];

#[test]
fn planted_defects_are_found() {
    for (plant, story, around, seen) in PLANTS {
        let story = STORIES.iter().position(|known| known.name == story).unwrap();
        let plan = Plan { story, plants: vec![plant.into()], ..Plan::default() };
        let at = (1..).zip(&CALLS[story]).filter(|(_, call)| call.contains(around)).map(|(at, _)| at);
        // A read-back is the defence against a disk that lies. Against all else it is a cut that shows the defect.
        let suspects: Vec<_> = if plant == "cached" {
            at.map(|at| Plan { fault: Some((at, Fault::LOST)), ..plan.clone() }).collect()
        } else {
            let cut = |at| Plan { cuts: vec![Cut { at, power: Some(0) }], ..plan.clone() };
            at.flat_map(|at| at..at + 4).map(cut).collect()
        };
        let found =
            suspects.iter().enumerate().find_map(|(nth, plan)| Some((nth, plan, live(plan).violation?)));
        let (nth, suspect, why) = found.unwrap_or_else(|| panic!("{plant} is not found"));
        println!("{plant}: found by life {}: {}", nth + 1, why.lines().next().unwrap_or_default());
        assert!(why.contains(seen), "{plant} shows otherwise: {why}");
        let without = live(&Plan { plants: Vec::new(), ..suspect.clone() });
        assert_eq!(without.violation, None, "it is seen without the defect, too");
    }
}

#[test]
#[ignore = "deep: ten thousand cuts"]
fn deep_every_call_is_a_place_to_be_cut_short() {
    let mut dice = Dice::new();
    let mut plans = every_cut(&mut dice);
    plans.extend(many_cuts(&mut dice, 2600));
    let found = run("cuts", &plans);
    let (lives, cuts, violations) = (found.lives, found.cuts, found.violations.len());
    println!("crash: {lives} lives, {cuts} cuts, {violations} violations, seed {}", seed());
    assert!(found.cuts >= 10_000 || found.is_part, "{} cuts", found.cuts);
    assert_eq!(found.violations.len(), 0);
}

#[test]
#[ignore = "deep: thousands of failing calls"]
fn deep_every_call_may_fail() {
    Dice::new();
    let found = run("failing calls", &every_fault());
    let (lives, faults, violations) = (found.lives, found.faults, found.violations.len());
    println!("calls: {lives} lives, {faults} failing calls, {violations} violations, seed {}", seed());
    assert!(found.faults >= 3000 || found.is_part, "{} faults", found.faults);
    assert_eq!(found.violations.len(), 0);
}
