//! What a programmer may get wrong, each played by a writer of its own: the search must find it, and nothing where the
//! same is done right.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::bench::{Bench, Layout};
use super::campaign::run;
use super::case::{Case, Written, take_turns};
use super::cases::{KIB, MIB};
use super::dice::Dice;
use super::keep::{Keeper, NOTHING, Payloads, Place, Turn};
use super::loaders::{COPY, Kind, Loader};
use super::log::Flushes;
use super::slot;

/// What is done wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wrong {
    Nothing,
    /// A generation is written and not flushed.
    NoFlush,
    /// Both generations are written before the flush.
    BothGenerations,
    /// A checkpoint is saved of what was not flushed in the slot.
    NoSlotFlush,
    /// A file gets its name, and its directory is not flushed.
    NoDirectoryFlush,
    /// Both copies of an environment are written before the flush.
    BothCopies,
    /// What was written is read back from the cache.
    CachedReadBack,
}

/// A file of two generations, written as the product does, or wrongly.
#[derive(Clone, Debug)]
struct Generations(Wrong);

/// A text under a name, written beside it and renamed.
#[derive(Clone, Debug)]
struct Renamed(Wrong);

/// U-Boot's two copies on one disk.
#[derive(Clone, Debug)]
struct Copies(Wrong);

fn told(error: io::Error) -> String {
    error.to_string()
}

