//! How long to wait after each kind of loss, and how often to try at all. Pure: time and chance are arguments.
//!
//! Not the waits within a connection, which [`super::dialogue`] and [`super::outbox`] take from a [`Backoff`] of their
//! own. Called by the session between two connections.
//!
//! # Caps
//!
//! | after | at most |
//! | --- | --- |
//! | a refusal (wrong key, unknown or disabled device) | 20 attempts in an hour, with the worst of luck |
//! | another device with this identity | one attempt in ten seconds, and fewer the longer it lasts |
//! | anything else | 24 to 40 attempts in an hour, by luck |
//! | anything at all | [`Settings::attempts_an_hour`], whatever luck says; renewals of tokens count, but are never held up |

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Lost;
use super::backoff::Backoff;
use super::settings::Settings;

/// So many connections in a row that the hub ended soon are no accident.
const CONTESTED_AFTER: u32 = 3;
/// How often the first range of waits is doubled for the loss of a connection that had lasted. A hub that restarts, or
/// moves, loses all its devices at one moment: with waits of up to eight seconds instead of one they come back with an
/// eighth of the rush. One that never got so far has waited already.
const SPREAD: u32 = 3;
const HOUR: Duration = Duration::from_secs(3600);

/// The waits, and what they depend on.
pub(super) struct Waits {
    usual: Backoff,
    slow: Backoff,
    stable_after: Duration,
    contested_wait: Duration,
    contested_within: Duration,
    evictions: u32,
    /// How long links lasted, one after the other, that were left for new tokens since one was lost.
    unbroken: Duration,
    allowed: usize,
    /// The attempts of the last hour, as far as they matter for the cap.
    attempts: VecDeque<Instant>,
}

