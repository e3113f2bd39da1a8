//! What ends with the link: the request for the twin, the calls that came on it, and its times.

use std::time::Duration;

use tokio::time::Instant;

use crate::hub::backoff::Backoff;
use crate::hub::calls::Calls;
use crate::hub::settings::Settings;

/// One link's part of the conversation.
pub(super) struct LinkState {
    pub(super) number: u64,
    pub(super) last_in: Instant,
    pub(super) last_out: Instant,
    pub(super) pong_due: Option<Instant>,
    pub(super) get: Get,
    /// A version that the next whole twin must have reached; if it has not, it is asked for once more.
    pub(super) again: Option<u64>,
    /// Whether the twin was given once.
    pub(super) is_up: bool,
    /// When it was given last.
    given: Option<Instant>,
    pub(super) calls: Calls,
    /// When to leave for a new credential: if nothing is under way, and in any case.
    renew: Option<[Instant; 2]>,
    usual: Backoff,
    slow: Backoff,
}

/// The request for the whole twin.
pub(super) enum Get {
    Idle,
    Asked { rid: String, due: Instant },
    Waiting { until: Instant },
}

impl LinkState {
    /// `lives` is how long the hub lets it be.
    pub(super) fn new(number: u64, now: Instant, lives: Option<Duration>, settings: &Settings) -> Self {
        Self {
            number,
            last_in: now,
            last_out: now,
            pong_due: None,
            get: Get::Idle,
            again: None,
            is_up: false,
            given: None,
            calls: Calls::default(),
            renew: lives.map(|life| [now + life.mul_f64(0.8), now + life.mul_f64(0.9)]),
            usual: Backoff::full(settings.backoff),
            slow: Backoff::slow(settings.slow_backoff),
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self, now: Instant, keep_alive: Duration) -> Instant {
        let ping = self.pong_due.unwrap_or(self.last_in.min(self.last_out) + keep_alive);
        let get = match self.get {
            Get::Idle => None,
            Get::Asked { due, .. } => Some(due),
            Get::Waiting { until } => Some(until),
        };
        let renew = self.renew.into_iter().flatten().find(|at| *at > now);
        [get, renew].into_iter().flatten().fold(ping, Instant::min)
    }

    /// Whether the credential should be renewed now: late in its life, at a moment when nothing is lost by it.
    pub(super) fn is_renewal_due(&self, now: Instant, nothing_is_out: bool) -> bool {
        let quiet = nothing_is_out && !matches!(self.get, Get::Asked { .. }) && self.calls.is_quiet();
        self.renew.is_some_and(|[wished, latest]| latest <= now || wished <= now && quiet)
    }

    /// The twin will be asked for again later, after this answer to a request.
    pub(super) fn wait(&mut self, status: u16, now: Instant, random: u64) {
        // Throttled, or out of quota: asking again soon is what is refused.
        let backoff = if matches!(status, 403 | 429) { &mut self.slow } else { &mut self.usual };
        self.get = Get::Waiting { until: now + backoff.next(random) };
    }

    /// When the twin is to be asked for although nothing was notified; `every` so often, never if that is zero.
    pub(super) fn next_poll(&self, every: Duration) -> Option<Instant> {
        let idle = matches!(self.get, Get::Idle) && !every.is_zero();
        self.given.filter(|_| idle).map(|given| given + every)
    }

    /// The twin was given.
    pub(super) fn answered(&mut self, now: Instant) {
        self.given = Some(now);
        self.usual.reset();
        self.slow.reset();
    }
}
