//! GRUB's environment block, read and written natively: no `grub-editenv`, no shell.
//!
//! Not here: what GRUB does with the variables; that is `packaging/boot/grub/grub.cfg`, or RAUC's script. Called by the
//! engine through [`Bootloader`].
//!
//! [`mod@block`] is the codec and the order of writes, [`meaning`] says what the variables mean, `place` reaches the
//! file. This file puts them together: each verb is at most one write, but for a block whose variables do not yet stand
//! where one disk sector holds them all.
//!
//! # Never a made-up block
//! If the block cannot be used, [`view`](Bootloader::view) and `arm` say so. GRUB then boots without it, and which slot
//! that is, is not for us to guess. `commit` and `revert` write a whole new meaning, and so repair the block: what can
//! be read of other people's variables stays. A file that is not there is never made.
//!
//! # Others who write it
//! There is no lock that anybody takes. `grub-editenv` empties the file before it fills it; so nothing should run it
//! while the device is in the field: Debian's `grub-common.service`, which does at every boot, has to be masked.

pub mod block;
mod examine;
pub mod meaning;
mod place;

use std::path::PathBuf;

use tracing::debug;

use self::block::{Block, Damage, Full};
use self::meaning::{Meaning, Wanted};
use self::place::{BlockFile, Obstacle, Place};
use super::floor::{self, FLOOR};
use super::{Aspect, BootView, Bootloader, CANARY, Canary, Error, Observation};
use crate::model::{PerSlot, Slot, VerifiedSlot};

/// What the integrator says about the board.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The environment block, where the running system finds it.
    pub environment: PathBuf,
    /// The name of each slot in `ORDER`, `<name>_OK` and `<name>_TRY`.
    pub names: PerSlot<String>,
    /// How many boots a trial may take; 1 to 9.
    pub tries: u32,
    /// The root directory of the slot that runs, on whose file system the block must not be: `/`, but for simulations.
    pub root: PathBuf,
}

/// A board that boots by GRUB.
pub struct Grub {
    place: Box<dyn Place>,
    /// The file, for messages.
    name: String,
    meaning: Meaning,
    /// The last write failed: whatever is read now, it is not proved to last, so the next verb writes in any case.
    is_unproved: bool,
}

/// The block as it is.
struct Loaded {
    bytes: Vec<u8>,
    /// What is read of it; if it is damaged, what is left of it.
    block: Block,
    damage: Option<Damage>,
}

impl Grub {
    /// Checks the settings. The block itself is not touched: if it is damaged or missing,
    /// [`view`](Bootloader::view) says so.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the settings cannot be used.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let Settings { environment, names, tries, root } = settings;
        let meaning = Meaning { names, tries };
        meaning.check().map_err(Error::Unreadable)?;
        let name = environment.display().to_string();
        Ok(Self { place: Box::new(BlockFile::new(environment, root)), name, meaning, is_unproved: false })
    }

    fn load(&mut self) -> Result<Loaded, Error> {
        let bytes = self.place.read().map_err(|error| {
            Error::Unreadable(format!("{}: {error}; it should be GRUB's environment block", self.name))
        })?;
        Ok(match Block::decode(&bytes) {
            Ok(block) => Loaded { bytes, block, damage: None },
            Err(damage) => Loaded { block: Block::salvage(&bytes), bytes, damage: Some(damage) },
        })
    }

    /// The block, if GRUB can use it too.
    fn usable(&mut self) -> Result<Loaded, Error> {
        let loaded = self.load()?;
        match &loaded.damage {
            None => Ok(loaded),
            Some(damage) => Err(Error::Damaged(format!(
                "{} {damage}; a commit or a revert writes it anew, and so does grub-editenv create and set",
                self.name
            ))),
        }
    }

    /// One verb: decides, and writes unless it is in effect.
    fn change(&mut self, verb: &str, loaded: &Loaded, wanted: Vec<Wanted>) -> Result<(), Error> {
        let unwritable = |problem: String| Error::Unwritable(format!("{verb}: {problem}"));
        let is_in_effect = |(name, value): &Wanted| loaded.block.get(name) == Some(value.as_bytes());
        if loaded.damage.is_none() && !self.is_unproved && wanted.iter().all(is_in_effect) {
            debug!(verb, "already in effect");
            return Ok(());
        }
        let steps =
            self.steps(loaded, &wanted).map_err(|full| unwritable(format!("{}: {full}", self.name)))?;
        self.is_unproved = true;
        for step in &steps {
            self.write_proved(step).map_err(|problem| unwritable(format!("{}: {problem}", self.name)))?;
        }
        self.is_unproved = false;
        debug!(verb, writes = steps.len(), "environment block written");
        Ok(())
    }

    /// What is to be written, one after the other.
    fn steps(&self, loaded: &Loaded, wanted: &[Wanted]) -> Result<Vec<Vec<u8>>, Full> {
        let mut block = loaded.block.clone();
        for (name, value) in wanted {
            block.set(name, value);
        }
        let mut first = self.meaning.variables();
        first.push(CANARY.to_owned());
        match loaded.damage {
            None => loaded.block.steps(&loaded.bytes, &block, &first),
            // There is nothing that a half of it could be mistaken for.
            Some(_) => block.encode(&first).map(|bytes| vec![bytes]),
        }
    }

    /// After an error the kernel forgets that the pages were dirty: so the whole block is written again, and read back
    /// from the device and not from memory.
    fn write_proved(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut failure = String::new();
        for attempt in 1..=2 {
            let written = self.place.write(bytes).and_then(|()| self.place.read());
            failure = match written {
                Ok(found) if found == bytes => return Ok(()),
                Ok(_) => "it does not hold what was written".to_owned(),
                Err(error) => error.to_string(),
            };
            debug!(attempt, "writing GRUB's environment block failed: {failure}");
        }
        Err(failure)
    }
}

