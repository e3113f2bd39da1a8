//! Following devices to the end of what they were asked for.

mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::arguments::Following;
use crate::failure::{Exit, Outcome};
use crate::hub::{Hub, Outage};
use crate::show::{Board, Line, Picture};
pub(crate) use report::{FEW, Goal, Report, Verdict, reports};

/// How often so many devices are looked at: of few the twins are read, of which the hub gives a hundred a second; of many
/// it is asked, which it answers some twenty times a minute.
fn pause(devices: usize) -> Duration {
    Duration::from_secs(if devices > FEW { 30 } else { 2 })
}

/// Devices under way.
#[derive(Debug)]
pub(crate) struct Follow {
    goal: Goal,
    devices: Vec<Tracked>,
    board: Board,
}

#[derive(Debug)]
struct Tracked {
    before: Report,
    now: Report,
    moved: bool,
    /// It was asked for nothing, so what it reports need not be an answer.
    is_watched: bool,
    /// What is to be said of it as long as it reports nothing.
    note: String,
    /// How often the hub has not known it, one time after the other.
    missed: u32,
    verdict: Option<Verdict>,
}

impl Follow {
    /// Devices, with what each reported before it was asked.
    pub(crate) fn new(goal: Goal, before: Vec<Report>, json: bool) -> Self {
        let is_watched = goal == Goal::Idle;
        let tracked = |before: Report| {
            let (now, note) = (before.clone(), String::new());
            Tracked { now, before, moved: false, is_watched, note, missed: 0, verdict: None }
        };
        Self { goal, devices: before.into_iter().map(tracked).collect(), board: Board::new(json) }
    }

    /// One of them will not do it, as is known already.
    pub(crate) fn failed(&mut self, device: &str, why: String) {
        if let Some(tracked) = self.devices.iter_mut().find(|tracked| tracked.before.device == device) {
            tracked.verdict = Some(Verdict::Failed(why));
        }
    }

    /// One of them may do it or not: it was told, and the answer is missing.
    pub(crate) fn unsure(&mut self, device: &str, why: String) {
        if let Some(tracked) = self.devices.iter_mut().find(|tracked| tracked.before.device == device) {
            tracked.note = why;
        }
    }

    /// Looks again and again until all have ended, or the time is over; how it ended in all.
    ///
    /// # Errors
    /// If the hub refuses, or nobody reads what is shown. One that is away for a while is waited for.
    pub(crate) async fn run(mut self, hub: &Hub, wanted: &Following) -> Outcome<Exit> {
        if wanted.no_watch {
            // Nobody will see what came of these.
            for tracked in self.devices.iter_mut().filter(|tracked| !tracked.note.is_empty()) {
                tracked.verdict = Some(Verdict::Failed(tracked.note.clone()));
            }
            return self.end(false);
        }
        let deadline = Instant::now() + wanted.timeout.0;
        let every = wanted.every.map_or_else(|| pause(self.devices.len()), |every| every.0);
        let mut outage = Outage::default();
        loop {
            if let Err(failure) = outage.bear(hub, self.look(hub).await) {
                self.board.leave(&self.picture());
                return Err(failure);
            }
            self.board.show(&self.picture())?;
            if self.devices.iter().all(|tracked| tracked.verdict.is_some()) {
                return self.end(false);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return self.end(true);
            }
            tokio::time::sleep(every.min(left)).await;
        }
    }

    async fn look(&mut self, hub: &Hub) -> Outcome {
        let open = self.devices.iter().filter(|tracked| tracked.verdict.is_none());
        let open: Vec<&str> = open.map(|tracked| tracked.before.device.as_str()).collect();
        let mut found: BTreeMap<String, Report> =
            reports(hub, &open).await?.into_iter().map(|report| (report.device.clone(), report)).collect();
        for tracked in self.devices.iter_mut().filter(|tracked| tracked.verdict.is_none()) {
            let mut report = found.remove(&tracked.before.device);
            tracked.missed = if report.is_some() { 0 } else { tracked.missed + 1 };
            if tracked.missed > 1 {
                // Its twin is exact, where a query may not know it yet.
                report = reports(hub, &[tracked.before.device.as_str()]).await?.pop();
                if report.is_none() {
                    tracked.verdict = Some(Verdict::Failed("there is no such device any more".to_owned()));
                }
            }
            let Some(report) = report else { continue };
            tracked.moved |= report.firmware != tracked.before.firmware;
            tracked.verdict = report.verdict(&self.goal, &tracked.before, tracked.moved);
            tracked.now = report;
        }
        Ok(())
    }

    fn end(&mut self, timed_out: bool) -> Outcome<Exit> {
        self.board.end(&self.picture())?;
        let failed = |tracked: &Tracked| matches!(tracked.verdict, Some(Verdict::Failed(_)));
        Ok(match (self.devices.iter().any(failed), timed_out) {
            (true, _) => Exit::Failed,
            (false, true) => Exit::TimedOut,
            (false, false) => Exit::Done,
        })
    }

    fn picture(&self) -> Picture {
        let mut picture = Picture { total: self.devices.len() as u64, ..Picture::default() };
        for tracked in &self.devices {
            let line = tracked.line();
            picture.done += u64::from(tracked.verdict == Some(Verdict::Done));
            picture.failed += u64::from(line.trouble);
            picture.count(&line.status);
            picture.lines.push(line);
        }
        picture
    }
}

impl Tracked {
    fn line(&self) -> Line {
        let word = self.now.word();
        let (status, detail, trouble) = match &self.verdict {
            Some(Verdict::Done) => ("done", self.now.text("fwUpdateSubstatus").to_owned(), false),
            Some(Verdict::Failed(why)) => (
                if word == "rolledback" && (self.moved || self.is_watched) { "rolledback" } else { "failed" },
                why.clone(),
                true,
            ),
            None if !self.now.connected && (self.moved || self.note.is_empty()) => {
                ("away", "not connected".to_owned(), false)
            }
            None if !self.moved && !self.is_watched => ("waiting", self.note.clone(), false),
            None => (word, self.now.text("fwUpdateSubstatus").to_owned(), false),
        };
        Line {
            device: self.before.device.clone(),
            status: status.to_owned(),
            firmware: self.now.text("currentFwVersion").to_owned(),
            detail,
            trouble,
        }
    }
}
