//! The operator's journal: one line for each thing that changed.

use std::time::Duration;

use super::Engine;
use crate::events::{self, About, Repeats};
use crate::model::Cost;
use crate::report::lifecycle;
use crate::update::{Phase, Record};

impl Engine {
    /// What a line is about, as things stand.
    pub(super) fn about(&self) -> About<'_> {
        let job = self.record.state.job();
        About {
            update: job.map(|job| &job.id),
            version: job.and_then(|job| job.version.as_ref()),
            phase: job.map(|job| job.phase.name()),
            slot: job.map(|job| job.target),
            steps_left: job.map(|job| u32::from(job.steps_left)),
            booted: Some(self.facts.booted),
            default: self.view.as_ref().map(|view| view.default),
        }
    }

    /// Tells what may come again and again, if it is time to.
    pub(super) fn repeat(&mut self, tell: impl FnOnce(&mut Repeats, Duration, &About<'_>)) {
        let mut repeats = std::mem::take(&mut self.repeats);
        tell(&mut repeats, self.host.since_boot(), &self.about());
        self.repeats = repeats;
    }

    /// Tells, once, that a download goes on where an earlier process left it.
    pub(super) fn announce_resumption(&mut self) {
        let at = self.worker.snapshot().map_or(0, |now| now.resumed_at);
        if at > 0 && self.resumed_at != at {
            self.resumed_at = at;
            events::download_resumed(&self.about(), at);
        }
    }

    /// Tells, once, what the update on its way costs.
    pub(super) fn announce_cost(&mut self, plan: Option<Cost>) {
        let Some((job, cost)) = self.record.state.job().zip(plan) else { return };
        let planned = Some((job.intent.clone(), cost));
        if self.planned != planned {
            self.planned = planned;
            events::download_planned(&self.about(), cost, self.live.seconds(cost));
        }
    }

    /// Tells what is different from `before`. `between` is the record halfway through the step: one update may have ended
    /// there, and another one at once after it.
    pub(super) fn announce(&self, before: &Record, between: &Record) {
        if let Some(hub) = self.hub.as_ref().filter(|_| self.telemetry) {
            let now = self.now();
            let events = lifecycle(before, between, now).into_iter();
            for event in events.chain(lifecycle(between, &self.record, now)) {
                hub.commands.telemetry(event.to_string().into_bytes());
            }
        }
        let ends = [between.newly_ended(before), self.record.newly_ended(between)];
        for ended in ends.into_iter().flatten() {
            let about = About {
                update: Some(&ended.id),
                version: ended.version.as_ref(),
                phase: None,
                slot: ended.target,
                steps_left: None,
                ..self.about()
            };
            events::update_ended(&about, ended);
        }
        let (old, new) = (before.state.job(), self.record.state.job());
        let Some(new) = new else { return };
        // On other terms it has another id; begun anew it has all its steps again.
        let same = old.filter(|old| old.intent == new.intent && new.steps_left <= old.steps_left);
        match same {
            None => events::update_accepted(&self.about(), new.origin),
            Some(old) if old.phase != new.phase => {
                events::transition(&self.about(), old.phase.name(), new.phase.name(), new.phase.undoing());
            }
            Some(_) => {}
        }
        if let Some(consent) = new.consent.filter(|_| same.is_none_or(|old| old.consent.is_none())) {
            events::consent_given(&self.about(), consent.by);
        }
        if let Some(fetch) =
            new.cost_allowed.filter(|_| same.is_some_and(|old| old.cost_allowed != new.cost_allowed))
        {
            events::cost_allowed(&self.about(), fetch);
        }
        if matches!(new.phase, Phase::Finishing { .. })
            && same.is_some_and(|old| old.phase == Phase::Resetting)
        {
            events::data_renewed(&self.about());
        }
        let begins = new.phase == Phase::Confirming && same.is_none_or(|old| old.phase != Phase::Confirming);
        if begins {
            events::trial_started(&self.about(), self.view.as_ref().and_then(|view| view.tries_left));
        }
    }
}
