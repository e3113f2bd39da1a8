//! `/devices`: the identity registry, queries, statistics. Bulk operations are not here yet.

use serde_json::{Value, json};

use super::{Reply, Request, unknown};
use crate::error::Error;
use crate::policies::Right;
use crate::query::{self, Columns, Source};
use crate::shared::Shared;

const LIST_LIMIT: usize = 1000;
const PAGE_LIMIT: usize = 100;

pub(super) fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    match (request.method.as_str(), rest) {
        ("POST", ["query"]) => {
            request.authorize(shared, Right::ServiceConnect)?;
            ask(shared, request)
        }
        ("GET", []) => {
            request.authorize(shared, Right::RegistryRead)?;
            let top = request.top(LIST_LIMIT);
            let all = shared.read(|hub| {
                hub.devices.keys().take(top).map(|id| hub.identity(id)).collect::<Result<Vec<_>, _>>()
            })?;
            Ok(Reply::ok(Value::Array(all)))
        }
        ("GET", [id]) => {
            request.authorize(shared, Right::RegistryRead)?;
            Ok(Reply::tagged(shared.read(|hub| hub.identity(id))?))
        }
        ("PUT", [id]) => {
            request.authorize(shared, Right::RegistryWrite)?;
            let device = shared.with(|hub| hub.put_device(id, &request.body, request.if_match()))?;
            Ok(Reply::tagged(device))
        }
        ("DELETE", [id]) => {
            request.authorize(shared, Right::RegistryWrite)?;
            shared.with(|hub| hub.delete_device(id, request.if_match()))?;
            Ok(Reply::nothing())
        }
        _ => Err(unknown(request)),
    }
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

/// One page of a query's rows. The continuation is the number of rows already given: it is opaque to clients, and
/// there is no snapshot behind it, as there is none behind the real one.
fn ask(shared: &Shared, request: &Request) -> Result<Reply, Error> {
    let text = request.body.get("query").and_then(Value::as_str);
    let query = query::query(text.ok_or_else(|| Error::invalid("the body has no query"))?)?;
    let number = |name: &str| match request.header(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| Error::invalid(format!("{name}: {text} is no number"))),
    };
    let size = number("x-ms-max-item-count")?.unwrap_or(PAGE_LIMIT).clamp(1, PAGE_LIMIT);
    let start = number("x-ms-continuation")?.unwrap_or(0);
    let rows = shared.read(|hub| hub.ask(&query));
    let page: Vec<Value> = rows.iter().skip(start).take(size).cloned().collect();
    let end = start.saturating_add(page.len());
    let kind = match (&query.columns, query.source) {
        (Columns::All, Source::Devices | Source::Modules) => "Twin",
        (Columns::All, Source::Jobs) => "DeviceJob",
        (Columns::Some(_), _) => "Raw",
    };
    let reply = Reply::ok(Value::Array(page)).with("x-ms-item-type", kind);
    Ok(if end < rows.len() { reply.with("x-ms-continuation", end.to_string()) } else { reply })
}
