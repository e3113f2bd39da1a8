//! What a device does for an update, and nothing else: for tests/bench/run.
//!
//! `bench-install ADDRESS ROOT-KEY AUTHORITY TARGET SIZE [SEED]` installs a bundle into the file TARGET of SIZE bytes,
//! with the image SEED as the slot that runs, and reads all of it back.
#![allow(clippy::print_stdout, missing_docs)]

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};
use twinboot::bundle::{Device, PublicKey, RootKeys, Trust};
use twinboot::durable::Generations;
use twinboot::image::{
    self, CHECKPOINT_CAPACITY, Cancel, Direct, Fetch, Net, Progress, RateLimit, Seed, Settings, Signed,
    Target,
};
use twinboot::model::{Artifact, Location, Slot};
use twinboot::tls;

/// A file as a slot.
#[derive(Debug)]
struct FileSlot {
    file: File,
    size: u64,
}

impl FileSlot {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while got < buffer.len() {
            match self.file.read_at(&mut buffer[got..], offset + got as u64)? {
                0 => break,
                count => got += count,
            }
        }
        Ok(got)
    }
}

impl Seed for FileSlot {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(offset, buffer)
    }
}

impl Target for FileSlot {
    fn size(&self) -> u64 {
        self.size
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn zero(&mut self, offset: u64, len: u64) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(offset, buffer)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let _ = rustls::crypto::ring::default_provider().install_default();
    // As in the daemon: the image has a thread of its own, which blocks; another one drives the connection.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (over, end) = tokio::sync::oneshot::channel::<()>();
    let driver = std::thread::spawn(move || runtime.block_on(end));
    let done = install(&handle, &arguments);
    let _ = over.send(());
    let _ = driver.join();
    done
}

fn install(handle: &tokio::runtime::Handle, arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [address, key, authority, target, size, seed @ ..] = arguments else {
        return Err("usage: bench-install ADDRESS ROOT-KEY AUTHORITY TARGET SIZE [SEED]".into());
    };
    let settings = Settings::default();
    let trust =
        tls::Settings { ca_files: vec![authority.into()], system_roots: false, ..tls::Settings::default() };
    let direct = Direct::new(tls::Trust::new(trust)?, None, Duration::from_secs(10));
    let net = Net::new(direct, handle.clone())?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(target)?;
    let size = size.parse()?;
    file.set_len(size)?;
    let mut slot = FileSlot { file, size };
    let seed = match seed.first() {
        Some(path) => {
            let file = File::open(path)?;
            Some(FileSlot { size: file.metadata()?.len(), file })
        }
        None => None,
    };
    let roots = RootKeys::new(1, [PublicKey::parse(&std::fs::read_to_string(key)?)?]);
    let remembered = Mutex::new(Trust::default());
    let twinboot = env!("CARGO_PKG_VERSION");
    let device = Device { product: Some("bench"), compatible: &[], floor: 0, now: None, twinboot };
    let location = Location::Url(address.parse()?);
    let artifact = Artifact { version: None, location, sha256: None, size: None };
    let (progress, cancel) = (Progress::default(), Cancel::default());
    let fetch = Fetch {
        artifact: &artifact,
        slot: Slot::B,
        settings: &settings,
        net: &net,
        progress: &progress,
        cancel: &cancel,
        rate: &RateLimit::default(),
        update: "bench",
        signed: Some(Signed {
            roots: &roots,
            ledger: &remembered,
            device,
            allowance: None,
            seed: seed.as_ref().map(|it| it as &dyn Seed),
        }),
    };
    let directory = tempfile::tempdir_in(".")?;
    let mut checkpoint = Generations::open(directory.path(), "download", CHECKPOINT_CAPACITY)?;
    let began = Instant::now();
    let written = image::write(&fetch, &mut slot, &mut checkpoint)?;
    let after = began.elapsed();
    let found = image::read_back(&slot, &written.image, &progress, &cancel)?;
    if found != written.image.sha256 {
        return Err("what was read back is not what was written".into());
    }
    println!("written after {after:?}, read back after {:?}; {:?}", began.elapsed(), progress.snapshot());
    Ok(())
}
