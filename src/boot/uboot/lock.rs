//! The lock that U-Boot's tools and libubootenv take, so that we and they do not write at the same time.
//!
//! Not a guard of our own state: within this process one [`UBoot`](super::UBoot) owns the environment. Called by
//! [`UBoot`](super::UBoot) around every access.
//!
//! They use `flock` on one file, exclusively, also for reading. Where the file cannot be made (a read-only or
//! missing `/run/lock`, a simulated device without privileges) we go on without, as libubootenv does: the lock keeps
//! two writers apart, and refusing would keep the only one out as well. A lock that is *held* is another matter:
//! after a bounded wait nothing is written.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use tracing::debug;

use crate::boot::{Aspect, Observation};

/// `fw_printenv`, `fw_setenv` and libubootenv all use this one.
pub(super) const DEFAULT: &str = "/var/lock/fw_printenv.lock";

/// How long another program may hold the lock: the tools need milliseconds, a NOR erase a few seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Held until dropped. Empty where no lock could be had.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Option<File>,
}

/// Another program kept the lock for too long.
#[derive(Debug, thiserror::Error)]
#[error("another program holds {path} for more than {} s; see who with fuser", .patience.as_secs())]
pub(super) struct Held {
    path: String,
    patience: Duration,
}

/// Waits for the lock, `patience` at most.
pub(super) fn acquire(path: &Path, patience: Duration) -> Result<Lock, Held> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) => {
            debug!(path = %path.display(), %error, "no lock file; going on without");
            return Ok(Lock { _file: None });
        }
    };
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock { _file: Some(file) }),
            Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Held { path: path.display().to_string(), patience });
            }
            Err(TryLockError::Error(error)) => {
                debug!(path = %path.display(), %error, "cannot lock; going on without");
                return Ok(Lock { _file: None });
            }
        }
    }
}

/// Whether the lock can be had at all.
pub(super) fn examine(path: &Path) -> Observation {
    let shown = path.display();
    match open(path) {
        Ok(_) => {
            Observation::good(Aspect::Lock, format!("{shown} keeps fw_setenv out while twinboot writes"))
        }
        Err(error) => Observation::doubtful(
            Aspect::Lock,
            format!(
                "{shown} cannot be opened ({error}): nothing keeps fw_setenv from writing at the same time"
            ),
            "systemd makes /run/lock; elsewhere make its directory at boot",
        ),
    }
}

/// Never follows a link, never truncates and never waits for a pipe: anyone may put something of that name into the
/// lock directory.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut existing = OpenOptions::new();
    existing.read(true).custom_flags(flags);
    // First without creating: where links and files are protected (fs.protected_regular), O_CREAT is refused on a
    // file that somebody else made.
    match existing.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let mut created = OpenOptions::new();
    created.write(true).create(true).truncate(false).mode(0o666).custom_flags(flags);
    created.open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_second_waits_and_then_gives_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = acquire(&path, Duration::ZERO).unwrap();
        let held = acquire(&path, Duration::from_millis(50)).unwrap_err();
        assert!(held.to_string().starts_with(&format!("another program holds {}", path.display())));
        drop(first);
        // A program that another test is just starting has our files for a moment, until it becomes that program.
        acquire(&path, Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn the_second_gets_it_once_the_first_is_done() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = acquire(&path, Duration::ZERO).unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || acquire(&path, Duration::from_secs(60)).is_ok()
        });
        drop(first);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn without_a_directory_it_goes_on() {
        assert!(acquire(Path::new("/nowhere/at/all"), Duration::ZERO).unwrap()._file.is_none());
    }

    #[test]
    fn a_pipe_does_not_stop_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        acquire(&path, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_link_is_not_followed_and_nothing_truncated() {
        let directory = tempfile::tempdir().unwrap();
        let (precious, link) = (directory.path().join("precious"), directory.path().join("lock"));
        std::fs::write(&precious, "data").unwrap();
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        assert!(acquire(&link, Duration::ZERO).unwrap()._file.is_none());
        drop(acquire(&precious, Duration::ZERO).unwrap());
        assert_eq!(std::fs::read(&precious).unwrap(), b"data");
    }
}