/// The same, where no cut reaches it: what the product writes there is then written in its stead.
fn shadow(place: &Place) -> Place {
    let root = place.beside.join("shadow");
    Place { devices: vec![root.join("disk")], beside: root.clone(), root }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Which of the halves of `new` is another than that of `old`.
fn changed_half(old: &[u8], new: &[u8]) -> usize {
    let half = new.len() / 2;
    usize::from(old.get(half..) != Some(&new[half..]))
}

impl Keeper for Generations {
    fn fresh(&self) -> Box<dyn Keeper> {
        Box::new(self.clone())
    }

    fn prepare(&mut self, place: &Place) -> Result<(), String> {
        Payloads::checkpoint().turn(place, &mut Dice::new(0)).map(drop)
    }

    fn turn(&mut self, place: &Place, dice: &mut Dice) -> Result<Turn, String> {
        if self.0 == Wrong::Nothing {
            return Payloads::checkpoint().turn(place, dice);
        }
        let path = |place: &Place| place.root.join("state/download");
        let (ours, theirs) = (shadow(place), path(place));
        let old = fs::read(&theirs).unwrap_or_default();
        fs::create_dir_all(ours.root.join("state"))
            .and_then(|()| fs::write(path(&ours), &old))
            .map_err(told)?;
        let turn = Payloads::checkpoint().turn(&ours, dice)?;
        let new = fs::read(path(&ours)).map_err(told)?;
        let file = open(&theirs).map_err(told)?;
        let half = new.len() / 2;
        let at = changed_half(&old, &new) * half;
        if self.0 == Wrong::BothGenerations {
            file.write_all_at(&[&new[at..at + half]; 2].concat(), 0)
                .and_then(|()| file.sync_data())
                .map_err(told)?;
        } else {
            file.write_all_at(&new[at..at + half], at as u64).map_err(told)?;
        }
        Ok(turn)
    }

    fn look(&self, place: &Place) -> String {
        Payloads::checkpoint().look(place)
    }
}

impl Keeper for Renamed {
    fn fresh(&self) -> Box<dyn Keeper> {
        Box::new(self.clone())
    }

    fn turn(&mut self, place: &Place, dice: &mut Dice) -> Result<Turn, String> {
        let directory = place.root.join("state");
        let (temporary, text) = (directory.join("text.new"), dice.text(40));
        let write = || {
            fs::write(&temporary, &text)?;
            File::open(&temporary)?.sync_all()?;
            fs::rename(&temporary, directory.join("text"))?;
            if self.0 == Wrong::Nothing { File::open(&directory)?.sync_all() } else { Ok(()) }
        };
        write().map_err(told)?;
        Ok(Turn { found: text, meanwhile: None })
    }

    fn look(&self, place: &Place) -> String {
        fs::read_to_string(place.root.join("state/text")).unwrap_or(NOTHING.to_owned())
    }
}

impl Keeper for Copies {
    fn fresh(&self) -> Box<dyn Keeper> {
        Box::new(self.clone())
    }

    fn prepare(&mut self, place: &Place) -> Result<(), String> {
        Loader(Kind::UBootDisk).prepare(place)
    }

    fn turn(&mut self, place: &Place, dice: &mut Dice) -> Result<Turn, String> {
        if self.0 == Wrong::Nothing {
            return Loader(Kind::UBootDisk).turn(place, dice);
        }
        let (shadow, device) = (shadow(place), &place.devices[0]);
        fs::create_dir_all(&shadow.root).map_err(told)?;
        let file = open(device).map_err(told)?;
        let mut old = vec![0; 2 * COPY];
        file.read_exact_at(&mut old, 0).map_err(told)?;
        fs::write(&shadow.devices[0], &old).map_err(told)?;
        let turn = Loader(Kind::UBootDisk).turn(&shadow, dice)?;
        let new = fs::read(&shadow.devices[0]).map_err(told)?;
        let at = changed_half(&old, &new) * COPY;
        let copy = &new[at..at + COPY];
        let is_both = self.0 == Wrong::BothCopies;
        let (wanted, at) = if is_both { ([copy; 2].concat(), 0) } else { (copy.to_vec(), at as u64) };
        file.write_all_at(&wanted, at).and_then(|()| file.sync_data()).map_err(told)?;
        let mut found = vec![0; wanted.len()];
        file.read_exact_at(&mut found, at).map_err(told)?;
        if found == wanted { Ok(turn) } else { Err("it does not hold what was written".into()) }
    }

    fn look(&self, place: &Place) -> String {
        Loader(Kind::UBootDisk).look(place)
    }
}

/// How many cuts it takes to find a defect, and a few more.
const CUTS: usize = 250;
/// A disk on which one of so many turns loses a write.
const LOSES: usize = 4;

type Write = fn(&Case, &Bench, &mut Dice) -> Result<Written, String>;

/// A defect, where it is, how it is written, how the same is written rightly, and what must be seen of it.
struct Plant {
    wrong: Wrong,
    layout: Layout,
    write: Write,
    right: Write,
    seen: &'static str,
}

const STATE: Layout = Layout { disks: &[6 * MIB], ext4: Some(1024), are_blocks: true };
const ENVIRONMENT: Layout = Layout { disks: &[64 * KIB], ext4: None, are_blocks: true };

macro_rules! plant {
    ($wrong:ident, $keeper:ident, $layout:expr, $loses:expr, $seen:literal) => {
        Plant {
            wrong: Wrong::$wrong,
            layout: $layout,
            write: |_, bench, dice| {
                take_turns(bench, vec![Box::new($keeper(Wrong::$wrong))], 30, $loses, dice)
            },
            right: |_, bench, dice| {
                take_turns(bench, vec![Box::new($keeper(Wrong::Nothing))], 30, $loses, dice)
            },
            seen: $seen,
        }
    };
}

const PLANTS: [Plant; 6] = [
    plant!(NoFlush, Generations, STATE, None, "must be one of"),
    plant!(BothGenerations, Generations, STATE, None, "damaged: "),
    plant!(NoDirectoryFlush, Renamed, STATE, None, "older; it must be one of"),
    Plant {
        wrong: Wrong::NoSlotFlush,
        layout: slot::LAYOUT,
        write: |_, bench, dice| slot::write_images(bench, 2, false, dice),
        right: |_, bench, dice| slot::write_images(bench, 2, true, dice),
        seen: "the slot holds",
    },
    plant!(BothCopies, Copies, ENVIRONMENT, None, "no U-Boot environment"),
    plant!(CachedReadBack, Copies, ENVIRONMENT, Some(LOSES), "older; it must be one of"),
];

/// Looks for each of them. The cuts that it takes are few.
pub(super) fn are_found() {
    for Plant { wrong, layout, write, right, seen } in PLANTS {
        let case = |name, write| Case { name, layout, write, cuts: 0 };
        let found = run(&case("planted", write), CUTS, Flushes::Done);
        let shows = found.violations.iter().filter(|why| why.contains(seen)).count();
        println!("{wrong:?}: {} violations, {shows} of them as expected", found.violations.len());
        assert!(shows > 0, "{wrong:?} is not found");
        let right = run(&case("not planted", right), CUTS, Flushes::Done);
        assert_eq!(right.violations.len(), 0, "{wrong:?} is seen without the defect, too");
    }
}
