//! `/digitaltwins`: twins and commands in the words of Plug-and-Play.

use serde_json::{Value, json};

use super::{Reply, Request, unknown};
use crate::digital_twins::{document, twin_patch};
use crate::error::Error;
use crate::escape;
use crate::hub::MethodCall;
use crate::policies::Right;
use crate::shared::Shared;

pub(super) async fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    request.authorize(shared, Right::ServiceConnect)?;
    match (request.method.as_str(), rest) {
        ("GET", [id]) => {
            let (twin, etag) =
                shared.read(|hub| hub.device(id).map(|device| (document(device), device.twin_etag())))?;
            Ok(Reply::ok(twin).with("ETag", format!("\"{etag}\"")))
        }
        ("PATCH", [id]) => {
            let patch = twin_patch(&request.body)?;
            let twin = shared.with(|hub| hub.update_twin(id, &patch, false, request.if_match()))?;
            let etag = twin["etag"].as_str().unwrap_or_default();
            Ok(Reply::nothing().status(202).with("ETag", format!("\"{etag}\"")))
        }
        ("POST", [id, "commands", name]) => command(shared, request, id, name).await,
        ("POST", [id, "components", component, "commands", name]) => {
            command(shared, request, id, &format!("{component}*{name}")).await
        }
        _ => Err(unknown(request)),
    }
}

/// A command is a method whose answer is the whole body, and whose status is in a header.
async fn command(shared: &Shared, request: &Request, id: &str, name: &str) -> Result<Reply, Error> {
    let mut call = json!({"methodName": name, "payload": request.body});
    for timeout in ["connectTimeoutInSeconds", "responseTimeoutInSeconds"] {
        if let Some(text) = escape::first(&request.query, timeout) {
            call[timeout] = text.parse::<u64>().map_or(json!(text), Value::from);
        }
    }
    let call = MethodCall::parse(&call)?;
    let (respond, connect) = (call.respond(), call.connect());
    let (status, payload) = shared.invoke(id, &call.name, call.payload, respond, connect).await?;
    Ok(Reply::ok(payload).with("x-ms-command-statuscode", status.to_string()))
}
