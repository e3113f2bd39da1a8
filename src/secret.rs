//! Reading files that hold secrets: keys, passwords. A file that others may read is refused, with the remedy.
//!
//! Not what is in them. No message here ever repeats contents, since people paste keys into the wrong places and error
//! messages into tickets.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// No connection string, key or chain of certificates comes near this many bytes; a bigger file is another file.
const MAX_FILE: u64 = 64 * 1024;

/// Where secrets may lie, and which directory is guarded by other means than the modes of its files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Guard {
    /// systemd's `$CREDENTIALS_DIRECTORY`: a directory that nobody else can reach, whatever the modes of its files say.
    pub credentials: Option<PathBuf>,
}

impl Guard {
    /// Reads the file `path`, which holds `what` (such as "a private key").
    ///
    /// The file must be for its owner alone, who is this process's user or root, or lie under the credentials.
    ///
    /// # Errors
    /// [`Error`], with what to do about it.
    pub fn read(&self, path: &Path, what: &'static str) -> Result<Zeroizing<String>, Error> {
        let failed = |cause| Error::Unreadable { path: path.to_owned(), what, cause };
        // Opened first and asked afterwards, so that what was checked is what is read.
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        if !lies_under(path, self.credentials.as_deref()) {
            let us = rustix::process::geteuid().as_raw();
            guarded(path, what, metadata.mode(), metadata.uid(), us)?;
        }
        // Room for all of it at once: a buffer that grows leaves copies of the secret behind.
        let room = metadata.len().min(MAX_FILE) as usize + 1;
        let mut text = Zeroizing::new(String::with_capacity(room));
        file.take(room as u64).read_to_string(&mut text).map_err(failed)?;
        if text.len() >= room {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "far too long, or changing")));
        }
        Ok(text)
    }
}

/// Looks at a file that somebody else reads for us, such as systemd, which makes a credential of it that only we can reach:
/// the copy does not show who may read the original. A file that is not there is no fault.
///
/// # Errors
/// If it is not for its owner alone, who is this process's user or root.
pub fn check(path: &Path, what: &'static str) -> Result<(), Error> {
    let Ok(metadata) = path.metadata() else { return Ok(()) };
    guarded(path, what, metadata.mode(), metadata.uid(), rustix::process::geteuid().as_raw())
}

/// Whether a file of this mode and owner is closed to all but `us` and root.
fn guarded(path: &Path, what: &'static str, mode: u32, owner: u32, us: u32) -> Result<(), Error> {
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), what, mode: mode & 0o777 });
    }
    if owner != us && owner != 0 {
        return Err(Error::Foreign { path: path.to_owned(), what, owner });
    }
    Ok(())
}

/// Both paths are resolved, so that neither `..` nor a link makes an exposed file look guarded.
fn lies_under(path: &Path, directory: Option<&Path>) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    match (real(path), directory.and_then(real)) {
        (Some(path), Some(directory)) => path.starts_with(directory),
        (None, _) | (_, None) => false,
    }
}

/// Why a secret is not read. The messages name the file and the remedy, never the contents.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("reading {what} from {}: {cause}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The file can be read by others than its owner.
    #[error(
        "{} holds {what} and others may read it (mode {mode:04o}): run 'chmod 600 {}'",
        path.display(),
        path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error("{} holds {what} and belongs to user {owner}: run 'chown root: {}'", path.display(), path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// The user id of its owner.
        owner: u32,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn p121_a_file_that_others_may_read_is_refused_except_among_credentials() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let under = |directory: &Path| Guard { credentials: Some(directory.to_owned()) };
        std::fs::write(&path, "hunter2\n").unwrap();
        mode(0o600);
        assert_eq!(*Guard::default().read(&path, "a key").unwrap(), "hunter2\n");
        for bits in [0o640, 0o604, 0o644, 0o610] {
            mode(bits);
            let error = Guard::default().read(&path, "a key").unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{bits:o}")), "{error}");
            assert!(!error.contains("hunter2"));
            assert!(under(directory.path()).read(&path, "a key").is_ok());
            let elsewhere = tempfile::tempdir().unwrap();
            assert!(under(elsewhere.path()).read(&path, "a key").is_err());
        }
        assert!(matches!(check(&path, "a key"), Err(Error::Exposed { mode: 0o610, .. })));
        mode(0o600);
        assert!(check(&path, "a key").is_ok() && check(&directory.path().join("none"), "a key").is_ok());
        mode(0o610);
        let sly = directory.path().join("sub/../secret");
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        assert!(under(&directory.path().join("sub")).read(&sly, "a key").is_err(), "'..' does not help");
    }

    #[test]
    fn p121_a_file_of_another_user_is_refused() {
        let path = Path::new("cs");
        let error = guarded(path, "a key", 0o100_600, 1001, 0).unwrap_err().to_string();
        assert!(error.contains("user 1001") && error.contains("chown"), "{error}");
        assert!(guarded(path, "a key", 0o100_600, 1001, 1001).is_ok());
        assert!(guarded(path, "a key", 0o100_400, 0, 1001).is_ok());
        let exposed = guarded(path, "a key", 0o100_604, 0, 0);
        assert!(matches!(exposed, Err(Error::Exposed { mode: 0o604, .. })));
    }

    #[test]
    fn what_is_no_file_of_a_sane_length_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let guard = Guard::default();
        assert!(matches!(guard.read(directory.path(), "a key"), Err(Error::Unreadable { .. })));
        assert!(matches!(guard.read(&directory.path().join("none"), "a key"), Err(Error::Unreadable { .. })));
        let path = directory.path().join("big");
        std::fs::write(&path, vec![b'a'; MAX_FILE as usize + 1]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(guard.read(&path, "a key").unwrap_err().to_string().contains("too long"));
    }
}
