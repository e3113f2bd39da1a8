//! Cloud-to-device messages: a queue per device, delivery at QoS 1 while the device listens, completion by its
//! PUBACK. Not the bytes (`mqtt`).
//!
//! Source: "Understand cloud-to-device messaging". The real hub takes these messages over AMQP alone, which is not
//! emulated: here they come in through `POST /emulator/devices/{id}/messages` or the library. A device of MQTT can
//! only complete a message, not reject or abandon it.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Hub, Push};
use crate::clock;
use crate::error::{Code, Error};
use crate::escape;
use crate::events::EventKind;
use crate::faults::FaultKind;
use crate::random;

/// Most messages that wait for one device.
const QUEUE_LIMIT: usize = 50;
/// Most bytes of a message, properties included.
const SIZE_LIMIT: usize = 64 * 1024;
/// Seconds that a message waits unless it says otherwise, and may wait at most.
const DEFAULT_LIFE: u64 = 3600;
const LONGEST_LIFE: u64 = 2 * 24 * 3600;
/// A message that was sent so often and never acknowledged is given up.
const DELIVERY_LIMIT: u32 = 10;

/// A message that waits for its device or for the device's PUBACK.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Message {
    /// Its packet id, the same at every delivery.
    packet: u16,
    /// In the order of the topic's bag. No value is not an empty value.
    properties: Vec<(String, Option<String>)>,
    /// Base64.
    body: String,
    /// Milliseconds since 1970.
    expires: u64,
    deliveries: u32,
}

impl Message {
    /// Reads the body of a request: `body` (a text; anything else is sent as JSON) or `bodyBase64`, `properties`
    /// (null is a property without a value), `messageId`, `correlationId`, `userId`, `contentType`,
    /// `contentEncoding`, `ack`, `ttlSeconds`.
    fn read(device: &str, body: &Value, packet: u16) -> Result<Message, Error> {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let bytes = match (text("bodyBase64"), body.get("body")) {
            (Some(text), _) => {
                STANDARD.decode(text).map_err(|_| Error::invalid("bodyBase64 is not base64"))?
            }
            (None, Some(Value::String(text))) => text.clone().into_bytes(),
            (None, Some(value)) => value.to_string().into_bytes(),
            (None, None) => Vec::new(),
        };
        let life = match body.get("ttlSeconds") {
            None | Some(Value::Null) => DEFAULT_LIFE,
            Some(value) => value.as_u64().filter(|life| *life <= LONGEST_LIFE).ok_or_else(|| {
                Error::invalid(format!("ttlSeconds is not a count of at most {LONGEST_LIFE} seconds"))
            })?,
        };
        let to = format!("/devices/{device}/messages/devicebound");
        let mut properties = vec![("$.to".to_owned(), Some(to))];
        let id = text("messageId").map_or_else(|| random::token(16), str::to_owned);
        properties.push(("$.mid".to_owned(), Some(id)));
        let named = [
            ("correlationId", "$.cid"),
            ("userId", "$.uid"),
            ("contentType", "$.ct"),
            ("contentEncoding", "$.ce"),
            ("ack", "iothub-ack"),
        ];
        for (name, key) in named {
            properties.extend(text(name).map(|value| (key.to_owned(), Some(value.to_owned()))));
        }
        for (key, value) in body.get("properties").and_then(Value::as_object).unwrap_or(&Map::new()) {
            let value = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    Some(value.to_string())
                }
            };
            properties.push((key.clone(), value));
        }
        let length =
            |(key, value): &(String, Option<String>)| key.len() + value.as_ref().map_or(0, String::len);
        if bytes.len() + properties.iter().map(length).sum::<usize>() > SIZE_LIMIT {
            return Err(Error::new(Code::MessageTooLarge, "a message to a device is larger than 64 KiB"));
        }
        Ok(Message {
            packet,
            properties,
            body: STANDARD.encode(bytes),
            expires: clock::millis_now() + life * 1000,
            deliveries: 0,
        })
    }

    /// The topic with the property bag, encoded as the real hub does it, dollar signs too.
    fn topic(&self, device: &str) -> String {
        let pair = |(key, value): &(String, Option<String>)| match value {
            Some(value) => format!("{}={}", escape::encode(key), escape::encode(value)),
            None => escape::encode(key),
        };
        let bag: Vec<String> = self.properties.iter().map(pair).collect();
        format!("devices/{device}/messages/devicebound/{}", bag.join("&"))
    }

    fn id(&self) -> &str {
        let found = self.properties.iter().find(|(key, _)| key == "$.mid");
        found.and_then(|(_, value)| value.as_deref()).unwrap_or_default()
    }
}

fn filter(device: &str) -> String {
    format!("devices/{device}/messages/devicebound/#")
}

