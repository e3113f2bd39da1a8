//! What survives: the state, and the little that outlives an update. This is the one document that is stored.

use serde::{Deserialize, Serialize};

use super::job::Job;
use super::state::{Event, Facts, Phase, Refused, State};
use super::step::Step;
use super::undated::Undated;
use super::wish::{Wanted, Wish};
use crate::model::{
    Ended, Failure, Install, IntentId, Origin, Outcome, PerSlot, Reason, Slot, Times, Timestamp, Tuning,
    UpdateId, Version,
};

/// The durable record. Changed only by [`Record::step`].
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Record {
    /// Which layout this is: [`Record::SCHEMA`].
    pub schema: u16,
    /// What is going on.
    pub state: State,
    /// The newest desired property, and whether it has had its end.
    pub wanted: Option<Wanted>,
    /// What was rolled back on this device, newest last: not tried again unless someone asks for it.
    pub condemned: Vec<IntentId>,
    /// What each slot holds, as far as we put it there or saw it run.
    pub versions: PerSlot<Option<Version>>,
    /// The slot whose system ran by default before the present one and has not been written since.
    pub previous: Option<Slot>,
    /// The slot that an update began to write and whose system has not run by default since: nothing to go back to.
    #[serde(default)]
    pub spoiled: Option<Slot>,
    /// How the last update ended.
    pub last: Option<Ended>,
    /// When the machine came back from the last reboot that was asked for.
    pub reboot_time: Option<Timestamp>,
    /// What happened while the clock was not to be trusted.
    #[serde(default, skip_serializing_if = "Undated::is_nothing")]
    pub undated: Undated,
    /// What the hub changed of the configuration, as it was last heard.
    #[serde(default)]
    pub tuning: Tuning,
    /// The lowest rollback index that a signed bundle may have: the one that was committed last.
    #[serde(default)]
    pub floor: u64,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            schema: Self::SCHEMA,
            state: State::Idle,
            wanted: None,
            condemned: Vec::new(),
            versions: PerSlot::default(),
            previous: None,
            spoiled: None,
            last: None,
            reboot_time: None,
            undated: Undated::default(),
            tuning: Tuning::default(),
            floor: 0,
        }
    }
}

impl Record {
    /// The layout written by this version.
    pub const SCHEMA: u16 = 1;
    /// How many rolled-back intents are remembered.
    pub const CONDEMNED: usize = 8;

    /// What the record is after `event`. `at` is the time of day, if it is to be trusted; it is only written down.
    ///
    /// # Errors
    /// [`Refused`] if the event is a request that cannot be granted now; the record is unchanged then.
    pub fn step(&mut self, now: &Facts, at: Option<Timestamp>, event: Event) -> Result<(), Refused> {
        self.heed(now, at, event)?;
        self.consider(now, at);
        Ok(())
    }

    /// The first half of a step: what follows from the event alone. Whoever tells what happened looks here, before
    /// [`Record::consider`]: an end may be followed by another one in the same step.
    ///
    /// # Errors
    /// As for [`Record::step`].
    pub fn heed(&mut self, now: &Facts, at: Option<Timestamp>, event: Event) -> Result<(), Refused> {
        match event {
            Event::Started => self.started(now, at),
            Event::Reloaded => self.reloaded(now, at),
            Event::Desired(wish) => self.desired(at, wish),
            Event::DesiredCleared => self.desired_cleared(now, at),
            Event::Declined(id, reason) => self.declined(at, Origin::Method, id, None, reason),
            Event::HubReached => self.hub_reached(),
            Event::Asked(install) => self.asked(now, at, install)?,
            Event::Retry => self.retry(now, at)?,
            Event::GoBack(origin) if self.state == State::Idle => self.go_back(now, at, origin)?,
            Event::Cancel if self.state == State::Idle => {}
            Event::Cancel => self.cancel(now, at)?,
            Event::Confirm if self.state == State::Idle => return Err(Refused::NotOnTrial),
            Event::Apply(by) => self.apply(at, by)?,
            Event::Reboot => self.reboot(now)?,
            Event::FactoryReset(origin) => self.factory_reset(now, at, origin)?,
            Event::Tuned(tuning) => self.tuning = tuning,
            Event::ClockSet => self.clock_set(now, at),
            Event::GoBack(_)
            | Event::Confirm
            | Event::Proceed
            | Event::Written { .. }
            | Event::TooDear(_)
            | Event::Done
            | Event::Failed(_) => self.advance(now, at, event)?,
        }
        Ok(())
    }

    /// What runs now calls itself this, or was called this when it was installed.
    pub fn running<'a>(&'a self, now: &'a Facts) -> Option<&'a Version> {
        now.version.as_ref().or(self.versions.of(now.booted).as_ref())
    }

