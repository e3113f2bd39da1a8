//! What comes in from the hub, turned into events. What is asked explicitly is answered in [`super::requests`].

use super::Engine;
use super::requests::Asker;
use crate::hub::{Desired, Hub, HubEvent, Introduction, Parsed};
use crate::update::{Event, Refused, Wish};

/// The hub's next event; for ever, without a hub.
pub(super) async fn next_event(hub: &mut Option<Hub>) -> Option<HubEvent> {
    match hub {
        Some(hub) => hub.events.recv().await,
        None => std::future::pending().await,
    }
}

impl Engine {
    pub(super) async fn hear(&mut self, event: HubEvent) {
        match event {
            HubEvent::Connected => self.link_made(),
            HubEvent::Lost { why, retry_in } => self.link_lost(&why, retry_in),
            HubEvent::Uncontested => self.live.hub_warning.clear(),
            HubEvent::Tuned(tuned) => self.tuned(tuned).await,
            HubEvent::Introduced(Introduction { hub, device: _, way, warnings }) => {
                self.hub_name = format!("{hub}{way}");
                for warning in self.live.warn_of_hub(warnings) {
                    self.repeat(|repeats, now, _| repeats.hub_warning(now, &warning));
                }
            }
            HubEvent::Desired(parsed) => self.wanted(parsed).await,
            HubEvent::Ignored(count) => self.hub_lines.ignored(self.host.since_boot(), count),
            HubEvent::Method { call, reply } => match call.request {
                Ok(request) => self.serve(request, Asker::Method(call.method, reply)).await,
                Err(reason) => self.decline(reason, call.method, reply).await,
            },
            HubEvent::ReportDelivered(_) => {}
            HubEvent::ReportRefused { generation, status } => {
                let detail = format!("report {generation} was refused with status {status}");
                self.repeat(|repeats, now, _| repeats.hub_refused(now, &detail));
            }
        }
    }

    async fn wanted(&mut self, parsed: Parsed) {
        if !parsed.unknown.is_empty() {
            tracing::debug!(names = %parsed.unknown.join(", "), "the desired property has unknown members");
        }
        match parsed.desired {
            Desired::Absent => {
                self.postponed = None;
                let _ = self.take(Event::DesiredCleared).await;
            }
            Desired::Wish(install) => self.desire(Wish::Install(install)).await,
            Desired::Invalid { reason, version, id } => {
                self.desire(Wish::Invalid { id, version, reason }).await
            }
        }
    }

    /// Wishes for `wish`; kept for later if nothing can be begun now.
    pub(super) async fn desire(&mut self, wish: Wish) {
        self.postponed = match self.take(Event::Desired(wish.clone())).await {
            Err(Refused::Unsaved) => Some(wish),
            Ok(()) | Err(_) => None,
        };
    }
}
