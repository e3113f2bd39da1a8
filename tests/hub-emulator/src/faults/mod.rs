//! Fault switches: what shall go wrong, for whom, and how often. Not the doing of it, which is where the thing
//! happens (`mqtt`, `images`). Set through the library, `POST /emulator/faults` and `--fault`.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::events::{EventKind, Events};

/// One switch. As JSON: `{"fault": "dropAfter", "bytes": 1000, "target": "fw.img", "times": 1}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// A device id or an image's name; `*` for all.
    #[serde(default = "everyone")]
    pub target: String,
    /// How many times it still happens; none is always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

impl Fault {
    /// A fault that happens every time.
    pub fn always(target: &str, kind: FaultKind) -> Fault {
        Fault { kind, target: target.to_owned(), times: None }
    }

    /// A fault that happens once.
    pub fn once(target: &str, kind: FaultKind) -> Fault {
        Fault::times(target, kind, 1)
    }

    /// A fault that happens so many times.
    pub fn times(target: &str, kind: FaultKind, times: u32) -> Fault {
        Fault { kind, target: target.to_owned(), times: Some(times) }
    }
}

fn everyone() -> String {
    "*".to_owned()
}

/// What can go wrong. The first group concerns images (target: path), the second devices (target: device id).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "camelCase")]
#[non_exhaustive]
pub enum FaultKind {
    /// The connection is lost after so many bytes of body.
    DropAfter {
        /// Bytes of body that still arrive.
        bytes: u64,
    },
    /// The connection stays open and says nothing more after so many bytes of body.
    StallAfter {
        /// Bytes of body that still arrive.
        bytes: u64,
    },
    /// The body comes at this rate.
    #[serde(rename_all = "camelCase")]
    Slow {
        /// Bytes per second.
        bytes_per_second: u64,
    },
    /// The file is shorter than it should be: a sound response with too little in it.
    Truncate {
        /// Length of what is served.
        bytes: u64,
    },
    /// The file becomes another one (new bytes from there on, new ETag) while it is being sent.
    ChangeAfter {
        /// Bytes of body that are still of the old content.
        bytes: u64,
    },
    /// This status instead of the file.
    #[serde(rename_all = "camelCase")]
    Status {
        /// HTTP status, such as 403, 404, 429 or 503.
        status: u16,
        /// Seconds for a Retry-After header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    /// A 302 to somewhere else.
    Redirect {
        /// The Location header.
        location: String,
    },
    /// Range headers are not heeded: the whole file, status 200.
    IgnoreRanges,
    /// A 206 whose Content-Range is one byte off.
    WrongContentRange,
    /// No ETag and no Last-Modified.
    NoValidators,

    /// CONNECT is answered with 5, not authorised.
    RefuseAuth,
    /// CONNECT is answered with 3, server unavailable.
    RefuseConnect,
    /// Replies to twin requests come later.
    DelayTwin {
        /// Milliseconds.
        millis: u64,
    },
    /// Twin requests are carried out but never answered.
    LoseTwin,
    /// Twin requests are not carried out and answered with this status and an error body.
    FailTwin {
        /// 400, 413, 429, 500, ...
        status: u16,
    },
    /// A desired notification comes twice.
    DuplicateDesired,
    /// A desired notification does not come.
    LoseDesired,
    /// The device's answer to a method gets lost on its way to the caller.
    LoseMethodAnswer,
    /// Stored sessions are forgotten at CONNECT.
    ForgetSession,
}

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
            Self::DelayTwin { .. } => "delayTwin",
            Self::LoseTwin => "loseTwin",
            Self::FailTwin { .. } => "failTwin",
            Self::DuplicateDesired => "duplicateDesired",
            Self::LoseDesired => "loseDesired",
            Self::LoseMethodAnswer => "loseMethodAnswer",
            Self::ForgetSession => "forgetSession",
        }
    }

    /// Whether it concerns the image server; otherwise devices.
    fn is_of_images(&self) -> bool {
        match self {
            Self::DropAfter { .. }
            | Self::StallAfter { .. }
            | Self::Slow { .. }
            | Self::Truncate { .. }
            | Self::ChangeAfter { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::IgnoreRanges
            | Self::WrongContentRange
            | Self::NoValidators => true,
            Self::RefuseAuth
            | Self::RefuseConnect
            | Self::DelayTwin { .. }
            | Self::LoseTwin
            | Self::FailTwin { .. }
            | Self::DuplicateDesired
            | Self::LoseDesired
            | Self::LoseMethodAnswer
            | Self::ForgetSession => false,
        }
    }
}

/// The switches that are on. Cheap to clone; all clones are the same switches.
#[derive(Clone, Debug)]
pub struct Faults {
    on: Arc<Mutex<Vec<Fault>>>,
    events: Arc<Events>,
}

impl Faults {
    pub(crate) fn new(events: Arc<Events>) -> Faults {
        Faults { on: Arc::default(), events }
    }