    /// Whether the running system is on a trial that the record does not know.
    pub fn is_on_unknown_trial(&self, now: &Facts) -> bool {
        now.trial == Some(now.booted) && !self.state.job().is_some_and(|job| job.explains(now.booted))
    }

    fn started(&mut self, now: &Facts, at: Option<Timestamp>) {
        if now.is_committed() {
            // Whoever put it there, it runs for good.
            self.spoiled = self.spoiled.filter(|slot| *slot != now.booted);
        }
        let stray = match (&self.state, now.trial) {
            // It must not stay, whatever the record is about.
            (_, Some(trial)) if self.is_on_unknown_trial(now) => Some(trial),
            // Armed for the next boot, and nobody remembers why.
            (State::Idle | State::Restarting { .. }, Some(trial)) => Some(trial),
            (State::Idle | State::Restarting { .. } | State::Busy(_), _) => None,
        };
        if let Some(target) = stray {
            let mut job = Job::rescue(target);
            job.trials = u8::from(target == now.booted);
            job.version = self.versions.of(target).clone();
            self.state = State::Busy(Box::new(job));
            return;
        }
        if let State::Busy(job) = &mut self.state {
            // What an earlier process read back is not known to this one.
            job.verified = false;
        }
        match &self.state {
            State::Idle => {}
            State::Restarting { since } if *since == now.boot => {}
            State::Restarting { .. } => {
                self.state = State::Idle;
                self.reboot_time = now.booted_at;
                self.undated.reboot = now.booted_at.is_none();
            }
            State::Busy(_) => {
                // Waking up is never refused.
                let _ = self.advance(now, at, Event::Started);
            }
        }
    }

    fn reloaded(&mut self, now: &Facts, at: Option<Timestamp>) {
        if let State::Busy(job) = &mut self.state {
            // What the works under the earlier configuration read back, those under this one have not.
            job.verified = false;
            // Going on is never refused.
            let _ = self.advance(now, at, Event::Reloaded);
        }
    }

    fn desired(&mut self, at: Option<Timestamp>, wish: Wish) {
        if self.wanted.as_ref().is_some_and(|wanted| wanted.covers(&wish))
            || self.is_too_late_to_refuse(&wish)
        {
            return;
        }
        if let (State::Busy(job), Wish::Install(install)) = (&mut self.state, &wish)
            && job.may_adopt(install)
        {
            job.adopt(install.id.clone(), install.terms);
        }
        let (same_job, by_desired) = self
            .state
            .job()
            .map_or((false, false), |job| (job.id == *wish.id(), job.origin == Origin::Desired));
        let same_job = same_job && matches!(wish, Wish::Install(_));
        // Whatever a wish that makes no sense was meant to be, it is not the one before it: a system that was
        // withdrawn with a slip of the pen must not be switched over to. What somebody else asked for is not its affair.
        let replaces = matches!(wish, Wish::Install(_)) || by_desired;
        let is_sent_away = self.is_sent_away(&wish);
        self.wanted = Some(Wanted { wish, settled: is_sent_away });
        if same_job {
            self.outlive_cancel();
        } else if replaces && !is_sent_away {
            self.supersede(at);
        }
    }

    /// A configuration that came with the very system on trial, or while that was being armed, may ask for what the wish does
    /// not have, such as a signature. That system was taken by the rules of its time, and the trial decides.
    fn is_too_late_to_refuse(&self, wish: &Wish) -> bool {
        let is_refused = matches!(wish, Wish::Invalid { .. });
        is_refused && self.state.job().is_some_and(|job| job.id == *wish.id() && !job.is_supersedable())
    }

    /// The wish is newer than the cancel that its own job is giving way to: that end shall not be the wish's.
    fn outlive_cancel(&mut self) {
        if let State::Busy(job) = &mut self.state
            && !job.was_tried()
            && let Phase::RollingBack { why } = &mut job.phase
            && why.failure == Failure::Cancelled
        {
            *why = Failure::Superseded.because("it was cancelled, and asked for again");
        }
    }

    fn desired_cleared(&mut self, now: &Facts, at: Option<Timestamp>) {
        if self.wanted.take().is_some() {
            let ours = self.state.job().is_some_and(|job| job.origin == Origin::Desired);
            if ours {
                // Too late is no error here: the trial decides.
                let _ = self.advance(now, at, Event::Cancel);
            }
        }
    }

    /// The newest wish wins as long as nothing is armed; after that, the trial finishes first.
    fn supersede(&mut self, at: Option<Timestamp>) {
        let State::Busy(job) = &self.state else { return };
        if job.is_supersedable() {
            let step = job.cancel(Failure::Superseded.because("a newer update was asked for"));
            self.carry_out(at, step, &Event::Cancel);
        }
    }

