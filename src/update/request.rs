//! What people ask for explicitly, and the reboot that may come of it: a part of [`Record::step`].

use super::job::Job;
use super::record::Record;
use super::state::{Event, Facts, Phase, Plan, Refused, State};
use super::wish::{Wanted, Wish};
use crate::model::{Consent, Failure, Install, IntentId, Origin, Timestamp, UpdateId};

impl Record {
    pub(super) fn asked(
        &mut self,
        now: &Facts,
        at: Option<Timestamp>,
        install: Install,
    ) -> Result<(), Refused> {
        match &mut self.state {
            State::Idle => {
                let is_meant = !install.terms.unattended;
                if is_meant {
                    self.condemned.retain(|intent| *intent != install.intent);
                }
                self.begin(now, at, &install, is_meant);
                Ok(())
            }
            // Being undone, it is not what was asked for.
            State::Busy(job) if job.id == install.id && !job.is_being_undone() => Ok(()),
            State::Busy(job) if job.may_adopt(&install) => {
                // The hub's wish for it stays the same wish: with this job's end it has had its own.
                let wished = self.wanted.as_ref().map(|wanted| wanted.wish.id());
                let id = if wished == Some(&job.id) { job.id.clone() } else { install.id };
                job.adopt(id, install.terms);
                Ok(())
            }
            State::Busy(_) | State::Restarting { .. } => Err(Refused::Busy),
        }
    }

    pub(super) fn retry(&mut self, now: &Facts, at: Option<Timestamp>) -> Result<(), Refused> {
        match (&self.state, self.wanted.clone()) {
            (State::Idle, Some(Wanted { wish: Wish::Install(install), settled: true })) => {
                self.asked(now, at, install)
            }
            (State::Idle, Some(Wanted { wish: Wish::Install(_) | Wish::Invalid { .. }, .. }) | None) => {
                Err(Refused::NothingToRetry)
            }
            (State::Busy(_) | State::Restarting { .. }, _) => Err(Refused::Busy),
        }
    }

    /// Whatever words the hub gave it meanwhile: this is what shall not go on, and is not begun anew for them.
    pub(super) fn cancel(&mut self, now: &Facts, at: Option<Timestamp>) -> Result<(), Refused> {
        let intent = self.state.job().map(|job| job.intent.clone());
        self.advance(now, at, Event::Cancel)?;
        if let Some(intent) = intent {
            self.settle_in_other_words(&intent);
        }
        self.stop_what_was_given_way_to();
        Ok(())
    }

    /// Whoever cancels an update that gives way to a newer one sees that one coming: neither shall go on.
    fn stop_what_was_given_way_to(&mut self) {
        if let State::Busy(job) = &mut self.state
            && let Phase::RollingBack { why } = &mut job.phase
            && why.failure == Failure::Superseded
        {
            *why = Failure::Cancelled.because("cancelled on request");
            // One that makes no sense is not begun anyway, and is still to be told.
            if let Some(Wanted { wish: Wish::Install(_), settled }) = &mut self.wanted {
                *settled = true;
            }
        }
    }

    pub(super) fn go_back(
        &mut self,
        now: &Facts,
        at: Option<Timestamp>,
        origin: Origin,
    ) -> Result<(), Refused> {
        let target = self.previous.filter(|slot| *slot != now.booted).ok_or(Refused::NoPrevious)?;
        self.note_running(now);
        let (id, intent) = (UpdateId(UpdateId::GO_BACK.into()), IntentId(UpdateId::GO_BACK.into()));
        let mut job = Job::new(id, intent, origin, Plan::GoBack, target);
        job.phase = Phase::Verifying;
        job.version = self.versions.of(target).clone();
        job.times.accepted = at;
        self.state = State::Busy(Box::new(job));
        Ok(())
    }

    /// Asked for again while it goes on, it is the same one.
    pub(super) fn factory_reset(
        &mut self,
        now: &Facts,
        at: Option<Timestamp>,
        origin: Origin,
    ) -> Result<(), Refused> {
        if !now.factory.is_declared() {
            return Err(Refused::NoFactoryReset);
        }
        match &self.state {
            State::Idle => {}
            State::Busy(job) if matches!(job.plan, Plan::FactoryReset(_)) && !job.is_being_undone() => {
                return Ok(());
            }
            State::Busy(_) | State::Restarting { .. } => return Err(Refused::Busy),
        }
        self.note_running(now);
        let name = UpdateId::FACTORY_RESET;
        let (id, intent) = (UpdateId(name.into()), IntentId(name.into()));
        let mut job = Job::new(id, intent, origin, Plan::FactoryReset(now.factory.clone()), !now.booted);
        job.times.accepted = at;
        self.state = State::Busy(Box::new(job));
        Ok(())
    }

    pub(super) fn apply(&mut self, at: Option<Timestamp>, by: Origin) -> Result<(), Refused> {
        match &mut self.state {
            // What is asked just now is whether it may cost that much. The hub's standing agreement names an update, and
            // no cost.
            State::Busy(job)
                if job.phase == Phase::Accepted && job.cost.is_some() && by != Origin::Desired =>
            {
                job.cost_allowed = job.cost.map(|cost| cost.fetch);
            }
            State::Busy(job) if job.is_supersedable() => {
                job.consent.get_or_insert(Consent { by, at });
            }
            State::Idle | State::Busy(_) | State::Restarting { .. } => return Err(Refused::NothingStaged),
        }
        Ok(())
    }

    pub(super) fn reboot(&mut self, now: &Facts) -> Result<(), Refused> {
        match self.state {
            State::Idle => self.state = State::Restarting { since: now.boot.clone() },
            State::Busy(_) => return Err(Refused::Busy),
            State::Restarting { .. } => {}
        }
        Ok(())
    }

    /// What can happen to a reboot that was asked for.
    pub(super) fn restarting(&mut self, event: &Event) -> Result<(), Refused> {
        match event {
            // Nobody took the request, or it got lost. Waiting for it would keep every later update out.
            Event::Failed(_) => self.state = State::Idle,
            // It cannot be called back.
            Event::Cancel | Event::GoBack(_) => return Err(Refused::Busy),
            Event::Confirm => return Err(Refused::NotOnTrial),
            Event::Started
            | Event::Reloaded
            | Event::Desired(_)
            | Event::DesiredCleared
            | Event::Declined(..)
            | Event::HubReached
            | Event::Asked(_)
            | Event::Retry
            | Event::Apply(_)
            | Event::Reboot
            | Event::FactoryReset(_)
            | Event::Tuned(_)
            | Event::ClockSet
            | Event::Proceed
            | Event::Written { .. }
            | Event::TooDear(_)
            | Event::Done => {}
        }
        Ok(())
    }
}
