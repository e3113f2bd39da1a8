//! The hub of one gateway: it takes whatever is said, is linked some seconds after a daemon began or a link was lost, and
//! tells what it wants at each link.

use super::super::*;
use super::image::{Kind, held};
use super::trouble::Due;
use super::world::{MINUTE, SECOND, World};
use crate::hub::{HubCommand, Lost};

impl World {
    /// The hub takes what this daemon says, and will be linked to it.
    pub(super) fn listen(&mut self, mut daemon: Daemon) {
        let nothing = mpsc::channel(1).1;
        let mut commands = std::mem::replace(&mut daemon.port.commands, nothing);
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                match command {
                    HubCommand::Flush(done) => drop(done.send(())),
                    HubCommand::Shutdown => return,
                    HubCommand::Reply { .. } | HubCommand::Telemetry(_) => {}
                }
            }
        });
        self.daemon = Some(daemon);
        self.link_soon();
        self.hold();
    }

    pub(super) fn link_soon(&mut self) {
        if !self.is_awaited(Due::LinkIsMade) {
            let after = SECOND * (3 + self.dice.below(60) as u32);
            self.later(Due::LinkIsMade, after);
        }
    }

    pub(super) async fn link(&mut self) {
        let is_trial = self.device.rom.state().trial == Some(self.device.booted);
        let image = held(&self.device, self.device.booted);
        let is_deaf = is_trial && image.is_some_and(|image| image.kind == Kind::Deaf);
        let Some(daemon) = &self.daemon else { return };
        if self.linked.is_none() && self.hub_is_up && !is_deaf {
            daemon.tell(HubEvent::Connected).await;
            daemon.tune(self.settings.clone(), self.settings_version).await;
            daemon.tell(desire(&self.desired)).await;
            self.linked = Some(self.clocks.since_boot());
            self.tell("linked");
        }
    }

    pub(super) async fn lose_link(&mut self) {
        if let Some(daemon) = self.daemon.as_ref().filter(|_| self.linked.is_some()) {
            daemon.tell(HubEvent::Lost { why: Lost::Closed, retry_in: MINUTE }).await;
        }
        self.linked = None;
        self.link_soon();
    }

    /// The hub wants this from now on.
    pub(super) async fn desire(&mut self, desired: Desired) {
        self.desired = desired;
        if let Some(daemon) = self.daemon.as_ref().filter(|_| self.linked.is_some()) {
            daemon.tell(desire(&self.desired)).await;
        }
    }

    /// The hub wants these settings from now on.
    pub(super) async fn tune(&mut self, settings: Value) {
        (self.settings, self.settings_version) = (settings, self.settings_version + 1);
        if let Some(daemon) = self.daemon.as_ref().filter(|_| self.linked.is_some()) {
            daemon.tune(self.settings.clone(), self.settings_version).await;
        }
    }
}

fn desire(desired: &Desired) -> HubEvent {
    HubEvent::Desired(Parsed { desired: desired.clone(), unknown: Vec::new() })
}

/// How many reports this daemon has made.
pub(super) fn told(daemon: &Daemon) -> u64 {
    daemon.port.reports.borrow().report.as_ref().map_or(0, |report| report.generation)
}
