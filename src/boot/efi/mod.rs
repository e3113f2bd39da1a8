//! EFI: systemd-boot, or the firmware's own boot manager, by their variables.
//!
//! Both have one variable that says what boots (the default), one that says what boots once (and is removed by whoever
//! obeys it, before it does), and one that says what was booted. So they are one adapter with two spellings
//! ([`Manager`]). `variables` reaches the variables. Called by the engine through [`Bootloader`].
//!
//! | | systemd-boot | firmware |
//! | --- | --- | --- |
//! | the default | `LoaderEntryDefault`, an entry's id | the first of our entries in `BootOrder` |
//! | once | `LoaderEntryOneShot` | `BootNext` |
//! | booted | `LoaderEntrySelected` | `BootCurrent` |
//!
//! They are specified in systemd's "Boot Loader Interface", and in the UEFI specification's "Boot Manager".
//!
//! # What they mean
//! A trial is armed while "once" names the other slot than the default does; it is going on while that slot is what was
//! booted. So a system that somebody chose in the menu looks like a trial that nobody remembers, and is left again:
//! make it the default if it is to stay.
//!
//! # Why not boot counting
//! systemd-boot can also count boots, in the names of entries (`slot-b+3.conf`). To arm would be a file renamed on the
//! EFI system partition, and each boot another, by the firmware: entries of a FAT directory, in several sectors, without
//! a journal. A variable is one call, which the firmware has to make safe against a power cut. The price is that there
//! is one boot for a trial: whatever ends it, the default is next.
//!
//! # One write
//! To arm sets "once", to commit sets the default. To revert has nothing to write once the new system was booted, and
//! removes "once" before that. It takes two where it makes the other slot nobody's fallback as well (a `BootOrder` that
//! names both), or where the slot to go back to is not the default, which no update leads to: then "once" is removed
//! first, and in between there is no trial and the default of before.

mod variables;

use std::path::PathBuf;

use tracing::debug;

use self::variables::{EfiVars, Variables};
use super::{Aspect, BootView, Bootloader, Error, Observation};
use crate::model::{PerSlot, Slot, VerifiedSlot};

/// The vendor GUIDs of systemd-boot's variables and of the UEFI specification's.
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// Who chooses what is booted, and what it calls the slots.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Manager {
    /// systemd-boot: the id of each slot's entry, which is its file's name.
    SystemdBoot(PerSlot<String>),
    /// The firmware: the number of each slot's variable `Boot####`.
    Firmware(PerSlot<u16>),
}

/// What the integrator says about the board.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Who chooses.
    pub manager: Manager,
    /// Where efivarfs is mounted.
    pub efivars: PathBuf,
}

/// A board that boots by EFI.
pub struct Efi {
    manager: Manager,
    variables: Box<dyn Variables>,
    /// The last write failed: whatever is read now, it is not proved to last, so the next verb writes in any case.
    is_unproved: bool,
}

/// What the variables say. What is no slot of ours is nothing.
struct Found {
    default: Slot,
    once: Option<Slot>,
    booted: Option<Slot>,
    /// What the default's variable holds.
    order: Vec<u8>,
}

