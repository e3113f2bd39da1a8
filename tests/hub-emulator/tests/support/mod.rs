//! A device and an HTTPS client, as plain as can be: bytes are written and read here, by hand, so that a mistake in
//! the emulator's own codec is not repeated by its tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod pki;
pub mod websocket;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hub_emulator::{Emulator, Options, sign};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

pub const PATIENCE: Duration = Duration::from_secs(5);
pub const TWIN: &str = "$iothub/twin/res/#";
pub const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
pub const METHODS: &str = "$iothub/methods/POST/#";

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

pub fn start() -> Emulator {
    Emulator::start(Options::default()).unwrap()
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn dial(emulator: &Emulator, port: u16) -> Tls {
    dial_with(emulator, port, rustls::ALL_VERSIONS)
}

pub fn dial_with(
    emulator: &Emulator,
    port: u16,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// The value of a key in a connection string.
pub fn part<'a>(connection_string: &'a str, key: &str) -> &'a str {
    connection_string.split(';').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).unwrap()
}

/// How a device connects; all of it can be wrong.
#[derive(Clone)]
pub struct Dialect {
    pub clean: bool,
    pub keep_alive: u16,
    pub username: String,
    pub password: Option<String>,
}

/// What a device speaks through.
pub trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

pub struct Device {
    pub stream: Box<dyn Stream>,
    pub id: String,
    next_id: u16,
    /// Messages that arrived while something else was waited for.
    waiting: Vec<(String, Vec<u8>)>,
}

pub fn dialect(emulator: &Emulator, id: &str) -> Dialect {
    let text = emulator.device_connection_string(id).unwrap_or_default();
    let key = if text.is_empty() { "AAAAAAAAAAAAAAAAAAAAAA==" } else { part(&text, "SharedAccessKey") };
    Dialect {
        clean: false,
        keep_alive: 60,
        username: format!("localhost/{id}/?api-version=2021-04-12"),
        password: sign(&format!("localhost/devices/{id}"), key, now() + 3600, None),
    }
}

impl Device {
    /// Connects and subscribes to nothing. The CONNACK must be 0.
    pub fn connect(emulator: &Emulator, id: &str) -> Device {
        let (device, connack) = Device::try_connect(emulator, id, &dialect(emulator, id));
        assert_eq!(connack[1], 0, "refused");
        device
    }

    /// Connects and subscribes to replies, desired properties and methods.
    pub fn ready(emulator: &Emulator, id: &str) -> Device {
        let mut device = Device::connect(emulator, id);
        for filter in [TWIN, DESIRED, METHODS] {
            assert_eq!(device.subscribe(filter, 1), [1]);
        }
        device
    }

    /// Connects in a dialect; the two bytes of the CONNACK are session-present and return code.
    pub fn try_connect(emulator: &Emulator, id: &str, dialect: &Dialect) -> (Device, [u8; 2]) {
        Device::over(Box::new(dial(emulator, emulator.mqtt_port())), id, dialect)
    }

    /// The same on a stream of the caller's.
    pub fn over(stream: Box<dyn Stream>, id: &str, dialect: &Dialect) -> (Device, [u8; 2]) {
        let mut device = Device { stream, id: id.to_owned(), next_id: 0, waiting: Vec::new() };
        let flags = 0x80 | if dialect.password.is_some() { 0x40 } else { 0 } | u8::from(dialect.clean) << 1;
        let mut body = b"\x00\x04MQTT\x04".to_vec();
        body.push(flags);
        body.extend(dialect.keep_alive.to_be_bytes());
        body.extend(text(id));
        body.extend(text(&dialect.username));
        body.extend(dialect.password.as_deref().map(text).unwrap_or_default());
        device.send(0x10, &body);
        let (kind, body) = device.receive().unwrap();
        assert_eq!(kind, 0x20);
        (device, body.try_into().unwrap())
    }

    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Vec<u8> {
        let id = self.id();
        let mut body = id.to_vec();
        body.extend(text(filter));
        body.push(qos);
        self.send(0x82, &body);
        let body = self.until(0x90);
        assert_eq!(body[..2], id);
        body[2..].to_vec()
    }

