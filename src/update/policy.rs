//! When an update may go on. Data in, answer out: no clock, no time zones, no state of its own.

use std::fmt;

use super::job::Job;
use super::state::{Plan, Stage};
use crate::model::{Bytes, Cost, Rules, Seconds, Timestamp, Window, Zone};

/// What holds just now; the times are unknown while the clock is not to be trusted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Conditions {
    /// The time.
    pub time: Option<Timestamp>,
    /// Time of day in the rules' time zone, in minutes since midnight.
    pub minute: Option<u16>,
    /// How many bytes one update may fetch, as configured; 0 is no limit.
    pub cap: u64,
}

/// What an update waits for, and how long at most.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gate {
    /// What it waits for.
    pub wait: Wait,
    /// From this time on it waits no more.
    pub until: Option<Timestamp>,
}

/// What an update waits for. In the order in which it is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wait {
    /// It would fetch more than is allowed, and nobody has agreed to that yet.
    Cost {
        /// What it costs.
        cost: Cost,
        /// How many bytes it may fetch.
        allowed: u64,
        /// How many bytes per second it may fetch; 0 is no limit.
        rate: u64,
    },
    /// It was asked for in two steps, and nobody took the second one yet.
    Apply,
    /// Nobody has allowed it yet.
    Consent,
    /// There is a window, and the time of day is not known, so it cannot be the right one.
    Clock(Window, Zone),
    /// It is not the right time of day.
    Window(Window, Zone),
    /// The device's root keys cannot be used, so nothing that has to be signed can be judged; with the remedy. Asked when policy
    /// waits for nothing, and not here.
    Keys(String),
    /// A program of the integrator says that it is not the time. Asked when nothing else is waited for, and not here.
    Hook(String),
}

/// What `job` waits for before `stage`, if anything: the one place where this is decided.
///
/// Only switching over waits; what is downloaded meanwhile need not be downloaded then. But where a download was found to
/// take more bytes than are allowed, it waits until somebody agrees to that, and no date or hour ends this. The order is that of the
/// people involved: first somebody has to agree, then the hour has to be right; who agrees at noon is told then that
/// it will be at night. A date to force it by ends all waiting, if it is known that it has come. Going back on request
/// and a factory reset wait for nothing: whoever asks for them is there, and means now.
pub fn gate(stage: Stage, job: &Job, rules: &Rules, now: &Conditions) -> Option<Gate> {
    if let (Stage::Download, Some(cost)) = (stage, job.cost) {
        let allowed = job.allowance(now.cap);
        let is_too_dear = allowed > 0 && cost.fetch > allowed;
        return is_too_dear
            .then_some(Gate { wait: Wait::Cost { cost, allowed, rate: rules.rate_limit }, until: None });
    }
    match (&job.plan, stage) {
        (Plan::GoBack | Plan::Rescue | Plan::FactoryReset(_), Stage::Download | Stage::Apply)
        | (Plan::Install(_), Stage::Download) => return None,
        (Plan::Install(_), Stage::Apply) => {}
    }
    let until = job.terms.force_by;
    if let (Some(until), Some(time)) = (until, now.time)
        && time >= until
    {
        return None;
    }
    let is_allowed = job.consent.is_some();
    let wait = match (rules.window, now.minute) {
        _ if job.terms.hold && !is_allowed => Wait::Apply,
        _ if (job.terms.consent || rules.consent) && !is_allowed => Wait::Consent,
        (None, _) => return None,
        (Some(window), None) => Wait::Clock(window, rules.zone.clone()),
        (Some(window), Some(minute)) if window.contains(minute) => return None,
        (Some(window), Some(_)) => Wait::Window(window, rules.zone.clone()),
    };
    Some(Gate { wait, until })
}

