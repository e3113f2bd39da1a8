//! Hooks: programs of the integrator that take part in an update, at the points that are named by [`Stage`].
//!
//! Those of a stage are in a directory of its name and run one after the other, in the order of their names. They run
//! inside a work, and a work may begin again from anywhere: so each may run twice, or be cut short and run again.
//!
//! Which programs may be run is [`crate::program`]'s word. What may not is not passed over: before the commit it fails
//! the update, with the remedy. Nothing is decided here: the engine asks, and knows what follows.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{Failure, Reason};
use crate::program::{Keep, NotRun, Purpose, Runner, Task, list};

/// `EX_TEMPFAIL` of sysexits.h: not now.
const NOT_NOW: i32 = 75;

/// How long a program that is asked to end may take before it is made to.
const GRACE: Duration = Duration::from_secs(5);

/// Where in an update.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Before anything is fetched or written. May say "not now".
    PreDownload,
    /// The image is in place and read back, the gate is open: the last moment before the switch-over, with the old
    /// system still untouched. May say "not now".
    PreArm,
    /// The new system runs on trial and has not been judged. May say "not yet".
    PostBoot,
    /// The new system boots by default.
    PostCommit,
    /// The old system runs, and it is the only one that boots: the update failed, was cancelled or was rolled back.
    PostRollback,
}

impl Stage {
    /// All there are, in the order of an update's life.
    pub const ALL: [Self; 5] =
        [Self::PreDownload, Self::PreArm, Self::PostBoot, Self::PostCommit, Self::PostRollback];

    /// The name of its directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreDownload => "pre-download",
            Self::PreArm => "pre-arm",
            Self::PostBoot => "post-boot",
            Self::PostCommit => "post-commit",
            Self::PostRollback => "post-rollback",
        }
    }
}

/// Which programs, and how they are run.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// The directory of the stages' directories. None of them need exist.
    pub directory: PathBuf,
    /// How long one program may take.
    pub timeout: Duration,
    /// How long after a "not now" the stage is asked again.
    pub ask_again: Duration,
    /// Who runs them.
    pub runner: Runner,
}

/// What the hooks of a stage say together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// All went well: go on.
    Go,
    /// Not now, and who says so and why: ask again.
    Later(String),
}

impl Hooks {
    /// Whether there may be any for this stage.
    pub fn exist(&self, stage: Stage) -> bool {
        self.of(stage).try_exists().unwrap_or(true)
    }

    fn of(&self, stage: Stage) -> PathBuf {
        self.directory.join(stage.name())
    }

    /// Runs those of a stage up to the first that does not say "go on"; each for `left` at most. When this is dropped
    /// before its end, nothing they started stays.
    ///
    /// # Errors
    /// The reason to give the update up.
    pub async fn ask(
        &self,
        stage: Stage,
        environment: &[(String, String)],
        left: Duration,
    ) -> Result<Said, Reason> {
        let failed = |why: String| Failure::HookFailed.because(why);
        for (name, found) in list(&self.of(stage)).map_err(|why| failed(format!("hooks not run: {why}")))? {
            let path = found.map_err(|why| failed(format!("hook not run: {why}")))?;
            match self.run(stage, &name, &path, environment, left).await {
                Ok(Said::Go) => {}
                Ok(later @ Said::Later(_)) => return Ok(later),
                Err(why) => return Err(failed(why)),
            }
        }
        Ok(Said::Go)
    }

    /// Runs all those of a stage that nothing depends on any more; what did not go well, in words.
    pub async fn tell(&self, stage: Stage, environment: &[(String, String)]) -> Vec<String> {
        let found = match list(&self.of(stage)) {
            Ok(found) => found,
            Err(why) => return vec![format!("hooks not run: {why}")],
        };
        let mut complaints = Vec::new();
        for (name, found) in found {
            let ran = match found {
                Ok(path) => self.run(stage, &name, &path, environment, self.timeout).await,
                Err(why) => Err(format!("hook not run: {why}")),
            };
            match ran {
                Ok(Said::Go) => {}
                Ok(Said::Later(why)) => complaints.push(format!("{why} (nothing waits for it any more)")),
                Err(why) => complaints.push(why),
            }
        }
        complaints
    }

    /// Runs one; what it says, or in words what went wrong.
    async fn run(
        &self,
        stage: Stage,
        name: &str,
        path: &Path,
        environment: &[(String, String)],
        left: Duration,
    ) -> Result<Said, String> {
        let shown = format!("{}/{name}", stage.name());
        let mut environment = environment.to_vec();
        environment.push(("TWINBOOT_STAGE".into(), stage.name().into()));
        let limit = self.timeout.min(left);
        let task = Task {
            purpose: Purpose::Hook,
            name: &shown,
            path,
            arguments: &[],
            environment: &environment,
            input: None,
            keep: Keep::Tail,
            limit,
            grace: GRACE,
        };
        let ran = match self.runner.run(&task).await {
            Ok(ran) => ran,
            // A machine that goes down says nothing about the update.
            Err(why @ NotRun::NotNow(_)) => return Ok(Said::Later(format!("hook {shown} {why}"))),
            Err(why @ NotRun::Never(_)) => return Err(format!("hook {shown} {why}")),
        };
        if ran.status.is_some_and(|status| status.code() == Some(NOT_NOW)) {
            let why = if ran.tail.is_empty() { "not now" } else { &ran.tail };
            return Ok(Said::Later(format!("hook {shown}: {why}")));
        }
        match ran.trouble(limit) {
            Some(trouble) => Err(format!("hook {shown} {trouble}")),
            None => Ok(Said::Go),
        }
    }
}
