//! The language of the control socket: one JSON object a line, both ways.
//!
//! ```text
//! {"request":"status"}                                    {"ok":true,"status":{…}}
//! {"request":"install","url":"https://…","sha256":"…"}    {"ok":true,"message":"…"}
//! {"request":"read-properties","names":["uptime"]}        {"ok":true,"properties":{…}}
//! {"request":"cancel"}                                    {"ok":false,"error":{"code":"…","message":"…","remedy":"…"}}
//! ```
//!
//! What is asked and answered is [`Request`] and [`Answer`], as for direct methods; here is only how it is written.
//! `watch` is answered by a status line for every change, until either side hangs up. A member that is not known is an
//! error: a client that asks for more than we understand must not believe it got it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    Answer, Artifact, BadUrl, Failure, Granted, Install, Location, Origin, Reason, Refusal, Request,
    SecretUrl, Sha256, Terms, Version,
};

/// A request as it is on the wire.
#[derive(Default, Deserialize, Serialize)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unattended: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    names: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<BTreeMap<String, Value>>,
}

#[derive(Clone, Copy, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verb {
    Apply,
    Cancel,
    Confirm,
    FactoryReset,
    Install,
    ReadProperties,
    Reboot,
    Reload,
    Retry,
    Rollback,
    #[default]
    Status,
    Watch,
    WriteProperties,
}

/// Reads one line.
///
/// # Errors
/// Says what is wrong with it, for the one who sent it.
pub fn parse(line: &[u8]) -> Result<Request, Reason> {
    let invalid = |detail: String| Failure::RequestInvalid.because(detail);
    let wire: Wire = serde_json::from_slice(line).map_err(|error| invalid(error.to_string()))?;
    let verb = wire.request;
    let installs = wire.url.is_some()
        || wire.file.is_some()
        || wire.sha256.is_some()
        || wire.version.is_some()
        || wire.size.is_some()
        || wire.hold.is_some()
        || wire.unattended.is_some();
    for (given, of, what) in [
        (installs, Verb::Install, "only install takes an image and what it is"),
        (wire.names.is_some(), Verb::ReadProperties, "only read-properties takes names"),
        (wire.values.is_some(), Verb::WriteProperties, "only write-properties takes values"),
    ] {
        if given && verb != of {
            return Err(invalid(what.into()));
        }
    }
    Ok(match verb {
        Verb::Apply => Request::Apply,
        Verb::Cancel => Request::Cancel,
        Verb::Confirm => Request::Confirm,
        Verb::FactoryReset => Request::FactoryReset,
        Verb::Install => Request::Install(Box::new(wire.install()?)),
        Verb::ReadProperties => Request::ReadProperties(wire.names.unwrap_or_default()),
        Verb::Reboot => Request::Reboot,
        Verb::Reload => Request::Reload,
        Verb::Retry => Request::Retry,
        Verb::Rollback => Request::Rollback,
        Verb::Status => Request::Status,
        Verb::Watch => Request::Watch,
        Verb::WriteProperties => match wire.values.filter(|values| !values.is_empty()) {
            Some(values) => Request::WriteProperties(values),
            None => return Err(invalid("write-properties needs values".into())),
        },
    })
}

/// The request as one line, its end included.
pub fn to_line(request: &Request) -> Vec<u8> {
    let bare = |request| Wire { request, ..Wire::default() };
    let wire = match request {
        Request::Apply => bare(Verb::Apply),
        Request::Cancel => bare(Verb::Cancel),
        Request::Confirm => bare(Verb::Confirm),
        Request::FactoryReset => bare(Verb::FactoryReset),
        Request::Install(install) => Wire::of(install),
        Request::ReadProperties(names) => Wire { names: Some(names.clone()), ..bare(Verb::ReadProperties) },
        Request::Reboot => bare(Verb::Reboot),
        Request::Reload => bare(Verb::Reload),
        Request::Retry => bare(Verb::Retry),
        Request::Rollback => bare(Verb::Rollback),
        Request::Status => bare(Verb::Status),
        Request::Watch => bare(Verb::Watch),
        Request::WriteProperties(values) => {
            Wire { values: Some(values.clone()), ..bare(Verb::WriteProperties) }
        }
    };
    line(&wire)
}

impl Wire {
    fn of(install: &Install) -> Self {
        let Artifact { version, location, sha256, size } = install.artifact.clone();
        let (url, file) = match location {
            Location::Url(url) => (Some(url.expose().to_owned()), None),
            Location::File(path) => (None, Some(path)),
        };
        let hold = install.terms.hold.then_some(true);
        let unattended = install.terms.unattended.then_some(true);
        let request = Verb::Install;
        Self { request, url, file, sha256, version, size, hold, unattended, ..Self::default() }
    }

    fn install(self) -> Result<Install, Reason> {
        let (hold, unattended) = (self.hold.unwrap_or(false), self.unattended.unwrap_or(false));
        let terms = Terms { hold, unattended, ..Terms::default() };
        Ok(Install::new(self.artifact()?, Origin::Local, None).on(terms))
    }

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
    /// The properties, where they were asked for or set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<Value>,
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
    fn ok() -> Self {
        Self { ok: true, message: None, status: None, properties: None, error: None }
    }

    /// It is done, or begun; `message` says which.
    pub fn done(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::ok() }
    }

    /// The status.
    pub fn status(status: Value) -> Self {
        Self { status: Some(status), ..Self::ok() }
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
        Self { ok: false, error: Some(fault), ..Self::ok() }
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Self::fault(refusal.code, refusal.words, refusal.remedy)
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        match answer {
            Ok(Granted::Done(words) | Granted::Begun(words)) => Self::done(words),
            Ok(Granted::Status(status)) => Self::status(status),
            Ok(Granted::Properties(properties)) => Self { properties: Some(properties), ..Self::ok() },
            Err(refusal) => refusal.into(),
        }
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings, numbers and JSON values always serialise");
    line.push(b'\n');
    line
}
