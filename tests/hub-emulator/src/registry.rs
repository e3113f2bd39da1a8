//! One identity as the registry keeps it, a device or a module of one, with its twin, and the documents the service
//! sees of it. Not the collection of them and not who is connected (both `hub`).
//!
//! Source of the fields: the service REST reference (`Device`, `Module`, `Twin`) and what the SDKs send and demand.

mod authentication;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::error::{Code, Error};
use crate::random;
use crate::twin::Section;

pub(crate) use authentication::{Authentication, Scheme};

const REASON_LIMIT: usize = 128;

/// A device or a module, and its twin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    /// Of the device, also for a module.
    pub(crate) id: String,
    /// None is the device itself.
    pub(crate) module: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) authentication: Authentication,
    pub(crate) tags: Map<String, Value>,
    pub(crate) desired: Section,
    pub(crate) reported: Section,
    /// What configurations have put into desired: path to configuration and value.
    pub(crate) owned: BTreeMap<String, (String, Value)>,
    /// Configurations that target this device; true for those that are applied.
    pub(crate) configurations: BTreeMap<String, bool>,
    pub(crate) connection_updated: String,
    pub(crate) last_activity: String,
    /// The Plug-and-Play model that the device named when it connected; empty is none.
    pub(crate) model_id: String,
    /// Whether it is an IoT Edge gateway.
    pub(crate) edge: bool,
    /// The gateway of a device behind one; what a gateway calls itself is made up from its id.
    device_scope: Value,
    parent_scopes: Value,
    managed_by: Value,
    etag: u64,
    generation: String,
    status_reason: Value,
    status_updated: String,
    twin_version: u64,
}

/// What the hub knows about an identity at this moment and the identity itself does not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) connected: bool,
    /// Cloud-to-device messages that wait.
    pub(crate) messages: usize,
}

impl Device {
    /// A device from the body of a PUT. Empty keys are generated, as the hub does.
    pub(crate) fn create(id: &str, body: &Value) -> Result<Device, Error> {
        check_id(id, "device")?;
        Device::blank(id, None, body)
    }

    /// A module from the body of a PUT.
    pub(crate) fn create_module(device: &str, module: &str, body: &Value) -> Result<Device, Error> {
        check_id(module, "module")?;
        Device::blank(device, Some(module.to_owned()), body)
    }

    fn blank(id: &str, module: Option<String>, body: &Value) -> Result<Device, Error> {
        let mut device = Device {
            id: id.to_owned(),
            module,
            enabled: true,
            authentication: Authentication::new(),
            tags: Map::new(),
            desired: Section::desired(),
            reported: Section::reported(),
            owned: BTreeMap::new(),
            configurations: BTreeMap::new(),
            connection_updated: clock::NEVER.to_owned(),
            last_activity: clock::NEVER.to_owned(),
            model_id: String::new(),
            edge: false,
            device_scope: Value::Null,
            parent_scopes: json!([]),
            managed_by: Value::Null,
            etag: 0,
            generation: random::decimal(),
            status_reason: Value::Null,
            status_updated: clock::NEVER.to_owned(),
            twin_version: 1,
        };
        device.update(body)?;
        Ok(device)
    }

    /// What names it in the hub, and its client id in MQTT: `device` or `device/module`.
    pub(crate) fn key(&self) -> String {
        match &self.module {
            Some(module) => format!("{}/{module}", self.id),
            None => self.id.clone(),
        }
    }

    /// Takes over what a PUT names, or changes nothing and says what is wrong.
    pub(crate) fn update(&mut self, body: &Value) -> Result<(), Error> {
        let mut next = self.clone();
        next.take_over(body)?;
        next.etag += 1;
        *self = next;
        Ok(())
    }

