//! `/twins`: twins of devices and modules, and direct methods.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Reply, Request, unknown};
use crate::error::Error;
use crate::policies::Right;
use crate::shared::Shared;

pub(super) async fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    request.authorize(shared, Right::ServiceConnect)?;
    match (request.method.as_str(), rest) {
        (_, [id]) => twin(shared, request, id),
        (_, [id, "modules", module]) => twin(shared, request, &format!("{id}/{module}")),
        ("POST", [id, "methods"]) => invoke(shared, request, id).await,
        ("POST", [id, "modules", module, "methods"]) => {
            invoke(shared, request, &format!("{id}/{module}")).await
        }
        _ => Err(unknown(request)),
    }
}

fn twin(shared: &Shared, request: &Request, key: &str) -> Result<Reply, Error> {
    match request.method.as_str() {
        "GET" => Ok(Reply::tagged(shared.read(|hub| hub.device(key).map(|_| hub.twin(key)))?)),
        "PATCH" | "PUT" => {
            let replace = request.method == "PUT";
            let twin = shared.with(|hub| hub.update_twin(key, &request.body, replace, request.if_match()))?;
            Ok(Reply::tagged(twin))
        }
        _ => Err(unknown(request)),
    }
}

async fn invoke(shared: &Shared, request: &Request, id: &str) -> Result<Reply, Error> {
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
