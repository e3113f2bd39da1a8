//! What can go wrong, and the one table that documents it: the help of the program, the form of the browser page and
//! the reading of JSON are made of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Fault;
use crate::error::Error;

/// What can go wrong. [`FAULTS`] says what each one does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
#[allow(missing_docs)] // The table documents them.
pub enum FaultKind {
    DropAfter {
        bytes: u64,
    },
    StallAfter {
        bytes: u64,
    },
    Slow {
        bytes_per_second: u64,
    },
    Truncate {
        bytes: u64,
    },
    ChangeAfter {
        bytes: u64,
    },
    Status {
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    Redirect {
        location: String,
    },
    IgnoreRanges,
    WrongContentRange,
    NoValidators,

    RefuseAuth,
    RefuseConnect,
    DropLink {
        millis: u64,
    },
    ExpireToken {
        millis: u64,
    },
    Mute,
    ForgetSession,
    DelayTwin {
        millis: u64,
    },
    LoseTwin,
    FailTwin {
        status: u16,
    },
    DuplicateDesired,
    LoseDesired,
    ReorderDesired,
    FailMethod {
        status: u16,
    },
    LoseMethodCall,
    LoseMethodAnswer,
    DelayMethodAnswer {
        millis: u64,
    },
    DuplicateC2d,
    FailRegistration {
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },

    FailService {
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    DelayService {
        millis: u64,
    },
    LoseServiceAnswer,
}

/// What the target of a fault names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Aim {
    /// An image on the image server, by its name.
    Image,
    /// A device, by its id.
    Device,
    /// Requests to the service's REST API, by the first part of their path: `devices`, `twins`, `jobs`, …
    Service,
}

/// One row of the table of faults.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FaultRow {
    /// The name, as in JSON.
    pub name: &'static str,
    /// What its target names.
    pub aim: Aim,
    /// Its own members: name, and a value to begin with, as JSON. A value in brackets may be left out.
    pub members: &'static [(&'static str, &'static str)],
    /// What it does.
    pub what: &'static str,
}

/// Every fault there is. What all have in common (target, times, seconds) is told at [`Fault`].
pub const FAULTS: [FaultRow; 31] = {
    use Aim::{Device, Image, Service};
    const BYTES: &[(&str, &str)] = &[("bytes", "1000000")];
    const MILLIS: &[(&str, &str)] = &[("millis", "2000")];
    const STATUS: &[(&str, &str)] = &[("status", "429")];
    const LATER: &[(&str, &str)] = &[("status", "503"), ("retryAfter", "[10]")];
    const NOTHING: &[(&str, &str)] = &[];
    const fn row(
        name: &'static str,
        aim: Aim,
        members: &'static [(&'static str, &'static str)],
        what: &'static str,
    ) -> FaultRow {
        FaultRow { name, aim, members, what }
    }
    [
        row("dropAfter", Image, BYTES, "the connection is lost after so many bytes of body"),
        row(
            "stallAfter",
            Image,
            BYTES,
            "after so many bytes of body the connection stays open and says nothing more",
        ),
        row("slow", Image, &[("bytesPerSecond", "100000")], "the body comes at this rate"),
        row("truncate", Image, BYTES, "the file is only so long: a sound response with too little in it"),
        row(
            "changeAfter",
            Image,
            BYTES,
            "the file becomes another one (new bytes, new ETag) after so many bytes",
        ),
        row("status", Image, LATER, "this status instead of the file"),
        row("redirect", Image, &[("location", "\"https://localhost/\"")], "a 302 to somewhere else"),
        row("ignoreRanges", Image, NOTHING, "the whole file with status 200, whatever range was asked for"),
        row("wrongContentRange", Image, NOTHING, "a 206 whose Content-Range is one byte off"),
        row("noValidators", Image, NOTHING, "no ETag and no Last-Modified"),
        row("refuseAuth", Device, NOTHING, "CONNECT is answered with 5, not authorised"),
        row("refuseConnect", Device, NOTHING, "CONNECT is answered with 3, server unavailable"),
        row(
            "dropLink",
            Device,
            MILLIS,
            "the connection is lost so long after CONNECT; one that is there, at once",
        ),
        row(
            "expireToken",
            Device,
            MILLIS,
            "the token expires so long after CONNECT; of one that is connected, at once",
        ),
        row(
            "mute",
            Device,
            NOTHING,
            "what the device says on this connection is never answered, pings neither",
        ),
        row("forgetSession", Device, NOTHING, "the stored session is forgotten at CONNECT"),
        row("delayTwin", Device, MILLIS, "the reply to a twin request comes later"),
        row("loseTwin", Device, NOTHING, "a twin request is carried out and never answered"),
        row("failTwin", Device, STATUS, "a twin request is not carried out and answered with this status"),
        row("duplicateDesired", Device, NOTHING, "a desired notification comes twice"),
        row("loseDesired", Device, NOTHING, "a desired notification does not come"),
        row("reorderDesired", Device, NOTHING, "a desired notification comes after the next one"),
        row(
            "failMethod",
            Device,
            STATUS,
            "a call of a method is refused with this status before the device hears of it",
        ),
        row("loseMethodCall", Device, NOTHING, "a call of a method does not reach the device"),
        row("loseMethodAnswer", Device, NOTHING, "the device's answer to a method does not reach the caller"),
        row("delayMethodAnswer", Device, MILLIS, "the device's answer to a method reaches the caller later"),
        row("duplicateC2d", Device, NOTHING, "a cloud-to-device message comes twice"),
        row(
            "failRegistration",
            Device,
            LATER,
            "a request to the provisioning service, by the registration id, is answered with this status",
        ),
        row("failService", Service, LATER, "a REST request is not carried out and answered with this status"),
        row("delayService", Service, MILLIS, "a REST request is carried out later"),
        row(
            "loseServiceAnswer",
            Service,
            NOTHING,
            "a REST request other than GET is carried out, and the connection is lost before the answer",
        ),
    ]
};

