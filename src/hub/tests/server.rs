//! A hub of a few hundred bytes, played by the test itself: TLS, and MQTT packets taken apart and put together by
//! hand from the standard, not by the codec under test, so that a misreading cannot cancel out.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};

/// Nothing here takes this long unless it hangs.
const HANGS: Duration = Duration::from_secs(10);

/// A listening hub with its own authority.
pub(super) struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    /// What a device needs to trust it.
    pub trust: Arc<ClientConfig>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let trust = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            trust: Arc::new(trust),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The next connection, encrypted.
    pub(super) async fn accept(&self) -> Peer {
        let (stream, _) = timeout(HANGS, self.listener.accept()).await.expect("a connection").unwrap();
        let stream = timeout(HANGS, self.acceptor.accept(stream)).await.expect("a handshake").unwrap();
        Peer { stream }
    }

    /// The next connection whose handshake fails.
    pub(super) async fn accept_refusal(&self) {
        let (stream, _) = timeout(HANGS, self.listener.accept()).await.expect("a connection").unwrap();
        assert!(timeout(HANGS, self.acceptor.accept(stream)).await.expect("a handshake").is_err());
    }

    /// The next connection, greeted, subscribed, and told this twin.
    pub(super) async fn serve(&self, desired: Value, reported: Value) -> Peer {
        let mut peer = self.accept().await;
        peer.greet().await;
        peer.give_twin(desired, reported).await;
        peer
    }
}

/// The next packet of a stream: its first byte and what follows the length; `None` at the end.
pub(super) async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    let (mut length, mut factor) = (0, 1);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length += usize::from(byte & 127) * factor;
        factor *= 128;
        if byte < 128 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((first, body))
}

/// A PUBLISH taken apart: topic, payload, packet id.
pub(super) fn message(first: u8, body: &[u8]) -> (String, String, Option<u16>) {
    let (length, rest) = body.split_at(2);
    let (topic, rest) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
    let (id, payload) = if first & 0b110 == 0 { rest.split_at(0) } else { rest.split_at(2) };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let id = <[u8; 2]>::try_from(id).ok().map(u16::from_be_bytes);
    (text(topic), text(payload), id)
}

/// A PUBLISH put together; `first` is its first byte.
pub(super) fn publish(first: u8, topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic.as_bytes());
    body.extend(id.into_iter().flat_map(u16::to_be_bytes));
    body.extend(payload);
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let more = if length >= 128 { 128 } else { 0 };
        packet.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

/// One connection of a device.
pub(super) struct Peer {
    stream: TlsStream<TcpStream>,
}

/// What a device said in CONNECT.
#[derive(Debug)]
pub(super) struct Connect {
    pub flags: u8,
    pub keep_alive: u16,
    pub client: String,
    pub username: String,
    pub password: String,
}

impl Connect {
    pub(super) fn read(first: u8, body: &[u8]) -> Self {
        assert_eq!((first, &body[..7]), (0x10, &b"\0\x04MQTT\x04"[..]));
        let mut rest = &body[10..];
        let mut text = || {
            let (length, tail) = rest.split_at(2);
            let (text, tail) = tail.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
            rest = tail;
            String::from_utf8(text.to_vec()).unwrap()
        };
        let (client, username, password) = (text(), text(), text());
        assert!(rest.is_empty());
        let keep_alive = u16::from_be_bytes([body[8], body[9]]);
        Self { flags: body[7], keep_alive, client, username, password }
    }
}

impl Peer {
    /// The next packet: its first byte and what follows the length.
    pub(super) async fn read(&mut self) -> (u8, Vec<u8>) {
        self.packet().await.expect("a packet, not the end")
    }

