//! One MQTT 3.1.1 connection as packets: the only place that knows whose codec it is.
//!
//! Not the conversation (see [`super::dialogue`]) and not the dialling (see [`super::dial`]).
//!
//! # Why our own session over somebody else's codec
//!
//! Of `rumqttc` only `mqttbytes::v4` is used, which turns bytes into packets and back and does nothing else. Its
//! client is not, because with an IoT hub
//! - it loses silently: when a connection breaks and the next one has no stored session, everything that was
//!   accepted for sending and not acknowledged is dropped without an error; a report must be known to be delivered;
//! - it can stick for good: a publish that waits for a packet id is never cleared when the session is lost, and
//!   from then on every connection fails;
//! - a packet above its limit is an error that ends the connection, and the hub delivers it again;
//! - a dead link is noticed only after two keep-alive intervals, and connecting, name look-up and TLS share one
//!   five-second limit over all addresses;
//! - its TLS feature brings a certificate library with published vulnerabilities.
//!
//! What is left to do by hand is small: the hub needs six kinds of packets and no quality of service above 1.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::{self, Packet};
use rumqttc::mqttbytes::{self, QoS};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Lost;
use super::remote::Relayed;
use super::sas::Token;

/// Largest packet that is taken: the hub's own limit is 256 KiB of payload.
pub(super) const MAX_RECEIVED: usize = 300 * 1024;
/// Largest packet that is sent.
const MAX_SENT: usize = 256 * 1024;

/// Whatever carries bytes both ways: TLS, or a WebSocket in it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What arrives.
#[derive(Debug, PartialEq)]
pub(super) enum Received {
    /// Answer to the greeting, with the return code.
    ConnAck(u8),
    /// Answer to a subscription, and whether it was granted.
    SubAck { id: u16, granted: bool },
    /// A message; `id` if it wants to be acknowledged.
    Message { topic: String, payload: Bytes, id: Option<u16> },
    /// A message of ours arrived.
    PubAck(u16),
    /// Answer to a ping.
    Pong,
}

/// What is sent.
#[derive(Debug)]
pub(super) enum Sent {
    /// The greeting.
    Connect { client: String, username: String, password: Option<Token>, keep_alive: u16 },
    /// One topic filter.
    Subscribe { id: u16, filter: Cow<'static, str> },
    /// A message; with an `id` it will be acknowledged.
    Message { topic: String, payload: Vec<u8>, id: Option<u16> },
    /// A received message is ours now.
    PubAck(u16),
    /// Are you there?
    Ping,
    /// An orderly end.
    Disconnect,
}

/// A connection.
pub(super) struct Link {
    carrier: Carrier,
    received: BytesMut,
}

/// Whatever carries the packets' bytes.
enum Carrier {
    /// The network.
    Stream(Box<dyn Stream>),
    /// The process that has the network.
    Relayed(Relayed),
}

impl Carrier {
    /// Waits for more bytes. May be dropped at any await and called again.
    async fn read(&mut self, received: &mut BytesMut) -> Result<(), Lost> {
        let stream = match self {
            Self::Stream(stream) => stream,
            Self::Relayed(relayed) => {
                received.extend_from_slice(&relayed.read().await?);
                return Ok(());
            }
        };
        // Grows with what really arrives, never by what a length field claims.
        received.reserve(4096);
        match stream.read_buf(received).await {
            Ok(0) => Err(Lost::Closed),
            Ok(_) => Ok(()),
            // Hubs close without saying so in TLS; that is an end like any other.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(Lost::Closed),
            Err(error) => Err(Lost::Broken(error.to_string())),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let stream = match self {
            Self::Stream(stream) => stream,
            Self::Relayed(relayed) => return relayed.write(bytes).await,
        };
        let written = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        written.await.map_err(|error| Lost::Broken(error.to_string()))
    }

    /// Ends it in good order, as far as that goes.
    async fn shut_down(&mut self) {
        match self {
            Self::Stream(stream) => drop(stream.shutdown().await),
            Self::Relayed(relayed) => relayed.shut_down().await,
        }
    }
}

impl Link {
    pub(super) fn new(stream: impl Stream + 'static) -> Self {
        Self { carrier: Carrier::Stream(Box::new(stream)), received: BytesMut::new() }
    }

    /// A link that somebody else made and greeted.
    pub(super) fn relayed(relayed: Relayed) -> Self {
        Self { carrier: Carrier::Relayed(relayed), received: BytesMut::new() }
    }

    /// The bytes below the packets, for whoever passes them on: those that have come first, then more.
    ///
    /// # Errors
    /// If there are no more.
    pub(super) async fn read_raw(&mut self) -> Result<Bytes, Lost> {
        while self.received.is_empty() {
            self.carrier.read(&mut self.received).await?;
        }
        let length = self.received.len().min(Relayed::PIECE);
        Ok(self.received.split_to(length).freeze())
    }

