//! The object `firmware` of the firmware update tutorial: `currentFwVersion`, `pendingFwVersion`, `fwUpdateStatus`,
//! `fwUpdateSubstatus`, `lastFwUpdateStartTime`, `lastFwUpdateEndTime`, with the tutorial's words. Back ends count
//! devices by `fwUpdateStatus`, so a status is told when it is true and not earlier: `rolledback` only from the old
//! system, `current` with a new version only once that version boots by default; until then `currentFwVersion` is the
//! old one, so that status and version change in one patch.

use serde_json::{Map, Value, json};

use super::{Activity, Ending, JobView, LastView, Status};
use crate::model::{Bytes, Cost, Failure, Reason, Seconds, Times, Timestamp};

/// Adds the object.
pub(super) fn add(status: &Status, brief: bool, document: &mut Map<String, Value>) {
    let version = |version: &Option<_>| version.as_ref().map_or(String::new(), ToString::to_string);
    let (word, substatus, code) = words(status);
    let times = times(status);
    let mut object = json!({
        "currentFwVersion": version(&status.version.kept),
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
fn moment(moment: Option<Timestamp>) -> Value {
    moment.map_or(String::new(), |moment| moment.to_string()).into()
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
    if let Some(JobView { undoing: Some(why), target, .. }) = &status.update {
        return (undoing(why.failure, *target == status.booted), why.to_string(), Some(why.failure));
    }
    let gate = || status.gate.clone();
    let percent = status.progress.and_then(|progress| progress.percent).filter(|percent| *percent > 0);
    let step = |word, start: &str| {
        let text = percent.map_or(start.to_owned(), |percent| format!("{percent} %"));
        (word, text, None)
    };
    let (word, substatus, code) = match status.phase {
        Activity::Accepted => ("current", gate().unwrap_or_default(), None),
        Activity::Downloading => {
            let (word, text, code) = step("downloading", "Start downloading");
            let plan = status.progress.and_then(|now| Some(planned(now.plan?, now.plan_seconds)));
            let plan = plan.unwrap_or_default();
            (word, gate().unwrap_or(text + &plan), code)
        }
        Activity::Verifying => step("verifying", "Start verifying download"),
        Activity::Staged => {
            ("verifying", gate().unwrap_or_else(|| "Finished verifying download".into()), None)
        }
        Activity::Applying => ("applying", "Start applying image".into(), None),
        Activity::Rebooting => ("rebooting", "Start reboot".into(), None),
        Activity::Confirming => ("rebooting", "Finished reboot, checking health".into(), None),
        Activity::Committing => ("rebooting", "Healthy, making it permanent".into(), None),
        Activity::Resetting => ("applying", "Factory reset: making the data as new".into(), None),
        Activity::Finishing => ("rebooting", "Factory reset: data is as new, start reboot".into(), None),
        Activity::Idle | Activity::Restarting | Activity::RollingBack | Activity::Returning => {
            return ended(status);
        }
    };
    // Held up on its way: by the state directory, say.
    status.blocked.as_ref().map_or((word, substatus, code), |why| (word, why.to_string(), Some(why.failure)))
}

/// What a download costs, behind how far it is.
fn planned(Cost { fetch, write, full }: Cost, seconds: Option<u64>) -> String {
    let time = seconds.map(|seconds| format!(" in some {}", Seconds(seconds))).unwrap_or_default();
    format!(", fetching {} of {}{time}, writing {}", Bytes(fetch), Bytes(full), Bytes(write))
}

/// The word while an update is being undone. What someone stopped is no error at any moment: roll-outs halt on
/// errors, and this is told in the middle of every change of mind.
fn undoing(why: Failure, on_trial: bool) -> &'static str {
    let is_wanted = matches!(why, Failure::Cancelled | Failure::Superseded);
    match (is_wanted, on_trial) {
        (true, true) => "rebooting",
        (true, false) => "current",
        (false, _) => "error",
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
        (Ending::Succeeded, _) if last.went_back => {
            ("rolledback", format!("Rolled back to: {running} (on request)"), None)
        }
        (Ending::Succeeded, _) if last.factory_reset => ("current", "Factory reset done".into(), None),
        (Ending::UpToDate, _) => ("current", "Firmware already up to date".into(), None),
        (Ending::RolledBack, Some(why)) => {
            ("rolledback", format!("Rolled back to: {running}: {why}"), Some(why.failure))
        }
        (Ending::Failed, Some(why)) => failed(last, &why),
        (Ending::Succeeded | Ending::Failed | Ending::RolledBack, _) => ("current", String::new(), None),
    }
}

/// What an operator stopped is no error: roll-outs halt on errors.
fn failed(last: &LastView, why: &Reason) -> (&'static str, String, Option<Failure>) {
    if matches!(why.failure, Failure::Cancelled | Failure::Superseded) {
        let version = last.version.as_ref().map_or(String::new(), |version| format!(" to {version}"));
        return ("current", format!("Update{version} cancelled"), Some(why.failure));
    }
    if why.failure == Failure::RequestInsecureUri {
        // The tutorial's words and nothing more: back ends compare them.
        return ("error", "Insecure package URI".into(), Some(why.failure));
    }
    ("error", why.to_string(), Some(why.failure))
}
