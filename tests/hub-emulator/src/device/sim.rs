//! A board made of files: power, bootloader, slots, and the real daemon.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use super::board::{Board, NET_SOCKET};
use super::daemon::{self, Daemon};
use super::env::{Environment, Variables};
use super::firmware::Installed;
use super::journal::{Checked, Entry, Failure, Happening, Journal};
use super::layout::lay_out;
use super::loader::{self, Slot};
use super::secrets::Secrets;

/// How a device shall be.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The daemon's program, which must understand `--config FILE run`.
    pub program: &'a Path,
    /// The image in slot A.
    pub factory: &'a [u8],
    /// Its connection string, with the hub's port if that is not the usual one.
    pub connection: &'a str,
    /// The certificate authority to trust, in PEM.
    pub ca: &'a str,
    /// A drop-in for the configuration.
    pub config: &'a str,
    /// Bytes of each slot.
    pub slot_size: u64,
    /// How long a reset takes: nothing for tests, a moment where people watch.
    pub reset: Duration,
    /// How often its supervisor looks at the machine: whether the daemon lives, and whether it wants a reboot.
    pub attention: Duration,
    /// Where its directory is made; the system's place for temporary ones if none.
    pub directory: Option<&'a Path>,
    /// The beginning of the name of its directory.
    pub name: &'a str,
    /// How many of its latest happenings the journal keeps; all if none.
    pub journal: Option<usize>,
    /// Whether the daemon's status is followed through its control socket and told as [`Happening::Status`].
    pub followed: bool,
    /// Of how many processes the daemon is made.
    pub sides: Sides,
}

/// Of how many processes the daemon is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sides {
    /// One that does it all.
    One,
    /// One with the devices, and one with the network.
    Two,
}

impl Sides {
    /// As it ships: two; one if the environment variable `TWINBOOT_SIDES` says so.
    pub fn usual() -> Self {
        if std::env::var_os("TWINBOOT_SIDES").is_some_and(|sides| sides == "one") {
            Self::One
        } else {
            Self::Two
        }
    }
}

impl<'a> Options<'a> {
    /// As tests want them: resets take no time, nothing escapes notice, slots of 64 MiB, no drop-in.
    pub fn new(program: &'a Path, factory: &'a [u8], connection: &'a str, ca: &'a str) -> Self {
        Self {
            program,
            factory,
            connection,
            ca,
            config: "",
            slot_size: 64 << 20,
            reset: Duration::ZERO,
            attention: Duration::from_millis(10),
            directory: None,
            name: "twinboot",
            journal: None,
            followed: true,
            sides: Sides::usual(),
        }
    }
}

/// A simulated device. Switched off and removed when dropped, which fails whatever it was for if its daemon has told a
/// secret.
#[derive(Debug)]
pub struct SimDevice {
    board: Arc<Board>,
    supervisor: Option<JoinHandle<()>>,
}

impl SimDevice {
    /// Makes a device, switched off.
    ///
    /// # Errors
    /// If its files cannot be written, or the factory image does not fit into a slot.
    pub fn new(options: &Options<'_>) -> Checked<Self> {
        let parent = options.directory.map_or_else(std::env::temp_dir, Path::to_owned);
        let directory = tempfile::Builder::new().prefix(&format!("{}-", options.name)).tempdir_in(parent)?;
        let environment = Environment::new(directory.path());
        lay_out(directory.path(), options)?;
        let variables = [
            ("bootdelay", "0"),
            ("bootcmd", "run boot_slot"),
            ("altbootcmd", "run flip_slot; saveenv; run boot_slot"),
            ("bootlimit", "3"),
            ("slot", "a"),
            ("upgrade_available", "0"),
            ("bootcount", "0"),
            ("serial#", "0042"),
        ];
        environment.format(&Variables::new(&variables))?;
        let net = match options.sides {
            Sides::One => None,
            Sides::Two => Some(UnixListener::bind(directory.path().join(NET_SOCKET))?),
        };
        let board = Arc::new(Board {
            program: options.program.to_owned(),
            directory,
            environment,
            journal: Arc::new(Journal::keeping(options.journal, Secrets::of(options.connection))),
            power: Mutex::default(),
            removed: AtomicBool::new(false),
            reset: options.reset,
            attention: options.attention,
            followed: options.followed,
            net,
        });
        let supervisor = {
            let board = Arc::clone(&board);
            thread::spawn(move || board.supervise())
        };
        Ok(Self { board, supervisor: Some(supervisor) })
    }

    /// Gives it power: the loader chooses a slot, the daemon in it starts.
    ///
    /// # Errors
    /// If no slot boots, or the program cannot be started.
    pub fn power_on(&self) -> Checked {
        let mut power = self.board.power();
        self.board.journal.add(Happening::PowerOn);
        self.board.boot(&mut power)
    }

    /// Takes the power away at this instant.
    pub fn power_cut(&self) {
        let mut power = self.board.power();
        (power.daemon, power.network) = (None, None);
        power.booted = None;
        self.board.journal.add(Happening::PowerCut);
    }

