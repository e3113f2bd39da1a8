//! What must be so, whatever happens, judged by rules of its own: nothing here asks the code that it judges.

use super::super::*;
use super::image::{Image, Kind};
use super::watch::{Saved, name};
use crate::model::{Failure, Window, Zone};
use crate::update::Plan;

/// How long after its boot a trial must have proved itself, as [`Device::tools`] has it.
const DEADLINE: Duration = Duration::from_secs(600);
/// So much later at most there is a verdict: checks are asked twice a second, and time is moved on in steps of ten.
const LATE: Duration = Duration::from_secs(15);
/// How often time is moved on for a trial that should be over before it counts as one that never ends.
const ENDLESS: u32 = 30;
/// No record is larger, in bytes.
const RECORD: usize = 4 << 10;

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub asked: u32,
    pub succeeded: u32,
    pub rolled_back: u32,
    pub failed: u32,
    pub superseded: u32,
    pub troubles: u32,
    pub cuts: u32,
    pub boots: u32,
    pub lost_reboots: u32,
    pub armed: u32,
    pub in_window: u32,
    pub forced: u32,
    pub special: u32,
    pub consented: u32,
    pub deadlines: u32,
    pub largest_record: usize,
    pub saves: u32,
    pub reports: u64,
    pub most_saves_a_day: u32,
    pub most_reports_a_day: u64,
}

/// What was asked for last, and what bears on its end.
pub(super) struct Asked {
    pub id: String,
    pub image: Image,
    /// Somebody cancelled it in time.
    pub is_cancelled: bool,
    /// Then another one was still giving way to it, whose end is that of both.
    pub gave_way: Option<String>,
    /// The hub was reached before it was tried.
    pub was_reached: bool,
    /// Its trial had to end at its deadline.
    pub is_late: bool,
    /// It was rolled back on this device before.
    pub was_condemned: bool,
}

#[derive(Default)]
pub(super) struct Judge {
    pub figures: Figures,
    pub asked: Option<Asked>,
    /// Records were lost: why an update was rolled back may be lost with them.
    pub is_lenient: bool,
    /// When the next update must be armed: from this time on, in milliseconds since 1970, and before that one.
    pub armed_within: Option<[u64; 2]>,
    overdue: u32,
}

impl Judge {
    /// Whether the image that a slot holds comes up.
    pub(super) fn comes_up(held: Option<Image>, slot: Slot) -> bool {
        let image = held.unwrap_or_else(|| panic!("the loader boots slot {slot}, which holds nothing whole"));
        image.kind != Kind::Dead
    }

    pub(super) fn booted(&mut self) {
        self.figures.boots += 1;
        self.overdue = 0;
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.overdue > 0
    }

    /// A system is on trial and has no verdict yet, so long after its boot.
    pub(super) fn is_on_trial(&mut self, since_boot: Duration) {
        if since_boot > DEADLINE + LATE {
            self.overdue += 1;
            assert!(self.overdue < ENDLESS, "a trial has no verdict {since_boot:?} after its boot");
        }
    }

    /// A record was saved. `linked`: since when there is a link to the hub, and now, since the boot. `kept`: what boots by
    /// default.
    pub(super) fn saw(
        &mut self,
        rules: &Rules,
        before: &Record,
        saved: &Saved,
        linked: Option<Duration>,
        kept: Option<Image>,
    ) {
        let Saved { record, since_boot, .. } = saved;
        let kept = kept.expect("the slot that boots by default holds nothing whole");
        assert!(matches!(kept.kind, Kind::Well | Kind::Deaf), "{kept:?} boots by default");
        let len = serde_json::to_vec(record).unwrap().len();
        self.figures.largest_record = self.figures.largest_record.max(len);
        assert!(len <= RECORD, "a record of {len} bytes");
        self.overdue = 0;
        if let Some(asked) = &mut self.asked
            && let Some(job) = record.state.job().filter(|job| job.id.0 == asked.id)
        {
            asked.was_reached |= job.hub_reached;
        }
        match (name(before), name(record)) {
            (from, Some("applying")) if from != Some("applying") => self.armed(rules, record),
            (Some("confirming"), Some("rolling-back")) => self.unwell(record, *since_boot, linked),
            _ => {}
        }
        if record.last != before.last
            && let Some(last) = &record.last
        {
            let superseded = last.was_superseded();
            self.figures.superseded += u32::from(superseded);
            match &last.outcome {
                Outcome::Succeeded | Outcome::UpToDate => self.figures.succeeded += 1,
                Outcome::RolledBack(_) => self.figures.rolled_back += 1,
                Outcome::Failed(_) => self.figures.failed += u32::from(!superseded),
            }
        }
    }

