//! U-Boot's environment, read and written natively: no `fw_setenv`, no shell.
//!
//! Not here: what `bootcmd` and `altbootcmd` do with the variables; that is the board's. Called by the engine
//! through [`Bootloader`].
//!
//! From the bytes up: [`mod@env`] is the codec, [`config`] says where the copies lie, `device` and `flash`
//! reach them, `copies` makes a change atomic, `lock` keeps the distribution's tools out meanwhile, and [`dialect`]
//! says what the variables mean. This file puts them together: each verb is at most one write of one copy.
//!
//! # Never a default environment
//! If no copy can be read, nothing is written and nothing assumed: U-Boot itself then runs on the variables compiled
//! into it, and what those boot is not for us to guess. The error names the file and line, the place and the
//! checksums. Variables that mean nothing are an error of [`view`](Bootloader::view) and `arm`; `commit` and
//! `revert` write a whole new meaning and so repair them.

pub mod config;
mod copies;
mod device;
pub mod dialect;
pub mod env;
mod examine;
mod flash;
mod lock;
mod mtd;
mod yaml;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tracing::debug;

use self::copies::{Copies, Loaded, Medium};
use self::device::DeviceCopy;
pub use self::dialect::Dialect;
use self::dialect::Wanted;
use self::env::Env;
use super::floor::{self, FLOOR};
use super::{BootView, Bootloader, CANARY, Canary, Error, Observation};
use crate::model::{Slot, VerifiedSlot};

/// What the integrator says about the board.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where the environment lies, in the format of U-Boot's own tools.
    pub fw_env_config: PathBuf,
    /// Which variables the loader's scripts use.
    pub dialect: Dialect,
    /// How many boots a trial may take; at least 1.
    pub tries: u32,
    /// The lock file shared with the tools; `None` for theirs.
    pub lock_file: Option<PathBuf>,
}

/// A board that boots by U-Boot.
pub struct UBoot {
    copies: Copies,
    dialect: Dialect,
    tries: u32,
    lock_file: PathBuf,
    /// The variables that may be written, where the configuration restricts them.
    writable: Option<Vec<String>>,
    patience: Duration,
    /// The last write failed: whatever is read now, it is not proved to last, so the next verb writes in any case.
    is_unproved: bool,
}

impl UBoot {
    /// Reads the configuration. The environment itself is not touched: if it is damaged or its device is missing,
    /// [`view`](Bootloader::view) says so.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the configuration is missing, not understood or cannot be safe.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let file = &settings.fw_env_config;
        let name = file.display();
        let text = fs::read_to_string(file).map_err(|error| {
            Error::Unreadable(format!("reading {name}: {error}; it says where U-Boot's environment is"))
        })?;
        let config = config::parse(file, &text).map_err(|error| Error::Unreadable(error.to_string()))?;
        settings.dialect.check(settings.tries).map_err(Error::Unreadable)?;
        if let Some(writable) = &config.writable {
            for variable in settings.dialect.variables() {
                if !writable.contains(&variable) {
                    let problem = format!("{name}: writelist does not name {variable}; add it");
                    return Err(Error::Unreadable(problem));
                }
            }
        }
        let size = config.copies.first().map_or(0, |place| place.size);
        let size = usize::try_from(size).map_err(|error| Error::Unreadable(error.to_string()))?;
        let copies = config.copies.into_iter().map(|place| {
            let label = place.label();
            (Box::new(DeviceCopy::new(place)) as Box<dyn Medium>, label)
        });
        Ok(Self {
            copies: Copies::new(copies.collect(), size),
            dialect: settings.dialect,
            tries: settings.tries,
            lock_file: settings.lock_file.or(config.lock_file).unwrap_or_else(|| lock::DEFAULT.into()),
            writable: config.writable,
            patience: lock::PATIENCE,
            is_unproved: false,
        })
    }

    /// Whether the configuration lets us write this variable.
    fn may_write(&self, name: &str) -> bool {
        self.writable.as_ref().is_none_or(|writable| writable.iter().any(|it| it == name))
    }

    /// One verb: reads, decides, writes at most once.
    fn change(
        &mut self,
        verb: &str,
        decide: impl FnOnce(&Dialect, &Loaded, u32) -> Result<Vec<Wanted>, Error>,
    ) -> Result<(), Error> {
        let unwritable = |problem: String| Error::Unwritable(format!("{verb}: {problem}"));
        let _lock =
            lock::acquire(&self.lock_file, self.patience).map_err(|held| unwritable(held.to_string()))?;
        let loaded = self.copies.load().map_err(Error::Unreadable)?;
        let wanted = decide(&self.dialect, &loaded, self.tries)?;
        if !self.is_unproved && wanted.iter().all(|wanted| wanted.is_in_effect(&loaded.env)) {
            debug!(verb, "already in effect");
            return Ok(());
        }
        let mut env = loaded.env.clone();
        env.remove_nameless();
        for Wanted { name, value, .. } in &wanted {
            env.set(name, value);
        }
        self.is_unproved = true;
        self.copies.save(&loaded, &env).map_err(unwritable)?;
        self.is_unproved = false;
        debug!(verb, "environment written");
        Ok(())
    }
}

