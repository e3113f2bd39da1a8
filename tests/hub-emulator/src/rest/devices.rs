//! `/devices`: the identity registry with modules and bulk operations, the purge of a message queue, statistics.

use serde_json::{Value, json};

use super::{Reply, Request, query, unknown};
use crate::error::{Code, Error};
use crate::policies::Right;
use crate::shared::Shared;

const LIST_LIMIT: usize = 1000;

pub(super) fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    match (request.method.as_str(), rest) {
        // It is the registry that is asked, so "registry read" it is, and not "service connect".
        ("POST", ["query"]) => {
            request.authorize(shared, Right::RegistryRead)?;
            query::ask(shared, request)
        }
        ("POST", [_, "applyConfigurationContent"]) => {
            request.authorize(shared, Right::RegistryWrite)?;
            super::configurations::apply(shared, request, rest[0])
        }
        ("DELETE", [id, "commands"]) => {
            request.authorize(shared, Right::ServiceConnect)?;
            purge(shared, id)
        }
        ("GET", []) => {
            request.authorize(shared, Right::RegistryRead)?;
            let top = request.top(LIST_LIMIT)?;
            list(shared, |hub| hub.devices.keys().take(top).cloned().collect())
        }
        ("POST", []) => {
            request.authorize(shared, Right::RegistryWrite)?;
            bulk(shared, request)
        }
        ("GET", [id, "modules"]) => {
            request.authorize(shared, Right::RegistryRead)?;
            shared.read(|hub| hub.device(id).map(|_| ()))?;
            list(shared, |hub| hub.modules_of(id).iter().map(|module| module.key()).collect())
        }
        (_, [id]) => identity(shared, request, id),
        (_, [id, "modules", module]) => identity(shared, request, &format!("{id}/{module}")),
        _ => Err(unknown(request)),
    }
}

fn list(shared: &Shared, keys: impl FnOnce(&crate::Hub) -> Vec<String>) -> Result<Reply, Error> {
    let all = shared.read(|hub| {
        let identities = keys(hub).into_iter().map(|key| hub.identity(&key));
        identities.collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Reply::ok(Value::Array(all)))
}

fn identity(shared: &Shared, request: &Request, key: &str) -> Result<Reply, Error> {
    match request.method.as_str() {
        "GET" => {
            request.authorize(shared, Right::RegistryRead)?;
            Ok(Reply::tagged(shared.read(|hub| hub.identity(key))?))
        }
        "PUT" => {
            request.authorize(shared, Right::RegistryWrite)?;
            let done = shared.with(|hub| hub.put_identity(key, &request.body, request.if_match()))?;
            Ok(Reply::tagged(done))
        }
        "DELETE" => {
            request.authorize(shared, Right::RegistryWrite)?;
            shared.with(|hub| hub.delete_identity(key, request.if_match()))?;
            Ok(Reply::nothing())
        }
        _ => Err(unknown(request)),
    }
}

/// A bulk request that failed in part is a 400 whose body is the result and not an error: SDKs know it by the header.
fn bulk(shared: &Shared, request: &Request) -> Result<Reply, Error> {
    let result = shared.with(|hub| hub.bulk(&request.body))?;
    if result["isSuccessful"] == true {
        return Ok(Reply::ok(result));
    }
    Ok(Reply::ok(result).status(400).with("iothub-errorcode", Code::BulkFailure.name()))
}

fn purge(shared: &Shared, id: &str) -> Result<Reply, Error> {
    let purged = shared.with(|hub| {
        hub.device(id)?;
        Ok::<_, Error>(hub.purge_messages(id))
    })?;
    Ok(Reply::ok(json!({"deviceId": id, "moduleId": null, "totalMessagesPurged": purged})))
}

pub(super) fn statistics(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    request.authorize(shared, Right::RegistryRead)?;
    match (request.method.as_str(), rest) {
        ("GET", ["devices"]) => Ok(Reply::ok(shared.read(|hub| {
            let all = hub.devices.len();
            let enabled = hub.devices.values().filter(|device| device.enabled).count();
            json!({
                "totalDeviceCount": all,
                "enabledDeviceCount": enabled,
                "disabledDeviceCount": all - enabled,
            })
        }))),
        ("GET", ["service"]) => {
            Ok(Reply::ok(json!({"connectedDeviceCount": shared.read(|hub| hub.connected_count())})))
        }
        _ => Err(unknown(request)),
    }
}
