//! The provisioning service's side of MQTT: a device asks to be registered and how that fares. Not the decision,
//! which is the hub's. Called by `connection` once a CONNECT turns out to be for it.
//!
//! Nothing of it outlives the connection: this service keeps no sessions.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::packet::{self, Packet, Publish};
use super::wire::Wire;
use crate::escape;
use crate::provisioning::{Answer, Credentials, Refusal};
use crate::shared::Shared;

const FILTER: &str = "$dps/registrations/res/#";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register";
const STATUS: &str = "$dps/registrations/GET/iotdps-get-operationstatus";

pub(super) struct Registrant<S> {
    pub(super) wire: Wire<S>,
    pub(super) shared: Arc<Shared>,
    pub(super) scope: String,
    pub(super) id: String,
    pub(super) credentials: Credentials,
    /// This hub, by the door the device came in through.
    pub(super) here: String,
    pub(super) silence: Duration,
    pub(super) expiry: Option<Instant>,
    pub(super) subscribed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Registrant<S> {
    /// Ok is a DISCONNECT; everything else is a reason.
    pub(super) async fn run(&mut self) -> Result<(), String> {
        self.wire.write(&packet::connack(false, 0)).await?;
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
                biased;
                () = expired => return Err("its token expired".to_owned()),
                received = self.wire.packet() => {
                    heard = Instant::now();
                    let packet = received?.ok_or("the connection was lost")?;
                    if packet == Packet::Disconnect {
                        self.wire.close().await;
                        return Ok(());
                    }
                    self.received(packet).await?;
                }
                () = sleep_until(heard + self.silence) => return Err("keep-alive: nothing was heard".to_owned()),
            }
        }
    }

    async fn received(&mut self, packet: Packet) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => self.published(publish).await,
            Packet::Subscribe { id, filters } => {
                let grant =
                    |(filter, qos): &(String, u8)| if filter == FILTER { (*qos).min(1) } else { 0x80 };
                let granted: Vec<u8> = filters.iter().map(grant).collect();
                self.subscribed |= granted.iter().any(|granted| *granted != 0x80);
                self.wire.write(&packet::suback(id, &granted)).await
            }
            Packet::Unsubscribe { id, filters } => {
                self.subscribed &= !filters.iter().any(|filter| filter == FILTER);
                self.wire.write(&packet::unsuback(id)).await
            }
            Packet::PingReq => self.wire.write(&packet::pingresp()).await,
            Packet::PubAck(_) | Packet::Disconnect => Ok(()),
            Packet::Connect(_) => Err("a second CONNECT".to_owned()),
        }
    }

    async fn published(&mut self, publish: Publish) -> Result<(), String> {
        if publish.qos > 1 {
            return Err("a message at QoS 2".to_owned());
        }
        let (rid, answer) = self
            .answer(&publish)
            .ok_or_else(|| format!("a message to {:?}, which is no topic here", publish.topic))?;
        if publish.qos == 1 {
            self.wire.write(&packet::puback(publish.id)).await?;
        }
        let (status, retry_after, body) = match answer {
            Ok(Answer::Wait { body, retry_after }) => (202, Some(retry_after), body),
            Ok(Answer::Done { body }) => (200, None, body),
            Err(refusal) => (refusal.status, refusal.retry_after, refusal.body()),
        };
        if !self.subscribed {
            return Ok(());
        }
        let again = retry_after.map(|seconds| format!("&retry-after={seconds}")).unwrap_or_default();
        let topic = format!("$dps/registrations/res/{status}/?$rid={rid}{again}");
        self.wire.write(&packet::publish(&topic, body.to_string().as_bytes())).await
    }

    /// The request id and the answer; none for a topic that does not exist.
    fn answer(&self, publish: &Publish) -> Option<(String, Result<Answer, Refusal>)> {
        let (path, query) = publish.topic.split_once("/?")?;
        let query = escape::pairs(query);
        let rid = escape::first(&query, "$rid")?.to_owned();
        let answer = match path {
            REGISTER => match body(&publish.payload) {
                Ok(body) => self
                    .shared
                    .with(|hub| hub.register(&self.scope, &self.id, &self.credentials, &self.here, &body)),
                Err(refusal) => Err(refusal),
            },
            STATUS => {
                let operation = escape::first(&query, "operationId")?;
                self.shared
                    .with(|hub| hub.registration_status(&self.scope, &self.id, &self.credentials, operation))
            }
            _ => return None,
        };
        Some((rid, answer))
    }
}

/// A register request may come with nothing in it.
fn body(payload: &[u8]) -> Result<Value, Refusal> {
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(payload).map_err(|error| Refusal::invalid(format!("the body is no JSON: {error}")))
}