impl Hub {
    /// Queues a message for a device and sends it if the device listens: how it stands then.
    pub(crate) fn send_message(&mut self, key: &str, body: &Value) -> Result<Value, Error> {
        if self.device(key)?.module.is_some() {
            return Err(Error::new(Code::InvalidOperation, "messages go to devices, not to modules"));
        }
        self.drop_expired(key);
        let queue = self.messages.entry(key.to_owned()).or_default();
        if queue.len() >= QUEUE_LIMIT {
            let why = format!("{QUEUE_LIMIT} messages wait for {key} already");
            return Err(Error::new(Code::QueueFull, why));
        }
        self.message_serial += 1;
        // Fifty are in use at most, and zero is none.
        let packet = u16::try_from(self.message_serial % u64::from(u16::MAX)).unwrap_or_default() + 1;
        let message = Message::read(key, body, packet)?;
        let id = message.id().to_owned();
        queue.push_back(message);
        self.deliver_messages(key);
        Ok(json!({"messageId": id, "pending": self.message_count(key)}))
    }

    /// Sends what waits and has not been sent on this connection, if the device listens.
    pub(crate) fn deliver_messages(&mut self, key: &str) {
        self.drop_expired(key);
        let Some(qos) = self.sessions.get(key).and_then(|session| session.granted(&filter(key))) else {
            return;
        };
        let (Some(link), Some(queue)) = (self.links.get_mut(key), self.messages.get_mut(key)) else { return };
        for message in queue.iter_mut() {
            if !link.in_flight.insert(message.packet) {
                continue;
            }
            message.deliveries += 1;
            let payload = STANDARD.decode(&message.body).unwrap_or_default();
            let push = Push::Message {
                packet: (qos > 0).then_some(message.packet),
                again: message.deliveries > 1,
                topic: message.topic(key),
                payload,
            };
            let twice = self.faults.fires(key, &FaultKind::DuplicateC2d).then(|| push.clone());
            if link.out.send(push).is_err() {
                return;
            }
            // The link was there a moment ago.
            let _ = twice.map(|twin| link.out.send(twin));
            self.events.emit(EventKind::MessageSent { device: key.to_owned(), id: message.id().to_owned() });
        }
        if qos == 0 {
            // Nobody will acknowledge them.
            self.purge_messages(key);
        }
    }

    /// The device's PUBACK: the message is done with.
    pub(crate) fn complete_message(&mut self, key: &str, packet: u16) {
        let known = self.links.get_mut(key).is_some_and(|link| link.in_flight.remove(&packet));
        let Some(queue) = self.messages.get_mut(key).filter(|_| known) else { return };
        let Some(at) = queue.iter().position(|message| message.packet == packet) else { return };
        if let Some(message) = queue.remove(at) {
            let (device, id) = (key.to_owned(), message.id().to_owned());
            self.events.emit(EventKind::MessageCompleted { device, id });
        }
    }

    /// Expired messages and those that were sent too often go.
    fn drop_expired(&mut self, key: &str) {
        let Some(queue) = self.messages.get_mut(key) else { return };
        let now = clock::millis_now();
        let flying = |packet: u16| self.links.get(key).is_some_and(|link| link.in_flight.contains(&packet));
        let dead = |message: &Message| {
            message.expires <= now || (message.deliveries >= DELIVERY_LIMIT && !flying(message.packet))
        };
        for message in queue.iter().filter(|message| dead(message)) {
            let (device, id) = (key.to_owned(), message.id().to_owned());
            self.events.emit(EventKind::MessageDropped { device, id });
        }
        queue.retain(|message| !dead(message));
    }

    /// How many messages wait for a device.
    pub(crate) fn message_count(&self, key: &str) -> usize {
        let now = clock::millis_now();
        let waits = |queue: &VecDeque<Message>| queue.iter().filter(|message| message.expires > now).count();
        self.messages.get(key).map_or(0, waits)
    }

    /// What waits, for people.
    pub(crate) fn messages(&self, key: &str) -> Value {
        let document = |message: &Message| {
            let properties: Map<String, Value> =
                message.properties.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({
                "messageId": message.id(),
                "properties": properties,
                "bodyBase64": message.body,
                "expiryTimeUtc": clock::iso_millis(message.expires),
                "deliveryCount": message.deliveries,
            })
        };
        self.messages.get(key).map(|queue| queue.iter().map(document).collect()).unwrap_or(json!([]))
    }

    /// Throws away what waits for a device; how many that were.
    pub(crate) fn purge_messages(&mut self, key: &str) -> usize {
        let count = self.message_count(key);
        self.messages.remove(key);
        if let Some(link) = self.links.get_mut(key) {
            link.in_flight.clear();
        }
        count
    }
}
