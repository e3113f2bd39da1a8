//! One device as the identity registry keeps it, with its twin, and the documents the service sees of it. Not the
//! collection of them and not who is connected (both `hub`).
//!
//! Source of the fields: the service REST reference (`Device`, `Twin`) and what the SDKs send and demand.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::error::{Code, Error};
use crate::random;
use crate::sas;
use crate::twin::Section;

/// A device and its twin.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) id: String,
    pub(crate) enabled: bool,
    pub(crate) primary_key: String,
    pub(crate) secondary_key: String,
    pub(crate) tags: Map<String, Value>,
    pub(crate) desired: Section,
    pub(crate) reported: Section,
    /// What configurations have put into desired: path to configuration and value.
    pub(crate) owned: BTreeMap<String, (String, Value)>,
    /// Configurations that target this device; true for those that are applied.
    pub(crate) configurations: BTreeMap<String, bool>,
    pub(crate) connection_updated: String,
    pub(crate) last_activity: String,
    /// Kept as sent: certificates are checked nowhere yet.
    authentication: Map<String, Value>,
    capabilities: Value,
    etag: u64,
    generation: String,
    status_reason: Value,
    status_updated: String,
    twin_version: u64,
}

impl Device {
    /// A device from the body of a PUT. Empty keys are generated, as the hub does.
    pub(crate) fn create(id: &str, body: &Value) -> Result<Device, Error> {
        check_id(id)?;
        let mut device = Device {
            id: id.to_owned(),
            enabled: true,
            primary_key: random::key(),
            secondary_key: random::key(),
            tags: Map::new(),
            desired: Section::desired(),
            reported: Section::reported(),
            owned: BTreeMap::new(),
            configurations: BTreeMap::new(),
            connection_updated: clock::NEVER.to_owned(),
            last_activity: clock::NEVER.to_owned(),
            authentication: Map::new(),
            capabilities: json!({"iotEdge": false}),
            etag: 0,
            generation: random::token(8),
            status_reason: Value::Null,
            status_updated: clock::NEVER.to_owned(),
            twin_version: 1,
        };
        device.update(body)?;
        Ok(device)
    }

    /// Takes over what a PUT names. Keys that are empty or absent stay: the Node SDK sends empty ones when its
    /// caller gave none.
    pub(crate) fn update(&mut self, body: &Value) -> Result<(), Error> {
        if body.get("deviceId").is_some_and(|id| *id != self.id.as_str()) {
            return Err(Error::invalid("the deviceId of the body is not that of the path"));
        }
        let keys = body.pointer("/authentication/symmetricKey");
        let key = |name: &str| {
            let key = keys.and_then(|keys| keys.get(name)).and_then(Value::as_str).unwrap_or_default();
            if key.is_empty() || sas::is_key(key) {
                return Ok(key.to_owned());
            }
            Err(Error::invalid(format!("{name} is not base64 of 16 to 64 bytes")))
        };
        let (primary, secondary) = (key("primaryKey")?, key("secondaryKey")?);
        let enabled = match body.get("status").map(Value::as_str) {
            None | Some(None | Some("enabled")) => true,
            Some(Some("disabled")) => false,
            Some(Some(other)) => return Err(Error::invalid(format!("a device cannot be {other}"))),
        };
        if !primary.is_empty() {
            self.primary_key = primary;
        }
        if !secondary.is_empty() {
            self.secondary_key = secondary;
        }
        if enabled != self.enabled {
            self.enabled = enabled;
            self.status_updated = clock::now();
        }
        self.status_reason = body.get("statusReason").cloned().unwrap_or_default();
        if let Some(authentication) = body.get("authentication").and_then(Value::as_object) {
            self.authentication = authentication.clone();
        }
        if let Some(capabilities) = body.get("capabilities").filter(|value| value.is_object()) {
            self.capabilities = capabilities.clone();
        }
        self.etag += 1;
        Ok(())
    }

    /// To be called after every change of tags, desired or reported.
    pub(crate) fn twin_changed(&mut self) {
        self.twin_version += 1;
    }

    /// Unquoted. Looks like the hub's: base64 of a decimal number.
    pub(crate) fn etag(&self) -> String {
        STANDARD.encode(self.etag.to_string())
    }

    /// Unquoted. Looks like the hub's: base64 of a counter of eight bytes.
    pub(crate) fn twin_etag(&self) -> String {
        STANDARD.encode(self.twin_version.to_be_bytes())
    }