impl Bootloader for Grub {
    fn view(&mut self) -> Result<BootView, Error> {
        let loaded = self.usable()?;
        let mut view = self.meaning.view(&loaded.block).map_err(Error::Unreadable)?;
        view.floor = floor::read(loaded.block.get(FLOOR)).unwrap_or_else(|warning| {
            view.warnings.push(warning);
            None
        });
        view.warnings.extend(self.place.obstacles().into_iter().map(|obstacle| obstacle.what));
        Ok(view)
    }

    fn arm(&mut self, slot: &VerifiedSlot) -> Result<(), Error> {
        let slot = slot.slot();
        let loaded = self.usable()?;
        let view = self.meaning.view(&loaded.block).map_err(Error::Unreadable)?;
        if view.default == slot {
            // With the fallback on trial there would be nothing to fall back to.
            let problem = format!("arming the trial: slot {slot} is the default, it needs no trial");
            return Err(Error::Unwritable(problem));
        }
        // A trial whose boots GRUB cannot count, or that the other slot cannot commit, would be taken again and again.
        if let Some(obstacle) = self.place.obstacles().into_iter().find(|it| it.is_certain) {
            return Err(Error::Unwritable(format!("arming the trial: {}", obstacle.what)));
        }
        let wanted = self.meaning.armed(&loaded.block, slot);
        self.change("arming the trial", &loaded, wanted)
    }

    fn commit(&mut self, slot: Slot, floor: Option<u64>) -> Result<(), Error> {
        let loaded = self.load()?;
        let mut wanted = self.meaning.committed(&loaded.block, slot);
        if let Some(floor) = floor.and_then(|floor| Meaning::floor(&loaded.block, floor)) {
            let slot_alone = wanted.len();
            wanted.push(floor);
            if let Err(full) = self.steps(&loaded, &wanted) {
                tracing::warn!(block = self.name, %full, "the floor is kept in twinboot's record alone");
                wanted.truncate(slot_alone);
            }
        }
        self.change("committing the slot", &loaded, wanted)
    }

    fn revert(&mut self, to: Slot) -> Result<(), Error> {
        let loaded = self.load()?;
        let wanted = self.meaning.reverted(&loaded.block, to);
        self.change("reverting to the slot", &loaded, wanted)
    }

    fn examine(&mut self) -> Result<Vec<Observation>, Error> {
        self.usable()?;
        let whole = format!("{} is whole; a change of it is one disk sector", self.name);
        let mut found = vec![Observation::good(Aspect::Copies, whole)];
        for Obstacle { what, is_certain } in self.place.obstacles() {
            let remedy = "put the block where GRUB can save to it, for both slots";
            found.push(match is_certain {
                true => Observation::bad(Aspect::Counter, what, remedy),
                false => Observation::doubtful(Aspect::Counter, what, remedy),
            });
        }
        found.extend(examine::script(self.place.script().as_deref(), self.meaning.tries));
        Ok(found)
    }

    fn canary(&mut self) -> Option<&mut dyn Canary> {
        Some(self)
    }
}

impl Canary for Grub {
    fn read(&mut self) -> Result<Option<String>, Error> {
        let loaded = self.usable()?;
        Ok(loaded.block.get(CANARY).map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    fn write(&mut self, value: &str) -> Result<(), Error> {
        const VERB: &str = "writing the canary";
        let loaded = self.usable()?;
        // What means nothing, or is on trial, is left alone.
        let view = self.meaning.view(&loaded.block).map_err(Error::Unreadable)?;
        if let Some(slot) = view.trial {
            return Err(Error::Unwritable(format!(
                "{VERB}: slot {slot} is on trial; wait until that is over"
            )));
        }
        self.change(VERB, &loaded, vec![(CANARY.to_owned(), value.to_owned())])
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
