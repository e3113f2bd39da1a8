//! `/twins`: twins of devices and modules, and direct methods.

use serde_json::json;

use super::{Reply, Request, unknown};
use crate::error::Error;
use crate::hub::MethodCall;
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

pub(super) async fn invoke(shared: &Shared, request: &Request, key: &str) -> Result<Reply, Error> {
    let call = MethodCall::parse(&request.body)?;
    let (respond, connect) = (call.respond(), call.connect());
    let (status, payload) = shared.invoke(key, &call.name, call.payload, respond, connect).await?;
    Ok(Reply::ok(json!({"status": status, "payload": payload})))
}
