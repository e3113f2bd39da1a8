//! One program that judges: run without a shell, in a clean environment, for a limited time.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::{Answer, Check, Verdict};
use crate::model::{Failure, Reason};
use crate::program::{Keep, NotRun, Purpose, Runner, Task};

/// `EX_TEMPFAIL` of sysexits.h: ask again.
const ASK_AGAIN: i32 = 75;

/// How long a program that is asked to end may take before it is made to.
const GRACE: Duration = Duration::from_secs(5);

/// A check that is a program.
pub(super) struct Program {
    name: String,
    path: PathBuf,
    timeout: Duration,
    environment: Vec<(String, String)>,
    runner: Runner,
    grace: Duration,
}

impl Program {
    pub(super) fn new(
        name: String,
        path: PathBuf,
        timeout: Duration,
        environment: Vec<(String, String)>,
        runner: Runner,
    ) -> Self {
        Self { name, path, timeout, environment, runner, grace: GRACE }
    }

    /// With another time for ending than the usual one.
    #[cfg(test)]
    pub(super) fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    async fn ask(&self, left: Duration) -> Verdict {
        let limit = self.timeout.min(left);
        let task = Task {
            purpose: Purpose::Health,
            name: &self.name,
            path: &self.path,
            arguments: &[],
            environment: &self.environment,
            input: None,
            keep: Keep::Tail,
            limit,
            grace: self.grace,
        };
        match self.runner.run(&task).await {
            Ok(ran) => match ran.status {
                Some(status) => self.verdict(status, &ran.tail),
                None => {
                    self.fail(Failure::HealthTimeout, &format!("had no verdict within {limit:?}"), &ran.tail)
                }
            },
            // A machine that goes down says nothing about the health of its system.
            Err(why @ NotRun::NotNow(_)) => Verdict::Wait(why.to_string()),
            Err(why @ NotRun::Never(_)) => self.fail(Failure::Unhealthy, &why.to_string(), ""),
        }
    }

    fn verdict(&self, status: ExitStatus, tail: &str) -> Verdict {
        match status.code() {
            Some(0) => Verdict::Pass,
            Some(ASK_AGAIN) => Verdict::Wait(if tail.is_empty() { "not yet" } else { tail }.into()),
            // Displays as "exit status: 1" or "signal: 11 (SIGSEGV)".
            Some(_) | None => self.fail(Failure::Unhealthy, &format!("ended with {status}"), tail),
        }
    }

    /// What happened comes first and the end of the output last; what does not fit is the output's beginning.
    fn fail(&self, failure: Failure, what: &str, tail: &str) -> Verdict {
        let mut detail: String = format!("health check {:?} {what}", self.name);
        if !tail.is_empty() {
            let room = Reason::MAX_DETAIL.saturating_sub(detail.chars().count() + 2);
            let skip = tail.chars().count().saturating_sub(room);
            detail.push_str(": ");
            detail.extend(tail.chars().skip(skip));
        }
        Verdict::Fail(failure.because(detail))
    }
}

impl Check for Program {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, left: Duration) -> Answer<'_> {
        Box::pin(self.ask(left))
    }
}
