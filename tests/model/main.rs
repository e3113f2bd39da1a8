//! The core, explored exhaustively: every order of works, faults and wishes within the bounds below, with the
//! invariants checked after each event; and a list of planted defects that this exploring must find.
//!
//! What is modelled is in `world.rs`: a record of two generations that may be lost, a bootloader that counts the
//! boots of a trial, images that are good, sick or unbootable, a disk that lies, writes that fail or cannot be
//! proved, and a hub that delivers its newest wish at every connection. It proves the table, not the adapters.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::collapsible_if,
    missing_docs,
    unreachable_pub
)]

mod mutations;
mod world;

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mutations::Mutation;
use twinboot::update::Work;
use world::{Kind, World};

/// One life for each pair of updates; lives never meet. The ones that show most defects come first.
fn updates(faults: u8) -> Vec<World> {
    vec![
        World::new([Kind::Unbootable, Kind::Sick], false, faults),
        World::new([Kind::Sick, Kind::Good], true, faults),
        World::new([Kind::Sick, Kind::Good], false, faults),
        World::new([Kind::Good, Kind::Sick], false, faults),
        World::new([Kind::Good, Kind::Good], false, faults),
    ]
}

/// One life for each kind of factory reset, and an update.
fn resets(faults: u8) -> Vec<World> {
    vec![
        World::new([Kind::Good, Kind::Good], false, faults).with_factory(None, true),
        World::new([Kind::Good, Kind::Good], false, faults).with_factory(Some(Kind::Good), true),
        World::new([Kind::Sick, Kind::Good], false, faults).with_factory(Some(Kind::Sick), true),
        World::new([Kind::Good, Kind::Good], false, faults).with_factory(Some(Kind::Unbootable), false),
    ]
}

/// A life in which an update costs more than it may.
fn costs(faults: u8) -> Vec<World> {
    vec![World::new([Kind::Good, Kind::Good], false, faults).dear()]
}

/// A life in which the guard over a trial has something to say.
fn watched(faults: u8) -> Vec<World> {
    vec![World::new([Kind::Sick, Kind::Unbootable], false, faults).watched()]
}

/// A life in which the same wish comes in other words.
fn words(faults: u8) -> Vec<World> {
    let of = |kinds| World::new(kinds, false, faults).worded();
    vec![of([Kind::Sick, Kind::Good]), of([Kind::Good, Kind::Good])]
}

/// Without further faults, two updates that are both rolled back take no more: out and back, twice. A factory reset
/// takes out and one more.
const REBOOTS: u32 = 4;

/// How far exploring got.
struct Explored {
    worlds: usize,
    edges: usize,
}

/// Visits every world of a life, or the first `limit` of them, those that fewer events lead to before others; panics with
/// the world at the first violation.
fn explore(beginning: World, mutation: Mutation, limit: usize) -> Explored {
    let (mut seen, mut settles) = (HashSet::from([beginning.fingerprint()]), HashSet::new());
    let mut queue = VecDeque::from([beginning]);
    let (mut worlds, mut edges) = (0, 0);
    while let Some(world) = queue.pop_front() {
        worlds += 1;
        settle(&world, mutation, &mut settles);
        if worlds == limit {
            break;
        }
        let all = world.next(mutation);
        edges += all.len();
        // Most are known: they are not to wait in memory for their turn.
        queue.extend(all.into_iter().filter(|next| seen.insert(next.fingerprint())));
    }
    Explored { worlds, edges }
}

/// Visits the worlds of every life, at most `limit` of each; as many lives at a time as there are processors, since each
/// keeps in mind where it was.
fn explore_all(faults: u8, limit: usize) -> Explored {
    // With a fault more, costs are as many worlds as all the others are.
    let [updates, resets, costs] = [updates(faults), resets(faults), costs(faults - 1)];
    let lives: Vec<_> = [updates, resets, costs, watched(1), words(0)].concat();
    let next = AtomicUsize::new(0);
    let explore_some = || {
        let mut sum = (0, 0);
        while let Some(beginning) = lives.get(next.fetch_add(1, Ordering::Relaxed)) {
            let explored = explore(beginning.clone(), mutations::NONE, limit);
            sum = (sum.0 + explored.worlds, sum.1 + explored.edges);
        }
        sum
    };
    let (mut worlds, mut edges) = (0, 0);
    std::thread::scope(|scope| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..processors).map(|_| scope.spawn(explore_some)).collect();
        for thread in threads {
            let sum = thread.join().expect("an invariant was broken; the world is printed above");
            (worlds, edges) = (worlds + sum.0, edges + sum.1);
        }
    });
    println!("{worlds} worlds, {edges} edges");
    Explored { worlds, edges }
}

/// Left alone, every world comes to rest, and after few reboots.
fn settle(world: &World, mutation: Mutation, settles: &mut HashSet<u64>) {
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
    let explored = explore_all(1, 60_000);
    assert!(explored.worlds > 100_000, "only {} worlds", explored.worlds);
    assert!(explored.edges > explored.worlds);
}

#[test]
#[ignore = "deep: takes minutes"]
fn deep_no_order_of_events_whatever_breaks_an_invariant() {
    let faults = std::env::var("MODEL_FAULTS").map_or(1, |faults| faults.parse().expect("a number"));
    let explored = explore_all(faults, usize::MAX);
    assert!(explored.worlds > 500_000, "only {} worlds", explored.worlds);
}

#[test]
fn every_planted_defect_is_found() {
    // Found defects are no news; what fails in a test beside this one is.
    let hook = Arc::new(std::panic::take_hook());
    let (others, own) = (Arc::clone(&hook), std::thread::current().id());
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() != own {
            others(info);
        }
    }));
    let is_found = |mutation: &Mutation, lives: Vec<World>| {
        let begun = std::time::Instant::now();
        let explore =
            |beginning| catch_unwind(AssertUnwindSafe(|| explore(beginning, *mutation, usize::MAX)));
        let found = lives.into_iter().any(|beginning| explore(beginning).is_err());
        println!("{:?} {}", begun.elapsed(), mutation.name);
        found
    };
    let all = mutations::ALL.iter().map(|it| (it, updates(1)));
    let all = all.chain(mutations::OF_COSTS.iter().map(|it| (it, costs(1))));
    let all = all.chain(mutations::OF_GUARDS.iter().map(|it| (it, watched(1))));
    let all = all.chain(mutations::OF_WORDS.iter().map(|it| (it, words(0))));
    let all: Vec<_> = all.chain(mutations::OF_RESETS.iter().map(|it| (it, resets(1)))).collect();
    let count = all.len();
    let missed: Vec<_> =
        all.into_iter().filter(|(it, lives)| !is_found(it, lives.clone())).map(|(it, _)| it.name).collect();
    std::panic::set_hook(Box::new(move |info| hook(info)));
    assert!(missed.is_empty(), "not found: {missed:#?}");
    println!("{count} planted defects found");
}
