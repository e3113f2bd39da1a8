//! The two slots, and the two proofs that guard them.

use std::fmt;
use std::ops::Not;

use serde::{Deserialize, Serialize};

use super::{Image, Sha256};

/// One of the two root file system slots. `!slot` is the other one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The first slot.
    A,
    /// The second slot.
    B,
}

impl Slot {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The lower-case letter used in configuration, environments and reports.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

impl Not for Slot {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// One value for each slot.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct PerSlot<T> {
    /// Slot A's.
    pub a: T,
    /// Slot B's.
    pub b: T,
}

impl<T> PerSlot<T> {
    /// The value of `slot`.
    pub fn of(&self, slot: Slot) -> &T {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }

    /// The value of `slot`, to change.
    pub fn of_mut(&mut self, slot: Slot) -> &mut T {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }
}

/// Proof that a slot may be overwritten: it is neither the one we run from nor the one that boots by default.
///
/// There is no other way to get one, so no later code can hold a wrong one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TargetSlot(Slot);

impl TargetSlot {
    /// `None` if `slot` is booted or boots by default.
    pub fn new(slot: Slot, booted: Slot, default: Slot) -> Option<Self> {
        (slot != booted && slot != default).then_some(Self(slot))
    }

    /// Which slot it is.
    pub fn slot(self) -> Slot {
        self.0
    }
}

/// Proof that a slot may be booted: it holds just the image that was wanted.
///
/// A bootloader is armed with this and nothing less, so after any crash nothing is armed that was not verified
/// again in the same process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a slot is verified in order to arm it"]
pub struct VerifiedSlot(Slot);

impl VerifiedSlot {
    /// Compares what was just read back from the device with what should be there.
    ///
    /// # Errors
    /// [`SlotMismatch`] if they differ.
    pub fn attest(target: TargetSlot, found: &Sha256, wanted: &Image) -> Result<Self, SlotMismatch> {
        if *found == wanted.sha256 {
            Ok(Self(target.slot()))
        } else {
            Err(SlotMismatch { slot: target.slot(), found: *found, wanted: wanted.sha256 })
        }
    }

    /// For going back on request: `previous` ran as the committed default before the running system did, and has
    /// not been written since. A file system that was mounted writable has no digest to compare, so the record's
    /// word (`Record::previous`) is the proof.
    pub fn previous(target: TargetSlot, previous: Option<Slot>) -> Option<Self> {
        (previous == Some(target.slot())).then_some(Self(target.slot()))
    }

    /// Which slot it is.
    pub fn slot(self) -> Slot {
        self.0
    }
}

/// What was read back from a slot is not what was written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("slot {slot} holds {found:.8}…, wanted {wanted:.8}…")]
pub struct SlotMismatch {
    /// The slot.
    pub slot: Slot,
    /// The digest read back.
    pub found: Sha256,
    /// The digest wanted.
    pub wanted: Sha256,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_neither_booted_nor_default() {
        for booted in Slot::BOTH {
            for default in Slot::BOTH {
                for slot in Slot::BOTH {
                    let allowed = slot != booted && slot != default;
                    assert_eq!(TargetSlot::new(slot, booted, default).is_some(), allowed);
                }
            }
        }
    }

    #[test]
    fn only_the_wanted_image_is_attested() {
        let target = TargetSlot::new(Slot::B, Slot::A, Slot::A).expect("B is free");
        let wanted = Image { sha256: Sha256::of(b"image"), len: 5 };
        assert!(VerifiedSlot::attest(target, &Sha256::of(b"image"), &wanted).is_ok());
        let error =
            VerifiedSlot::attest(target, &Sha256::of(b"imagf"), &wanted).expect_err("one byte differs");
        assert!(error.to_string().starts_with("slot B holds "), "{error}");
        for at in 0..wanted.sha256.0.len() {
            let mut found = wanted.sha256;
            found.0[at] ^= 1;
            assert!(VerifiedSlot::attest(target, &found, &wanted).is_err(), "byte {at} counts");
        }
        assert!(VerifiedSlot::previous(target, Some(Slot::A)).is_none());
        assert!(VerifiedSlot::previous(target, None).is_none());
    }
}