impl Efi {
    /// Touches nothing yet.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the settings cannot be right.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let are_alike = match &settings.manager {
            Manager::SystemdBoot(ids) => ids.a.eq_ignore_ascii_case(&ids.b),
            Manager::Firmware(numbers) => numbers.a == numbers.b,
        };
        if are_alike {
            return Err(Error::Unreadable("both slots have one boot entry; give each its own".to_owned()));
        }
        let variables = Box::new(EfiVars::new(settings.efivars));
        Ok(Self { manager: settings.manager, variables, is_unproved: false })
    }

    fn names(&self) -> [String; 3] {
        let (names, guid) = match self.manager {
            Manager::SystemdBoot(_) => {
                (["LoaderEntryDefault", "LoaderEntryOneShot", "LoaderEntrySelected"], LOADER)
            }
            Manager::Firmware(_) => (["BootOrder", "BootNext", "BootCurrent"], GLOBAL),
        };
        names.map(|name| format!("{name}-{guid}"))
    }

    fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.variables.read(name).map_err(|error| {
            Error::Unreadable(format!(
                "EFI variable {name}: {error}; mount efivarfs on /sys/firmware/efi/efivars"
            ))
        })
    }

    fn load(&mut self) -> Result<Found, Error> {
        let [default, once, booted] = self.names();
        let order = self.read(&default)?.ok_or_else(|| Error::Unreadable(self.manager.unset(&default)))?;
        let once = self.read(&once)?.and_then(|data| self.manager.slot(&data));
        let booted = self.read(&booted)?.and_then(|data| self.manager.slot(&data));
        let default = self.manager.default(&order).map_err(Error::Unreadable)?;
        Ok(Found { default, once, booted, order })
    }

    /// One variable as it is to be, read back; `None` for one that is not to be there.
    fn set(&mut self, verb: &str, name: &str, data: Option<&[u8]>) -> Result<(), Error> {
        self.is_unproved = true;
        let done = match data {
            Some(data) => self.variables.write(name, data),
            None => self.variables.remove(name),
        };
        let unwritable =
            |problem: String| Error::Unwritable(format!("{verb}: EFI variable {name}: {problem}"));
        let found = done.and_then(|()| self.variables.read(name));
        match found {
            Ok(found) if found.as_deref() == data => {}
            Ok(_) => return Err(unwritable("it does not hold what was written".to_owned())),
            Err(error) => return Err(unwritable(error.to_string())),
        }
        self.is_unproved = false;
        debug!(verb, name, "EFI variable set");
        Ok(())
    }

    /// Makes `slot` what boots, with nothing armed.
    fn settle(&mut self, verb: &str, slot: Slot, alone: bool) -> Result<(), Error> {
        let [default, once, _] = self.names();
        let (must_write, found) = match (self.is_unproved, self.load()) {
            // Variables that mean nothing are given a meaning.
            (_, Err(_)) => (true, None),
            (unproved, Ok(found)) => (unproved, Some(found)),
        };
        if found.as_ref().is_none_or(|found| must_write || found.once == Some(!slot)) {
            self.set(verb, &once, None)?;
        }
        let order = found.map(|found| found.order).unwrap_or_default();
        let wanted = self.manager.order(&order, slot, alone);
        if must_write || wanted != order {
            self.set(verb, &default, Some(&wanted))?;
        }
        Ok(())
    }
}

impl Manager {
    /// The data that names `slot`.
    fn name(&self, slot: Slot) -> Vec<u8> {
        match self {
            Self::SystemdBoot(ids) => {
                ids.of(slot).encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
            }
            Self::Firmware(numbers) => numbers.of(slot).to_le_bytes().to_vec(),
        }
    }

    /// Which slot the data names.
    fn slot(&self, data: &[u8]) -> Option<Slot> {
        match self {
            // systemd-boot compares without regard to case: FAT has none.
            Self::SystemdBoot(ids) => {
                let id = text(data)?;
                Slot::BOTH.into_iter().find(|slot| ids.of(*slot).eq_ignore_ascii_case(&id))
            }
            Self::Firmware(numbers) => {
                let number = u16::from_le_bytes(data.try_into().ok()?);
                Slot::BOTH.into_iter().find(|slot| *numbers.of(*slot) == number)
            }
        }
    }

    fn default(&self, data: &[u8]) -> Result<Slot, String> {
        let found = match self {
            Self::SystemdBoot(_) => self.slot(data),
            Self::Firmware(_) => data.chunks(2).find_map(|number| self.slot(number)),
        };
        found.ok_or_else(|| match self {
            Self::SystemdBoot(ids) => {
                let id = text(data).unwrap_or_default();
                format!("systemd-boot's default is {id:?}, which is no slot's; run bootctl set-default {}", ids.a)
            }
            Self::Firmware(PerSlot { a, b }) => format!(
                "BootOrder has neither slot's entry; run efibootmgr --bootorder {a:04X},… (slot B's is {b:04X})"
            ),
        })
    }

