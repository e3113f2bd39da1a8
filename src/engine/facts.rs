//! What the machine, the bootloader and the configuration say: the facts that outrank the record.

use super::Engine;
use crate::boot::BootView;
use crate::host::Host;
use crate::model::{BootId, Factory, Slot};
use crate::store::overdue;
use crate::update::{Event, Facts};

impl Engine {
    /// What comes before anybody may ask: then there is a true answer, if perhaps one step old.
    pub(super) fn awake(&mut self, view: Option<BootView>) {
        self.see(view);
        self.retune();
        self.live.tell(&self.record, &self.facts, None, None);
    }

    /// What can become so at any moment, and that the record has to know of.
    pub(super) async fn heed_the_world(&mut self) {
        if self.live.hub.connected && self.record.state.job().is_some_and(|job| !job.hub_reached) {
            // Here and nowhere else: an update may also begin because another one ended.
            let _ = self.take(Event::HubReached).await;
        }
        if !self.record.undated.is_nothing()
            && let Some(booted_at) = self.host.boot_time()
        {
            self.facts.booted_at = Some(booted_at);
            let _ = self.take(Event::ClockSet).await;
        }
    }

    /// What the guard over the last trial left behind has had its effect, or was about something else. As long as that is
    /// not saved, the next start has to find it.
    pub(super) async fn forget_overdue(&mut self) {
        if self.facts.overdue.take().is_none() || self.unsaved {
            return;
        }
        let state = self.state.clone();
        let forgotten = tokio::task::spawn_blocking(move || overdue::discard(&state)).await;
        if let Ok(Err(why)) = forgotten {
            tracing::warn!(why, "what the guard over a trial left behind could not be removed");
        }
    }

    /// Notes what the bootloader says now, if it says anything; whether that is the first that is heard of it.
    pub(super) fn see(&mut self, view: Option<BootView>) -> bool {
        let Some(view) = view else { return false };
        let is_first = self.view.is_none();
        if let Some(unreadable) = self.unreadable.take() {
            self.live.warnings.remove(&unreadable);
        }
        (self.facts.default, self.facts.trial) = (Some(view.default), view.trial);
        self.facts.floor = view.floor;
        if self.view.as_ref().is_none_or(|known| known.warnings != view.warnings) {
            for warning in &view.warnings {
                self.repeat(|repeats, now, about| repeats.env_one_copy_bad(now, about, warning));
            }
        }
        let old = self.view.take().map(|view| view.warnings).unwrap_or_default();
        self.live.warnings.retain(|warning| !old.contains(warning));
        self.live.warnings.extend(view.warnings.iter().cloned());
        self.view = Some(view);
        is_first
    }
}

/// What the machine, the bootloader and the configuration say at the start.
pub(super) fn look_around(
    host: &Host,
    view: Option<&BootView>,
    boot: BootId,
    booted: Slot,
    factory: Factory,
) -> Facts {
    Facts {
        boot,
        booted,
        default: view.map(|view| view.default),
        trial: view.and_then(|view| view.trial),
        version: host.image_version(),
        booted_at: host.boot_time(),
        factory,
        floor: view.and_then(|view| view.floor),
        overdue: None,
    }
}
