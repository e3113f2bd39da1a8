//! One seed: a server, a device, what happens to them, and what must be so whatever it is.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hub_emulator::Chaos;

use super::super::disk::Fault;
use super::super::server::Script;
use super::mishap::{Hope, Mishap, NOT_IT};
use super::ware::SLOT;
use super::watch::watch;
use super::*;
use crate::model::Reason;

/// How long one try may take: far more than it does, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(180);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(1);
/// What the HTTP library may have handed out at once, and what a boundary may lie back, in bytes.
const PIECE: u64 = 640 << 10;
/// What a line on which anything goes wrong may be called.
const BAD_LINE: [Failure; 3] = [Failure::DownloadUnreachable, Failure::DownloadTls, Failure::DownloadTooSlow];

/// How a process ended.
enum Ended {
    Well,
    Killed,
    Failed(Reason),
}

struct Run<'a> {
    ware: &'a Ware,
    plant: Plant,
    seed: u64,
    dice: Dice,
    bench: Bench,
    line: Option<Chaos>,
    /// What happens, one after the other; or the first of them at every request.
    mishaps: Vec<Mishap>,
    is_endless: bool,
    /// From which request on the server is good.
    good_from: usize,
    /// The file is another one for a while.
    changes: bool,
    updates: u32,
    /// Bytes that were fetched for this update, and how often its process was killed.
    fetched: u64,
    kills: u32,
    tries: u32,
    story: Vec<String>,
}

/// Plays the run of a seed; what is wrong with it, and how it came to that.
pub(super) fn run(wares: &[Ware], seed: u64, plant: Plant, tally: &Mutex<Tally>) -> Result<(), String> {
    let mut run = Run::new(wares, seed, plant);
    let outcome = match run.in_trouble(tally) {
        Ok(false) => run.in_the_end(tally),
        Ok(true) => Ok(()),
        Err(why) => Err(why),
    };
    let mut tally = tally.lock().unwrap();
    tally.requests += run.bench.server.requests();
    tally.tries += run.tries;
    tally.proxied += u32::from(run.line.is_some());
    let met = if run.is_endless { 1 } else { run.bench.server.requests() };
    for mishap in run.mishaps.iter().take(met) {
        *tally.mishaps.entry(mishap.name).or_default() += 1;
    }
    outcome.map_err(|why| format!("{why}\n  {}", run.story.join("\n  ")))
}

impl<'a> Run<'a> {
    fn new(wares: &'a [Ware], seed: u64, plant: Plant) -> Self {
        let mut dice = Dice::new(seed);
        let ware = &wares[dice.below(wares.len() as u64) as usize];
        let mut bench = ware.bench();
        bench.settings = Settings {
            connect_timeout: SILENCE,
            idle_timeout: SILENCE,
            checkpoint_every: 32 << 10,
            ..hasty()
        };
        if dice.below(3) == 0 {
            bench.artifact.size = None;
        }
        if dice.below(4) == 0 {
            bench.server.without_etag();
        }
        if dice.below(8) == 0 {
            bench.server.without_ranges();
        }
        if dice.below(4) == 0 {
            bench.settings.data_cap = 3 * ware.file.len() as u64;
        }
        if let Some(rig) = &mut bench.rig {
            rig.has_seed = dice.below(3) > 0;
        }
        let is_endless = dice.below(3) == 0;
        let line = (dice.below(4) == 0).then(|| bad_line(&mut bench, seed, ware.file.len()));
        let mut draw = || loop {
            let mishap = Mishap::draw(&mut dice, ware.file.len());
            // Again and again that takes minutes, and does no harm.
            if !(is_endless && matches!(mishap.script, Script::StallAfter(_))) {
                return mishap;
            }
        };
        let count = if is_endless { 1 } else { 1 + seed as usize % 8 };
        let mishaps: Vec<_> = (0..count).map(|_| draw()).collect();
        let changes = !is_endless && dice.below(6) == 0;
        let mut run = Self {
            ware,
            plant,
            seed,
            dice,
            bench,
            line,
            good_from: mishaps.len(),
            mishaps,
            is_endless,
            changes,
            updates: 0,
            fetched: 0,
            kills: 0,
            tries: 0,
            story: Vec::new(),
        };
        run.arrange();
        run
    }

