//! One device's connection from CONNECT to its end. Not the device's state, which is the hub's.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::admission::{Admitted, admit};
use super::packet::{self, Connect, Packet, Publish};
use super::registration::Registrant;
use super::topics::{Inbound, inbound};
use super::wire::Wire;
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::faults::FaultKind;
use crate::hub::{Hub, Push};
use crate::server::Caller;
use crate::shared::Shared;

/// A client that says nothing after the TLS handshake is waited for this long.
const ARRIVAL: Duration = Duration::from_secs(60);
/// The hub's longest patience, whatever the client's keep-alive says.
const SILENCE_LIMIT: u64 = 1767;
const TWIN_FILTER: &str = "$iothub/twin/res/#";
/// Largest message from a device.
const MESSAGE_LIMIT: usize = 256 * 1024;

/// Serves one connection until it ends.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: Arc<Shared>, caller: Caller) {
    let mut wire = Wire::new(stream);
    // Anything but a CONNECT in time is closed without a word.
    let Ok(Ok(Some(Packet::Connect(connect)))) = tokio::time::timeout(ARRIVAL, wire.packet()).await else {
        return;
    };
    match shared.read(|hub| admit(&shared.place, hub, &connect, &caller.peer)) {
        Ok(Admitted::Identity { model, seconds }) => {
            serve_identity(wire, shared, connect, model, expiry(seconds)).await;
        }
        Ok(Admitted::Registrant { scope, credentials, seconds }) => {
            let (id, here) = (connect.client_id, caller.here);
            let (silence, expiry) = (silence(connect.keep_alive), expiry(seconds));
            let mut registrant =
                Registrant { wire, shared, scope, id, credentials, here, silence, expiry, subscribed: false };
            // Nothing is kept of it, however it ended.
            let _ = registrant.run().await;
        }
        Err((code, why)) => {
            shared.events.emit(EventKind::Refused { device: connect.client_id, why });
            shared.touch();
            // It is being closed anyway.
            let _ = wire.write(&packet::connack(false, code)).await;
            wire.close().await;
        }
    }
}

async fn serve_identity<S: AsyncRead + AsyncWrite + Unpin>(
    wire: Wire<S>,
    shared: Arc<Shared>,
    connect: Connect,
    model: Option<String>,
    expiry: Option<Instant>,
) {
    let device = connect.client_id;
    let fate = shared.read(|hub| hub.fate(&device));
    let expiry = fate.expired.map_or(expiry, |expired| Instant::now().checked_add(expired));
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
    let (serial, session_present) = shared.with(|hub| {
        hub.note_model(&device, model);
        hub.connect(&device, connect.clean_session, sender.clone())
    });
    let silence = silence(connect.keep_alive);
    let mut session = Session { wire, device, shared: Arc::clone(&shared), sender, silence, expiry };
    let why = session.run(session_present, pushes).await;
    if let (Err(_), Some((topic, payload))) = (&why, connect.will) {
        session.will(&topic, &payload);
    }
    let polite = why.is_ok();
    let why = why.err().unwrap_or_else(|| "it said goodbye".to_owned());
    shared.with(|hub| hub.disconnect(&session.device, serial, &why));
    if polite {
        session.wire.close().await;
    }
}

/// When a token ends. Beyond what a timer can hold is never.
fn expiry(seconds: Option<u64>) -> Option<Instant> {
    seconds
        .and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds.min(u64::from(u32::MAX)))))
}

/// For how long the hub waits for a packet: one and a half times the keep-alive.
fn silence(keep_alive: u16) -> Duration {
    match keep_alive {
        0 => Duration::from_secs(SILENCE_LIMIT),
        seconds => Duration::from_millis(u64::from(seconds) * 1500).min(Duration::from_secs(SILENCE_LIMIT)),
    }
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
                    Push::Message { packet, again, topic, payload } => {
                        let bytes = match packet {
                            Some(id) => packet::publish_to_acknowledge(&topic, &payload, id, again),
                            None => packet::publish(&topic, &payload),
                        };
                        self.wire.write(&bytes).await?;
                    }
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
            Packet::PubAck(id) => {
                self.shared.with(|hub| hub.complete_message(&self.device, id));
                Ok(())
            }
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
                shared.with(|hub| hub.telemetry_arrived(device, properties, &publish.payload));
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
            self.shared.with(|hub| hub.telemetry_arrived(&self.device, properties, payload));
        }
    }
}
