//! The core, explored exhaustively: every order of works, faults and wishes within the bounds below, with the
//! invariants checked after each event; and a list of planted defects that this exploring must find.
//!
//! What is modelled is in `world.rs`: a record of two generations that may be lost, a bootloader that counts the
//! boots of a trial, images that are good, sick or unbootable, a disk that lies, writes that fail or cannot be
//! proved, and a hub that delivers its newest wish at every connection. It proves the table, not the adapters.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod mutations;
mod world;

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mutations::Mutation;
use twinboot::update::Work;
use world::{Kind, World};

fn beginnings(faults: u8) -> Vec<World> {
    let kinds = [Kind::Good, Kind::Sick, Kind::Unbootable];
    let pairs = kinds.into_iter().flat_map(|first| kinds.map(|second| [first, second]));
    let mut worlds: Vec<_> = pairs.map(|pair| World::new(pair, false, faults)).collect();
    worlds.push(World::new([Kind::Sick, Kind::Good], true, faults));
    worlds
}

/// Without further faults, two updates that are both rolled back take no more: out and back, twice.
const REBOOTS: u32 = 4;

/// How far exploring got.
struct Explored {
    worlds: usize,
    edges: usize,
}

/// Visits every world; panics with the world at the first violation.
fn explore(mutation: Mutation, faults: u8) -> Explored {
    let (mut seen, mut settles) = (HashSet::new(), HashSet::new());
    let mut queue: VecDeque<_> = beginnings(faults).into();
    let mut edges = 0;
    while let Some(world) = queue.pop_front() {
        if !seen.insert(world.fingerprint()) {
            continue;
        }
        settle(&world, mutation, &mut settles);
        for next in world.next(mutation) {
            edges += 1;
            queue.push_back(next);
        }
    }
    Explored { worlds: seen.len(), edges }
}

/// Left alone, every world comes to rest, and after few reboots.
fn settle(world: &World, mutation: Mutation, settles: &mut HashSet<u128>) {
    let mut world = world.clone();
    let (mut path, mut reboots) = (vec![], 0);
    while settles.insert(world.fingerprint()) {
        path.push(world.fingerprint());
        reboots += u32::from(world.state().work() == Work::Reboot);
        assert!(reboots <= REBOOTS, "more than {REBOOTS} reboots: {world:?}");
        let next = world.fair(mutation);
        if next == world {
            return world.check_settled();
        }
        assert!(!path.contains(&next.fingerprint()), "goes in circles: {world:?}");
        world = next;
    }
}

#[test]
fn no_order_of_events_breaks_an_invariant() {
    let explored = explore(mutations::NONE, 2);
    println!("{} worlds, {} edges", explored.worlds, explored.edges);
    assert!(explored.worlds > 100_000, "only {} worlds", explored.worlds);
}

#[test]
#[ignore = "deep: takes minutes; tests/run all runs it"]
fn no_order_of_events_with_three_faults_breaks_an_invariant() {
    let explored = explore(mutations::NONE, 3);
    println!("{} worlds, {} edges", explored.worlds, explored.edges);
    assert!(explored.worlds > 1_000_000, "only {} worlds", explored.worlds);
}

#[test]
fn every_planted_defect_is_found() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<_> = mutations::ALL
        .iter()
        .filter(|mutation| catch_unwind(AssertUnwindSafe(|| explore(**mutation, 2))).is_ok())
        .map(|mutation| mutation.name)
        .collect();
    std::panic::set_hook(hook);
    assert!(missed.is_empty(), "not found: {missed:#?}");
    println!("{} planted defects found", mutations::ALL.len());
}
