//! `/twins`: device twins and direct methods.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Reply, Request, unknown};
use crate::error::Error;
use crate::policies::Right;
use crate::shared::Shared;

pub(super) async fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    request.authorize(shared, Right::ServiceConnect)?;
    match (request.method.as_str(), rest) {
        ("GET", [id]) => Ok(Reply::tagged(shared.read(|hub| hub.device(id).map(|_| hub.twin(id)))?)),
        ("PATCH" | "PUT", [id]) => {
            let replace = request.method == "PUT";
            let twin = shared.with(|hub| hub.update_twin(id, &request.body, replace, request.if_match()))?;
            Ok(Reply::tagged(twin))
        }
        ("POST", [id, "methods"]) => invoke(shared, request, id).await,
        _ => Err(unknown(request)),
    }
}

pub(super) async fn invoke(shared: &Shared, request: &Request, id: &str) -> Result<Reply, Error> {
    let name = request.body.get("methodName").and_then(Value::as_str);
    let name = name.ok_or_else(|| Error::invalid("the body has no methodName"))?;
    let respond = seconds(&request.body, "responseTimeoutInSeconds", 30, 5)?;
    let connect = seconds(&request.body, "connectTimeoutInSeconds", 0, 0)?;
    let payload = request.body.get("payload").cloned().unwrap_or_default();
    let (status, payload) = shared.invoke(id, name, payload, respond, connect).await?;
    Ok(Reply::ok(json!({"status": status, "payload": payload})))
}

fn seconds(body: &Value, name: &str, default: u64, least: u64) -> Result<Duration, Error> {
    let seconds = match body.get(name) {
        None | Some(Value::Null) => Some(default),
        Some(value) => value.as_u64(),
    };
    match seconds {
        Some(seconds) if (least..=300).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) | None => Err(Error::invalid(format!("{name} is not between {least} and 300"))),
    }
}
