//! The neutral status: all that anybody outside may want to know, in one value.

use serde::{Serialize, Serializer};

use super::Lwm2m;
use crate::model::{
    Consent, Cost, Failure, Origin, Outcome, Reason, Slot, Times, Timestamp, UpdateId, Version,
};
use crate::update::{Facts, Gate, Job, Phase, Plan, Record, State};

/// What is going on, for the hub, for the control socket, for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// What it is busy with.
    pub phase: Activity,
    /// The slot we run from.
    pub booted: Slot,
    /// The slot that boots when no trial does, if the bootloader can be asked.
    pub default: Option<Slot>,
    /// The slot that is armed or on trial.
    pub trial: Option<Slot>,
    /// Labels.
    pub version: Versions,
    /// The lowest rollback index that a signed bundle may have.
    pub floor: u64,
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
    /// The update as LwM2M's numbers.
    pub lwm2m: Lwm2m,
    /// When the machine came back from the last reboot that was asked for.
    #[serde(serialize_with = "iso_8601")]
    pub reboot_time: Option<Timestamp>,
    /// The connection to the hub.
    pub hub: HubLink,
    /// What an operator should look after.
    pub warnings: Vec<String>,
}

/// What a device is busy with: nothing, a phase of an update, or a reboot that was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // The phases' names; see `update::Phase`.
pub enum Activity {
    Idle,
    Accepted,
    Downloading,
    Verifying,
    Staged,
    Applying,
    Rebooting,
    Confirming,
    Committing,
    Resetting,
    Finishing,
    RollingBack,
    Returning,
    Restarting,
}

impl Activity {
    fn of(state: &State) -> Self {
        let job = match state {
            State::Idle => return Self::Idle,
            State::Restarting { .. } => return Self::Restarting,
            State::Busy(job) => job,
        };
        match job.phase {
            Phase::Accepted => Self::Accepted,
            Phase::Downloading => Self::Downloading,
            Phase::Verifying => Self::Verifying,
            Phase::Staged => Self::Staged,
            Phase::Applying => Self::Applying,
            Phase::Rebooting { .. } => Self::Rebooting,
            Phase::Confirming => Self::Confirming,
            Phase::Committing => Self::Committing,
            Phase::Resetting => Self::Resetting,
            Phase::Finishing { .. } => Self::Finishing,
            Phase::RollingBack { .. } => Self::RollingBack,
            Phase::Returning { .. } => Self::Returning,
        }
    }
}

/// How an update ended, without the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The new system is the default.
    Succeeded,
    /// It ran already.
    UpToDate,
    /// Nothing was tried.
    Failed,
    /// It was tried, and the old system is back.
    RolledBack,
}

/// Version labels.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Versions {
    /// What runs, be it on trial.
    pub running: Option<Version>,
    /// What runs, or what a trial that fails will go back to.
    pub kept: Option<Version>,
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
    /// Who allowed switching over.
    pub consent: Option<ConsentView>,
    /// What it costs, as long as somebody has to agree to that. Bytes.
    pub cost: Option<Cost>,
    /// How many seconds it takes to fetch that at the limit that holds, if there is one.
    pub cost_seconds: Option<u64>,
    /// The rollback index that it brings, if it is a signed bundle and is in its slot.
    pub rollback_index: Option<u64>,
    /// When what happened.
    #[serde(skip)]
    pub times: Times,
    /// When it was accepted.
    #[serde(serialize_with = "iso_8601")]
    pub accepted: Option<Timestamp>,
}

/// Who allowed switching over, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct ConsentView {
    /// Who.
    pub by: Origin,
    /// When, if the clock was to be trusted.
    #[serde(serialize_with = "iso_8601")]
    pub at: Option<Timestamp>,
}