    /// Lets the table decide about the job, and does what it says.
    pub(super) fn advance(
        &mut self,
        now: &Facts,
        at: Option<Timestamp>,
        event: Event,
    ) -> Result<(), Refused> {
        let step = match &self.state {
            State::Busy(job) => job.decide(now, &event),
            State::Restarting { .. } => return self.restarting(&event),
            State::Idle => Step::Stay,
        };
        if let Step::Refuse(refused) = step {
            return Err(refused);
        }
        self.carry_out(at, step, &event);
        Ok(())
    }

    fn carry_out(&mut self, at: Option<Timestamp>, step: Step, event: &Event) {
        let State::Busy(job) = &mut self.state else { return };
        if let Event::Written { image, seal } = event {
            job.note_written(image, seal.as_ref(), at);
        }
        if let Event::TooDear(cost) = event {
            job.note_cost(*cost);
        }
        let phase = match step {
            Step::Stay | Step::Refuse(_) => return,
            Step::End(outcome) => return self.conclude(at, outcome),
            Step::Enter(phase) => phase,
            Step::Rewrite => {
                job.rewrites_left -= 1;
                Phase::Downloading
            }
        };
        let is_refused = matches!(event, Event::Failed(_));
        if is_refused {
            job.note_refusal();
        }
        // From there only another boot leads to a trial.
        let stays = matches!(job.phase, Phase::Rebooting { .. })
            && (is_refused || matches!(phase, Phase::Rebooting { .. }));
        if let Some(outcome) = job.enter(phase, at) {
            return self.conclude(at, outcome);
        }
        if stays && job.phase.undoing().is_some() {
            job.take_back_trial();
        }
        if job.phase == Phase::Resetting && job.plan.artifact().is_some() {
            let job = job.clone();
            self.note_committed(&job);
            return;
        }
        if job.phase == Phase::Downloading {
            // From here on the slot holds nothing one could go back to.
            let target = job.target;
            *self.versions.of_mut(target) = None;
            self.spoiled = Some(target);
            if self.previous == Some(target) {
                self.previous = None;
            }
        }
    }

    /// The lowest rollback index that a signed bundle may have. The record may have been lost, and the bootloader's
    /// variables been made anew: the higher of the two counts.
    pub fn floor(&self, now: &Facts) -> u64 {
        self.floor.max(now.floor.unwrap_or(0))
    }

    /// The other half of a step: with nothing else to do, turns to the newest desired that has not had its end.
    pub fn consider(&mut self, now: &Facts, at: Option<Timestamp>) {
        let Some(Wanted { wish, settled: false }) = &self.wanted else { return };
        if self.state != State::Idle {
            return;
        }
        match wish.clone() {
            Wish::Install(install) => self.begin(now, at, &install, false),
            Wish::Invalid { id, version, reason } => self.declined(at, Origin::Desired, id, version, reason),
        }
    }

    /// A request that makes no sense has its end at once, unless an update is under way: that is the one to tell of.
    fn declined(
        &mut self,
        at: Option<Timestamp>,
        origin: Origin,
        id: UpdateId,
        version: Option<Version>,
        reason: Reason,
    ) {
        if self.state == State::Idle {
            let intent = IntentId(id.0.clone());
            let times = Times { accepted: at, ended: at, ..Times::default() };
            let outcome = Outcome::Failed(reason);
            self.end(Ended { id, intent, origin, version, target: None, outcome, times });
        }
    }

    /// What runs before an update is what the hub is told of as long as the new system is only being tried; and nobody
    /// else knows the version of a system that came from the factory.
    pub(super) fn note_running(&mut self, now: &Facts) {
        *self.versions.of_mut(now.booted) = self.running(now).cloned();
    }

    fn hub_reached(&mut self) {
        if let State::Busy(job) = &mut self.state {
            job.hub_reached |= job.is_supersedable() || job.phase == Phase::Applying;
        }
    }

    pub(super) fn begin(&mut self, now: &Facts, at: Option<Timestamp>, install: &Install, explicit: bool) {
        let version = install.artifact.version.clone();
        let outcome = if version.is_some() && version.as_ref() == self.running(now) {
            Outcome::UpToDate
        } else if !explicit && self.condemned.contains(&install.intent) {
            let why = "this update was rolled back on this device before; a new jobId, or `twinboot retry`, tries again";
            Outcome::Failed(Failure::RolledBackBefore.because(why))
        } else {
            self.note_running(now);
            self.state = State::Busy(Box::new(Job::install(install, !now.booted, at)));
            return;
        };
        let times = Times { accepted: at, ended: at, ..Times::default() };
        let (id, intent) = (install.id.clone(), install.intent.clone());
        self.end(Ended { id, intent, origin: install.origin, version, target: None, outcome, times });
    }
}
