//! `read-property` and `write-property`: what a device's maker declared, by direct methods.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::act::call_each;
use super::paths;
use crate::arguments::{ReadProperty, WriteProperty};
use crate::failure::{Exit, Outcome};
use crate::hub::{Hub, Reply};
use crate::show::{cell, clean};

/// Reads.
pub(super) async fn read(hub: &Arc<Hub>, wanted: &ReadProperty) -> Outcome<Exit> {
    let payload = if wanted.name.is_empty() { Value::Null } else { json!(wanted.name) };
    call_each(hub, &wanted.what, "readProperty", payload, |reply| {
        values(reply).unwrap_or_else(|| reply.words())
    })
    .await
}

/// Writes.
pub(super) async fn write(hub: &Arc<Hub>, wanted: &WriteProperty) -> Outcome<Exit> {
    let mut values_wanted = Map::new();
    for text in &wanted.set {
        let (name, value) = paths::assignment(text)?;
        values_wanted.insert(name.to_owned(), value);
    }
    let payload = Value::Object(values_wanted);
    call_each(hub, &wanted.what, "writeProperty", payload, |reply| {
        values(reply).unwrap_or_else(|| reply.words())
    })
    .await
}

/// A line for each property.
fn values(reply: &Reply) -> Option<String> {
    let values = reply.payload.as_object().filter(|values| !values.contains_key("Response"))?;
    let lines: Vec<_> =
        values.iter().map(|(name, value)| format!("{}: {}", clean(name), cell(value))).collect();
    Some(lines.join("\n"))
}
