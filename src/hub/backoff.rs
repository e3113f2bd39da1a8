//! How long to wait before trying again: pure, chance is an argument.
//!
//! A fleet that lost its hub at one moment must not come back at one moment, hence chance; and must not ask for
//! ever at the same rate, hence doubling. Two shapes: [`Backoff::full`] waits anything up to the limit of the
//! moment; [`Backoff::slow`], for refusals that will likely be repeated (a wrong key, throttling), waits at least
//! half of it, so that even bad luck makes few attempts an hour.

use std::time::Duration;

/// A wait that doubles, up to a limit, until it is reset.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    at_least_half: bool,
    attempts: u32,
}

impl Backoff {
    /// Between nothing and a bound that doubles from `first` to `limit`.
    pub fn full([first, limit]: [Duration; 2]) -> Self {
        Self { first, limit, at_least_half: false, attempts: 0 }
    }

    /// Between half of such a bound and the bound.
    pub fn slow([first, limit]: [Duration; 2]) -> Self {
        Self { first, limit, at_least_half: true, attempts: 0 }
    }

    /// The next wait; `random` is any number, uniformly drawn.
    pub fn next(&mut self, random: u64) -> Duration {
        let bound =
            self.first.saturating_mul(1u32.checked_shl(self.attempts).unwrap_or(u32::MAX)).min(self.limit);
        self.attempts = self.attempts.saturating_add(1);
        // 53 bits fill the fraction of an f64 exactly; the quotient is below 1.
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        let share = if self.at_least_half { 0.5 + share / 2.0 } else { share };
        bound.mul_f64(share)
    }

    /// Things went well: begin with the first bound again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Things went well, and yet it may be everybody who begins again now: begin with a bound that was doubled so often.
    pub fn reset_to(&mut self, doublings: u32) {
        self.attempts = doublings;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RANGE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];

    #[test]
    fn the_bound_doubles_to_the_limit_and_begins_again() {
        let mut backoff = Backoff::full(RANGE);
        let waits: Vec<u64> = (0..12).map(|_| backoff.next(u64::MAX).as_secs_f64().round() as u64).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        backoff.reset();
        assert!(backoff.next(u64::MAX) <= RANGE[0]);
        assert_eq!(backoff.next(0), Duration::ZERO, "full jitter begins at nothing");
        backoff.reset_to(3);
        assert_eq!(backoff.next(u64::MAX).as_secs_f64().round() as u64, 8);
    }

    #[test]
    fn a_slow_one_makes_at_most_twenty_attempts_an_hour_with_the_worst_of_luck() {
        let mut backoff = Backoff::slow([Duration::from_secs(30), Duration::from_secs(600)]);
        let (mut spent, mut attempts) = (Duration::ZERO, 0);
        while spent < Duration::from_secs(3600) {
            spent += backoff.next(0);
            attempts += 1;
        }
        assert!(attempts <= 20, "{attempts}");
    }

    proptest! {
        #[test]
        fn it_never_exceeds_its_bound(attempts in 0u32..200, random: u64) {
            let mut backoff = Backoff { attempts, ..Backoff::full(RANGE) };
            prop_assert!(backoff.next(random) <= RANGE[1]);
            let mut slow = Backoff { attempts, ..Backoff::slow(RANGE) };
            let wait = slow.next(random);
            prop_assert!(wait >= RANGE[0] / 2 && wait <= RANGE[1]);
        }
    }
}