    /// Cuts the power and gives it back.
    ///
    /// # Errors
    /// As for [`power_on`](Self::power_on).
    pub fn power_cycle(&self) -> Checked {
        self.power_cut();
        self.power_on()
    }

    /// Kills the daemon and starts it anew in the same boot, as a service manager would.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn kill_daemon(&self) -> Checked {
        let mut power = self.board.power();
        power.daemon = None;
        self.board.start(&mut power)
    }

    /// Kills the network side and starts it anew; nothing, if there is none of its own.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn kill_network(&self) -> Checked {
        let mut power = self.board.power();
        if power.network.take().is_some() {
            self.board.start_network(&mut power)?;
        }
        Ok(())
    }

    /// Asks the daemon to end, as `systemctl stop` does; how long it took.
    ///
    /// # Errors
    /// If none runs, or it does not end in time, or ends with a failure.
    pub fn stop_daemon(&self) -> Checked<Duration> {
        let mut power = self.board.power();
        let daemon = power.daemon.take().ok_or_else(|| Failure("no daemon runs".into()))?;
        let took = daemon.stop()?;
        self.board.journal.add(Happening::Stopped(took));
        Ok(took)
    }

    /// Starts the daemon again after [`stop_daemon`](Self::stop_daemon).
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start_daemon(&self) -> Checked {
        self.board.start(&mut self.board.power())
    }

    /// The process of its network side; `None` while it has none of its own.
    pub fn network_process(&self) -> Option<u32> {
        self.board.power().network.as_ref().map(Daemon::process)
    }

    /// The daemon's process; `None` while there is none.
    pub fn process(&self) -> Option<u32> {
        self.board.power().daemon.as_ref().map(Daemon::process)
    }

    /// The slot that runs; `None` without power.
    pub fn booted(&self) -> Option<Slot> {
        self.board.power().booted
    }

    /// How many times the machine came up.
    pub fn boots(&self) -> u32 {
        self.board.power().boots
    }

    /// The slot that boots when nothing is on trial; `None` if no environment is sound.
    pub fn default(&self) -> Option<Slot> {
        loader::default(&self.board.environment)
    }

    /// The bootloader's environment.
    pub fn environment(&self) -> &Environment {
        &self.board.environment
    }

    /// The first `len` bytes of a slot.
    ///
    /// # Errors
    /// If it cannot be read, or is shorter.
    pub fn slot_bytes(&self, slot: Slot, len: usize) -> Checked<Vec<u8>> {
        let mut bytes = vec![0; len];
        File::open(self.board.slot(slot))?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// What a loader finds in a slot.
    pub fn installed(&self, slot: Slot) -> Option<Installed> {
        Installed::read(&self.board.slot(slot))
    }

    /// A file of the device.
    pub fn path(&self, name: &str) -> PathBuf {
        self.board.path(name)
    }

    /// Asks the daemon for its status.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask).
    pub fn status(&self) -> Checked<Value> {
        Ok(self.ask(&json!({"request": "status"}))?["status"].take())
    }

    /// Sends the daemon a request as its command line would.
    ///
    /// # Errors
    /// If it is not there, or does not answer in JSON.
    pub fn ask(&self, request: &Value) -> Checked<Value> {
        daemon::ask(&self.path("control.sock"), request)
    }

    /// Runs the program's command line on this device; exit code (none if a signal ended it) and output.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn command(&self, arguments: &[&str]) -> Checked<(Option<i32>, String)> {
        daemon::command(&self.board.program, &self.path("twinboot.toml"), arguments)
    }

    /// All that happens from now on.
    pub fn listen(&self) -> Receiver<Entry> {
        self.board.journal.listen()
    }

    /// A place in the journal, to wait from.
    pub fn now(&self) -> usize {
        self.board.journal.len()
    }

    /// What happened since.
    pub fn since(&self, from: usize) -> Vec<Entry> {
        self.board.journal.since(from)
    }

    /// The journal's end, for messages.
    pub fn tail(&self) -> String {
        self.board.journal.tail()
    }

    /// Waits for something that happens after `from`; what `wanted` made of it.
    ///
    /// # Errors
    /// If it does not happen in time, or the device is broken before; with the journal's end.
    pub fn wait<T>(
        &self,
        what: &str,
        from: usize,
        limit: Duration,
        wanted: impl FnMut(&Happening) -> Option<T>,
    ) -> Checked<T> {
        self.board.journal.wait(what, from, limit, wanted)
    }

    /// Waits for a status that is told after `from`.
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub fn wait_status(
        &self,
        what: &str,
        from: usize,
        limit: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Checked<Value> {
        self.wait(what, from, limit, |happening| {
            let Happening::Status(status) = happening else { return None };
            wanted(status).then(|| status.clone())
        })
    }
}

impl Drop for SimDevice {
    fn drop(&mut self) {
        self.board.removed.store(true, Ordering::Relaxed);
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
        {
            let mut power = self.board.power();
            (power.daemon, power.network) = (None, None);
        }
        assert!(!self.board.journal.leaked() || thread::panicking(), "the daemon told a secret");
    }
}