    /// Sends bytes that are packets, and waits at most `within` for the network to take them.
    ///
    /// # Errors
    /// If it does not.
    pub(super) async fn write_raw(&mut self, bytes: &[u8], within: Duration) -> Result<(), Lost> {
        let written = timeout(within, self.carrier.write(bytes)).await;
        written.unwrap_or_else(|_| Err(Lost::Silent("sending".into())))
    }

    /// An end of whoever was relayed, who has said all there was to say.
    pub(super) async fn end(mut self, within: Duration) {
        let _ = timeout(within, self.carrier.shut_down()).await;
    }

    /// The next packet. May be dropped at any await and called again: what has arrived is kept.
    pub(super) async fn receive(&mut self) -> Result<Received, Lost> {
        loop {
            if let Some(received) = parse(&mut self.received)? {
                return Ok(received);
            }
            self.carrier.read(&mut self.received).await?;
        }
    }

    /// Sends one packet, and waits at most `within` for the network to take it.
    pub(super) async fn send(&mut self, packet: Sent, within: Duration) -> Result<(), Lost> {
        self.write_raw(&bytes(packet)?, within).await
    }

    /// An orderly end, as far as the other side goes along with it within the time.
    pub(super) async fn close(mut self, within: Duration) {
        let ended = self.send(Sent::Disconnect, within).await.is_ok();
        if ended {
            self.end(within).await;
        }
    }
}

/// The first packet in `bytes`, if all of it is there.
fn parse(bytes: &mut BytesMut) -> Result<Option<Received>, Lost> {
    let malformed = |what: &str| Err(Lost::Malformed(what.to_owned()));
    // The codec does not look at reserved bits.
    if let Some(first) = bytes.first() {
        let (kind, flags) = (first >> 4, first & 15);
        // Of a message's flags, the upper bit of its quality of service: there is no 2 with a hub, and never a 3.
        let reserved = if kind == 3 { flags & 0b0100 != 0 } else { flags != 0 };
        if !matches!(kind, 2 | 3 | 4 | 9 | 13) || reserved {
            return malformed("a packet that a hub never sends");
        }
    }
    let packet = match Packet::read(bytes, MAX_RECEIVED) {
        Ok(packet) => packet,
        Err(mqttbytes::Error::InsufficientBytes(_)) => return Ok(None),
        Err(error) => return malformed(&error.to_string()),
    };
    Ok(Some(match packet {
        Packet::ConnAck(ack) => Received::ConnAck(ack.code as u8),
        Packet::SubAck(ack) => {
            let granted =
                ack.return_codes.iter().all(|code| matches!(code, v4::SubscribeReasonCode::Success(_)));
            Received::SubAck { id: ack.pkid, granted }
        }
        Packet::Publish(message) => Received::Message {
            topic: message.topic,
            payload: message.payload,
            id: (message.qos == QoS::AtLeastOnce).then_some(message.pkid),
        },
        Packet::PubAck(ack) => Received::PubAck(ack.pkid),
        Packet::PingResp => Received::Pong,
        Packet::Connect(_)
        | Packet::PubRec(_)
        | Packet::PubRel(_)
        | Packet::PubComp(_)
        | Packet::Subscribe(_)
        | Packet::Unsubscribe(_)
        | Packet::UnsubAck(_)
        | Packet::PingReq
        | Packet::Disconnect => return malformed("a packet that a hub never sends"),
    }))
}

/// A packet's bytes.
pub(super) fn bytes(packet: Sent) -> Result<BytesMut, Lost> {
    let mut bytes = BytesMut::new();
    encode(packet).write(&mut bytes, MAX_SENT).map_err(|error| Lost::Malformed(error.to_string()))?;
    Ok(bytes)
}

fn encode(packet: Sent) -> Packet {
    match packet {
        Sent::Connect { client, username, password, keep_alive } => {
            let mut connect = v4::Connect::new(client);
            connect.keep_alive = keep_alive;
            connect.clean_session = true;
            // An empty password is none at all to the codec: who shows a certificate has no other.
            connect.set_login(username, password.as_ref().map_or("", Token::expose));
            Packet::Connect(connect)
        }
        Sent::Subscribe { id, filter } => {
            let mut subscribe = v4::Subscribe::new(filter, QoS::AtLeastOnce);
            subscribe.pkid = id;
            Packet::Subscribe(subscribe)
        }
        Sent::Message { topic, payload, id } => {
            let qos = if id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            let mut publish = v4::Publish::new(topic, qos, payload);
            publish.pkid = id.unwrap_or(0);
            Packet::Publish(publish)
        }
        Sent::PubAck(id) => Packet::PubAck(v4::PubAck::new(id)),
        Sent::Ping => Packet::PingReq,
        Sent::Disconnect => Packet::Disconnect,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Received>, Lost> {
        parse(&mut BytesMut::from(bytes))
    }

    #[test]
    fn packets_are_read_by_the_books_bytes() {
        assert_eq!(read(&[0x20, 2, 0, 5]).unwrap(), Some(Received::ConnAck(5)));
        assert_eq!(read(&[0x90, 3, 0, 7, 1]).unwrap(), Some(Received::SubAck { id: 7, granted: true }));
        assert_eq!(read(&[0x90, 3, 0, 7, 0x80]).unwrap(), Some(Received::SubAck { id: 7, granted: false }));
        assert_eq!(read(&[0x40, 2, 1, 0]).unwrap(), Some(Received::PubAck(256)));
        assert_eq!(read(&[0xd0, 0]).unwrap(), Some(Received::Pong));
        let message =
            |id| Some(Received::Message { topic: "t".into(), payload: Bytes::from_static(b"xy"), id });
        assert_eq!(read(b"\x30\x05\0\x01txy").unwrap(), message(None));
        assert_eq!(read(b"\x32\x07\0\x01t\0\x09xy").unwrap(), message(Some(9)));
        assert_eq!(read(b"\x3a\x07\0\x01t\0\x09xy").unwrap(), message(Some(9)), "DUP");
    }

    #[test]
    fn half_a_packet_waits_and_nonsense_ends_the_connection() {
        for half in [&b""[..], b"\x30", b"\x30\x05", b"\x30\x05\0\x01tx", b"\x30\xff", b"\x30\x80\x80"] {
            assert_eq!(read(half).unwrap(), None, "{half:?}");
        }
        for (bad, what) in [
            (&b"\x00\0"[..], "unknown type"),
            (b"\xf0\0", "unknown type"),
            (b"\xe0\0", "a hub does not say DISCONNECT"),
            (b"\x10\0", "nor CONNECT"),
            (b"\x82\x05\0\x01\0\x01t", "nor SUBSCRIBE"),
            (b"\xd1\0", "reserved bits"),
            (b"\x21\x02\0\0", "reserved bits"),
            (b"\x36\x07\0\x01t\0\x09xy", "quality of service 3"),
            (b"\x20\x02\0\x09", "unknown return code"),
            (b"\x20\0", "empty"),
            (b"\x32\x05\0\x01t\0\0", "packet id 0"),
            (b"\x30\x03\0\x09t", "topic longer than its packet"),
            (b"\x30\x03\0\x01\xff", "not UTF-8"),
            (b"\x90\x03\0\x07\x05", "unknown subscription code"),
            (b"\x30\xff\xff\xff\xff", "a length of five bytes"),
            (b"\x30\xff\xff\xff\x7f", "256 MiB"),
            (b"\x30\x81\xe0\x12", "one byte above the limit"),
        ] {
            assert!(matches!(read(bad), Err(Lost::Malformed(_))), "{what}: {:?}", read(bad));
        }
    }

    #[test]
    fn a_quality_of_service_of_2_is_refused() {
        assert!(read(b"\x34\x07\0\x01t\0\x09xy").is_err());
    }

    #[test]
    fn packets_are_written_by_the_books_bytes() {
        let bytes = |packet| {
            let mut bytes = BytesMut::new();
            encode(packet).write(&mut bytes, MAX_SENT).unwrap();
            bytes.to_vec()
        };
        assert_eq!(bytes(Sent::Ping), [0xc0, 0]);
        assert_eq!(bytes(Sent::Disconnect), [0xe0, 0]);
        assert_eq!(bytes(Sent::PubAck(258)), [0x40, 2, 1, 2]);
        assert_eq!(bytes(Sent::Subscribe { id: 1, filter: "t".into() }), *b"\x82\x06\0\x01\0\x01t\x01");
        let message = |id| Sent::Message { topic: "t".into(), payload: b"xy".to_vec(), id };
        assert_eq!(bytes(message(None)), *b"\x30\x05\0\x01txy");
        assert_eq!(bytes(message(Some(9))), *b"\x32\x07\0\x01t\0\x09xy");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in vec(any::<u8>(), 0..60), kind in 0..5usize) {
            let _ = read(&bytes);
            let mut framed = vec![[0x20, 0x30, 0x32, 0x40, 0x90][kind], bytes.len() as u8];
            framed.extend(&bytes);
            let _ = read(&framed);
        }
    }
}
