//! Any bootloader, by a program of the board's: one with the verbs of RAUC's custom bootloader backend, so that a script
//! which serves RAUC serves us.
//!
//! | call | answer | what it is to do |
//! | --- | --- | --- |
//! | `get-primary` | a name | which slot boots next, or by default: scripts differ |
//! | `set-primary NAME` | | have that slot boot, as a trial |
//! | `get-state NAME` | `good` or `bad` | |
//! | `set-state NAME good` | | that slot, which runs, is to stay |
//! | `set-state NAME bad` | | that slot must not boot |
//!
//! Each call must be atomic and durable, and must not mind being repeated. Called by the engine through [`Bootloader`].
//!
//! # The trial is ours to know
//! These verbs do not tell a trial from a default: between `set-primary` and `set-state … good`, some scripts name the
//! slot on trial for the primary one, others the one that would come back. So a file of ours in the state directory,
//! which both slots share, says which slot is on trial ([`MARK`]). It is written before the program is called to arm, and
//! cleared after it was called to commit or to revert: whatever is cut short in between is a trial that is looked at
//! again. Should the file be lost together with the record, the system on trial is taken for one that is to stay.
//!
//! # One call
//! The call that counts is `set-primary` for arming and reverting, and `set-state NAME good` for committing. After
//! those that make a default, `get-primary` must name it. Before an update, `set-state NAME bad` has the other slot be
//! nobody's fallback.
//!
//! # How it is run
//! As other programs of the integrator: it must be root's alone, has a time limit, and under systemd a unit of its own, so
//! that it has the system as it is. It may be called from any thread.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Builder;
use tracing::debug;

use super::{BootView, Bootloader, Error};
use crate::durable::{Generations, Loaded};
use crate::model::{PerSlot, Slot, VerifiedSlot};
use crate::program::{Keep, NotRun, Purpose, Runner, Task, is_trusted};

/// The file in the state directory that holds the letter of the slot on trial.
pub const MARK: &str = "trial";

/// Bytes of each of its two generations: one sector.
const CAPACITY: usize = 512;
/// The longest answer that is read.
const ANSWER: usize = 4096;
/// How long the program may take to end when it is asked to, before it is made to.
const GRACE: Duration = Duration::from_secs(5);

/// How long whoever runs the program may take beyond that: the service manager may be busy, and we are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the integrator says about the board.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// What it calls each slot.
    pub names: PerSlot<String>,
    /// How long it may take for one call.
    pub timeout: Duration,
    /// Who runs it.
    pub runner: Runner,
    /// A directory on storage that both slots share.
    pub state: PathBuf,
}

/// A board whose bootloader a program knows.
pub struct Script {
    settings: Settings,
}

