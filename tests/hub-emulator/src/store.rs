//! What survives the emulator's end: one file that is replaced as a whole, and the thread that keeps it up to date.
//! Not what is in it, which is the hub's snapshot and the emulator's certificate authority. Called by `emulator`.
//!
//! The file is written within a tenth of a second of a change, and at the end. It holds keys, and is its owner's
//! alone to read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hub::Snapshot;
use crate::shared::Shared;
use crate::tls::Authority;

const FILE: &str = "hub-emulator.json";
/// Files of another version are refused rather than guessed at.
const VERSION: u32 = 1;
/// Between looks at whether something has changed.
const PERIOD: Duration = Duration::from_millis(100);

/// The contents of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    version: u32,
    pub(crate) authority: Authority,
    pub(crate) hub: Snapshot,
}

/// Reads what the emulator knew when it ended; nothing if there is no file. Makes the directory.
pub(crate) fn load(directory: &Path) -> io::Result<Option<Saved>> {
    fs::create_dir_all(directory)?;
    let path = directory.join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(&path, &error)),
    };
    let saved: Saved = serde_json::from_slice(&text).map_err(|error| named(&path, &error))?;
    if saved.version != VERSION {
        let why = format!("version {} of the state, and this is {VERSION}; remove it", saved.version);
        return Err(named(&path, &why));
    }
    Ok(Some(saved))
}

fn named(path: &Path, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {why}", path.display()))
}

/// Keeps the file up to date until it is dropped, which saves once more.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn start(directory: PathBuf, authority: Authority, shared: Arc<Shared>) -> io::Result<Keeper> {
        let (stop, stopped) = channel();
        let mut file = StateFile { directory, authority, shared, seen: None, last: Vec::new() };
        // What cannot be written is to be known at the start.
        file.save()?;
        let thread = std::thread::Builder::new().name("hub-emulator-state".to_owned()).spawn(move || {
            let mut failing = false;
            loop {
                let ended = stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout);
                let saved = file.save();
                if let (Err(error), false) = (&saved, failing) {
                    eprintln!("hub-emulator: the state cannot be saved: {error}");
                }
                failing = saved.is_err();
                if ended {
                    return;
                }
            }
        })?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed.
            let _ = thread.join();
        }
    }
}

struct StateFile {
    directory: PathBuf,
    authority: Authority,
    shared: Arc<Shared>,
    /// The hub's count of changes at the last look.
    seen: Option<u64>,
    last: Vec<u8>,
}

impl StateFile {
    fn save(&mut self) -> io::Result<()> {
        let now = *self.shared.ticks().borrow();
        if self.seen == Some(now) {
            return Ok(());
        }
        let hub = self.shared.read(|hub| hub.snapshot());
        let saved = Saved { version: VERSION, authority: self.authority.clone(), hub };
        let text = serde_json::to_vec(&saved).map_err(io::Error::other)?;
        if text != self.last {
            replace(&self.directory.join(FILE), &text)?;
            self.last = text;
        }
        self.seen = Some(now);
        Ok(())
    }
}

/// Whole or not at all, also when the power goes.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_is_not_understood_is_named_and_not_overwritten() {
        let directory = std::env::temp_dir().join(format!("hub-emulator-store-{}", std::process::id()));
        assert!(load(&directory).unwrap().is_none());
        for text in ["{", r#"{"version": 1}"#] {
            fs::write(directory.join(FILE), text).unwrap();
            assert!(load(&directory).unwrap_err().to_string().contains(FILE));
            assert_eq!(fs::read_to_string(directory.join(FILE)).unwrap(), text);
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
