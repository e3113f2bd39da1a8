//! Planted defects of the table. Exploring must find each; a defect that slips through means that the model does
//! not look where it should.

use twinboot::model::{Ended, Failure, Outcome, Reason, Times};
use twinboot::update::{Event, Facts, Job, Phase, Plan, Record, State, Wanted};

/// A defect: changes what a step did.
#[derive(Clone, Copy)]
pub struct Mutation {
    pub name: &'static str,
    pub spoil: fn(&Record, &Facts, &Event, &mut Record),
}

/// The table as it is.
pub const NONE: Mutation = Mutation { name: "none", spoil: |_, _, _, _| {} };

fn phase(record: &Record) -> Option<&Phase> {
    record.state.job().map(|job| &job.phase)
}

fn job(record: &mut Record) -> Option<&mut Job> {
    match &mut record.state {
        State::Busy(job) => Some(job),
        State::Idle | State::Restarting { .. } => None,
    }
}

fn enter(record: &mut Record, next: Phase) {
    if let Some(job) = job(record) {
        job.phase = next;
    }
}

fn end(record: &mut Record, outcome: Outcome) {
    if let State::Busy(job) = std::mem::take(&mut record.state) {
        let (id, intent, origin, target) = (job.id, job.intent, job.origin, Some(job.target));
        if let Some(wanted) = &mut record.wanted {
            wanted.settled |= *wanted.wish.id() == id;
        }
        record.last =
            Some(Ended { id, intent, origin, version: None, target, outcome, times: Times::default() });
    }
}

