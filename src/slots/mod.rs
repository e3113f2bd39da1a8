//! The two slots as devices: which one we run from, and a safe way to write to the other.
//!
//! It is not the bootloader's opinion (see [`crate::boot`]): the booted slot is what the *kernel* says, since an
//! environment may be damaged, or changed since the boot. It decides nothing and keeps nothing. The engine asks for
//! the booted slot once at start ([`SlotMap::booted`]) and opens the target ([`TargetDevice::open`]) for each
//! download and each verification.
//!
//! A slot may be several partitions, such as a boot partition and the root file system: they are written as one device, one
//! behind the other. Each but the last is filled exactly by an image, so it is as large in both slots. The last is the root
//! file system; it tells which slot is booted.

mod blank;
mod device;
mod name;
mod part;
#[cfg(test)]
mod parts_tests;
mod probe;
mod seed;
#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::model::{Failure, PerSlot, Reason, Slot};

pub use device::TargetDevice;
pub use seed::SeedDevice;

/// Where the two slots are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The partitions of slot A, by any stable names (`/dev/disk/by-partlabel/…`, `PARTLABEL=…`); the last is its root
    /// file system.
    pub a: Vec<PathBuf>,
    /// Those of slot B, as many.
    pub b: Vec<PathBuf>,
    /// Slots may be regular files. For simulated devices only: on a real one a missing device node must not turn
    /// into a file that silently fills the file system.
    pub allow_files: bool,
}

/// The two slots by name. Names are looked up at each use, since devices may appear after we start.
#[derive(Clone, Debug)]
pub struct SlotMap {
    names: PerSlot<Vec<PathBuf>>,
    allow_files: bool,
}

/// What makes two paths the same slot: a device number, or a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Identity {
    Block(u64),
    File { device: u64, inode: u64 },
}

/// A partition of a slot that was looked up.
struct Found {
    path: PathBuf,
    identity: Identity,
}

impl Found {
    /// How many bytes it has, without opening it.
    fn size(&self) -> io::Result<u64> {
        match self.identity {
            Identity::File { .. } => Ok(self.path.metadata()?.len()),
            Identity::Block(number) => {
                let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
                let sectors = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/size"))?;
                // Of 512 bytes, whatever the device's own are.
                let sectors = sectors.trim().parse::<u64>().ok().and_then(|count| count.checked_mul(512));
                sectors.ok_or_else(|| io::Error::other("its size is no number"))
            }
        }
    }
}

/// A partition of a slot as it is now, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartView {
    /// Its configured name.
    pub name: PathBuf,
    /// Where that leads, and how many bytes it has; or why that is not known.
    pub found: Result<(PathBuf, u64), String>,
}

impl SlotMap {
    /// The slots of `settings`. Touches no device.
    pub fn new(settings: Settings) -> Self {
        Self { names: PerSlot { a: settings.a, b: settings.b }, allow_files: settings.allow_files }
    }

    /// The configured name of the root file system of `slot`.
    pub fn path(&self, slot: Slot) -> &Path {
        self.names.of(slot).last().map_or(Path::new(""), PathBuf::as_path)
    }

    /// Where that name leads, for whoever looks: a device, or a link to it, that need not be there.
    pub fn device(&self, slot: Slot) -> PathBuf {
        name::path(Path::new("/"), &self.path(slot).to_string_lossy())
    }

    /// The slot we run from, as the kernel tells it below `root` (`/`, or a simulated machine's directory): the
    /// device of the root file system, and the kernel's command line. Either is enough.
    ///
    /// # Errors
    /// If neither names one of our slots, if they contradict each other, or if both slots are one device.
    pub fn booted(&self, root: &Path) -> Result<Slot, Error> {
        probe::booted(self, root)
    }

    /// Looks whether the devices of `slot` are there, and fit to those of the other slot, as far as that is there.
    ///
    /// # Errors
    /// If one is not, or is none, or is shared, or is too large or too small for an image that fits the other slot.
    pub fn check(&self, slot: Slot) -> Result<(), Error> {
        self.find_all(slot)?;
        self.refuse_shared()?;
        self.compare_sizes()
    }

    /// The partitions of `slot` as they are now.
    pub fn look(&self, slot: Slot) -> Vec<PartView> {
        let look = |name: &PathBuf| PartView {
            name: name.clone(),
            found: self.find_part(slot, name).map_err(|error| error.reason().detail).and_then(|found| {
                let size = found.size().map_err(|error| format!("its size is not known: {error}"))?;
                Ok((found.path, size))
            }),
        };
        self.names.of(slot).iter().map(look).collect()
    }

    /// The root file system of `slot`.
    fn find(&self, slot: Slot) -> Result<Found, Error> {
        self.find_part(slot, self.path(slot))
    }

    /// All partitions of `slot`.
    fn find_all(&self, slot: Slot) -> Result<Vec<Found>, Error> {
        self.names.of(slot).iter().map(|name| self.find_part(slot, name)).collect()
    }

    /// Follows the links of a partition's name to what it is now.
    fn find_part(&self, slot: Slot, name: &Path) -> Result<Found, Error> {
        let missing = |source| Error::Missing { slot, path: name.to_owned(), source };
        let path = name::path(Path::new("/"), &name.to_string_lossy()).canonicalize().map_err(missing)?;
        let metadata = path.symlink_metadata().map_err(missing)?;
        match identity(&metadata) {
            Some(identity @ Identity::Block(_)) => Ok(Found { path, identity }),
            Some(identity @ Identity::File { .. }) if self.allow_files => Ok(Found { path, identity }),
            Some(Identity::File { .. }) | None => Err(Error::NotADevice { slot, path }),
        }
    }

    /// Names can be configured wrongly, devices cannot: none of them, as far as they are there, may be two of the slots'
    /// partitions.
    fn refuse_shared(&self) -> Result<(), Error> {
        let mut seen = Vec::new();
        for slot in Slot::BOTH {
            for found in self.names.of(slot).iter().filter_map(|name| self.find_part(slot, name).ok()) {
                if seen.contains(&found.identity) {
                    return Err(Error::SameDevice { path: found.path });
                }
                seen.push(found.identity);
            }
        }
        Ok(())
    }

    /// One image fits both slots only if all partitions but the last are as large, as far as they are there.
    fn compare_sizes(&self) -> Result<(), Error> {
        let size = |slot: Slot, name: &Path| {
            let found = self.find_part(slot, name).ok()?;
            found.size().ok().map(|size| (found.path, size))
        };
        let pairs = self.names.a.iter().zip(&self.names.b);
        for (a, b) in pairs.take(self.names.a.len().saturating_sub(1)) {
            if let (Some((a, a_size)), Some((b, b_size))) = (size(Slot::A, a), size(Slot::B, b))
                && a_size != b_size
            {
                return Err(Error::UnequalParts { a, a_size, b, b_size });
            }
        }
        Ok(())
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
    /// Two partitions of the slots are one device: writing the one would destroy the other.
    #[error("slots A and B, or two partitions of one, are the same device {path}")]
    SameDevice {
        /// The device.
        path: PathBuf,
    },
    /// An image fills them exactly, and could not fill both.
    #[error(
        "{a} has {a_size} bytes and {b} has {b_size}: all partitions of a slot but the last must be as large in both"
    )]
    UnequalParts {
        /// Of slot A.
        a: PathBuf,
        /// How many bytes it has.
        a_size: u64,
        /// Of slot B.
        b: PathBuf,
        /// How many bytes it has.
        b_size: u64,
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
            | Self::UnequalParts { .. }
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
