//! Where the integrator's hooks have their place. Not in the pure core, which asks them like anything else of the
//! world: what they say is the word of the work that they belong to.
//!
//! | stage | work | what follows from a failure |
//! | --- | --- | --- |
//! | `pre-download` | at the open gate before the download | the update ends; nothing was begun |
//! | `pre-arm` | at the open gate before arming | the update is undone; the old system runs on |
//! | `post-boot` | judging the new system, before its health is asked for | the trial is rolled back |
//! | `post-commit` | committing, after the bootloader was told | it is told; there is no way back |
//! | `post-rollback` | the last revert, in the old system | it is told |
//!
//! A gate is open when policy says so *and* its hooks do. Policy comes first: an update that waited for a hook until the
//! maintenance window was over waits for the next one. But hooks that began inside the window and all said yes have the
//! application stopped by now: then it goes on although the window was over meanwhile. Consent that was taken back is
//! another matter.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::tools::{self, Order};
use super::worker::Key;
use super::{Engine, Tools};
use crate::events;
use crate::hooks::{self, Hooks, Said};
use crate::model::{Failure, Reason, Slot};
use crate::update::{self, Event, Gate, Job, Plan, Wait, Work};

/// How a work ended.
pub(super) enum Word {
    /// With this event.
    Event(Event),
    /// The hooks of an open gate say that it is not the time, and why.
    Later(String),
}

/// What the engine knows of hooks.
pub(super) struct Hooked {
    hooks: Hooks,
    /// What those of the gate said that the update waits at.
    asked: Option<Asked>,
    /// What did not go well beside an update, as long as it is shown.
    complaints: Vec<String>,
}

/// What the hooks of a gate said.
struct Asked {
    key: Key,
    answer: Answer,
}

enum Answer {
    Go,
    Later { why: String, again: Instant },
}

impl Hooked {
    pub(super) fn new(hooks: Hooks) -> Self {
        Self { hooks, asked: None, complaints: Vec::new() }
    }

    /// The record changed: whatever they said, they are asked anew.
    pub(super) fn forget(&mut self) {
        self.asked = None;
    }
}

/// The hooks' stage of a gate.
fn stage(of: update::Stage) -> hooks::Stage {
    match of {
        update::Stage::Download => hooks::Stage::PreDownload,
        update::Stage::Apply => hooks::Stage::PreArm,
    }
}

impl Tools {
    /// At an open gate: may the update go on?
    pub(super) fn ask_at_gate(&self, order: &Order, at: update::Stage) -> Word {
        match self.ask_hooks(order, stage(at), Duration::MAX) {
            Ok(Said::Go) => Word::Event(Event::Proceed),
            Ok(Said::Later(why)) => Word::Later(why),
            Err(why) => Word::Event(Event::Failed(why)),
        }
    }

    /// The new system has come up: lets it prepare before it is judged. That takes of the time it has to prove itself.
    pub(super) fn prepare_trial(&self, order: &Order) -> Result<(), Reason> {
        let (deadline, mut time) = (self.health.deadline, self.trial_deadline());
        loop {
            let left = time.left();
            match self.ask_hooks(order, hooks::Stage::PostBoot, left)? {
                Said::Go => return Ok(()),
                Said::Later(why) if left <= self.hooks.ask_again => {
                    let why = format!("not ready {deadline:?} after the boot: {why}");
                    return Err(Failure::HookFailed.because(why));
                }
                Said::Later(_) => {}
            }
            let pause = tokio::time::timeout(self.hooks.ask_again, order.cancel.cancelled());
            if Handle::current().block_on(async { pause.await.is_ok() }) {
                return Err(Failure::Internal.because("stopped"));
            }
        }
    }

    /// Makes `slot` the only one that boots. Where that ends the way back, the old system's hooks hear of it: also if the
    /// bootloader cannot be told, since then the update is over all the same, unless it was armed.
    pub(super) fn revert(&mut self, order: &Order, slot: Slot) -> Result<(), Reason> {
        let told = self.tell_bootloader(order, |bootloader| bootloader.revert(slot));
        let is_armed = order.job.as_ref().is_some_and(|job| job.armed);
        if slot == order.facts.booted && (told.is_ok() || !is_armed) {
            self.tell_hooks(order, hooks::Stage::PostRollback);
        }
        told
    }

    /// Lets the hooks of a stage know that nothing depends on any more.
    pub(super) fn tell_hooks(&mut self, order: &Order, stage: hooks::Stage) {
        let Some(job) = order.job.as_ref().filter(|_| self.hooks.exist(stage)) else { return };
        let environment = environment(order, job);
        let complaints = Handle::current().block_on(async {
            tokio::select! {
                complaints = self.hooks.tell(stage, &environment) => complaints,
                () = order.cancel.cancelled() => Vec::new(),
            }
        });
        self.complaints.extend(complaints);
    }