impl Job {
    /// Whether somebody may have to allow switching over: by the rules, or because it was asked for on these terms.
    pub fn asks_consent(&self, rules: &Rules) -> bool {
        rules.consent || self.terms.consent || self.terms.hold
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.wait {
            Wait::Cost { cost, allowed, rate } => {
                let [fetch, full, allowed] = [cost.fetch, cost.full, *allowed].map(Bytes);
                let time = cost.seconds(*rate).map(|time| format!(" in some {}", Seconds(time)));
                let time = time.unwrap_or_default();
                write!(
                    f,
                    "waiting for consent to fetch {fetch} of {full}{time}, since download.data_cap allows {allowed} (twinboot apply, \
                     method firmwareApply)"
                )?;
            }
            Wait::Apply => {
                f.write_str("ready, waiting to be applied (twinboot apply, method firmwareApply)")?
            }
            Wait::Consent => f.write_str("waiting for consent (twinboot apply, method firmwareApply)")?,
            Wait::Clock(window, zone) => {
                write!(
                    f,
                    "waiting for the clock to be set: the maintenance window is {}",
                    Daily(*window, zone)
                )?;
            }
            Wait::Window(window, zone) => {
                write!(f, "waiting for the maintenance window {}", Daily(*window, zone))?;
            }
            Wait::Keys(why) => write!(f, "waiting, since {why}")?,
            Wait::Hook(why) => write!(f, "waiting for {why}")?,
        }
        match self.until {
            Some(until) => write!(f, ", or until {}", until.to_string().replace(".000Z", "Z")),
            None => Ok(()),
        }
    }
}

/// A window with its time zone.
struct Daily<'a>(Window, &'a Zone);

