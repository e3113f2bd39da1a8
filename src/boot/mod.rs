//! The bootloader, as far as we need it: which slot boots by default, which is on trial, and three ways to change
//! that, each one atomic write.

pub mod efi;
mod examination;
#[cfg(any(test, feature = "fakes"))]
pub mod fake;
mod floor;
pub mod grub;
mod in_place;
pub mod script;
pub mod tryboot;
pub mod uboot;
mod unavailable;
mod uncached;

use crate::model::{Reason, Slot, VerifiedSlot};

pub use examination::{Aspect, CANARY, Canary, Observation, Verdict};
pub use unavailable::Unavailable;

/// What the bootloader's durable variables say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootView {
    /// The slot that boots when no trial is armed, or when the trial fails.
    pub default: Slot,
    /// The slot that is tried at the next boot, or is being tried in this one: armed and not yet committed.
    pub trial: Option<Slot>,
    /// How many more boots the trial may take, where the bootloader counts.
    pub tries_left: Option<u32>,
    /// The lowest rollback index that is taken, where the variables keep one.
    pub floor: Option<u64>,
    /// Damage that was survived, each a sentence for the journal (such as one bad copy of two).
    pub warnings: Vec<String>,
}

/// A bootloader. Every method that changes something does it with one atomic durable write and reads it back; a
/// method whose effect is already in place writes nothing. On any error the durable state is as before or as
/// wanted, never in between.
pub trait Bootloader: Send {
    /// Reads the variables. Never falls back to a default environment.
    ///
    /// # Errors
    /// If no copy can be read, or the values mean nothing.
    fn view(&mut self) -> Result<BootView, Error>;

    /// Next boot tries `slot`, and only for as many boots as are allowed; the default stays what it is.
    ///
    /// # Errors
    /// If the write did not happen or cannot be proved to have happened.
    fn arm(&mut self, slot: &VerifiedSlot) -> Result<(), Error>;

    /// Makes the slot on trial the default. The other slot stays bootable by hand or by request. In the same write, `floor`
    /// becomes the lowest rollback index that is taken from now on; `None` leaves that as it is.
    ///
    /// A loader whose variables have no place for a floor, or no room left, is told of the slot alone: a system that has
    /// proved well must not be lost for that, and the record knows the floor, too. [`BootView::floor`] says what is kept.
    ///
    /// # Errors
    /// As for `arm`.
    fn commit(&mut self, slot: Slot, floor: Option<u64>) -> Result<(), Error>;

    /// Boots `to` and nothing else: it is the default, no trial is armed, the other slot is nobody's fallback.
    ///
    /// # Errors
    /// As for `arm`.
    fn revert(&mut self, to: Slot) -> Result<(), Error>;

    /// What the reboot into an armed trial must be asked for with (the last argument of reboot(2)), for a loader whose
    /// variables alone do not begin one. `None` if a plain reboot does, or no trial is armed.
    ///
    /// # Errors
    /// As for `view`.
    fn reboot_argument(&mut self) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// What can be seen of the loader's means to go back, before any update needs them. Writes nothing.
    ///
    /// # Errors
    /// If its variables cannot be read.
    fn examine(&mut self) -> Result<Vec<Observation>, Error> {
        Ok(Vec::new())
    }

    /// The variable by which the loader can show that it reads what we write; `None` where it has no variables.
    fn canary(&mut self) -> Option<&mut dyn Canary> {
        None
    }
}

/// Why the bootloader's variables could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing usable could be read.
    #[error("{0}")]
    Unreadable(String),
    /// What was read means nothing, to the loader no more than to us: it boots by its own rule, and nothing is on trial. A
    /// commit or a revert writes it anew.
    #[error("{0}")]
    Damaged(String),
    /// Not written, or not proved written.
    #[error("{0}")]
    Unwritable(String),
}

impl Error {
    /// The public failure this amounts to.
    pub fn reason(&self) -> Reason {
        use crate::model::Failure;
        match self {
            Self::Unreadable(detail) | Self::Damaged(detail) => {
                Failure::BootUnreadable.because(detail.clone())
            }
            Self::Unwritable(detail) => Failure::BootUnwritable.because(detail.clone()),
        }
    }
}
