//! What the hub shall know of us, and how far it does: pure, time and chance are arguments.
//!
//! The engine hands over the whole document whenever it changed. From it and from what the hub last confirmed comes
//! one patch at a time; newer documents take the place of older ones that were not sent. A patch counts only once
//! the hub answered it by its `$rid` with success. An acknowledged packet proves nothing: client libraries lose
//! what was acknowledged to them when a session is lost. After a doubt (no answer, a failing hub, a new connection)
//! the twin is asked what the hub holds, and the difference goes out again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::limits;
use super::merge::{self, Object};
use super::settings::Settings;

/// A whole reported document.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Counts up with every document, from 1 or more.
    pub generation: u64,
    /// The document: every top-level member that is ours. `null` means that there shall be none.
    pub full: Object,
    /// A smaller one to fall back to if the hub refuses the full one as malformed or too large. Top-level members
    /// that it leaves out stay as the hub has them.
    pub minimal: Option<Object>,
    /// Whether it must not wait for the interval between patches.
    pub urgent: bool,
}

/// A patch that was sent.
#[derive(Debug)]
struct Flight {
    rid: String,
    generation: u64,
    minimal: bool,
    /// What the hub holds if it took the patch.
    after: Object,
    due: Instant,
}

/// What an answer of the hub amounted to.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Answered {
    /// The hub knows this generation now.
    Delivered(u64),
    /// The hub refuses this generation for good, even its smaller form.
    Refused(u64, u16),
    /// The patch will be tried again; ask for the twin first if what the hub holds is in doubt.
    Again { ask: bool },
    /// It was not the answer to the patch we wait for.
    NotOurs,
}

/// The newest report and how far it got.
#[derive(Debug)]
pub(super) struct Outbox {
    newest: Option<Arc<Report>>,
    /// Up to which generation reports may not wait.
    urgent_to: u64,
    /// The reported section as the hub holds it; `None` while that is in doubt.
    known: Option<Object>,
    flight: Option<Flight>,
    /// A patch was under way at some time since the twin was asked for: the twin's answer may have been read before it or
    /// after it, whichever answer comes first.
    has_crossed: bool,
    /// The generation that was delivered or refused on this connection.
    settled: u64,
    /// The generation last told to be delivered, over all connections.
    told: u64,
    /// The generation whose full form was refused.
    shrunk: u64,
    last_sent: Option<Instant>,
    not_before: Option<Instant>,
    usual: Backoff,
    slow: Backoff,
}

