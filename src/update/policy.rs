//! When an update may go on. Data in, answer out: no clock, no state of its own.

use super::job::Job;
use super::state::{Plan, Stage};
use crate::model::{Rules, Window};

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
            Self::Window(window) => write!(f, "waiting for the time window {window} UTC"),
        }
    }
}

/// What `job` waits for before `stage`, if anything. Going back on request waits for nothing: whoever asks for it
/// is in trouble now.
pub fn gate(stage: Stage, job: &Job, rules: &Rules, now: &Conditions) -> Option<Gate> {
    match (&job.plan, stage) {
        (Plan::GoBack | Plan::Rescue, Stage::Download | Stage::Apply)
        | (Plan::Install(_), Stage::Download) => None,
        (Plan::Install(_), Stage::Apply) if job.asks_consent(rules) && job.consent.is_none() => {
            Some(Gate::Consent)
        }
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
    use crate::model::{Consent, IntentId, Location, Origin, Slot, UpdateId};

    fn job(plan: Plan) -> Job {
        Job::new(UpdateId("u".into()), IntentId("i".into()), Origin::Desired, plan, Slot::B)
    }

    fn install() -> Plan {
        let location = Location::File("/image".into());
        Plan::Install(crate::model::Artifact { version: None, location, sha256: None, size: None })
    }

    #[test]
    fn switching_over_waits_for_consent_then_for_the_window_and_never_without_a_clock() {
        let window = Window { from: 60, to: 120 };
        let rules = Rules { window: Some(window), consent: true, ..Rules::default() };
        let mut job = job(install());
        let at = |minute| Conditions { minute };
        assert_eq!(gate(Stage::Download, &job, &rules, &at(None)), None);
        assert_eq!(gate(Stage::Apply, &job, &rules, &at(Some(60))), Some(Gate::Consent));
        job.consent = Some(Consent { by: Origin::Local, at: None });
        assert_eq!(gate(Stage::Apply, &job, &rules, &at(Some(60))), None);
        assert_eq!(gate(Stage::Apply, &job, &rules, &at(Some(120))), Some(Gate::Window(window)));
        assert_eq!(gate(Stage::Apply, &job, &rules, &at(None)), Some(Gate::Clock));
        assert_eq!(gate(Stage::Apply, &job, &Rules::default(), &at(None)), None);
    }

    #[test]
    fn going_back_waits_for_nothing() {
        let window = Some(Window { from: 60, to: 120 });
        let rules = Rules { window, consent: true, ..Rules::default() };
        assert_eq!(gate(Stage::Apply, &job(Plan::GoBack), &rules, &Conditions::default()), None);
    }
}
