//! Many cuts of a case, drawn by a seed, looked into some at a time, and counted.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::bench::Bench;
use super::case::{Case, Written};
use super::dice::{self, Dice};
use super::log::{Cut, Flushes, Player, What};

/// More are counted, and not shown.
const SHOWN: usize = 3;

/// What came of a case.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// For people.
    line: String,
    /// States that differ, or that come after other promises.
    pub(super) states: usize,
    pub(super) violations: Vec<String>,
}

impl Found {
    /// Prints what was found, or the beginning of it.
    pub(super) fn tell(&self) {
        println!("{}", self.line);
        self.violations.iter().take(SHOWN).for_each(|violation| println!("{violation}"));
    }
}

/// Writes what the case has to write: the same, by the same seed.
pub(super) fn written(case: &Case) -> Written {
    let mut dice = Dice::new(dice::of(case.name));
    let bench = Bench::new(case.layout).expect("disks, loop devices and mke2fs: this needs root");
    (case.write)(case, &bench, &mut dice).unwrap_or_else(|why| panic!("{}: {why}", case.name))
}

/// Some cuts, in the order of the log. Most are where something was not flushed.
fn drawn(written: &Written, count: usize, dice: &mut Dice) -> Vec<Cut> {
    let ops = &written.log.ops;
    let is_open = |at: &usize| *at > 0 && ops[*at - 1].what != What::Flush;
    let open: Vec<_> = (0..=ops.len()).filter(is_open).collect();
    let mut cuts = Vec::with_capacity(count);
    for _ in 0..count {
        let at = if dice.one_in(8) || open.is_empty() {
            dice.below(ops.len() + 1)
        } else {
            open[dice.below(open.len())]
        };
        cuts.push(Cut { at, unit: [512, 4096][dice.below(2)], seed: dice.number() });
    }
    cuts.sort_unstable_by_key(|cut| cut.at);
    cuts
}

/// As `BLOCKS` has it.
fn name(case: &Case, cut: &Cut) -> String {
    format!("{}:{}:{}:{}", case.name, cut.at, cut.unit, cut.seed)
}

/// The cut of this name, and the name of its case.
pub(super) fn named(name: &str) -> Option<(&str, Cut)> {
    let mut parts = name.split(':');
    let case = parts.next()?;
    let (at, unit, seed) =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((case, Cut { at, unit, seed }))
}

/// What is wrong after a cut, told so that it can be understood.
pub(super) fn judged(
    case: &Case,
    written: &Written,
    player: &Player<'_>,
    bench: &Bench,
    cut: &Cut,
) -> Option<String> {
    let state = player.cut(cut);
    let mut dice = Dice::new(cut.seed ^ 1);
    let judged = bench
        .fill(&state.images)
        .map_err(|error| format!("the state cannot be put there: {error}"))
        .and_then(|()| {
            let judged = bench.mounted(|place| written.judge.judge(place, cut.at, &mut dice));
            judged.map_err(|error| format!("the file system is lost: {error}"))?
        });
    let why = judged.err()?;
    let story: Vec<_> = state.story.iter().map(|line| format!("\n  {line}")).collect();
    let seed = dice::seed();
    Some(format!("BLOCKS_SEED={seed} BLOCKS={}\n  {why}{}", name(case, cut), story.concat()))
}

/// The head of the table of what was found.
pub(super) fn head() {
    println!(
        "{:16} {:>6} {:>6} {:>6} {:>6} {:>10}",
        "case", "writes", "zeros", "flush", "states", "violations"
    );
}

/// Looks into so many cuts; what is the same is looked into once.
pub(super) fn run(case: &Case, count: usize, flushes: Flushes) -> Found {
    let begin = Instant::now();
    let written = written(case);
    let cuts = drawn(&written, count, &mut Dice::new(dice::of(case.name)));
    let (seen, next, violations) = (Mutex::new(HashSet::new()), AtomicUsize::new(0), Mutex::new(Vec::new()));
    // To mount and to unmount is to wait.
    let at_once = thread::available_parallelism().map_or(1, usize::from).min(4) * 2;
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                let bench = Bench::to_read(case.layout).expect("disks and loop devices");
                let mut player = Player::new(&written.log, &written.before, flushes);
                // A player goes forward alone, so whoever takes the next cut takes a later one.
                while let Some(cut) = cuts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    player.go(cut.at);
                    let print = (player.print(cut), written.judge.promised(cut.at));
                    if !seen.lock().expect("nobody has panicked").insert(print) {
                        continue;
                    }
                    if let Some(why) = judged(case, &written, &player, &bench, cut) {
                        violations.lock().expect("nobody has panicked").push(why);
                    }
                }
            });
        }
    });
    let mut violations = violations.into_inner().expect("nobody has panicked");
    violations.sort_unstable_by_key(String::len);
    let states = seen.into_inner().expect("nobody has panicked").len();
    let count = |is: fn(&What) -> bool| written.log.ops.iter().filter(|op| is(&op.what)).count();
    let line = format!(
        "{:16} {:6} {:6} {:6} {states:6} {:10}  {:.0?}",
        case.name,
        count(|what| matches!(what, What::Write(_))),
        count(|what| *what == What::Zero),
        count(|what| *what == What::Flush),
        violations.len(),
        begin.elapsed()
    );
    Found { line, states, violations }
}