/// How the last update ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LastView {
    /// Which.
    pub id: UpdateId,
    /// What it would have brought, if known.
    pub version: Option<Version>,
    /// How.
    pub outcome: Ending,
    /// Whether it went back to the previous system on request.
    pub went_back: bool,
    /// Whether it was a factory reset.
    pub factory_reset: bool,
    /// The public failure code.
    pub code: Option<Failure>,
    /// The sentence for people.
    pub detail: Option<String>,
    /// When what happened.
    #[serde(skip)]
    pub times: Times,
    /// When its outcome was known.
    #[serde(serialize_with = "iso_8601")]
    pub ended: Option<Timestamp>,
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
    /// What a signed bundle costs, once that is known; then `fetched` and `total` are of the image.
    pub plan: Option<Cost>,
    /// How many seconds it takes to fetch that, in all: at the limit that holds, or as fast as this download goes if
    /// that is slower, which is known once some 100 kB of data have come.
    pub plan_seconds: Option<u64>,
    /// Of the present work, 0 to 100, if known.
    pub percent: Option<u8>,
}

/// The connection to the hub.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct HubLink {
    /// Connected now.
    pub connected: bool,
    /// Since when.
    #[serde(serialize_with = "iso_8601")]
    pub since: Option<Timestamp>,
}

/// A moment as people and the hub read it, or `null`.
fn iso_8601<S: Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    moment.map(|moment| moment.to_string()).serialize(serializer)
}

impl Status {
    /// Projects the durable part; what is live (progress, hub, warnings) is added by the engine.
    pub fn new(record: &Record, now: &Facts, gate: Option<Gate>) -> Self {
        let job = record.state.job();
        let phase = Activity::of(&record.state);
        let ended = record.last.as_ref().map(|last| ending(&last.outcome).1.map(|why| why.failure));
        Self {
            phase,
            lwm2m: Lwm2m::of(phase, ended),
            booted: now.booted,
            default: now.default,
            trial: now.trial,
            version: Versions {
                running: record.running(now).cloned(),
                kept: if job.is_some_and(|job| job.target == now.booted) {
                    record.versions.of(!now.booted).clone()
                } else {
                    record.running(now).cloned()
                },
                pending: job.and_then(|job| job.version.clone()),
            },
            floor: record.floor(now),
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
        let undoing = job.phase.undoing().cloned();
        let version = match job.plan {
            Plan::Install(_) | Plan::GoBack | Plan::FactoryReset(_) => job.version.clone(),
            Plan::Rescue => None,
        };
        let (id, origin, target) = (job.id.clone(), job.origin, job.target);
        Self {
            id,
            origin,
            version,
            target,
            steps_left: job.steps_left,
            undoing,
            consent: job.consent.map(|Consent { by, at }| ConsentView { by, at }),
            cost: job.cost,
            cost_seconds: None,
            rollback_index: job.seal.as_ref().map(|seal| seal.rollback_index),
            times: job.times,
            accepted: job.times.accepted,
        }
    }
}

/// How an update ended, and why if it did not succeed.
pub(super) fn ending(outcome: &Outcome) -> (Ending, Option<&Reason>) {
    match outcome {
        Outcome::Succeeded => (Ending::Succeeded, None),
        Outcome::UpToDate => (Ending::UpToDate, None),
        Outcome::Failed(why) => (Ending::Failed, Some(why)),
        Outcome::RolledBack(why) => (Ending::RolledBack, Some(why)),
    }
}

impl LastView {
    fn new(ended: &crate::model::Ended) -> Self {
        let (outcome, why) = ending(&ended.outcome);
        Self {
            id: ended.id.clone(),
            version: ended.version.clone(),
            outcome,
            went_back: ended.is_going_back(),
            factory_reset: ended.is_factory_reset(),
            code: why.map(|why| why.failure),
            detail: why.map(|why| why.detail.clone()),
            times: ended.times,
            ended: ended.times.ended,
        }
    }

    /// The reason, if it did not succeed.
    pub fn reason(&self) -> Option<Reason> {
        Some(self.code?.because(self.detail.clone()?))
    }
}
