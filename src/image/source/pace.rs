//! Fast enough, and not too fast.

use std::time::{Duration, Instant};

/// Watches that a server does not trickle: a connection can be kept alive for ever with a byte now and then.
#[derive(Debug)]
pub(super) struct Floor {
    rate: u64,
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Floor {
    pub(super) fn new(rate: u64, window: Duration) -> Self {
        Self { rate, window, waited: Duration::ZERO, bytes: 0 }
    }

    /// `bytes` came after waiting for so long. Time in which nobody waited, since the flash was slow, is not the
    /// server's fault. The rate, at the end of a window that was too slow.
    pub(super) fn note(&mut self, waited: Duration, bytes: u64) -> Option<u64> {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < self.window {
            return None;
        }
        let rate = self.bytes * 1000 / (self.waited.as_millis().max(1) as u64);
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        (rate < self.rate).then_some(rate)
    }

    /// How long the present window still lasts.
    pub(super) fn left(&self) -> Duration {
        self.window.saturating_sub(self.waited)
    }
}

/// Holds back, so that others get their share of the line.
#[derive(Debug, Default)]
pub(super) struct Ceiling {
    free_at: Option<Instant>,
}

impl Ceiling {
    /// How long to wait after taking `bytes` now, of which there may be `rate` a second.
    pub(super) fn wait(&mut self, bytes: u64, rate: u64, now: Instant) -> Duration {
        if rate == 0 {
            self.forget();
            return Duration::ZERO;
        }
        let from = self.free_at.map_or(now, |free| free.max(now));
        let free = from + Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
        self.free_at = Some(free);
        free - now
    }

    /// The rate is another one: what is still owed by the old one is let go.
    pub(super) fn forget(&mut self) {
        self.free_at = None;
    }
}

/// How long to wait before the connection after `failures` failed ones: anything up to a limit that doubles, so that
/// a fleet does not come back all at once.
pub(super) fn backoff([first, most]: [Duration; 2], failures: u32, random: u64) -> Duration {
    let limit = first.saturating_mul(1_u32 << failures.min(20)).min(most);
    let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random % micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_a_slow_mean_over_the_window_is_too_slow() {
        let mut floor = Floor::new(1000, 10 * SECOND);
        // A burst and a pause: 20 kB in 10 s.
        assert_eq!(floor.note(SECOND, 20_000), None);
        assert_eq!(floor.note(9 * SECOND, 0), None);
        // A trickle.
        for _ in 0..9 {
            assert_eq!(floor.note(SECOND, 100), None);
        }
        assert_eq!(floor.left(), SECOND);
        assert_eq!(floor.note(SECOND, 100), Some(100));
        assert_eq!(floor.note(SECOND, 100), None, "a new window");
        assert_eq!(Floor::new(0, SECOND).note(SECOND, 0), None, "no floor");
    }

    #[test]
    fn the_ceiling_spreads_bytes_over_time() {
        let now = Instant::now();
        let mut ceiling = Ceiling::default();
        assert_eq!(ceiling.wait(500, 1000, now), SECOND / 2);
        assert_eq!(ceiling.wait(500, 1000, now), SECOND);
        assert_eq!(ceiling.wait(500, 1000, now + 5 * SECOND), SECOND / 2, "idle time is not saved up");
        assert_eq!(ceiling.wait(u64::MAX, 0, now), Duration::ZERO);
        assert_eq!(ceiling.wait(500, 1000, now), SECOND / 2, "nothing is owed from before");
    }

    #[test]
    fn waiting_doubles_up_to_a_limit_and_never_beyond() {
        let limits = [SECOND, 300 * SECOND];
        let longest =
            |failures| (0..999_u64).map(|i| backoff(limits, failures, i.wrapping_mul(u64::MAX / 997))).max();
        for (failures, most) in [(0, 1), (1, 2), (5, 32), (9, 300), (1000, 300)] {
            let longest = longest(failures).unwrap_or_default();
            assert!(longest < most * SECOND && longest > most * SECOND / 2, "{failures}: {longest:?}");
        }
        assert_eq!(backoff([Duration::ZERO; 2], 3, 12345), Duration::ZERO);
    }
}
