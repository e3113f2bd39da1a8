//! Fault switches: what shall go wrong, for whom, how often and for how long. Not the doing of it, which is where the
//! thing happens (`mqtt`, `hub`, `rest`, `images`). Thrown through the library, `/emulator/faults`, the browser page and
//! `--fault`; [`FAULTS`] is the table of what there is.

mod kind;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::events::{EventKind, Events};

pub use kind::{Aim, FAULTS, FaultKind, FaultRow};

/// A fault and whom it befalls. As JSON:
/// `{"fault": "dropAfter", "bytes": 1000, "target": "fw.img", "times": 1, "seconds": 60}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// A device id, an image's name or the first part of a path, as [`Aim`] says; `*` for all.
    #[serde(default = "everyone")]
    pub target: String,
    /// How many times it still happens; none is always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// For how many seconds it stays on; none is until it is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

impl Fault {
    /// Reads one from JSON, as `--fault` and `/emulator/faults` take it.
    ///
    /// # Errors
    /// If there is no such fault, or it has no such member.
    pub fn from_json(value: &Value) -> Result<Fault, Error> {
        kind::read(value)
    }

    /// A fault that happens every time.
    pub fn always(target: &str, kind: FaultKind) -> Fault {
        Fault { kind, target: target.to_owned(), times: None, seconds: None }
    }

    /// A fault that happens once.
    pub fn once(target: &str, kind: FaultKind) -> Fault {
        Fault::times(target, kind, 1)
    }

    /// A fault that happens so many times.
    pub fn times(target: &str, kind: FaultKind, times: u32) -> Fault {
        Fault { times: Some(times), ..Fault::always(target, kind) }
    }
}

fn everyone() -> String {
    "*".to_owned()
}

/// A fault that is on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Switch {
    /// Its number, to switch it off by.
    pub id: u64,
    /// The fault, with the times and seconds that are left.
    #[serde(flatten)]
    pub fault: Fault,
    /// How many times it has happened.
    pub fired: u32,
}

#[derive(Debug)]
struct On {
    switch: Switch,
    until: Option<Instant>,
}

/// The switches that are on. Cheap to clone; all clones are the same switches.
#[derive(Clone, Debug)]
pub struct Faults {
    on: Arc<Mutex<Board>>,
    events: Arc<Events>,
}

#[derive(Debug, Default)]
struct Board {
    on: Vec<On>,
    last: u64,
}

impl Faults {
    pub(crate) fn new(events: Arc<Events>) -> Faults {
        Faults { on: Arc::default(), events }
    }

    /// Switches a fault on; its number. What concerns connections that are there already happens to them only through
    /// [`Emulator::throw`](crate::Emulator::throw) and `/emulator/faults`.
    pub fn set(&self, fault: Fault) -> u64 {
        let mut board = self.board();
        board.last += 1;
        let id = board.last;
        // Longer than a clock can tell is for ever.
        let until =
            fault.seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        board.on.push(On { switch: Switch { id, fault, fired: 0 }, until });
        id
    }

    /// Switches one fault off; whether it was on.
    pub fn remove(&self, id: u64) -> bool {
        let mut board = self.board();
        let before = board.on.len();
        board.on.retain(|on| on.switch.id != id);
        board.on.len() < before
    }

    /// Switches every fault off.
    pub fn clear(&self) {
        self.board().on.clear();
    }

    /// What is on, with the times and seconds that are left.
    pub fn list(&self) -> Vec<Fault> {
        self.switches().into_iter().map(|switch| switch.fault).collect()
    }

    /// What is on, with numbers and counts.
    pub fn switches(&self) -> Vec<Switch> {
        let now = Instant::now();
        let left = |on: &On| {
            let mut switch = on.switch.clone();
            let left = on.until.map(|until| until.saturating_duration_since(now));
            switch.fault.seconds = left.map(|left| left.as_secs_f64().ceil() as u64);
            switch
        };
        self.board().on.iter().map(left).collect()
    }

