//! Messages from devices: a count and the latest, for people and tests. There is nothing behind it: no routes, no
//! consumers.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Hub;
use crate::clock;
use crate::events::EventKind;

/// How many are kept of each device.
const KEPT: usize = 20;
/// Longest body that is kept.
const BODY_LIMIT: usize = 4096;

/// What a device has sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Telemetry {
    count: u64,
    last: VecDeque<Received>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Received {
    at: String,
    properties: Vec<(String, String)>,
    body: Value,
    bytes: usize,
}

impl Hub {
    /// A message has come. Properties in the order of the topic, system ones with their `$.` names.
    pub(crate) fn telemetry_arrived(&mut self, id: &str, properties: Vec<(String, String)>, payload: &[u8]) {
        let (body, bytes) = (readable(payload), payload.len());
        let received =
            Received { at: clock::now(), properties: properties.clone(), body: body.clone(), bytes };
        let telemetry = self.telemetry.entry(id.to_owned()).or_default();
        telemetry.count += 1;
        if telemetry.last.len() == KEPT {
            telemetry.last.pop_front();
        }
        telemetry.last.push_back(received);
        if let Some(device) = self.find_mut(id) {
            device.last_activity = clock::now();
        }
        self.events.emit(EventKind::Telemetry { device: id.to_owned(), properties, body, bytes });
    }

    /// How many telemetry messages the device has sent.
    pub fn telemetry_count(&self, id: &str) -> u64 {
        self.telemetry.get(id).map_or(0, |telemetry| telemetry.count)
    }

    /// The latest telemetry messages of the device, oldest first: `enqueuedTimeUtc`, `properties`, `body` (as JSON if
    /// it is, else as text, else in base64; null if it is long) and `bytes`.
    pub fn telemetry(&self, id: &str) -> Vec<Value> {
        let document = |received: &Received| {
            let properties: Map<String, Value> =
                received.properties.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            json!({
                "enqueuedTimeUtc": received.at,
                "properties": properties,
                "body": received.body,
                "bytes": received.bytes,
            })
        };
        self.telemetry
            .get(id)
            .map(|telemetry| telemetry.last.iter().map(document).collect())
            .unwrap_or_default()
    }
}

fn readable(payload: &[u8]) -> Value {
    if payload.len() > BODY_LIMIT {
        return Value::Null;
    }
    serde_json::from_slice(payload).unwrap_or_else(|_| match std::str::from_utf8(payload) {
        Ok(text) => json!(text),
        Err(_) => json!(STANDARD.encode(payload)),
    })
}
