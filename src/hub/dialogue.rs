//! The conversation on a link, and what survives from one link to the next: no I/O, and time is an argument.
//!
//! Whoever drives it ([`super::session`]) feeds it what arrives and what time it is, and sends what it wants sent.
//! So every order of events can be tested without a socket and without waiting.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::debug;

use super::calls::Admission;
use super::methods::{self, MethodReply};
use super::mqtt::{Received, Sent};
use super::outbox::{Answered, Outbox};
use super::port::{CallId, HubCommand, HubEvent, Port, Replier};
use super::queue::Queue;
use super::settings::Settings;
use super::telemetry::Telemetry;
use super::topics::{self, Topic};
use super::tuning::{self, Tuned};
use super::twin::{Noticed, Twin, Whole};
use super::wish::{self, Parsed};
use super::{Lost, merge};

mod link;
mod speech;

use link::{Get, LinkState};

/// Any version: the twin must be asked whatever is known.
const ANY: u64 = u64::MAX;

/// The longest keep-alive of use: the hub waits one and a half times as long, and at most 1767 seconds.
pub(super) const MAX_KEEP_ALIVE: Duration = Duration::from_secs(1177);

/// The packet id of the subscription to messages: calls are answered with ids from 1 on.
const MESSAGES: u16 = u16::MAX;

/// Both sides of the conversation.
pub(super) struct Dialogue {
    settings: Settings,
    /// Who we are, where that has to be said.
    pub(super) device: String,
    answers: mpsc::WeakSender<HubCommand>,
    random: fn() -> u64,
    /// What the engine has not been told yet.
    pub(super) events: Queue,
    sends: Vec<Sent>,
    twin: Twin,
    outbox: Outbox,
    told: Option<Parsed>,
    told_tuned: Option<Tuned>,
    /// How often the whole twin is asked for although nothing was notified; zero is never.
    poll_every: Duration,
    telemetry: Telemetry,
    told_connected: bool,
    told_contested: bool,
    /// When nobody seems to contend for the identity any more: a link that is left for a new token goes on in the next.
    uncontested: Option<Instant>,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    rids: u64,
    links: u64,
    link: Option<LinkState>,
}

impl Dialogue {
    pub(super) fn new(settings: Settings, port: &Port, random: fn() -> u64) -> Self {
        Self {
            outbox: Outbox::new(&settings),
            settings: Settings { keep_alive: settings.keep_alive.min(MAX_KEEP_ALIVE), ..settings },
            device: String::new(),
            answers: port.answers.clone(),
            random,
            events: Queue::default(),
            sends: Vec::new(),
            twin: Twin::default(),
            told: None,
            told_tuned: None,
            poll_every: Duration::ZERO,
            telemetry: Telemetry::default(),
            told_connected: false,
            told_contested: false,
            uncontested: None,
            flushes: Vec::new(),
            rids: 0,
            links: 0,
            link: None,
        }
    }

    /// A link is ready and everything is subscribed: ask for the twin. `lives` is how long the hub lets it be.
    pub(super) fn connected(&mut self, now: Instant, lives: Option<Duration>) {
        self.links += 1;
        self.link = Some(LinkState::new(self.links, now, lives, &self.settings));
        if self.told_contested {
            self.uncontested.get_or_insert(now + self.settings.contested_within);
        }
        self.ask(now, ANY);
    }

    /// The link is gone.
    pub(super) fn disconnected(&mut self) {
        self.link = None;
        self.sends.clear();
        self.twin.doubt();
        self.outbox.lost();
        // Calls of the old link can no longer be answered: their callers were told by the hub.
        self.events.forget_calls();
    }

    /// Tells the engine that there is no connection.
    pub(super) fn tell_lost(&mut self, why: Lost, retry_in: Duration) {
        self.told_connected = false;
        self.told_contested |= matches!(why, Lost::Contested { .. });
        self.uncontested = None;
        self.events.push(HubEvent::Lost { why, retry_in });
    }

    /// What to send now.
    pub(super) fn take_sends(&mut self, now: Instant) -> Vec<Sent> {
        if !self.sends.is_empty()
            && let Some(link) = &mut self.link
        {
            link.last_out = now;
        }
        std::mem::take(&mut self.sends)
    }

