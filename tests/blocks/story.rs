//! The whole of it: the real daemon on a device whose files are all on one ext4: slots, environment and state. The device
//! and what must be so whenever it is off are those of `crash/`.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use hub_emulator::device::Slot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use twinboot::model::Sha256;

use super::bench::{Bench, Layout};
use super::case::{Judge, Written, settled};
use super::cases::MIB;
use super::device::{Device, Image};
use super::dice::Dice;
use super::keep::Place;
use super::log::Log;
use super::truth::{self, Proven};

pub(super) const LAYOUT: Layout = Layout { disks: &[8 * MIB], ext4: Some(1024), are_blocks: true };

const KIB: usize = 1 << 10;
/// Far longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(90);
/// How often it is looked whether a reboot is asked for.
const LOOK: Duration = Duration::from_millis(5);
/// More runs of the daemon than an update takes that was cut short once.
const RUNS: usize = 12;

/// What a slot may hold; the first is the factory's, the others are installed one after another, with this end.
static IMAGES: LazyLock<Vec<Image>> = LazyLock::new(|| {
    vec![
        Image::good("1.0.0", 100 * KIB),
        Image::good("2.0.0", 150 * KIB),
        Image::unhealthy("2.1.0", 70 * KIB),
        Image::unbootable("2.2.0", 70 * KIB),
        Image::good("3.0.0", 90 * KIB + 100),
    ]
});

static FILES: LazyLock<TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory for images");
    for image in IMAGES.iter() {
        fs::write(directory.path().join(image.version), &image.bytes).expect("an image is written");
    }
    directory
});

/// Something that happened, and before which op of the log.
#[derive(Clone, Debug)]
enum Mark {
    /// It runs from this slot, which holds this image.
    Runs(Slot, usize),
    /// An update was granted.
    Granted,
    /// It is over: what is told of it.
    Ended(Value),
}

/// What is heard of the daemon.
enum Heard {
    Status(Value),
    Reboot,
}

/// One run of it. Killed when dropped.
struct Daemon {
    child: Child,
    root: PathBuf,
    statuses: Receiver<Value>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(root: &Path, said: &Path) -> io::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinboot"));
        command.arg("--config").arg(root.join("twinboot.toml")).args(["run", "--verbose"]);
        command.env_clear().env("PATH", "/usr/bin:/bin");
        let said = File::options().create(true).append(true).open(said)?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn()?;
        let (sender, statuses) = channel();
        let mut daemon = Self { child, root: root.to_owned(), statuses };
        let stream = daemon.request(&json!({"request": "watch"}))?;
        thread::spawn(move || {
            let lines = BufReader::new(stream).lines().map_while(Result::ok);
            for mut answer in lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok()) {
                let status = answer["status"].take();
                // Null until the engine has looked around.
                if !status.is_null() && sender.send(status).is_err() {
                    return;
                }
            }
        });
        Ok(daemon)
    }

    fn request(&mut self, wanted: &Value) -> io::Result<UnixStream> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match UnixStream::connect(self.root.join("control.sock")) {
                Ok(mut stream) => {
                    stream.write_all(format!("{wanted}\n").as_bytes())?;
                    return Ok(stream);
                }
                Err(error) if Instant::now() > deadline || self.child.try_wait()?.is_some() => {
                    return Err(error);
                }
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    fn ask(&mut self, wanted: &Value) -> io::Result<Value> {
        let mut line = String::new();
        BufReader::new(self.request(wanted)?).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    fn next(&mut self) -> Result<Heard, String> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if self.root.join("machine/reboot-requested").exists() {
                self.stop()?;
                return Ok(Heard::Reboot);
            }
            match self.statuses.recv_timeout(LOOK) {
                Ok(status) => return Ok(Heard::Status(status)),
                Err(RecvTimeoutError::Timeout) => {}
                // It may be on its way out to a reboot.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
            }
        }
        Err(format!("nothing happens within {LIMIT:?}"))
    }

    /// As the service manager ends it before a reboot.
    fn stop(&mut self) -> Result<(), String> {
        let process = Pid::from_raw(self.child.id().cast_signed());
        // It may have gone by itself.
        let _ = kill(process, Signal::SIGTERM);
        self.child.wait().map(drop).map_err(|error| error.to_string())
    }
}

