//! The part of the handle that concerns messages, both ways.

use serde_json::Value;

use super::Emulator;
use crate::error::Error;

impl Emulator {
    /// Sends a cloud-to-device message; how many wait then. `body` is a text, or anything that is then sent as JSON
    /// (`bodyBase64` for other bytes); `properties`, in which null is a property without a value, `messageId`,
    /// `correlationId`, `contentType`, `contentEncoding`, `ack` and `ttlSeconds` may be left out.
    ///
    /// # Errors
    /// If there is no such device, fifty messages wait already, or something in the message cannot be.
    pub fn send_message(&self, id: &str, message: &Value) -> Result<u64, Error> {
        let sent = self.shared.with(|hub| hub.send_message(id, message))?;
        Ok(sent["pending"].as_u64().unwrap_or_default())
    }

    /// The cloud-to-device messages that wait for a device or for its acknowledgement.
    pub fn waiting_messages(&self, id: &str) -> Value {
        self.shared.read(|hub| hub.messages(id))
    }

    /// The latest telemetry messages of a device, oldest first; see [`Hub::telemetry`](crate::Hub::telemetry).
    pub fn telemetry(&self, id: &str) -> Vec<Value> {
        self.shared.read(|hub| hub.telemetry(id))
    }
}
