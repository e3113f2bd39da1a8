//! Health: whether a system on trial is good enough to be kept.
//!
//! A list of [`Check`]s and [`judge`], which asks them until all are content, one fails, or the time after the boot
//! is over. Programs in a directory ([`programs`]), a connection to the hub ([`Connected`]), the version
//! ([`RightVersion`]), root keys that can be used ([`UsableKeys`]). Nothing is committed or reverted here: the engine does that with the verdict. It may all run
//! twice, because the daemon may be restarted in the middle; the time does not begin anew then.

mod connected;
mod deadline;
mod directory;
mod keys;
mod program;
#[cfg(test)]
mod tests;
mod units;
mod version;

use std::pin::Pin;
use std::time::Duration;

use tracing::debug;

use crate::model::{Failure, Reason};

pub use connected::{Connected, HubMode};
pub use deadline::{Deadline, Uptime};
pub use directory::{Settings, programs};
pub use keys::UsableKeys;
pub use units::SameUnits;
pub use version::RightVersion;

/// What one check says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Well.
    Pass,
    /// Not yet known, and why: ask again.
    Wait(String),
    /// Ill: the update is rolled back.
    Fail(Reason),
}

/// A verdict to come.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// Something a new system must satisfy.
pub trait Check: Send {
    /// What the operator calls it.
    fn name(&self) -> &str;

    /// Asks once. The answer must come within `left`; when it is dropped instead, nothing it started may stay.
    fn run(&mut self, left: Duration) -> Answer<'_>;

    /// The failure if this check alone has no verdict in time.
    fn late(&self) -> Failure {
        Failure::HealthTimeout
    }
}

/// How long after its time an answer is waited for: a program that must be killed takes that long to die.
const GRACE: Duration = Duration::from_secs(15);

/// A check that has not passed yet, and what it last said.
struct Open<'a> {
    check: &'a mut dyn Check,
    why: String,
}

/// Asks every check, in order and again after `pause`, until all have passed. A check that has passed is not asked
/// again.
///
/// The time counts from the boot ([`crate::host::Host::since_boot`]): so a daemon that is restarted in the middle, even again
/// and again, does not get more of it.
///
/// # Errors
/// The reason to roll back: the first failure, or what was waited for when the time was over.
pub async fn judge(
    checks: &mut [Box<dyn Check>],
    mut time: Deadline<impl Fn() -> Uptime>,
    pause: Duration,
) -> Result<(), Reason> {
    let deadline = time.after_boot();
    let unasked = || "not asked in time".to_owned();
    let mut open: Vec<_> =
        checks.iter_mut().map(|check| Open { check: &mut **check, why: unasked() }).collect();
    loop {
        let mut waiting = Vec::new();
        for mut it in open {
            let left = time.left();
            if !left.is_zero() {
                match ask(it.check, left).await {
                    Verdict::Pass => continue,
                    Verdict::Wait(why) => it.why = why,
                    Verdict::Fail(reason) => return Err(reason),
                }
            }
            waiting.push(it);
        }
        if waiting.is_empty() {
            return Ok(());
        }
        let left = time.left();
        if left.is_zero() {
            return Err(too_late(&waiting, deadline));
        }
        tokio::time::sleep(pause.min(left)).await;
        open = waiting;
    }
}

async fn ask(check: &mut dyn Check, left: Duration) -> Verdict {
    let verdict = tokio::time::timeout(left.saturating_add(GRACE), check.run(left)).await;
    let verdict = verdict.unwrap_or_else(|_| Verdict::Wait("no answer".into()));
    debug!(check = check.name(), ?verdict, "health");
    verdict
}

fn too_late(waiting: &[Open<'_>], deadline: Duration) -> Reason {
    // Only when nothing but the hub was missing is the hub to blame.
    let first = waiting.first().map_or(Failure::HealthTimeout, |it| it.check.late());
    let same = waiting.iter().all(|it| it.check.late() == first);
    let failure = if same { first } else { Failure::HealthTimeout };
    let names: Vec<_> = waiting.iter().map(|it| format!("{} ({})", it.check.name(), it.why)).collect();
    failure.because(format!("not healthy {deadline:?} after the boot: waited for {}", names.join(", ")))
}
