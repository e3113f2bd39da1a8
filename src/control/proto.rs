//! The language of the control socket: one JSON object a line, both ways.
//!
//! ```text
//! {"request":"status"}                                    {"ok":true,"status":{…}}
//! {"request":"install","url":"https://…","sha256":"…"}    {"ok":true,"message":"…"}
//! {"request":"cancel"}                                    {"ok":false,"error":{"code":"…","message":"…","remedy":"…"}}
//! ```
//!
//! `watch` is answered by a status line for every change, until either side hangs up. A member that is not known is an
//! error: a client that asks for more than we understand must not believe it got it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Artifact, BadUrl, Failure, Location, Reason, SecretUrl, Sha256, Version};

/// What may be asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// Switch over to what is downloaded and waits for consent.
    Apply,
    /// Stop the update.
    Cancel,
    /// Keep the system on trial without waiting for its health checks.
    Confirm,
    /// Begin an update.
    Install(Artifact),
    /// Reboot.
    Reboot,
    /// Try again what failed.
    Retry,
    /// Go back to the previous system.
    Rollback,
    /// Tell the status.
    Status,
    /// Tell the status now and at every change.
    Watch,
}

/// A request as it is on the wire.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    request: Verb,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verb {
    Apply,
    Cancel,
    Confirm,
    Install,
    Reboot,
    Retry,
    Rollback,
    Status,
    Watch,
}

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    /// Says what is wrong with it, for the one who sent it.
    pub fn parse(line: &[u8]) -> Result<Self, Reason> {
        let invalid = |detail: String| Failure::RequestInvalid.because(detail);
        let wire: Wire = serde_json::from_slice(line).map_err(|error| invalid(error.to_string()))?;
        let bare = wire.url.is_none()
            && wire.file.is_none()
            && wire.sha256.is_none()
            && wire.version.is_none()
            && wire.size.is_none();
        let request = match wire.request {
            Verb::Install => return wire.artifact().map(Self::Install),
            Verb::Apply => Self::Apply,
            Verb::Cancel => Self::Cancel,
            Verb::Confirm => Self::Confirm,
            Verb::Reboot => Self::Reboot,
            Verb::Retry => Self::Retry,
            Verb::Rollback => Self::Rollback,
            Verb::Status => Self::Status,
            Verb::Watch => Self::Watch,
        };
        if bare { Ok(request) } else { Err(invalid("only install takes members besides request".into())) }
    }

    /// The request as one line, its end included.
    pub fn to_line(&self) -> Vec<u8> {
        let wire = |request| Wire { request, url: None, file: None, sha256: None, version: None, size: None };
        let wire = match self {
            Self::Apply => wire(Verb::Apply),
            Self::Cancel => wire(Verb::Cancel),
            Self::Confirm => wire(Verb::Confirm),
            Self::Install(Artifact { version, location, sha256, size }) => {
                let (url, file) = match location {
                    Location::Url(url) => (Some(url.expose().to_owned()), None),
                    Location::File(path) => (None, Some(path.clone())),
                };
                let (sha256, version) = (*sha256, version.clone());
                Wire { request: Verb::Install, url, file, sha256, version, size: *size }
            }
            Self::Reboot => wire(Verb::Reboot),
            Self::Retry => wire(Verb::Retry),
            Self::Rollback => wire(Verb::Rollback),
            Self::Status => wire(Verb::Status),
            Self::Watch => wire(Verb::Watch),
        };
        line(&wire)
    }

    /// Whether it asks to be told something and nothing else.
    pub fn only_asks(&self) -> bool {
        match self {
            Self::Status | Self::Watch => true,
            Self::Apply
            | Self::Cancel
            | Self::Confirm
            | Self::Install(_)
            | Self::Reboot
            | Self::Retry
            | Self::Rollback => false,
        }
    }
}

impl Wire {
    fn artifact(self) -> Result<Artifact, Reason> {
        let location = match (self.url, self.file) {
            (Some(url), None) => Location::Url(url.parse::<SecretUrl>().map_err(|error| match error {
                BadUrl::Insecure => Failure::RequestInsecureUri.because(error.to_string()),
                BadUrl::Malformed => Failure::RequestInvalid.because(error.to_string()),
            })?),
            (None, Some(file)) if file.is_absolute() => Location::File(file),
            (None, Some(_)) => return Err(Failure::RequestInvalid.because("file must be an absolute name")),
            (Some(_), Some(_)) | (None, None) => {
                return Err(Failure::RequestInvalid.because("install takes either url or file"));
            }
        };
        Ok(Artifact { version: self.version, location, sha256: self.sha256, size: self.size })
    }
}

/// The answer to a request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Response {
    /// Whether what was asked is done, or begun.
    pub ok: bool,
    /// What happens now, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The status, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
    /// Why not, if it is not ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

/// Why a request was not done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fault {
    /// For programs: a code of [`Failure`], or one of the socket's own (`access.…`, `control.…`).
    pub code: String,
    /// For people.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub remedy: String,
}

impl Response {
    /// It is done, or begun; `message` says which.
    pub fn done(message: impl Into<String>) -> Self {
        Self { ok: true, message: Some(message.into()), status: None, error: None }
    }

    /// The status.
    pub fn status(status: Value) -> Self {
        Self { ok: true, message: None, status: Some(status), error: None }
    }

    /// It is not done.
    pub fn fault(code: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Fault { code: code.into(), message: message.into(), remedy: remedy.into() }.into()
    }

    /// It is not done, for `reason`; `remedy` says what to do about it.
    pub fn refused(reason: &Reason, remedy: impl Into<String>) -> Self {
        Self::fault(reason.failure.code(), reason.detail.clone(), remedy)
    }

    /// The answer as one line, its end included.
    pub fn to_line(&self) -> Vec<u8> {
        line(self)
    }
}

impl From<Fault> for Response {
    fn from(fault: Fault) -> Self {
        Self { ok: false, message: None, status: None, error: Some(fault) }
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings, numbers and JSON values always serialise");
    line.push(b'\n');
    line
}
