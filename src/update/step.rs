//! What follows: one table of (phase, event), complete on purpose. Read it as sentences, one arm each.
//!
//! The table decides and changes nothing; [`Record::step`](super::Record::step) carries out what it says.

use super::job::Job;
use super::state::{Event, Facts, Phase, Refused};
use crate::model::{Failure, Outcome, Reason};

/// What the table says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing changes: the event is stale, or already true.
    Stay,
    /// On to this phase.
    Enter(Phase),
    /// Back to writing, because what was read back differed.
    Rewrite,
    /// It is over.
    End(Outcome),
    /// The request is refused.
    Refuse(Refused),
}

impl Job {
    /// What `event` leads to in this job's phase.
    ///
    /// `Desired…`, `Asked`, `Retry`, `Apply`, `Reboot`, `FactoryReset`, `Tuned` and `ClockSet` concern the record as a whole and are decided there.
    pub fn decide(&self, now: &Facts, event: &Event) -> Step {
        match event {
            Event::Started => self.started(now),
            Event::Reloaded => self.reloaded(),
            Event::Proceed => self.proceed(now),
            Event::Written { .. } | Event::Done => self.done(now, event),
            Event::TooDear(_) => self.too_dear(),
            Event::Failed(why) => self.failed(now, why),
            Event::Cancel => self.cancel(Failure::Cancelled.because("cancelled on request")),
            Event::Confirm => self.confirm(),
            Event::GoBack(_) => self.go_back(),
            Event::Desired(_)
            | Event::DesiredCleared
            | Event::Declined(..)
            | Event::HubReached
            | Event::Asked(_)
            | Event::Retry
            | Event::Apply(_)
            | Event::Reboot
            | Event::FactoryReset(_)
            | Event::Tuned(_)
            | Event::ClockSet => Step::Refuse(Refused::Busy),
        }
    }

    /// What the guard over this very trial said before it ended it, once the old system is back. A system that cannot keep
    /// its daemon running is unwell, and the power supply is not to blame.
    fn was_overdue(&self, now: &Facts) -> Option<Reason> {
        use Phase::*;
        let has_been_tried = match &self.phase {
            Confirming | Committing => true,
            Rebooting { since } => *since != now.boot,
            Accepted
            | Downloading
            | Verifying
            | Staged
            | Applying
            | Resetting
            | Finishing { .. }
            | RollingBack { .. }
            | Returning { .. } => false,
        };
        let overdue = now.overdue.as_ref().filter(|_| has_been_tried && now.booted != self.target)?;
        let is_ours =
            overdue.update == self.id && overdue.slot == self.target && overdue.trial == self.trials;
        let why = format!("no verdict in time: {}", overdue.why);
        (is_ours && overdue.boot != now.boot).then(|| Failure::HealthTimeout.because(why))
    }

    /// The process started: the kernel and the bootloader say where we are, the phase says where we wanted to be.
    fn started(&self, now: &Facts) -> Step {
        use Phase::*;
        let on_target = now.booted == self.target;
        if let Some(why) = self.was_overdue(now) {
            return Self::roll_back(why);
        }
        match &self.phase {
            // Armed by a process that did not live to say so, and booted before the next one could take that back.
            Verifying | Staged if on_target && self.armed && now.on_trial() => Step::Enter(Confirming),
            // Nothing of ours can have booted the target: the record is older than the world. Leave the world be.
            Accepted | Downloading | Verifying | Staged if on_target => {
                let why = Failure::RecordLost.because("the slot to be written is the one that runs");
                Step::End(Outcome::Failed(why))
            }
            // Waiting costs nothing, be it for months. What was read back is read back again before it is armed.
            Accepted | Staged => Step::Stay,
            Downloading => Step::Enter(Downloading),
            Verifying => Step::Enter(Verifying),
            // The bootloader says that it is committed: the record is older than the world. It needs no second verdict,
            // which long after the boot could only be that the time is over.
            Applying | Rebooting { .. } | Confirming | Committing if on_target && now.is_committed() => {
                Step::Enter(Committing)
            }
            Applying | Rebooting { .. } if on_target => Step::Enter(Confirming),
            Applying => Step::Enter(Verifying),
            Rebooting { since } if *since != now.boot => Self::roll_back(
                Failure::BootFallback.because("the new system did not come up; the bootloader went back"),
            ),
            Rebooting { .. } => Step::Enter(self.phase.clone()),
            Confirming | Committing if on_target => Step::Enter(self.phase.clone()),
            // It ran, and before there was a verdict it was gone: cut short, not found unwell.
            Confirming | Committing if self.trials < Self::TRIALS => Step::Enter(Verifying),
            Confirming | Committing => {
                let times = self.trials;
                Self::roll_back(
                    Failure::BootInterrupted.because(format!("the trial was cut short {times} times")),
                )
            }
            // Cut short: the program may run twice.
            Resetting if self.runs_for_good(now) => Step::Enter(Resetting),
            Resetting => {
                let why = "the system that was to make its data as new does not run for good";
                Step::End(Outcome::Failed(Failure::FactoryReset.because(why)))
            }
            // The reboot is asked for again, and nothing is paid for it: see `failed`.
            Finishing { since } | Returning { since, .. } if *since == now.boot => Step::Stay,
            Finishing { .. } => Step::End(Outcome::Succeeded),
            RollingBack { .. } => Step::Enter(self.phase.clone()),
            // Whichever slot it is now: look at the bootloader once more, and end or return from there.
            Returning { why, .. } => Self::roll_back(why.clone()),
        }
    }

