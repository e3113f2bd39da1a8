//! The two slots as devices: which one we run from, and a safe way to write to the other.
//!
//! It is not the bootloader's opinion (see [`crate::boot`]): the booted slot is what the *kernel* says, since an
//! environment may be damaged, or changed since the boot. It decides nothing and keeps nothing. The engine asks for
//! the booted slot once at start ([`SlotMap::booted`]) and opens the target ([`TargetDevice::open`]) for each
//! download and each verification.

mod device;
mod probe;
#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::model::{Failure, PerSlot, Reason, Slot};

pub use device::TargetDevice;

/// Where the two slots are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Device of slot A, by any stable name (`/dev/disk/by-partlabel/…`).
    pub a: PathBuf,
    /// Device of slot B.
    pub b: PathBuf,
    /// Slots may be regular files. For simulated devices only: on a real one a missing device node must not turn
    /// into a file that silently fills the file system.
    pub allow_files: bool,
}

/// The two slots by name. Names are looked up at each use, since devices may appear after we start.
#[derive(Clone, Debug)]
pub struct SlotMap {
    paths: PerSlot<PathBuf>,
    allow_files: bool,
}

/// What makes two paths the same slot: a device number, or a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Identity {
    Block(u64),
    File { device: u64, inode: u64 },
}

/// A slot that was looked up.
struct Found {
    path: PathBuf,
    identity: Identity,
}

impl SlotMap {
    /// The slots of `settings`. Touches no device.
    pub fn new(settings: Settings) -> Self {
        Self { paths: PerSlot { a: settings.a, b: settings.b }, allow_files: settings.allow_files }
    }

    /// The configured name of `slot`.
    pub fn path(&self, slot: Slot) -> &Path {
        self.paths.of(slot)
    }

    /// The slot we run from, as the kernel tells it below `root` (`/`, or a simulated machine's directory): the
    /// device of the root file system, and the kernel's command line. Either is enough.
    ///
    /// # Errors
    /// If neither names one of our slots, if they contradict each other, or if both slots are one device.
    pub fn booted(&self, root: &Path) -> Result<Slot, Error> {
        probe::booted(self, root)
    }

    /// Looks whether the device of `slot` is there.
    ///
    /// # Errors
    /// If it is not, or is none.
    pub fn check(&self, slot: Slot) -> Result<(), Error> {
        self.find(slot).map(drop)
    }

    /// Follows the links of `slot`'s name to what it is now.
    fn find(&self, slot: Slot) -> Result<Found, Error> {
        let name = self.path(slot);
        let missing = |source| Error::Missing { slot, path: name.to_owned(), source };
        let path = name.canonicalize().map_err(missing)?;
        let metadata = path.symlink_metadata().map_err(missing)?;
        match identity(&metadata) {
            Some(identity @ Identity::Block(_)) => Ok(Found { path, identity }),
            Some(identity @ Identity::File { .. }) if self.allow_files => Ok(Found { path, identity }),
            Some(Identity::File { .. }) | None => Err(Error::NotADevice { slot, path }),
        }
    }
}

/// `None` for anything that could never be a slot: directories, character devices, sockets.
fn identity(metadata: &std::fs::Metadata) -> Option<Identity> {
    if metadata.file_type().is_block_device() {
        Some(Identity::Block(metadata.rdev()))
    } else if metadata.is_file() {
        Some(Identity::File { device: metadata.dev(), inode: metadata.ino() })
    } else {
        None
    }
}

/// Why a slot cannot be told or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is not there.
    #[error("looking for slot {slot} at {path}")]
    Missing {
        /// The slot.
        slot: Slot,
        /// Its configured name.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something else than a block device.
    #[error("slot {slot} at {path} is not a block device")]
    NotADevice {
        /// The slot.
        slot: Slot,
        /// What its name leads to.
        path: PathBuf,
    },
    /// Both slots are one device: writing the one would destroy the other.
    #[error("slots A and B are the same device {path}")]
    SameDevice {
        /// The device.
        path: PathBuf,
    },
    /// The kernel's facts name neither slot.
    #[error(
        "neither the root file system nor the kernel's command line tells the booted slot; looked at: {looked_at}"
    )]
    BootedUnknown {
        /// What was looked at.
        looked_at: String,
    },
    /// Two facts name different slots.
    #[error("{one} says slot {first}, but {other} says slot {second}")]
    Contradiction {
        /// The first fact.
        one: String,
        /// What it says.
        first: Slot,
        /// The other fact.
        other: String,
        /// What it says.
        second: Slot,
    },
    /// A file of the kernel cannot be read.
    #[error("reading {path}")]
    Facts {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The target is in use; writing would destroy something.
    #[error("slot {slot} at {path} is in use: {by}")]
    Busy {
        /// The slot.
        slot: Slot,
        /// Its device.
        path: PathBuf,
        /// By whom.
        by: String,
    },
    /// The target refuses writing.
    #[error("slot {slot} at {path} is read-only")]
    ReadOnly {
        /// The slot.
        slot: Slot,
        /// Its device.
        path: PathBuf,
    },
    /// The target cannot be opened or measured.
    #[error("opening slot {slot} at {path}")]
    Open {
        /// The slot.
        slot: Slot,
        /// Its device.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The public failure this amounts to.
    pub fn reason(&self) -> Reason {
        let failure = match self {
            Self::Missing { .. }
            | Self::NotADevice { .. }
            | Self::SameDevice { .. }
            | Self::BootedUnknown { .. }
            | Self::Contradiction { .. }
            | Self::Facts { .. } => Failure::TargetMissing,
            Self::Busy { .. } => Failure::TargetBusy,
            Self::ReadOnly { .. } => Failure::TargetReadOnly,
            Self::Open { .. } => Failure::TargetIo,
        };
        match std::error::Error::source(self) {
            Some(source) => failure.because(format!("{self}: {source}")),
            None => failure.because(self.to_string()),
        }
    }
}