impl FaultKind {
    /// The name as in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DropAfter { .. } => "dropAfter",
            Self::StallAfter { .. } => "stallAfter",
            Self::Slow { .. } => "slow",
            Self::Truncate { .. } => "truncate",
            Self::ChangeAfter { .. } => "changeAfter",
            Self::Status { .. } => "status",
            Self::Redirect { .. } => "redirect",
            Self::IgnoreRanges => "ignoreRanges",
            Self::WrongContentRange => "wrongContentRange",
            Self::NoValidators => "noValidators",
            Self::RefuseAuth => "refuseAuth",
            Self::RefuseConnect => "refuseConnect",
            Self::DropLink { .. } => "dropLink",
            Self::ExpireToken { .. } => "expireToken",
            Self::Mute => "mute",
            Self::ForgetSession => "forgetSession",
            Self::DelayTwin { .. } => "delayTwin",
            Self::LoseTwin => "loseTwin",
            Self::FailTwin { .. } => "failTwin",
            Self::DuplicateDesired => "duplicateDesired",
            Self::LoseDesired => "loseDesired",
            Self::ReorderDesired => "reorderDesired",
            Self::FailMethod { .. } => "failMethod",
            Self::LoseMethodCall => "loseMethodCall",
            Self::LoseMethodAnswer => "loseMethodAnswer",
            Self::DelayMethodAnswer { .. } => "delayMethodAnswer",
            Self::DuplicateC2d => "duplicateC2d",
            Self::FailRegistration { .. } => "failRegistration",
            Self::FailService { .. } => "failService",
            Self::DelayService { .. } => "delayService",
            Self::LoseServiceAnswer => "loseServiceAnswer",
        }
    }

    /// What its target names.
    pub fn aim(&self) -> Aim {
        FaultRow::named(self.name()).map_or(Aim::Device, |row| row.aim)
    }
}

impl FaultRow {
    /// The row of this name.
    pub fn named(name: &str) -> Option<&'static FaultRow> {
        FAULTS.iter().find(|row| row.name == name)
    }

    /// The fault with the values to begin with, as JSON; those that may be left out are.
    pub fn example(&self) -> String {
        let members = self.members.iter().filter(|(_, value)| !value.starts_with('['));
        let members: String = members.map(|(name, value)| format!(", \"{name}\": {value}")).collect();
        format!("{{\"fault\": \"{}\"{members}}}", self.name)
    }
}

/// Reads a fault from JSON. Stricter than serde: a member that is misspelt would change what it does.
pub(super) fn read(value: &Value) -> Result<Fault, Error> {
    let no_fault = |why: String| Error::invalid(format!("no such fault: {why}"));
    let fault: Fault = serde_json::from_value(value.clone()).map_err(|error| no_fault(error.to_string()))?;
    let row = FaultRow::named(fault.kind.name());
    let known = |name: &str| {
        ["fault", "target", "times", "seconds"].contains(&name)
            || row.is_some_and(|row| row.members.iter().any(|(member, _)| *member == name))
    };
    let members = value.as_object().into_iter().flat_map(|members| members.keys());
    match members.into_iter().find(|name| !known(name)) {
        Some(name) => Err(no_fault(format!("{} has no member {name:?}", fault.kind.name()))),
        None => Ok(fault),
    }
}
