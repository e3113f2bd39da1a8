//! Programs that the integrator put on the device, run by us as root: which may be run at all, and one run from its
//! start to its last child's end.
//!
//! There are two ways to run one ([`Runner`]), and whoever asks cannot tell them apart: as a child in a process group
//! of its own, or, where we are a service of systemd's, in a unit of its own that the service manager starts. The
//! service's sandbox has no network and next to nothing to write; a health check needs the system as it is.
//!
//! Not here: what a program is asked for and what its answer means. Health checks, hooks, device properties and the
//! factory reset use this.

mod ending;
mod group;
mod guard;
mod manager;
mod output;
#[cfg(test)]
mod tests;
mod unit;
mod units;

use std::fmt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

pub use guard::{Found, is_trusted, list, list_data};
pub use manager::Manager;
pub use units::Units;

/// The same for every program, whatever ours is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who runs programs. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub enum Runner {
    /// We, as children: they share our sandbox, if we have one.
    Direct,
    /// The service manager, each in a transient unit.
    Systemd(Arc<Manager>),
}

/// One run of a program: without a shell, in the root directory, with `environment` and a fixed `PATH`. Under systemd
/// there are also the variables that it gives every service, such as `INVOCATION_ID`.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// What it is run for.
    pub purpose: Purpose,
    /// What people call it.
    pub name: &'a str,
    /// Its absolute name.
    pub path: &'a Path,
    /// Its arguments.
    pub arguments: &'a [&'a str],
    /// `TWINBOOT_…` variables. No secrets: under systemd every user can read them.
    pub environment: &'a [(String, String)],
    /// What it may read; nothing, if `None`.
    pub input: Option<&'a [u8]>,
    /// What becomes of its output.
    pub keep: Keep,
    /// How long it may take.
    pub limit: Duration,
    /// How long it may take to end when it is asked to, before it is made to.
    pub grace: Duration,
}

/// What a program is run for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// To judge a new system.
    Health,
    /// To take part in an update.
    Hook,
    /// To tell or set a property.
    Property,
    /// To make the data as new.
    FactoryReset,
    /// To speak with the bootloader.
    Bootloader,
}

/// What becomes of a program's output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// The end of all that it writes, for people.
    Tail,
    /// The beginning of its standard output, so many bytes at most, as its answer; and the end of what it writes to
    /// standard error, for people.
    Answer(usize),
}

/// How a run went.
#[derive(Debug)]
pub struct Ran {
    /// How the program ended; `None` if it had not when its time was over.
    pub status: Option<ExitStatus>,
    /// The end of the output that is for people, as text.
    pub tail: String,
    /// The program's answer, if one was to be kept; `None` if it is longer than was to be kept.
    pub answer: Option<Vec<u8>>,
}

/// Why a program was not run, to follow its name in a sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NotRun {
    /// It cannot be.
    Never(String),
    /// The service manager did not start it, which it may do later: it refuses while the machine goes down.
    NotNow(String),
}

impl Runner {
    /// Runs a program from its start to its end, or to the end of its time. When this is dropped before, nothing the
    /// program started may stay.
    ///
    /// # Errors
    /// If it was not run at all.
    pub async fn run(&self, task: &Task<'_>) -> Result<Ran, NotRun> {
        match self {
            Self::Direct => group::run(task).await,
            Self::Systemd(manager) => manager.run(task).await,
        }
    }
}

impl Purpose {
    /// The word for it in the names of units.
    fn word(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Hook => "hook",
            Self::Property => "property",
            Self::FactoryReset => "factory-reset",
            Self::Bootloader => "bootloader",
        }
    }
}

impl Ran {
    /// What went wrong, to follow the program's name in a sentence, with the end of its output; `None` if it ended
    /// well.
    pub fn trouble(&self, limit: Duration) -> Option<String> {
        let what = match self.status {
            Some(status) if status.success() => return None,
            // Displays as "exit status: 1" or "signal: 11 (SIGSEGV)".
            Some(status) => format!("ended with {status}"),
            None => format!("did not end within {limit:?}"),
        };
        Some(if self.tail.is_empty() { what } else { format!("{what}: {}", self.tail) })
    }
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never(why) => write!(f, "cannot be run: {why}"),
            Self::NotNow(why) => write!(f, "was not started: {why}"),
        }
    }
}
