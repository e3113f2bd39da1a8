//! How much memory installing a bundle takes: a process of its own, as the kernel counts by process.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

/// The words of the format, under the names that the writer knows them by.
mod bundle {
    pub(crate) use twinboot::bundle::*;
}
mod model {
    pub(crate) use twinboot::model::*;
}
#[allow(dead_code)]
#[path = "../src/image/tests/bundle/writer.rs"]
mod writer;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use twinboot::durable::Generations;
use twinboot::image::{self, Cancel, Direct, Net, Progress, RateLimit, Seed, Signed, Target};
use twinboot::model::{Artifact, Location, Slot, TargetSlot};
use twinboot::slots::{SeedDevice, Settings, SlotMap, TargetDevice};
use twinboot::tls;
use writer::Maker;

const LEN: usize = 192 << 20;

struct Device(TargetDevice);

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
        self.0.flush()
    }
    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_back(offset, buffer)
    }
}

#[derive(Debug)]
struct Running(SeedDevice);

impl Seed for Running {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }
}

/// Two images of which each third page differs, and the bundle of the second.
fn make(directory: &Path, maker: &Maker) {
    let mut random = 88_172_645_463_325_252_u64;
    let mut image = Vec::with_capacity(LEN);
    while image.len() < LEN {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        image.extend(random.to_le_bytes());
        image.extend([(random % 7) as u8; 8]);
    }
    fs::write(directory.join("a"), &image).unwrap();
    for block in image.chunks_mut(4096).skip(100).step_by(200) {
        block[77] ^= 1;
    }
    fs::write(directory.join("new.twb"), maker.make(&image)).unwrap();
    File::create(directory.join("b")).unwrap().set_len(LEN as u64).unwrap();
}

/// Of `VmRSS` or `VmHWM`, in bytes.
fn memory(what: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
#[ignore = "deep: makes and installs images of 192 MiB"]
fn deep_p137_a_bundle_is_installed_in_little_memory() {
    let (directory, maker) = (tempfile::tempdir().unwrap(), Maker::new());
    let path = |name: &str| directory.path().join(name);
    make(directory.path(), &maker);
    let map = SlotMap::new(Settings { a: vec![path("a")], b: vec![path("b")], allow_files: true });
    let target = TargetSlot::new(Slot::B, Slot::A, Slot::A).unwrap();
    let mut target = Device(TargetDevice::open(&map, target, Slot::A).unwrap());
    let seed = Running(SeedDevice::open(&map, Slot::A).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let trusted = tls::client_config(&tls::Settings::default()).unwrap();
    let direct = Direct::new(tls::Trust::fixed(trusted), None, Duration::from_secs(1));
    let net = Net::new(direct, runtime.handle().clone()).unwrap();
    let artifact =
        Artifact { version: None, location: Location::File(path("new.twb")), sha256: None, size: None };
    let (settings, progress, cancel) = (image::Settings::default(), Progress::default(), Cancel::default());
    let (rate, roots, trust) = (RateLimit::default(), maker.roots(), Mutex::default());
    let device = bundle::Device {
        product: Some("gateway"),
        compatible: &[],
        floor: 0,
        now: None,
        twinboot: env!("CARGO_PKG_VERSION"),
    };
    let fetch = image::Fetch {
        artifact: &artifact,
        slot: Slot::B,
        settings: &settings,
        net: &net,
        progress: &progress,
        cancel: &cancel,
        rate: &rate,
        update: "one",
        signed: Some(Signed { roots: &roots, ledger: &trust, device, allowance: None, seed: Some(&seed) }),
    };
    let mut checkpoint = Generations::open(directory.path(), "download", image::CHECKPOINT_CAPACITY).unwrap();
    // The highest mark counts from here on.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = memory("VmRSS");
    let written =
        image::write(&fetch, &mut target, &mut checkpoint).unwrap_or_else(|e| panic!("{}", e.reason()));
    let took = memory("VmHWM") - before;
    println!("{} KiB more than before, {:?}", took >> 10, progress.snapshot().plan);
    assert_eq!(image::read_back(&target, &written.image, &progress, &cancel).unwrap(), written.image.sha256);
    assert!(took < 12 << 20, "{took} bytes");
}
