//! The object `firmware` of the firmware update tutorial: `currentFwVersion`, `pendingFwVersion`, `fwUpdateStatus`,
//! `fwUpdateSubstatus`, `lastFwUpdateStartTime`, `lastFwUpdateEndTime`, with the tutorial's words. Back ends count
//! devices by `fwUpdateStatus`, so a status is told when it is true and not earlier: `rolledback` only from the old
//! system, `current` with a new version only once that version boots by default.

use serde_json::{Map, Value, json};

use super::{Status, text};
use crate::model::{Failure, Reason, Times};
use crate::report::{JobView, LastView};

/// Adds the object.
pub(super) fn add(status: &Status, brief: bool, document: &mut Map<String, Value>) {
    let version = |version: &Option<_>| version.as_ref().map_or(String::new(), ToString::to_string);
    let (word, substatus, code) = words(status);
    let times = times(status);
    let mut object = json!({
        "currentFwVersion": version(&status.version.running),
        "pendingFwVersion": version(&status.version.pending),
        "fwUpdateStatus": word,
        "fwUpdateSubstatus": if brief { String::new() } else { substatus },
        "lastFwUpdateStartTime": moment(times.accepted),
        "lastFwUpdateEndTime": moment(times.ended),
    });
    // Ours: the closed code that a fleet is queried by.
    object["fwUpdateCode"] = code.map_or(Value::Null, |code| code.code().into());
    document.insert("firmware".into(), object);
}

/// The tutorial writes an empty string where there is no time.
fn moment(moment: Option<crate::model::Timestamp>) -> Value {
    match text(moment) {
        Value::Null => "".into(),
        text => text,
    }
}

/// The start of the update on its way, else of the last one. The end is the last one's as long as nothing newer runs.
fn times(status: &Status) -> Times {
    match (&status.update, &status.last) {
        (Some(job), last) => {
            let ended = last.as_ref().and_then(|last| last.times.ended);
            Times { ended, ..job.times }
        }
        (None, Some(last)) => last.times,
        (None, None) => Times::default(),
    }
}

/// Status, substatus and code.
fn words(status: &Status) -> (&'static str, String, Option<Failure>) {
    if let Some(JobView { undoing: Some(why), .. }) = &status.update {
        return ("error", why.to_string(), Some(why.failure));
    }
    let gate = || status.gate.clone();
    let percent = status.progress.and_then(|progress| progress.percent);
    let step = |word, start: &str| {
        let text = percent.map_or(start.to_owned(), |percent| format!("{percent} %"));
        (word, text, None)
    };
    match status.phase {
        "accepted" => ("current", gate().unwrap_or_default(), None),
        "downloading" => step("downloading", "Start downloading"),
        "verifying" => step("verifying", "Start verifying download"),
        "staged" => ("verifying", gate().unwrap_or_else(|| "Finished verifying download".into()), None),
        "applying" => ("applying", "Start applying image".into(), None),
        "rebooting" => ("rebooting", "Start reboot".into(), None),
        "confirming" => ("rebooting", "Finished reboot, checking health".into(), None),
        "committing" => ("rebooting", "Healthy, making it permanent".into(), None),
        _ => ended(status),
    }
}

/// What is left to say when nothing is on its way.
fn ended(status: &Status) -> (&'static str, String, Option<Failure>) {
    if let Some(why) = &status.blocked {
        return ("error", why.to_string(), Some(why.failure));
    }
    let Some(last) = &status.last else { return ("current", String::new(), None) };
    let running = status.version.running.as_ref().map_or("the previous version".into(), ToString::to_string);
    match (last.outcome, last.reason()) {
        ("succeeded", _) if last.went_back => {
            ("rolledback", format!("Rolled back to: {running} (on request)"), None)
        }
        ("succeeded", _) => ("current", String::new(), None),
        ("up-to-date", _) => ("current", "Firmware already up to date".into(), None),
        ("rolled-back", Some(why)) => {
            ("rolledback", format!("Rolled back to: {running}: {why}"), Some(why.failure))
        }
        (_, Some(why)) => failed(last, &why),
        (_, None) => ("current", String::new(), None),
    }
}

/// What an operator stopped is no error: roll-outs halt on errors.
fn failed(last: &LastView, why: &Reason) -> (&'static str, String, Option<Failure>) {
    let version = last.version.as_ref().map_or(String::new(), |version| format!(" to {version}"));
    match why.failure {
        Failure::Cancelled => ("current", format!("Update{version} cancelled"), Some(why.failure)),
        // The tutorial's words and nothing more: back ends compare them.
        Failure::RequestInsecureUri => ("error", "Insecure package URI".into(), Some(why.failure)),
        _ => ("error", why.to_string(), Some(why.failure)),
    }
}
