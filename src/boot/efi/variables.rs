//! EFI variables, as the kernel's efivarfs shows them: a file each, named `NAME-GUID`, with four bytes of attributes
//! before the data (Documentation/filesystems/efivarfs.rst).
//!
//! A change is one write(2) of the whole file, which the kernel makes one call of the firmware's; and a read asks the
//! firmware. Variables that it does not know to be harmless are immutable files, so that no `rm -rf` breaks a machine;
//! that is lifted around a change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tracing::debug;

/// Non-volatile, and accessible before and after the operating system is started.
const ATTRIBUTES: [u8; 4] = 7_u32.to_le_bytes();

/// Where variables are kept.
pub(super) trait Variables: Send {
    /// The data of a variable; `None` if there is no such.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes it have this data, in one step.
    fn write(&mut self, name: &str, data: &[u8]) -> io::Result<()>;

    /// Makes it not be there, in one step.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// The machine's, or plain files in a directory that stands for it.
#[derive(Debug)]
pub(super) struct EfiVars {
    directory: PathBuf,
}

impl EfiVars {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }
}

impl Variables for EfiVars {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.directory.join(name)) {
            Ok(bytes) if bytes.len() < ATTRIBUTES.len() => Err(io::Error::other("has no attributes")),
            Ok(bytes) => Ok(Some(bytes[ATTRIBUTES.len()..].to_vec())),
            // Without the directory nothing is known about any variable.
            Err(error) if error.kind() == ErrorKind::NotFound && self.directory.is_dir() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        let path = self.directory.join(name);
        debug!(path = %path.display(), len = data.len(), "writing");
        let _mutable = Immutable::lift(&path)?;
        // Not truncated: the kernel replaces a variable as a whole, and truncating would be another call.
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        let bytes = [&ATTRIBUTES, data].concat();
        if file.write(&bytes)? != bytes.len() {
            return Err(io::Error::from(ErrorKind::WriteZero));
        }
        // The firmware has it by now; in a simulation a file is only cut and flushed here.
        if file.metadata()?.len() > bytes.len() as u64 {
            file.set_len(bytes.len() as u64)?;
        }
        match file.sync_all() {
            // efivarfs has nothing to flush.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let path = self.directory.join(name);
        debug!(path = %path.display(), "removing");
        let mutable = Immutable::lift(&path)?;
        match fs::remove_file(&path) {
            Ok(()) => {
                mutable.forget();
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A file that was immutable, and is again when this is dropped.
struct Immutable(Option<(File, IFlags)>);

impl Immutable {
    fn lift(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self(None)),
            opened => opened?,
        };
        // Where there are no such flags, nothing is immutable.
        let flags = ioctl_getflags(&file).unwrap_or(IFlags::empty());
        if !flags.contains(IFlags::IMMUTABLE) {
            return Ok(Self(None));
        }
        ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?;
        Ok(Self(Some((file, flags))))
    }

    /// There is nothing left to protect.
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        if let Some((file, flags)) = &self.0
            && let Err(error) = ioctl_setflags(file, *flags)
        {
            debug!(%error, "cannot make the variable immutable again");
        }
    }
}
