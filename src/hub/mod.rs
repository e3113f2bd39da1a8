//! The device's session with its IoT hub: what the hub wants comes in as [`HubEvent`]s, what we tell it goes out
//! through [`Commands`].
//!
//! Not a general MQTT client, and nothing here decides anything about an update. The port is two channels, not a
//! trait: the engine holds a [`Hub`], the session task ([`Session::run`]) the other end ([`Port`]), and the
//! engine's tests may hold that end themselves. The engine never waits for the network: its reports go into a slot
//! where the newest wins, its events are kept here until it has room for them.
//!
//! What follows from what the hub does (each is a test):
//! - It never repeats a desired property: after every connection we subscribe, then get the whole twin, and only
//!   then believe notifications, by version ([`twin`]).
//! - It acknowledges packets before anything is done with them: a report counts once its `$rid` is answered
//!   ([`Report`]), and after a new connection the difference to what the hub really holds is sent.
//! - It has no way to renew a token: at four fifths of its life, and when nothing is under way, we leave in an
//!   orderly way and come back with a new one.
//! - It keeps one connection per identity: two devices with one identity evict each other for ever. That is
//!   noticed, told by name, and slowed down.
//! - A refused token is never final: a clock may be set and a key restored, so it is tried again, slowly.
//! - It throttles, and everybody pays for a storm: waits are drawn from a range that doubles, refusals and throttling
//!   (429, 403) wait longer, and no hour sees more attempts than allowed (`waits.rs` has the caps).
//! - A section of a twin has limits, and a report that breaks one is lost whole: none is sent that does (`limits.rs`).
//!
//! # Clean sessions
//!
//! Every connection asks for a clean session. A stored one would keep subscriptions and cloud-to-device messages,
//! but neither desired properties nor method calls; so it saves nothing here, where everything is subscribed and
//! got anew anyway, and it would let notifications in before the whole twin is known. Cloud-to-device messages are
//! not used: they are taken from the hub and forgotten, or fifty of them would keep others from being sent.

pub mod access;
pub mod backoff;
pub mod credential;
#[cfg(feature = "fakes")]
#[doc(hidden)]
pub mod fuzz;
pub mod identity;
pub mod keyfile;
pub mod memory;
pub mod merge;
pub mod methods;
pub mod pair;
pub mod provisioning;
pub mod registration;
pub mod sas;
pub mod topics;
pub mod tuning;
pub mod twin;
pub mod wish;

mod calls;
mod certificate;
mod dial;
mod dialogue;
mod limits;
mod mqtt;
mod outbox;
mod port;
mod queue;
mod relay;
mod remote;
mod session;
mod settings;
mod strict;
mod telemetry;
mod waits;
mod way;
mod websocket;

#[cfg(test)]
pub(crate) mod tests;

