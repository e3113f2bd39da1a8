//! "Nothing has failed that had not failed before": what systemd says of the new system, against what it said of the old
//! one. What was broken before the update is not the update's fault.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Check, Verdict};
use crate::model::Failure;
use crate::program::{Manager, Units};

/// How often systemd is asked, at most.
const ASK_AGAIN: Duration = Duration::from_secs(3);
/// How long a unit that failed has for coming back.
const SETTLE: Duration = Duration::from_secs(10);
/// So many units are named.
const NAMED: usize = 8;
/// Units of ours that never count: what somebody has on a stick, or that it is pulled out, says nothing of the system.
const MEDIA: &str = "twinboot-medium@";

/// Passes once the machine has come up, no unit has failed that had not failed before the update, and
/// `boot-complete.target` is reached if it was before.
pub struct SameUnits {
    before: Units,
    ignored: Vec<String>,
    manager: Arc<Manager>,
    /// When systemd was asked last, and what followed.
    asked: Option<(Instant, Verdict)>,
    /// Since when something is wrong.
    wrong: Option<Instant>,
}

impl SameUnits {
    /// The check. `before` is the old system; units in `ignored` (a name, or its beginning and `*`) do not count.
    pub fn new(before: Units, ignored: Vec<String>, manager: Arc<Manager>) -> Self {
        Self { before, ignored, manager, asked: None, wrong: None }
    }

    async fn ask(&mut self) -> Verdict {
        if let Some((at, verdict)) = &self.asked
            && at.elapsed() < ASK_AGAIN
        {
            return verdict.clone();
        }
        let verdict = match self.manager.units().await {
            Ok(now) => self.judge(&now),
            Err(why) => Verdict::Wait(why),
        };
        self.asked = Some((Instant::now(), verdict.clone()));
        verdict
    }

    fn judge(&mut self, now: &Units) -> Verdict {
        if now.is_starting && !self.before.is_starting {
            return Verdict::Wait("the machine is still coming up".into());
        }
        let Some(why) = difference(&self.before, now, &self.ignored) else {
            self.wrong = None;
            return Verdict::Pass;
        };
        if self.wrong.get_or_insert_with(Instant::now).elapsed() < SETTLE {
            return Verdict::Wait(why);
        }
        Verdict::Fail(Failure::Unhealthy.because(why))
    }
}

impl Check for SameUnits {
    fn name(&self) -> &str {
        "units"
    }

    fn run(&mut self, _: Duration) -> Answer<'_> {
        Box::pin(self.ask())
    }
}

/// What is worse than it was, in a sentence.
fn difference(before: &Units, now: &Units, ignored: &[String]) -> Option<String> {
    let counts = |unit: &&String| {
        !unit.starts_with(MEDIA)
            && !ignored.iter().any(|it| match it.strip_suffix('*') {
                Some(beginning) => unit.starts_with(beginning),
                None => it == *unit,
            })
    };
    let new: Vec<_> = now.failed.difference(&before.failed).filter(counts).map(String::as_str).collect();
    if !new.is_empty() {
        let more = new.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = new[..new.len().min(NAMED)].join(", ");
        return Some(format!("units failed that had not failed before the update: {named}{more}"));
    }
    let is_lost = before.is_complete && !now.is_complete;
    is_lost.then(|| "boot-complete.target is not reached, as it was before the update".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(failed: &[&str]) -> Units {
        Units {
            failed: failed.iter().map(|&it| it.to_owned()).collect(),
            is_starting: false,
            is_complete: true,
        }
    }

    fn check(before: Units) -> SameUnits {
        let ignored = vec!["getty@*".to_owned(), "noise.service".to_owned()];
        SameUnits::new(before, ignored, Manager::new("/nonexistent".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_before_is_not_held_against_the_new_system() {
        let mut check = check(units(&["old.service", "modem.service"]));
        for now in [&[][..], &["modem.service"], &["old.service", "getty@tty1.service", "noise.service"]] {
            assert_eq!(check.judge(&units(now)), Verdict::Pass, "{now:?}");
        }
        // A stick with nothing for this device, in a port while a new system is on trial.
        assert_eq!(check.judge(&units(&["twinboot-medium@sda1.service"])), Verdict::Pass);
    }

    #[tokio::test(start_paused = true)]
    async fn p100_a_unit_that_fails_and_stays_failed_is_one() {
        let mut check = check(units(&["old.service"]));
        let now = units(&["app.service", "old.service", "noise.service.d"]);
        let why = "units failed that had not failed before the update: app.service, noise.service.d";
        assert_eq!(check.judge(&now), Verdict::Wait(why.into()));
        tokio::time::advance(SETTLE).await;
        assert_eq!(check.judge(&now), Verdict::Fail(Failure::Unhealthy.because(why)));
        // It came back, and each failure has its own time to do so.
        assert_eq!(check.judge(&units(&[])), Verdict::Pass);
        assert_eq!(check.judge(&now), Verdict::Wait(why.into()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_machine_has_to_come_up_if_it_did_before() {
        let starting = Units { is_starting: true, ..units(&["app.service"]) };
        assert!(
            matches!(check(units(&[])).judge(&starting), Verdict::Wait(why) if why.contains("coming up"))
        );
        let never = Units { is_starting: true, ..units(&[]) };
        assert_eq!(
            check(never.clone()).judge(&never),
            Verdict::Pass,
            "it never ended in the old one, either"
        );
        let incomplete = Units { is_complete: false, ..units(&[]) };
        let mut complete = check(units(&[]));
        assert!(matches!(complete.judge(&incomplete), Verdict::Wait(_)));
        tokio::time::advance(SETTLE).await;
        let verdict = complete.judge(&incomplete);
        assert!(matches!(verdict, Verdict::Fail(why) if why.detail.contains("boot-complete.target")));
        assert_eq!(check(incomplete.clone()).judge(&incomplete), Verdict::Pass);
    }
}
