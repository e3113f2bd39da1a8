//! How an update ends, and what is remembered of that: a part of [`Record::step`].

use super::job::Job;
use super::record::Record;
use super::state::{Plan, State};
use super::wish::{Wanted, Wish};
use crate::model::{Ended, Install, IntentId, Outcome, Times, Timestamp};

impl Record {
    /// Ends the job and remembers what follows from that.
    pub(super) fn conclude(&mut self, at: Option<Timestamp>, outcome: Outcome) {
        let State::Busy(job) = std::mem::take(&mut self.state) else { return };
        match &outcome {
            Outcome::Succeeded => {
                self.note_success(&job);
                self.settle_in_other_words(&job.intent);
            }
            Outcome::RolledBack(_) => {
                if matches!(job.plan, Plan::Install(_)) {
                    self.condemn(&job.intent);
                }
                self.settle_in_other_words(&job.intent);
            }
            // The new words may be the remedy, such as an address with another token.
            Outcome::Failed(_) | Outcome::UpToDate => {}
        }
        let times = Times { ended: at, ..job.times };
        let (id, intent, origin, version) = (job.id, job.intent, job.origin, job.version);
        self.end(Ended { id, intent, origin, version, target: Some(job.target), outcome, times });
    }

    /// How the last update ended, if it had not ended `before`. That it got its date only now is no end.
    pub fn newly_ended(&self, before: &Self) -> Option<&Ended> {
        let dateless = |last: &Ended| Ended { times: Times { ended: None, ..last.times }, ..last.clone() };
        let is_dated =
            before.undated.end && before.last.as_ref().map(dateless) == self.last.as_ref().map(dateless);
        self.last.as_ref().filter(|_| self.last != before.last && !is_dated)
    }

    fn note_success(&mut self, job: &Job) {
        match &job.plan {
            Plan::Install(_) | Plan::Rescue => {}
            Plan::GoBack => self.condemn_what_was_left(job),
            Plan::FactoryReset(factory) => {
                // As new, it has no bad memories.
                self.condemned.clear();
                if factory.image.is_none() {
                    return;
                }
                // And what the hub wants is not there any more, as on any device that comes from the factory.
                if let Some(wanted) = &mut self.wanted {
                    wanted.settled = false;
                }
            }
        }
        self.note_committed(job);
    }

    /// The job's system took the place of the other one. Here and nowhere else the floor is raised: a system that was only
    /// tried must not keep out the one that is gone back to.
    pub(super) fn note_committed(&mut self, job: &Job) {
        *self.versions.of_mut(job.target) = job.version.clone();
        self.previous = Some(!job.target);
        self.spoiled = self.spoiled.filter(|slot| *slot != job.target);
        if let Some(seal) = &job.seal {
            self.floor = seal.floor_after(self.floor);
        }
    }

    pub(super) fn end(&mut self, ended: Ended) {
        if let Some(wanted) = &mut self.wanted {
            // What gave way to a newer wish may be the newest again by now.
            wanted.settled |= *wanted.wish.id() == ended.id && !ended.was_superseded();
        }
        self.undated.end = ended.times.ended.is_none();
        self.last = Some(ended);
    }

    /// The hub may word its wish anew while a system is on trial, with another token in the address or on other terms.
    /// The verdict on that system is the end of it all the same.
    pub(super) fn settle_in_other_words(&mut self, intent: &IntentId) {
        if let Some(Wanted { wish: Wish::Install(install), settled }) = &mut self.wanted {
            *settled |= install.intent == *intent;
        }
    }

    fn condemn(&mut self, intent: &IntentId) {
        if !self.condemned.contains(intent) {
            self.condemned.push(intent.clone());
            if self.condemned.len() > Self::CONDEMNED {
                self.condemned.remove(0);
            }
        }
    }

    /// Somebody sent away what the hub had wished for: it shall not come back because its address is another one.
    fn condemn_what_was_left(&mut self, job: &Job) {
        let left = self.settled_install().filter(|install| self.is_version_of(install, job));
        if let Some(intent) = left.map(|install| install.intent.clone()) {
            self.condemn(&intent);
        }
    }

    /// Whether `wish` is in other words what somebody is sending away just now. That its address is another one does not
    /// keep it.
    pub(super) fn is_sent_away(&self, wish: &Wish) -> bool {
        let (Some(job), Wish::Install(install)) = (self.state.job(), wish) else { return false };
        let is_known = self.settled_install().is_some_and(|settled| settled.intent == install.intent);
        is_known && job.plan == Plan::GoBack && self.is_version_of(install, job)
    }

    fn settled_install(&self) -> Option<&Install> {
        match &self.wanted {
            Some(Wanted { wish: Wish::Install(install), settled: true }) => Some(install),
            Some(_) | None => None,
        }
    }

    /// Whether `install` has the version of the system that `job` leads away from.
    fn is_version_of(&self, install: &Install, job: &Job) -> bool {
        let left = self.versions.of(!job.target);
        left.is_some() && install.artifact.version == *left
    }
}
