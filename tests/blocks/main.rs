//! Power cuts below the file system: what reaches the disks is noted down, block by block, and of what a disk may still
//! have had in its cache a part is lost, in any order.
//!
//! `crash/` cuts calls short and takes files for disks. Here a real ext4 with its journal lies between, on a block device
//! whose disk notes down each write and each flush (`disks.c`). The product's own code writes (`keep.rs`, `loaders.rs`,
//! `slot.rs`); then, for a moment of the log and a part of what was not flushed by then (`log.rs`), the disks are as a cut
//! would have left them, ext4 recovers, and the product's own code must find what it was promised, or what was just being
//! written.
//!
//! `BLOCKS=state-4k:120:512:77 cargo test --test blocks power_cuts -- --ignored --nocapture` looks into one cut again.
#![allow(clippy::unwrap_used)]

mod bench;
mod campaign;
mod case;
mod cases;
#[path = "../crash/device.rs"]
mod device;
mod dice;
mod disks;
mod keep;
mod loaders;
mod log;
mod plants;
mod slot;
mod story;
#[path = "../crash/truth.rs"]
mod truth;

use campaign::{judged, named, run, written};
use cases::CASES;
use disks::is_apart;
use log::{Flushes, Player};

/// Looks into the cut that `BLOCKS` names.
fn look_into(name: &str) {
    let (case, cut) = named(name).expect("BLOCKS is case:ops:sector:seed");
    let case = CASES.iter().find(|known| known.name == case).expect("a case of this name");
    let written = written(case);
    let mut player = Player::new(&written.log, &written.before, Flushes::Done);
    player.go(cut.at.min(written.log.ops.len()));
    let bench = bench::Bench::to_read(case.layout).unwrap();
    player.cut(&cut).story.iter().for_each(|line| println!("{line}"));
    assert_eq!(judged(case, &written, &player, &bench, &cut).map(|why| println!("{why}")), None);
}

#[test]
#[ignore = "deep: needs root, loop devices, FUSE and mke2fs"]
fn deep_power_cuts_below_a_file_system_are_survived() {
    if !is_apart("deep_power_cuts_below_a_file_system_are_survived") {
        return;
    }
    if let Ok(name) = std::env::var("BLOCKS") {
        return look_into(&name);
    }
    let only = std::env::var("BLOCKS_CASE").ok();
    let most: Option<usize> = std::env::var("BLOCKS_COUNT").ok().and_then(|count| count.parse().ok());
    let all: usize = CASES.iter().map(|case| case.cuts).sum();
    let (mut cases, mut states, mut violations) = (0, 0, 0);
    campaign::head();
    for case in CASES.iter().filter(|case| only.as_ref().is_none_or(|only| only == case.name)) {
        let found = run(case, most.map_or(case.cuts, |most| case.cuts * most / all), Flushes::Done);
        found.tell();
        (cases, states) = (cases + 1, states + found.states);
        violations += found.violations.len();
    }
    println!("blocks: {cases} cases, {states} states, {violations} violations, seed {}", dice::seed());
    assert!(states >= 10_000 || most.is_some() || only.is_some(), "{states} states");
    assert_eq!(violations, 0);
}

#[test]
#[ignore = "deep: needs root, loop devices, FUSE and mke2fs"]
fn deep_planted_defects_are_found_below_a_file_system() {
    if is_apart("deep_planted_defects_are_found_below_a_file_system") {
        plants::are_found();
    }
}

/// Whoever looks into a case can find something there.
#[test]
#[ignore = "deep: needs root, loop devices, FUSE and mke2fs"]
fn deep_disks_that_lie_are_found_out_in_each_case() {
    if !is_apart("deep_disks_that_lie_are_found_out_in_each_case") {
        return;
    }
    for case in &CASES {
        // To mount takes its time.
        let count = if case.layout.ext4.is_some() { 80 } else { 400 };
        let found = run(case, count, Flushes::Claimed);
        println!("{:16} {} of {} states", case.name, found.violations.len(), found.states);
        assert!(!found.violations.is_empty(), "{}", case.name);
    }
}
