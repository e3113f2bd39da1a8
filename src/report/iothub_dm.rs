//! The older object `iothubDM` of the device management samples: `firmwareUpdate`, which begins with `waiting`, and
//! `reboot`, as the documentation of 2017 has them (Node and C# articles).
//!
//! Of three spellings that were published, this is the one without blanks, since it is the documentation's and both
//! languages agree on it: `waiting`, `downloading`, `downloadComplete`, `applying`, `applyComplete`, `applyFailed`. The
//! Node article alone writes `downloadfailed`; here it is C#'s `downloadFailed`, like all its sisters. The samples'
//! source of 2016 has `download complete`, which its own articles dropped.
//!
//! Truthful, where the samples only slept: `applyComplete` comes when the new system is kept, and `lastReboot` is the
//! time of the boot that was asked for, told after it. The package's address is not repeated: it may hold a token.

use serde_json::{Map, Value, json};

use super::{Activity, Ending, Status, text};
use crate::model::{Reason, Times};

/// Adds the object.
pub(super) fn add(status: &Status, brief: bool, document: &mut Map<String, Value>) {
    let mut object = Map::new();
    if let Some((word, why, times)) = words(status) {
        let mut update = json!({ "status": word });
        for (name, time) in [
            ("startedWaitingTime", times.accepted),
            ("downloadCompleteTime", times.downloaded),
            ("startedApplyingImage", times.applying),
            ("lastFirmwareUpdate", times.ended.filter(|_| word == "applyComplete")),
        ] {
            if time.is_some() {
                update[name] = text(time);
            }
        }
        if let Some(Reason { failure, detail }) = why {
            let message = if brief { "" } else { detail.as_str() };
            update["error"] = json!({ "code": failure, "message": message });
        }
        object.insert("firmwareUpdate".into(), update);
    }
    if status.reboot_time.is_some() {
        object.insert("reboot".into(), json!({ "lastReboot": text(status.reboot_time) }));
    }
    let object = if object.is_empty() { Value::Null } else { Value::Object(object) };
    document.insert("iothubDM".into(), object);
}

/// Status, reason and times; `None` before the first update.
fn words(status: &Status) -> Option<(&'static str, Option<Reason>, Times)> {
    if let Some(job) = &status.update {
        let word = match status.phase {
            Activity::Accepted => "waiting",
            Activity::Downloading => "downloading",
            Activity::Verifying | Activity::Staged => "downloadComplete",
            Activity::RollingBack | Activity::Returning => failed(&job.times),
            Activity::Applying
            | Activity::Rebooting
            | Activity::Confirming
            | Activity::Committing
            | Activity::Resetting
            | Activity::Finishing
            | Activity::Idle
            | Activity::Restarting => "applying",
        };
        return Some((word, job.undoing.clone(), job.times));
    }
    if let Some(why) = &status.blocked {
        return Some(("downloadFailed", Some(why.clone()), Times::default()));
    }
    let last = status.last.as_ref()?;
    let word = match last.outcome {
        Ending::Succeeded | Ending::UpToDate => "applyComplete",
        Ending::RolledBack => "applyFailed",
        Ending::Failed => failed(&last.times),
    };
    // A change of mind is told by the same words: the samples had no others. Its code tells it from a failure.
    Some((word, last.reason(), last.times))
}

/// Which of the two can fail last.
fn failed(times: &Times) -> &'static str {
    if times.downloaded.is_some() { "applyFailed" } else { "downloadFailed" }
}
