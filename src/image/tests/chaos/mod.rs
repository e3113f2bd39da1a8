//! Downloads from a server that does whatever servers and networks do, drawn by a seed: real TCP and TLS, plain and packed
//! images and bundles, a slot that loses its power, and in a quarter of the runs [`hub_emulator::Chaos`] on the way.
//! Each run has a seed, which is printed; `CHAOS_SEED=n` plays that one alone, `CHAOS_COUNT` sets how many there are.
//!
//! In two of three runs there are some mishaps, and then the server is good: the slot must hold just the image in the
//! end. In one of three the same mishap never ends: then the update fails, and is called what it is. Nothing is ever
//! told to be good that is not, nothing takes more requests, bytes or time than it may, and no failure has a code that
//! does not belong to what happened. Where a process died and what it met is the same for the same seed; how the network
//! cuts its bytes into pieces is not.

mod lies;
mod mishap;
mod run;
mod ware;
mod watch;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::*;
use crate::hub::tests::dice::Dice;
use run::run;
use ware::Ware;

/// More are counted, and not shown.
const SHOWN: usize = 3;
/// So many at once: most of a run is waiting for somebody who is silent.
const AT_ONCE: u64 = 24;

/// What is broken on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Plant {
    Nothing,
    /// What is fetched is not compared with the digest that was asked for.
    NoDigest,
    /// Nobody looks at which part of a file is said to be sent.
    AnyPart,
    /// The slot loses a write, and nobody reads it back.
    LostWrite,
    /// A server is never given up.
    NoEnd,
}

/// What the runs came to.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    requests: usize,
    tries: u32,
    kills: u32,
    resumed: u32,
    proxied: u32,
    /// Tries in which the machine itself stood still for longer than a server may.
    late: u32,
    /// How often an update failed by which code.
    failures: BTreeMap<&'static str, u32>,
    /// How often something happened at all.
    mishaps: BTreeMap<&'static str, u32>,
    violations: Vec<(u64, String)>,
}

impl Tally {
    fn tell(&mut self, first: u64, began: Instant) {
        self.violations.sort_unstable();
        let Self { runs, requests, tries, kills, resumed, proxied, late, .. } = self;
        println!(
            "{runs} runs in {:.0?}: {tries} tries, {kills} killed, {resumed} resumed, {proxied} by a bad line, {late} late",
            began.elapsed()
        );
        println!("mishaps: {:?}\nfailures: {:?}", self.mishaps, self.failures);
        for (seed, why) in self.violations.iter().take(SHOWN) {
            println!("CHAOS_SEED={seed}\n  {why}");
        }
        println!(
            "image: {runs} runs, {requests} requests, {} violations, seed {first}",
            self.violations.len()
        );
    }
}

/// So many runs, some at a time, from the seed `first` on; with a plant until something is found.
fn storm(first: u64, runs: u64, plant: Plant) -> Tally {
    let wares = Ware::all();
    let (next, tally, is_found) =
        (AtomicU64::new(first), Mutex::new(Tally::default()), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..runs.min(AT_ONCE) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs || is_found.load(Ordering::Relaxed) {
                        return;
                    }
                    let found = run(&wares, seed, plant, &tally);
                    let mut tally = tally.lock().unwrap();
                    tally.runs += 1;
                    if let Err(why) = found {
                        is_found.store(plant != Plant::Nothing, Ordering::Relaxed);
                        tally.violations.push((seed, why));
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

/// The runs that are asked for, or these. None of them may find anything.
fn passes(first: u64, runs: u64) -> Tally {
    let (first, runs) = Dice::asked().map_or((first, runs), |seed| (seed, 1));
    println!("CHAOS_SEED={first} and the {} after it", runs - 1);
    let began = Instant::now();
    let mut tally = storm(first, runs, Plant::Nothing);
    tally.tell(first, began);
    assert_eq!((tally.runs, tally.violations.len()), (runs, 0));
    tally
}

#[test]
fn two_dozen_downloads_in_chaos_end_well() {
    passes(1, 24);
}

#[test]
#[ignore = "deep: 2,500 runs"]
fn deep_thousands_of_downloads_in_chaos_end_well() {
    let asked = std::env::var("CHAOS_COUNT").ok().map(|count| count.parse().expect("a number"));
    let tally = passes(100_000, asked.unwrap_or(2500));
    if tally.runs < 2000 {
        return;
    }
    // Nothing that can be told is left out.
    for code in [
        Failure::DownloadUnreachable,
        Failure::DownloadTls,
        Failure::DownloadHttpStatus,
        Failure::DownloadRedirect,
        Failure::DownloadHttpAnswer,
        Failure::DownloadContentChanged,
        Failure::DownloadSizeMismatch,
        Failure::DownloadDigestMismatch,
        Failure::DataCap,
        Failure::ImageUndecodable,
        Failure::BundleDamaged,
        Failure::TargetTooSmall,
    ] {
        assert!(tally.failures.contains_key(code.code()), "{code} was never told");
    }
    assert!(tally.kills > 100 && tally.resumed > 50 && tally.proxied > 100);
}

#[test]
#[ignore = "deep: most of a minute"]
fn deep_planted_defects_are_found() {
    for (plant, seen) in [
        (Plant::NoDigest, "told good"),
        (Plant::AnyPart, "is called"),
        (Plant::LostWrite, "told good"),
        (Plant::NoEnd, "it hangs"),
    ] {
        let began = Instant::now();
        let mut tally = storm(1, 300, plant);
        tally.violations.sort_unstable();
        let (seed, why) = tally.violations.first().unwrap_or_else(|| panic!("{plant:?} is not found"));
        let first = why.lines().next().unwrap_or_default();
        println!("{plant:?}: found by run {seed} after {:.0?}: {first}", began.elapsed());
        assert!(why.contains(seen), "{plant:?} shows otherwise: {why}");
        let without = storm(*seed, 1, Plant::Nothing);
        assert!(
            without.violations.is_empty(),
            "it is seen without the defect, too: {:?}",
            without.violations
        );
    }
}
