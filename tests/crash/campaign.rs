//! Many lives at once, drawn by a seed, and counted.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::fault::Fault;
use super::life::{Cut, Lived, Plan, live};
use super::stories::STORIES;

/// More are counted, and not shown.
const SHOWN: usize = 3;

/// Random numbers that can be had again: splitmix64.
pub(super) struct Dice(u64);

/// The seed of a campaign; `CRASH_SEED` sets another.
pub(super) fn seed() -> u64 {
    std::env::var("CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121)
}

impl Dice {
    /// The seed is printed.
    pub(super) fn new() -> Self {
        let seed = seed();
        println!("CRASH_SEED={seed}");
        Self(seed)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }

    /// Of a power cut: not the one that loses all.
    pub(super) fn seed(&mut self) -> u64 {
        1 + self.below(1 << 32)
    }
}

/// The calls of each story where nothing happens.
pub(super) static CALLS: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let undisturbed = |story| live(&Plan { story, ..Plan::default() });
    let told = (0..STORIES.len()).map(undisturbed).map(|lived| {
        assert_eq!(lived.violation, None);
        lived.calls
    });
    told.collect()
});

/// A life as `CRASH` has it, to be lived again alone: `story:call[,call…]:how`.
pub(super) fn name(plan: &Plan) -> String {
    let story = STORIES[plan.story].name;
    if let Some((at, fault)) = plan.fault {
        return format!("{story}:{at}:{}", fault.name());
    }
    let calls: Vec<_> = plan.cuts.iter().map(|cut| cut.at.to_string()).collect();
    let how: Vec<_> =
        plan.cuts.iter().map(|cut| cut.power.map_or("KILL".into(), |seed| format!("POWER={seed}"))).collect();
    format!("{story}:{}:{}", calls.join(","), how.join(","))
}

/// The life of this name.
pub(super) fn named(name: &str) -> Option<Plan> {
    let mut parts = name.split(':');
    let (story, calls, how) = (parts.next()?, parts.next()?, parts.next()?);
    let story = STORIES.iter().position(|known| known.name == story)?;
    let plan = Plan { story, goes_on: true, ..Plan::default() };
    if let Some(fault) = Fault::named(how) {
        return Some(Plan { fault: Some((calls.parse().ok()?, fault)), ..plan });
    }
    let cut = |(at, how): (&str, &str)| {
        let power = match how.strip_prefix("POWER=") {
            Some(seed) => Some(seed.parse().ok()?),
            None if how == "KILL" => None,
            None => return None,
        };
        Some(Cut { at: at.parse().ok()?, power })
    };
    let cuts = calls.split(',').zip(how.split(',')).map(cut).collect::<Option<Vec<_>>>()?;
    Some(Plan { cuts, ..plan })
}

/// What a campaign has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lives: usize,
    /// Not all of them were wanted.
    pub(super) is_part: bool,
    /// Cuts that took place.
    pub(super) cuts: usize,
    /// Calls that failed.
    pub(super) faults: usize,
    pub(super) violations: Vec<String>,
}

/// The fewest cuts that show the same: each is left out in turn.
fn shrunk(plan: &Plan) -> Plan {
    let mut least = plan.clone();
    let mut at = 0;
    while least.cuts.len() > 1 && at < least.cuts.len() {
        let mut fewer = least.clone();
        fewer.cuts.remove(at);
        if live(&fewer).violation.is_some() {
            least = fewer;
        } else {
            at += 1;
        }
    }
    least
}

/// Lives all of them, some at a time; with `CRASH_STORY` those of one story, with `CRASH_COUNT` no more than so many.
/// Prints a table, and the first of what was found.
pub(super) fn run(what: &str, plans: &[Plan]) -> Found {
    let begin = Instant::now();
    let only = std::env::var("CRASH_STORY").ok();
    let is_wanted = |plan: &&Plan| only.as_ref().is_none_or(|only| only == STORIES[plan.story].name);
    let mut plans: Vec<_> = plans.iter().filter(is_wanted).collect();
    let most = std::env::var("CRASH_COUNT").ok().and_then(|count| count.parse().ok());
    if let Some(most) = most.filter(|most| *most < plans.len()) {
        let mut dice = Dice::new();
        plans = (0..most).map(|_| plans.swap_remove(dice.below(plans.len() as u64) as usize)).collect();
    }
    let (next, lived) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // Most of a life is waiting for a process to start or to end.
    let at_once = thread::available_parallelism().map_or(1, usize::from) * 2 + 1;
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let life = live(plan);
                    lived.lock().unwrap().push((*plan, life));
                }
            });
        }
    });
    let lived = lived.into_inner().unwrap();
    let mut table: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    let is_part = only.is_some() || most.is_some();
    let mut found = Found { lives: lived.len(), is_part, ..Found::default() };
    for (plan, Lived { cuts, hit, violation, .. }) in &lived {
        let row = table.entry(STORIES[plan.story].name).or_default();
        let counts = [1, *cuts, usize::from(*hit), usize::from(violation.is_some())];
        row.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        (found.cuts, found.faults) = (found.cuts + cuts, found.faults + usize::from(*hit));
        found.violations.extend(violation.as_ref().map(|why| {
            let least = if found.violations.len() < SHOWN { shrunk(plan) } else { (*plan).clone() };
            let again = if least.cuts.len() < plan.cuts.len() { live(&least).violation } else { None };
            format!("CRASH={}\n{}", name(&least), again.as_ref().unwrap_or(why))
        }));
    }
    println!(
        "{what}: {:.0?}\n{:16} {:>6} {:>6} {:>6} {:>10}",
        begin.elapsed(),
        "story",
        "lives",
        "cuts",
        "faults",
        "violations"
    );
    for (story, [lives, cuts, faults, violations]) in table {
        println!("{story:16} {lives:6} {cuts:6} {faults:6} {violations:10}");
    }
    println!("{:16} {:6} {:6} {:6} {:10}", "", found.lives, found.cuts, found.faults, found.violations.len());
    found.violations.iter().take(SHOWN).for_each(|violation| println!("{violation}"));
    found
}
