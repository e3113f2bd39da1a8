//! Floor 0: the words. What the rest of the crate talks about, and nothing that does anything.
//!
//! Every type here is plain data with its own invariant: a [`Slot`] is A or B, a [`Sha256`] is 32 bytes, a
//! [`VerifiedSlot`] has been read back. Whoever holds one need not check it again. No I/O, no clock, no async.

mod artifact;
mod byte_count;
mod digest;
mod failure;
mod install;
mod outcome;
mod request;
mod rules;
mod seal;
mod slot;
mod time;
mod url;
mod version;
mod window;
mod zone;

pub use artifact::{Artifact, Factory, Image, Location, Vouching};
pub use byte_count::{Bytes, Seconds};
pub use digest::{BadDigest, Sha256};
pub use failure::{Failure, Reason};
pub use install::{Consent, Install, IntentId, Origin, Terms, UpdateId};
pub use outcome::{Ended, Outcome, Times};
pub use request::{Answer, Granted, Kind, Refusal, Request};
pub use rules::{BadLogLevel, Hours, LogLevel, Rules, Tuning};
pub use seal::{Cost, Seal};
pub use slot::{PerSlot, Slot, SlotMismatch, TargetSlot, VerifiedSlot};
pub use time::{BadTimestamp, BootId, Timestamp};
pub use url::{BadUrl, SecretUrl};
pub use version::{BadVersion, Version};
pub use window::{BadWindow, Window};
pub use zone::{BadZone, Zone, ZoneName};
