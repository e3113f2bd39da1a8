//! Raspberry Pi's own bootloader: `autoboot.txt` chooses the partition, and a flag handed over with the reboot chooses
//! its other value, once.
//!
//! Not here: U-Boot on a Raspberry Pi, which is [`uboot`](super::uboot). Called by the engine through [`Bootloader`].
//! [`autoboot`] is the codec of the file, `firmware` what the firmware says of a boot, `fat` how to look into a boot
//! partition that is not mounted.
//!
//! # What the file means
//!
//! | state | `boot_partition` below `[all]` | below `[tryboot]` |
//! | --- | --- | --- |
//! | `s` is the default | `s` | `s` |
//! | `s` is on trial, the other is the default | the other | `s` |
//!
//! So with no trial armed, the flag boots the default as well, and nothing else boots. A file that names two
//! partitions is an armed trial, whoever wrote it: the documentation's own example is one, and is undone when nobody
//! remembers having armed it.
//!
//! # One sector
//! The file is 512 bytes long and stays so: a change is one write of its one sector, with no directory, no allocation
//! table and no rename involved. A FAT file system has no journal that would make those safe. A file of another length
//! is read, and not written.
//!
//! # One trial
//! The flag is in memory. The firmware clears it before it starts anything, and it is lost with the power, so whatever
//! happens to a trial (a panic, a watchdog's reset, a power cut), the next boot is the default's. It also means that a
//! power cut between arming and the new system is the old system again. Nobody can tell that from a new system that did
//! not come up; it is reported as such, and `twinboot retry` tries again.
//!
//! # What is refused
//! To arm, firmware that does not say what it booted, or that is too old to know `tryboot_a_b`: it would take the flag
//! for something else. And a target in whose boot partition an EEPROM update lies.

pub mod autoboot;
#[doc(hidden)]
pub mod fat;
mod firmware;

use std::path::PathBuf;

use tracing::debug;

use self::autoboot::{Autoboot, LEN};
use super::in_place::{Block, InPlace, write_proved};
use super::{Aspect, BootView, Bootloader, Error, Observation};
use crate::model::{PerSlot, Slot, VerifiedSlot};

/// The argument of the reboot that sets the flag; 0 is for "the usual partition".
const ARGUMENT: &str = "0 tryboot";

/// What the integrator says about the board.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The file, in the first FAT partition, which must be mounted.
    pub autoboot: PathBuf,
    /// The number of each slot's boot partition.
    pub partitions: PerSlot<u32>,
    /// Where `proc`, `sys` and `dev` are: `/`, or a simulated machine's directory.
    pub root: PathBuf,
}

/// A Raspberry Pi that boots by itself.
pub struct Tryboot {
    settings: Settings,
    file: Box<dyn Block>,
    /// The last write failed: whatever is read now, it is not proved to last, so the next verb writes in any case.
    is_unproved: bool,
}

impl Tryboot {
    /// Touches nothing yet.
    ///
    /// # Errors
    /// [`Error::Unreadable`] if the settings cannot be right.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let PerSlot { a, b } = settings.partitions;
        if a == b || a == 0 || b == 0 {
            let problem =
                format!("slots A and B boot from partitions {a} and {b}; give each its own, from 1 on");
            return Err(Error::Unreadable(problem));
        }
        let file = Box::new(InPlace::new(settings.autoboot.clone(), LEN));
        Ok(Self { settings, file, is_unproved: false })
    }

    fn load(&mut self) -> Result<Vec<u8>, Error> {
        self.file.read().map_err(|error| {
            let shown = self.settings.autoboot.display();
            let remedy = "mount the first partition there; the sample autoboot.txt is a beginning";
            Error::Unreadable(format!("reading {shown}: {error}; {remedy}"))
        })
    }

    fn parse(&self, bytes: &[u8]) -> Result<Autoboot, Error> {
        let shown = self.settings.autoboot.display();
        Autoboot::parse(bytes).map_err(|problem| Error::Damaged(format!("{shown}: {problem}")))
    }

    fn slot_of(&self, partition: u32) -> Result<Slot, Error> {
        let partitions = &self.settings.partitions;
        Slot::BOTH.into_iter().find(|slot| *partitions.of(*slot) == partition).ok_or_else(|| {
            Error::Unreadable(format!(
                "{}: boot_partition={partition} is neither slot's; {} and {} are",
                self.settings.autoboot.display(),
                partitions.a,
                partitions.b
            ))
        })
    }

    fn meaning(&self, file: &Autoboot) -> Result<BootView, Error> {
        let (default, tryboot) = (self.slot_of(file.default)?, self.slot_of(file.tryboot)?);
        let trial = Some(tryboot).filter(|slot| *slot != default);
        Ok(BootView { default, trial, tries_left: None, floor: None, warnings: Vec::new() })
    }

    /// Writes what the file is to say, unless it says it.
    fn save(&mut self, verb: &str, found: &[u8], default: Slot, tryboot: Slot) -> Result<(), Error> {
        let shown = self.settings.autoboot.display();
        let unwritable = |problem: String| Error::Unwritable(format!("{verb}: {shown}: {problem}"));
        let partition = |slot: Slot| *self.settings.partitions.of(slot);
        let (default, tryboot) = (partition(default), partition(tryboot));
        // What means nothing is replaced as a whole.
        let wanted = Autoboot::parse(found)
            .map_or_else(|_| Autoboot::new(default, tryboot), |file| file.with(default, tryboot));
        let is_in_effect = Autoboot::parse(found).is_ok_and(|file| file == wanted);
        if is_in_effect && !self.is_unproved {
            debug!(verb, "already in effect");
            return Ok(());
        }
        if found.len() != LEN {
            let problem = format!(
                "it has {} bytes instead of {LEN}, so it cannot be changed in one write; copy the sample over it",
                found.len()
            );
            return Err(unwritable(problem));
        }
        let bytes = wanted.encode().map_err(unwritable)?;
        self.is_unproved = true;
        write_proved(self.file.as_mut(), &bytes).map_err(unwritable)?;
        self.is_unproved = false;
        debug!(verb, default, tryboot, "autoboot.txt written");
        Ok(())
    }
}

