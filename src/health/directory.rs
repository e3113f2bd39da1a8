//! The health checks of a directory of programs.
//!
//! Which of them may be run is [`crate::program`]'s word. What may not is not passed over either: it fails, with the
//! remedy. A check that was silently left out would confirm what it was there to stop.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use super::program::Program;
use super::{Answer, Check, Verdict};
use crate::model::Failure;
use crate::program::{Found, Runner, list};

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of programs. It need not exist.
    pub directory: PathBuf,
    /// How long one program may take for one answer.
    pub timeout: Duration,
    /// `TWINBOOT_…` variables: with a fixed `PATH`, all of a program's environment.
    pub environment: Vec<(String, String)>,
    /// Who runs them.
    pub runner: Runner,
}

/// The checks of the directory, in the order of their names.
pub fn programs(settings: &Settings) -> Vec<Box<dyn Check>> {
    let directory = &settings.directory;
    match list(directory) {
        Ok(checks) => checks.into_iter().map(|found| check(settings, found)).collect(),
        Err(why) => vec![check(settings, (directory.display().to_string(), Err(why)))],
    }
}

fn check(settings: &Settings, (name, found): Found) -> Box<dyn Check> {
    match found {
        Ok(path) => {
            let environment = settings.environment.clone();
            Box::new(Program::new(name, path, settings.timeout, environment, settings.runner.clone()))
        }
        Err(why) => Box::new(Untrusted { name, why }),
    }
}

/// Stands for what must not be run.
struct Untrusted {
    name: String,
    why: String,
}

impl Check for Untrusted {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, _: Duration) -> Answer<'_> {
        let reason = Failure::Unhealthy.because(format!("health check not run: {}", self.why));
        Box::pin(std::future::ready(Verdict::Fail(reason)))
    }
}
