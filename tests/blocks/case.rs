//! A case: what is written to which disks, what the log of it is, and what must be found after a cut.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use super::bench::{Bench, Layout};
use super::dice::Dice;
use super::disks::{Disks, run};
use super::keep::{Keeper, Place, TORN};
use super::log::Log;

/// What is written, and where.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) layout: Layout,
    /// Writes all that there is to write.
    pub(super) write: fn(&Case, &Bench, &mut Dice) -> Result<Written, String>,
    /// How many cuts are drawn in a campaign.
    pub(super) cuts: usize,
}

/// What was written.
pub(super) struct Written {
    /// What was on the disks before.
    pub(super) before: Vec<Vec<u8>>,
    pub(super) log: Log,
    pub(super) judge: Box<dyn Judge>,
}

/// Knows what must be so after a cut.
pub(super) trait Judge: Sync {
    /// What is wrong with what is found there, after a cut behind so many ops of the log.
    fn judge(&self, place: &Place, at: usize, dice: &mut Dice) -> Result<(), String>;

    /// How much was promised by then: a number that grows with the promises.
    fn promised(&self, at: usize) -> usize;
}

/// What somebody promised.
#[derive(Clone, Debug)]
struct Promise {
    /// Before which op of the log it was begun, and before which it was said to be done.
    began: usize,
    done: usize,
    found: String,
    meanwhile: Option<String>,
}

/// Keepers, with all that each of them promised.
#[derive(Debug)]
struct Promises {
    keepers: Vec<(Box<dyn Keeper>, Vec<Promise>)>,
}

/// Has keepers take turns, so many in all, on the disks of this bench. In one of `loses` turns the first disk loses a
/// write, and says that all is well.
pub(super) fn take_turns(
    bench: &Bench,
    mut keepers: Vec<Box<dyn Keeper>>,
    turns: usize,
    loses: Option<usize>,
    dice: &mut Dice,
) -> Result<Written, String> {
    let (disks, has_files) = (&bench.disks, bench.layout.ext4.is_some());
    let written = bench.mounted(|place| {
        for keeper in &mut keepers {
            keeper.prepare(place)?;
        }
        let initially: Vec<_> = keepers.iter().map(|keeper| keeper.look(place)).collect();
        let before = settled(disks, place).map_err(|error| error.to_string())?;
        let mut promises: Vec<_> = initially.into_iter().map(|found| vec![(0, 0, found, None)]).collect();
        let position = || disks.position().map_err(|error| error.to_string());
        for _ in 0..turns {
            if has_files && dice.one_in(4) {
                others_write(&place.root, dice).map_err(|error| format!("somebody else: {error}"))?;
            }
            let keeper = dice.below(keepers.len());
            let began = position()?;
            let lost = loses.is_some_and(|turns| dice.one_in(turns));
            disks.lose(0, lost.into()).map_err(|error| error.to_string())?;
            let turn = keepers[keeper].turn(place, dice)?;
            promises[keeper].push((began, position()?, turn.found, turn.meanwhile));
        }
        disks.note(false).map_err(|error| error.to_string())?;
        // Nothing stays open.
        keepers = keepers.iter().map(|keeper| keeper.fresh()).collect();
        Ok::<_, String>((before, promises))
    });
    let (before, promises) = written.map_err(|error| error.to_string())??;
    let log = Log::parse(disks.log().map_err(|error| error.to_string())?)?;
    let kept = keepers.into_iter().zip(promises).map(|(keeper, promises)| {
        let promise = |(began, done, found, meanwhile): (u64, u64, _, _)| Promise {
            began: log.count(began),
            done: log.count(done),
            found,
            meanwhile,
        };
        (keeper, promises.into_iter().map(promise).collect())
    });
    let judge = Box::new(Promises { keepers: kept.collect() });
    Ok(Written { before, log, judge })
}

/// Makes all that was done so far durable; from here on what comes is noted down.
pub(super) fn settled(disks: &Disks, place: &Place) -> std::io::Result<Vec<Vec<u8>>> {
    if place.root.join("state").exists() {
        run("sync", &["--file-system", &place.root.to_string_lossy()])?;
    }
    disks.note(true)?;
    (0..place.devices.len()).map(|disk| disks.bytes(disk)).collect()
}

/// The same file system has other users.
fn others_write(root: &Path, dice: &mut Dice) -> std::io::Result<()> {
    let path = root.join(format!("noise{}", dice.below(4)));
    match dice.below(4) {
        0 => fs::File::options().append(true).create(true).open(&path)?.write_all(dice.text(3000).as_bytes()),
        1 => fs::write(&path, dice.text(5000)),
        2 if path.exists() => fs::remove_file(&path),
        // What they flush has the journal of everybody with it.
        3 if path.exists() => fs::File::open(&path)?.sync_all(),
        _ => Ok(()),
    }
}

impl Judge for Promises {
    fn judge(&self, place: &Place, at: usize, dice: &mut Dice) -> Result<(), String> {
        for (keeper, promises) in &self.keepers {
            let done = promises.iter().rposition(|promise| promise.done <= at).unwrap_or_default();
            let begun = promises[done + 1..].iter().find(|promise| promise.began < at);
            let mut allowed = vec![&promises[done].found];
            allowed.extend(begun.iter().flat_map(|begun| [&begun.found].into_iter().chain(&begun.meanwhile)));
            let found = keeper.look(place);
            if !allowed.contains(&&found) {
                let is_older = promises[..done].iter().rposition(|promise| promise.found == found);
                let age =
                    is_older.map_or(String::new(), |older| format!(", which is {} older", done - older));
                return Err(format!("{keeper:?}: found is {found:?}{age}; it must be one of {allowed:?}"));
            }
        }
        // And it goes on.
        if dice.one_in(4) {
            for (keeper, _) in &self.keepers {
                let mut fresh = keeper.fresh();
                // Nobody but its maker could write anew what has no second copy.
                if fresh.look(place) == TORN {
                    continue;
                }
                let turn = fresh.turn(place, dice);
                let found = turn.map_err(|why| format!("{keeper:?}: it does not go on: {why}"))?.found;
                let seen = fresh.look(place);
                if seen != found {
                    return Err(format!("{keeper:?}: it goes on with {found:?}, and {seen:?} is found"));
                }
            }
        }
        Ok(())
    }

    fn promised(&self, at: usize) -> usize {
        let all = self.keepers.iter().flat_map(|(_, promises)| promises);
        all.map(|promise| usize::from(promise.began <= at) + usize::from(promise.done <= at)).sum()
    }
}