    /// Has the server do what it is to do, and breaks what is planted.
    fn arrange(&mut self) {
        for mishap in &mut self.mishaps {
            if self.plant == Plant::AnyPart && mishap.name == "another part" {
                let number = self.dice.below(1 << 32);
                mishap.script = Script::Made(lies::shifted_unnoticed, number);
            }
        }
        let server = &self.bench.server;
        if self.is_endless {
            server.always(self.mishaps[0].script.clone());
        } else {
            self.mishaps.iter().for_each(|mishap| {
                server.then(mishap.script.clone());
            });
        }
        if self.changes {
            let from = self.dice.below(4) as usize;
            let until = from + 1 + self.dice.below(4) as usize;
            server.replace_after(from, self.ware.other.clone(), "\"other\"");
            server.replace_after(until, self.ware.file.clone(), "\"one\"");
            self.good_from = self.good_from.max(until + 1);
        }
        match self.plant {
            Plant::NoDigest => self.bench.artifact.sha256 = None,
            Plant::LostWrite => self.bench.disk.fault(self.dice.below(8), Fault::Lie),
            Plant::NoEnd => self.bench.settings.attempts = u32::MAX,
            Plant::Nothing | Plant::AnyPart => {}
        }
        let names: Vec<_> =
            self.mishaps.iter().map(|mishap| format!("{}: {:?}", mishap.name, mishap.script)).collect();
        self.story.push(format!(
            "{} of {} bytes, size {:?}, cap {}, bad line {}, changes {}, endless {}, then {names:?}",
            self.ware.name,
            self.ware.file.len(),
            self.bench.artifact.size,
            self.bench.settings.data_cap,
            self.line.is_some(),
            self.changes,
            self.is_endless
        ));
    }

    /// While the server is not good. Whether the image got there all the same.
    fn in_trouble(&mut self, tally: &Mutex<Tally>) -> Result<bool, String> {
        for _ in 0..60 {
            let before = self.bench.server.requests();
            if !self.is_endless && before >= self.good_from {
                return Ok(false);
            }
            if !self.is_endless && self.dice.below(3) == 0 {
                let operation = self.bench.disk.operations() + self.dice.below(8);
                self.bench.disk.fault(operation, Fault::Die);
            }
            let (ended, lag) = self.attempt(tally)?;
            match ended {
                Ended::Killed => {}
                Ended::Well if self.is_endless && !self.may_succeed() => {
                    return Err("told good, although the server was never good".into());
                }
                Ended::Well => return Ok(true),
                Ended::Failed(reason) => {
                    self.judge(&reason, before, lag)?;
                    self.again();
                    if self.is_endless {
                        return Ok(false);
                    }
                }
            }
        }
        Err("it never ends".into())
    }

    /// The server is good, and so is the line: whatever lies there from before, it succeeds.
    fn in_the_end(&mut self, tally: &Mutex<Tally>) -> Result<(), String> {
        self.bench.server.always(Script::Good);
        if let Some(line) = &self.line {
            line.calm();
        }
        let patient = Duration::from_secs(60);
        let settings = &mut self.bench.settings;
        (settings.idle_timeout, settings.connect_timeout, settings.minimum_rate) = (patient, patient, 0);
        let mut found_late = 0;
        for _ in 0..10 {
            match self.attempt(tally)?.0 {
                Ended::Well => return Ok(()),
                Ended::Killed => {}
                Ended::Failed(reason) => {
                    let is_late = self.is_called_late(reason.failure);
                    found_late += u32::from(is_late);
                    if !(self.is_over_cap(&reason) || is_late && found_late == 1) {
                        return Err(format!("the server is good, and it fails: {reason}"));
                    }
                    self.again();
                }
            }
        }
        Err("the server is good, and it never ends".into())
    }

    /// One process.
    fn attempt(&mut self, tally: &Mutex<Tally>) -> Result<(Ended, Duration), String> {
        (self.bench.cancel, self.bench.progress) = (Cancel::default(), Progress::default());
        let before = self.bench.server.requests();
        let is_hopeless = self.plant == Plant::NoEnd && self.is_endless;
        let limit = if is_hopeless { 5 * SILENCE } else { LIMIT };
        let bench = &self.bench;
        let (ended, watched) =
            watch(&bench.cancel, limit, || catch_unwind(AssertUnwindSafe(|| bench.write())));
        self.tries += 1;
        let (seen, asked) = (self.bench.progress.snapshot(), self.bench.server.requests() - before);
        self.fetched += seen.fetched;
        {
            let mut tally = tally.lock().unwrap();
            tally.resumed += u32::from(seen.resumed_at > 0);
            tally.late += u32::from(watched.lag > SILENCE / 3);
        }
        let ended = match ended {
            Ok(Ok(written)) => self.is_right(&written).map(|()| Ended::Well)?,
            Ok(Err(error)) => {
                let reason = error.reason();
                let all = format!("{reason} {error:?} {seen:?}");
                if all.contains("SECRET") || all.contains("sig=") {
                    return Err(format!("a secret is told: {all}"));
                }
                *tally.lock().unwrap().failures.entry(reason.failure.code()).or_default() += 1;
                Ended::Failed(reason)
            }
            Err(payload) if payload.downcast_ref::<&str>() == Some(&"killed") => {
                self.kills += 1;
                tally.lock().unwrap().kills += 1;
                self.bench.disk.power_cut(self.seed + u64::from(self.kills));
                Ended::Killed
            }
            Err(_) => return Err("it panicked".into()),
        };
        let told = match &ended {
            Ended::Well => "it is there".to_owned(),
            Ended::Killed => "killed".to_owned(),
            Ended::Failed(reason) => reason.to_string(),
        };
        let (from, fetched, lag) = (seen.resumed_at, seen.fetched, watched.lag);
        self.story.push(format!("{asked} requests, from {from}, {fetched} bytes, lag {lag:.0?}: {told}"));
        if watched.is_over {
            return Err(format!("it hangs: {limit:?} and no end"));
        }
        self.is_within_bounds(asked as u64, fetched)?;
        Ok((ended, lag))
    }

