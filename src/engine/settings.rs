//! What the hub's desired property `twinboot` asks for: settings, and consent. Each is acknowledged as it is in force.

use super::Engine;
use crate::events;
use crate::hub::{Consented, Tuned};
use crate::model::{Install, Origin};
use crate::update::{Event, Job, Plan};

impl Engine {
    /// Takes the settings over; those that make no sense are told.
    pub(super) async fn tuned(&mut self, mut tuned: Tuned) {
        tuned.check_zone(|zone| self.host.knows(zone));
        for complaint in tuned.complaints() {
            self.repeat(|repeats, now, _| repeats.setting_refused(now, &complaint));
        }
        let tuning = tuned.tuning(&self.record.tuning);
        if tuning != self.record.tuning {
            // Settings are never refused. What could not be saved holds until the next start, and then until the hub
            // is heard again.
            let _ = self.take(Event::Tuned(tuning)).await;
            events::tuned(&self.rules);
        }
        self.tuned = Some(tuned);
    }

    /// Whoever named the update on its way in the twin allowed it to switch over, be it long before.
    pub(super) async fn consent_by_twin(&mut self) {
        let (Some(tuned), Some(job)) = (&self.tuned, self.record.state.job()) else { return };
        let waits = job.consent.is_none() && job.asks_consent(&self.rules);
        if waits && tuned.consent().is_some_and(|name| names(name, job)) {
            // Too late is no error: nobody waits for an answer.
            let _ = self.take(Event::Apply(Origin::Desired)).await;
        }
    }

    /// Acknowledges the settings.
    pub(super) fn acknowledge(&mut self) {
        // Before the hub was heard nothing is known that could be acknowledged, or deleted.
        let Some(tuned) = &self.tuned else { return };
        let found = tuned.consent().is_some_and(|name| {
            let under_way = self.record.state.job().is_some_and(|job| names(name, job));
            let over = self.record.last.as_ref().is_some_and(|last| {
                last.id.0 == name || last.version.as_ref().is_some_and(|version| version.as_str() == name)
            });
            under_way || over
        });
        let consented = if found { Consented::Found } else { Consented::Awaited };
        self.live.settings = Some(tuned.acknowledged(&self.rules, consented));
    }
}

/// Whether `name` is this update's version, its id, or the `jobId` it was asked for with.
fn names(name: &str, job: &Job) -> bool {
    let by_version = job.version.as_ref().is_some_and(|version| version.as_str() == name);
    let by_job = match &job.plan {
        // The intent was made with it, and with nothing that is not known.
        Plan::Install(artifact) => {
            Install::new(artifact.clone(), job.origin, Some(name)).intent == job.intent
        }
        Plan::FactoryReset(_) | Plan::GoBack | Plan::Rescue => false,
    };
    by_version || by_job || job.id.0 == name
}
