//! The hub's coming and going: what the status says of it, and what the operator reads.

use std::time::Duration;

use super::Engine;
use crate::events;
use crate::hub::Lost;

impl Engine {
    pub(super) fn link_made(&mut self) {
        self.connected(true);
        self.hub_lines.connected(&self.hub_name);
        // Two devices with one identity both connect, again and again: that is over when the session says so.
        if !self.live.hub_warning.starts_with(DUPLICATE) {
            self.live.hub_warning.clear();
        }
    }

    pub(super) fn link_lost(&mut self, why: &Lost, retry_in: Duration) {
        self.connected(false);
        let line = format!("{why}; trying again in {retry_in:.1?}");
        let now = self.host.since_boot();
        if let Lost::Contested { device, .. } = why {
            self.hub_lines.contested(now, &line);
            self.live.hub_warning =
                format!("{DUPLICATE}: another device seems to connect as '{device}', or this clock is late");
        } else {
            let is_news = self.live.hub_warning != why.to_string();
            match why {
                // Until somebody does something about it, once is enough.
                Lost::Unprovisioned { wanted } if is_news => events::not_provisioned(wanted),
                Lost::Credential(words) if is_news => events::network_unusable(words),
                Lost::Unprovisioned { .. } | Lost::Credential(_) => {}
                Lost::Apart(_)
                | Lost::Unresolved { .. }
                | Lost::Unreachable { .. }
                | Lost::Tls { .. }
                | Lost::WebSocket { .. }
                | Lost::Proxy { .. }
                | Lost::Provisioning { .. }
                | Lost::Refused(_)
                | Lost::Unsubscribed(_)
                | Lost::Closed
                | Lost::Contested { .. }
                | Lost::Broken(_)
                | Lost::Silent(_)
                | Lost::Malformed(_) => self.hub_lines.lost(now, &line),
            }
            let needs_somebody = why.is_slow()
                || matches!(why, Lost::Credential(_) | Lost::Unprovisioned { .. } | Lost::Apart(_));
            if needs_somebody && !self.live.hub_warning.starts_with(DUPLICATE) {
                self.live.hub_warning = why.to_string();
            }
        }
    }

    fn connected(&mut self, connected: bool) {
        if self.live.hub.connected != connected {
            self.live.hub.connected = connected;
            self.live.hub.since = self.now();
        }
        self.reached.send_replace(connected);
    }
}

/// How the warning of a second device begins.
const DUPLICATE: &str = "duplicate identity";
