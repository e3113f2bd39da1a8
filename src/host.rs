//! The machine: its boots, its clocks and time zone, its version, and the way to reboot it; and the service manager above us.
//!
//! Real, or simulated by a directory that stands for the machine: then `proc` and `etc/os-release` are looked for in
//! there, and a reboot is a request that a simulator sees. Not here: slots, the bootloader, or any decision. The
//! engine asks; `main` chooses which of the two it is.

#[cfg(test)]
pub(crate) mod fake;
mod os_release;
mod posix_tz;
pub mod service;
#[cfg(test)]
mod tests;
mod tzif;
mod zone;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::DumpableBehavior;
use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

use crate::model::{BootId, Failure, Reason, Timestamp, Version};

/// 2026-01-01: no clock that shows an earlier time has been set since this was written. A gateway without a battery
/// behind its clock starts in 1970, or at its image's date.
const CLOCK_FLOOR: Timestamp = Timestamp(1_767_225_600_000);

/// Where `systemctl` is; never searched for in `$PATH`.
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];

/// Where `systemd-run` is: it starts what must not be in our sandbox.
const SYSTEMD_RUN: [&str; 2] = ["/usr/bin/systemd-run", "/bin/systemd-run"];

/// How long `systemctl` may take to hand over the request before it counts as stuck.
const REBOOT_REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The file of a simulated machine that asks for a reboot.
const REBOOT_REQUEST: &str = "reboot-requested";

/// The machine we run on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The directory that stands for the machine, if it is simulated.
    root: Option<PathBuf>,
    /// [`ClockId::Boottime`] when this was made.
    made: Duration,
    /// How long the machine that simulates it had been suspended by then.
    asleep: Duration,
    /// Those of a test, in place of the kernel's.
    #[cfg(test)]
    clocks: Option<fake::Clocks>,
}

impl Host {
    /// The real machine, or the one that the directory `root` stands for.
    pub fn new(root: Option<PathBuf>) -> Self {
        let asleep = root.as_ref().map_or(Duration::ZERO, |_| asleep());
        Self {
            root,
            made: boottime(),
            asleep,
            #[cfg(test)]
            clocks: None,
        }
    }

    /// Which boot this is (`/proc/sys/kernel/random/boot_id`).
    ///
    /// # Errors
    /// If the file cannot be read or is empty.
    pub fn boot_id(&self) -> Result<BootId, Error> {
        let path = self.path("proc/sys/kernel/random/boot_id");
        let id = fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let id = id.trim();
        if id.is_empty() { Err(Error::NoBootId { path }) } else { Ok(BootId(id.to_owned())) }
    }

    /// How long ago the machine booted, time in suspend included. A restart of this process does not change it.
    ///
    /// A simulated machine booted at the value of `CLOCK_BOOTTIME` in its file `booted-at` (decimal seconds, such as
    /// `12345.678`); without a readable one, when this [`Host`] was made.
    pub fn since_boot(&self) -> Duration {
        #[cfg(test)]
        if let Some(clocks) = &self.clocks {
            return clocks.tell_since_boot();
        }
        let booted = self.root.as_ref().map_or(Duration::ZERO, |root| {
            fs::read_to_string(root.join("booted-at"))
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .unwrap_or(self.made)
        });
        boottime().saturating_sub(booted)
    }

    /// How much of [`Host::since_boot`] it was suspended; of a simulated machine, since this [`Host`] was made.
    pub fn suspended(&self) -> Duration {
        #[cfg(test)]
        if let Some(clocks) = &self.clocks {
            return clocks.tell_suspended();
        }
        asleep().saturating_sub(self.asleep)
    }

    /// How much of [`Host::since_boot`] it was not suspended, so that something could be done.
    pub fn awake(&self) -> Duration {
        self.since_boot().saturating_sub(self.suspended())
    }

    /// What time it is; `None` while the clock cannot be right.
    pub fn wall_clock(&self) -> Option<Timestamp> {
        plausible(self.system_time())
    }

    fn system_time(&self) -> SystemTime {
        #[cfg(test)]
        if let Some(clocks) = &self.clocks {
            return clocks.system_time();
        }
        SystemTime::now()
    }

    /// When the machine booted, by the clock as it is now; `None` as for [`Host::wall_clock`].
    pub fn boot_time(&self) -> Option<Timestamp> {
        let since = u64::try_from(self.since_boot().as_millis()).unwrap_or(u64::MAX);
        self.wall_clock().map(|now| Timestamp(now.0.saturating_sub(since)))
    }

    /// The running system's own version: `IMAGE_VERSION` of os-release(5). `None` if it says none, or one that is not
    /// a [`Version`].
    pub fn image_version(&self) -> Option<Version> {
        self.os_release("IMAGE_VERSION")?.parse().ok()
    }

    /// What the running system calls itself: `PRETTY_NAME` of os-release(5), or `NAME`.
    pub fn system_name(&self) -> Option<String> {
        self.os_release("PRETTY_NAME").or_else(|| self.os_release("NAME"))
    }

    fn os_release(&self, name: &str) -> Option<String> {
        // The first that exists is the one that counts, as os-release(5) has it.
        let text = ["etc/os-release", "usr/lib/os-release"]
            .iter()
            .find_map(|name| fs::read_to_string(self.path(name)).ok())?;
        os_release::value(&text, name)
    }

