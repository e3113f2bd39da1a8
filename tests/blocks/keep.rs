//! What must outlive a power cut, and who keeps it: the product's own code, and what it reads again.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use twinboot::durable::{Generations, Loaded};
use twinboot::image::CHECKPOINT_CAPACITY;
use twinboot::model::{BootId, IntentId, Slot, UpdateId};
use twinboot::store::{FileStore, Loaded as Stored, StateStore as _, overdue};
use twinboot::update::{Overdue, Record};

use super::dice::Dice;

/// Where things are kept.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The file system, where there is one.
    pub(super) root: PathBuf,
    /// The disks: block devices, or files that are the same.
    pub(super) devices: Vec<PathBuf>,
    /// A directory that no cut touches.
    pub(super) beside: PathBuf,
}

/// What must be found from now on, in words; and what else may be found while it is being written, beside that and what
/// was found before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Turn {
    pub(super) found: String,
    pub(super) meanwhile: Option<String>,
}

impl Turn {
    fn to(found: String) -> Result<Self, String> {
        Ok(Self { found, meanwhile: None })
    }
}

/// Keeps one thing, which it changes again and again.
pub(super) trait Keeper: Debug + Send + Sync {
    /// Another one of it, in a process of its own.
    fn fresh(&self) -> Box<dyn Keeper>;

    /// What a factory does, before anything is kept.
    fn prepare(&mut self, _place: &Place) -> Result<(), String> {
        Ok(())
    }

    /// Changes it. When this returns, the change must last.
    fn turn(&mut self, place: &Place, dice: &mut Dice) -> Result<Turn, String>;

    /// What is found: in a process that has just begun.
    fn look(&self, place: &Place) -> String;
}

/// What is found where nothing was kept yet.
pub(super) const NOTHING: &str = "nothing";
/// What is found of something that has no second copy, and was torn.
pub(super) const TORN: &str = "torn";

/// Short for something long.
fn short(bytes: &[u8]) -> String {
    use std::hash::{Hash as _, Hasher as _};
    let mut hash = std::collections::hash_map::DefaultHasher::new();
    bytes.hash(&mut hash);
    format!("{} bytes, {:016x}", bytes.len(), hash.finish())
}

/// The record.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Open, as a daemon has it.
    store: Option<FileStore>,
    count: u64,
}

impl Keeper for Records {
    fn fresh(&self) -> Box<dyn Keeper> {
        Box::new(Self { store: None, count: self.count + 1000 })
    }

    fn turn(&mut self, place: &Place, dice: &mut Dice) -> Result<Turn, String> {
        if dice.one_in(6) {
            // The process starts again.
            self.store = None;
        }
        self.count += 1;
        let directory = place.root.join("state");
        let store = self.store.get_or_insert_with(|| FileStore::new(directory));
        if dice.one_in(3) {
            store.load();
        }
        // From a few hundred bytes up to nearly all that fit.
        let len = [20, 3000, 9000, 31_000][dice.below(4)];
        let len = dice.below(len);
        let condemned = vec![IntentId(dice.text(len))];
        let record = Record { floor: self.count, condemned, ..Record::default() };
        store.save(&record).map_err(|error| error.to_string())?;
        Turn::to(short(&record.encode()))
    }

    fn look(&self, place: &Place) -> String {
        match FileStore::new(place.root.join("state")).load() {
            Stored::Found(record, _) => short(&record.encode()),
            Stored::Empty => NOTHING.to_owned(),
            Stored::Unreadable(why) => format!("unreadable: {why}"),
        }
    }
}

/// Any other file of two generations: the checkpoint of a download, which stays open, and what is known of keys, which is
/// opened for each save.
#[derive(Debug)]
pub(super) struct Payloads {
    name: &'static str,
    capacity: usize,
    stays_open: bool,
    file: Option<Generations>,
}

impl Payloads {
    pub(super) fn checkpoint() -> Self {
        Self { name: "download", capacity: CHECKPOINT_CAPACITY, stays_open: true, file: None }
    }

    pub(super) fn trust() -> Self {
        Self { name: "trust", capacity: 64 << 10, stays_open: false, file: None }
    }
}

impl Keeper for Payloads {
    fn fresh(&self) -> Box<dyn Keeper> {
        Box::new(Self { file: None, ..*self })
    }

    fn turn(&mut self, place: &Place, dice: &mut Dice) -> Result<Turn, String> {
        let is_kept = self.stays_open && !dice.one_in(6);
        let mut file = match self.file.take().filter(|_| is_kept) {
            Some(file) => file,
            None => Generations::open(&place.root.join("state"), self.name, self.capacity)
                .map_err(|error| error.to_string())?,
        };
        let len = dice.below(self.capacity / 2);
        let payload = if self.stays_open && dice.one_in(5) { String::new() } else { dice.text(len + 1) };
        let saved = if payload.is_empty() { file.clear() } else { file.save(payload.as_bytes()) };
        saved.map_err(|error| error.to_string())?;
        self.file = Some(file);
        Turn::to(if payload.is_empty() { NOTHING.to_owned() } else { short(payload.as_bytes()) })
    }

    fn look(&self, place: &Place) -> String {
        let path = place.root.join("state").join(self.name);
        match Generations::read_only(&path, self.capacity) {
            Some(Loaded::Found { payload, .. }) => short(&payload),
            Some(Loaded::Empty) => NOTHING.to_owned(),
            Some(Loaded::Damaged(why)) => format!("damaged: {why}"),
            None if path.exists() => "unreadable".to_owned(),
            None => NOTHING.to_owned(),
        }
    }
}

/// The word of the guard over a trial.
#[derive(Debug, Default)]
pub(super) struct Words;

impl Keeper for Words {
    fn fresh(&self) -> Box<dyn Keeper> {
        Box::new(Self)
    }

    fn turn(&mut self, place: &Place, dice: &mut Dice) -> Result<Turn, String> {
        let directory = place.root.join("state");
        if dice.one_in(2) {
            overdue::discard(&directory)?;
            return Turn::to(NOTHING.to_owned());
        }
        let len = dice.below(3000);
        let why = dice.text(len);
        let (update, boot) = (UpdateId(dice.text(16)), BootId(dice.text(36)));
        let overdue = Overdue { update, trial: 1, slot: Slot::B, boot, why };
        overdue::leave(&directory, &overdue)?;
        // A word that is torn is none.
        Ok(Turn { found: short(format!("{overdue:?}").as_bytes()), meanwhile: Some(NOTHING.to_owned()) })
    }

    fn look(&self, place: &Place) -> String {
        overdue::find(&place.root.join("state"))
            .map_or(NOTHING.to_owned(), |overdue| short(format!("{overdue:?}").as_bytes()))
    }
}

/// Writes a file of the host's, which stays as it is.
pub(super) fn beside(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.beside.join(name);
    if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
        fs::write(&path, text).expect("a file of the host's is written");
    }
    path
}

/// The directory that everything of the state is in, made durable as whoever installs a system does.
pub(super) fn make_state(root: &Path) -> std::io::Result<()> {
    fs::create_dir(root.join("state"))?;
    fs::File::open(root)?.sync_all()
}
