//! The service manager as one who runs programs.
//!
//! It is asked by `systemd-run` and `systemctl`, which reach it as root by its own socket: a D-Bus daemon is not needed
//! (nor used, and so is neither `--wait` nor `--pipe`, which need one). Output comes by named pipes in our runtime
//! directory.
//!
//! Each unit has a name that begins with [`PREFIX`]. What a daemon before us left behind, killed in the middle, is
//! stopped before the first program of ours begins, so that nothing ever runs beside its own second run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::group::{Group, clean};
use super::unit::Unit;
use super::{Keep, NotRun, Purpose, Ran, Task};

/// How the names of our units begin.
pub(super) const PREFIX: &str = "twinboot-program-";

/// How long leftovers may take to end. Whoever ignores being asked to is killed before that.
const LEFTOVERS: Duration = Duration::from_secs(30);

/// The longest part of a unit's name that is a program's, in bytes.
const LONGEST_NAME: usize = 100;

/// Runs programs in transient units of systemd's.
#[derive(Debug)]
pub struct Manager {
    /// Where the named pipes are.
    pub(super) directory: PathBuf,
    /// `systemd-run` and `systemctl`; never searched for in our own `$PATH`.
    systemd_run: PathBuf,
    systemctl: PathBuf,
    /// The unit that we are, which is stopped before what it runs.
    pub(super) ours: Option<String>,
    /// Units so far.
    count: AtomicU32,
    /// What was left behind is gone.
    settled: OnceCell<()>,
}

impl Manager {
    /// The service manager of this machine. `directory` is ours alone, below `/run`, and is made when it is needed.
    pub fn new(directory: PathBuf) -> Arc<Self> {
        let tool = |name: &str| {
            let places = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
            places.iter().find(|path| path.exists()).unwrap_or(&places[0]).clone()
        };
        let ours = std::fs::read_to_string("/proc/self/cgroup").ok();
        let ours = ours.and_then(|text| own_unit(&text));
        Self::with(directory, tool("systemd-run"), tool("systemctl"), ours)
    }

    /// With these tools, as the unit `ours`.
    pub(super) fn with(
        directory: PathBuf,
        systemd_run: PathBuf,
        systemctl: PathBuf,
        ours: Option<String>,
    ) -> Arc<Self> {
        let (count, settled) = (AtomicU32::new(0), OnceCell::new());
        Arc::new(Self { directory, systemd_run, systemctl, ours, count, settled })
    }

    /// Stops what a daemon before us left behind; once, however often it is called.
    pub async fn settle(&self) {
        let stop = async {
            let _ = std::fs::remove_dir_all(&self.directory);
            let done = self.ask(&["stop", &format!("{PREFIX}*.service")], LEFTOVERS).await;
            if let Err(why) = done {
                tracing::debug!(why, "programs that were left running could not be stopped");
            }
        };
        self.settled.get_or_init(|| stop).await;
    }

    /// As [`super::Runner::run`].
    pub(super) async fn run(&self, task: &Task<'_>) -> Result<Ran, NotRun> {
        self.settle().await;
        let mut unit = Unit::new(self, task)?;
        unit.run(task).await
    }

    /// The name of a unit for a program, without its `.service`. That of the factory reset is always the same, so that
    /// systemd itself refuses a second one beside the first.
    pub(super) fn name(&self, task: &Task<'_>) -> String {
        let word = task.purpose.word();
        if task.purpose == Purpose::FactoryReset {
            return format!("{PREFIX}{word}");
        }
        let fits = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = task.name.chars().take(LONGEST_NAME).map(fits).collect();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{PREFIX}{word}-{name}-{}.{number}", std::process::id())
    }

    /// `systemd-run`, still without arguments.
    pub(super) fn starter(&self) -> Command {
        clean(Command::new(&self.systemd_run))
    }

    /// `systemctl` with these arguments.
    pub(super) fn systemctl(&self, arguments: &[&str]) -> Command {
        let mut command = clean(Command::new(&self.systemctl));
        command.arg("--no-ask-password").args(arguments);
        command
    }

    /// Asks by `systemctl` and waits until it is done, but not for longer than `limit`.
    pub(super) async fn ask(&self, arguments: &[&str], limit: Duration) -> Result<(), String> {
        let asked = Group::start(self.systemctl(arguments), None, Keep::Tail);
        let mut asked = asked.map_err(|error| format!("systemctl cannot be run: {error}"))?;
        if !asked.exited_within(limit).await {
            return Err(format!("no answer within {limit:?}"));
        }
        match asked.finish() {
            Some(status) if status.success() => Ok(()),
            Some(_) | None => Err(asked.tail()),
        }
    }
}

/// The unit that a process is in, by what `/proc/self/cgroup` says.
fn own_unit(cgroup: &str) -> Option<String> {
    // "0::/system.slice/twinboot.service"; or where there are no unified control groups "1:name=systemd:/system.slice/…",
    // among one line for each controller.
    let of_systemd = |line: &str| {
        line.strip_prefix("0::")
            .or_else(|| line.split_once(":name=systemd:").map(|it| it.1))
            .map(str::to_owned)
    };
    let path = cgroup.lines().find_map(of_systemd)?;
    path.split('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_unit_is_known_by_its_control_group() {
        for (text, unit) in [
            ("0::/system.slice/twinboot.service\n", Some("twinboot.service")),
            ("12:pids:/x\n0::/system.slice/gw.service/sub\n", Some("gw.service")),
            ("9:pids:/\n1:name=systemd:/system.slice/gw.service\n", Some("gw.service")),
            ("0::/user.slice/user-0.slice/session-1.scope\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(own_unit(text).as_deref(), unit, "{text}");
        }
    }
}
