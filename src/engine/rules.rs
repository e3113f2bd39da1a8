//! The rules that hold: the configuration's, as the hub tuned them. Whoever has to follow them is told here and nowhere
//! else; and here the gates are looked at.

use super::Engine;
use crate::hub::Pace;
use crate::model::{Rules, Zone};
use crate::update::{Conditions, Gate, Wait, Work, gate};

impl Engine {
    /// Works out the rules anew and hands them to all who follow them: the session through the channel, a download
    /// that runs, the journal.
    pub(super) fn retune(&mut self) {
        let rules = self.configured.tuned(&self.record.tuning);
        self.rate.set(rules.rate_limit);
        self.verbosity.set(rules.log_level);
        if let Some(hub) = &self.hub {
            let (report_every, poll_every) = (rules.progress_every, rules.poll_every);
            hub.commands.pace(Pace { report_every, poll_every });
        }
        self.rules = rules;
        // Whether the zone is there is seen at the gate.
        self.warn_of_zone(None);
    }

    /// Looks whether the gate that `work` waits at is closed, and tells what it is waited for.
    pub(super) fn gate_is_closed(&mut self, work: Work) -> bool {
        let mut rules = self.rules.clone();
        let now = self.conditions(&mut rules);
        let (Work::Await(stage), Some(job)) = (work, self.record.state.job()) else { return false };
        let by_policy = gate(stage, job, &rules, &now);
        // What the hooks before the switch-over stopped waits for it: it is not put off for a day because that took a while.
        let by_policy = by_policy.filter(|gate| !(is_of_the_hour(&gate.wait) && self.hooks_are_done(work)));
        let closed = by_policy.or_else(|| self.gate_of_keys());
        let is_closed = closed.is_some();
        let waits = closed.or_else(|| self.gate_of_hooks());
        self.show_gate(waits);
        is_closed
    }

    /// Tells what is waited for, if that is news.
    pub(super) fn show_gate(&mut self, waits: Option<Gate>) {
        if let Some(gate) = &waits
            && self.live.gate.as_ref() != Some(gate)
        {
            let words = gate.to_string();
            let kind = if matches!(gate.wait, Wait::Hook(_)) { "a hook" } else { words.as_str() };
            self.repeat(|repeats, now, about| repeats.gate_waiting(now, about, kind, &words));
        }
        self.live.gate = waits;
    }

    /// What holds now. Where the time zone cannot be found out, the window is in UTC, and the operator is told: never
    /// to switch over again would be worse than to do it at another hour.
    fn conditions(&mut self, rules: &mut Rules) -> Conditions {
        let cap = self.data_cap;
        let Some(time) = self.now() else { return Conditions { cap, ..Conditions::default() } };
        if rules.window.is_none() {
            self.warn_of_zone(None);
            return Conditions { time: Some(time), minute: None, cap };
        }
        let (minute, warning) = match self.host.minute_of_day(&rules.zone, time) {
            Ok(minute) => (Some(minute), None),
            Err(error) => {
                let why = error.reason().detail;
                let warning = format!("the maintenance window is in UTC, not {} time: {why}", rules.zone);
                rules.zone = Zone::Utc;
                (self.host.minute_of_day(&Zone::Utc, time).ok(), Some(warning))
            }
        };
        self.warn_of_zone(warning);
        Conditions { time: Some(time), minute, cap }
    }

    pub(super) fn warn_of_zone(&mut self, warning: Option<String>) {
        if self.zone_warning == warning {
            return;
        }
        if let Some(old) = self.zone_warning.take() {
            self.live.warnings.remove(&old);
        }
        if let Some(new) = &warning {
            tracing::warn!("{new}");
            self.live.warnings.insert(new.clone());
        }
        self.zone_warning = warning;
    }
}

/// Whether the wait ends by itself, at some hour. What people or keys have to do is none of it.
fn is_of_the_hour(wait: &Wait) -> bool {
    match wait {
        Wait::Clock(..) | Wait::Window(..) => true,
        Wait::Cost { .. } | Wait::Apply | Wait::Consent | Wait::Keys(_) | Wait::Hook(_) => false,
    }
}
