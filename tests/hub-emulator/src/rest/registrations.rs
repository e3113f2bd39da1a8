//! The provisioning service over HTTPS: devices that register (`/{idScope}/registrations/{id}/…`), and the emulator's
//! own doors for people who enrol them. Not the decisions (`hub`, `provisioning`).
//!
//! Source of the device's paths: the "Runtime Registration" REST reference. A device is authorised by the header that
//! the service is authorised by elsewhere, or by its certificate.

use serde_json::{Value, json};

use super::{Reply, Request, unknown};
use crate::error::{Code, Error};
use crate::provisioning::{Answer, Credentials, Refusal};
use crate::sas::Token;
use crate::shared::Shared;

/// A device's request. What is refused is no [`Error`] of the hub: the service has codes of its own.
pub(super) fn route(shared: &Shared, request: &Request, scope: &str, rest: &[&str]) -> Result<Reply, Error> {
    let outcome = match (request.method.as_str(), rest) {
        ("PUT", [id, "register"]) => credentials(shared, request, scope, id).and_then(|credentials| {
            shared.with(|hub| hub.register(scope, id, &credentials, &request.caller.here, &request.body))
        }),
        ("GET", [id, "operations", operation]) => {
            credentials(shared, request, scope, id).and_then(|credentials| {
                shared.with(|hub| hub.registration_status(scope, id, &credentials, operation))
            })
        }
        // The present state, for a device that has registered before.
        ("POST", [id]) => credentials(shared, request, scope, id).and_then(|credentials| {
            shared.read(|hub| {
                hub.provisioning.attest(scope, id, &credentials)?;
                let known = hub.provisioning.registrations.get(&id.to_ascii_lowercase());
                let known = known.ok_or_else(|| Refusal::not_found("Device registration not found."))?;
                Ok(Answer::Done { body: known.document() })
            })
        }),
        _ => return Err(unknown(request)),
    };
    let (status, retry_after, body) = match outcome {
        Ok(Answer::Wait { body, retry_after }) => (202, Some(retry_after), body),
        Ok(Answer::Done { body }) => (200, None, body),
        Err(refusal) => (refusal.status, refusal.retry_after, refusal.body()),
    };
    let reply = Reply { status, headers: Vec::new(), body: Some(body) };
    Ok(match retry_after {
        Some(seconds) => reply.with("Retry-After", seconds.to_string()),
        None => reply,
    })
}

fn credentials(shared: &Shared, request: &Request, scope: &str, id: &str) -> Result<Credentials, Refusal> {
    let peer = request.caller.peer.clone();
    let Some(text) = request.header("authorization") else { return Ok(Credentials { token: None, peer }) };
    let token = Token::parse(text).map_err(|_| Refusal::unauthorized())?;
    let resource = format!("{scope}/registrations/{id}");
    let alive = shared.read(|hub| hub.policies.check_scope(&token, &resource));
    alive.map_err(|_| Refusal::unauthorized())?;
    Ok(Credentials { token: Some(token), peer })
}

/// `/emulator/provisioning`, `/emulator/enrollments`, `/emulator/enrollmentGroups`, `/emulator/authorities`.
pub(super) fn doors(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    match (request.method.as_str(), rest) {
        ("GET", ["provisioning"]) => Ok(Reply::ok(shared.read(|hub| hub.provisioning.document()))),
        ("PATCH" | "PUT", ["provisioning"]) => {
            shared.with(|hub| hub.provisioning.configure(&request.body))?;
            Ok(Reply::ok(shared.read(|hub| hub.provisioning.document())))
        }
        ("GET", ["authorities"]) => Ok(Reply::ok(authorities(shared))),
        ("POST", ["authorities"]) => {
            let pem = request.body.get("certificate").and_then(Value::as_str).unwrap_or_default();
            shared.with(|hub| hub.authorities.add(pem))?;
            Ok(Reply::ok(authorities(shared)))
        }
        ("DELETE", ["authorities", thumbprint]) => {
            if shared.with(|hub| hub.authorities.remove(thumbprint)) {
                return Ok(Reply::nothing());
            }
            Err(Error::new(Code::NotFound, format!("there is no authority {thumbprint}")))
        }
        (_, [kind @ ("enrollments" | "enrollmentGroups"), rest @ ..]) => {
            enrollments(shared, request, *kind == "enrollmentGroups", rest)
        }
        _ => Err(unknown(request)),
    }
}

fn enrollments(shared: &Shared, request: &Request, group: bool, rest: &[&str]) -> Result<Reply, Error> {
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            let name = if group { "enrollmentGroups" } else { "enrollments" };
            Ok(Reply::ok(shared.read(|hub| hub.provisioning.document()[name].take())))
        }
        ("GET", [id]) => Ok(Reply::ok(shared.read(|hub| hub.provisioning.enrollment(id, group))?)),
        ("PUT", [id]) => Ok(Reply::ok(shared.with(|hub| hub.provisioning.enroll(id, group, &request.body))?)),
        ("DELETE", [id]) => {
            shared.with(|hub| hub.provisioning.unenroll(id, group))?;
            Ok(Reply::nothing())
        }
        _ => Err(unknown(request)),
    }
}

fn authorities(shared: &Shared) -> Value {
    let names = shared.read(|hub| hub.authorities.names());
    names
        .into_iter()
        .map(|(name, thumbprint)| json!({"subject": name, "sha256Thumbprint": thumbprint}))
        .collect()
}
