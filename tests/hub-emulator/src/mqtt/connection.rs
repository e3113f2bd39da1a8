//! One device's connection from CONNECT to its end. Not the device's state, which is the hub's.

use std::future::pending;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::packet::{self, Connect, Packet, Publish};
use super::topics::{Inbound, UserName, inbound};
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::faults::FaultKind;
use crate::hub::{Hub, Push};
use crate::policies::Right;
use crate::registry::Scheme;
use crate::sas::Token;
use crate::shared::Shared;

/// A client that says nothing after the TLS handshake is waited for this long.
const ARRIVAL: Duration = Duration::from_secs(60);
/// A client that takes nothing in is waited for this long.
const WRITING: Duration = Duration::from_secs(30);
/// The hub's longest patience, whatever the client's keep-alive says.
const SILENCE_LIMIT: u64 = 1767;
const TWIN_FILTER: &str = "$iothub/twin/res/#";
/// Largest message from a device.
const MESSAGE_LIMIT: usize = 256 * 1024;

const UNAVAILABLE: u8 = 3;
const NOT_AUTHORISED: u8 = 5;

/// Serves one connection until it ends.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: Arc<Shared>) {
    let mut wire = Wire { stream, buffer: Vec::new(), mute: false };
    // Anything but a CONNECT in time is closed without a word.
    let Ok(Ok(Some(Packet::Connect(connect)))) = tokio::time::timeout(ARRIVAL, wire.packet()).await else {
        return;
    };
    let device = connect.client_id.clone();
    let seconds = match shared.read(|hub| admit(hub, &connect)) {
        Ok(seconds) => seconds,
        Err((code, why)) => {
            shared.events.emit(EventKind::Refused { device, why });
            shared.touch();
            // It is being closed anyway.
            let _ = wire.write(&packet::connack(false, code)).await;
            let _ = wire.stream.shutdown().await;
            return;
        }
    };
    let fate = shared.read(|hub| hub.fate(&device));
    let seconds =
        fate.expired.map_or(Duration::from_secs(seconds.min(u64::from(u32::MAX))), |expired| expired);
    let (sender, pushes) = unbounded_channel();
    if let Some(lost) = fate.lost {
        let sender = sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(lost).await;
            // It may have ended by itself.
            let _ = sender.send(Push::Close);
        });
    }
    if fate.mute {
        // After the CONNACK: a hub that falls silent later.
        let _ = sender.send(Push::Mute);
    }
    let (serial, session_present) =
        shared.with(|hub| hub.connect(&device, connect.clean_session, sender.clone()));
    let mut session = Session {
        wire,
        device,
        shared: Arc::clone(&shared),
        sender,
        silence: silence(connect.keep_alive),
        // Beyond what a timer can hold is never.
        expiry: Instant::now().checked_add(seconds),
    };
    let why = session.run(session_present, pushes).await;
    if let (Err(_), Some((topic, payload))) = (&why, connect.will) {
        session.will(&topic, &payload);
    }
    let why = why.err().unwrap_or_else(|| "it said goodbye".to_owned());
    shared.with(|hub| hub.disconnect(&session.device, serial, &why));
}

/// For how long the hub waits for a packet: one and a half times the keep-alive.
fn silence(keep_alive: u16) -> Duration {
    match keep_alive {
        0 => Duration::from_secs(SILENCE_LIMIT),
        seconds => Duration::from_millis(u64::from(seconds) * 1500).min(Duration::from_secs(SILENCE_LIMIT)),
    }
}

/// Decides on a CONNECT: for how many seconds the client may stay, or the return code and the reason.
fn admit(hub: &Hub, connect: &Connect) -> Result<u64, (u8, String)> {
    let id = &connect.client_id;
    if hub.faults.fires(id, &FaultKind::RefuseConnect) {
        return Err((UNAVAILABLE, "fault: server unavailable".to_owned()));
    }
    if hub.faults.fires(id, &FaultKind::RefuseAuth) {
        return Err((NOT_AUTHORISED, "fault: not authorised".to_owned()));
    }
    authenticate(hub, connect).map_err(|why| (NOT_AUTHORISED, why))
}

