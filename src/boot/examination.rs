//! What can be said of a bootloader before the first update, without having it boot: is there a way back from a system
//! that does not come up, and does the loader see what we write?
//!
//! Not here: what follows from it. `twinboot doctor` asks.

use super::Error;

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observation {
    /// What it is about.
    pub aspect: Aspect,
    /// How it looks.
    pub verdict: Verdict,
    /// What was seen, a sentence.
    pub what: String,
    /// What to do about it; empty if nothing has to be done.
    pub remedy: String,
}

/// What an observation is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aspect {
    /// The copies of the loader's variables: how many, and how many of them are good.
    Copies,
    /// What keeps other programs from writing at the same time.
    Lock,
    /// That a system which cannot be started leads to another boot, and not to a prompt.
    Restart,
    /// That the loader goes back by itself.
    Fallback,
    /// That the loader counts the boots of a trial, or knows of just one.
    Counter,
}

/// How something looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It may be right; from here that cannot be told, or it is not as safe as it could be.
    Doubtful,
    /// An update that goes wrong would not be undone.
    Bad,
}

impl Observation {
    /// As it should be.
    pub fn good(aspect: Aspect, what: impl Into<String>) -> Self {
        Self { aspect, verdict: Verdict::Good, what: what.into(), remedy: String::new() }
    }

    /// Perhaps not as it should be: `what`, and the `remedy`.
    pub fn doubtful(aspect: Aspect, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { aspect, verdict: Verdict::Doubtful, what: what.into(), remedy: remedy.into() }
    }

    /// An update that goes wrong would not be undone: `what`, and the `remedy`.
    pub fn bad(aspect: Aspect, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, ..Self::doubtful(aspect, what, remedy) }
    }
}

/// A variable of the loader's that has no meaning to it but to be handed on: its boot script puts the value on the
/// kernel's command line. What comes back there after a reboot was read by the loader, so what we write is what it reads.
pub trait Canary {
    /// The value that is written; `None` if there is none.
    ///
    /// # Errors
    /// As for [`Bootloader::view`](super::Bootloader::view).
    fn read(&mut self) -> Result<Option<String>, Error>;

    /// Writes a value, in one atomic write that is read back. Nothing else changes.
    ///
    /// # Errors
    /// If the write did not happen or cannot be proved to have happened.
    fn write(&mut self, value: &str) -> Result<(), Error>;
}

/// The variable of [`Canary`].
pub const CANARY: &str = "twinboot_canary";
