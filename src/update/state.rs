//! What can be. Every value of [`State`] is a safe place to wake up in.

use serde::{Deserialize, Serialize};

use super::job::Job;
use crate::model::{
    Artifact, BootId, Cost, Factory, Image, Install, Origin, Reason, Seal, Slot, Timestamp, Tuning, UpdateId,
    Version,
};

/// What survives power loss.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing to do.
    #[default]
    Idle,
    /// One update, somewhere on its way.
    Busy(Box<Job>),
    /// A reboot was asked for; it is over when another boot than `since` runs.
    Restarting {
        /// The boot in which it was asked for.
        since: BootId,
    },
}

/// What a job is about.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Put this artifact into the target slot and switch over to it.
    Install(Artifact),
    /// Switch back to the system in the target slot, which ran before.
    GoBack,
    /// Get rid of a trial that no record explains.
    Rescue,
    /// Make the device as it was made: install the image, if there is one, like any other; once that system is
    /// committed, let it run the program that makes the data as new, if there is one; then reboot once.
    FactoryReset(Factory),
}

impl Plan {
    /// What is written into the target, if anything is.
    pub fn artifact(&self) -> Option<&Artifact> {
        match self {
            Self::Install(artifact) => Some(artifact),
            Self::FactoryReset(factory) => factory.image.as_ref(),
            Self::GoBack | Self::Rescue => None,
        }
    }

    /// Whether the declared program is a part of it.
    pub fn has_program(&self) -> bool {
        match self {
            Self::FactoryReset(factory) => factory.program,
            Self::Install(_) | Self::GoBack | Self::Rescue => false,
        }
    }
}

/// How far a job got, in the order of its life.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waiting until it may begin.
    Accepted,
    /// Streaming the image into the target.
    Downloading,
    /// Reading the target back.
    Verifying,
    /// The target is right; waiting until switching over is allowed.
    Staged,
    /// Arming the bootloader.
    Applying,
    /// Armed; the machine is to reboot, as it has once another boot than `since` runs.
    Rebooting {
        /// The boot in which the bootloader was armed.
        since: BootId,
    },
    /// The target runs, on trial: is it well?
    Confirming,
    /// It is well: making it the default.
    Committing,
    /// Of a factory reset: the committed system makes the data as new.
    Resetting,
    /// Of a factory reset: all is as new; the machine is to reboot, as it has once another boot than `since` runs.
    Finishing {
        /// The boot in which the data was made as new.
        since: BootId,
    },
    /// Undoing, for this reason.
    RollingBack {
        /// Why.
        why: Reason,
    },
    /// The target runs but must not stay: rebooting into the other slot.
    Returning {
        /// The boot that is to end.
        since: BootId,
        /// Why.
        why: Reason,
    },
}

impl Phase {
    /// Why it is being undone, if it is.
    pub fn undoing(&self) -> Option<&Reason> {
        match self {
            Self::RollingBack { why } | Self::Returning { why, .. } => Some(why),
            Self::Accepted
            | Self::Downloading
            | Self::Verifying
            | Self::Staged
            | Self::Applying
            | Self::Rebooting { .. }
            | Self::Confirming
            | Self::Committing
            | Self::Resetting
            | Self::Finishing { .. } => None,
        }
    }

    /// Its name in journals, statuses and hooks.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::Staged => "staged",
            Self::Applying => "applying",
            Self::Rebooting { .. } => "rebooting",
            Self::Confirming => "confirming",
            Self::Committing => "committing",
            Self::Resetting => "resetting",
            Self::Finishing { .. } => "finishing",
            Self::RollingBack { .. } => "rolling-back",
            Self::Returning { .. } => "returning",
        }
    }
}

/// What the kernel, the bootloader and the running system's configuration say. Never taken from our own record: the
/// world outranks it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Facts {
    /// This boot.
    pub boot: BootId,
    /// The slot we run from.
    pub booted: Slot,
    /// The slot that boots when none is on trial; `None` when the bootloader cannot be asked.
    pub default: Option<Slot>,
    /// The slot that is armed, or on trial right now; `None` also when the bootloader cannot be asked.
    pub trial: Option<Slot>,
    /// What the running system calls itself, if its image says so.
    pub version: Option<Version>,
    /// When this boot began, if the clock is to be trusted.
    pub booted_at: Option<Timestamp>,
    /// How the running system is made as it was in the factory.
    pub factory: Factory,
    /// The lowest rollback index that is taken, where the bootloader keeps one.
    pub floor: Option<u64>,
    /// What the guard over the last trial left behind, if it had to end it.
    pub overdue: Option<Overdue>,
}

impl Facts {
    /// Whether the bootloader says that the running system is the one to stay with.
    pub fn is_committed(&self) -> bool {
        self.trial.is_none() && self.default == Some(self.booted)
    }

    /// Whether the running system is not the default one but on trial.
    pub fn on_trial(&self) -> bool {
        self.trial == Some(self.booted)
    }
}

/// A trial that had no verdict in time, as its guard noted it before it had the machine reboot.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Overdue {
    /// Of which update.
    pub update: UpdateId,
    /// Which of its trials, counted from 1.
    pub trial: u8,
    /// The slot on trial.
    pub slot: Slot,
    /// The boot that had no verdict.
    pub boot: BootId,
    /// What was the matter, as far as could be seen.
    pub why: String,
}

