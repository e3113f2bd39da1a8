//! The board itself: who boots, who reboots, and what a kernel would leave in its files. Not the handle to it (`sim`).

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use super::daemon::Daemon;
use super::env::Environment;
use super::firmware::Installed;
use super::journal::{Checked, Failure, Happening, Journal};
use super::loader::{self, Slot};

/// Where the network side is reached.
pub(super) const NET_SOCKET: &str = "net.sock";
/// More resets than any trial allows boots.
const RESETS: u32 = 20;

#[derive(Debug)]
pub(super) struct Board {
    pub(super) program: PathBuf,
    pub(super) directory: TempDir,
    pub(super) environment: Environment,
    pub(super) journal: Arc<Journal>,
    pub(super) power: Mutex<Power>,
    pub(super) removed: AtomicBool,
    pub(super) reset: Duration,
    pub(super) attention: Duration,
    pub(super) followed: bool,
    /// Where the network side is reached, if it is a process of its own.
    pub(super) net: Option<UnixListener>,
}

#[derive(Debug, Default)]
pub(super) struct Power {
    pub(super) daemon: Option<Daemon>,
    /// The network side, if it is a process of its own.
    pub(super) network: Option<Daemon>,
    pub(super) booted: Option<Slot>,
    pub(super) boots: u32,
}

impl Board {
    /// Looks after the machine: reboots it when that is asked for, and tells of a daemon that ended by itself.
    pub(super) fn supervise(&self) {
        let request = self.path("machine/reboot-requested");
        while !self.removed.load(Ordering::Relaxed) {
            let mut power = self.power();
            self.keep_network(&mut power);
            let ended = power.daemon.as_mut().and_then(Daemon::ended);
            // The daemon is not the only one who may want it.
            let outcome = if power.booted.is_some() && request.exists() {
                self.reboot(&mut power)
            } else if let Some(status) = ended {
                power.daemon = None;
                Err(Failure(format!("the daemon ended by itself: {status}")))
            } else {
                Ok(())
            };
            if let Err(why) = outcome {
                self.journal.add(Happening::Broken(why.0));
            }
            drop(power);
            thread::sleep(self.attention);
        }
    }

    /// Starts the network side anew when it ended, as a service manager would for the next who connects.
    fn keep_network(&self, power: &mut Power) {
        if power.network.as_mut().is_some_and(|network| network.ended().is_some()) {
            power.network = None;
            if let Err(why) = self.start_network(power) {
                self.journal.add(Happening::Broken(why.0));
            }
        }
    }

    /// Gives the daemon a network side, if it is to have one.
    pub(super) fn start_network(&self, power: &mut Power) -> Checked {
        let network = self.net.as_ref().map(|socket| Daemon::network(&self.program, socket, &self.journal));
        power.network = network.transpose()?;
        Ok(())
    }

    /// What the service manager and the kernel do.
    pub(super) fn reboot(&self, power: &mut Power) -> Checked {
        self.journal.add(Happening::RebootRequested);
        if let Some(daemon) = power.daemon.take() {
            self.journal.add(Happening::Stopped(daemon.stop()?));
        }
        power.booted = None;
        power.network = None;
        self.boot(power)
    }

    /// From power-on to the daemon. What does not boot resets the machine, and the loader's rules apply again.
    pub(super) fn boot(&self, power: &mut Power) -> Checked {
        (power.daemon, power.network) = (None, None);
        for attempt in 0..RESETS {
            // A machine that was never on needs no reset.
            if power.boots > 0 || attempt > 0 {
                thread::sleep(self.reset);
            }
            let decision = loader::power_on(&self.environment)?;
            if !decision.note.is_empty() {
                self.journal.add(Happening::Loader(decision.note));
            }
            match Installed::read(&self.slot(decision.slot)).filter(|installed| installed.boots) {
                Some(system) => {
                    self.come_up(decision.slot, &system)?;
                    power.booted = Some(decision.slot);
                    power.boots += 1;
                    self.journal.add(Happening::Booted(decision.slot, system.version().to_owned()));
                    return self.start(power);
                }
                None => self.journal.add(Happening::Hung(decision.slot)),
            }
        }
        Err(Failure(format!("the machine does not boot any more: {RESETS} resets in a row")))
    }

    /// Makes the machine's files say what a kernel of this slot would say.
    pub(super) fn come_up(&self, slot: Slot, system: &Installed) -> io::Result<()> {
        let machine = self.path("machine");
        let now = clock_gettime(ClockId::Boottime);
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        for (name, text) in [
            ("proc/cmdline", format!("quiet root={} ro\n", self.slot(slot).display())),
            ("proc/sys/kernel/random/boot_id", id),
            ("booted-at", format!("{}.{:09}\n", now.tv_sec, now.tv_nsec)),
            ("etc/os-release", system.os_release.clone()),
        ] {
            fs::write(machine.join(name), text)?;
        }
        remove(&machine.join("reboot-requested"))?;
        remove(&machine.join("etc/app-ok"))?;
        if system.is_healthy {
            fs::write(machine.join("etc/app-ok"), "ok\n")?;
        }
        Ok(())
    }

    pub(super) fn start(&self, power: &mut Power) -> Checked {
        let (config, socket) = (self.path("twinboot.toml"), self.path("control.sock"));
        let follow = self.followed.then_some(socket.as_path());
        if power.network.is_none() {
            self.start_network(power)?;
        }
        let net = self.net.is_some().then(|| self.path(NET_SOCKET));
        power.daemon = Some(Daemon::start(&self.program, &config, net.as_deref(), follow, &self.journal)?);
        Ok(())
    }

    pub(super) fn slot(&self, slot: Slot) -> PathBuf {
        self.path(&format!("slot-{}", slot.letter()))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
