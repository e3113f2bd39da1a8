//! A hub of a few hundred bytes, played by the test itself: TLS, and MQTT packets taken apart and put together by
//! hand from the standard, not by the codec under test, so that a misreading cannot cancel out.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    crypto,
};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};

use super::super::mqtt::Stream;

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
            .with_client_cert_verifier(Arc::new(AnyCertificate))
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
        let certificate = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
        Peer { stream, certificate }
    }

    /// The next connection, on which a WebSocket is asked for.
    pub(super) async fn accept_websocket(&self) -> Peer<DuplexStream> {
        let (stream, _) = timeout(HANGS, self.listener.accept()).await.expect("a connection").unwrap();
        let stream = timeout(HANGS, self.acceptor.accept(stream)).await.expect("a handshake").unwrap();
        Peer { stream: websocket(stream).await, certificate: None }
    }

    /// The next connection, thrown away at once.
    pub(super) async fn reset(&self) {
        drop(timeout(HANGS, self.listener.accept()).await.expect("a connection").unwrap());
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
pub(super) struct Peer<S = TlsStream<TcpStream>> {
    stream: S,
    /// What the device showed while TLS was set up.
    pub certificate: Option<Vec<u8>>,
}

/// Takes any certificate, and none: a hub judges later.
#[derive(Debug)]
struct AnyCertificate;

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = crypto::ring::default_provider().signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, &known)
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        panic!("this server speaks TLS 1.2 only")
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Answers the upgrade and takes the device's frames apart; what is written to the result goes out in small frames.
async fn websocket(mut stream: TlsStream<TcpStream>) -> DuplexStream {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("GET /$iothub/websocket HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{head}");
    let key = head.split_once("Sec-WebSocket-Key: ").unwrap().1.split("\r\n").next().unwrap();
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let accept = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (mut from_test, mut to_test) = tokio::io::split(ours);
    let (mut from_device, mut to_device) = tokio::io::split(stream);
    tokio::spawn(async move {
        loop {
            let Ok(first) = from_device.read_u8().await else { return };
            let length = from_device.read_u8().await.unwrap() & 0x7f;
            let length =
                if length == 126 { from_device.read_u16().await.unwrap() } else { u16::from(length) };
            let mut mask = [0; 4];
            from_device.read_exact(&mut mask).await.unwrap();
            let mut payload = vec![0; usize::from(length)];
            from_device.read_exact(&mut payload).await.unwrap();
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            if first != 0x82 || to_test.write_all(&payload).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        // Packets span frames: three bytes each.
        let mut part = [0; 3];
        while let Ok(length @ 1..) = from_test.read(&mut part).await {
            let frame = [&[0x82, length as u8][..], &part[..length]].concat();
            if to_device.write_all(&frame).await.is_err() || to_device.flush().await.is_err() {
                return;
            }
        }
        // Goodbye as a hub says it.
        let _ = to_device.write_all(&[0x88, 0x02, 0x03, 0xe8]).await;
        let _ = to_device.shutdown().await;
    });
    theirs
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
        let (client, username) = (text(), text());
        let password = if body[7] & 0x40 != 0 { text() } else { String::new() };
        assert!(rest.is_empty());
        let keep_alive = u16::from_be_bytes([body[8], body[9]]);
        Self { flags: body[7], keep_alive, client, username, password }
    }
}

impl Peer {
    /// Ends it with a reset (RST) instead of an orderly close (FIN).
    pub(super) fn reset(self) {
        self.stream.get_ref().0.set_zero_linger().unwrap();
    }
}

impl<S: Stream> Peer<S> {
    /// The next packet: its first byte and what follows the length.
    pub(super) async fn read(&mut self) -> (u8, Vec<u8>) {
        self.packet().await.expect("a packet, not the end")
    }

    /// `None` at the end of the stream.
    async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(HANGS, packet(&mut self.stream)).await.expect("something from the device")
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

    /// Reads CONNECT and refuses it.
    pub(super) async fn refuse(&mut self, code: u8) {
        self.expect_connect().await;
        self.write(&[0x20, 2, 0, code]).await;
    }

    /// CONNECT to the last SUBACK.
    pub(super) async fn greet(&mut self) -> Connect {
        self.greet_for(3).await
    }

    /// CONNECT to the last of so many SUBACKs.
    pub(super) async fn greet_for(&mut self, subscriptions: usize) -> Connect {
        let connect = self.expect_connect().await;
        self.write(&[0x20, 2, 0, 0]).await;
        for _ in 0..subscriptions {
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
