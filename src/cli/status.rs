//! `twinboot status`: a block to read, or the JSON as the daemon gave it.

use super::output::{clean, say};
use super::view::{View, bytes};
use super::{Exit, accepted, connect, unreachable};
use crate::config::Config;
use crate::model::{Request, Seconds};

/// Asks for the status and prints it.
pub(super) fn show(config: &Config, json: bool) -> Exit {
    let answer = connect(config)
        .and_then(|mut client| client.ask(&Request::Status).map_err(|error| unreachable(&error)))
        .and_then(accepted);
    let status = match answer {
        Ok(response) => response.status.unwrap_or_default(),
        Err(exit) => return exit,
    };
    say(&if json { format!("{status:#}") } else { block(View(&status)) });
    // It answers, and that is all it can do.
    if View(&status).waits() { Exit::Failed } else { Exit::Done }
}

/// The status as lines of `name  what`.
pub(super) fn block(status: View<'_>) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, what: Option<String>| {
        lines.extend(what.filter(|what| !what.is_empty()).map(|what| format!("{name:<10}{what}")));
    };
    line("waiting", status.text("/waiting/what"));
    line("remedy", status.text("/waiting/remedy"));
    line("running", running(status));
    line("update", update(status));
    line("phase", Some(phase(status)).filter(|_| !status.waits()));
    line("gate", status.text("/gate"));
    line("costs", costs(status));
    line("allowed", consent(status));
    line("last", status.last());
    line("hub", hub(status));
    line("trust", trust(status));
    for slot in ["a", "b"] {
        line(&format!("slot {slot}"), slot_parts(status, slot));
    }
    for warning in status.warnings() {
        line("warning", Some(warning));
    }
    lines.join("\n")
}

/// The partitions of a slot, and what is wrong with them.
fn slot_parts(status: View<'_>, slot: &str) -> Option<String> {
    let count = status.0.pointer(&format!("/slots/{slot}"))?.as_array()?.len();
    let part = |at: usize| {
        let of = |member: &str| format!("/slots/{slot}/{at}/{member}");
        let size = || Some(format!(" ({})", bytes(status.number(&of("size"))?)));
        let device = || Some(status.text(&of("device"))? + &size().unwrap_or_default());
        device().or_else(|| status.text(&of("problem"))).or_else(|| status.text(&of("name")))
    };
    Some((0..count).filter_map(part).collect::<Vec<_>>().join(", "))
}

/// Whose signatures count, and what is too old.
fn trust(status: View<'_>) -> Option<String> {
    let keys = status.0.pointer("/trust/keys")?.as_array()?.iter().filter_map(|key| key.as_str());
    if let Some(problem) = status.text("/trust/problem") {
        return Some(format!("{problem}; nothing that has to be signed is installed until then"));
    }
    let keys: Vec<_> = keys.map(clean).collect();
    let (needed, epoch) = (status.number("/trust/threshold")?, status.number("/trust/epoch")?);
    let floor = status.number("/floor").unwrap_or(0);
    let (noun, keys) = (if keys.len() == 1 { "root key" } else { "root keys" }, keys.join(", "));
    Some(format!("{needed} of {noun} {keys}; epoch {epoch}, rollback index {floor} or higher"))
}

fn running(status: View<'_>) -> Option<String> {
    let booted = status.text("/booted")?;
    let version =
        status.text("/version/running").map(|version| format!("{version} from ")).unwrap_or_default();
    let state = match (status.text("/trial"), status.text("/default")) {
        (Some(trial), _) if trial == booted => ", on trial".into(),
        (Some(trial), _) => format!(", slot {trial} is tried next"),
        (None, Some(default)) if default != booted => format!(", slot {default} boots by default"),
        (None, Some(_) | None) => String::new(),
    };
    Some(format!("{version}slot {booted}{state}"))
}

fn update(status: View<'_>) -> Option<String> {
    let id = status.text("/update/id");
    let version = status.text("/update/version").or_else(|| status.text("/version/pending"));
    let name = match (version, id) {
        (Some(version), Some(id)) => format!("{version} ({id})"),
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => return None,
    };
    let target = status.text("/update/target").map(|slot| format!(" to slot {slot}")).unwrap_or_default();
    let origin = match status.text("/update/origin").as_deref() {
        Some("desired") => ", wanted by the hub".to_owned(),
        Some("method") => ", asked for by a direct method".to_owned(),
        Some("local") => ", asked for on this device".to_owned(),
        Some(other) => format!(", asked for by {other}"),
        None => String::new(),
    };
    let steps = status.text("/update/steps_left").map(|n| format!(", {n} steps left")).unwrap_or_default();
    Some(format!("{name}{target}{origin}{steps}"))
}

/// What the update costs, if that was found out.
fn costs(status: View<'_>) -> Option<String> {
    let of = |member: &str| {
        let number = |place: &str| status.number(&format!("{place}/{member}"));
        number("/progress/plan").or_else(|| number("/update/cost")).map(bytes)
    };
    let (fetch, full, write) = (of("fetch")?, of("full")?, of("write")?);
    let seconds = status.number("/progress/plan_seconds").or_else(|| status.number("/update/cost_seconds"));
    let takes = seconds.map(|seconds| format!(" in some {}", Seconds(seconds))).unwrap_or_default();
    Some(format!("{fetch} to fetch of {full}{takes}, {write} to write"))
}

/// Who allowed switching over, and when.
fn consent(status: View<'_>) -> Option<String> {
    let by = match status.text("/update/consent/by")?.as_str() {
        "desired" => "by the hub".to_owned(),
        "method" => "by a direct method".to_owned(),
        "local" => "on this device".to_owned(),
        other => format!("by {other}"),
    };
    let at = status.text("/update/consent/at").map(|time| format!(" at {time}")).unwrap_or_default();
    Some(format!("{by}{at}"))
}

fn phase(status: View<'_>) -> String {
    let percent = status.percent().map(|percent| format!(" {percent} %")).unwrap_or_default();
    let amounts = status.amounts();
    let amounts = if amounts.is_empty() { amounts } else { format!(", {amounts}") };
    format!("{}{percent}{amounts}", status.phase())
}

fn hub(status: View<'_>) -> Option<String> {
    let word = if status.flag("/hub/connected")? { "connected" } else { "not connected" };
    let since = status.text("/hub/since").map(|time| format!(" since {time}")).unwrap_or_default();
    Some(format!("{word}{since}"))
}