/// What happens to a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The process started: the facts are fresh.
    Started,
    /// The same process goes on under another configuration, with no work begun.
    Reloaded,
    /// The hub's newest desired property, new or delivered again.
    Desired(super::Wish),
    /// The hub's desired property is gone.
    DesiredCleared,
    /// Someone asked explicitly for something that makes no sense, for this reason.
    Declined(UpdateId, Reason),
    /// The hub is connected.
    HubReached,
    /// Someone asks for an update explicitly.
    Asked(Install),
    /// Someone asks to try the newest desired again although it ended.
    Retry,
    /// Someone asks for the previous system.
    GoBack(Origin),
    /// Someone asks to stop the running update.
    Cancel,
    /// Someone vouches for the system on trial.
    Confirm,
    /// Someone allows switching over; idempotent, the first consent is the one that is kept.
    Apply(Origin),
    /// Someone asks for a reboot.
    Reboot,
    /// Someone asks for the system and the data that the device was made with.
    FactoryReset(Origin),
    /// The hub's wishes about how to behave, all of them: what is not in there is as configured again.
    Tuned(Tuning),
    /// The clock can be right, which it could not before: the facts say when this boot began.
    ClockSet,
    /// The gate of the stage being awaited is open.
    Proceed,
    /// The download work is done.
    Written {
        /// What the target was given.
        image: Image,
        /// What is vouched for, if it came in a signed bundle.
        seal: Option<Seal>,
    },
    /// The download work found out what the update costs, and that it may not be spent: nothing more was fetched.
    TooDear(Cost),
    /// Any other work is done.
    Done,
    /// The work failed.
    Failed(Reason),
}

/// Why a request was refused. Nothing changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Another update, or a reboot, is under way.
    #[error("an update is under way")]
    Busy,
    /// The update is past the point of stopping it.
    #[error("too late: the new system is already being tried")]
    TooLate,
    /// There is no system on trial.
    #[error("no system is on trial")]
    NotOnTrial,
    /// No update is waiting to be applied.
    #[error("no update waits for consent")]
    NothingStaged,
    /// The other slot holds nothing that ran before.
    #[error("the other slot holds no system that is known to be good")]
    NoPrevious,
    /// What is to happen could not be made durable, so it does not happen.
    #[error("the state directory cannot be written, so nothing new is begun")]
    Unsaved,
    /// There is no desired update that ended and could be tried again.
    #[error("there is no desired update to try again")]
    NothingToRetry,
    /// The integrator declared no way back to the factory's state.
    #[error("no factory reset is declared on this device: see [factory_reset] in the configuration")]
    NoFactoryReset,
}

/// The one idempotent thing to be doing now. Derived and never stored: resuming is asking again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    /// Nothing.
    Rest,
    /// Watch the gate of this stage.
    Await(Stage),
    /// Revert the bootloader to the running system, then stream the image into this slot.
    Download(Slot),
    /// Read this slot back.
    Verify(Slot),
    /// Arm this slot.
    Arm(Slot),
    /// Reboot.
    Reboot,
    /// Judge the running system.
    CheckHealth,
    /// Make this slot the default.
    Commit(Slot),
    /// Make this slot the only one that boots.
    Revert(Slot),
    /// Run the declared program that makes the data as new, if the running system is committed.
    Reset,
}

/// The points where policy is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Before the download.
    Download,
    /// Before switching over.
    Apply,
}

impl State {
    /// What there is to do in this state.
    pub fn work(&self) -> Work {
        let job = match self {
            Self::Idle => return Work::Rest,
            Self::Restarting { .. } => return Work::Reboot,
            Self::Busy(job) => job,
        };
        match job.phase {
            Phase::Accepted => Work::Await(Stage::Download),
            Phase::Downloading => Work::Download(job.target),
            Phase::Verifying => Work::Verify(job.target),
            Phase::Staged => Work::Await(Stage::Apply),
            Phase::Applying => Work::Arm(job.target),
            Phase::Rebooting { .. } | Phase::Returning { .. } | Phase::Finishing { .. } => Work::Reboot,
            Phase::Confirming => Work::CheckHealth,
            Phase::Committing => Work::Commit(job.target),
            Phase::Resetting => Work::Reset,
            Phase::RollingBack { .. } => Work::Revert(!job.target),
        }
    }

    /// Whether the state's work may be done although the state could not be saved.
    ///
    /// Normally not: what is not durable is not begun. But a full or broken state disk must not keep a bad system
    /// running or a good one unconfirmed. From a trial on, every work either leads back to safety or makes durable
    /// in the bootloader what is already true, and the bootloader's word outranks the record after the next start.
    /// A reboot on request is often what heals the disk; unsaved, it is over when the machine is back.
    pub fn may_act_unsaved(&self) -> bool {
        match self {
            Self::Idle | Self::Restarting { .. } => true,
            Self::Busy(job) => match job.phase {
                Phase::Accepted
                | Phase::Downloading
                | Phase::Verifying
                | Phase::Staged
                | Phase::Applying
                | Phase::Rebooting { .. }
                // After a reboot that was not written down the program would run again, and the machine reboot again,
                // for ever.
                | Phase::Resetting
                | Phase::Finishing { .. } => false,
                Phase::Confirming
                | Phase::Committing
                | Phase::RollingBack { .. }
                | Phase::Returning { .. } => true,
            },
        }
    }

    /// The job, if one is on its way.
    pub fn job(&self) -> Option<&Job> {
        match self {
            Self::Busy(job) => Some(job),
            Self::Idle | Self::Restarting { .. } => None,
        }
    }
}