    /// It is about to be armed: was that allowed?
    fn armed(&mut self, configured: &Rules, record: &Record) {
        let job = record.state.job().unwrap();
        let rules = configured.tuned(&record.tuning);
        self.figures.armed += 1;
        // The device's own clock counts, which may be wrong.
        let at = job.times.applying;
        if let Some([from, to]) = self.armed_within.take() {
            let at = at.expect("the clock was right").0;
            assert!((from..to).contains(&at), "armed at {}", Timestamp(at));
        }
        if !matches!(job.plan, Plan::Install(_)) {
            return;
        }
        if job.terms.force_by.zip(at).is_some_and(|(by, at)| at >= by) {
            self.figures.forced += 1;
            return;
        }
        let asks = rules.consent || job.terms.consent || job.terms.hold;
        assert!(!asks || job.consent.is_some(), "armed without consent: {job:?}");
        self.figures.consented += u32::from(asks);
        if let Some(Window { from, to }) = rules.window {
            let at = at.unwrap_or_else(|| panic!("armed without knowing the hour: {job:?}"));
            let minute = minute(&rules.zone, at.0);
            let [into, long] = [minute, i64::from(to)].map(|it| (it - i64::from(from)).rem_euclid(1440));
            assert!(into < long, "armed at {at}, and the window is {}", rules.window.unwrap());
            self.figures.in_window += 1;
        }
    }

    /// A trial is over, and the system is not to be kept.
    fn unwell(&mut self, record: &Record, since_boot: Duration, linked: Option<Duration>) {
        let job = record.state.job().unwrap();
        let why = job.phase.undoing().unwrap();
        if matches!(why.failure, Failure::HubUnreachable | Failure::HealthTimeout) {
            assert!(since_boot >= DEADLINE, "{why}, only {since_boot:?} after the boot");
            let in_time = linked.is_some_and(|at| at + LATE < DEADLINE);
            assert!(!in_time, "{why}, and the hub was linked {linked:?} after the boot");
            self.figures.deadlines += 1;
            if let Some(asked) = &mut self.asked {
                asked.is_late |= job.id.0 == asked.id;
            }
        }
    }

    /// All is at rest: what was asked for last had the end that it must have.
    pub(super) fn ended(&self, record: &Record, runs: Image) {
        let asked = self.asked.as_ref().unwrap();
        let last = record.last.as_ref().expect("an update has ended");
        let what = || format!("{:?} ended so: {last:?}; {runs:?} runs", asked.image);
        assert!(last.id.0 == asked.id || Some(&last.id.0) == asked.gave_way.as_ref(), "{}", what());
        let why = match &last.outcome {
            Outcome::Succeeded | Outcome::UpToDate => None,
            Outcome::Failed(why) | Outcome::RolledBack(why) => Some(why.failure),
        };
        assert_eq!(why.is_none(), runs == asked.image, "{}", what());
        let usual = match asked.image.kind {
            _ if asked.was_condemned => Some(Failure::RolledBackBefore),
            _ if asked.is_cancelled => Some(Failure::Cancelled),
            Kind::Sick => Some(Failure::WrongVersion),
            Kind::Dead => Some(Failure::BootFallback),
            Kind::Deaf if asked.was_reached => Some(Failure::HubUnreachable),
            Kind::Deaf | Kind::Well => None,
        };
        let late = [Failure::HubUnreachable, Failure::HealthTimeout];
        let is_late = asked.is_late && why.is_some_and(|why| late.contains(&why));
        let lost = [Failure::BootFallback, Failure::BootInterrupted];
        let is_lost = self.is_lenient && why.is_some_and(|why| lost.contains(&why));
        assert!(why == usual || is_late || is_lost, "{}", what());
    }
}

/// The minute of the day, in Berlin or in UTC: there the clock is an hour ahead, and two from the last Sunday of March to
/// that of October, 01:00 UTC.
pub(super) fn minute(zone: &Zone, millis: u64) -> i64 {
    let summer = |month: &str, year: &str| {
        let last: Timestamp = format!("{year}-{month}-31T01:00Z").parse().unwrap();
        // 1970 began on a Thursday.
        let days_since_sunday = (last.0 / 86_400_000 + 4) % 7;
        last.0 - days_since_sunday * 86_400_000
    };
    let text = Timestamp(millis).to_string();
    let year = &text[..4];
    let is_summer = (summer("03", year)..summer("10", year)).contains(&millis);
    let ahead = match zone {
        Zone::Utc => 0,
        Zone::Local | Zone::Named(_) => 60 + 60 * i64::from(is_summer),
    };
    (i64::try_from(millis / 60_000).unwrap() + ahead).rem_euclid(1440)
}

#[test]
fn the_judge_knows_the_hours_of_berlin() {
    let (berlin, utc) = (Zone::Local, Zone::Utc);
    for (text, zone, minute_of_day) in [
        ("2037-10-25T00:59Z", &berlin, 2 * 60 + 59),
        ("2037-10-25T01:00Z", &berlin, 2 * 60),
        ("2038-01-19T03:14Z", &berlin, 4 * 60 + 14),
        ("2038-03-28T00:59Z", &berlin, 60 + 59),
        ("2038-03-28T01:00Z", &berlin, 3 * 60),
        ("2038-03-28T01:00Z", &utc, 60),
    ] {
        let at: Timestamp = text.parse().unwrap();
        assert_eq!(minute(zone, at.0), minute_of_day, "{text}");
    }
}