impl Waits {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            usual: Backoff::full(settings.backoff),
            slow: Backoff::slow(settings.slow_backoff),
            stable_after: settings.stable_after,
            contested_wait: settings.contested_wait,
            contested_within: settings.contested_within,
            evictions: 0,
            unbroken: Duration::ZERO,
            allowed: settings.attempts_an_hour.max(1) as usize,
            attempts: VecDeque::new(),
        }
    }

    /// Notes that an attempt is made.
    pub(super) fn attempt(&mut self, now: Instant) {
        if self.attempts.len() == self.allowed {
            self.attempts.pop_front();
        }
        self.attempts.push_back(now);
    }

    /// When the hour has room for another attempt. Half of them may be made at once, the others are spread over the
    /// hour: a device that used them all up in a short outage would be silent for the rest of it.
    fn room_at(&self, now: Instant) -> Instant {
        let burst = (self.allowed / 2).max(1);
        let spacing = HOUR / u32::try_from((self.allowed - burst).max(1)).unwrap_or(1);
        let lately = self.attempts.iter().filter(|at| now.saturating_duration_since(**at) < HOUR).count();
        let spread = self.attempts.back().filter(|_| lately >= burst).map(|last| *last + spacing);
        let full =
            self.attempts.front().filter(|_| self.attempts.len() == self.allowed).map(|first| *first + HOUR);
        [spread, full].into_iter().flatten().fold(now, Instant::max)
    }

    /// A link was left for a new token after `lived`: it was a good one if it lasted. Tokens may be too short for one link
    /// to show that nobody contends for the identity: what counts is the time in which the hub closed none.
    pub(super) fn renewed(&mut self, lived: Duration) {
        if lived >= self.stable_after {
            self.usual.reset_to(SPREAD);
            self.slow.reset();
        }
        self.unbroken = self.unbroken.saturating_add(lived);
        if self.unbroken >= self.contested_within {
            self.evictions = 0;
        }
    }

    /// The reason with what the series of losses adds to it, and when to try again. `lived` is how long the link
    /// lasted, if there was one. Only a link that lasted makes up for what was before: a hub that accepts and then
    /// throws out must not be asked every second.
    pub(super) fn after(
        &mut self,
        why: Lost,
        lived: Option<Duration>,
        now: Instant,
        random: u64,
        device: &str,
    ) -> (Lost, Instant) {
        let unbroken = std::mem::take(&mut self.unbroken);
        if let Some(lived) = lived {
            self.judge(&why, lived, unbroken.saturating_add(lived));
        }
        let backoff = if why.is_slow() { &mut self.slow } else { &mut self.usual };
        let wait = backoff.next(random).max(why.least_wait());
        let room = self.room_at(now);
        if lived.is_some() && self.evictions >= CONTESTED_AFTER {
            let why = Lost::Contested { device: device.to_owned(), times: self.evictions };
            return (why, room.max(now + wait.max(self.contested_wait)));
        }
        (why, room.max(now + wait))
    }

    /// What the end of a link says about the series. Two devices with one identity throw each other out as fast as
    /// each comes back; once the other one waits for minutes, a link of ours lasts for minutes too, so that a link that
    /// the *hub* closed counts for longer than one that broke, as on a bad line they all do. `unbroken` is how long there
    /// was one, links that were left for new tokens included.
    fn judge(&mut self, why: &Lost, lived: Duration, unbroken: Duration) {
        let is_brief = lived < self.stable_after;
        if !is_brief {
            self.usual.reset_to(SPREAD);
            self.slow.reset();
        }
        if is_brief && matches!(why, Lost::Closed | Lost::Broken(_))
            || unbroken < self.contested_within && matches!(why, Lost::Closed)
        {
            self.evictions = self.evictions.saturating_add(1);
        } else if !is_brief {
            self.evictions = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waits() -> Waits {
        Waits::new(&Settings::default())
    }

    /// The wait after a loss, with this much luck.
    fn after(waits: &mut Waits, why: Lost, lived: Option<Duration>, luck: u64) -> (Lost, Duration) {
        let now = Instant::now();
        let (why, until) = waits.after(why, lived, now, luck, "dev1");
        (why, until - now)
    }

    #[test]
    fn being_thrown_out_three_times_in_a_row_is_told_by_name_and_slowed() {
        let mut waits = waits();
        let brief = Some(2 * SECOND);
        for _ in 0..2 {
            assert_eq!(after(&mut waits, Lost::Closed, brief, 0).0, Lost::Closed);
        }
        for times in 3..10 {
            let (why, wait) = after(&mut waits, Lost::Closed, brief, 0);
            assert_eq!(why, Lost::Contested { device: "dev1".into(), times });
            assert!(why.to_string().contains("'dev1'") && why.to_string().contains("duplicate identity"));
            assert!(wait >= 10 * SECOND);
        }
        assert!(after(&mut waits, Lost::Closed, brief, u64::MAX).1 > 250 * SECOND, "and it grows");
        let others_turn = Some(200 * SECOND);
        let (why, wait) = after(&mut waits, Lost::Closed, others_turn, 0);
        assert!(matches!(why, Lost::Contested { times: 11, .. }) && wait >= 10 * SECOND, "{why:?}");
        let lost = after(&mut waits, Lost::Broken(String::new()), Some(200 * SECOND), 0).0;
        assert_eq!(lost, Lost::Broken(String::new()), "the line broke: that ends the series");
        for _ in 0..3 {
            after(&mut waits, Lost::Closed, brief, 0);
        }
        let lost = after(&mut waits, Lost::Closed, Some(601 * SECOND), 0).0;
        assert_eq!(lost, Lost::Closed, "a good one ends the series");
        assert_eq!(after(&mut waits, Lost::Closed, brief, 0).0, Lost::Closed);
    }

    #[test]
    fn the_loss_of_a_good_connection_spreads_the_fleet_over_seconds() {
        let mut waits = waits();
        let bound = |waits: &mut Waits, lived| after(waits, Lost::Broken(String::new()), lived, u64::MAX).1;
        assert!(bound(&mut waits, None) <= SECOND);
        for _ in 0..3 {
            let wait = bound(&mut waits, Some(61 * SECOND));
            assert!(wait > 7 * SECOND && wait <= 8 * SECOND, "{wait:?}");
        }
        assert!(bound(&mut waits, None) > 15 * SECOND, "and it doubles from there");
    }

    #[test]
    fn a_bad_line_is_not_taken_for_another_device() {
        let mut waits = waits();
        for _ in 0..20 {
            let broken = Lost::Broken(String::new());
            assert_eq!(after(&mut waits, broken.clone(), Some(90 * SECOND), 0).0, broken);
            assert_eq!(
                after(&mut waits, Lost::Silent("a ping".into()), Some(SECOND), 0).0,
                Lost::Silent("a ping".into())
            );
        }
    }

    #[test]
    fn a_refused_token_is_tried_again_slowly() {
        let mut waits = waits();
        for code in [4, 5] {
            let (why, wait) = after(&mut waits, Lost::Refused(code), None, u64::MAX);
            assert_eq!(why, Lost::Refused(code));
            assert!(wait >= 15 * SECOND && wait <= 60 * SECOND, "{wait:?}");
        }
        let wait = after(&mut waits, Lost::Refused(3), None, u64::MAX).1;
        assert!(wait <= SECOND, "a busy hub is no refusal");
    }

    /// Every connection lasts just long enough to be a good one, luck gives no wait at all, and tokens are renewed.
    #[test]
    fn no_hour_has_more_attempts_than_allowed() {
        let settings = Settings { attempts_an_hour: 60, ..Settings::default() };
        let mut waits = Waits::new(&settings);
        let begun = Instant::now();
        let (mut now, mut made) = (begun, Vec::new());
        for round in 0..1000 {
            waits.attempt(now);
            made.push(now);
            now = match round % 3 {
                0 => waits.room_at(now + SECOND),
                1 => waits.after(Lost::Silent("x".into()), Some(61 * SECOND), now + SECOND, 0, "d").1,
                _ => waits.after(Lost::Refused(3), None, now, 0, "d").1,
            };
        }
        for window in made.windows(61) {
            assert!(window[60] - window[0] >= HOUR, "{:?}", window[60] - window[0]);
        }
        assert!(made[29] - begun < HOUR / 10, "it does not hold back before");
        let widest = made.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(widest < Some(HOUR / 20), "no outage is made longer by an hour: {widest:?}");
    }

    #[test]
    fn a_link_that_is_left_for_a_new_token_was_a_good_one() {
        let mut waits = waits();
        for _ in 0..2 {
            after(&mut waits, Lost::Closed, Some(2 * SECOND), u64::MAX);
        }
        waits.renewed(2880 * SECOND);
        let (why, wait) = after(&mut waits, Lost::Closed, Some(2 * SECOND), u64::MAX);
        assert_eq!(why, Lost::Closed, "days later it is no series");
        assert!(wait <= 8 * SECOND, "{wait:?}");
    }

    /// Tokens of five minutes: no single link lasts long enough to be above suspicion.
    #[test]
    fn links_that_are_left_for_new_tokens_count_together() {
        let mut waits = waits();
        let stay = |waits: &mut Waits, renewals: u32| {
            for _ in 0..renewals {
                waits.renewed(240 * SECOND);
            }
        };
        for _ in 0..10 {
            stay(&mut waits, 3);
            let lost = after(&mut waits, Lost::Closed, Some(100 * SECOND), 0).0;
            assert_eq!(lost, Lost::Closed, "each after a quarter of an hour: no series");
        }
        for _ in 0..10 {
            stay(&mut waits, 3);
            assert_eq!(after(&mut waits, Lost::Closed, Some(2 * SECOND), 0).0, Lost::Closed);
        }
        let mut contested = false;
        for _ in 0..3 {
            stay(&mut waits, 1);
            let (why, _) = after(&mut waits, Lost::Closed, Some(100 * SECOND), 0);
            contested = matches!(why, Lost::Contested { .. });
        }
        assert!(contested, "a new token in between hides nobody");
    }
}
