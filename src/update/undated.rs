//! What happened before the clock was set. A gateway without a battery behind its clock is back from a reboot, or has an
//! update behind it, before the network tells it the time; whoever waits for that moment must not wait for ever.

use serde::{Deserialize, Serialize};

use super::record::Record;
use super::state::Facts;
use crate::model::Timestamp;

/// What has no time yet and gets one as soon as there is one: [`Event::ClockSet`](super::Event::ClockSet).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct Undated {
    /// The reboot that was asked for, [`Record::reboot_time`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reboot: bool,
    /// The end of the last update, [`Record::last`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
}

impl Undated {
    /// Whether everything has its time, as far as it ever had one.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Record {
    /// The clock is right by now. When the machine booted follows from that; when the update ended does not, and it gets
    /// the first time that is known to be later.
    pub(super) fn clock_set(&mut self, now: &Facts, at: Option<Timestamp>) {
        if self.undated.reboot && now.booted_at.is_some() {
            (self.reboot_time, self.undated.reboot) = (now.booted_at, false);
        }
        if let (true, Some(at), Some(last)) = (self.undated.end, at, &mut self.last) {
            (last.times.ended, self.undated.end) = (Some(at), false);
        }
    }
}
