//! How fast data comes: lately, for whoever watches, and on the whole, to tell how long it takes.

use std::time::{Duration, Instant};

use crate::model::Cost;

/// Nothing is known of a line that brought less than this, in bytes.
const ENOUGH: u64 = 100_000;

/// Bytes per second over the last few seconds.
#[derive(Default)]
pub(super) struct Rate {
    window: Option<(Instant, u64)>,
    rate: u64,
}

impl Rate {
    /// The rate, now that there are so many bytes.
    pub(super) fn of(&mut self, bytes: u64) -> u64 {
        const WINDOW: Duration = Duration::from_secs(3);
        let now = Instant::now();
        match self.window {
            Some((since, before)) if bytes >= before => {
                let passed = now.duration_since(since);
                if passed >= WINDOW || (self.rate == 0 && passed >= Duration::from_millis(500)) {
                    self.rate = ((bytes - before) as f64 / passed.as_secs_f64()) as u64;
                    self.window = Some((now, bytes));
                }
            }
            Some(_) | None => (self.window, self.rate) = (Some((now, bytes)), 0),
        }
        self.rate
    }
}

/// Bytes per second on the whole, since it was known what the download costs. What comes in a few seconds says nothing
/// of that: it is next to nothing as long as pages are copied that are here already.
#[derive(Default)]
pub(super) struct Mean {
    /// Of which download, since when, and how many bytes had been fetched by then and by now.
    began: Option<(Cost, Instant, [u64; 2])>,
    rate: u64,
}

impl Mean {
    /// It is `now`, and of the download that costs `plan` so many bytes are fetched.
    pub(super) fn see(&mut self, now: Instant, plan: Option<Cost>, fetched: u64) {
        match &mut self.began {
            Some((of, since, [first, last])) if Some(*of) == plan && fetched >= *last => {
                *last = fetched;
                let (bytes, passed) = (fetched - *first, now.duration_since(*since).as_secs_f64());
                if bytes >= ENOUGH && passed > 0.0 {
                    self.rate = (bytes as f64 / passed) as u64;
                }
            }
            Some(_) | None => *self = Self { began: plan.map(|of| (of, now, [fetched; 2])), rate: 0 },
        }
    }

    /// How many seconds it takes to fetch `cost` at `limit` bytes per second, 0 being none, or as fast as that
    /// download goes, whichever is slower; nothing is known of it without either.
    pub(super) fn seconds(&self, cost: Cost, limit: u64) -> Option<u64> {
        let measured = self.began.filter(|(of, _, _)| *of == cost).map_or(0, |_| self.rate);
        cost.seconds([limit, measured].into_iter().filter(|rate| *rate > 0).min()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const COST: Cost = Cost { fetch: 1_000_000, write: 0, full: u64::MAX };

    #[test]
    fn a_time_is_told_by_what_is_slower_the_limit_or_the_line() {
        let began = Instant::now();
        let mut mean = Mean::default();
        mean.see(began, Some(COST), 5_000_000);
        mean.see(began + 10 * SECOND, Some(COST), 5_200_000);
        for (limit, seconds) in [(0, 50), (10_000, 100), (20_000, 50), (1_000_000, 50)] {
            assert_eq!(mean.seconds(COST, limit), Some(seconds), "limit {limit}");
        }
        assert_eq!(Mean::default().seconds(COST, 10_000), Some(100));
        assert_eq!(Mean::default().seconds(COST, 0), None);
    }

    #[test]
    fn nothing_is_told_from_a_measurement_before_enough_has_come() {
        let began = Instant::now();
        let mut mean = Mean::default();
        for (passed, fetched, seconds) in
            [(0, 0, None), (1, 50_000, None), (3, 99_999, None), (4, 100_000, Some(40))]
        {
            mean.see(began + passed * SECOND, Some(COST), fetched);
            assert_eq!(mean.seconds(COST, 0), seconds, "{fetched} bytes");
        }
    }

    /// Three seconds in which pages are copied say nothing of the whole.
    #[test]
    fn a_pause_counts_as_part_of_the_whole() {
        let began = Instant::now();
        let mut mean = Mean::default();
        for (passed, fetched) in [(0, 0), (5, 500_000), (8, 500_000), (10, 500_000)] {
            mean.see(began + passed * SECOND, Some(COST), fetched);
        }
        assert_eq!(mean.seconds(COST, 0), Some(20));
    }

    #[test]
    fn another_download_is_measured_anew() {
        let began = Instant::now();
        let other = Cost { fetch: 999, ..COST };
        for (plan, fetched) in [(Some(other), 500_000), (None, 500_000), (Some(COST), 499_999)] {
            let mut mean = Mean::default();
            mean.see(began, Some(COST), 0);
            mean.see(began + SECOND, Some(COST), 500_000);
            assert_eq!((mean.seconds(COST, 0), mean.seconds(other, 0)), (Some(2), None));
            mean.see(began + 2 * SECOND, plan, fetched);
            assert_eq!((mean.seconds(COST, 0), mean.seconds(other, 0)), (None, None), "{plan:?}");
        }
    }
}
