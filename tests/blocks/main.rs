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
mod dice;
mod disks;
mod keep;
mod loaders;
mod log;
mod plants;
mod slot;

use campaign::{judged, named, run, written};
use cases::CASES;
use disks::is_apart;
use log::Player;

/// Looks into the cut that `BLOCKS` names.
fn look_into(name: &str) {
    let (case, cut) = named(name).expect("BLOCKS is case:ops:sector:seed");
    let case = CASES.iter().find(|known| known.name == case).expect("a case of this name");
    let written = written(case);
    let mut player = Player::new(&written.log, &written.before);
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
    let (mut states, mut violations) = (0, 0);
    for case in CASES.iter().filter(|case| only.as_ref().is_none_or(|only| only == case.name)) {
        let found = run(case, most.map_or(case.cuts, |most| case.cuts * most / all));
        (states, violations) = (states + found.states, violations + found.violations.len());
    }
    println!("{:16} {:10} {states:6} states {violations:4} violations", "", "");
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