    /// Switches a fault on.
    pub fn set(&self, fault: Fault) {
        self.on.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Switches every fault off.
    pub fn clear(&self) {
        self.on.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What is on, with the times that are left.
    pub fn list(&self) -> Vec<Fault> {
        self.on.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes one use of the first fault for this target that `wanted` makes something of.
    pub(crate) fn take<T>(&self, target: &str, wanted: impl Fn(&FaultKind) -> Option<T>) -> Option<T> {
        let mut on = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        let at = on.iter().position(|fault| aims_at(fault, target) && wanted(&fault.kind).is_some())?;
        let taken = wanted(&on[at].kind);
        self.use_up(&mut on, at, target);
        taken
    }

    /// Whether this very fault is on for the target; takes one use of it.
    pub(crate) fn fires(&self, target: &str, kind: &FaultKind) -> bool {
        self.take(target, |found| (found == kind).then_some(())).is_some()
    }

    /// Takes one use of the image faults for this image: a status or a redirect alone, as nothing else can show then;
    /// otherwise the first of each kind, so that two of a kind befall two requests.
    pub(crate) fn take_for_image(&self, name: &str) -> Vec<FaultKind> {
        let mut on = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        let aimed = |fault: &Fault| fault.kind.is_of_images() && aims_at(fault, name);
        let instead =
            |kind: &FaultKind| matches!(kind, FaultKind::Status { .. } | FaultKind::Redirect { .. });
        if let Some(at) = on.iter().position(|fault| aimed(fault) && instead(&fault.kind)) {
            let taken = vec![on[at].kind.clone()];
            self.use_up(&mut on, at, name);
            return taken;
        }
        let mut taken: Vec<FaultKind> = Vec::new();
        let mut at = 0;
        while at < on.len() {
            let count = on.len();
            if aimed(&on[at]) && !taken.iter().any(|kind| kind.name() == on[at].kind.name()) {
                taken.push(on[at].kind.clone());
                self.use_up(&mut on, at, name);
            }
            // One that was used up has made room for the next.
            at += usize::from(on.len() == count);
        }
        taken
    }

    fn use_up(&self, on: &mut Vec<Fault>, at: usize, target: &str) {
        let fault = on[at].kind.name().to_owned();
        self.events.emit(EventKind::FaultFired { fault, target: target.to_owned() });
        if let Some(times) = &mut on[at].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                on.remove(at);
            }
        }
    }
}

/// Images may be named with or without the path that they are served under.
fn aims_at(fault: &Fault, target: &str) -> bool {
    let aim = fault.target.strip_prefix("/images/").unwrap_or(&fault.target);
    (aim == "*" || aim == target) && fault.times != Some(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fault_is_used_up_only_by_its_target() {
        let faults = Faults::new(Arc::default());
        faults.set(Fault::times("/images/a", FaultKind::DropAfter { bytes: 5 }, 2));
        faults.set(Fault::always("*", FaultKind::IgnoreRanges));
        faults.set(Fault::once("dev", FaultKind::LoseTwin));
        assert_eq!(faults.take_for_image("b"), [FaultKind::IgnoreRanges]);
        let both = [FaultKind::DropAfter { bytes: 5 }, FaultKind::IgnoreRanges];
        assert_eq!(faults.take_for_image("a"), both);
        assert_eq!(faults.take_for_image("a"), both);
        assert_eq!(faults.take_for_image("a"), [FaultKind::IgnoreRanges]);
        assert!(!faults.fires("other", &FaultKind::LoseTwin));
        assert!(faults.fires("dev", &FaultKind::LoseTwin));
        assert!(!faults.fires("dev", &FaultKind::LoseTwin));
    }

    #[test]
    fn faults_of_two_kinds_meet_and_two_of_a_kind_queue_up() {
        let faults = Faults::new(Arc::default());
        let (first, second) = (FaultKind::DropAfter { bytes: 1 }, FaultKind::DropAfter { bytes: 2 });
        let busy = FaultKind::Status { status: 503, retry_after: None };
        for kind in [first.clone(), second.clone(), FaultKind::IgnoreRanges, busy.clone()] {
            faults.set(Fault::once("a", kind));
        }
        assert_eq!(faults.take_for_image("a"), [busy]);
        assert_eq!(faults.take_for_image("a"), [first, FaultKind::IgnoreRanges]);
        assert_eq!(faults.take_for_image("a"), [second]);
        assert_eq!(faults.take_for_image("a"), []);
    }

    #[test]
    fn json_forms_are_as_documented() {
        let fault: Fault = serde_json::from_value(
            json!({"fault": "slow", "bytesPerSecond": 10, "target": "/images/x", "times": 3}),
        )
        .unwrap();
        assert_eq!(fault, Fault::times("/images/x", FaultKind::Slow { bytes_per_second: 10 }, 3));
        let plain: Fault = serde_json::from_value(json!({"fault": "refuseAuth"})).unwrap();
        assert_eq!(plain, Fault::always("*", FaultKind::RefuseAuth));
        assert_eq!(serde_json::to_value(&plain).unwrap(), json!({"fault": "refuseAuth", "target": "*"}));
        for kind in [FaultKind::LoseTwin, FaultKind::Status { status: 503, retry_after: Some(1) }] {
            let name = kind.name();
            assert_eq!(serde_json::to_value(Fault::always("*", kind)).unwrap()["fault"], name);
        }
        assert!(serde_json::from_value::<Fault>(json!({"fault": "meteor"})).is_err());
    }
}
