//! One update on its way, and what it pays for each step.

use serde::{Deserialize, Serialize};

use super::state::{Facts, Phase, Plan};
use crate::model::{
    Consent, Cost, Failure, Image, Install, IntentId, Origin, Outcome, Seal, Slot, Terms, Times, Timestamp,
    UpdateId, Version,
};

/// One update on its way.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Job {
    /// Which wish this is.
    pub id: UpdateId,
    /// What the wish amounts to.
    pub intent: IntentId,
    /// Who asked.
    pub origin: Origin,
    /// What the new system calls itself, if known.
    pub version: Option<Version>,
    /// What it is about.
    pub plan: Plan,
    /// The slot the new system is in, or will be.
    pub target: Slot,
    /// How far it got.
    pub phase: Phase,
    /// What the target was found to hold while it was written.
    pub image: Option<Image>,
    /// What the signatures vouch for, if it came in a bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// What it costs, as long as somebody has to agree to that before it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Somebody agreed to fetch so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_allowed: Option<u64>,
    /// The target was read back by the process that runs, and is right. Nothing is armed without.
    #[serde(default)]
    pub verified: bool,
    /// On which terms it was asked for.
    #[serde(default, skip_serializing_if = "Terms::is_usual")]
    pub terms: Terms,
    /// Somebody allowed switching over.
    #[serde(flatten, with = "stored_consent")]
    pub consent: Option<Consent>,
    /// The hub was connected while the old system ran: the new one must reach it too.
    pub hub_reached: bool,
    /// The bootloader may have been armed for this job.
    pub armed: bool,
    /// How many times the target was sent on trial.
    pub trials: u8,
    /// The last trial was cut short, and nothing is known of the new system: not that it is ill, and not that it is well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unjudged: bool,
    /// How many times the reboot into the present trial failed, without a boot in between.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refusals: u8,
    /// How many more times the target may be written anew after a read-back that differed.
    pub rewrites_left: u8,
    /// Every transition costs one; none left breaks the loop.
    pub steps_left: u8,
    /// When what happened.
    pub times: Times,
}

impl Job {
    /// Steps a job may take. A flawless update takes seven; every restart while something is being done costs one or two
    /// more, so a long download survives a hundred power cuts, and a loop ends in a rollback. Waiting at a gate costs
    /// nothing, however often the device is restarted meanwhile.
    pub const STEPS: u8 = 200;
    /// Steps that undoing may take once [`Job::STEPS`] are used up.
    pub const ROLLBACK_STEPS: u8 = 16;
    /// How many times a target may be sent on trial: once, and three times more if a trial is cut short before there
    /// is a verdict. An interrupted trial says nothing about the image.
    pub const TRIALS: u8 = 4;
    /// How many times the machine is asked to reboot into a trial before the update is given up: for five minutes if it
    /// refuses at once, which an inhibitor may; for two and a half hours if it agrees and does not go.
    pub const REBOOTS: u8 = 30;
    /// How many times a target is written anew after its read-back differed.
    pub const REWRITES: u8 = 1;

    pub(super) fn new(id: UpdateId, intent: IntentId, origin: Origin, plan: Plan, target: Slot) -> Self {
        Self {
            id,
            intent,
            origin,
            version: None,
            plan,
            target,
            phase: Phase::Accepted,
            image: None,
            seal: None,
            cost: None,
            cost_allowed: None,
            verified: false,
            terms: Terms::default(),
            consent: None,
            hub_reached: false,
            armed: false,
            trials: 0,
            unjudged: false,
            refusals: 0,
            rewrites_left: Self::REWRITES,
            steps_left: Self::STEPS,
            times: Times::default(),
        }
    }

    pub(super) fn install(install: &Install, target: Slot, at: Option<Timestamp>) -> Self {
        let plan = Plan::Install(install.artifact.clone());
        let mut job = Self::new(install.id.clone(), install.intent.clone(), install.origin, plan, target);
        job.version = install.artifact.version.clone();
        job.terms = install.terms;
        job.times.accepted = at;
        job
    }

    /// A job that undoes a trial nobody remembers.
    pub(super) fn rescue(target: Slot) -> Self {
        let (id, intent) = (UpdateId("unknown".into()), IntentId("unknown".into()));
        let why = Failure::RecordLost.because("a trial was running that the record does not know");
        let mut job = Self::new(id, intent, Origin::Local, Plan::Rescue, target);
        job.phase = Phase::RollingBack { why };
        job.armed = true;
        job
    }

    /// Whether this job explains that its target is booted: from arming on it may be, and also where it is read back anew
    /// since nobody noted that.
    pub(super) fn explains(&self, booted: Slot) -> bool {
        let armed = match self.phase {
            Phase::Accepted | Phase::Downloading | Phase::Resetting | Phase::Finishing { .. } => false,
            Phase::Verifying | Phase::Staged => self.armed,
            Phase::Applying
            | Phase::Rebooting { .. }
            | Phase::Confirming
            | Phase::Committing
            | Phase::RollingBack { .. }
            | Phase::Returning { .. } => true,
        };
        armed && booted == self.target
    }

    /// The same thing is wished for on other terms, by the name `id`: there is no need to begin anew. Terms that ask for
    /// consent where the old ones did not are not met by an earlier one.
    pub(super) fn adopt(&mut self, id: UpdateId, terms: Terms) {
        let stricter = |old: bool, new: bool| new && !old;
        let old = self.terms;
        if stricter(old.hold, terms.hold) || stricter(old.consent, terms.consent) {
            self.consent = None;
        }
        (self.id, self.terms) = (id, terms);
    }

