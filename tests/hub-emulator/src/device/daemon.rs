//! One run of the real daemon, or of its network side: its process, its lines, and its status.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::journal::{Checked, Failure, Happening, Journal};

/// How long a daemon that was asked to end may take before that counts as a fault. It promises five seconds.
const STOP_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// A running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    gone: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it, with the network left to the process behind `net` if there is one. Its lines go into the journal, and
    /// so does what it says of its status on the socket to follow.
    pub(super) fn start(
        program: &Path,
        config: &Path,
        net: Option<&Path>,
        follow: Option<&Path>,
        journal: &Arc<Journal>,
    ) -> Checked<Self> {
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args(["run", "--verbose"]).stdin(Stdio::null());
        if let Some(socket) = net {
            command.arg("--net").arg(socket);
        }
        let mut daemon = Self::spawn(command, program, journal)?;
        if let Some(socket) = follow {
            let (journal, gone, socket) = (Arc::clone(journal), Arc::clone(&daemon.gone), socket.to_owned());
            daemon.threads.push(thread::spawn(move || watch(&socket, &gone, &journal)));
        }
        Ok(daemon)
    }

    /// Starts the network side, with this socket as a service manager hands it over.
    pub(super) fn network(program: &Path, socket: &UnixListener, journal: &Arc<Journal>) -> Checked<Self> {
        let mut command = Command::new(program);
        command.args(["net", "--verbose"]).stdin(OwnedFd::from(socket.try_clone()?));
        Self::spawn(command, program, journal)
    }

    fn spawn(mut command: Command, program: &Path, journal: &Arc<Journal>) -> Checked<Self> {
        // Nothing of the service manager, or of the journal, that may be above us.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("RUST_BACKTRACE", "1");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| Failure(format!("{}: {error}", program.display())))?;
        let gone = Arc::new(AtomicBool::new(false));
        let stderr = child.stderr.take().expect("it is piped");
        let lines = {
            let journal = Arc::clone(journal);
            thread::spawn(move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    journal.add(Happening::Said(String::from_utf8_lossy(&line).into_owned()));
                }
            })
        };
        Ok(Self { child, gone, threads: vec![lines] })
    }

    /// The number of its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends SIGTERM and waits; how long it took.
    pub(super) fn stop(mut self) -> Checked<Duration> {
        let begin = Instant::now();
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended just now.
            let _ = kill_process(pid, Signal::TERM);
        }
        let status = loop {
            match self.ended() {
                Some(status) => break status,
                None if begin.elapsed() > STOP_LIMIT => {
                    return Err(Failure(format!("the daemon did not end within {STOP_LIMIT:?} of SIGTERM")));
                }
                None => thread::sleep(PAUSE),
            }
        };
        let took = begin.elapsed();
        if status.success() {
            Ok(took)
        } else {
            Err(Failure(format!("after SIGTERM the daemon ended with {status}")))
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Also of one that has ended: that is an error nobody needs.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.gone.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Follows the status for as long as the daemon lives.
fn watch(socket: &Path, gone: &AtomicBool, journal: &Journal) {
    while !gone.load(Ordering::Relaxed) {
        if let Ok(mut stream) = UnixStream::connect(socket)
            && stream.write_all(b"{\"request\":\"watch\"}\n").is_ok()
        {
            let lines = BufReader::new(stream).split(b'\n').map_while(Result::ok);
            for mut answer in lines.filter_map(|line| serde_json::from_slice::<Value>(&line).ok()) {
                let status = answer["status"].take();
                // Null until the engine has looked around.
                if !status.is_null() {
                    journal.add(Happening::Status(status));
                }
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Asks the daemon behind `socket` for something; its answer.
pub(super) fn ask(socket: &Path, request: &Value) -> Checked<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(70)))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Runs the program with other arguments than `run`; exit code and both outputs.
pub(super) fn command(program: &Path, config: &Path, arguments: &[&str]) -> Checked<(Option<i32>, String)> {
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(arguments).env_clear().stdin(Stdio::null());
    let output = command.output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}
