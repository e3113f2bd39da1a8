//! The two channels between the engine and the session.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::debug;

use super::Lost;
use super::access::Introduction;
use super::methods::{MethodCall, MethodReply};
use super::outbox::Report;
use super::tuning::Tuned;
use super::wish::Parsed;

/// Events the engine has not taken yet, in the channel. More wait in the session, which keeps only the newest of
/// each kind.
const EVENTS: usize = 16;
/// Commands on their way: more than there can be answers outstanding ([`super::calls`] allows sixteen).
const COMMANDS: usize = 64;

/// What the session tells the engine.
#[derive(Debug)]
pub enum HubEvent {
    /// The hub is reached and the twin is known. Not told again when a token is renewed.
    Connected,
    /// Who we are to the hub, and what should be known about it, is other than was told before.
    Introduced(Introduction),
    /// There is no connection.
    Lost {
        /// Why.
        why: Lost,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// After a loss to another device with this identity ([`Lost::Contested`]): the link has lasted so long now that
    /// nobody seems to contend for it any more.
    Uncontested,
    /// What the desired property `firmware` says: after every connection, and whenever it changed. The same may
    /// come again.
    Desired(Parsed),
    /// What the desired property `twinboot` says: after the first connection, and whenever it changed. It comes before
    /// what `firmware` says in the same twin: a maintenance window counts for the update that is wished with it.
    Tuned(Tuned),
    /// So many cloud-to-device messages came and were ignored, since this was told last.
    Ignored(u64),
    /// A direct method was called.
    Method {
        /// What it asks for. Of an unknown method the engine never hears: the session answers it itself.
        call: MethodCall,
        /// Where the answer goes.
        reply: Replier,
    },
    /// The hub confirmed that it holds this generation of the report.
    ReportDelivered(u64),
    /// The hub refuses this generation, and its smaller form if it had one. It is not sent again.
    ReportRefused {
        /// Which.
        generation: u64,
        /// The hub's status, 400 or 413.
        status: u16,
    },
}

/// What the engine tells the session, beside reports. [`Commands`] sends them.
#[derive(Debug)]
pub enum HubCommand {
    /// The answer to a method call.
    Reply {
        /// Which call.
        call: CallId,
        /// The answer.
        reply: MethodReply,
    },
    /// Send this as telemetry, JSON: soon, or not at all.
    Telemetry(Vec<u8>),
    /// Tell when all that was accepted so far has arrived, and every call was answered.
    Flush(oneshot::Sender<()>),
    /// Leave in an orderly way and end.
    Shutdown,
}

/// Names one method call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallId {
    /// The connection it came on. Its answer is worth nothing on another.
    pub link: u64,
    /// The hub's request id.
    pub rid: String,
}

/// The newest report.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// The report, once there is one.
    pub report: Option<Arc<Report>>,
    /// The newest generation that was urgent, although a later one may have taken its place.
    pub urgent_to: u64,
    /// How often to speak, if not as the session was set up.
    pub pace: Option<Pace>,
}

/// How often the session speaks of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// Least time between two reported patches, unless a report is urgent.
    pub report_every: Duration,
    /// The whole twin is asked for this often although nothing was notified; zero is never.
    pub poll_every: Duration,
}

/// The engine's end.
#[derive(Debug)]
pub struct Hub {
    /// What happens.
    pub events: mpsc::Receiver<HubEvent>,
    /// What to do.
    pub commands: Commands,
}

/// The session's end.
#[derive(Debug)]
pub struct Port {
    /// To the engine.
    pub events: mpsc::Sender<HubEvent>,
    /// From the engine.
    pub commands: mpsc::Receiver<HubCommand>,
    /// The newest report.
    pub reports: watch::Receiver<Slot>,
    /// For repliers. Weak, so that the session ends when the engine has gone.
    pub(super) answers: mpsc::WeakSender<HubCommand>,
}

/// Both ends.
pub fn channels() -> (Hub, Port) {
    let (event_sender, events) = mpsc::channel(EVENTS);
    let (sender, commands) = mpsc::channel(COMMANDS);
    let (slot, reports) = watch::channel(Slot::default());
    let answers = sender.downgrade();
    (
        Hub { events, commands: Commands { sender, slot } },
        Port { events: event_sender, commands, reports, answers },
    )
}

impl Port {
    /// Where an answer to `call` goes.
    pub fn replier(&self, call: CallId) -> Replier {
        Replier::new(call, self.answers.clone())
    }
}

/// Tells the session what to do. Nothing here waits for the network, except [`Commands::flush`], which is told how
/// long.
#[derive(Clone, Debug)]
pub struct Commands {
    sender: mpsc::Sender<HubCommand>,
    slot: watch::Sender<Slot>,
}

impl Commands {
    /// Hands over the whole reported document. It takes the place of one that was not sent yet.
    pub fn report(&self, report: Report) {
        self.slot.send_modify(|slot| {
            if report.urgent {
                slot.urgent_to = report.generation;
            }
            slot.report = Some(Arc::new(report));
        });
    }

    /// Changes how often the session speaks of itself.
    pub fn pace(&self, pace: Pace) {
        self.slot.send_if_modified(|slot| {
            let is_new = slot.pace != Some(pace);
            slot.pace = Some(pace);
            is_new
        });
    }

    /// Sends an event as telemetry if there is room for it, and forgets it if there is none.
    pub fn telemetry(&self, event: Vec<u8>) {
        if self.sender.try_send(HubCommand::Telemetry(event)).is_err() {
            debug!("an event was dropped: the session has ended or does not keep up");
        }
    }

    /// Waits until every call was answered, and every answer and the newest report have arrived (or were refused);
    /// `false` if that took longer than `within`.
    pub async fn flush(&self, within: Duration) -> bool {
        let (done, flushed) = oneshot::channel();
        let all = async { self.sender.send(HubCommand::Flush(done)).await.is_ok() && flushed.await.is_ok() };
        timeout(within, all).await.unwrap_or(false)
    }

    /// Ends the session in an orderly way; what was not sent is not sent. To send it, flush first.
    pub async fn shut_down(&self) {
        // An error means that it has ended already.
        let _ = self.sender.send(HubCommand::Shutdown).await;
    }
}

/// Answers one method call. Dropped without an answer, it says 500, so that no caller waits in vain.
#[derive(Debug)]
pub struct Replier {
    call: Option<CallId>,
    answers: mpsc::WeakSender<HubCommand>,
}

impl Replier {
    pub(super) fn new(call: CallId, answers: mpsc::WeakSender<HubCommand>) -> Self {
        Self { call: Some(call), answers }
    }

    /// Sends the answer.
    pub fn send(mut self, reply: MethodReply) {
        self.answer(reply);
    }

    fn answer(&mut self, reply: MethodReply) {
        let (Some(call), Some(answers)) = (self.call.take(), self.answers.upgrade()) else { return };
        if answers.try_send(HubCommand::Reply { call, reply }).is_err() {
            debug!("an answer to a method call was dropped: the session has ended or does not keep up");
        }
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        self.answer(MethodReply::unanswered());
    }
}