    /// `None` at the end of the stream.
    async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(HANGS, packet(&mut self.stream)).await.expect("something from the device")
    }

    /// Ends it with a reset (RST) instead of an orderly close (FIN).
    pub(super) fn reset(self) {
        self.stream.get_ref().0.set_zero_linger().unwrap();
    }

    /// Reads until the device has gone; the first bytes of what it still said.
    pub(super) async fn end(mut self) -> Vec<u8> {
        let mut said = Vec::new();
        while let Some((first, _)) = self.packet().await {
            said.push(first);
        }
        said
    }

    /// Nothing comes for a moment. Can only miss a fault, never invent one.
    pub(super) async fn hears_nothing(&mut self) {
        let mut byte = [0];
        let heard = timeout(Duration::from_millis(50), self.stream.read(&mut byte)).await;
        assert!(heard.is_err(), "{heard:?} {byte:?}");
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(super) async fn expect_connect(&mut self) -> Connect {
        let (first, body) = self.read().await;
        Connect::read(first, &body)
    }

    /// A SUBSCRIBE: packet id and the one filter.
    pub(super) async fn expect_subscribe(&mut self) -> (u16, String) {
        let (first, body) = self.read().await;
        assert_eq!(first, 0x82);
        let length = usize::from(u16::from_be_bytes([body[2], body[3]]));
        assert_eq!(body.len(), 4 + length + 1, "one filter");
        let filter = String::from_utf8(body[4..4 + length].to_vec()).unwrap();
        (u16::from_be_bytes([body[0], body[1]]), filter)
    }

    pub(super) async fn grant(&mut self, id: u16, code: u8) {
        let [high, low] = id.to_be_bytes();
        self.write(&[0x90, 3, high, low, code]).await;
    }

    /// CONNECT to the last SUBACK.
    pub(super) async fn greet(&mut self) -> Connect {
        let connect = self.expect_connect().await;
        self.write(&[0x20, 2, 0, 0]).await;
        for _ in 0..3 {
            let (id, _) = self.expect_subscribe().await;
            self.grant(id, 1).await;
        }
        connect
    }

    /// A PUBLISH: topic, payload, packet id.
    pub(super) async fn expect_message(&mut self) -> (String, String, Option<u16>) {
        let (first, body) = self.read().await;
        assert!(first == 0x30 || first == 0x32, "a message, not {first:02x}");
        message(first, &body)
    }

    /// A message on a topic that begins like this: the rest of the topic, and the payload.
    pub(super) async fn expect(&mut self, start: &str) -> (String, String) {
        let (topic, payload, _) = self.expect_message().await;
        (topic.strip_prefix(start).expect(&topic).to_owned(), payload)
    }

    pub(super) async fn publish(&mut self, first: u8, topic: &str, id: Option<u16>, payload: &[u8]) {
        self.write(&publish(first, topic, id, payload)).await;
    }

    /// Answers a twin request.
    pub(super) async fn answer(&mut self, status: u16, rid: &str, body: Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.publish(0x30, &format!("$iothub/twin/res/{status}/?$rid={rid}"), None, body.as_bytes()).await;
    }

    pub(super) async fn give_twin(&mut self, desired: Value, reported: Value) {
        let rid = self.expect("$iothub/twin/GET/?$rid=").await.0;
        self.answer(200, &rid, json!({ "desired": desired, "reported": reported })).await;
    }

    /// Takes a reported patch and confirms it.
    pub(super) async fn confirm(&mut self) -> Value {
        let (rid, patch) = self.expect("$iothub/twin/PATCH/properties/reported/?$rid=").await;
        self.answer(204, &format!("{rid}&$version=2"), Value::Null).await;
        serde_json::from_str(&patch).unwrap()
    }

    pub(super) async fn desire(&mut self, version: u64, mut patch: Value) {
        patch["$version"] = json!(version);
        let topic = format!("$iothub/twin/PATCH/properties/desired/?$version={version}");
        self.publish(0x30, &topic, None, patch.to_string().as_bytes()).await;
    }

    pub(super) async fn call(&mut self, method: &str, rid: &str, payload: &str) {
        let topic = format!("$iothub/methods/POST/{method}/?$rid={rid}");
        self.publish(0x30, &topic, None, payload.as_bytes()).await;
    }
}
