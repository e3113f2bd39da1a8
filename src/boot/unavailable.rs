//! What stands in for a bootloader that could not be set up, such as for want of `fw_env.config`: every verb says
//! why. So the daemon runs, reports the trouble and refuses to update, rather than not to start. Chosen by `main`.

use super::{BootView, Bootloader, Error};
use crate::model::{Slot, VerifiedSlot};

/// No bootloader, and why.
#[derive(Debug)]
pub struct Unavailable {
    why: String,
}

impl Unavailable {
    /// `why` is what setting it up failed with.
    pub fn new(why: &Error) -> Self {
        Self { why: why.to_string() }
    }

    fn error<T>(&self) -> Result<T, Error> {
        Err(Error::Unreadable(self.why.clone()))
    }
}

impl Bootloader for Unavailable {
    fn view(&mut self) -> Result<BootView, Error> {
        self.error()
    }

    fn arm(&mut self, _slot: &VerifiedSlot) -> Result<(), Error> {
        self.error()
    }

    fn commit(&mut self, _slot: Slot, _floor: Option<u64>) -> Result<(), Error> {
        self.error()
    }

    fn revert(&mut self, _to: Slot) -> Result<(), Error> {
        self.error()
    }
}
