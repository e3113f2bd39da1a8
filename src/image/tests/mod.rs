//! The whole chain, against a server and a disk that misbehave on command.

#![allow(clippy::unwrap_used)]

mod answers;
mod bundle;
mod caps;
mod chaos;
mod disk;
mod frozen;
mod heads;
mod http;
mod names;
mod power;
mod remote;
mod server;
mod slot;
mod tls;

use std::io::Write as _;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use crate::model::{Failure, Location};

use super::*;
use disk::Disk;
use server::Server;

/// Longer than anything takes that is waited for here, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short times, so that giving up is quick.
fn hasty() -> Settings {
    Settings {
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_millis(300),
        minimum_rate: 0,
        attempts: 4,
        backoff: [Duration::from_millis(1), Duration::from_millis(4)],
        retry_after_limit: Duration::from_millis(50),
        checkpoint_every: 64 << 10,
        ..Settings::default()
    }
}

/// A file system of sorts: some text, runs of zeros, copies, and noise; `len` bytes.
fn image(len: usize) -> Vec<u8> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 300_000);
    while bytes.len() < len {
        let count = (next() % 50_000) as usize;
        match next() % 6 {
            0 => bytes.extend(std::iter::repeat_n(0, count * 5)),
            1 | 2 => bytes.extend((0..count / 2).map(|_| next() as u8)),
            3 if bytes.len() > 100_000 => {
                let from = bytes.len() - 100_000 + count;
                bytes.extend_from_within(from..from + count.min(50_000));
            }
            _ => (0..count as u64 / 8).for_each(|i| bytes.extend(((i << 12) | (next() % 5)).to_le_bytes())),
        }
    }
    bytes.truncate(len);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(4));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.set_pledged_src_size(Some(bytes.len() as u64)).unwrap();
    encoder.include_contentsize(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A device, a server, and what is between them.
struct Bench {
    server: Server,
    direct: Direct,
    _apart: Option<remote::Apart>,
    net: Net,
    settings: Settings,
    artifact: Artifact,
    disk: Disk,
    state: tempfile::TempDir,
    progress: Progress,
    cancel: Cancel,
    rate: RateLimit,
    update: String,
    rig: Option<bundle::Rig>,
}

impl Bench {
    /// Serves `file`, wanted with its digest and size, into a slot of `size` bytes full of old content.
    fn new(file: &[u8], size: u64) -> Self {
        let server = Server::start(file.to_vec());
        let settings = hasty();
        let direct = Direct::new(crate::tls::Trust::fixed(server.tls()), None, settings.connect_timeout);
        let apart = std::env::var_os("TWINBOOT_SIDES").is_some_and(|sides| sides == "two");
        let apart = apart.then(|| remote::Apart::honest(&server.runtime(), direct.clone()));
        let net = match &apart {
            Some(apart) => apart.net(server.runtime()),
            None => Net::new(direct.clone(), server.runtime()).unwrap(),
        };
        let artifact = Artifact {
            version: None,
            location: Location::Url(server.url("/fw.bin?sig=SECRET").parse().unwrap()),
            sha256: Some(Sha256::of(file)),
            size: Some(file.len() as u64),
        };
        let (disk, state) = (Disk::new(size), tempfile::tempdir().unwrap());
        let (progress, cancel) = (Progress::default(), Cancel::default());
        let (rate, update) = (RateLimit::default(), "one".into());
        Self {
            server,
            direct,
            _apart: apart,
            net,
            settings,
            artifact,
            disk,
            state,
            progress,
            cancel,
            rate,
            update,
            rig: None,
        }
    }

    fn checkpoint(&self) -> Generations {
        Generations::open(self.state.path(), "download", CHECKPOINT_CAPACITY).unwrap()
    }

    fn fetch(&self) -> Fetch<'_> {
        Fetch {
            artifact: &self.artifact,
            slot: Slot::B,
            settings: &self.settings,
            net: &self.net,
            progress: &self.progress,
            cancel: &self.cancel,
            rate: &self.rate,
            update: &self.update,
            signed: self.rig.as_ref().map(bundle::Rig::signed),
        }
    }

    /// One process' try.
    fn write(&self) -> Result<Written, Error> {
        write(&self.fetch(), &mut self.disk.open(), &mut self.checkpoint())
    }

    /// Waits until `worker`, which is at it, has come so far. It is cancelled if it never does: whoever waited for its end
    /// after that would wait for ever.
    fn wait_for<T>(&self, worker: &ScopedJoinHandle<'_, T>, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        loop {
            // Before it is looked at, or it might end in between.
            let is_over = worker.is_finished() || began.elapsed() > PATIENCE;
            if is_so() {
                return;
            }
            if is_over {
                self.cancel.cancel();
                panic!("{what}: not so after {:?}, when {:?}", began.elapsed(), self.progress.snapshot());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// It must succeed, and the slot durably hold `image`.
    fn succeeds(&self, image: &[u8]) -> Snapshot {
        let wanted = Image { sha256: Sha256::of(image), len: image.len() as u64 };
        let written = self.write().unwrap_or_else(|error| panic!("{}", error.reason()));
        assert_eq!(written.image, wanted);
        assert!(self.disk.durable()[..image.len()] == *image);
        let found = read_back(&self.disk.open(), &wanted, &self.progress, &self.cancel).unwrap();
        assert_eq!(found, wanted.sha256);
        self.progress.snapshot()
    }

    /// It must fail, with words that carry no secret.
    fn fails(&self) -> (Failure, String) {
        let error = self.write().expect_err("must fail");
        let reason = error.reason();
        let all = format!("{reason} {error:?} {:?}", self.progress.snapshot());
        assert!(!all.contains("SECRET") && !all.contains("sig="), "{all}");
        (reason.failure, reason.detail)
    }
}
