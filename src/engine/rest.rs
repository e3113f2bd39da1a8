//! How long the engine may sleep, and which work has to wait before it is begun again.

use std::time::Duration;

use tokio::time::Instant;

use super::worker::Key;
use super::{Engine, GATE_TICK, SAVE_PAUSE, TICK};
use crate::update::{Phase, Work};

/// How often it is looked whether the clock is set by now, if something waits for its date.
const CLOCK_TICK: Duration = Duration::from_secs(20);
/// How long a work that failed and is called for again has to wait.
const WORK_PAUSE: Duration = Duration::from_secs(10);
/// So many times at most that pause is doubled where only a reboot is left, which has no end but itself: to five minutes.
const DOUBLED: u32 = 5;

/// The work that failed last and is called for again.
#[derive(Default)]
pub(super) struct Resting {
    /// It is not begun again before then, or a broken device would spin.
    until: Option<(Key, Instant)>,
    /// How often it failed before, without another one in between.
    failed: Option<(Key, u32)>,
}

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
        let rest =
            self.resting.until.as_ref().map(|(_, until)| until.saturating_duration_since(Instant::now()));
        // Those that are being asked just now will say so; and none are asked while the record cannot be saved.
        let hooks = self.hooks_rest().filter(|_| self.worker.key().is_none() && !self.is_held_up());
        let clock = (!self.record.undated.is_nothing()).then_some(CLOCK_TICK);
        [save, rest, hooks, clock].into_iter().flatten().fold(own, Duration::min)
    }

    pub(super) fn is_resting(&mut self, key: &Key) -> bool {
        if matches!(key.1, Work::Download(_)) && self.download_waits() {
            return true;
        }
        let until = &mut self.resting.until;
        until.take_if(|(resting, until)| resting != key || *until <= Instant::now());
        until.is_some()
    }

    /// This work failed, and is called for again.
    pub(super) fn rest(&mut self, work: Work) {
        let job = self.record.state.job();
        let is_the_last =
            job.is_some_and(|job| matches!(job.phase, Phase::Finishing { .. } | Phase::Returning { .. }));
        let key = (job.map(|job| job.intent.clone()), work);
        let before = self.resting.failed.take().filter(|(failed, _)| is_the_last && *failed == key);
        let times = before.map_or(0, |(_, times)| DOUBLED.min(times + 1));
        self.resting.failed = Some((key.clone(), times));
        self.resting.until = Some((key, Instant::now() + WORK_PAUSE * 2_u32.pow(times)));
    }
}
