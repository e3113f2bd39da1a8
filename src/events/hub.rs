//! The hub's coming and going, without filling the journal when a link flaps all night.

use std::time::Duration;

use super::{About, Line, catalog, tell};
use crate::model::{Slot, Version};

/// At most one line about a lost connection in this time.
const QUIET: Duration = Duration::from_secs(600);

/// Writes the lines about the hub. A loss is told at most every ten minutes, with how many were not; a connection
/// is told the first time, and after every loss that was told.
#[derive(Debug, Default)]
pub struct HubLines {
    told_connected: bool,
    told_lost: Option<Duration>,
    told_contested: Option<Duration>,
    untold: u32,
    told_ignored: Option<Duration>,
    ignored: u64,
}

impl HubLines {
    /// The hub is connected. `hub` is its host name.
    pub fn connected(&mut self, hub: &str) {
        if !self.told_connected {
            tell!(info, HUB_CONNECTED, &About::default(), [], "connected to the hub {}", Line(hub));
        }
        self.told_connected = true;
    }

    /// So many more cloud-to-device messages were ignored; told at most every ten minutes.
    pub fn ignored(&mut self, now: Duration, count: u64) {
        self.ignored = self.ignored.saturating_add(count);
        if self.told_ignored.is_some_and(|told| now.saturating_sub(told) < QUIET) {
            return;
        }
        let n = std::mem::take(&mut self.ignored);
        let messages = if n == 1 { "message was" } else { "messages were" };
        tell!(
            info,
            MESSAGES_IGNORED,
            &About::default(),
            [],
            "{n} cloud-to-device {messages} ignored: they mean nothing to twinboot"
        );
        self.told_ignored = Some(now);
    }

    /// The connection is gone, or could not be made. `now` is the time since boot.
    pub fn lost(&mut self, now: Duration, why: &str) {
        if self.told_lost.is_some_and(|told| now.saturating_sub(told) < QUIET) {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        let untold = match self.untold {
            0 => String::new(),
            n => format!(" (and {n} times before since the last such line)"),
        };
        tell!(
            warn,
            HUB_LOST,
            &About::default(),
            [],
            "no connection to the hub, trying again: {}{untold}",
            Line(why)
        );
        *self = Self { told_connected: false, told_lost: Some(now), untold: 0, ..*self };
    }

    /// Another device seems to use this identity. Told at most every ten minutes, however many losses were.
    pub fn contested(&mut self, now: Duration, why: &str) {
        if self.told_contested.is_some_and(|told| now.saturating_sub(told) < QUIET) {
            return;
        }
        self.told_contested = Some(now);
        tell!(warn, HUB_CONTESTED, &About::default(), [], "{}", Line(why));
    }
}
