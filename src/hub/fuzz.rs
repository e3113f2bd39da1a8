//! Doors to what is within, for `tests/fuzz` and nobody else.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::mqtt::{self, Link, Received, Sent};
use super::websocket;

/// A packet that arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Packet {
    /// A message: its topic, its payload, and its id if it wants to be acknowledged.
    Message(String, Bytes, Option<u16>),
    /// Anything else, in words.
    Other(String),
}

/// The end of a connection on which packets arrive.
pub struct Packets(Link);

impl Packets {
    /// The packets of `stream`.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Link::new(stream))
    }

    /// The next one.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn next(&mut self) -> Result<Packet, String> {
        match self.0.receive().await {
            Ok(Received::Message { topic, payload, id }) => Ok(Packet::Message(topic, payload, id)),
            Ok(other) => Ok(Packet::Other(format!("{other:?}"))),
            Err(lost) => Err(lost.to_string()),
        }
    }
}

/// The bytes of a message; `None` if it is too long to be sent.
pub fn message(topic: &str, payload: &[u8], id: Option<u16>) -> Option<Vec<u8>> {
    let message = Sent::Message { topic: topic.to_owned(), payload: payload.to_vec(), id };
    mqtt::bytes(message).ok().map(|bytes| bytes.to_vec())
}

/// A WebSocket to `host` over `stream`, which is asked for with `key`.
///
/// # Errors
/// If the other side does not open one.
pub async fn websocket<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    key: [u8; 16],
) -> Result<impl AsyncRead + AsyncWrite + Unpin, String> {
    websocket::upgrade(stream, host, key).await
}
