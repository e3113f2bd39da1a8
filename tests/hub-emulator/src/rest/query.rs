//! `POST /devices/query`, and the paging that it shares with the list of jobs.

use serde_json::Value;

use super::{Reply, Request};
use crate::error::Error;
use crate::query::{self, Columns, Query, Source};
use crate::shared::Shared;

const PAGE_LIMIT: usize = 100;
/// How a continuation begins that names a device.
const AFTER: &str = "after:";

/// One page of a query's rows.
pub(super) fn ask(shared: &Shared, request: &Request) -> Result<Reply, Error> {
    let text = request.body.get("query").and_then(Value::as_str);
    let text = text.ok_or_else(|| Error::invalid("the body is not {\"query\": \"SELECT …\"}"))?;
    let query = query::query(text)?;
    let kind = match (&query.columns, query.source) {
        (Columns::All, Source::Devices | Source::Modules) => "Twin",
        (Columns::All, Source::Jobs) => "DeviceJob",
        (Columns::Some(_), _) => "Raw",
    };
    if query.source == Source::Devices && query.is_of_single_rows() {
        return page_of_devices(shared, request, &query, kind);
    }
    page(request, shared.read(|hub| hub.ask(&query)), kind)
}

/// One page of what is asked of each device by itself. The continuation is the device that the page ended with, so that
/// a hundred thousand of them are not gone through for every page.
fn page_of_devices(
    shared: &Shared,
    request: &Request,
    query: &Query,
    kind: &'static str,
) -> Result<Reply, Error> {
    let size = size(request)?;
    let given = request.header("x-ms-continuation").unwrap_or_default();
    let after = match given.strip_prefix(AFTER) {
        Some(device) => device,
        None if given.is_empty() => "",
        None => {
            return Err(Error::invalid(format!("x-ms-continuation: {given} is not one that the hub gave")));
        }
    };
    let (rows, next) = shared.read(|hub| hub.ask_after(query, after, size));
    let reply = Reply::ok(Value::Array(rows)).with("x-ms-item-type", kind);
    Ok(match next {
        Some(next) => reply.with("x-ms-continuation", format!("{AFTER}{next}")),
        None => reply,
    })
}

/// Rows of a page.
fn size(request: &Request) -> Result<usize, Error> {
    match number(request, "x-ms-max-item-count")?.unwrap_or(PAGE_LIMIT) {
        0 => Err(Error::invalid("x-ms-max-item-count: a page of no rows never ends")),
        size => Ok(size.min(PAGE_LIMIT)),
    }
}

/// One page of rows, with the headers that say what they are and how to go on. The continuation is the number of
/// rows already given: it is opaque to clients, and there is no snapshot behind it, as there is none behind the real
/// one.
pub(super) fn page(request: &Request, rows: Vec<Value>, kind: &'static str) -> Result<Reply, Error> {
    let size = size(request)?;
    let start = number(request, "x-ms-continuation")?.unwrap_or(0);
    let count = rows.len();
    let page: Vec<Value> = rows.into_iter().skip(start).take(size).collect();
    let end = start.saturating_add(page.len());
    let reply = Reply::ok(Value::Array(page)).with("x-ms-item-type", kind);
    Ok(if end < count { reply.with("x-ms-continuation", end.to_string()) } else { reply })
}

fn number(request: &Request, name: &str) -> Result<Option<usize>, Error> {
    match request.header(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Error::invalid(format!("{name}: {text} is not one that the hub gave"))),
        },
    }
}