/// Every planted defect of updates.
pub const ALL: &[Mutation] = &[
    Mutation {
        name: "a downloaded image is armed without verifying",
        spoil: |_, _, event, after| {
            if matches!(event, Event::Written { .. }) && phase(after) == Some(&Phase::Verifying) {
                enter(after, Phase::Applying);
            }
        },
    },
    Mutation {
        name: "a slot that differs is armed all the same",
        spoil: |before, _, event, after| {
            if phase(before) == Some(&Phase::Verifying) && matches!(event, Event::Failed(_)) {
                *after = before.clone();
                enter(after, Phase::Applying);
            }
        },
    },
    Mutation {
        name: "a hook that says no before the download is passed over",
        spoil: |before, _, event, after| {
            if phase(before) == Some(&Phase::Accepted) && matches!(event, Event::Failed(_)) {
                *after = before.clone();
                enter(after, Phase::Downloading);
            }
        },
    },
    Mutation {
        name: "a hook that says no before arming is passed over",
        spoil: |before, _, event, after| {
            if phase(before) == Some(&Phase::Staged) && matches!(event, Event::Failed(_)) {
                *after = before.clone();
                enter(after, Phase::Applying);
            }
        },
    },
    Mutation {
        name: "success is told before the commit",
        spoil: |before, _, event, after| {
            if phase(before) == Some(&Phase::Confirming) && *event == Event::Done {
                end(after, Outcome::Succeeded);
            }
        },
    },
    Mutation {
        name: "a system that came up is taken for healthy",
        spoil: |_, _, event, after| {
            if *event == Event::Started && phase(after) == Some(&Phase::Confirming) {
                enter(after, Phase::Committing);
            }
        },
    },
    Mutation {
        name: "an unhealthy system is committed",
        spoil: |before, _, event, after| {
            if phase(before) == Some(&Phase::Confirming) && matches!(event, Event::Failed(_)) {
                *after = before.clone();
                enter(after, Phase::Committing);
            }
        },
    },
    Mutation {
        name: "cancelling an armed update forgets to disarm",
        spoil: |before, _, event, after| {
            if phase(before) == Some(&Phase::Applying) && *event == Event::Cancel {
                end(after, Outcome::Failed(Failure::Cancelled.because("")));
            }
        },
    },
    Mutation {
        name: "arming that failed is not undone",
        spoil: |before, _, event, after| {
            if phase(before) == Some(&Phase::Applying) && matches!(event, Event::Failed(_)) {
                end(after, Outcome::Failed(Failure::BootUnwritable.because("")));
            }
        },
    },
    Mutation {
        name: "a trial that nobody remembers may stay",
        spoil: |before, _, event, after| {
            if *event == Event::Started && before.state == State::Idle {
                *after = before.clone();
            }
        },
    },
    Mutation {
        name: "a bootloader that fell back is taken for a good start",
        spoil: |before, now, event, after| {
            let rebooting = matches!(phase(before), Some(Phase::Rebooting { .. }));
            if rebooting
                && *event == Event::Started
                && matches!(phase(after), Some(Phase::RollingBack { .. }))
            {
                let _ = now;
                enter(after, Phase::Committing);
            }
        },
    },
    Mutation {
        name: "an update whose trial never came up is armed again and again",
        spoil: |before, _, event, after| {
            let rebooting = matches!(phase(before), Some(Phase::Rebooting { .. }));
            if rebooting
                && *event == Event::Started
                && matches!(phase(after), Some(Phase::RollingBack { .. }))
            {
                enter(after, Phase::Verifying);
            }
        },
    },
    Mutation {
        name: "a rolled back system is told as gone while it runs",
        spoil: |before, _, event, after| {
            let undoing = matches!(phase(before), Some(Phase::RollingBack { .. }));
            if undoing && *event == Event::Done && matches!(phase(after), Some(Phase::Returning { .. })) {
                end(after, Outcome::RolledBack(Failure::Unhealthy.because("")));
            }
        },
    },
    Mutation {
        name: "returning ends wherever the reboot led",
        spoil: |before, _, event, after| {
            if matches!(phase(before), Some(Phase::Returning { .. })) && *event == Event::Started {
                end(after, Outcome::RolledBack(Failure::Unhealthy.because("")));
            }
        },
    },
    Mutation {
        name: "a failed update is tried again at every reconnect",
        spoil: |_, _, event, after| {
            if matches!(event, Event::Failed(_) | Event::Done) {
                if let Some(wanted) = &mut after.wanted {
                    wanted.settled = false;
                }
            }
        },
    },
    Mutation {
        name: "a newer wish takes the place of a running trial",
        spoil: |before, now, event, after| {
            let trial = matches!(
                phase(before),
                Some(Phase::Confirming | Phase::Committing | Phase::Rebooting { .. })
            );
            if trial && matches!(event, Event::Desired(_)) && after.wanted != before.wanted {
                end(after, Outcome::Failed(Failure::Superseded.because("")));
                let _ = after.step(now, None, Event::Cancel);
            }
        },
    },
    Mutation {
        name: "a newer wish is forgotten while an update runs",
        spoil: |before, _, event, after| {
            if before.state.job().is_some() && matches!(event, Event::Desired(_)) {
                if let Some(wanted) = &mut after.wanted {
                    wanted.settled = true;
                }
                if before.wanted.is_some() {
                    after.wanted = before.wanted.clone();
                    after.state = before.state.clone();
                }
            }
        },
    },
    Mutation {
        name: "the version that runs is installed again",
        spoil: |before, now, event, after| {
            let up_to_date = after.last.as_ref().is_some_and(|last| last.outcome == Outcome::UpToDate);
            if matches!(event, Event::Desired(_)) && up_to_date && before.last != after.last {
                after.versions.of_mut(now.booted).take();
                if let Some(wanted) = &mut after.wanted {
                    wanted.settled = false;
                }
                let _ = after.step(now, None, Event::Cancel);
            }
        },
    },
    Mutation {
        name: "the running slot is the target",
        spoil: |before, now, _, after| {
            if before.state == State::Idle {
                if let Some(job) = job(after) {
                    job.target = now.booted;
                }
            }
        },
    },
    Mutation {
        name: "an interrupted trial is armed again without end",
        spoil: |before, _, event, after| {
            if *event == Event::Started
                && matches!(phase(before), Some(Phase::Rebooting { .. } | Phase::Returning { .. }))
            {
                if let Some(job) = job(after) {
                    job.trials = 0;
                    job.phase = Phase::Verifying;
                }
            }
        },
    },
    Mutation {
        name: "the wrong slot is made the default",
        spoil: |before, _, event, after| {
            if phase(before) == Some(&Phase::Confirming) && *event == Event::Done {
                if let Some(job) = job(after) {
                    job.target = !job.target;
                }
            }
        },
    },
    Mutation {
        name: "a waiting update is armed after a restart without reading back",
        spoil: |before, _, event, after| {
            let verified = before.state.job().is_some_and(|job| job.verified);
            if *event == Event::Started && verified {
                if let Some(job) = job(after) {
                    job.verified = true;
                }
            }
        },
    },
    Mutation {
        name: "a waiting update is armed after a reload without reading back",
        spoil: |before, _, event, after| {
            let verified = before.state.job().is_some_and(|job| job.verified);
            if *event == Event::Reloaded && verified {
                if let Some(job) = job(after) {
                    job.verified = true;
                }
            }
        },
    },
    Mutation {
        name: "a reload costs a step",
        spoil: |_, _, event, after| {
            if let (Event::Reloaded, Some(job)) = (event, job(after)) {
                job.steps_left = job.steps_left.saturating_sub(1);
            }
        },
    },
    Mutation {
        name: "a committed update is told as failed",
        spoil: |before, _, event, after| {
            if phase(before) == Some(&Phase::Committing) && *event == Event::Done {
                *after = before.clone();
                end(after, Outcome::Failed(Failure::Internal.because("")));
            }
        },
    },
];