impl Outbox {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            newest: None,
            urgent_to: 0,
            known: None,
            flight: None,
            has_crossed: false,
            settled: 0,
            told: 0,
            shrunk: 0,
            last_sent: None,
            not_before: None,
            usual: Backoff::full(settings.backoff),
            slow: Backoff::slow(settings.slow_backoff),
        }
    }

    /// Takes a newer report; `urgent_to` is the newest generation that was urgent, which may never have been seen
    /// here because this one took its place.
    pub(super) fn want(&mut self, report: Arc<Report>, urgent_to: u64) {
        self.urgent_to = self.urgent_to.max(urgent_to);
        self.newest = Some(report);
    }

    /// The generation to be delivered.
    pub(super) fn newest(&self) -> u64 {
        self.newest.as_ref().map_or(0, |report| report.generation)
    }

    /// Whether everything up to `generation` was delivered or refused.
    pub(super) fn is_settled(&self, generation: u64) -> bool {
        self.settled >= generation
    }

    /// Whether a patch waits for its answer.
    pub(super) fn is_waiting(&self) -> bool {
        self.flight.is_some()
    }

    /// The twin is asked for now.
    pub(super) fn asked(&mut self) {
        self.has_crossed = self.flight.is_some();
    }

    /// The hub says what it held when it answered. Whether that is of no use and it must be asked again: until it is, there
    /// is no next patch, so the next answer will do.
    pub(super) fn learn(&mut self, reported: Object) -> bool {
        // What a patch in flight makes of it is known with its own answer.
        if self.flight.is_some() {
            return false;
        }
        self.known = Some(reported).filter(|_| !self.has_crossed);
        self.known.is_none()
    }

    /// The connection is gone, and with it every certainty. The next one sends the difference to the whole again.
    pub(super) fn lost(&mut self) {
        (self.known, self.flight, self.settled, self.not_before) = (None, None, 0, None);
        self.has_crossed = false;
    }

    /// When there is something to do, if not now because of a message.
    pub(super) fn due(&self, now: Instant, interval: Duration, hurry: bool) -> Option<Instant> {
        if let Some(flight) = &self.flight {
            return Some(flight.due);
        }
        if self.known.is_none() || self.is_settled(self.newest()) {
            return None;
        }
        Some(self.earliest(interval, hurry).unwrap_or(now))
    }

    fn earliest(&self, interval: Duration, hurry: bool) -> Option<Instant> {
        let spaced = self.last_sent.map(|sent| sent + interval);
        let spaced = spaced.filter(|_| !hurry && self.urgent_to <= self.settled.max(self.told));
        self.not_before.max(spaced)
    }

    /// The patch to send now, if any, under the id `rid`; or the generation that needs none.
    pub(super) fn next(
        &mut self,
        now: Instant,
        interval: Duration,
        hurry: bool,
        answer_within: Duration,
        rid: impl FnOnce() -> String,
    ) -> Option<Next> {
        let report = self.newest.clone()?;
        let known = self.known.as_ref()?;
        if self.flight.is_some() || self.is_settled(report.generation) {
            return None;
        }
        let minimal = self.shrunk == report.generation;
        let document = report.minimal.as_ref().filter(|_| minimal).unwrap_or(&report.full);
        let patch = merge::difference(known, &limits::fit(document));
        if patch.is_empty() {
            self.settled = report.generation;
            let news = self.told < report.generation;
            self.told = self.told.max(report.generation);
            return news.then_some(Next::Delivered(report.generation));
        }
        if self.earliest(interval, hurry).is_some_and(|earliest| now < earliest) {
            return None;
        }
        let mut after = known.clone();
        merge::apply(&mut after, patch.clone());
        let rid = rid();
        let generation = report.generation;
        self.flight = Some(Flight { rid: rid.clone(), generation, minimal, after, due: now + answer_within });
        (self.last_sent, self.has_crossed) = (Some(now), true);
        Some(Next::Send { rid, patch: Value::Object(patch) })
    }

    /// The hub answered a request.
    pub(super) fn answer(&mut self, rid: &str, status: u16, now: Instant, random: u64) -> Answered {
        let Some(flight) = self.flight.take_if(|flight| flight.rid == rid) else {
            return Answered::NotOurs;
        };
        let has_smaller = self
            .newest
            .as_ref()
            .is_none_or(|newest| newest.generation != flight.generation || newest.minimal.is_some());
        match status {
            200..=299 => {
                (self.known, self.settled) = (Some(flight.after), flight.generation);
                self.told = self.told.max(flight.generation);
                self.usual.reset();
                self.slow.reset();
                Answered::Delivered(flight.generation)
            }
            400 | 413 if !flight.minimal && has_smaller => {
                self.shrunk = flight.generation;
                self.not_before = Some(now + self.usual.next(random));
                Answered::Again { ask: false }
            }
            400 | 413 => {
                self.settled = flight.generation;
                // The next generation may fare no better: not at every step of a download.
                self.not_before = Some(now + self.usual.next(random));
                Answered::Refused(flight.generation, status)
            }
            403 | 429 => {
                // Refused before anything was changed, and asking again soon is what is refused.
                self.not_before = Some(now + self.slow.next(random));
                Answered::Again { ask: false }
            }
            _ => {
                // It is not known what it did.
                self.known = None;
                self.not_before = Some(now + self.usual.next(random));
                Answered::Again { ask: true }
            }
        }
    }

    /// Whether the answer to the patch is overdue. If so, nothing is in flight any more, what the hub holds is in
    /// doubt, and the next patch waits: a hub that never answers is not to be told three times a minute.
    pub(super) fn is_overdue(&mut self, now: Instant, random: u64) -> bool {
        let overdue = self.flight.take_if(|flight| flight.due <= now).is_some();
        if overdue {
            self.known = None;
            self.not_before = Some(now + self.usual.next(random));
        }
        overdue
    }
}

/// What there is to do about the newest report.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// The hub holds this generation already.
    Delivered(u64),
    /// A patch must go out.
    Send {
        /// Its request id.
        rid: String,
        /// The patch.
        patch: Value,
    },
}

#[cfg(test)]
mod tests;