impl fmt::Display for Daily<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Zone::Local => write!(f, "{} local time", self.0),
            zone @ (Zone::Utc | Zone::Named(_)) => write!(f, "{} {zone}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Artifact, Consent, Factory, IntentId, Location, Origin, Slot, Terms, UpdateId};

    const WINDOW: Window = Window { from: 120, to: 270 };
    const INSIDE: Option<u16> = Some(120);
    const OUTSIDE: Option<u16> = Some(270);

    fn job(plan: Plan) -> Job {
        Job::new(UpdateId("u".into()), IntentId("i".into()), Origin::Desired, plan, Slot::B)
    }

    fn install() -> Plan {
        let location = Location::File("/image".into());
        Plan::Install(Artifact { version: None, location, sha256: None, size: None })
    }

    /// Configured to ask for consent, hold, asked for with consent, consented, window, force-by, time, minute: waits
    /// for what.
    #[allow(clippy::type_complexity, reason = "a table")]
    const TABLE: [(bool, bool, bool, bool, bool, Option<u64>, Option<u64>, Option<u16>, &str); 26] = [
        // Nothing asked for.
        (false, false, false, false, false, None, None, None, ""),
        (false, false, false, false, false, None, Some(9), OUTSIDE, ""),
        // Consent: by configuration, by the request, held, and given.
        (true, false, false, false, false, None, None, None, "consent"),
        (false, false, true, false, false, None, None, None, "consent"),
        (false, true, false, false, false, None, None, None, "apply"),
        (true, true, true, false, false, None, None, None, "apply"),
        (true, true, true, true, false, None, None, None, ""),
        // The window, in it, outside of it, and without a clock.
        (false, false, false, false, true, None, Some(9), INSIDE, ""),
        (false, false, false, false, true, None, Some(9), OUTSIDE, "window"),
        (false, false, false, false, true, None, None, None, "clock"),
        // First consent, then the window.
        (true, false, false, false, true, None, Some(9), INSIDE, "consent"),
        (true, false, false, false, true, None, Some(9), OUTSIDE, "consent"),
        (true, false, false, false, true, None, None, None, "consent"),
        (true, false, false, true, true, None, Some(9), INSIDE, ""),
        (true, false, false, true, true, None, Some(9), OUTSIDE, "window"),
        (true, false, false, true, true, None, None, None, "clock"),
        // Consent is no way around the window.
        (false, true, false, true, true, None, Some(9), OUTSIDE, "window"),
        // A date to force it by opens everything, once it has come for certain.
        (true, false, false, false, true, Some(10), Some(9), INSIDE, "consent"),
        (true, false, false, false, true, Some(10), Some(10), OUTSIDE, ""),
        (true, false, false, false, true, Some(10), Some(11), OUTSIDE, ""),
        (true, false, false, false, true, Some(10), None, None, "consent"),
        (false, false, false, false, true, Some(10), Some(9), OUTSIDE, "window"),
        (false, false, false, false, true, Some(10), Some(10), OUTSIDE, ""),
        (false, false, false, false, true, Some(10), None, None, "clock"),
        (false, true, false, false, false, Some(10), Some(9), None, "apply"),
        (false, true, false, false, false, Some(10), Some(10), None, ""),
    ];

    #[test]
    fn what_is_waited_for() {
        for row in TABLE {
            let (configured, hold, consent, consented, window, force_by, time, minute, wanted) = row;
            let rules = Rules { window: window.then_some(WINDOW), consent: configured, ..Rules::default() };
            let mut job = job(install());
            job.terms = Terms { hold, consent, force_by: force_by.map(Timestamp), ..Terms::default() };
            job.consent = consented.then_some(Consent { by: Origin::Local, at: None });
            let now = Conditions { time: time.map(Timestamp), minute, cap: 0 };
            let found = match gate(Stage::Apply, &job, &rules, &now).map(|gate| gate.wait) {
                None => "",
                Some(Wait::Cost { .. }) => "cost",
                Some(Wait::Apply) => "apply",
                Some(Wait::Consent) => "consent",
                Some(Wait::Clock(..)) => "clock",
                Some(Wait::Window(..)) => "window",
                Some(Wait::Keys(_)) => "keys",
                Some(Wait::Hook(_)) => "hook",
            };
            assert_eq!(found, wanted, "{row:?}");
            assert_eq!(gate(Stage::Download, &job, &rules, &now), None, "downloading never waits");
            for plan in [Plan::GoBack, Plan::Rescue, Plan::FactoryReset(Factory::default())] {
                let job = Job { plan, ..job.clone() };
                assert_eq!(gate(Stage::Apply, &job, &rules, &now), None);
            }
        }
    }

    /// Money is no matter of the hour: neither a date nor consent to switch over opens this gate.
    #[test]
    fn a_cost_is_agreed_to_and_nothing_else_will_do() {
        let cost = Cost { fetch: 100, write: 1, full: 200 };
        let factory = Factory { image: None, program: false };
        for plan in [install(), Plan::FactoryReset(factory)] {
            let mut job = job(plan);
            job.cost = Some(cost);
            job.consent = Some(Consent { by: Origin::Local, at: None });
            job.terms = Terms { force_by: Some(Timestamp(1)), ..Terms::default() };
            let now = |cap| Conditions { time: Some(Timestamp(2)), minute: INSIDE, cap };
            let found =
                |job: &Job, cap| gate(Stage::Download, job, &Rules::default(), &now(cap)).map(|it| it.wait);
            assert_eq!(found(&job, 99), Some(Wait::Cost { cost, allowed: 99, rate: 0 }));
            assert_eq!((found(&job, 100), found(&job, 0)), (None, None));
            job.cost_allowed = Some(90);
            assert_eq!(found(&job, 10), Some(Wait::Cost { cost, allowed: 94, rate: 0 }));
            job.cost_allowed = Some(100);
            assert_eq!(found(&job, 10), None);
        }
    }

    #[test]
    fn what_is_told() {
        let zone = |text: &str| text.parse::<Zone>().expect("a zone");
        let until = Some(Timestamp(1_796_083_200_000));
        for (wait, until, text) in [
            (
                Wait::Cost {
                    cost: Cost { fetch: 31_200_000, write: 7, full: 112_000_000 },
                    allowed: 10_000_000,
                    rate: 0,
                },
                None,
                "waiting for consent to fetch 31.2 MB of 112 MB, since download.data_cap allows 10.0 MB (twinboot apply, \
                 method firmwareApply)",
            ),
            (
                Wait::Cost {
                    cost: Cost { fetch: 31_200_000, write: 7, full: 112_000_000 },
                    allowed: 10_000_000,
                    rate: 64 << 10,
                },
                None,
                "waiting for consent to fetch 31.2 MB of 112 MB in some 7 min 57 s, since download.data_cap allows 10.0 MB \
                 (twinboot apply, method firmwareApply)",
            ),
            (Wait::Apply, None, "ready, waiting to be applied (twinboot apply, method firmwareApply)"),
            (Wait::Consent, None, "waiting for consent (twinboot apply, method firmwareApply)"),
            (
                Wait::Consent,
                until,
                "waiting for consent (twinboot apply, method firmwareApply), or until 2026-12-01T00:00:00Z",
            ),
            (
                Wait::Window(WINDOW, zone("Europe/Berlin")),
                until,
                "waiting for the maintenance window 02:00-04:30 Europe/Berlin, or until 2026-12-01T00:00:00Z",
            ),
            (Wait::Keys("no: mend it".into()), None, "waiting, since no: mend it"),
            (Wait::Hook("hook pre-arm/10-idle: busy".into()), None, "waiting for hook pre-arm/10-idle: busy"),
            (Wait::Window(WINDOW, Zone::Utc), None, "waiting for the maintenance window 02:00-04:30 UTC"),
            (
                Wait::Clock(WINDOW, Zone::Local),
                None,
                "waiting for the clock to be set: the maintenance window is 02:00-04:30 local time",
            ),
        ] {
            assert_eq!(Gate { wait, until }.to_string(), text);
        }
    }
}
