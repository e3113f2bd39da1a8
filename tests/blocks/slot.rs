//! A download into a slot: checkpoints in a file system, the image on a disk of its own, each with a cache of its own. What
//! a checkpoint says is in the slot must be there, whatever either of the caches loses.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use twinboot::durable::Generations;
use twinboot::image::{
    self, CHECKPOINT_CAPACITY, Cancel, Direct, Fetch, Net, Progress, RateLimit, Settings, Target,
};
use twinboot::model::{Artifact, Location, Sha256, Slot, TargetSlot};
use twinboot::slots::{self, SlotMap, TargetDevice};
use twinboot::tls;

use super::bench::{Bench, Layout};
use super::case::{Judge, Written, settled};
use super::cases::{KIB, MIB};
use super::dice::Dice;
use super::keep::Place;
use super::log::Log;

/// The state, slot B, and slot A, which is only there.
pub(super) const LAYOUT: Layout =
    Layout { disks: &[6 * MIB, 2 * MIB, 4 * KIB], ext4: Some(1024), are_blocks: true };

/// No network is asked for a file.
static NET: LazyLock<(Runtime, Net)> = LazyLock::new(|| {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let trust = tls::Settings { system_roots: false, ..tls::Settings::default() };
    let trust = tls::Trust::new(trust).expect("it trusts nobody");
    let direct = Direct::new(trust, None, Duration::from_secs(1));
    let net = Net::new(direct, runtime.handle().clone()).expect("a client");
    (runtime, net)
});

/// An image, and the file that it comes in.
#[derive(Debug)]
struct Wish {
    file: PathBuf,
    packed: Sha256,
    image: Sha256,
}

/// A slot as the product writes it; or one whose flushes are left out.
struct Device(TargetDevice, bool);

impl Target for Device {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }

    fn zero(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.0.zero(offset, len)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.1 { self.0.flush() } else { Ok(()) }
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_back(offset, buffer)
    }
}

impl Wish {
    /// The `nth` one, in `directory`: with a run of zeros in it, and every other one packed.
    fn new(directory: &Path, nth: usize, dice: &mut Dice) -> io::Result<Self> {
        let (file, mut bytes) = (directory.join(nth.to_string()), Vec::new());
        let blocks = 120 + dice.below(80);
        let zeros = 20 + dice.below(60);
        for block in 0..blocks {
            let is_zero = (zeros..zeros + 30).contains(&block);
            bytes.extend((0..512).flat_map(|_| if is_zero { [0; 8] } else { dice.number().to_le_bytes() }));
        }
        bytes.truncate(bytes.len() - dice.below(4096));
        let image = Sha256::of(&bytes);
        if nth % 2 == 1 {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(&bytes)?;
            bytes = packer.finish()?;
        }
        fs::write(&file, &bytes)?;
        Ok(Self { file, packed: Sha256::of(&bytes), image })
    }

    /// Has it in the slot, as far as it is not there already. How many bytes of the file were read for that.
    fn fulfil(&self, place: &Place, flushes: bool) -> Result<u64, String> {
        let device = |disk: usize| vec![place.devices[disk].clone()];
        let map = SlotMap::new(slots::Settings { a: device(2), b: device(1), allow_files: true });
        let target = TargetSlot::new(Slot::B, Slot::A, Slot::A).expect("the other one");
        let opened = TargetDevice::open(&map, target, Slot::A).map_err(|error| error.to_string())?;
        let mut device = Device(opened, flushes);
        let file = Generations::open(&place.root.join("state"), "download", CHECKPOINT_CAPACITY);
        let mut checkpoint = file.map_err(|error| error.to_string())?;
        let (progress, cancel) = (Progress::default(), Cancel::default());
        let location = Location::File(self.file.clone());
        let artifact = Artifact { version: None, location, sha256: Some(self.packed), size: None };
        let fetch = Fetch {
            artifact: &artifact,
            slot: Slot::B,
            settings: &Settings { checkpoint_every: 64 * KIB, ..Settings::default() },
            net: &NET.1,
            progress: &progress,
            cancel: &cancel,
            rate: &RateLimit::default(),
            update: &format!("{:?}", self.file),
            signed: None,
        };
        let written = image::write(&fetch, &mut device, &mut checkpoint)
            .map_err(|error| format!("writing: {error}"))?;
        let read = progress.snapshot().fetched;
        let found = image::read_back(&device, &written.image, &progress, &cancel);
        match found.map_err(|error| format!("reading back: {error}"))? {
            found if found == self.image && written.image.sha256 == self.image => Ok(read),
            found => Err(format!("the slot holds {found}, and it must be {}", self.image)),
        }
    }
}

/// Images that were written one after another, with the ops of the log before which each was begun, and was done.
#[derive(Debug)]
struct Downloads {
    _files: TempDir,
    wishes: Vec<(Wish, usize, usize)>,
}

impl Judge for Downloads {
    fn judge(&self, place: &Place, at: usize, _dice: &mut Dice) -> Result<(), String> {
        let Some((wish, _, done)) = self.wishes.iter().rfind(|(_, began, _)| *began <= at) else {
            return Ok(());
        };
        let read = wish.fulfil(place, true)?;
        if *done <= at && read > 0 {
            return Err(format!("it was all there, and {read} bytes were read again"));
        }
        Ok(())
    }

    fn promised(&self, at: usize) -> usize {
        let marks = self.wishes.iter().flat_map(|(_, began, done)| [began, done]);
        marks.filter(|mark| **mark <= at).count()
    }
}

/// Has so many images written, with the slot flushed or not.
pub(super) fn write_images(
    bench: &Bench,
    count: usize,
    flushes: bool,
    dice: &mut Dice,
) -> Result<Written, String> {
    let told = |error: io::Error| error.to_string();
    let disks = &bench.disks;
    let files = tempfile::tempdir().map_err(told)?;
    let written = bench.mounted(|place| {
        let before = settled(disks, place)?;
        let mut wishes = Vec::new();
        for nth in 0..count {
            let wish = Wish::new(files.path(), nth, dice)?;
            let began = disks.position()?;
            wish.fulfil(place, flushes).map_err(io::Error::other)?;
            wishes.push((wish, began, disks.position()?));
        }
        disks.note(false)?;
        Ok((before, wishes))
    });
    let (before, wishes) = written.and_then(|written| written).map_err(told)?;
    let log = Log::parse(disks.log().map_err(told)?)?;
    let wishes =
        wishes.into_iter().map(|(wish, began, done)| (wish, log.count(began), log.count(done))).collect();
    Ok(Written { before, log, judge: Box::new(Downloads { _files: files, wishes }) })
}
