//! Events that are to be sent as telemetry and could not be yet. Pure; time is an argument.
//!
//! They tell what happens while it happens, and the reported properties tell the same for good. So few are kept, not
//! for long, and when in doubt they are lost: sent once, without asking for an acknowledgement.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Most events that wait: what a whole update has.
const MOST: usize = 16;
/// What is older than this is news no more. A reboot into a new system and its first connection take less.
const OLDEST: Duration = Duration::from_secs(600);

/// The waiting events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Telemetry(VecDeque<(Instant, Vec<u8>)>);

impl Telemetry {
    /// Adds an event, and forgets the oldest if there are too many.
    pub(super) fn push(&mut self, event: Vec<u8>, now: Instant) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((now, event));
    }

    /// All that are still news; none waits after that.
    pub(super) fn take(&mut self, now: Instant) -> impl Iterator<Item = Vec<u8>> {
        let news = move |(at, event): (Instant, Vec<u8>)| (now.duration_since(at) <= OLDEST).then_some(event);
        self.0.drain(..).filter_map(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_wait_and_not_for_long() {
        let mut telemetry = Telemetry::default();
        let start = Instant::now();
        for n in 0..20 {
            telemetry.push(vec![n], start + Duration::from_secs(n.into()));
        }
        let taken: Vec<_> = telemetry.take(start + Duration::from_secs(610)).collect();
        assert_eq!(taken, (10..20).map(|n| vec![n]).collect::<Vec<_>>());
        assert_eq!(telemetry.take(start).count(), 0, "each is sent once");
    }
}