    /// The switches, without those whose time is over.
    fn board(&self) -> MutexGuard<'_, Board> {
        let mut board = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        board.on.retain(|on| on.until.is_none_or(|until| now < until));
        board
    }

    /// Takes one use of the first fault for this target that `wanted` makes something of.
    pub(crate) fn take<T>(&self, target: &str, wanted: impl Fn(&FaultKind) -> Option<T>) -> Option<T> {
        let mut board = self.board();
        let meant = |on: &On| aims_at(&on.switch.fault, target) && wanted(&on.switch.fault.kind).is_some();
        let at = board.on.iter().position(meant)?;
        let taken = wanted(&board.on[at].switch.fault.kind);
        self.use_up(&mut board.on, at, target);
        taken
    }

    /// Whether this very fault is on for the target; takes one use of it.
    pub(crate) fn fires(&self, target: &str, kind: &FaultKind) -> bool {
        self.take(target, |found| (found == kind).then_some(())).is_some()
    }

    /// The delay of the first fault for this target that `wanted` finds one in; takes one use of it.
    pub(crate) fn delay(&self, target: &str, wanted: impl Fn(&FaultKind) -> Option<u64>) -> Option<Duration> {
        self.take(target, wanted).map(Duration::from_millis)
    }

    /// Takes one use of the image faults for this image: a status or a redirect alone, as nothing else can show then;
    /// otherwise the first of each kind, so that two of a kind befall two requests.
    pub(crate) fn take_for_image(&self, name: &str) -> Vec<FaultKind> {
        let mut board = self.board();
        let on = &mut board.on;
        let aimed = |on: &On| {
            let fault = &on.switch.fault;
            fault.kind.aim() == Aim::Image && aims_at(fault, name)
        };
        let instead =
            |kind: &FaultKind| matches!(kind, FaultKind::Status { .. } | FaultKind::Redirect { .. });
        if let Some(at) = on.iter().position(|on| aimed(on) && instead(&on.switch.fault.kind)) {
            let taken = vec![on[at].switch.fault.kind.clone()];
            self.use_up(on, at, name);
            return taken;
        }
        let mut taken: Vec<FaultKind> = Vec::new();
        let mut at = 0;
        while at < on.len() {
            let count = on.len();
            let kind = on[at].switch.fault.kind.clone();
            if aimed(&on[at]) && !taken.iter().any(|other| other.name() == kind.name()) {
                taken.push(kind);
                self.use_up(on, at, name);
            }
            // One that was used up has made room for the next.
            at += usize::from(on.len() == count);
        }
        taken
    }

    fn use_up(&self, on: &mut Vec<On>, at: usize, target: &str) {
        let switch = &mut on[at].switch;
        let fault = switch.fault.kind.name().to_owned();
        self.events.emit(EventKind::FaultFired { fault, target: target.to_owned() });
        switch.fired = switch.fired.saturating_add(1);
        if let Some(times) = &mut switch.fault.times {
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

    #[test]
    fn the_table_has_every_fault_and_every_row_can_be_thrown() {
        let unknown = serde_json::from_value::<Fault>(json!({"fault": "meteor"})).unwrap_err().to_string();
        let rows: Vec<_> = FAULTS.iter().map(|row| format!("`{}`", row.name)).collect();
        let known: Vec<_> = unknown.split_once("expected one of ").unwrap().1.split(", ").collect();
        assert_eq!(known, rows);
        for row in FAULTS {
            let value: Value = serde_json::from_str(&row.example()).unwrap();
            assert_eq!(Fault::from_json(&value).unwrap().kind.name(), row.name);
            for (member, _) in row.members.iter().filter(|(_, value)| !value.starts_with('[')) {
                let mut without = value.clone();
                without.as_object_mut().unwrap().remove(*member);
                assert!(Fault::from_json(&without).is_err(), "{} without {member}", row.name);
            }
        }
        let misspelt = Fault::from_json(&json!({"fault": "mute", "tims": 1})).unwrap_err();
        assert!(misspelt.message.contains("\"tims\""), "{misspelt}");
    }

    #[test]
    fn a_fault_ends_with_its_time_and_is_switched_off_by_its_number() {
        let faults = Faults::new(Arc::default());
        let over = Fault { seconds: Some(0), ..Fault::always("dev", FaultKind::Mute) };
        faults.set(over);
        assert!(!faults.fires("dev", &FaultKind::Mute));
        let lasting = Fault { seconds: Some(1000), ..Fault::always("dev", FaultKind::Mute) };
        let id = faults.set(lasting.clone());
        assert!(faults.fires("dev", &FaultKind::Mute));
        assert_eq!(faults.switches(), [Switch { id, fault: lasting, fired: 1 }]);
        assert!(faults.remove(id));
        assert!(!faults.remove(id) && faults.list().is_empty());
    }
}
