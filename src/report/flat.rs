//! The flat shape of the Python samples: `firmwareStatus` runs through `standBy`, `downloading`, `applying` and
//! `completed`, each with the time it was reached. Where theirs could only succeed, ours also says `failed` or
//! `rolledBack`, with `firmwareStatusReason`; a back end that waits for `completed` never mistakes one for it.

use serde_json::{Map, Value};

use super::{Activity, Ending, Status, text};
use crate::model::{Reason, Times};

/// Adds the members.
pub(super) fn add(status: &Status, brief: bool, document: &mut Map<String, Value>) {
    let (word, why, times) = words(status);
    let mut member = |name: &str, value: Value| document.insert(name.into(), value);
    member("firmwareStatus", word.into());
    member("firmwareStatusReason", why.filter(|_| !brief).map_or(Value::Null, |why| why.to_string().into()));
    member("logTime", text(times.accepted));
    member("downloadComplete", text(times.downloaded));
    member("startedApplyingImage", text(times.applying));
    member("lastFirmwareUpdate", text(times.ended.filter(|_| word == "completed")));
}

fn words(status: &Status) -> (&'static str, Option<Reason>, Times) {
    if let Some(job) = &status.update {
        let word = match status.phase {
            Activity::Accepted => "standBy",
            Activity::Downloading | Activity::Verifying | Activity::Staged => "downloading",
            Activity::RollingBack | Activity::Returning => "failed",
            Activity::Applying
            | Activity::Rebooting
            | Activity::Confirming
            | Activity::Committing
            | Activity::Resetting
            | Activity::Finishing
            | Activity::Idle
            | Activity::Restarting => "applying",
        };
        return (word, job.undoing.clone(), job.times);
    }
    if let Some(why) = &status.blocked {
        return ("failed", Some(why.clone()), Times::default());
    }
    let Some(last) = &status.last else { return ("standBy", None, Times::default()) };
    let word = match last.outcome {
        Ending::Succeeded | Ending::UpToDate => "completed",
        Ending::RolledBack => "rolledBack",
        Ending::Failed => "failed",
    };
    (word, last.reason(), last.times)
}