pub use access::{Access, Introduction, Seeker, Source};
pub use identity::{Identity, StringFile};
pub use memory::{Memory, Shelf};
pub use methods::{Method, MethodCall, MethodReply};
pub use outbox::Report;
pub use port::{CallId, Commands, Hub, HubCommand, HubEvent, Pace, Port, Replier, Slot, channels};
pub use relay::relay;
pub use remote::Remote;
pub use session::{CLOCK_FLOOR, Session};
pub use settings::{Settings, Transport};
pub use tuning::{Consented, Tuned};
pub use wish::{Desired, Parsed};

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why there is no connection, or no more. None of it says anything about an update.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub enum Lost {
    /// The name could not be resolved.
    #[error("resolving {host}: {detail}")]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver says.
        detail: String,
    },
    /// No address of the hub takes a connection.
    #[error("connecting to {host}: {detail}")]
    Unreachable {
        /// The name.
        host: String,
        /// What the last address failed with.
        detail: String,
    },
    /// No trustworthy encryption.
    #[error("TLS with {host}: {detail}")]
    Tls {
        /// The name.
        host: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No WebSocket where one must be.
    #[error("WebSocket with {host}: {detail}")]
    WebSocket {
        /// The name.
        host: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No way through the proxy.
    #[error("{detail}")]
    Proxy {
        /// Which, why, and what to do.
        detail: String,
        /// It does not let us through at all until somebody does something.
        refused: bool,
    },
    /// Nothing on this device proves who it is.
    #[error("{0}")]
    Credential(String),
    /// Nobody has said yet who this device is.
    #[error("no connection string: write the device's to {wanted} (mode 0600)")]
    Unprovisioned {
        /// Where it is looked for last.
        wanted: String,
    },
    /// The process that has the network is not there, or not sound.
    #[error("the network side (twinboot-net.service): {0}")]
    Apart(String),
    /// The provisioning service does not name a hub.
    #[error("the provisioning service: {detail}")]
    Provisioning {
        /// Why.
        detail: String,
        /// When it wants to be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// The hub refuses us, with MQTT's return code.
    #[error("the hub refuses the connection: {}", refusal(*.0))]
    Refused(u8),
    /// The hub refuses a subscription.
    #[error("the hub refuses the subscription to {0}")]
    Unsubscribed(Cow<'static, str>),
    /// The hub closed the connection.
    #[error("the hub closed the connection")]
    Closed,
    /// The hub closes again and again soon after connecting.
    #[error(
        "duplicate identity? The hub ended {times} connections in a row soon after they were made; does another \
         device connect as '{device}'? Or is this clock late, so that tokens end early?"
    )]
    Contested {
        /// The identity that seems to be in use twice.
        device: String,
        /// How often in a row.
        times: u32,
    },
    /// The network gave up the connection.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The hub is silent where it must answer.
    #[error("the hub does not answer: {0}")]
    Silent(Cow<'static, str>),
    /// The hub, or who poses as it, breaks the protocol.
    #[error("malformed packet: {0}")]
    Malformed(String),
}

impl Lost {
    /// Whether it will likely be the same next time, so that trying again soon only costs.
    pub fn is_slow(&self) -> bool {
        match self {
            Self::Refused(code) => matches!(code, 1 | 2 | 4 | 5),
            Self::Provisioning { .. } => true,
            Self::Proxy { refused, .. } => *refused,
            // Looking at a file again costs nothing.
            Self::Credential(_)
            | Self::Unprovisioned { .. }
            | Self::Apart(_)
            | Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::WebSocket { .. }
            | Self::Unsubscribed(_)
            | Self::Closed
            | Self::Contested { .. }
            | Self::Broken(_)
            | Self::Silent(_)
            | Self::Malformed(_) => false,
        }
    }

    /// Whether other credentials than those that were shown, or looked for, might have done.
    pub(super) fn is_of_credentials(&self) -> bool {
        match self {
            Self::Refused(code) => matches!(code, 2 | 4 | 5),
            Self::Proxy { refused, .. } => *refused,
            Self::Credential(_) | Self::Unprovisioned { .. } | Self::Provisioning { .. } => true,
            Self::Apart(_)
            | Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::WebSocket { .. }
            | Self::Unsubscribed(_)
            | Self::Closed
            | Self::Contested { .. }
            | Self::Broken(_)
            | Self::Silent(_)
            | Self::Malformed(_) => false,
        }
    }

    /// How long to wait at least, because somebody said so; within reason.
    pub fn least_wait(&self) -> Duration {
        const REASON: Duration = Duration::from_secs(60 * 60);
        match self {
            Self::Provisioning { retry_after: Some(wait), .. } => (*wait).min(REASON),
            Self::Provisioning { retry_after: None, .. }
            | Self::Proxy { .. }
            | Self::Credential(_)
            | Self::Unprovisioned { .. }
            | Self::Apart(_)
            | Self::Refused(_)
            | Self::Unresolved { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::WebSocket { .. }
            | Self::Unsubscribed(_)
            | Self::Closed
            | Self::Contested { .. }
            | Self::Broken(_)
            | Self::Silent(_)
            | Self::Malformed(_) => Duration::ZERO,
        }
    }
}

fn refusal(code: u8) -> &'static str {
    match code {
        1 => "it does not know this protocol version (1)",
        2 => "it does not take this device id (2)",
        3 => "it is not available (3)",
        4 | 5 => {
            "not authorised; is the key right, the device known and enabled, and this clock right? (4, 5)"
        }
        _ => "for a reason it does not tell",
    }
}
