//! How an update ended.

use serde::{Deserialize, Serialize};

use super::{Failure, IntentId, Origin, Reason, Slot, Timestamp, UpdateId, Version};

/// How an update ended. Told to the hub only once it is durable and true.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The new system runs, proved healthy, and boots by default.
    Succeeded,
    /// The version asked for runs already; nothing was written.
    UpToDate,
    /// It ended before the new system was tried; the running system never changed. Or, of a factory reset: the
    /// system is the right one, but its program failed.
    Failed(Reason),
    /// The new system was tried, and the old one is back.
    RolledBack(Reason),
}

/// An update that is over.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Ended {
    /// Which.
    pub id: UpdateId,
    /// What it amounted to.
    pub intent: IntentId,
    /// Who asked.
    pub origin: Origin,
    /// What it would have installed, if the request told.
    pub version: Option<Version>,
    /// The slot that was to hold it, if it got that far.
    pub target: Option<Slot>,
    /// How it ended.
    pub outcome: Outcome,
    /// When what happened.
    pub times: Times,
}

impl Ended {
    /// Whether it was not an installation but a way back to the previous system.
    pub fn is_going_back(&self) -> bool {
        self.id.0 == UpdateId::GO_BACK
    }

    /// Whether it was a factory reset.
    pub fn is_factory_reset(&self) -> bool {
        self.id.0 == UpdateId::FACTORY_RESET
    }

    /// Whether it ended only because a newer request took its place.
    pub fn was_superseded(&self) -> bool {
        match &self.outcome {
            Outcome::Failed(why) | Outcome::RolledBack(why) => why.failure == Failure::Superseded,
            Outcome::Succeeded | Outcome::UpToDate => false,
        }
    }
}

/// When the stages of an update were reached, where the clock was to be trusted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Times {
    /// The request was accepted.
    pub accepted: Option<Timestamp>,
    /// All bytes had arrived and been written.
    pub downloaded: Option<Timestamp>,
    /// Switching over began.
    pub applying: Option<Timestamp>,
    /// The outcome was known.
    pub ended: Option<Timestamp>,
}
