//! Direct methods: what a call asks for, and what is answered. Pure.
//!
//! Names and shapes come from the vendor's tutorials: `firmwareUpdate` with `{"fwPackageUri": …}` or a bare
//! address, `reboot` and `rebootDevice`; and the tutorial's desired properties serve as arguments, too. The Python
//! service library sends its payload as a JSON string that holds JSON, so a string is looked into.

use serde_json::{Value, json};

use super::wish::{Rules, invalid, kind};
use crate::model::{Failure, Install, Origin, Reason};

/// The largest payload either way: the hub's own limit.
const MAX_PAYLOAD: usize = 128 * 1024;

/// What a direct method asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MethodCall {
    /// `firmwareUpdate`: a well-formed wish, or why it is none. The refusal is handed on, too, since the reported
    /// properties must tell pollers of it; it is answered with [`MethodReply::refused`].
    FirmwareUpdate(Result<Install, Reason>),
    /// `reboot` or `rebootDevice`. The payload is ignored, as the tutorial does.
    Reboot,
    /// `cancel`: stop the update that runs.
    Cancel,
    /// `rollback`: go back to the previous system.
    Rollback,
    /// `apply`: consent to switching over.
    Apply,
    /// `status`: tell what is going on.
    Status,
    /// Nothing we know.
    Unknown,
}

/// Reads a call. `name` is case-sensitive and not decoded; `allow_undigested` is `trust.allow_undigested`.
pub fn read(name: &str, payload: &[u8], allow_undigested: bool) -> MethodCall {
    match name {
        "firmwareUpdate" => MethodCall::FirmwareUpdate(firmware_update(payload, allow_undigested)),
        "reboot" | "rebootDevice" => MethodCall::Reboot,
        "cancel" => MethodCall::Cancel,
        "rollback" => MethodCall::Rollback,
        "apply" => MethodCall::Apply,
        "status" => MethodCall::Status,
        _ => MethodCall::Unknown,
    }
}

