//! `twin get` and `twin set`.

use serde_json::{Map, Value};

use super::paths;
use crate::arguments;
use crate::failure::{Exit, Failure, Outcome};
use crate::hub::Hub;
use crate::show::{harmless, say};

/// Shows a twin, or a part of it.
pub(super) async fn get(hub: &Hub, wanted: &arguments::TwinGet) -> Outcome<Exit> {
    let twin = hub.twin(&wanted.device).await?;
    let part = match &wanted.path {
        Some(path) => paths::at(&twin, &paths::segments(path)?)
            .ok_or_else(|| Failure::failed(format!("the twin of {} has no {path}", wanted.device)))?,
        None => &twin,
    };
    say(&harmless(&format!("{part:#}")))?;
    Ok(Exit::Done)
}

/// Merges into a twin.
pub(super) async fn set(hub: &Hub, wanted: &arguments::TwinSet) -> Outcome<Exit> {
    let patch = patch(&wanted.values)?;
    let etag = wanted.etag.as_deref().unwrap_or("*");
    let twin = hub.merge_twin(&wanted.device, Value::Object(patch), etag).await?;
    say(twin["etag"].as_str().unwrap_or_default())?;
    Ok(Exit::Done)
}

fn patch(values: &[String]) -> Outcome<Map<String, Value>> {
    let mut patch = Map::new();
    for text in values {
        let (path, value) = paths::assignment(text)?;
        let segments = paths::segments(path)?;
        // The hub would ignore what the service may not write.
        if !matches!(segments[..], ["tags", _, ..] | ["properties", "desired", _, ..]) {
            return Err(Failure::usage(format!(
                "{path:?} is neither below tags nor below properties.desired"
            )));
        }
        paths::put(&mut patch, &segments, value);
    }
    Ok(patch)
}