    /// The slot holds what it is told to hold.
    fn is_right(&self, written: &Written) -> Result<(), String> {
        let wanted = self.ware.wanted();
        if written.image != wanted && self.plant != Plant::NoDigest {
            return Err(format!("told good is another image: {:?}", written.image));
        }
        if !self.bench.disk.durable().starts_with(&self.ware.image) {
            return Err("told good, and the slot does not hold the image".into());
        }
        let bench = &self.bench;
        match read_back(&bench.disk.open(), &wanted, &bench.progress, &bench.cancel) {
            Ok(found) if found == wanted.sha256 => Ok(()),
            Ok(found) => Err(format!("told good, and read back is {found}")),
            Err(error) => Err(format!("told good, and cannot be read back: {}", error.reason())),
        }
    }

    /// What it took: as many requests and bytes as make sense.
    fn is_within_bounds(&self, asked: u64, fetched: u64) -> Result<(), String> {
        let most = if self.bench.artifact.size.is_some() { self.ware.file.len() as u64 } else { SLOT };
        if fetched > asked * (most + PIECE) {
            return Err(format!("{fetched} bytes were fetched by {asked} requests"));
        }
        let (cap, kills) = (self.bench.settings.data_cap, u64::from(self.kills));
        if cap > 0 && self.fetched > cap + (kills + 1) * PIECE {
            return Err(format!("{} bytes were fetched, {cap} are allowed", self.fetched));
        }
        // Who refuses is asked once or twice, who is in trouble four times; each of them may send us on.
        let is_plain = self.is_endless && self.mishaps[0].hope == Hope::None && !self.ware.is_bundle();
        if is_plain && asked > 8 {
            return Err(format!("{asked} requests to a server that is never good"));
        }
        Ok(())
    }

    /// Whether a failure is called what it is, of a process that began with request `before`.
    fn judge(&self, reason: &Reason, before: usize, lag: Duration) -> Result<(), String> {
        let failure = reason.failure;
        let requests = self.bench.server.requests();
        let last = if self.is_endless { 0 } else { requests.saturating_sub(1) };
        let last = self.mishaps.get(last).filter(|_| requests > before);
        let is_plain = !self.ware.is_bundle() && self.bench.artifact.size.is_some();
        let is_called = last.is_some_and(|last| match (self.is_endless, is_plain) {
            (true, true) => last.exactly.contains(&failure),
            (true, false) => last.exactly.contains(&failure) || last.is_called(failure),
            // Six of them in a row are one too many.
            (false, _) if last.name == "onward" => last.exactly.contains(&failure) && requests - before > 5,
            (false, _) => last.is_called(failure),
        });
        let is_late = !(self.is_endless && is_plain) && self.is_called_late(failure);
        let is_line = self.line.is_some() && BAD_LINE.contains(&failure);
        let stood_still = lag > SILENCE / 3 && failure == Failure::DownloadUnreachable;
        if is_called || is_late || is_line || stood_still || self.is_over_cap(reason) {
            return Ok(());
        }
        let last = last.map_or("nothing", |last| last.name);
        Err(format!("the last that happened was {last}, and it is called {reason}"))
    }

    /// Whether something that happened before may be called so now.
    fn is_called_late(&self, failure: Failure) -> bool {
        let met = if self.is_endless { 1 } else { self.bench.server.requests() };
        let mut met = self.mishaps.iter().take(met);
        self.changes && NOT_IT.iter().any(|codes| codes.contains(&failure))
            || met.any(|mishap| mishap.later.iter().any(|codes| codes.contains(&failure)))
    }

    fn is_over_cap(&self, reason: &Reason) -> bool {
        reason.failure == Failure::DataCap && self.bench.settings.data_cap > 0
    }

    fn may_succeed(&self) -> bool {
        match self.mishaps[0].hope {
            Hope::None => false,
            Hope::ForBundles => self.ware.is_bundle(),
            Hope::Some => true,
        }
    }

    /// Somebody asks for it once more.
    fn again(&mut self) {
        self.updates += 1;
        self.bench.update = self.updates.to_string();
        (self.fetched, self.kills) = (0, 0);
    }
}

/// Puts a line before the server on which anything may happen to a connection.
fn bad_line(bench: &mut Bench, seed: u64, reach: usize) -> Chaos {
    let line = Chaos::start(([127, 0, 0, 1], bench.server.port()).into(), seed, reach as u64).unwrap();
    let path = if bench.rig.is_some() { "/fw-2.twb?sig=SECRET" } else { "/fw.bin?sig=SECRET" };
    let url = format!("https://127.0.0.1:{}{path}", line.port());
    bench.artifact.location = Location::Url(url.parse().unwrap());
    (bench.settings.minimum_rate, bench.settings.minimum_rate_window) = (100_000, SILENCE);
    line
}