fn firmware_update(payload: &[u8], allow_undigested: bool) -> Result<Install, Reason> {
    if payload.len() > MAX_PAYLOAD {
        return Err(invalid(format!("the payload is larger than {MAX_PAYLOAD} bytes")));
    }
    let value: Value =
        serde_json::from_slice(payload).map_err(|_| invalid("the payload is not JSON".to_owned()))?;
    let fields = match value {
        fields @ Value::Object(_) => fields,
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(fields @ Value::Object(_)) => fields,
            Ok(Value::String(inner)) => json!({ "fwPackageUri": inner }),
            Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | Err(_) => {
                json!({ "fwPackageUri": text })
            }
        },
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            return Err(invalid(format!(
                "the payload must be an object with fwPackageUri or a string, found {}",
                kind(&other)
            )));
        }
    };
    let uri = &["fwPackageUri", "fwPackageURI"];
    Rules { place: "", uri, version_required: false, allow_undigested }.install(&fields, Origin::Method)
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
    /// 200 with a sentence.
    pub fn ok(sentence: &str) -> Self {
        Self { status: 200, body: json!({ "Response": sentence }) }
    }

    /// `firmwareUpdate` was accepted and goes on in the background; the tutorial's words.
    pub fn started() -> Self {
        Self::ok("Firmware update started")
    }

    /// 409: not now, because something else is going on.
    pub fn busy(sentence: &str) -> Self {
        Self { status: 409, body: json!({ "Response": sentence }) }
    }

    /// 404 in the tutorial's words.
    pub fn unknown_method() -> Self {
        Self { status: 404, body: json!({ "Response": "Unknown method" }) }
    }

    /// 403 if it could be allowed in the configuration, 409 if it clashes with what this device knows or does, 400
    /// for all else that a request can get wrong; with the sentence and the public code.
    pub fn refused(reason: &Reason) -> Self {
        let status = match () {
            () if reason.failure == Failure::RequestUnverifiable => 403,
            () if matches!(reason.failure, Failure::NoPrevious | Failure::RolledBackBefore) => 409,
            () => 400,
        };
        Self { status, body: json!({ "Response": reason.detail, "code": reason.failure.code() }) }
    }

    /// 500: the one who should have answered did not.
    pub(super) fn unanswered() -> Self {
        Self { status: 500, body: json!({ "Response": "the request was dropped" }) }
    }

    /// 429: too many calls wait for their answers.
    pub(super) fn too_many() -> Self {
        Self { status: 429, body: json!({ "Response": "too many calls at once" }) }
    }

    /// Status and payload as they are sent. What the hub would not take becomes a 500 that says so.
    pub(super) fn encode(&self) -> (u16, Vec<u8>) {
        let payload = self.body.to_string().into_bytes();
        if payload.len() <= MAX_PAYLOAD {
            return (self.status, payload);
        }
        (500, json!({ "Response": "the answer is larger than the hub allows" }).to_string().into_bytes())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::Location;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn update(payload: &str, allow: bool) -> Result<Install, Reason> {
        let call = read("firmwareUpdate", payload.as_bytes(), allow);
        let MethodCall::FirmwareUpdate(result) = call else { panic!("{call:?}") };
        result
    }

    fn address(install: Install) -> String {
        match install.artifact.location {
            Location::Url(url) => url.expose().to_owned(),
            Location::File(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn every_spelling_of_a_payload_is_one_request() {
        let object = r#"{"fwPackageUri":"https://h/fw"}"#;
        for payload in [
            object.to_owned(),
            r#"{"fwPackageURI":"https://h/fw"}"#.to_owned(),
            r#"{"fwPackageURI":"https://h/fw","fwPackageUri":"https://h/fw"}"#.to_owned(),
            json!(object).to_string(),
            json!("https://h/fw").to_string(),
            json!(json!("https://h/fw").to_string()).to_string(),
        ] {
            let install = update(&payload, true).unwrap();
            assert_eq!(install.origin, Origin::Method);
            assert_eq!(address(install), "https://h/fw", "{payload}");
        }
    }

    #[test]
    fn the_tutorials_fields_serve_as_arguments() {
        let payload = json!({
            "fwPackageURI": "https://h/fw", "fwVersion": "2", "fwPackageCheckValue": DIGEST, "fwSize": 9,
            "jobId": "again",
        });
        let install = update(&payload.to_string(), false).unwrap();
        assert_eq!(install.artifact.size, Some(9));
        assert_eq!(install.artifact.version.unwrap().as_str(), "2");
        assert_eq!(install.artifact.sha256.unwrap().to_string(), DIGEST);
    }

    #[test]
    fn an_address_without_a_check_value_is_refused_by_default_and_the_answer_names_the_key() {
        let reply = MethodReply::refused(&update(r#""https://h/fw""#, false).unwrap_err());
        assert_eq!(reply.status, 403);
        assert!(reply.body.to_string().contains("trust.allow_undigested"));
    }

    #[test]
    fn bad_payloads_are_400_with_the_reason() {
        let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
        let big = json!("x".repeat(MAX_PAYLOAD)).to_string();
        for (payload, needle) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("https://h/fw", "not JSON"),
            ("null", "found null"),
            ("42", "found a number"),
            ("[]", "found an array"),
            ("{}", "fwPackageUri is missing"),
            (r#"{"fwpackageuri":"https://h"}"#, "fwPackageUri is missing"),
            (r#"{"fwPackageUri":7}"#, "fwPackageUri must be a string, found a number"),
            (r#"{"fwPackageUri":"test.com"}"#, "Insecure package URI"),
            (r#"{"fwPackageUri":"https://a/","fwPackageURI":"https://b/"}"#, "differ"),
            (r#""http://h/fw""#, "Insecure package URI"),
            (&deep, "not JSON"),
            (&big, "larger than"),
        ] {
            let reply = MethodReply::refused(&update(payload, true).unwrap_err());
            assert_eq!(reply.status, 400, "{:.60}", payload);
            assert!(reply.body["Response"].as_str().unwrap().contains(needle), "{:.60}: {reply:?}", payload);
        }
        assert!(matches!(read("firmwareUpdate", &[0xff, 0xfe], true), MethodCall::FirmwareUpdate(Err(_))));
    }

    #[test]
    fn names_are_exact() {
        for name in ["reboot", "rebootDevice"] {
            assert_eq!(read(name, b"not even JSON", false), MethodCall::Reboot);
        }
        for name in ["Reboot", "firmwareupdate", "%72eboot", "reboot/", "../reboot", "", "constructor"] {
            assert_eq!(read(name, b"{}", false), MethodCall::Unknown, "{name}");
        }
    }

    #[test]
    fn replies_are_the_tutorials_and_never_too_large() {
        let (status, body) = MethodReply::started().encode();
        assert_eq!((status, body.as_slice()), (200, br#"{"Response":"Firmware update started"}"#.as_slice()));
        let (status, body) = MethodReply::unknown_method().encode();
        assert_eq!((status, body.as_slice()), (404, br#"{"Response":"Unknown method"}"#.as_slice()));
        assert_eq!(MethodReply::busy("x").status, 409);
        let (status, body) = MethodReply::ok(&"x".repeat(MAX_PAYLOAD)).encode();
        assert!(status == 500 && body.len() < 100);
    }
}