    fn ask_hooks(&self, order: &Order, stage: hooks::Stage, left: Duration) -> Result<Said, Reason> {
        if !self.hooks.exist(stage) {
            return Ok(Said::Go);
        }
        let environment = environment(order, tools::job(order)?);
        Handle::current().block_on(async {
            tokio::select! {
                said = self.hooks.ask(stage, &environment, left) => said,
                () = order.cancel.cancelled() => Err(Failure::Internal.because("stopped")),
            }
        })
    }
}

/// What a hook is told besides its stage.
fn environment(order: &Order, job: &Job) -> Vec<(String, String)> {
    let mut environment = tools::environment(job);
    let what = match job.plan {
        Plan::Install(_) => "update",
        Plan::GoBack => "rollback",
        Plan::Rescue => "rescue",
        Plan::FactoryReset(_) => "factory-reset",
    };
    environment.push(("TWINBOOT_BOOTED".into(), order.facts.booted.letter().into()));
    environment.push(("TWINBOOT_PLAN".into(), what.into()));
    if let Some(why) = job.phase.undoing() {
        environment.push(("TWINBOOT_FAILURE".into(), why.failure.code().into()));
    }
    environment
}

impl Engine {
    /// At the gate: goes on if policy and hooks allow it. True if the state is another one then.
    pub(super) async fn wait_at_gate(&mut self, at: update::Stage, key: Key) -> bool {
        if self.gate_is_closed(Work::Await(at)) {
            // What was said before will be long ago when it opens again.
            self.hooked.forget();
            return false;
        }
        if self.worker.key().is_some() {
            return false;
        }
        match &self.hooked.asked {
            Some(Asked { key: of, answer: Answer::Go }) if *of == key => {}
            Some(Asked { key: of, answer: Answer::Later { again, .. } })
                if *of == key && *again > Instant::now() =>
            {
                return false;
            }
            _ if self.has_hooks(at) => {
                self.begin(key).await;
                return false;
            }
            Some(_) | None => {}
        }
        let _ = self.take(Event::Proceed).await;
        true
    }

    /// Whether hooks have a say at this gate just now.
    fn has_hooks(&self, at: update::Stage) -> bool {
        let Some(job) = self.record.state.job() else { return false };
        let concerns = match at {
            // A factory reset by its program alone fetches nothing.
            update::Stage::Download => job.plan.artifact().is_some(),
            // Else it is not armed next, but read back, and then it waits here again.
            update::Stage::Apply => job.verified,
        };
        concerns && self.hooked.hooks.exist(stage(at))
    }

    /// Whether all hooks of the gate where `work` waits were asked just now and said that it goes on.
    pub(super) fn hooks_are_done(&self, work: Work) -> bool {
        let Some(Asked { key, answer: Answer::Go }) = &self.hooked.asked else { return false };
        *key == (self.record.state.job().map(|job| job.intent.clone()), work)
    }

    /// Notes what the hooks of the gate said.
    pub(super) fn heard_at_gate(&mut self, key: Key, why: Option<String>) {
        let again = Instant::now() + self.hooked.hooks.ask_again;
        let answer = why.map_or(Answer::Go, |why| Answer::Later { why, again });
        self.hooked.asked = Some(Asked { key, answer });
    }

    /// What hooks are waited for, if policy waits for nothing.
    pub(super) fn gate_of_hooks(&self) -> Option<Gate> {
        match &self.hooked.asked {
            Some(Asked { answer: Answer::Later { why, .. }, .. }) => {
                Some(Gate { wait: Wait::Hook(why.clone()), until: None })
            }
            Some(Asked { answer: Answer::Go, .. }) | None => None,
        }
    }

    /// When hooks are to be asked again.
    pub(super) fn hooks_rest(&self) -> Option<Duration> {
        match &self.hooked.asked {
            Some(Asked { answer: Answer::Later { again, .. }, .. }) => {
                Some(again.saturating_duration_since(Instant::now()))
            }
            Some(Asked { answer: Answer::Go, .. }) | None => None,
        }
    }

    /// Tells what hooks failed that nothing depended on. They are shown until another update begins.
    pub(super) fn complain(&mut self, complaints: Vec<String>) {
        for complaint in complaints {
            events::hook_failed(&self.about(), &complaint);
            self.live.warnings.insert(complaint.clone());
            self.hooked.complaints.push(complaint);
        }
    }

    /// Another update begins.
    pub(super) fn forget_complaints(&mut self) {
        for complaint in self.hooked.complaints.drain(..) {
            self.live.warnings.remove(&complaint);
        }
    }
}