    /// Whether `install` is what this job does already, on whatever terms, and it is not too late for others.
    pub(super) fn may_adopt(&self, install: &Install) -> bool {
        let same = self.intent == install.intent && self.plan.artifact() == Some(&install.artifact);
        same && matches!(self.plan, Plan::Install(_)) && self.is_supersedable()
    }

    /// Whether the system that a factory reset is about runs for good, as far as can be seen. Where the bootloader
    /// cannot be asked, the work asks it once more before it does anything.
    pub(super) fn runs_for_good(&self, now: &Facts) -> bool {
        let home = if self.plan.artifact().is_some() { self.target } else { !self.target };
        now.booted == home && (now.default.is_none() || now.is_committed())
    }

    pub(super) fn note_written(&mut self, image: &Image, seal: Option<&Seal>, at: Option<Timestamp>) {
        if self.phase == Phase::Downloading {
            self.image = Some(image.clone());
            self.seal = seal.cloned();
            if let (None, Some(seal)) = (&self.version, seal) {
                self.version = Some(seal.version.clone());
            }
            self.times.downloaded = at;
        }
    }

    pub(super) fn note_cost(&mut self, cost: Cost) {
        if self.phase == Phase::Downloading {
            self.cost = Some(cost);
        }
    }

    /// How many bytes it may fetch where the configuration allows `cap` for one update; 0 is no limit. Somebody who
    /// agreed to a cost agreed to a twentieth more: what is found to be missing on the way should not stop it again.
    pub fn allowance(&self, cap: u64) -> u64 {
        match (cap, self.cost_allowed) {
            (0, _) => 0,
            (cap, None) => cap,
            (cap, Some(allowed)) => cap.max(allowed.saturating_add(allowed / 20)),
        }
    }

    /// Whether the new system was tried, and not only for as long as the power held.
    pub(super) fn was_tried(&self) -> bool {
        self.trials > 0 && !self.unjudged
    }

    /// The machine would not reboot.
    pub(super) fn note_refusal(&mut self) {
        if matches!(self.phase, Phase::Rebooting { .. }) {
            self.refusals = self.refusals.saturating_add(1);
        }
    }

    /// The machine never rebooted into the present trial: there was none. What was tried before was cut short, or this
    /// would not have been begun.
    pub(super) fn take_back_trial(&mut self) {
        self.trials = self.trials.saturating_sub(1);
        self.unjudged = self.trials > 0;
    }

    /// Moves to `phase` and pays a step for it. Without steps left a loop becomes a rollback, and a rollback that
    /// loops becomes an end.
    pub(super) fn enter(&mut self, phase: Phase, at: Option<Timestamp>) -> Option<Outcome> {
        let was_trial = matches!(self.phase, Phase::Confirming | Phase::Committing);
        let was_untried = matches!(self.phase, Phase::Verifying | Phase::Staged | Phase::Applying);
        self.phase = match self.steps_left.checked_sub(1) {
            Some(left) => {
                self.steps_left = left;
                phase
            }
            // One reboot is left, out of a system that must not stay: to end here would be to stay in it.
            None if matches!(phase, Phase::Returning { .. }) => phase,
            None => {
                let why = Failure::Exhausted.because("too many steps without an end");
                // The system that runs is committed and may have begun to make its data as new: there is no way back.
                if matches!(self.phase, Phase::Resetting | Phase::Finishing { .. }) {
                    return Some(Outcome::Failed(why));
                }
                if self.phase.undoing().is_some_and(|why| why.failure == Failure::Exhausted) {
                    return Some(Outcome::Failed(why));
                }
                self.steps_left = Self::ROLLBACK_STEPS;
                Phase::RollingBack { why }
            }
        };
        self.verified = self.phase == Phase::Staged;
        match self.phase {
            Phase::Applying => {
                self.armed = true;
                self.times.applying = at;
            }
            Phase::Downloading => self.cost = None,
            // Also if the power went between arming and noting it: the machine is in the target all the same.
            Phase::Rebooting { .. } | Phase::Confirming if was_untried => {
                self.trials = self.trials.saturating_add(1);
                (self.unjudged, self.refusals) = (false, 0);
            }
            // The trial may have written to its own root file system: it may have to be written anew.
            Phase::Verifying if was_trial => {
                self.rewrites_left = Self::REWRITES;
                self.unjudged = true;
            }
            Phase::Accepted
            | Phase::Verifying
            | Phase::Staged
            | Phase::Rebooting { .. }
            | Phase::Confirming
            | Phase::Committing
            | Phase::Resetting
            | Phase::Finishing { .. }
            | Phase::RollingBack { .. }
            | Phase::Returning { .. } => {}
        }
        None
    }
}

fn is_zero(count: &u8) -> bool {
    *count == 0
}

/// How [`Job::consent`] is stored: with the flag `consented` of earlier versions, which knew no more. A new system on
/// trial writes the record that the old one has to read when it comes back.
mod stored_consent {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::{Consent, Origin};

    #[derive(Deserialize, Serialize)]
    struct Stored {
        #[serde(default)]
        consented: bool,
        #[serde(default)]
        consent: Option<Consent>,
    }

    pub(super) fn serialize<S: Serializer>(
        consent: &Option<Consent>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Stored { consented: consent.is_some(), consent: *consent }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Consent>, D::Error> {
        let Stored { consented, consent } = Stored::deserialize(deserializer)?;
        // Who it was, the older version did not write down.
        Ok(consent.or(consented.then_some(Consent { by: Origin::Local, at: None })))
    }
}