    /// When to call [`Dialogue::tick`] at the latest.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let Some(link) = &self.link else { return now + self.settings.keep_alive };
        let report = self.outbox.due(now, self.settings.report_interval, !self.flushes.is_empty());
        let poll = link.next_poll(self.poll_every);
        let link = link.deadline(now, self.settings.keep_alive);
        [report, poll, self.uncontested].into_iter().flatten().fold(link, Instant::min)
    }

    /// Whether the token should be renewed now: late in its life, at a moment when nothing is lost by it.
    pub(super) fn is_renewal_due(&self, now: Instant) -> bool {
        let Some(link) = &self.link else { return false };
        link.is_renewal_due(now, !self.outbox.is_waiting())
    }

    /// Does what time asks for.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), Lost> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if link.pong_due.is_some_and(|due| due <= now) {
            return Err(Lost::Silent("a ping".into()));
        }
        let idle_since = link.last_in.min(link.last_out);
        if link.pong_due.is_none() && idle_since + self.settings.keep_alive <= now {
            link.pong_due = Some(now + self.settings.ping_timeout);
            self.sends.push(Sent::Ping);
        }
        if self.uncontested.take_if(|until| *until <= now).is_some() {
            self.told_contested = false;
            self.events.push(HubEvent::Uncontested);
        }
        match link.get {
            Get::Asked { due, .. } if due <= now => {
                return Err(Lost::Silent("a request for the twin".into()));
            }
            Get::Waiting { until } if until <= now => {
                link.get = Get::Idle;
                self.ask(now, ANY);
            }
            Get::Idle | Get::Asked { .. } | Get::Waiting { .. } => {}
        }
        if self.link.as_ref().and_then(|link| link.next_poll(self.poll_every)).is_some_and(|due| due <= now) {
            self.ask(now, ANY);
        }
        if self.outbox.is_overdue(now, (self.random)()) {
            debug!("a reported patch was not answered: asking what the hub holds");
            self.ask(now, ANY);
        }
        self.send_report(now);
        Ok(())
    }

    /// Takes a packet.
    pub(super) fn received(&mut self, packet: Received, now: Instant) -> Result<(), Lost> {
        let Some(link) = &mut self.link else { return Ok(()) };
        link.last_in = now;
        match packet {
            Received::Pong => link.pong_due = None,
            Received::PubAck(id) => link.calls.acknowledged(id),
            Received::SubAck { .. } => debug!("an answer to no subscription was ignored"),
            Received::ConnAck(_) => {
                return Err(Lost::Malformed("a second answer to the greeting".to_owned()));
            }
            Received::Message { topic, payload, id } => {
                self.message(&topic, &payload, now);
                self.sends.extend(id.map(Sent::PubAck));
            }
        }
        self.send_report(now);
        Ok(())
    }

    fn message(&mut self, topic: &str, payload: &[u8], now: Instant) {
        match Topic::parse(topic) {
            Some(Topic::TwinAnswer { status, rid, .. }) => self.twin_answer(status, &rid, payload, now),
            Some(Topic::DesiredPatch { version }) => match self.twin.notice(version, payload) {
                Noticed::Accepted => self.announce(false),
                Noticed::Stale => debug!(version, "a stale notification was dropped"),
                Noticed::Incomplete => self.ask(now, version.unwrap_or(ANY)),
            },
            Some(Topic::MethodCall { name, rid }) => self.call(&name, rid, payload),
            Some(Topic::CloudToDevice { .. }) => self.events.push(HubEvent::Ignored(1)),
            Some(
                Topic::TwinGet { .. }
                | Topic::ReportedPatch { .. }
                | Topic::MethodAnswer { .. }
                | Topic::Telemetry { .. },
            )
            | None => debug!("a message on a topic that was not subscribed was ignored"),
        }
    }

    fn twin_answer(&mut self, status: u16, rid: &str, payload: &[u8], now: Instant) {
        let Some(link) = &mut self.link else { return };
        if matches!(&link.get, Get::Asked { rid: ours, .. } if ours == rid) {
            return self.whole_twin(status, payload, now);
        }
        match self.outbox.answer(rid, status, now, (self.random)()) {
            Answered::Delivered(generation) => self.events.push(HubEvent::ReportDelivered(generation)),
            Answered::Refused(generation, status) => {
                self.events.push(HubEvent::ReportRefused { generation, status });
            }
            Answered::Again { ask: true } => self.ask_after_trouble(status, now),
            Answered::Again { ask: false } => {}
            Answered::NotOurs => debug!("an answer to no request of ours was ignored"),
        }
    }

    fn whole_twin(&mut self, status: u16, payload: &[u8], now: Instant) {
        if status != 200 {
            debug!(status, "the hub does not give the twin: asking again later");
            return self.ask_after_trouble(status, now);
        }
        let Some(link) = &mut self.link else { return };
        link.get = Get::Idle;
        link.answered(now);
        let first = !std::mem::replace(&mut link.is_up, true);
        let again = link.again.take();
        if !std::mem::replace(&mut self.told_connected, true) {
            self.events.push(HubEvent::Connected);
        }
        if first && self.settings.take_messages {
            // Nothing depends on it, so nothing waits for the grant.
            let filter = topics::messages(&self.device).into();
            self.sends.push(Sent::Subscribe { id: MESSAGES, filter });
        }
        self.send_telemetry(now);
        let has_crossed = match Whole::parse(payload) {
            Ok(whole) => {
                self.twin.replace(whole.desired);
                self.announce(first);
                self.outbox.learn(whole.reported)
            }
            Err(detail) => {
                // Methods and reports must go on; what the hub holds of ours is sent as if it held nothing.
                self.twin.doubt();
                self.tell(wish::unreadable(payload, &detail), first);
                self.outbox.learn(merge::Object::new())
            }
        };
        let is_old = again.is_some_and(|wanted| self.twin.version().is_none_or(|version| version < wanted));
        if has_crossed {
            debug!("a reported patch and the twin crossed on their way: asking again what the hub holds");
        }
        if has_crossed || is_old {
            self.ask(now, 0);
        }
    }

    fn announce(&mut self, always: bool) {
        let version = self.twin.twinboot().and(self.twin.version()).unwrap_or(0);
        let tuned = tuning::read(self.twin.twinboot(), version);
        if self.told_tuned.as_ref() != Some(&tuned) {
            self.told_tuned = Some(tuned.clone());
            self.events.push(HubEvent::Tuned(tuned));
        }
        let parsed = wish::desired(self.twin.firmware(), self.settings.vouching);
        self.tell(parsed, always);
    }

    fn tell(&mut self, parsed: Parsed, always: bool) {
        if always || self.told.as_ref() != Some(&parsed) {
            self.told = Some(parsed.clone());
            self.events.push(HubEvent::Desired(parsed));
        }
    }

    /// Asks for the whole twin, or notes that it must be asked for again unless the answer under way has `version`.
    fn ask(&mut self, now: Instant, version: u64) {
        let rid = self.rid();
        let Some(link) = &mut self.link else { return };
        match &link.get {
            Get::Idle => {
                let due = now + self.settings.answer_timeout;
                link.get = Get::Asked { rid: rid.clone(), due };
                self.outbox.asked();
                let topic = Topic::TwinGet { rid }.to_string();
                self.sends.push(Sent::Message { topic, payload: Vec::new(), id: None });
            }
            Get::Asked { .. } => link.again = link.again.max(Some(version)),
            Get::Waiting { .. } => {}
        }
    }

    fn ask_after_trouble(&mut self, status: u16, now: Instant) {
        let Some(link) = &mut self.link else { return };
        link.wait(status, now, (self.random)());
    }

    fn rid(&mut self) -> String {
        self.rids += 1;
        format!("{:x}", self.rids)
    }

    fn call(&mut self, name: &str, rid: String, payload: &[u8]) {
        let Some(link) = &mut self.link else { return };
        let Some(call) = methods::read(name, payload, self.settings.vouching) else {
            return self.sends.push(link.calls.answer(&rid, &MethodReply::unknown_method()));
        };
        match link.calls.admit(&rid) {
            Admission::Admitted => {
                let reply = Replier::new(CallId { link: link.number, rid }, self.answers.clone());
                self.events.push(HubEvent::Method { call, reply });
            }
            Admission::TooMany => {
                self.sends.push(link.calls.answer(&rid, &MethodReply::too_many()));
            }
            Admission::Repeated => debug!("a method call that was delivered twice was ignored"),
        }
    }

    /// Sends the engine's answer to a call, if the link it came on is still there.
    pub(super) fn reply(&mut self, call: &CallId, reply: &MethodReply) {
        let Some(link) = self.link.as_mut().filter(|link| link.number == call.link) else {
            return debug!("an answer to a method call came after its connection was lost");
        };
        self.sends.push(link.calls.answer(&call.rid, reply));
    }

    /// Notes whom to tell once everything accepted so far has arrived, and no call waits for an answer.
    pub(super) fn flush(&mut self, done: oneshot::Sender<()>, now: Instant) {
        self.flushes.push((self.outbox.newest(), done));
        self.send_report(now);
    }

    /// Tells those whose flush is complete. Call it when nothing is left to send.
    pub(super) fn settle(&mut self) {
        self.flushes.retain(|(_, done)| !done.is_closed());
        // A call that waits for its answer is to be answered, too: its replier says 500 if nobody else does.
        let quiet = self.link.as_ref().is_some_and(|link| link.calls.is_quiet());
        if !quiet || !self.sends.is_empty() {
            return;
        }
        let outbox = &self.outbox;
        for (_, done) in self.flushes.extract_if(.., |(generation, _)| outbox.is_settled(*generation)) {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests;
