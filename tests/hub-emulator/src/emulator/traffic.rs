//! The part of the handle that concerns what devices and cloud tell each other: messages, and reports of devices that
//! are only played.

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

    /// Merges into a device's reported properties as if it had reported that itself, as nobody else can: for devices
    /// that are only played, a hundred thousand of them if need be. Their new version.
    ///
    /// # Errors
    /// If there is no such device, or the patch is no object or breaks a limit.
    pub fn report(&self, id: &str, patch: &Value) -> Result<u64, Error> {
        self.shared.with(|hub| hub.report(id, patch.to_string().as_bytes(), None))
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
