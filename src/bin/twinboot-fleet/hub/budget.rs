//! How fast to ask: the hub counts requests of each kind and refuses what is too much (429), and everything here that
//! asks shares one budget, or the tool's own haste would starve it. Time is an argument of what decides.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

/// Requests under way at once. More gain nothing on one connection's worth of latency, and methods wait for devices.
const AT_ONCE: usize = 32;
/// A refusal that does not say when to come again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// However often it was refused, and whatever the hub says.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// The gap between two requests after the first refusal; it doubles with each further one.
const FIRST_GAP: Duration = Duration::from_millis(20);
const LONGEST_GAP: Duration = Duration::from_secs(10);

/// What the hub counts by itself ("IoT Hub quotas and throttling").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Queries.
    Query,
    /// Identities.
    Registry,
    /// Reading twins.
    TwinRead,
    /// Writing twins.
    TwinWrite,
    /// Direct methods.
    Method,
    /// Scheduled jobs.
    Job,
    /// Automatic configurations.
    Configuration,
}

impl Kind {
    const COUNT: usize = 7;

    fn index(self) -> usize {
        match self {
            Self::Query => 0,
            Self::Registry => 1,
            Self::TwinRead => 2,
            Self::TwinWrite => 3,
            Self::Method => 4,
            Self::Job => 5,
            Self::Configuration => 6,
        }
    }
}

/// The pace of all kinds, for all tasks.
#[derive(Debug)]
pub(crate) struct Budget {
    paces: Mutex<[Pace; Kind::COUNT]>,
    room: Semaphore,
}

impl Default for Budget {
    fn default() -> Self {
        let now = Instant::now();
        Self { paces: Mutex::new([Pace::new(now); Kind::COUNT]), room: Semaphore::new(AT_ONCE) }
    }
}

impl Budget {
    /// Waits until a request of this kind may be made; hold what comes back for as long as it takes.
    pub(super) async fn turn(&self, kind: Kind) -> Option<SemaphorePermit<'_>> {
        loop {
            let at = self.pace(kind, |pace| pace.reserve(Instant::now()));
            sleep_until(at).await;
            let permit = self.room.acquire().await.ok();
            // Others may have been refused in the meantime: then all wait.
            if self.pace(kind, |pace| pace.is_open(Instant::now())) {
                return permit;
            }
        }
    }

    /// The hub took one.
    pub(super) fn taken(&self, kind: Kind) {
        self.pace(kind, Pace::taken);
    }

    /// The hub refused one as too many: all wait. How long, if that is news: those that were under way together are
    /// refused together.
    pub(super) fn refused(&self, kind: Kind, retry_after: Option<Duration>) -> Option<Duration> {
        self.pace(kind, |pace| {
            let now = Instant::now();
            let is_news = pace.is_open(now);
            pace.refused(now, retry_after);
            is_news.then(|| pace.open_from - now)
        })
    }

    fn pace<T>(&self, kind: Kind, act: impl FnOnce(&mut Pace) -> T) -> T {
        act(&mut self.paces.lock().unwrap_or_else(PoisonError::into_inner)[kind.index()])
    }
}

/// The pace of one kind: as fast as it goes until a refusal; then a pause for all, and after it one at a time with a gap
/// that shrinks as requests are taken and doubles when they are not.
#[derive(Clone, Copy, Debug)]
struct Pace {
    next: Instant,
    open_from: Instant,
    gap: Duration,
    pause: Duration,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { next: now, open_from: now, gap: Duration::ZERO, pause: FIRST_PAUSE }
    }

    /// When the next request may go.
    fn reserve(&mut self, now: Instant) -> Instant {
        let at = self.next.max(now);
        self.next = at + self.gap;
        at
    }

    fn is_open(&self, now: Instant) -> bool {
        now >= self.open_from
    }

    fn taken(&mut self) {
        self.pause = FIRST_PAUSE;
        self.gap = self.gap * 9 / 10;
        if self.gap < FIRST_GAP / 10 {
            self.gap = Duration::ZERO;
        }
    }

    fn refused(&mut self, now: Instant, retry_after: Option<Duration>) {
        // Those that were under way together are refused together: that is one refusal.
        if self.is_open(now) {
            self.gap = (self.gap * 2).clamp(FIRST_GAP, LONGEST_GAP);
            self.pause = if retry_after.is_none() { (self.pause * 2).min(LONGEST_PAUSE) } else { self.pause };
        }
        let pause = retry_after.unwrap_or(self.pause / 2).clamp(FIRST_GAP, LONGEST_PAUSE);
        self.open_from = self.open_from.max(now + pause);
        self.next = self.open_from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_refusal_stops_all_and_then_they_go_one_by_one() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        assert_eq!((pace.reserve(begin), pace.reserve(begin)), (begin, begin));
        pace.refused(begin, Some(3 * SECOND));
        // The others of the same burst change nothing but, perhaps, the moment.
        pace.refused(begin, Some(2 * SECOND));
        assert!(!pace.is_open(begin + 2 * SECOND) && pace.is_open(begin + 3 * SECOND));
        let turns: Vec<_> = (0..3).map(|_| pace.reserve(begin) - begin).collect();
        assert_eq!(turns, [3 * SECOND, 3 * SECOND + FIRST_GAP, 3 * SECOND + 2 * FIRST_GAP]);
        (0..100).for_each(|_| pace.taken());
        let now = begin + 60 * SECOND;
        assert_eq!((pace.reserve(now), pace.reserve(now)), (now, now), "haste comes back");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_that_do_not_say_when_wait_twice_as_long_each_time() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut waits = Vec::new();
        for _ in 0..10 {
            pace.refused(now, None);
            waits.push((pace.open_from - now).as_secs());
            now = pace.open_from;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        pace.taken();
        pace.refused(now, None);
        assert_eq!(pace.open_from - now, SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_do_not_wait_for_each_other_and_tasks_do() {
        let budget = Budget::default();
        let begin = Instant::now();
        drop(budget.turn(Kind::Query).await);
        budget.refused(Kind::Query, Some(7 * SECOND));
        drop(budget.turn(Kind::TwinRead).await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        drop(budget.turn(Kind::Query).await);
        assert_eq!(begin.elapsed(), 7 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn who_had_a_turn_already_waits_too_when_another_was_refused() {
        let budget = Budget::default();
        let begin = Instant::now();
        budget.refused(Kind::TwinWrite, Some(SECOND));
        let other = async {
            tokio::time::sleep(SECOND / 2).await;
            budget.refused(Kind::TwinWrite, Some(5 * SECOND));
        };
        let waits = async {
            drop(budget.turn(Kind::TwinWrite).await);
            begin.elapsed()
        };
        let (waited, ()) = tokio::join!(waits, other);
        assert!(waited >= 5 * SECOND + SECOND / 2, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_that_is_refused_is_news_once() {
        let budget = Budget::default();
        assert_eq!(budget.refused(Kind::Query, Some(60 * SECOND)), Some(60 * SECOND));
        assert_eq!(budget.refused(Kind::Query, Some(60 * SECOND)), None);
        assert_eq!(budget.refused(Kind::Job, Some(SECOND)), Some(SECOND), "another kind");
        tokio::time::advance(61 * SECOND).await;
        assert_eq!(budget.refused(Kind::Query, Some(30 * SECOND)), Some(30 * SECOND));
    }
}
