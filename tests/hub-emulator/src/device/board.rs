//! The board itself: who boots, who reboots, and what a kernel would leave in its files. Not the handle to it (`sim`).

use std::fs;
use std::io;
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
}

#[derive(Debug, Default)]
pub(super) struct Power {
    pub(super) daemon: Option<Daemon>,
    pub(super) booted: Option<Slot>,
    pub(super) boots: u32,
}

impl Board {
    /// Looks after the machine: reboots it when the daemon wants that, and tells of a daemon that ended by itself.
    pub(super) fn supervise(&self) {
        let request = self.path("machine/reboot-requested");
        while !self.removed.load(Ordering::Relaxed) {
            let mut power = self.power();
            if let Some(daemon) = &mut power.daemon {
                let outcome = if request.exists() {
                    self.reboot(&mut power)
                } else if let Some(status) = daemon.ended() {
                    power.daemon = None;
                    Err(Failure(format!("the daemon ended by itself: {status}")))
                } else {
                    Ok(())
                };
                if let Err(why) = outcome {
                    self.journal.add(Happening::Broken(why.0));
                }
            }
            drop(power);
            thread::sleep(self.attention);
        }
    }

    /// What the service manager and the kernel do.
    pub(super) fn reboot(&self, power: &mut Power) -> Checked {
        self.journal.add(Happening::RebootRequested);
        if let Some(daemon) = power.daemon.take() {
            self.journal.add(Happening::Stopped(daemon.stop()?));
        }
        power.booted = None;
        self.boot(power)
    }

    /// From power-on to the daemon. What does not boot resets the machine, and the loader's rules apply again.
    pub(super) fn boot(&self, power: &mut Power) -> Checked {
        power.daemon = None;
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
        power.daemon = Some(Daemon::start(&self.program, &config, follow, &self.journal)?);
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