    /// Asks for an orderly reboot and returns at once: the service manager will stop us. Asking twice is harmless.
    /// An `argument` is handed to the kernel with the call that resets the machine at last, LINUX_REBOOT_CMD_RESTART2 of
    /// reboot(2): some firmware is told by it what to boot. The service manager keeps it in memory until then.
    ///
    /// A simulated machine gets the file `reboot-requested`, durably, with the argument in it.
    ///
    /// # Errors
    /// If nobody took the request.
    pub async fn reboot(&self, argument: Option<&str>) -> Result<(), Error> {
        let Some(root) = &self.root else {
            return reboot_by_systemctl(&SYSTEMCTL, &SYSTEMD_RUN, argument).await;
        };
        let path = root.join(REBOOT_REQUEST);
        let text = argument.unwrap_or_default().as_bytes();
        create_durably(root, &path, text).map_err(|source| Error::RequestReboot { path, source })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(name)
    }
}

/// Forbids core dumps of this process and reading its memory through `/proc`: it holds the device's key.
///
/// # Errors
/// If the kernel refuses; then there may be a core dump.
pub fn disable_core_dumps() -> io::Result<()> {
    // The first look at a clock searches this process' memory for the kernel's fast one, by way of /proc. Later that
    // would be denied, and stand in every audit log as if the sandbox were too tight.
    let _ = boottime();
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn boottime() -> Duration {
    read(ClockId::Boottime)
}

/// How long this machine was suspended since its boot: one of the clocks goes on then, and the other does not.
fn asleep() -> Duration {
    boottime().saturating_sub(read(ClockId::Monotonic))
}

fn read(clock: ClockId) -> Duration {
    let now = clock_gettime(clock);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanos)
}

fn plausible(now: SystemTime) -> Option<Timestamp> {
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let now = Timestamp(u64::try_from(since_1970.as_millis()).ok()?);
    (now >= CLOCK_FLOOR).then_some(now)
}

fn create_durably(directory: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}

/// `systemctl` honours inhibitors, stops services in order and unmounts; reboot(2) would do none of that.
///
/// An argument for the kernel it writes to `/run/systemd/reboot-param` itself, from where the last process of a shutdown
/// takes it. Among the files of the service manager our sandbox has no business: so then it is started outside of it.
async fn reboot_by_systemctl(
    candidates: &[&str],
    outside: &[&str],
    argument: Option<&str>,
) -> Result<(), Error> {
    use std::os::unix::process::CommandExt as _;
    let first =
        |paths: &[&str]| paths.iter().find(|path| Path::new(path).exists()).map(|path| (*path).to_owned());
    let program = first(candidates).ok_or(Error::NoSystemctl)?;
    let mut command = match argument {
        None => std::process::Command::new(&program),
        Some(_) => {
            let mut command = std::process::Command::new(first(outside).ok_or(Error::NoSystemctl)?);
            command.args(["--quiet", "--collect", "--wait", "--pipe", "--no-ask-password", "--", &program]);
            command
        }
    };
    command.args(["--no-block", "--no-ask-password", "reboot"]).process_group(0);
    command.args(argument.map(|argument| format!("--reboot-argument={argument}")));
    command.stdin(std::process::Stdio::null());
    debug!(program, argument, "asking for a reboot");
    // A thread of its own: the engine's one thread has a watchdog to answer.
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(REBOOT_REQUEST_LIMIT, output)
        .await
        .map_err(|_| Error::RebootRefused(format!("no answer within {REBOOT_REQUEST_LIMIT:?}")))?
        .expect("running a program does not panic")
        .map_err(|source| Error::Systemctl { source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::RebootRefused(format!("{}: {said}", output.status)))
}

/// What the machine refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file about the machine cannot be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not say which boot this is.
    #[error("{} is empty", path.display())]
    NoBootId {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file of the time zone database is none.
    #[error("{} is no time zone", path.display())]
    NoTimeZone {
        /// Which file.
        path: PathBuf,
    },
    /// The simulated machine cannot be asked.
    #[error("creating {}", path.display())]
    RequestReboot {
        /// Which file could not be created.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is nobody to ask.
    #[error("systemctl is neither in /usr/bin nor in /bin")]
    NoSystemctl,
    /// `systemctl` could not be started.
    #[error("running systemctl")]
    Systemctl {
        /// Why.
        source: io::Error,
    },
    /// `systemctl` was asked and refused, or never answered.
    #[error("systemctl did not take the request to reboot: {0}")]
    RebootRefused(String),
}

impl Error {
    /// The public failure this amounts to.
    pub fn reason(&self) -> Reason {
        use std::error::Error as _;
        let cause = self.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let detail = format!("{self}{cause}");
        match self {
            Self::Read { .. } | Self::NoBootId { .. } | Self::NoTimeZone { .. } => {
                Failure::Internal.because(detail)
            }
            Self::RequestReboot { .. }
            | Self::NoSystemctl
            | Self::Systemctl { .. }
            | Self::RebootRefused(_) => Failure::RebootRefused.because(detail),
        }
    }
}