    /// The identity, as `/devices/{id}` shows it.
    pub(crate) fn identity(&self, connected: bool) -> Value {
        json!({
            "deviceId": self.id,
            "generationId": self.generation,
            "etag": self.etag(),
            "connectionState": connection_state(connected),
            "status": self.status(),
            "statusReason": self.status_reason,
            "connectionStateUpdatedTime": self.connection_updated,
            "statusUpdatedTime": self.status_updated,
            "lastActivityTime": self.last_activity,
            "cloudToDeviceMessageCount": 0,
            "authentication": {
                "symmetricKey": {"primaryKey": self.primary_key, "secondaryKey": self.secondary_key},
                "x509Thumbprint": self.thumbprint(),
                "type": self.authentication_type(),
            },
            "capabilities": self.capabilities,
        })
    }

    /// The twin, as `/twins/{id}` and queries show it.
    pub(crate) fn twin(&self, connected: bool) -> Value {
        let configurations: Map<String, Value> = self
            .configurations
            .iter()
            .map(|(id, applied)| (id.clone(), json!({"status": configuration_status(*applied)})))
            .collect();
        json!({
            "deviceId": self.id,
            "etag": self.twin_etag(),
            "deviceEtag": self.etag(),
            "status": self.status(),
            "statusReason": self.status_reason,
            "statusUpdateTime": self.status_updated,
            "connectionState": connection_state(connected),
            "lastActivityTime": self.last_activity,
            "cloudToDeviceMessageCount": 0,
            "authenticationType": self.authentication_type(),
            "x509Thumbprint": self.thumbprint(),
            "modelId": "",
            "version": self.twin_version,
            "tags": self.tags,
            "properties": {"desired": self.desired.for_service(), "reported": self.reported.for_service()},
            "capabilities": self.capabilities,
            "configurations": configurations,
        })
    }

    fn status(&self) -> &'static str {
        if self.enabled { "enabled" } else { "disabled" }
    }

    fn authentication_type(&self) -> Value {
        self.authentication.get("type").filter(|kind| kind.is_string()).cloned().unwrap_or(json!("sas"))
    }

    fn thumbprint(&self) -> Value {
        let none = json!({"primaryThumbprint": null, "secondaryThumbprint": null});
        self.authentication.get("x509Thumbprint").filter(|value| value.is_object()).cloned().unwrap_or(none)
    }
}

/// The word in `twin.configurations.[[id]].status`.
pub(crate) fn configuration_status(applied: bool) -> &'static str {
    if applied { "Applied" } else { "Targeted" }
}

fn connection_state(connected: bool) -> &'static str {
    if connected { "Connected" } else { "Disconnected" }
}

/// 1 to 128 characters out of the hub's set.
fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-.+%_#*?!(),:=@$'".contains(c);
    if id.is_empty() || id.len() > 128 || !id.chars().all(allowed) {
        return Err(Error::invalid(format!("{id:?} cannot be a device id")));
    }
    Ok(())
}

/// Holds an If-Match header against an ETag. Like the real hub it heeds only quoted values: the Python SDK sends raw
/// ones for configurations and gets its way.
pub(crate) fn check_etag(if_match: Option<&str>, etag: &str) -> Result<(), Error> {
    let quoted = if_match.and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"'));
    match quoted {
        Some(wanted) if wanted != "*" && wanted != etag => {
            Err(Error::new(Code::PreconditionFailed, format!("the ETag is {etag} and not {wanted}")))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn empty_keys_are_made_at_creation_and_kept_at_update() {
        let empty = json!({"deviceId": "d", "authentication": {"symmetricKey": {"primaryKey": "", "secondaryKey": ""}}});
        let mut device = Device::create("d", &empty).unwrap();
        let key = device.primary_key.clone();
        assert!(sas::is_key(&key));
        assert_ne!(key, device.secondary_key);
        device.update(&json!({"deviceId": "d", "status": "disabled"})).unwrap();
        assert_eq!(device.primary_key, key);
        assert!(!device.enabled);
        assert_eq!(device.identity(false)["etag"], "Mg==");
    }

    #[test]
    fn impossible_devices_are_refused() {
        for (id, body) in [
            ("", json!({})),
            ("a/b", json!({})),
            ("a", json!({"deviceId": "b"})),
            ("a", json!({"status": "asleep"})),
            ("a", json!({"authentication": {"symmetricKey": {"primaryKey": "short"}}})),
        ] {
            assert!(Device::create(id, &body).is_err(), "{id} {body}");
        }
        assert!(Device::create(&"a".repeat(129), &json!({})).is_err());
    }

    #[test]
    fn only_a_quoted_etag_that_differs_is_a_failed_precondition() {
        for (header, holds) in [
            (None, true),
            (Some("\"*\""), true),
            (Some("\"MQ==\""), true),
            (Some("Mg=="), true),
            (Some("*"), true),
            (Some("\"Mg==\""), false),
        ] {
            assert_eq!(check_etag(header, "MQ==").is_ok(), holds, "{header:?}");
        }
    }
}
