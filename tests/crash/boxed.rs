//! One run of the daemon in the box (`box.c`), which is compiled by the system's C compiler: once for all runs.

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::fault::Fault;

static BOX: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory for the box");
    let program = directory.path().join("box");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash");
    let mut compiler = Command::new("cc");
    compiler.args(["-std=gnu11", "-Wall", "-Wextra", "-O2", "-o"]).arg(&program);
    let compiled = compiler.args(["box.c", "calls.c", "disk.c"].map(|name| source.join(name))).status();
    assert!(compiled.is_ok_and(|status| status.success()), "cc cannot compile the box");
    (directory, program)
});

/// What one run of the daemon has to live through. Calls are counted from 1.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// It is killed before this call.
    pub(super) cut: Option<u64>,
    /// A kill is a power cut, by this seed.
    pub(super) power: Option<u64>,
    /// This call fails.
    pub(super) fault: Option<(u64, Fault)>,
    /// What is done wrong in its stead.
    pub(super) plants: Vec<String>,
}

/// What is heard of it.
#[derive(Debug)]
pub(super) enum Heard {
    /// It can be asked.
    Listening,
    /// A status that it told.
    Status(Value),
    /// It asked for a reboot, and is being stopped.
    Reboot,
    /// The failing call was reached.
    Hit,
    /// It is gone.
    Gone(Gone),
}

/// How it went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Gone {
    /// `cut`, `ended` or `stuck`.
    pub(super) how: String,
    /// How many calls it made.
    pub(super) calls: u64,
    /// With which status it ended; 128 and the signal, if it was one.
    pub(super) status: i32,
}

/// A daemon in its box. Killed when dropped.
pub(super) struct Boxed {
    child: Child,
    heard: Receiver<Heard>,
    sender: Sender<Heard>,
    socket: PathBuf,
}

impl Boxed {
    /// Starts it on the device in `directory`.
    pub(super) fn start(directory: &Path, trouble: &Trouble) -> io::Result<Self> {
        let device = directory.join("device");
        let mut command = Command::new(&BOX.1);
        command.arg("--root").arg(&device).arg("--kept").arg(directory.join("kept"));
        command.arg("--log").arg(directory.join("calls"));
        let mut option = |name: &str, value: String| {
            command.args([name, &value]);
        };
        trouble.cut.iter().for_each(|at| option("--cut", at.to_string()));
        trouble.power.iter().for_each(|seed| option("--power", seed.to_string()));
        trouble.plants.iter().for_each(|plant| option("--plant", plant.clone()));
        if let Some((at, fault)) = &trouble.fault {
            option("--fail", format!("{at}:{}", fault.number()));
            if fault.stays {
                command.arg("--stay");
            }
        }
        command.arg("--").arg(env!("CARGO_BIN_EXE_twinboot"));
        command.arg("--config").arg(device.join("twinboot.toml")).args(["run", "--verbose"]);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let said = std::fs::File::options().create(true).append(true).open(directory.join("said"))?;
        let mut child = command.stderr(said).spawn()?;
        let (sender, heard) = channel();
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let to = sender.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if to.send(understand(&line)).is_err() {
                    return;
                }
            }
            // Without a last word the box itself has failed.
            let _ = to.send(Heard::Gone(Gone { how: "lost".into(), calls: 0, status: 0 }));
        });
        Ok(Self { child, heard, sender, socket: device.join("control.sock") })
    }

    /// What happens next; `None` if nothing does within `limit`.
    pub(super) fn next(&self, limit: Duration) -> Option<Heard> {
        self.heard.recv_timeout(limit).ok()
    }

    /// Has its status told from now on. It has just begun to listen.
    pub(super) fn watch(&self) {
        let (sender, socket) = (self.sender.clone(), self.socket.clone());
        thread::spawn(move || {
            let Ok(stream) = request(&socket, "{\"request\":\"watch\"}\n") else { return };
            let lines = BufReader::new(stream).lines().map_while(Result::ok);
            for mut answer in lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok()) {
                let status = answer["status"].take();
                // Null until the engine has looked around.
                if !status.is_null() && sender.send(Heard::Status(status)).is_err() {
                    return;
                }
            }
        });
    }

    /// Asks it for something; its answer, if it lives to give one.
    pub(super) fn ask(&self, wanted: &Value) -> io::Result<Value> {
        let stream = request(&self.socket, &format!("{wanted}\n"))?;
        stream.set_read_timeout(Some(Duration::from_secs(70)))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Kills it now; how it went, and whether the failing call was reached that was not heard of yet.
    pub(super) fn kill(mut self) -> Option<(Gone, bool)> {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut is_hit = false;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now()))? {
                Heard::Gone(gone) => return Some((gone, is_hit)),
                Heard::Hit => is_hit = true,
                Heard::Listening | Heard::Status(_) | Heard::Reboot => {}
            }
        }
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        // The end of its input is the end of the daemon; a box that has gone needs neither.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn understand(line: &str) -> Heard {
    let words: Vec<_> = line.split(' ').collect();
    match words[..] {
        ["listening"] => Heard::Listening,
        ["reboot"] => Heard::Reboot,
        ["hit"] => Heard::Hit,
        [how, calls, status] => Heard::Gone(Gone {
            how: how.into(),
            calls: calls.parse().unwrap_or(0),
            status: status.parse().unwrap_or(0),
        }),
        _ => Heard::Gone(Gone { how: line.into(), calls: 0, status: 0 }),
    }
}

/// Connects and asks. The box tells of the listening right before it is done.
fn request(socket: &Path, line: &str) -> io::Result<UnixStream> {
    use std::io::Write as _;
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match UnixStream::connect(socket) {
            Ok(mut stream) => {
                stream.write_all(line.as_bytes())?;
                return Ok(stream);
            }
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_micros(200)),
        }
    }
}
