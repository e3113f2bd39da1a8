//! The firmware update object (5) of LwM2M, as two numbers: how a device management of that tradition sees the two-step
//! update, download complete and then told to apply.
//!
//! `state` (resource 3): 0 idle, 1 downloading, 2 downloaded, 3 updating. `result` (resource 5): 0 while an update is on
//! its way or none has been, else how the last one ended, 1 to 10. The numbers are those of OMA's LwM2M 1.1, appendix
//! E.6; there is nothing else of LwM2M here.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Activity, Status};
use crate::model::Failure;

/// The two numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Lwm2m {
    /// Idle, downloading, downloaded or updating.
    pub state: u8,
    /// How it ended.
    pub result: u8,
}

/// Adds the object `lwm2m`.
pub(super) fn add(status: &Status, document: &mut Map<String, Value>) {
    let Lwm2m { state, result } = status.lwm2m;
    let version = status.version.pending.as_ref().or(status.version.kept.as_ref());
    let version = version.map_or(String::new(), ToString::to_string);
    let object = json!({ "state": state, "updateResult": result, "pkgVersion": version });
    document.insert("lwm2m".into(), object);
}

impl Lwm2m {
    /// What a device of this activity shows, if its last update ended for this reason or, without one, well.
    pub(super) fn of(phase: Activity, ended: Option<Option<Failure>>) -> Self {
        let state = match phase {
            Activity::Idle | Activity::Restarting => 0,
            // Read back after the download: only then is the package a whole one.
            Activity::Accepted | Activity::Downloading | Activity::Verifying => 1,
            Activity::Staged => 2,
            Activity::Applying
            | Activity::Rebooting
            | Activity::Confirming
            | Activity::Committing
            | Activity::Resetting
            | Activity::Finishing
            | Activity::RollingBack
            | Activity::Returning => 3,
        };
        let result = match ended {
            Some(ended) if state == 0 => ended.map_or(1, result),
            Some(_) | None => 0,
        };
        Self { state, result }
    }
}

/// The number that says best why.
fn result(why: Failure) -> u8 {
    use Failure::*;
    const NO_SPACE: u8 = 2;
    const CONNECTION_LOST: u8 = 4;
    const INTEGRITY: u8 = 5;
    const UNSUPPORTED_PACKAGE: u8 = 6;
    const INVALID_URI: u8 = 7;
    const FAILED: u8 = 8;
    const UNSUPPORTED_PROTOCOL: u8 = 9;
    const CANCELLED: u8 = 10;
    let table: [(u8, &[Failure]); 7] = [
        (NO_SPACE, &[TargetTooSmall]),
        (CONNECTION_LOST, &[DownloadUnreachable, DownloadTooSlow, DownloadTls]),
        (
            INTEGRITY,
            &[
                DownloadDigestMismatch,
                DownloadSizeMismatch,
                DownloadContentChanged,
                ReadbackMismatch,
                RequestUnverifiable,
            ],
        ),
        (UNSUPPORTED_PACKAGE, &[ImageUndecodable]),
        (
            INVALID_URI,
            &[RequestInvalid, DownloadHttpStatus, DownloadHttpAnswer, DownloadRedirect, SourceUnreadable],
        ),
        (UNSUPPORTED_PROTOCOL, &[RequestInsecureUri]),
        (CANCELLED, &[Cancelled, Superseded]),
    ];
    table.iter().find(|(_, failures)| failures.contains(&why)).map_or(FAILED, |(number, _)| *number)
}