/// Every planted defect of wishes that come in other words, and of reboots that are refused.
pub const OF_WORDS: &[Mutation] = &[
    Mutation {
        name: "a reboot that is refused is told as a trial that failed",
        spoil: |before, _, event, after| {
            let refused = matches!(event, Event::Failed(why) if why.failure == Failure::RebootRefused);
            if refused && matches!(phase(before), Some(Phase::Rebooting { .. })) {
                if let Some(job) = job(after).filter(|job| job.phase.undoing().is_some()) {
                    (job.trials, job.unjudged) = (1, false);
                }
            }
        },
    },
    Mutation {
        name: "the way back is given up for a machine that will not reboot",
        spoil: |before, _, event, after| {
            let refused = matches!(event, Event::Failed(why) if why.failure == Failure::RebootRefused);
            if refused && matches!(phase(before), Some(Phase::Returning { .. })) {
                end(after, Outcome::Failed(Failure::Exhausted.because("")));
            }
        },
    },
    Mutation {
        name: "a verdict is not the end of a wish in other words",
        spoil: |before, now, _, after| {
            let waited = before.wanted.as_ref().is_some_and(|wanted| !wanted.settled);
            let other =
                |wanted: &&mut Wanted| after.last.as_ref().is_some_and(|it| it.id != *wanted.wish.id());
            if waited && before.state.job().is_some() && after.state == State::Idle {
                if let Some(wanted) = after.wanted.as_mut().filter(other) {
                    wanted.settled = false;
                    after.consider(now, None);
                }
            }
        },
    },
    Mutation {
        name: "what was sent away on request may come back",
        spoil: |before, _, _, after| {
            if before.state.job().is_some_and(|job| job.plan == Plan::GoBack) {
                after.condemned = before.condemned.clone();
            }
        },
    },
    Mutation {
        name: "what was sent back on trial may come back",
        spoil: |before, _, _, after| {
            if before.state.job().and_then(|job| job.phase.undoing()).is_some_and(is_cancelled) {
                after.condemned = before.condemned.clone();
            }
        },
    },
];

fn is_cancelled(why: &Reason) -> bool {
    why.failure == Failure::Cancelled
}

/// Every planted defect of floors and costs.
pub const OF_COSTS: &[Mutation] = &[
    Mutation {
        name: "a trial raises the floor",
        spoil: |_, _, event, after| {
            let index = after.state.job().and_then(|job| job.seal.as_ref()).map(|seal| seal.rollback_index);
            if let (Event::Started, Some(Phase::Confirming), Some(index)) = (event, phase(after), index) {
                after.floor = index;
            }
        },
    },
    Mutation {
        name: "what was downloaded raises the floor",
        spoil: |_, _, event, after| {
            if let Event::Written { seal: Some(seal), .. } = event {
                after.floor = seal.rollback_index;
            }
        },
    },
    Mutation {
        name: "a commit does not raise the floor",
        spoil: |before, _, _, after| after.floor = before.floor,
    },
    Mutation {
        name: "what is too dear is fetched all the same",
        spoil: |before, _, event, after| {
            if let Event::TooDear(cost) = event {
                *after = before.clone();
                if let Some(job) = job(after) {
                    job.cost_allowed = Some(cost.fetch);
                }
            }
        },
    },
    Mutation {
        name: "consent for one cost is consent for any",
        spoil: |_, _, event, after| {
            if let (Event::Apply(_), Some(job)) = (event, job(after)) {
                job.cost_allowed = job.cost_allowed.map(|_| u64::MAX / 2);
            }
        },
    },
    Mutation {
        name: "the hub's standing agreement is consent for a cost",
        spoil: |_, _, event, after| {
            if let (Event::Apply(_), Some(job)) = (event, job(after)) {
                job.cost_allowed = job.cost.map(|cost| cost.fetch);
            }
        },
    },
    Mutation {
        name: "an update that waits for consent to its cost forgets that at a restart",
        spoil: |_, _, event, after| {
            if let (Event::Started, Some(job)) = (event, job(after))
                && let Some(cost) = job.cost.take()
            {
                job.cost_allowed = Some(cost.fetch);
            }
        },
    },
];