    /// The works were stopped between two steps, and the world is as it was: what was going on goes on, and nothing is
    /// paid for it, or a device whose configuration is changed often enough would fail its update. Only the witness of
    /// the read-back is gone, and what needs it reads back again.
    fn reloaded(&self) -> Step {
        use Phase::*;
        match &self.phase {
            Applying => Step::Enter(Verifying),
            Accepted
            | Downloading
            | Verifying
            | Staged
            | Rebooting { .. }
            | Confirming
            | Committing
            | Resetting
            | Finishing { .. }
            | RollingBack { .. }
            | Returning { .. } => Step::Stay,
        }
    }

    /// The gate being awaited is open.
    fn proceed(&self, now: &Facts) -> Step {
        use Phase::*;
        match &self.phase {
            Accepted if self.plan.artifact().is_some() => Step::Enter(Downloading),
            // A factory reset by its program alone.
            Accepted if now.default.is_some() && self.runs_for_good(now) => Step::Enter(Resetting),
            Accepted => {
                let why = "the bootloader does not say that the running system is the one to stay with";
                Step::End(Outcome::Failed(Failure::FactoryReset.because(why)))
            }
            Staged if self.verified => Step::Enter(Applying),
            // The witness of the read-back died with its process: read back again, then ask the gate again.
            Staged => Step::Enter(Verifying),
            Downloading
            | Verifying
            | Applying
            | Rebooting { .. }
            | Confirming
            | Committing
            | Resetting
            | Finishing { .. }
            | RollingBack { .. }
            | Returning { .. } => Step::Stay,
        }
    }

    /// The work of this phase is done.
    fn done(&self, now: &Facts, event: &Event) -> Step {
        use Phase::*;
        let on_target = now.booted == self.target;
        match &self.phase {
            Downloading if matches!(event, Event::Written { .. }) => {
                self.is_another(event).map_or(Step::Enter(Verifying), Self::roll_back)
            }
            Verifying => Step::Enter(Staged),
            Applying => Step::Enter(Rebooting { since: now.boot.clone() }),
            Confirming => Step::Enter(Committing),
            Committing if self.plan.has_program() => Step::Enter(Resetting),
            Committing => Step::End(Outcome::Succeeded),
            Resetting => Step::Enter(Finishing { since: now.boot.clone() }),
            RollingBack { why } if on_target => {
                Step::Enter(Returning { since: now.boot.clone(), why: why.clone() })
            }
            RollingBack { why } => Step::End(self.undone(why)),
            // Stale, or a reboot that has been asked for and will end us.
            Accepted | Downloading | Staged | Rebooting { .. } | Finishing { .. } | Returning { .. } => {
                Step::Stay
            }
        }
    }

    /// What is missing on this device may not be fetched before somebody agreed to the cost: back to the gate.
    fn too_dear(&self) -> Step {
        use Phase::*;
        match &self.phase {
            Downloading => Step::Enter(Accepted),
            Accepted
            | Verifying
            | Staged
            | Applying
            | Rebooting { .. }
            | Confirming
            | Committing
            | Resetting
            | Finishing { .. }
            | RollingBack { .. }
            | Returning { .. } => Step::Stay,
        }
    }