impl Bootloader for UBoot {
    fn view(&mut self) -> Result<BootView, Error> {
        // Reading goes on without the lock: a writer touches only the copy that does not count.
        let lock = lock::acquire(&self.lock_file, self.patience);
        let loaded = self.copies.load().map_err(Error::Unreadable)?;
        let mut view = self.dialect.view(&loaded.env, self.tries).map_err(Error::Unreadable)?;
        view.floor = floor::read(loaded.env.get(FLOOR)).unwrap_or_else(|warning| {
            view.warnings.push(warning);
            None
        });
        view.warnings.extend(loaded.warnings);
        view.warnings.extend(lock.err().map(|held| held.to_string()));
        if loaded.env.is_refused_by_loader() {
            let warning = "a U-Boot variable has no name: U-Boot runs on its compiled-in variables until the next write";
            view.warnings.push(warning.to_owned());
        }
        Ok(view)
    }

    fn arm(&mut self, slot: &VerifiedSlot) -> Result<(), Error> {
        let slot = slot.slot();
        let capacity = self.copies.capacity();
        self.change("arming the trial", |dialect, loaded, tries| {
            let view = dialect.view(&loaded.env, tries).map_err(Error::Unreadable)?;
            if view.default == slot {
                // With the fallback on trial there would be nothing to fall back to.
                let problem = format!("arming the trial: slot {slot} is the default, it needs no trial");
                return Err(Error::Unwritable(problem));
            }
            let wanted = dialect.armed(&loaded.env, slot, tries);
            has_room(&loaded.env, &wanted, capacity, "arming the trial")?;
            Ok(wanted)
        })
    }

    fn commit(&mut self, slot: Slot, floor: Option<u64>) -> Result<(), Error> {
        const VERB: &str = "committing the slot";
        let capacity = self.copies.capacity();
        let floor = floor.filter(|_| self.may_write(FLOOR));
        self.change(VERB, |dialect, loaded, tries| {
            let mut wanted = dialect.committed(&loaded.env, slot, tries);
            if let Some(floor) = floor {
                let slot_alone = wanted.len();
                wanted.push(Wanted::number(FLOOR, floor));
                if let Err(full) = has_room(&loaded.env, &wanted, capacity, VERB) {
                    tracing::warn!(%full, "the floor is kept in twinboot's record alone");
                    wanted.truncate(slot_alone);
                }
            }
            Ok(wanted)
        })
    }

    fn revert(&mut self, to: Slot) -> Result<(), Error> {
        self.change("reverting to the slot", |dialect, loaded, tries| {
            Ok(dialect.reverted(&loaded.env, to, tries))
        })
    }

    fn examine(&mut self) -> Result<Vec<Observation>, Error> {
        let loaded = self.copies.load().map_err(Error::Unreadable)?;
        let mut found = examine::scripts(&loaded.env, &self.dialect);
        found.extend(self.copies.examine(&loaded));
        found.push(lock::examine(&self.lock_file));
        Ok(found)
    }

    fn canary(&mut self) -> Option<&mut dyn Canary> {
        Some(self)
    }
}

impl Canary for UBoot {
    fn read(&mut self) -> Result<Option<String>, Error> {
        let loaded = self.copies.load().map_err(Error::Unreadable)?;
        Ok(loaded.env.get(CANARY).map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    fn write(&mut self, value: &str) -> Result<(), Error> {
        const VERB: &str = "writing the canary";
        if !self.may_write(CANARY) {
            let problem = format!("{VERB}: the writelist does not name {CANARY}; add it");
            return Err(Error::Unwritable(problem));
        }
        let capacity = self.copies.capacity();
        self.change(VERB, |dialect, loaded, tries| {
            // What means nothing, or is on trial, is left alone.
            let view = dialect.view(&loaded.env, tries).map_err(Error::Unreadable)?;
            if let Some(slot) = view.trial {
                return Err(Error::Unwritable(format!(
                    "{VERB}: slot {slot} is on trial; wait until that is over"
                )));
            }
            let wanted = vec![Wanted::new(CANARY, value)];
            has_room(&loaded.env, &wanted, capacity, VERB)?;
            Ok(wanted)
        })
    }
}

/// A counter that U-Boot could not save would never come to its limit.
fn has_room(env: &Env, wanted: &[Wanted], capacity: usize, verb: &str) -> Result<(), Error> {
    let mut env = env.clone();
    for Wanted { name, value, .. } in wanted {
        env.set(name, value);
    }
    if env.can_be_saved_by_loader(capacity) {
        return Ok(());
    }
    Err(Error::Unwritable(format!(
        "{verb}: the environment is so full that U-Boot could not save its boot counter; remove variables that are not \
         needed"
    )))
}

#[cfg(test)]
mod canary_tests;
#[cfg(test)]
#[path = "edison_tests.rs"]
mod edison;
#[cfg(test)]
mod tests;
