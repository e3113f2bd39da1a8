//! Lifecycle events: one small object for each thing that happened to an update, for whoever listens to telemetry.
//!
//! ```json
//! {"event": "transition", "update": "8f0c…", "version": "2.0.0", "from": "downloading", "to": "verifying", "at": "…"}
//! ```
//!
//! `event` is `accepted`, `transition`, `ended`, `restarting` or `restarted`. `at` is left out while the clock cannot
//! be right; `code` is there where something went wrong. They decide nothing, and may be lost: what counts is reported.

use serde_json::{Value, json};

use super::status::ending;
use crate::model::{Timestamp, UpdateId, Version};
use crate::update::{Record, State};

/// What happened between `before` and `after`, told at `at`.
pub fn lifecycle(before: &Record, after: &Record, at: Option<Timestamp>) -> Vec<Value> {
    let mut events = Vec::new();
    let mut add = |event: &str, about: Option<(&UpdateId, Option<&Version>)>, more: &[(&str, Value)]| {
        let mut object = json!({ "event": event });
        if let Some((id, version)) = about {
            object["update"] = json!(id);
            if let Some(version) = version {
                object["version"] = json!(version);
            }
        }
        for (name, value) in more {
            object[*name] = value.clone();
        }
        if let Some(at) = at {
            object["at"] = at.to_string().into();
        }
        events.push(object);
    };
    if let Some(last) = after.newly_ended(before) {
        let (outcome, why) = ending(&last.outcome);
        let mut more = vec![("outcome", json!(outcome))];
        more.extend(why.map(|why| ("code", json!(why.failure))));
        add("ended", Some((&last.id, last.version.as_ref())), &more);
    }
    if let Some(new) = after.state.job() {
        let about = Some((&new.id, new.version.as_ref()));
        match before.state.job().filter(|old| old.id == new.id) {
            None => add("accepted", about, &[("origin", json!(new.origin))]),
            Some(old) if old.phase != new.phase => {
                let mut more = vec![("from", json!(old.phase.name())), ("to", json!(new.phase.name()))];
                more.extend(new.phase.undoing().map(|why| ("code", json!(why.failure))));
                add("transition", about, &more);
            }
            Some(_) => {}
        }
    }
    let restarts = |record: &Record| matches!(record.state, State::Restarting { .. });
    match (restarts(before), restarts(after)) {
        (false, true) => add("restarting", None, &[]),
        (true, false) => add("restarted", None, &[]),
        (true, true) | (false, false) => {}
    }
    events
}