impl Bootloader for Tryboot {
    fn view(&mut self) -> Result<BootView, Error> {
        let bytes = self.load()?;
        let file = self.parse(&bytes)?;
        let mut view = self.meaning(&file)?;
        if bytes.len() != LEN {
            let problem = format!("it has {} bytes instead of {LEN}: copy the sample over it", bytes.len());
            view.warnings.push(format!("{}: {problem}", self.settings.autoboot.display()));
        }
        match firmware::booted_partition(&self.settings.root) {
            Err(problem) => view.warnings.push(problem),
            Ok(partition) if self.slot_of(partition).is_err() => {
                let PerSlot { a, b } = self.settings.partitions;
                view.warnings.push(format!(
                    "the firmware booted from partition {partition}, and the slots' are {a} and {b}"
                ));
            }
            Ok(_) => {}
        }
        Ok(view)
    }

    fn arm(&mut self, slot: &VerifiedSlot) -> Result<(), Error> {
        let slot = slot.slot();
        let unwritable = |problem: String| Error::Unwritable(format!("arming the trial: {problem}"));
        let bytes = self.load()?;
        let view = self.meaning(&self.parse(&bytes)?)?;
        if view.default == slot {
            return Err(unwritable(format!("slot {slot} is the default, it needs no trial")));
        }
        let Settings { root, autoboot, partitions } = &self.settings;
        let booted = firmware::booted_partition(root).map_err(unwritable)?;
        if booted != *partitions.of(!slot) {
            return Err(unwritable(format!(
                "the firmware booted partition {booted}, and slot {} is in partition {}",
                !slot,
                partitions.of(!slot)
            )));
        }
        firmware::is_bootable(root, autoboot, *partitions.of(slot)).map_err(unwritable)?;
        self.save("arming the trial", &bytes, !slot, slot)
    }

    fn commit(&mut self, slot: Slot, _floor: Option<u64>) -> Result<(), Error> {
        let bytes = self.load()?;
        self.save("committing the slot", &bytes, slot, slot)
    }

    fn revert(&mut self, to: Slot) -> Result<(), Error> {
        let bytes = self.load()?;
        self.save("reverting to the slot", &bytes, to, to)
    }

    fn reboot_argument(&mut self) -> Result<Option<String>, Error> {
        let bytes = self.load()?;
        let view = self.meaning(&self.parse(&bytes)?)?;
        Ok(view.trial.map(|_| ARGUMENT.to_owned()))
    }

    fn examine(&mut self) -> Result<Vec<Observation>, Error> {
        let bytes = self.load()?;
        let file = self.parse(&bytes)?;
        let default = self.meaning(&file)?.default;
        let shown = self.settings.autoboot.display();
        let is_read_only = rustix::fs::statvfs(&self.settings.autoboot)
            .is_ok_and(|it| it.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        let place = if bytes.len() != LEN {
            let what =
                format!("{shown} has {} bytes instead of {LEN}: no one write can change it", bytes.len());
            Observation::bad(Aspect::Copies, what, "copy the sample over it")
        } else if is_read_only {
            let what = format!("{shown} is on a file system that is mounted read-only");
            Observation::bad(Aspect::Copies, what, "mount it writable, in /etc/fstab")
        } else {
            Observation::good(Aspect::Copies, format!("{shown} is one sector, changed by one write"))
        };
        let counter = match firmware::booted_partition(&self.settings.root) {
            Ok(partition) => {
                let what = format!("the firmware booted partition {partition}, and gives a trial one boot");
                Observation::good(Aspect::Counter, what)
            }
            Err(why) => Observation::bad(Aspect::Counter, why, "rpi-eeprom-update -a, and reboot"),
        };
        let fallback = if file.a_b {
            let what = format!("whatever ends a trial, the next boot is slot {default}'s");
            Observation::good(Aspect::Fallback, what)
        } else {
            let what = format!("{shown} does not say tryboot_a_b=1: the flag would not change the partition");
            Observation::doubtful(
                Aspect::Fallback,
                what,
                "copy the sample over it; the next change sets it, too",
            )
        };
        Ok(vec![place, counter, fallback])
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