    fn unset(&self, name: &str) -> String {
        match self {
            Self::SystemdBoot(ids) => format!(
                "EFI variable {name} is not set, so systemd-boot chooses by itself; run bootctl set-default {}",
                ids.a
            ),
            Self::Firmware(PerSlot { a, b }) => format!(
                "EFI variable {name} is not set; run efibootmgr --bootorder {a:04X},… (slot B's is {b:04X})"
            ),
        }
    }

    /// What the default's variable is to hold for `slot`. `alone`: the other slot is nobody's fallback. In a boot
    /// order, entries that are not ours stay before or after ours, where they were.
    fn order(&self, order: &[u8], slot: Slot, alone: bool) -> Vec<u8> {
        match self {
            Self::SystemdBoot(_) if self.slot(order) == Some(slot) => order.to_vec(),
            Self::SystemdBoot(_) => self.name(slot),
            Self::Firmware(_) => {
                let entries: Vec<&[u8]> = order.chunks_exact(2).collect();
                let is_ours = |entry: &&[u8]| self.slot(entry).is_some();
                let before = entries.iter().take_while(|entry| !is_ours(entry)).count();
                let (before, rest) = entries.split_at(if before == entries.len() { 0 } else { before });
                let has_other = rest.iter().any(|entry| self.slot(entry) == Some(!slot));
                let mut wanted = before.concat();
                wanted.extend(self.name(slot));
                if !alone && has_other {
                    wanted.extend(self.name(!slot));
                }
                wanted.extend(rest.iter().filter(|entry| !is_ours(entry)).copied().flatten());
                wanted
            }
        }
    }
}

/// UTF-16, with a zero at its end.
fn text(data: &[u8]) -> Option<String> {
    let units = data.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    String::from_utf16(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>()).ok()
}

impl Bootloader for Efi {
    fn view(&mut self) -> Result<BootView, Error> {
        let Found { default, once, booted, .. } = self.load()?;
        let trial = [once, booted].into_iter().flatten().find(|slot| *slot != default);
        Ok(BootView { default, trial, tries_left: None, floor: None, warnings: Vec::new() })
    }

    fn arm(&mut self, slot: &VerifiedSlot) -> Result<(), Error> {
        const VERB: &str = "arming the trial";
        let slot = slot.slot();
        let found = self.load()?;
        if found.default == slot {
            return Err(Error::Unwritable(format!("{VERB}: slot {slot} is the default, it needs no trial")));
        }
        if found.once == Some(slot) && !self.is_unproved {
            debug!(verb = VERB, "already in effect");
            return Ok(());
        }
        let ([_, once, _], name) = (self.names(), self.manager.name(slot));
        self.set(VERB, &once, Some(&name))
    }

    fn commit(&mut self, slot: Slot, _floor: Option<u64>) -> Result<(), Error> {
        self.settle("committing the slot", slot, false)
    }

    fn revert(&mut self, to: Slot) -> Result<(), Error> {
        self.settle("reverting to the slot", to, true)
    }

    fn examine(&mut self) -> Result<Vec<Observation>, Error> {
        let booted = self.load()?.booted;
        let [_, _, name] = self.names();
        Ok(vec![match booted {
            Some(_) => {
                let what = "a trial is booted once; whatever ends it, the default is next";
                Observation::good(Aspect::Fallback, what)
            }
            None => Observation::bad(
                Aspect::Fallback,
                format!("EFI variable {name} names neither slot: this system was booted by something else"),
                "boot it by the entry that [boot] names for its slot, and ask again",
            ),
        }])
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