    fn take_over(&mut self, body: &Value) -> Result<(), Error> {
        if body.get("deviceId").is_some_and(|id| *id != self.id.as_str()) {
            return Err(Error::invalid("the deviceId of the body is not that of the path"));
        }
        let module = body.get("moduleId").filter(|_| self.module.is_some());
        if module.is_some_and(|id| Some(id.as_str().unwrap_or_default()) != self.module.as_deref()) {
            return Err(Error::invalid("the moduleId of the body is not that of the path"));
        }
        if let Some(authentication) = body.get("authentication").filter(|value| value.is_object()) {
            self.authentication.update(authentication)?;
        }
        let enabled = match body.get("status").map(Value::as_str) {
            None | Some(None | Some("enabled")) => true,
            Some(Some("disabled")) => false,
            Some(Some(other)) => return Err(Error::invalid(format!("a device cannot be {other}"))),
        };
        if enabled != self.enabled {
            self.enabled = enabled;
            self.status_updated = clock::now();
        }
        self.status_reason = match body.get("statusReason") {
            None | Some(Value::Null) => Value::Null,
            Some(Value::String(reason)) if reason.chars().count() <= REASON_LIMIT => json!(reason),
            Some(_) => {
                return Err(Error::invalid(format!(
                    "statusReason is no text of at most {REASON_LIMIT} characters"
                )));
            }
        };
        if let Some(edge) = body.pointer("/capabilities/iotEdge").and_then(Value::as_bool) {
            self.edge = edge && self.module.is_none();
        }
        if let Some(scope) = body.get("deviceScope").filter(|scope| scope.is_string()) {
            self.device_scope = scope.clone();
        }
        if let Some(scopes) = body.get("parentScopes").filter(|scopes| scopes.is_array()) {
            self.parent_scopes = scopes.clone();
        }
        if let Some(managed_by) = body.get("managedBy") {
            self.managed_by = managed_by.clone();
        }
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

    /// The identity, as `/devices/{id}` and `/devices/{id}/modules/{id}` show it.
    pub(crate) fn identity(&self, standing: Standing) -> Value {
        let mut document = json!({
            "deviceId": self.id,
            "generationId": self.generation,
            "etag": self.etag(),
            "connectionState": connection_state(standing.connected),
            "connectionStateUpdatedTime": self.connection_updated,
            "lastActivityTime": self.last_activity,
            "cloudToDeviceMessageCount": standing.messages,
            "authentication": self.authentication.document(),
        });
        let more = match &self.module {
            Some(module) => json!({"moduleId": module, "managedBy": self.managed_by}),
            None => json!({
                "status": self.status(),
                "statusReason": self.status_reason,
                "statusUpdatedTime": self.status_updated,
                "capabilities": {"iotEdge": self.edge},
            }),
        };
        extend(&mut document, more);
        extend(&mut document, self.scope());
        document
    }

    /// The twin, as `/twins/{id}` and queries show it.
    pub(crate) fn twin(&self, standing: Standing) -> Value {
        let configurations: Map<String, Value> = self
            .configurations
            .iter()
            .map(|(id, applied)| (id.clone(), json!({"status": configuration_status(*applied)})))
            .collect();
        let mut document = json!({
            "deviceId": self.id,
            "etag": self.twin_etag(),
            "deviceEtag": self.etag(),
            "status": self.status(),
            "statusReason": self.status_reason,
            "statusUpdateTime": self.status_updated,
            "connectionState": connection_state(standing.connected),
            "lastActivityTime": self.last_activity,
            "cloudToDeviceMessageCount": standing.messages,
            "authenticationType": self.authentication.scheme.word(),
            "x509Thumbprint": self.authentication.thumbprints(),
            "modelId": self.model_id,
            "version": self.twin_version,
            "tags": self.tags,
            "properties": {"desired": self.desired.for_service(), "reported": self.reported.for_service()},
            "capabilities": {"iotEdge": self.edge},
            "configurations": configurations,
        });
        if let Some(module) = &self.module {
            extend(&mut document, json!({ "moduleId": module }));
        }
        extend(&mut document, self.scope());
        document
    }

    /// Only a gateway has one of its own; a device behind one names its gateway's.
    fn scope(&self) -> Value {
        if self.edge {
            let own = format!("ms-azure-iot-edge://{}-{}", self.id, self.generation);
            return json!({"deviceScope": own, "parentScopes": self.parent_scopes});
        }
        if self.device_scope.is_null() {
            return json!({});
        }
        json!({"deviceScope": self.device_scope, "parentScopes": [self.device_scope]})
    }

    pub(crate) fn status(&self) -> &'static str {
        if self.enabled { "enabled" } else { "disabled" }
    }
}

fn extend(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend(more);
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
fn check_id(id: &str, what: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-.+%_#*?!(),:=@$'".contains(c);
    if id.is_empty() || id.len() > 128 || !id.chars().all(allowed) {
        return Err(Error::invalid(format!(
            "{id:?} cannot be a {what} id: 1 to 128 ASCII letters, digits and - . + % _ # * ? ! ( ) , : = @ $ '"
        )));
    }
    Ok(())
}

/// Holds an If-Match header against an ETag. Like the real hub it heeds only quoted values: the Python SDK sends raw
/// ones for configurations and gets its way.
pub(crate) fn check_etag(if_match: Option<&str>, etag: &str) -> Result<(), Error> {
    let quoted = if_match.and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"'));
    check_raw_etag(quoted, etag)
}

/// Holds an ETag as bodies carry it, without quotes, against the present one.
pub(crate) fn check_raw_etag(wanted: Option<&str>, etag: &str) -> Result<(), Error> {
    match wanted {
        Some(wanted) if wanted != "*" && wanted != etag => {
            Err(Error::new(Code::PreconditionFailed, format!("the ETag is {etag} and not {wanted}")))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
