//! What may be asked of a device, and what may be answered: the same for direct methods and for the control socket.
//!
//! Both read what they are sent into a [`Request`], and say the engine's [`Answer`] in their own way. The answer to a
//! request that changes something is given at once; what became of it is told by the status and the reports.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::{Failure, Install, Reason};

/// What may be asked.
#[derive(Clone, Eq, PartialEq)]
pub enum Request {
    /// Switch over to what is downloaded and waits to be allowed.
    Apply,
    /// Stop the update.
    Cancel,
    /// Keep the system on trial without waiting for its health checks.
    Confirm,
    /// Go back to what the device was made with.
    FactoryReset,
    /// Begin an update.
    Install(Box<Install>),
    /// Tell properties of the device: these, or without a name all.
    ReadProperties(Vec<String>),
    /// Reboot.
    Reboot,
    /// Read the configuration again, and go on under it: for the control socket alone.
    Reload,
    /// Try again what failed.
    Retry,
    /// Go back to the previous system.
    Rollback,
    /// Tell the status.
    Status,
    /// Tell the status now and at every change: for the control socket, whose other end stays.
    Watch,
    /// Set properties of the device, each to its value.
    WriteProperties(BTreeMap<String, Value>),
}

impl Request {
    /// Whether it asks for the status and nothing else. Properties may be programs, which not everybody may have run.
    pub fn only_asks(&self) -> bool {
        match self {
            Self::Status | Self::Watch => true,
            Self::Apply
            | Self::Cancel
            | Self::Confirm
            | Self::FactoryReset
            | Self::Install(_)
            | Self::ReadProperties(_)
            | Self::Reboot
            | Self::Reload
            | Self::Retry
            | Self::Rollback
            | Self::WriteProperties(_) => false,
        }
    }
}

/// Without the values of properties: the passphrase of a network may be one of them.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apply => f.write_str("Apply"),
            Self::Cancel => f.write_str("Cancel"),
            Self::Confirm => f.write_str("Confirm"),
            Self::FactoryReset => f.write_str("FactoryReset"),
            Self::Install(install) => f.debug_tuple("Install").field(install).finish(),
            Self::ReadProperties(names) => f.debug_tuple("ReadProperties").field(names).finish(),
            Self::Reboot => f.write_str("Reboot"),
            Self::Reload => f.write_str("Reload"),
            Self::Retry => f.write_str("Retry"),
            Self::Rollback => f.write_str("Rollback"),
            Self::Status => f.write_str("Status"),
            Self::Watch => f.write_str("Watch"),
            Self::WriteProperties(values) => f.debug_tuple("WriteProperties").field(&values.keys()).finish(),
        }
    }
}

/// The answer to a request.
pub type Answer = Result<Granted, Refusal>;

/// What was granted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Granted {
    /// It is done, or there was nothing to do; in words.
    Done(String),
    /// It has begun and goes on by itself; in words.
    Begun(String),
    /// This is the status.
    Status(Value),
    /// These are the properties, an object with a member for each.
    Properties(Value),
}

/// Why a request was not granted. Nothing changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Which kind of no it is.
    pub kind: Kind,
    /// For programs: a code that does not change, such as `request.busy`.
    pub code: String,
    /// For people.
    pub words: String,
    /// What to do about it; may be empty.
    pub remedy: String,
    /// What is in the way, as members for programs, such as the id of the update under way.
    pub details: BTreeMap<&'static str, Value>,
}

/// The kinds of no, which are HTTP's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// 400: as it is, it can never be granted.
    Malformed,
    /// 404: there is no such thing.
    Unknown,
    /// 409: not now, because of what the device is or does.
    Conflict,
    /// 412: what it needs has not happened.
    Unready,
    /// 501: this device cannot.
    Undeclared,
}

impl Kind {
    /// HTTP's number for it.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unknown => 404,
            Self::Conflict => 409,
            Self::Unready => 412,
            Self::Undeclared => 501,
        }
    }
}

impl Refusal {
    /// A refusal of this kind, with a code and a sentence.
    pub fn new(kind: Kind, code: impl Into<String>, words: impl Into<String>) -> Self {
        let (code, words) = (code.into(), words.into());
        Self { kind, code, words, remedy: String::new(), details: BTreeMap::new() }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

/// A request that makes no sense is malformed. One that would, but not on this device, is in conflict with it.
impl From<&Reason> for Refusal {
    fn from(reason: &Reason) -> Self {
        let conflicts = [Failure::RolledBackBefore, Failure::StateUnwritable, Failure::Internal];
        let kind = if reason.failure == Failure::NoPrevious {
            Kind::Unready
        } else if conflicts.contains(&reason.failure) {
            Kind::Conflict
        } else {
            Kind::Malformed
        };
        Self::new(kind, reason.failure.code(), reason.detail.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p119_values_of_properties_are_not_shown() {
        let values = [("limit", Value::from(5)), ("wifi-passphrase", Value::from("hunter2"))];
        let values = values.map(|(name, value)| (name.to_owned(), value));
        let shown = format!("{:?}", Request::WriteProperties(values.into()));
        assert_eq!(shown, r#"WriteProperties(["limit", "wifi-passphrase"])"#);
        assert_eq!(format!("{:?}", Request::Reload), "Reload");
    }

    #[test]
    fn reasons_are_of_the_right_kind() {
        for (failure, status) in [
            (Failure::RequestInvalid, 400),
            (Failure::RequestInsecureUri, 400),
            (Failure::RequestUnverifiable, 400),
            (Failure::RolledBackBefore, 409),
            (Failure::StateUnwritable, 409),
            (Failure::NoPrevious, 412),
        ] {
            let refusal = Refusal::from(&failure.because("x"));
            assert_eq!((refusal.kind.status(), refusal.code.as_str()), (status, failure.code()));
        }
    }
}
