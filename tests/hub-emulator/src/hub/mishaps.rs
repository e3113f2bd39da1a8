//! Faults that befall connections: those that are there when a switch is thrown, and those that come.

use std::time::Duration;

use super::Hub;
use crate::faults::FaultKind;

/// What a fault has in store for a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It is lost so long after CONNECT.
    pub(crate) lost: Option<Duration>,
    /// Its token expires so long after CONNECT.
    pub(crate) expired: Option<Duration>,
    /// Nothing it says is answered.
    pub(crate) mute: bool,
}

impl Hub {
    /// Lets new faults befall the connections that are there.
    pub(crate) fn befall(&mut self) {
        for id in self.connected() {
            let fate = self.fate(&id);
            if fate.mute {
                self.mute(&id);
            }
            if fate.expired.is_some() {
                self.cut(&id, "its token expired");
            }
            if fate.lost.is_some() {
                self.cut(&id, "fault: the connection is lost");
            }
        }
    }

    /// Takes one use of each fault that concerns a connection of this device.
    pub(crate) fn fate(&self, id: &str) -> Fate {
        let lost =
            |kind: &FaultKind| if let FaultKind::DropLink { millis } = kind { Some(*millis) } else { None };
        let expired = |kind: &FaultKind| {
            if let FaultKind::ExpireToken { millis } = kind { Some(*millis) } else { None }
        };
        Fate {
            lost: self.faults.delay(id, lost),
            expired: self.faults.delay(id, expired),
            mute: self.faults.fires(id, &FaultKind::Mute),
        }
    }
}
