//! Direct methods: what a call asks for, and how the answer is said. Pure.
//!
//! Names and shapes come from the vendor's tutorials: `firmwareUpdate` with `{"fwPackageUri": …}` or a bare
//! address, `reboot` and `rebootDevice`; and the tutorial's desired properties serve as arguments, too. The Python
//! service library sends its payload as a JSON string that holds JSON, so a string is looked into.
//!
//! # Statuses
//!
//! | status | |
//! | --- | --- |
//! | 200 | it is done, or is told; and what the tutorials' own methods begin, since their back ends look for it |
//! | 202 | it has begun and goes on by itself |
//! | 400 404 409 412 501 | it was refused: see [`Kind`](crate::model::Kind); with the words in `Response` and a `code` |
//! | 429 500 | it never reached those who could have answered it |

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::strict;
use super::wish::{Rules, invalid, kind};
use crate::model::{Answer, Granted, Install, Origin, Reason, Refusal, Request, Vouching};

/// The largest payload either way: the hub's own limit.
const MAX_PAYLOAD: usize = 128 * 1024;
/// Most properties asked for, or set, in one call.
const MAX_PROPERTIES: usize = 64;

/// A call of a method that we know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MethodCall {
    /// What it asks for, or why that makes no sense.
    pub request: Result<Request, Reason>,
    /// Which method it is.
    pub method: Method,
}

/// The methods that we know. Names are case-sensitive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// `firmwareUpdate`: begin an update and see it through.
    FirmwareUpdate,
    /// `firmwareDownload`: begin an update and hold it when it is downloaded and verified.
    FirmwareDownload,
    /// `firmwareApply`, or `apply`: switch over to what waits to be allowed.
    FirmwareApply,
    /// `reboot`, or `rebootDevice`.
    Reboot,
    /// `factoryReset`.
    FactoryReset,
    /// `rollback`: go back to the previous system.
    Rollback,
    /// `cancel`: stop the update that runs.
    Cancel,
    /// `getStatus`, or `status`.
    GetStatus,
    /// `readProperty`.
    ReadProperty,
    /// `writeProperty`.
    WriteProperty,
}

/// All names, each with what it calls.
const NAMES: [(&str, Method); 13] = [
    ("firmwareUpdate", Method::FirmwareUpdate),
    ("firmwareDownload", Method::FirmwareDownload),
    ("firmwareApply", Method::FirmwareApply),
    ("apply", Method::FirmwareApply),
    ("reboot", Method::Reboot),
    ("rebootDevice", Method::Reboot),
    ("factoryReset", Method::FactoryReset),
    ("rollback", Method::Rollback),
    ("cancel", Method::Cancel),
    ("getStatus", Method::GetStatus),
    ("status", Method::GetStatus),
    ("readProperty", Method::ReadProperty),
    ("writeProperty", Method::WriteProperty),
];

impl Method {
    /// Whether what it asks for is an update: then a request that makes no sense must be told to those who poll the
    /// reported properties, too.
    pub fn is_update(self) -> bool {
        match self {
            Self::FirmwareUpdate | Self::FirmwareDownload => true,
            Self::FirmwareApply
            | Self::Reboot
            | Self::FactoryReset
            | Self::Rollback
            | Self::Cancel
            | Self::GetStatus
            | Self::ReadProperty
            | Self::WriteProperty => false,
        }
    }

    /// The status of what has begun: 200 for the tutorials' own methods, whose back ends look for it.
    fn begun(self) -> u16 {
        match self {
            Self::FirmwareUpdate | Self::Reboot => 200,
            Self::FirmwareDownload
            | Self::FirmwareApply
            | Self::FactoryReset
            | Self::Rollback
            | Self::Cancel
            | Self::GetStatus
            | Self::ReadProperty
            | Self::WriteProperty => 202,
        }
    }
}

/// Reads a call; `None` if there is no such method. `name` is not decoded; `vouching` says what must vouch for an image.
/// Where a method takes no payload, any is ignored, as the tutorials do.
pub fn read(name: &str, payload: &[u8], vouching: Vouching) -> Option<MethodCall> {
    let (_, method) = *NAMES.iter().find(|(known, _)| *known == name)?;
    let install = |hold| install(payload, hold, vouching).map(|it| Request::Install(Box::new(it)));
    let request = match method {
        Method::FirmwareUpdate => install(false),
        Method::FirmwareDownload => install(true),
        Method::FirmwareApply => Ok(Request::Apply),
        Method::Reboot => Ok(Request::Reboot),
        Method::FactoryReset => Ok(Request::FactoryReset),
        Method::Rollback => Ok(Request::Rollback),
        Method::Cancel => Ok(Request::Cancel),
        Method::GetStatus => Ok(Request::Status),
        Method::ReadProperty => names(payload).map(Request::ReadProperties),
        Method::WriteProperty => values(payload).map(Request::WriteProperties),
    };
    Some(MethodCall { request, method })
}

fn install(payload: &[u8], hold: bool, vouching: Vouching) -> Result<Install, Reason> {
    let fields = match json_in(payload)? {
        fields @ Value::Object(_) => fields,
        Value::String(address) => json!({ "fwPackageUri": address }),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            return Err(invalid(format!(
                "the payload must be an object with fwPackageUri or a string, found {}",
                kind(&other)
            )));
        }
    };
    let uri = &["fwPackageUri", "fwPackageURI"];
    Rules { place: "", uri, version_required: false, vouching, hold }.install(&fields, Origin::Method)
}