/// Has the update to this image come to its end, from a machine that is off. It was granted already, if so; `note` hears
/// what happens. How it ended.
fn install(
    place: &Place,
    image: usize,
    before: &Value,
    mut is_granted: bool,
    note: &mut dyn FnMut(Mark) -> io::Result<()>,
) -> Result<Value, String> {
    let told = |error: io::Error| error.to_string();
    let (device, said) = (Device::at(&place.root), place.beside.join("said"));
    let wanted = &IMAGES[image];
    for _ in 0..RUNS {
        let (slot, runs) = device.boot(&IMAGES).map_err(told)?;
        note(Mark::Runs(slot, runs)).map_err(told)?;
        let mut daemon = Daemon::start(&place.root.join("device"), &said).map_err(told)?;
        while let Heard::Status(status) = daemon.next()? {
            if status["phase"] != "idle" {
                continue;
            }
            let last = &status["last"];
            if last != before {
                let is_good = wanted.boots && wanted.is_healthy;
                let outcome = if is_good { "succeeded" } else { "rolled-back" };
                if last["outcome"] != outcome {
                    return Err(format!("{} ended as {last}, and it must be {outcome}", wanted.version));
                }
                if is_good != (runs == image) {
                    return Err(format!("{outcome}, and {} runs", IMAGES[runs].version));
                }
                note(Mark::Ended(last.clone())).map_err(told)?;
                return Ok(last.clone());
            }
            if is_granted {
                return Err("what was granted is forgotten".into());
            }
            let (file, sha256) = (FILES.path().join(wanted.version), Sha256::of(&wanted.bytes).to_string());
            let request =
                json!({"request": "install", "file": file, "sha256": sha256, "version": wanted.version});
            let answer = daemon.ask(&request).map_err(told)?;
            if answer["ok"] != true {
                return Err(format!("it is refused: {answer}"));
            }
            note(Mark::Granted).map_err(told)?;
            is_granted = true;
        }
    }
    Err(format!("it does not come to an end within {RUNS} boots"))
}

/// What happened, by ops of the log.
#[derive(Debug)]
struct Story {
    marks: Vec<(Mark, usize)>,
    /// Where its files were.
    root: PathBuf,
}

impl Story {
    fn until(&self, at: usize) -> impl Iterator<Item = &Mark> {
        self.marks.iter().take_while(move |(_, before)| *before <= at).map(|(mark, _)| mark)
    }

    /// Goes on from what a cut has left, until the update that was under way is at its end, or the next one.
    fn goes_on(&self, place: &Place, at: usize) -> Result<(), String> {
        // What an integrator configured has paths in it.
        for name in ["twinboot.toml", "fw_env.config", "health.d/10-app", "fresh"] {
            let path = place.root.join("device").join(name);
            let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
            let text = text.replace(&*self.root.to_string_lossy(), &place.root.to_string_lossy());
            fs::write(&path, text).map_err(|error| format!("{name}: {error}"))?;
        }
        let ended: Vec<_> = self
            .until(at)
            .filter_map(|mark| if let Mark::Ended(last) = mark { Some(last) } else { None })
            .collect();
        let granted = self.until(at).filter(|mark| matches!(mark, Mark::Granted)).count();
        let before = ended.last().map_or(Value::Null, |last| (*last).clone());
        let image = (ended.len() + 1).min(IMAGES.len() - 1);
        install(place, image, &before, granted > ended.len(), &mut |_| Ok(())).map(drop)
    }
}

impl Judge for Story {
    fn judge(&self, place: &Place, at: usize, dice: &mut Dice) -> Result<(), String> {
        let (mut proven, mut booted) = (Proven::default(), None);
        proven.note(Slot::A, 0);
        for mark in self.until(at) {
            if let Mark::Runs(slot, image) = mark {
                booted = Some((*slot, *image));
                if IMAGES[*image].is_healthy {
                    proven.note(*slot, *image);
                }
            }
        }
        let device = Device::at(&place.root);
        truth::at_rest(&device, &IMAGES, &proven, booted).map_err(|error| error.to_string())??;
        let is_known = self.until(at).any(|mark| matches!(mark, Mark::Granted));
        if is_known && truth::record(&device)?.is_none() {
            return Err("there is no record".into());
        }
        if !dice.one_in(20) {
            return Ok(());
        }
        self.goes_on(place, at).map_err(|why| {
            let said = fs::read_to_string(place.beside.join("said")).unwrap_or_default();
            let lines: Vec<_> = said.lines().filter(|line| !line.contains("DEBUG")).collect();
            format!("{why}\n    {}", lines[lines.len().saturating_sub(12)..].join("\n    "))
        })
    }

    fn promised(&self, at: usize) -> usize {
        self.until(at).count()
    }
}

/// Has all images installed, one after another.
pub(super) fn tell(bench: &Bench) -> Result<Written, String> {
    let told = |error: io::Error| error.to_string();
    let disks = &bench.disks;
    let mut marks = Vec::new();
    let written = bench.mounted(|place| {
        Device::new(&place.root, &IMAGES[0], "").map_err(told)?;
        let before = settled(disks, place).map_err(told)?;
        let mut last = Value::Null;
        for image in 1..IMAGES.len() {
            last = install(place, image, &last, false, &mut |mark| {
                marks.push((mark, disks.position()?));
                Ok(())
            })?;
        }
        disks.note(false).map_err(told)?;
        Ok::<_, String>((before, place.root.clone()))
    });
    let (before, root) = written.map_err(told)??;
    let log = Log::parse(disks.log().map_err(told)?)?;
    let marks = marks.into_iter().map(|(mark, position)| (mark, log.count(position))).collect();
    Ok(Written { before, log, judge: Box::new(Story { marks, root }) })
}
