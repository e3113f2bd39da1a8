//! When an update may go on. Data in, answer out: no clock, no state of its own.

use serde::{Deserialize, Serialize};

use super::job::Job;
use super::state::{Plan, Stage};

/// What the integrator configured.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    /// Switch over only within this time of day.
    pub window: Option<Window>,
    /// Switch over only after the operator allowed it.
    pub consent: bool,
}

/// A time of day in UTC, in minutes since midnight; `from` is inside, `to` is not, and it may span midnight.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Window {
    /// First minute inside.
    pub from: u16,
    /// First minute outside again.
    pub to: u16,
}

impl Window {
    /// Whether `minute` (0 to 1439) is inside. A window that ends when it begins is the whole day.
    pub fn contains(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// What holds just now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Conditions {
    /// Time of day in UTC, in minutes since midnight; `None` while the clock is not to be trusted.
    pub minute: Option<u16>,
}

/// Why an update waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// The operator has not allowed it yet.
    Consent,
    /// The time of day is not known, so it cannot be the right one.
    Clock,
    /// It is not the right time of day.
    Window(Window),
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Consent => f.write_str("waiting for consent (twinboot apply)"),
            Self::Clock => f.write_str("waiting for the clock to be set: switching over has a time window"),
            Self::Window(Window { from, to }) => {
                let (h, m, to_h, to_m) = (from / 60, from % 60, to / 60, to % 60);
                write!(f, "waiting for the time window {h:02}:{m:02}-{to_h:02}:{to_m:02} UTC")
            }
        }
    }
}

/// What `job` waits for before `stage`, if anything. Going back on request waits for nothing: whoever asks for it
/// is in trouble now.
pub fn gate(stage: Stage, job: &Job, rules: &Rules, now: &Conditions) -> Option<Gate> {
    match (&job.plan, stage) {
        (Plan::GoBack | Plan::Rescue, Stage::Download | Stage::Apply)
        | (Plan::Install(_), Stage::Download) => None,
        (Plan::Install(_), Stage::Apply) if rules.consent && !job.consented => Some(Gate::Consent),
        (Plan::Install(_), Stage::Apply) => match (rules.window, now.minute) {
            (None, _) => None,
            (Some(_), None) => Some(Gate::Clock),
            (Some(window), Some(minute)) => (!window.contains(minute)).then_some(Gate::Window(window)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IntentId, Location, Origin, Slot, UpdateId};

    fn job(plan: Plan) -> Job {
        Job::new(UpdateId("u".into()), IntentId("i".into()), Origin::Desired, plan, Slot::B)
    }

    fn install() -> Plan {
        let location = Location::File("/image".into());
        Plan::Install(crate::model::Artifact { version: None, location, sha256: None, size: None })
    }

    #[test]
    fn windows_may_span_midnight() {
        let night = Window { from: 22 * 60, to: 4 * 60 };
        for (minute, inside) in
            [(22 * 60, true), (0, true), (4 * 60 - 1, true), (4 * 60, false), (12 * 60, false)]
        {
            assert_eq!(night.contains(minute), inside, "{minute}");
        }
        let noon = Window { from: 720, to: 780 };
        assert!(noon.contains(720) && noon.contains(779) && !noon.contains(780) && !noon.contains(0));
        assert!(Window { from: 5, to: 5 }.contains(1000), "the whole day");
    }

    #[test]
    fn switching_over_waits_for_consent_then_for_the_window_and_never_without_a_clock() {
        let window = Window { from: 60, to: 120 };
        let rules = Rules { window: Some(window), consent: true };
        let mut job = job(install());
        let at = |minute| Conditions { minute };
        assert_eq!(gate(Stage::Download, &job, &rules, &at(None)), None);
        assert_eq!(gate(Stage::Apply, &job, &rules, &at(Some(60))), Some(Gate::Consent));
        job.consented = true;
        assert_eq!(gate(Stage::Apply, &job, &rules, &at(Some(60))), None);
        assert_eq!(gate(Stage::Apply, &job, &rules, &at(Some(120))), Some(Gate::Window(window)));
        assert_eq!(gate(Stage::Apply, &job, &rules, &at(None)), Some(Gate::Clock));
        assert_eq!(gate(Stage::Apply, &job, &Rules::default(), &at(None)), None);
    }

    #[test]
    fn going_back_waits_for_nothing() {
        let rules = Rules { window: Some(Window { from: 60, to: 120 }), consent: true };
        assert_eq!(gate(Stage::Apply, &job(Plan::GoBack), &rules, &Conditions::default()), None);
    }
}