fn authenticate(hub: &Hub, connect: &Connect) -> Result<u64, String> {
    let user = UserName::parse(connect.username.as_deref().ok_or("there is no user name")?)?;
    if user.device != connect.client_id {
        return Err(format!("client id {:?} and user name {:?} differ", connect.client_id, user.device));
    }
    let device = hub.find(&user.device).ok_or("there is no such device")?;
    if !device.enabled {
        return Err("the device is disabled".to_owned());
    }
    let password = connect.password.as_deref().ok_or("there is no password; X.509 is not emulated")?;
    let token = Token::parse(std::str::from_utf8(password).map_err(|_| "the password is no text")?)?;
    let resource = format!("{}/devices/{}", user.host, user.device);
    if device.authentication.scheme != Scheme::Sas {
        return Err("the device proves itself with a certificate, not with a token".to_owned());
    }
    let checked = if token.policy.is_some() {
        hub.policies.check(&token, &resource, Right::DeviceConnect)
    } else {
        hub.policies.check_key(
            &token,
            &resource,
            &[&device.authentication.keys[0], &device.authentication.keys[1]],
        )
    };
    checked.map_err(|error| error.message)?;
    Ok(hub.policies.seconds_left(&token))
}

struct Session<S> {
    wire: Wire<S>,
    device: String,
    shared: Arc<Shared>,
    /// To push to ourselves, later.
    sender: UnboundedSender<Push>,
    silence: Duration,
    expiry: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Ok is a DISCONNECT; everything else is a reason.
    async fn run(
        &mut self,
        session_present: bool,
        mut pushes: UnboundedReceiver<Push>,
    ) -> Result<(), String> {
        self.wire.write(&packet::connack(session_present, 0)).await?;
        let mut heard = Instant::now();
        loop {
            let expiry = self.expiry;
            let expired = async move {
                match expiry {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                // In this order, so that what the hub had to say goes out before what is asked next is answered.
                biased;
                () = expired => return Err("its token expired".to_owned()),
                Some(push) = pushes.recv() => match push {
                    Push::Publish { topic, payload } => self.wire.write(&packet::publish(&topic, &payload)).await?,
                    Push::Mute => self.wire.mute = true,
                    Push::Close => return Err("it was cut".to_owned()),
                },
                received = self.wire.packet() => {
                    heard = Instant::now();
                    let packet = received?.ok_or("the connection was lost")?;
                    if packet == Packet::Disconnect {
                        return Ok(());
                    }
                    self.received(packet).await?;
                }
                () = sleep_until(heard + self.silence) => return Err("keep-alive: nothing was heard".to_owned()),
            }
        }
    }

    async fn received(&mut self, packet: Packet) -> Result<(), String> {
        if self.wire.mute {
            return Ok(());
        }
        match packet {
            Packet::Publish(publish) => self.published(publish).await,
            Packet::Subscribe { id, filters } => {
                let granted: Vec<u8> = self.shared.with(|hub| {
                    filters
                        .iter()
                        .map(|(filter, qos)| hub.subscribe(&self.device, filter, *qos).unwrap_or(0x80))
                        .collect()
                });
                self.wire.write(&packet::suback(id, &granted)).await
            }
            Packet::Unsubscribe { id, filters } => {
                self.shared
                    .with(|hub| filters.iter().for_each(|filter| hub.unsubscribe(&self.device, filter)));
                self.wire.write(&packet::unsuback(id)).await
            }
            Packet::PingReq => self.wire.write(&packet::pingresp()).await,
            // Nothing is sent at QoS 1 yet; cloud-to-device messages will be.
            Packet::PubAck(_) => Ok(()),
            Packet::Connect(_) => Err("a second CONNECT".to_owned()),
            Packet::Disconnect => Ok(()),
        }
    }

    async fn published(&mut self, publish: Publish) -> Result<(), String> {
        if publish.qos > 1 {
            return Err("a message at QoS 2".to_owned());
        }
        if publish.payload.len() > MESSAGE_LIMIT {
            return Err("a message larger than 256 KiB".to_owned());
        }
        let known = inbound(&self.device, &publish.topic);
        let inbound =
            known.ok_or_else(|| format!("a message to {:?}, which is no topic here", publish.topic))?;
        // Done first, acknowledged second: whoever has the PUBACK may rely on it.
        self.act(inbound, &publish);
        if publish.qos == 1 {
            self.wire.write(&packet::puback(publish.id)).await?;
        }
        Ok(())
    }

    fn act(&self, inbound: Inbound, publish: &Publish) {
        let (shared, device) = (&self.shared, &self.device);
        match inbound {
            Inbound::Telemetry { mut properties } => {
                if publish.retain {
                    properties.push(("mqtt-retain".to_owned(), "true".to_owned()));
                }
                shared.with(|hub| hub.telemetry_arrived(device, properties, publish.payload.len()));
            }
            Inbound::MethodAnswer { rid, status } => {
                shared.with(|hub| hub.answer(device, &rid, status, &publish.payload));
            }
            Inbound::TwinGet { rid } => self.twin_request(&rid, |hub| {
                hub.twin_for_device(device).map(|twin| (200, String::new(), twin.to_string()))
            }),
            Inbound::Report { rid, expected } => self.twin_request(&rid, |hub| {
                let version = hub.report(device, &publish.payload, expected)?;
                Ok((204, format!("&$version={version}"), String::new()))
            }),
        }
    }

    /// Carries out a twin request and answers it, with the faults that may befall both.
    fn twin_request(&self, rid: &str, act: impl FnOnce(&mut Hub) -> Result<(u16, String, String), Error>) {
        let faults = &self.shared.faults;
        let failing = faults.take(&self.device, |kind| {
            if let FaultKind::FailTwin { status } = kind { Some(*status) } else { None }
        });
        let outcome = match failing {
            Some(status) => Err(Error::new(Code::from_status(status), "fault: twin requests fail")),
            None => self.shared.with(act),
        };
        let (status, more, body) = outcome.unwrap_or_else(|error| {
            let status = failing.unwrap_or(error.code.status());
            (status, String::new(), Value::to_string(&error.body()))
        });
        if faults.fires(&self.device, &FaultKind::LoseTwin) {
            return;
        }
        let topic = format!("$iothub/twin/res/{status}/?$rid={rid}{more}");
        if !self.shared.read(|hub| hub.subscribed(&self.device, TWIN_FILTER)) {
            return;
        }
        let reply = Push::Publish { topic, payload: body.into_bytes() };
        let delay = faults.take(&self.device, |kind| {
            if let FaultKind::DelayTwin { millis } = kind {
                Some(Duration::from_millis(*millis))
            } else {
                None
            }
        });
        let sender = self.sender.clone();
        // The receiver may be gone when the reply is due: the connection has ended.
        match delay {
            None => drop(sender.send(reply)),
            Some(delay) => drop(tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                drop(sender.send(reply));
            })),
        }
    }

    /// A will becomes telemetry that says so.
    fn will(&self, topic: &str, payload: &[u8]) {
        if let Some(Inbound::Telemetry { mut properties }) = inbound(&self.device, topic) {
            properties.push(("iothub-MessageType".to_owned(), "Will".to_owned()));
            self.shared.with(|hub| hub.telemetry_arrived(&self.device, properties, payload.len()));
        }
    }
}

struct Wire<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Nothing is written any more, by a fault.
    mute: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// The next packet; none at the end of the stream. Can be dropped and called again without losing a byte: what
    /// was read is in the buffer.
    async fn packet(&mut self) -> Result<Option<Packet>, String> {
        loop {
            let decoded = packet::decode(&self.buffer).map_err(|error| format!("malformed: {}", error.0))?;
            if let Some((packet, used)) = decoded {
                self.buffer.drain(..used);
                return Ok(Some(packet));
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // The usual end of a client that dies: no close_notify, no DISCONNECT.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(format!("the connection broke: {error}")),
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.mute {
            return Ok(());
        }
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(WRITING, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the connection broke: {error}")),
            Err(_) => Err("it takes nothing in".to_owned()),
        }
    }
}
