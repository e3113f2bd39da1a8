//! How long the engine may sleep, and which work has to wait before it is begun again.

use std::time::Duration;

use tokio::time::Instant;

use super::{Engine, GATE_TICK, SAVE_PAUSE, TICK, worker};
use crate::update::Work;

/// How often it is looked whether the clock is set by now, if something waits for its date.
const CLOCK_TICK: Duration = Duration::from_secs(20);

impl Engine {
    /// How long nothing may happen.
    pub(super) fn pause(&self) -> Duration {
        const NOTHING_TO_WAIT_FOR: Duration = Duration::from_secs(3600);
        let own = match self.record.state.work() {
            Work::Download(_) if self.live.gate.is_some() => GATE_TICK,
            Work::Download(_) | Work::Verify(_) => TICK,
            Work::Await(_) => GATE_TICK,
            Work::Rest
            | Work::Arm(_)
            | Work::Reboot
            | Work::CheckHealth
            | Work::Commit(_)
            | Work::Revert(_)
            | Work::Reset => NOTHING_TO_WAIT_FOR,
        };
        let save = (self.unsaved || self.postponed.is_some()).then_some(SAVE_PAUSE);
        let rest = self.resting.as_ref().map(|(_, until)| until.saturating_duration_since(Instant::now()));
        // Those that are being asked just now will say so; and none are asked while the record cannot be saved.
        let hooks = self.hooks_rest().filter(|_| self.worker.key().is_none() && !self.is_held_up());
        let clock = (!self.record.undated.is_nothing()).then_some(CLOCK_TICK);
        [save, rest, hooks, clock].into_iter().flatten().fold(own, Duration::min)
    }

    pub(super) fn is_resting(&mut self, key: &worker::Key) -> bool {
        if matches!(key.1, Work::Download(_)) && self.download_waits() {
            return true;
        }
        self.resting.take_if(|(resting, until)| resting != key || *until <= Instant::now());
        self.resting.is_some()
    }
}