impl Script {
    /// Looks at the program, and does not call it yet.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if it is not there, or could be another user's work.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        is_trusted(&settings.program).map_err(Error::Unreadable)?;
        if settings.names.a == settings.names.b {
            return Err(Error::Unreadable("both slots have one name; give each its own".to_owned()));
        }
        Ok(Self { settings })
    }

    /// One call, and its answer. The error is a sentence.
    fn call(&self, arguments: &[&str]) -> Result<String, String> {
        let Settings { program, timeout, runner, .. } = &self.settings;
        is_trusted(program)?;
        let shown = format!("{} {}", program.display(), arguments.join(" "));
        let task = Task {
            purpose: Purpose::Bootloader,
            name: arguments.first().copied().unwrap_or_default(),
            path: program,
            arguments,
            environment: &[],
            input: None,
            keep: Keep::Answer(ANSWER),
            limit: *timeout,
            grace: GRACE,
        };
        // A runtime and a thread of its own: we may be asked from within one, or where there is none.
        let run = || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| NotRun::Never(error.to_string()))?;
            let limit = *timeout + GRACE + PATIENCE;
            let in_time = runtime.block_on(async { tokio::time::timeout(limit, runner.run(&task)).await });
            in_time.unwrap_or_else(|_| Err(NotRun::NotNow(format!("nobody answers within {limit:?}"))))
        };
        let ran = std::thread::scope(|scope| scope.spawn(run).join());
        let ran = ran.unwrap_or_else(|_| Err(NotRun::Never("its runner failed".to_owned())));
        let ran = ran.map_err(|why| format!("{shown} {why}"))?;
        if let Some(trouble) = ran.trouble(*timeout) {
            return Err(format!("{shown} {trouble}"));
        }
        debug!(arguments = arguments.join(" "), "the bootloader's program was called");
        let answer = ran.answer.and_then(|bytes| String::from_utf8(bytes).ok());
        answer
            .map(|text| text.trim().to_owned())
            .ok_or_else(|| format!("{shown}: its answer is no short text"))
    }

    fn name(&self, slot: Slot) -> &str {
        self.settings.names.of(slot)
    }

    fn primary(&self) -> Result<Slot, String> {
        let answer = self.call(&["get-primary"])?;
        Slot::BOTH.into_iter().find(|slot| self.name(*slot) == answer).ok_or_else(|| {
            let PerSlot { a, b } = &self.settings.names;
            format!(
                "{} get-primary says {answer:?}, and the slots are {a} and {b}",
                self.settings.program.display()
            )
        })
    }

    fn is_good(&self, slot: Slot) -> Result<bool, String> {
        let answer = self.call(&["get-state", self.name(slot)])?;
        match answer.as_str() {
            "good" => Ok(true),
            "bad" => Ok(false),
            _ => Err(format!(
                "{} get-state says {answer:?}, neither good nor bad",
                self.settings.program.display()
            )),
        }
    }

    /// The slot that was sent on trial and not settled since.
    fn marked(&self) -> Result<Option<Slot>, String> {
        let path = self.settings.state.join(MARK);
        if !path.exists() {
            return Ok(None);
        }
        match Generations::read_only(&path, CAPACITY) {
            Some(Loaded::Empty) => Ok(None),
            Some(Loaded::Found { payload, .. }) => {
                let slot = Slot::BOTH.into_iter().find(|slot| slot.letter().as_bytes() == payload);
                slot.map(Some).ok_or_else(|| format!("{} names no slot", path.display()))
            }
            Some(Loaded::Damaged(why)) => Err(format!("{}: {why}", path.display())),
            None => Err(format!("{} cannot be read", path.display())),
        }
    }

    fn mark(&self, slot: Option<Slot>) -> Result<(), String> {
        if self.marked().is_ok_and(|marked| marked == slot) {
            return Ok(());
        }
        let mark = Generations::open(&self.settings.state, MARK, CAPACITY);
        let saved = mark.and_then(|mut mark| match slot {
            Some(slot) => mark.save(slot.letter().as_bytes()),
            // Also what is damaged: an empty generation is the newest one then.
            None => mark.save(&[]),
        });
        saved.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|it| format!(": {it}")).unwrap_or_default();
            format!("{error}{cause}")
        })
    }

    /// After a default was made, it must be one.
    fn prove(&self, slot: Slot) -> Result<(), String> {
        let primary = self.primary()?;
        let shown = self.settings.program.display();
        if primary == slot {
            Ok(())
        } else {
            Err(format!("{shown} get-primary still says {}", self.name(primary)))
        }
    }
}

fn unwritable(verb: &str) -> impl Fn(String) -> Error {
    move |problem| Error::Unwritable(format!("{verb}: {problem}"))
}

impl Bootloader for Script {
    fn view(&mut self) -> Result<BootView, Error> {
        let primary = self.primary().map_err(Error::Unreadable)?;
        let trial = self.marked().map_err(Error::Unreadable)?;
        let default = trial.map_or(primary, |slot| !slot);
        Ok(BootView { default, trial, tries_left: None, floor: None, warnings: Vec::new() })
    }

    fn arm(&mut self, slot: &VerifiedSlot) -> Result<(), Error> {
        let slot = slot.slot();
        let fail = unwritable("arming the trial");
        if self.view()?.default == slot {
            return Err(fail(format!("slot {slot} is the default, it needs no trial")));
        }
        self.mark(Some(slot)).map_err(&fail)?;
        self.call(&["set-primary", self.name(slot)]).map_err(&fail)?;
        self.primary().map_err(&fail)?;
        Ok(())
    }

    fn commit(&mut self, slot: Slot, _floor: Option<u64>) -> Result<(), Error> {
        let fail = unwritable("committing the slot");
        // Also of a slot that is the default already: a loader that counts every boot down fills its count up then.
        self.call(&["set-state", self.name(slot), "good"]).map_err(&fail)?;
        self.prove(slot).map_err(&fail)?;
        self.mark(None).map_err(&fail)
    }

    fn revert(&mut self, to: Slot) -> Result<(), Error> {
        let fail = unwritable("reverting to the slot");
        let is_settled = self.marked() == Ok(None) && self.primary() == Ok(to);
        if !is_settled {
            self.call(&["set-primary", self.name(to)]).map_err(&fail)?;
            self.prove(to).map_err(&fail)?;
        }
        if self.is_good(!to).map_err(&fail)? {
            self.call(&["set-state", self.name(!to), "bad"]).map_err(&fail)?;
        }
        self.mark(None).map_err(&fail)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
