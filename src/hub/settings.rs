//! How the session behaves in time: plain numbers, composed into the daemon's configuration.

use std::time::Duration;

use crate::model::Vouching;

/// What can be set. [`Settings::default`] is what the shipped configuration says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// After this long without traffic one way or the other, the hub is asked whether it is there. The hub itself
    /// accepts at most 1177 seconds.
    pub keep_alive: Duration,
    /// Which ports and wrappings to use.
    pub transport: Transport,
    /// Where the WebSocket is: 443, except where a test has it elsewhere.
    pub websocket_port: u16,
    /// How long a token lives.
    pub token_lifetime: Duration,
    /// First and last limit of the random wait before a new connection, and before asking again what the hub could
    /// not do.
    pub backoff: [Duration; 2],
    /// The same after refusals that will likely be repeated, and where the hub asks for less: throttling (429) and a
    /// quota that is used up (403).
    pub slow_backoff: [Duration; 2],
    /// What must vouch for an image that a request names.
    pub vouching: Vouching,
    /// Whether cloud-to-device messages are taken from the hub, to be ignored: nobody else takes them, and they would
    /// fill its queue.
    pub take_messages: bool,
    /// Least time between two reported patches, unless a report is urgent.
    pub report_interval: Duration,
    /// For resolving the name, and for each address to take a connection.
    pub connect_timeout: Duration,
    /// For the TLS handshake.
    pub tls_timeout: Duration,
    /// For the hub's answer to the greeting.
    pub greeting_timeout: Duration,
    /// For each answer to a subscription or a twin request, and for the network to take a packet.
    pub answer_timeout: Duration,
    /// For the answer to a ping.
    pub ping_timeout: Duration,
    /// A connection that lived this long was a good one.
    pub stable_after: Duration,
    /// Least wait once another device seems to use this identity.
    pub contested_wait: Duration,
    /// A connection that the hub closed before this time may have been closed because another device with this
    /// identity came. Longer than any wait, as the other device waits, too.
    pub contested_within: Duration,
    /// Most attempts to connect in any hour.
    pub attempts_an_hour: u32,
}

/// How to reach the hub.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// MQTT, and where nothing is heard of the hub by it, a WebSocket by turns.
    Auto,
    /// MQTT over TLS, port 8883.
    Mqtt,
    /// MQTT over a WebSocket, port 443.
    WebSocket,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            keep_alive: seconds(240),
            transport: Transport::Auto,
            websocket_port: 443,
            token_lifetime: seconds(3600),
            backoff: [seconds(1), seconds(300)],
            slow_backoff: [seconds(30), seconds(600)],
            vouching: Vouching::default(),
            take_messages: false,
            report_interval: seconds(10),
            connect_timeout: seconds(15),
            tls_timeout: seconds(15),
            greeting_timeout: seconds(15),
            answer_timeout: seconds(20),
            ping_timeout: seconds(10),
            stable_after: seconds(60),
            contested_wait: seconds(10),
            contested_within: seconds(600),
            attempts_an_hour: 60,
        }
    }
}