/// Names of properties: one, a list of them, or nothing (`null`, `{}` or no payload) for all.
fn names(payload: &[u8]) -> Result<Vec<String>, Reason> {
    if payload.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let wanted = |found: &Value| {
        invalid(format!(
            "the payload must be a name, a list of names, or null for all properties, found {}",
            kind(found)
        ))
    };
    let names = match json_in(payload)? {
        Value::Null => Vec::new(),
        Value::Object(fields) if fields.is_empty() => Vec::new(),
        Value::String(name) => vec![name],
        Value::Array(names) if names.is_empty() => {
            return Err(invalid("an empty list of names asks for nothing: send null for all".to_owned()));
        }
        Value::Array(names) => {
            let name = |name| match name {
                Value::String(name) => Ok(name),
                other @ (Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_)) => {
                    Err(invalid(format!("each name must be a string, found {}", kind(&other))))
                }
            };
            names.into_iter().map(name).collect::<Result<_, _>>()?
        }
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => return Err(wanted(&other)),
    };
    few(names.len())?;
    Ok(names)
}

/// Properties to set: an object with the value of each.
fn values(payload: &[u8]) -> Result<BTreeMap<String, Value>, Reason> {
    match json_in(payload)? {
        Value::Object(fields) if !fields.is_empty() => {
            few(fields.len())?;
            Ok(fields.into_iter().collect())
        }
        Value::Object(_) => Err(invalid("the payload names no property".to_owned())),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(invalid(format!(
                "the payload must be an object with the value of each property, found {}",
                kind(&other)
            )))
        }
    }
}

fn few(count: usize) -> Result<(), Reason> {
    if count <= MAX_PROPERTIES {
        return Ok(());
    }
    Err(invalid(format!("{count} properties in one call are more than {MAX_PROPERTIES}")))
}

/// The payload as it was meant: JSON, or a JSON string that holds an object, an array or a string.
fn json_in(payload: &[u8]) -> Result<Value, Reason> {
    if payload.len() > MAX_PAYLOAD {
        return Err(invalid(format!("the payload is larger than {MAX_PAYLOAD} bytes")));
    }
    let not_json = |flaw: strict::Flaw| invalid(format!("the payload is not JSON: {flaw}"));
    let text = match strict::parse(payload).map_err(not_json)? {
        Value::String(text) => text,
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            return Ok(other);
        }
    };
    if text.trim().is_empty() {
        // What the Python service library makes of no payload.
        return Ok(Value::Null);
    }
    match strict::parse(text.as_bytes()) {
        Ok(inner @ (Value::Object(_) | Value::Array(_) | Value::String(_))) => Ok(inner),
        Err(flaw @ strict::Flaw::Duplicate(_)) => Err(not_json(flaw)),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_)) | Err(strict::Flaw::Syntax) => {
            Ok(Value::String(text))
        }
    }
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodReply {
    /// The device's own status, like an HTTP status.
    pub status: u16,
    /// Any JSON.
    pub body: Value,
}

impl MethodReply {
    /// The engine's answer to a call of `method`, as that method says it.
    pub fn new(method: Method, answer: Answer) -> Self {
        let words = |status, words: String| Self { status, ..Self::ok(&words) };
        match answer {
            Ok(Granted::Done(done)) => words(200, done),
            Ok(Granted::Begun(begun)) => words(method.begun(), begun),
            Ok(Granted::Status(body) | Granted::Properties(body)) => Self { status: 200, body },
            Err(refusal) => Self::refused(&refusal),
        }
    }

    /// 200 with a sentence.
    pub(super) fn ok(sentence: &str) -> Self {
        Self { status: 200, body: json!({ "Response": sentence }) }
    }

    /// A refusal: the words, the code, and what is in the way.
    fn refused(refusal: &Refusal) -> Self {
        let mut body = json!({ "Response": refusal.words, "code": refusal.code });
        for (name, value) in &refusal.details {
            body[*name] = value.clone();
        }
        Self { status: refusal.kind.status(), body }
    }

    /// 404 in the tutorial's words.
    pub fn unknown_method() -> Self {
        Self { status: 404, body: json!({ "Response": "Unknown method", "code": "request.unknown-method" }) }
    }

    /// 500: the one who should have answered did not.
    pub(super) fn unanswered() -> Self {
        Self { status: 500, body: json!({ "Response": "the request was dropped", "code": "internal" }) }
    }

    /// 429: too many calls wait for their answers.
    pub(super) fn too_many() -> Self {
        Self {
            status: 429,
            body: json!({ "Response": "too many calls at once", "code": "request.too-many" }),
        }
    }

    /// Status and payload as they are sent. What the hub would not take becomes a 500 that says so.
    pub(super) fn encode(&self) -> (u16, Vec<u8>) {
        let payload = self.body.to_string().into_bytes();
        if payload.len() <= MAX_PAYLOAD {
            return (self.status, payload);
        }
        let body = json!({ "Response": "the answer is larger than the hub allows", "code": "internal" });
        (500, body.to_string().into_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
