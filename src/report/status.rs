//! The neutral status: all that anybody outside may want to know, in one value.

use serde::Serialize;

use crate::model::{Failure, Origin, Outcome, Reason, Slot, Times, Timestamp, UpdateId, Version};
use crate::update::{Facts, Gate, Job, Phase, Plan, Record, State};

/// What is going on, for the hub, for the control socket, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Name of the phase, `idle`, or `restarting`.
    pub phase: &'static str,
    /// The slot we run from.
    pub booted: Slot,
    /// The slot that is armed or on trial.
    pub trial: Option<Slot>,
    /// Labels.
    pub version: Versions,
    /// The update on its way.
    pub update: Option<JobView>,
    /// What it waits for.
    pub gate: Option<String>,
    /// Why nothing can be begun just now.
    pub blocked: Option<Reason>,
    /// How far the present work is.
    pub progress: Option<Progress>,
    /// How the last update ended.
    pub last: Option<LastView>,
    /// When the machine came back from the last reboot that was asked for.
    pub reboot_time: Option<Timestamp>,
    /// The connection to the hub.
    pub hub: HubLink,
    /// What an operator should look after.
    pub warnings: Vec<String>,
}

/// Version labels.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Versions {
    /// What runs.
    pub running: Option<Version>,
    /// What an update is about to bring.
    pub pending: Option<Version>,
}

/// An update on its way.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct JobView {
    /// Which.
    pub id: UpdateId,
    /// Who asked.
    pub origin: Origin,
    /// What it brings, if known.
    pub version: Option<Version>,
    /// Where it goes.
    pub target: Slot,
    /// Steps left before a loop is assumed.
    pub steps_left: u8,
    /// Why it is being undone.
    pub undoing: Option<Reason>,
    /// When what happened.
    pub times: Times,
}

/// How the last update ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LastView {
    /// Which.
    pub id: UpdateId,
    /// What it would have brought, if known.
    pub version: Option<Version>,
    /// `succeeded`, `up-to-date`, `failed` or `rolled-back`.
    pub outcome: &'static str,
    /// Whether it went back to the previous system on request.
    pub went_back: bool,
    /// The public failure code.
    pub code: Option<Failure>,
    /// The sentence for people.
    pub detail: Option<String>,
    /// When what happened.
    pub times: Times,
}

/// How far the present work is. Bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Progress {
    /// Fetched of this artifact, not counting what was fetched twice.
    pub fetched: u64,
    /// To be fetched in all, if known.
    pub total: Option<u64>,
    /// Written to the slot, or read back from it.
    pub written: u64,
    /// Fetched more than once because of interruptions.
    pub fetched_twice: u64,
    /// Bytes per second, lately.
    pub rate: u64,
    /// Of the present work, 0 to 100, if known.
    pub percent: Option<u8>,
}

/// The connection to the hub.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct HubLink {
    /// Connected now.
    pub connected: bool,
    /// Since when.
    pub since: Option<Timestamp>,
}

impl Status {
    /// Projects the durable part; what is live (progress, hub, warnings) is added by the engine.
    pub fn new(record: &Record, now: &Facts, gate: Option<Gate>) -> Self {
        let job = record.state.job();
        Self {
            phase: match &record.state {
                State::Idle => "idle",
                State::Busy(job) => job.phase.name(),
                State::Restarting { .. } => "restarting",
            },
            booted: now.booted,
            trial: now.trial,
            version: Versions {
                running: record.running(now).cloned(),
                pending: job.and_then(|job| job.version.clone()),
            },
            update: job.map(JobView::new),
            gate: gate.map(|gate| gate.to_string()),
            blocked: None,
            progress: None,
            last: record.last.as_ref().map(LastView::new),
            reboot_time: record.reboot_time,
            hub: HubLink::default(),
            warnings: Vec::new(),
        }
    }
}

impl JobView {
    fn new(job: &Job) -> Self {
        let undoing = match &job.phase {
            Phase::RollingBack { why } | Phase::Returning { why, .. } => Some(why.clone()),
            Phase::Accepted
            | Phase::Downloading
            | Phase::Verifying
            | Phase::Staged
            | Phase::Applying
            | Phase::Rebooting { .. }
            | Phase::Confirming
            | Phase::Committing => None,
        };
        let version = match job.plan {
            Plan::Install(_) | Plan::GoBack => job.version.clone(),
            Plan::Rescue => None,
        };
        let (id, origin, target) = (job.id.clone(), job.origin, job.target);
        Self { id, origin, version, target, steps_left: job.steps_left, undoing, times: job.times }
    }
}

impl LastView {
    fn new(ended: &crate::model::Ended) -> Self {
        let (outcome, why) = match &ended.outcome {
            Outcome::Succeeded => ("succeeded", None),
            Outcome::UpToDate => ("up-to-date", None),
            Outcome::Failed(why) => ("failed", Some(why)),
            Outcome::RolledBack(why) => ("rolled-back", Some(why)),
        };
        Self {
            id: ended.id.clone(),
            version: ended.version.clone(),
            outcome,
            went_back: ended.is_going_back(),
            code: why.map(|why| why.failure),
            detail: why.map(|why| why.detail.clone()),
            times: ended.times,
        }
    }

    /// The reason, if it did not succeed.
    pub fn reason(&self) -> Option<Reason> {
        Some(self.code?.because(self.detail.clone()?))
    }
}