    /// The work of this phase failed. There is one way out, and it looks at the bootloader.
    fn failed(&self, now: &Facts, why: &Reason) -> Step {
        use Phase::*;
        let on_target = now.booted == self.target;
        match &self.phase {
            // A hook at the gate: before the download there is nothing to undo.
            Accepted if self.cost.is_none() => Step::End(Outcome::Failed(why.clone())),
            Verifying if self.may_rewrite(why) => Step::Rewrite,
            Accepted | Downloading | Verifying | Staged | Applying | Confirming | Committing => {
                Self::roll_back(why.clone())
            }
            // The new system was not tried: there is nothing to be said of it.
            Rebooting { .. } if self.refusals.saturating_add(1) >= Self::REBOOTS => {
                Self::roll_back(why.clone())
            }
            Rebooting { .. } => Step::Enter(self.phase.clone()),
            // Only the reboot is left, and no other end is true: it is asked for again, for as long as it takes.
            Finishing { .. } | Returning { .. } => Step::Stay,
            // Half new data is for whoever asked to look at, and to ask again; the system is the right one.
            Resetting => Step::End(Outcome::Failed(why.clone())),
            // The bootloader cannot be told. A plain reboot lets its own counter fall back.
            RollingBack { why } if on_target => {
                Step::Enter(Returning { since: now.boot.clone(), why: why.clone() })
            }
            RollingBack { .. } if self.armed => Step::Enter(self.phase.clone()),
            RollingBack { why } => Step::End(self.undone(why)),
        }
    }

    /// Stop, as long as the new system is not being tried.
    pub(super) fn cancel(&self, why: Reason) -> Step {
        use Phase::*;
        match &self.phase {
            // Begun, and found too dear, it is undone like any that was begun.
            Accepted if self.cost.is_none() => Step::End(Outcome::Failed(why)),
            Accepted | Downloading | Verifying | Staged | Applying => Self::roll_back(why),
            Rebooting { .. } | Confirming | Committing | Resetting | Finishing { .. } => {
                Step::Refuse(Refused::TooLate)
            }
            RollingBack { .. } | Returning { .. } => Step::Stay,
        }
    }

    /// Someone vouches for the system on trial.
    fn confirm(&self) -> Step {
        use Phase::*;
        match &self.phase {
            Confirming => Step::Enter(Committing),
            Committing => Step::Stay,
            Accepted
            | Downloading
            | Verifying
            | Staged
            | Applying
            | Rebooting { .. }
            | Resetting
            | Finishing { .. }
            | RollingBack { .. }
            | Returning { .. } => Step::Refuse(Refused::NotOnTrial),
        }
    }

    /// Someone asks for the previous system: on trial, that is a verdict.
    fn go_back(&self) -> Step {
        use Phase::*;
        match &self.phase {
            Confirming => Self::roll_back(Failure::Cancelled.because("sent back on request while on trial")),
            RollingBack { .. } | Returning { .. } => Step::Stay,
            Accepted
            | Downloading
            | Verifying
            | Staged
            | Applying
            | Rebooting { .. }
            | Committing
            | Resetting
            | Finishing { .. } => Step::Refuse(Refused::Busy),
        }
    }

    /// Whether a new job may take this one's place without waiting for its end: only before arming.
    pub(super) fn is_supersedable(&self) -> bool {
        use Phase::*;
        match &self.phase {
            Accepted | Downloading | Verifying | Staged => true,
            Applying
            | Rebooting { .. }
            | Confirming
            | Committing
            | Resetting
            | Finishing { .. }
            | RollingBack { .. }
            | Returning { .. } => false,
        }
    }

    /// Whether all that is still to come is the way back.
    pub(super) fn is_being_undone(&self) -> bool {
        use Phase::*;
        match &self.phase {
            RollingBack { .. } | Returning { .. } => true,
            Accepted
            | Downloading
            | Verifying
            | Staged
            | Applying
            | Rebooting { .. }
            | Confirming
            | Committing
            | Resetting
            | Finishing { .. } => false,
        }
    }

    /// Why what was written is not what was asked for: the request told a version, and the signed one is another.
    fn is_another(&self, event: &Event) -> Option<Reason> {
        let Event::Written { seal: Some(seal), .. } = event else { return None };
        let wanted = self.version.as_ref().filter(|wanted| **wanted != seal.version)?;
        let why = format!("the bundle holds version {}, the request told {wanted}", seal.version);
        Some(Failure::RequestInvalid.because(why))
    }

    fn roll_back(why: Reason) -> Step {
        Step::Enter(Phase::RollingBack { why })
    }

    fn may_rewrite(&self, why: &Reason) -> bool {
        let written = self.plan.artifact().is_some();
        written && why.failure == Failure::ReadbackMismatch && self.rewrites_left > 0
    }

    /// The running system is the old one and the bootloader says so: was anything tried?
    pub(super) fn undone(&self, why: &Reason) -> Outcome {
        if self.was_tried() { Outcome::RolledBack(why.clone()) } else { Outcome::Failed(why.clone()) }
    }
}
