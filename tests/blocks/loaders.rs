//! What bootloaders read: environments of U-Boot, GRUB's block and Raspberry Pi's file, on a file system or without one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use hub_emulator::device::env::Environment;
use twinboot::boot::grub::block::{Block, SIZE as BLOCK};
use twinboot::boot::grub::{self, Grub};
use twinboot::boot::tryboot::autoboot::Autoboot;
use twinboot::boot::tryboot::{self, Tryboot};
use twinboot::boot::uboot::env::{Env, Layout, encode};
use twinboot::boot::uboot::{self, Dialect, UBoot};
use twinboot::boot::{BootView, Bootloader, CANARY};
use twinboot::model::{Image, PerSlot, Sha256, Slot, TargetSlot, VerifiedSlot};

use super::dice::Dice;
use super::keep::{Keeper, Place, TORN, Turn, beside};

/// Bytes of a copy of U-Boot's environment, the emulator's number.
pub(super) const COPY: usize = 16 << 10;
/// A variable that is not ours.
const SERIAL: &str = "0042";

/// Where a bootloader finds its variables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Two copies, each a file.
    UBootFiles,
    /// Two copies on one disk.
    UBootDisk,
    /// Two copies, each on a disk of its own.
    UBootDisks,
    /// One copy on a disk: a write of it can be torn, and it is said so.
    UBootSingle,
    /// GRUB's block in a file.
    GrubFile,
    /// GRUB's block, as the two sectors that it is.
    GrubDisk,
    /// Raspberry Pi's file.
    TrybootFile,
    /// The same, as the one sector that it is.
    TrybootDisk,
}

/// Keeps which slot boots.
#[derive(Clone, Debug)]
pub(super) struct Loader(pub(super) Kind);

/// What a verb of the bootloader leaves.
#[derive(Clone, Debug)]
struct Wanted {
    default: Slot,
    trial: Option<Slot>,
    floor: Option<u64>,
    canary: Option<String>,
}

impl Wanted {
    fn words(&self, others: &str) -> String {
        let Self { default, trial, floor, canary } = self;
        format!("default {default}, trial {trial:?}, floor {floor:?}, canary {canary:?}, others {others}")
    }
}

impl Loader {
    /// The files or disks, each with what a factory writes there.
    fn factory(&self, place: &Place) -> Vec<(PathBuf, u64, Vec<u8>)> {
        let copy = |layout, flag| encode(layout, COPY, flag, &variables()).expect("it fits");
        let two = [copy(Layout::Redundant, 1), copy(Layout::Redundant, 0)];
        let file = |name: &str| place.root.join(name);
        let disk = |index: usize| place.devices[index].clone();
        let [one, other] = two;
        match self.0 {
            Kind::UBootFiles => vec![(file("env0"), 0, one), (file("env1"), 0, other)],
            Kind::UBootDisk => vec![(disk(0), 0, one), (disk(0), COPY as u64, other)],
            Kind::UBootDisks => vec![(disk(0), 0, one), (disk(1), 0, other)],
            Kind::UBootSingle => vec![(disk(0), 0, copy(Layout::Single, 0))],
            Kind::GrubFile => vec![(file("grubenv"), 0, block())],
            Kind::GrubDisk => vec![(disk(0), 0, block())],
            Kind::TrybootFile => vec![(file("autoboot.txt"), 0, autoboot())],
            Kind::TrybootDisk => vec![(disk(0), 0, autoboot())],
        }
    }

    fn open(&self, place: &Place) -> Result<Box<dyn Bootloader>, String> {
        let places = self.factory(place);
        let path = places[0].0.clone();
        let opened: Result<Box<dyn Bootloader>, _> = match self.0 {
            Kind::UBootFiles | Kind::UBootDisk | Kind::UBootDisks | Kind::UBootSingle => {
                let lines =
                    places.iter().map(|(path, at, _)| format!("{} {at:#x} {COPY:#x}\n", path.display()));
                let name = format!("{:?}.config", self.0);
                let fw_env_config = beside(place, &name, &lines.collect::<String>());
                let values = PerSlot { a: "a".to_owned(), b: "b".to_owned() };
                let dialect = Dialect::UpgradeAvailable { slot_variable: "slot".to_owned(), values };
                let lock_file = Some(place.beside.join("lock"));
                UBoot::open(uboot::Settings { fw_env_config, dialect, tries: 3, lock_file })
                    .map(|it| Box::new(it) as _)
            }
            Kind::GrubFile | Kind::GrubDisk => {
                let names = PerSlot { a: "A".to_owned(), b: "B".to_owned() };
                let settings = grub::Settings { environment: path, names, tries: 3, root: "/proc".into() };
                Grub::open(settings).map(|it| Box::new(it) as _)
            }
            Kind::TrybootFile | Kind::TrybootDisk => {
                let (partitions, root) = (PerSlot { a: 2, b: 3 }, place.beside.clone());
                Tryboot::open(tryboot::Settings { autoboot: path, partitions, root })
                    .map(|it| Box::new(it) as _)
            }
        };
        opened.map_err(|error| error.to_string())
    }

