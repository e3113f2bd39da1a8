//! Why a command ends early, in words for the operator, and the exit status that goes with it.

use std::process::ExitCode;

/// How a command ended; the numbers are promised in `--help`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2
    Usage,
    /// 3
    Unreachable,
    /// 4
    TimedOut,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::TimedOut => 4,
        })
    }
}

/// Why a command ends early. Never holds a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) exit: Exit,
    /// What is wrong; empty if there is nobody to tell.
    pub(crate) text: String,
    /// What to do about it, or nothing.
    pub(crate) remedy: String,
    /// The hub's HTTP status, if it is the hub that refused.
    pub(crate) status: Option<u16>,
    /// Whether what was asked for may have been done all the same: it is the answer that is missing.
    pub(crate) is_unsure: bool,
    /// Whether the hub refuses because its quota of this day is used up.
    pub(crate) is_quota: bool,
}

impl Failure {
    /// Exit status 1.
    pub(crate) fn failed(text: impl Into<String>) -> Self {
        let (text, remedy) = (text.into(), String::new());
        Self { exit: Exit::Failed, text, remedy, status: None, is_unsure: false, is_quota: false }
    }

    /// Exit status 2: the operator can correct it.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(text) }
    }

    /// Exit status 3.
    pub(crate) fn unreachable(text: impl Into<String>) -> Self {
        Self { exit: Exit::Unreachable, ..Self::failed(text) }
    }

    /// Whether the same may go well later, with nothing changed on this side: the line is down, or the hub has no room, none
    /// for today, or a fault of its own. A key that is refused does not get better.
    pub(crate) fn is_passing(&self) -> bool {
        match self.status {
            Some(status) => status == 429 || status >= 500 || self.is_quota,
            None => self.exit == Exit::Unreachable,
        }
    }

    /// What to do about it: which flag or variable to set, if it is one.
    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

/// The reader of our output has gone (`… | head -1`): nothing is left to do, and nobody to tell.
impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::failed("")
    }
}

/// What most functions here give.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;