/// Every planted defect of the guard's word.
pub const OF_GUARDS: &[Mutation] = &[
    Mutation {
        name: "what the guard said is not heard",
        spoil: |before, _, event, after| {
            let timeout = |why: &twinboot::model::Reason| why.failure == Failure::HealthTimeout;
            let undoing = phase(after).and_then(Phase::undoing).is_some_and(timeout);
            if *event == Event::Started && undoing && phase(before).and_then(Phase::undoing).is_none() {
                enter(after, Phase::Verifying);
            }
        },
    },
    Mutation {
        name: "what the guard said of another trial is believed",
        spoil: |before, now, event, after| {
            let fell_back = matches!(phase(after), Some(Phase::RollingBack { .. }))
                && phase(before).and_then(Phase::undoing).is_none();
            if *event == Event::Started && fell_back && now.overdue.is_some() {
                enter(after, Phase::RollingBack { why: Failure::HealthTimeout.because("") });
            }
        },
    },
];

/// Every planted defect of factory resets.
pub const OF_RESETS: &[Mutation] = &[
    Mutation {
        name: "the program of a factory reset runs while its system is only on trial",
        spoil: |before, _, event, after| {
            let resets = before.state.job().is_some_and(|job| job.plan.has_program());
            if resets && phase(before) == Some(&Phase::Confirming) && *event == Event::Done {
                enter(after, Phase::Resetting);
            }
        },
    },
    Mutation {
        name: "a factory reset begins with the program",
        spoil: |before, _, event, after| {
            let resets = before.state.job().is_some_and(|job| job.plan.has_program());
            if resets && phase(before) == Some(&Phase::Accepted) && *event == Event::Proceed {
                enter(after, Phase::Resetting);
            }
        },
    },
    Mutation {
        name: "a factory reset is over once its system is committed",
        spoil: |_, _, event, after| {
            if *event == Event::Done && phase(after) == Some(&Phase::Resetting) {
                end(after, Outcome::Succeeded);
            }
        },
    },
    Mutation {
        name: "a factory reset is over without a reboot",
        spoil: |before, _, event, after| {
            if *event == Event::Done && phase(before) == Some(&Phase::Resetting) {
                end(after, Outcome::Succeeded);
            }
        },
    },
    Mutation {
        name: "a factory reset reboots twice",
        spoil: |before, now, event, after| {
            if let (Some(Phase::Finishing { since }), Event::Started) = (phase(before), event) {
                let again = before.state.job().is_some_and(|job| job.rewrites_left == Job::REWRITES);
                if *since != now.boot && again {
                    *after = before.clone();
                    enter(after, Phase::Finishing { since: now.boot.clone() });
                    if let Some(job) = job(after) {
                        job.rewrites_left = 0;
                    }
                }
            }
        },
    },
    Mutation {
        name: "a program that was cut short is taken for done",
        spoil: |before, now, event, after| {
            if phase(before) == Some(&Phase::Resetting) && *event == Event::Started {
                enter(after, Phase::Finishing { since: now.boot.clone() });
            }
        },
    },
    Mutation {
        name: "a program that failed is taken for done",
        spoil: |before, now, event, after| {
            if phase(before) == Some(&Phase::Resetting) && matches!(event, Event::Failed(_)) {
                *after = before.clone();
                enter(after, Phase::Finishing { since: now.boot.clone() });
            }
        },
    },
];