    fn is_tryboot(&self) -> bool {
        matches!(self.0, Kind::TrybootFile | Kind::TrybootDisk)
    }

    /// What is there of variables that are not ours, read by others than the product where there are others.
    fn others(&self, place: &Place) -> Result<String, String> {
        let path = self.factory(place).swap_remove(0).0;
        let bytes = || fs::read(&path).map_err(|error| error.to_string());
        Ok(match self.0 {
            Kind::UBootFiles => {
                let variables = Environment::new(&place.root).load().ok_or("no copy is sound")?;
                variables.text("serial#").to_owned()
            }
            Kind::GrubFile | Kind::GrubDisk => {
                let block = Block::decode(&bytes()?).map_err(|damage| damage.to_string())?;
                String::from_utf8_lossy(block.get("serial").unwrap_or_default()).into_owned()
            }
            Kind::UBootDisk
            | Kind::UBootDisks
            | Kind::UBootSingle
            | Kind::TrybootFile
            | Kind::TrybootDisk => SERIAL.into(),
        })
    }
}

impl Keeper for Loader {
    fn fresh(&self) -> Box<dyn Keeper> {
        Box::new(self.clone())
    }

    fn prepare(&mut self, place: &Place) -> Result<(), String> {
        let write = |(path, at, bytes): &(PathBuf, u64, Vec<u8>)| -> io::Result<()> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            file.write_all_at(bytes, *at)?;
            file.sync_all()?;
            if path.starts_with(&place.root) { File::open(&place.root)?.sync_all() } else { Ok(()) }
        };
        self.factory(place).iter().try_for_each(write).map_err(|error| error.to_string())
    }

    fn turn(&mut self, place: &Place, dice: &mut Dice) -> Result<Turn, String> {
        let mut loader = self.open(place)?;
        let (view, canary) = see(loader.as_mut())?;
        let mut wanted = Wanted { default: view.default, trial: view.trial, floor: view.floor, canary };
        let done = match view.trial {
            // What its firmware must be to arm it has nothing to do with a disk.
            None if self.is_tryboot() => {
                wanted.default = !view.default;
                loader.commit(wanted.default, None)
            }
            None if dice.one_in(3) => {
                let len = 1 + dice.below(30);
                let text = dice.text(len);
                wanted.canary = Some(text.clone());
                loader.canary().map_or(Ok(()), |canary| canary.write(&text))
            }
            None => {
                wanted.trial = Some(!view.default);
                loader.arm(&verified(!view.default))
            }
            Some(slot) if dice.one_in(2) => {
                let floor = view.floor.unwrap_or(0) + 1;
                (wanted.default, wanted.trial, wanted.floor) = (slot, None, Some(floor));
                loader.commit(slot, Some(floor))
            }
            Some(_) => {
                wanted.trial = None;
                loader.revert(view.default)
            }
        };
        done.map_err(|error| error.to_string())?;
        let torn = (self.0 == Kind::UBootSingle).then(|| TORN.to_owned());
        Ok(Turn { found: wanted.words(SERIAL), meanwhile: torn })
    }

    fn look(&self, place: &Place) -> String {
        let seen = self.open(place).and_then(|mut loader| {
            let (view, canary) = see(loader.as_mut())?;
            let BootView { default, trial, floor, .. } = view;
            Ok(Wanted { default, trial, floor, canary }.words(&self.others(place)?))
        });
        match seen {
            Err(_) if self.0 == Kind::UBootSingle => TORN.to_owned(),
            Err(why) => format!("unreadable: {why}"),
            Ok(seen) => seen,
        }
    }
}

fn see(loader: &mut dyn Bootloader) -> Result<(BootView, Option<String>), String> {
    let view = loader.view().map_err(|error| error.to_string())?;
    let canary = loader.canary().map_or(Ok(None), |canary| canary.read());
    Ok((view, canary.map_err(|error| error.to_string())?))
}

/// Laid out so that a change is one of the first sector, of the last one, and of those between, which move.
fn variables() -> Env {
    let mut env = Env::default();
    let filler = Dice::new(0).text(COPY - 1000);
    for (name, value) in [
        ("slot", "a"),
        (CANARY, "x"),
        ("filler", &filler),
        ("bootcount", "0"),
        ("bootlimit", "3"),
        ("serial#", SERIAL),
        ("upgrade_available", "0"),
    ] {
        env.set(name, value);
    }
    env
}

fn block() -> Vec<u8> {
    let text = "# GRUB Environment Block\nORDER=A B\nA_OK=1\nA_TRY=0\nB_OK=0\nB_TRY=0\nserial=0042\n";
    let mut block = text.as_bytes().to_vec();
    block.resize(BLOCK, b'#');
    block
}

fn autoboot() -> Vec<u8> {
    Autoboot::new(2, 2).encode().expect("it fits")
}

fn verified(slot: Slot) -> VerifiedSlot {
    let wanted = Image { sha256: Sha256::of(b""), len: 0 };
    let target = TargetSlot::new(slot, !slot, !slot).expect("the other one");
    VerifiedSlot::attest(target, &wanted.sha256, &wanted).expect("it is as wanted")
}