    /// Publishes at QoS 1 and has the PUBACK.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        let id = self.id();
        let body = [&text(topic)[..], &id, payload].concat();
        self.send(0x32, &body);
        assert_eq!(self.until(0x40), id);
    }

    /// Publishes at QoS 0.
    pub fn publish0(&mut self, topic: &str, payload: &[u8]) {
        let body = [&text(topic)[..], payload].concat();
        self.send(0x30, &body);
    }

    /// The next message: topic and payload.
    pub fn message(&mut self) -> (String, Vec<u8>) {
        if !self.waiting.is_empty() {
            return self.waiting.remove(0);
        }
        let (kind, body) = self.receive().unwrap();
        assert_eq!(kind & 0xF0, 0x30, "{kind:x}");
        message(&body)
    }

    /// The next message at QoS 1, not acknowledged: topic, payload, packet id and whether it is marked as a duplicate.
    pub fn unacknowledged(&mut self) -> (String, Vec<u8>, u16, bool) {
        assert!(self.waiting.is_empty(), "{:?}", self.waiting);
        let (kind, body) = self.receive().unwrap();
        assert_eq!(kind & 0xF6, 0x32, "{kind:x}");
        let (topic, rest) = message(&body);
        (topic, rest[2..].to_vec(), u16::from_be_bytes([rest[0], rest[1]]), kind & 8 != 0)
    }

    pub fn acknowledge(&mut self, packet: u16) {
        self.send(0x40, &packet.to_be_bytes());
    }

    /// The next message's topic and JSON.
    pub fn json(&mut self) -> (String, Value) {
        let (topic, payload) = self.message();
        (topic, serde_json::from_slice(&payload).unwrap())
    }

    /// Everything that has arrived, and what the hub had sent before it saw a ping.
    pub fn drain(&mut self) -> Vec<(String, Vec<u8>)> {
        self.send(0xC0, &[]);
        self.until(0xD0);
        std::mem::take(&mut self.waiting)
    }

    pub fn twin(&mut self) -> Value {
        self.publish("$iothub/twin/GET/?$rid=get", b" ");
        let (topic, twin) = self.json();
        assert_eq!(topic, "$iothub/twin/res/200/?$rid=get");
        twin
    }

    /// Reports and returns the topic and the body of the reply.
    pub fn report(&mut self, patch: &Value) -> (String, Vec<u8>) {
        self.publish("$iothub/twin/PATCH/properties/reported/?$rid=r-1", patch.to_string().as_bytes());
        self.message()
    }

    /// Whether the hub ends the connection, rather than say anything.
    pub fn is_closed(&mut self) -> bool {
        self.receive().is_none()
    }

    pub fn send(&mut self, first: u8, body: &[u8]) {
        let mut packet = vec![first];
        let mut length = body.len();
        while length >= 128 {
            packet.push((length % 128) as u8 | 0x80);
            length /= 128;
        }
        packet.push(length as u8);
        packet.extend(body);
        self.stream.write_all(&packet).unwrap();
        self.stream.flush().unwrap();
    }

    fn id(&mut self) -> [u8; 2] {
        self.next_id += 1;
        self.next_id.to_be_bytes()
    }

    fn until(&mut self, wanted: u8) -> Vec<u8> {
        loop {
            let (kind, body) = self.receive().expect("the connection ended");
            if kind == wanted {
                return body;
            }
            assert_eq!(kind & 0xF0, 0x30, "{kind:x}");
            self.waiting.push(message(&body));
        }
    }

    /// The next packet; none if the connection has ended. Panics if nothing comes in time.
    fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut first = [0];
        if !self.fill(&mut first) {
            return None;
        }
        let (mut length, mut shift) = (0, 0);
        loop {
            let mut digit = [0];
            assert!(self.fill(&mut digit));
            length |= usize::from(digit[0] & 0x7F) << shift;
            shift += 7;
            if digit[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        assert!(self.fill(&mut body));
        Some((first[0], body))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read_exact(buffer) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came within {PATIENCE:?}")
            }
            Err(_) => false,
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    let mut out = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}

/// Of a PUBLISH at QoS 0.
fn message(body: &[u8]) -> (String, Vec<u8>) {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    (String::from_utf8(body[2..2 + length].to_vec()).unwrap(), body[2 + length..].to_vec())
}

/// An answer to an HTTPS request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body was as long as Content-Length said.
    pub whole: bool,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A request without authorisation.
pub fn http(emulator: &Emulator, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut tls = dial(emulator, emulator.https_port());
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    tls.write_all(head.as_bytes()).unwrap();
    tls.write_all(body).unwrap();
    tls.flush().unwrap();
    let mut bytes = Vec::new();
    // A connection cut by a fault is an answer too.
    let _ = tls.read_to_end(&mut bytes);
    parse(&bytes, method == "HEAD")
}

fn parse(bytes: &[u8], headless: bool) -> Answer {
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("no head");
    let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
    let body = bytes[split + 4..].to_vec();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse().unwrap());
    let whole = headless || length.is_none_or(|length: usize| length == body.len());
    Answer { status, headers, body, whole }
}

/// The service: requests with the token of a policy.
pub struct Service<'a> {
    pub emulator: &'a Emulator,
    pub policy: &'static str,
}

impl Service<'_> {
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let text = self.emulator.policy_connection_string(self.policy).unwrap();
        let token = sign("localhost", part(&text, "SharedAccessKey"), now() + 60, Some(self.policy)).unwrap();
        let mut all = vec![("Authorization", token.as_str()), ("Content-Type", "application/json")];
        all.extend(headers);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        http(self.emulator, method, &format!("{path}?api-version=2021-04-12"), &all, body.as_bytes())
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Value::Null)
    }

    pub fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, &[], body)
    }

    pub fn query(&self, text: &str) -> Value {
        self.send("POST", "/devices/query", &[], json!({ "query": text })).json()
    }
}

/// The service with all rights.
pub fn owner(emulator: &Emulator) -> Service<'_> {
    Service { emulator, policy: "iothubowner" }
}
