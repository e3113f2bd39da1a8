//! Where the record is kept: loads it whatever has become of it, and saves it so that it stays.
//!
//! The port is [`StateStore`]; [`FileStore`] keeps two generations in one preallocated file, `record` in the state
//! directory. Beside it lies what the guard over a trial leaves behind ([`overdue`]). Called by the engine, and by `main`. What is in a record is `update`'s business.

#[cfg(any(test, feature = "fakes"))]
pub mod fake;
pub mod overdue;

use std::path::PathBuf;

use crate::durable::{self, Generations};
use crate::model::{Failure, Reason};
use crate::update::Record;

/// Room for one generation, in bytes. A record with the longest addresses and reasons takes about 12 KiB.
const CAPACITY: usize = 32 * 1024;

/// What became of the stored record.
#[derive(Debug)]
pub enum Loaded {
    /// It is here. A warning tells if it may be one step old.
    Found(Box<Record>, Option<String>),
    /// There never was one.
    Empty,
    /// It is lost, in these words. The bootloader and the kernel still know what runs.
    Unreadable(String),
}

/// Keeps the record.
pub trait StateStore: Send {
    /// Whatever is left of the newest record. Never fails: a lost record must not stop a device.
    fn load(&mut self) -> Loaded;

    /// Makes what [`load`](Self::load) found durable once more. It may have been read from memory: after a flush that
    /// failed, the kernel hands out what the disk does not hold. Once for each start is little.
    ///
    /// # Errors
    /// If it may not be on the disk.
    fn renew(&mut self) -> Result<(), Error>;

    /// Makes `record` the one that a later `load` finds, power cuts included.
    ///
    /// # Errors
    /// If that cannot be promised. The engine then begins nothing new.
    fn save(&mut self, record: &Record) -> Result<(), Error>;
}

/// Why a record could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("saving the record: {0}")]
pub struct Error(String);

impl Error {
    /// The public failure this amounts to.
    pub fn reason(&self) -> Reason {
        Failure::StateUnwritable.because(self.to_string())
    }
}

/// The record in a directory that both slots share.
#[derive(Debug)]
pub struct FileStore {
    directory: PathBuf,
    /// `None` as long as the file cannot be opened; every save tries again.
    file: Option<Generations>,
}

impl FileStore {
    /// A store in `directory`, which is made if it is not there. Opening is put off to the first use, so that a
    /// broken state directory is found out by `load` and `save`, never by refusing to start.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, file: None }
    }

    fn open(&mut self) -> Result<&mut Generations, String> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                std::fs::create_dir_all(&self.directory)
                    .map_err(|error| format!("creating {}: {error}", self.directory.display()))?;
                Generations::open(&self.directory, "record", CAPACITY).map_err(chain)?
            }
        };
        Ok(self.file.insert(file))
    }
}

impl StateStore for FileStore {
    fn load(&mut self) -> Loaded {
        let read_only = self.directory.join("record");
        let loaded = match self.open() {
            Ok(file) => file.load(),
            Err(why) => match Generations::read_only(&read_only, CAPACITY) {
                Some(loaded) => loaded,
                None => return Loaded::Unreadable(why),
            },
        };
        match loaded {
            durable::Loaded::Empty => Loaded::Empty,
            durable::Loaded::Damaged(why) => Loaded::Unreadable(why),
            durable::Loaded::Found { payload, damaged } => match Record::decode(&payload) {
                Ok(record) => Loaded::Found(Box::new(record), damaged),
                Err(error) => Loaded::Unreadable(chain(error)),
            },
        }
    }

    fn renew(&mut self) -> Result<(), Error> {
        self.open().map_err(Error)?.renew().map_err(|error| Error(chain(error)))
    }

    fn save(&mut self, record: &Record) -> Result<(), Error> {
        self.open().map_err(Error)?.save(&record.encode()).map_err(|error| Error(chain(error)))
    }
}

/// An error and its causes in one line.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::{BootId, Slot};
    use crate::update::{Event, Facts};

    fn facts() -> Facts {
        Facts {
            boot: BootId("1".into()),
            booted: Slot::A,
            default: Some(Slot::A),
            trial: None,
            version: None,
            booted_at: None,
            floor: None,
            overdue: None,
            factory: crate::model::Factory::default(),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("made/on/demand");
        let mut record = Record::default();
        assert!(matches!(FileStore::new(state.clone()).load(), Loaded::Empty));
        record.step(&facts(), None, Event::Reboot).unwrap();
        FileStore::new(state.clone()).save(&record).unwrap();
        assert!(matches!(FileStore::new(state).load(), Loaded::Found(found, None) if *found == record));
    }

    #[test]
    fn p085_a_directory_that_cannot_be_one_is_told_and_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("file");
        fs::write(&blocked, "in the way").unwrap();
        let mut store = FileStore::new(blocked.clone());
        assert!(matches!(store.load(), Loaded::Unreadable(why) if why.contains("file")));
        let error = store.save(&Record::default()).unwrap_err();
        assert_eq!(error.reason().failure, Failure::StateUnwritable);
        fs::remove_file(&blocked).unwrap();
        store.save(&Record::default()).unwrap();
    }

    #[test]
    fn p084_a_record_of_another_schema_is_unreadable_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = Generations::open(directory.path(), "record", CAPACITY).unwrap();
        for (payload, words) in
            [(&b"{\"schema\":99}"[..], "schema 99"), (b"{}", "damaged"), (b"garbage", "damaged")]
        {
            file.save(payload).unwrap();
            match FileStore::new(directory.path().into()).load() {
                Loaded::Unreadable(why) => assert!(why.contains(words), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Root may write anywhere, so a read-only file is played by its absence of write permission only elsewhere.
    #[test]
    fn a_record_that_can_only_be_read_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let mut record = Record::default();
        record.step(&facts(), None, Event::Reboot).unwrap();
        FileStore::new(directory.path().into()).save(&record).unwrap();
        fs::set_permissions(directory.path().join("record"), Permissions::from_mode(0o400)).unwrap();
        let loaded = Generations::read_only(&directory.path().join("record"), CAPACITY).unwrap();
        assert!(matches!(loaded, durable::Loaded::Found { payload, .. } if payload == record.encode()));
    }
}
