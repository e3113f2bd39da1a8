//! A system on trial whose twinboot cannot do its work, for want of a configuration that it understands, or of slots that
//! it finds. Nobody would judge it, and with a bootloader that counts boots it would stay until it is booted too often:
//! a bad image, kept. So its time is kept as if it were judged: when it was awake for `[health] deadline` since the boot, the
//! machine reboots, again and again until the bootloader has tried often enough and goes back by itself. The old system
//! then reports `health.timeout` with the reason that was left behind for it ([`crate::overdue`]).
//!
//! This is done only where our record and the bootloader both say that a trial is going on, as far as they can be read
//! by what is understood of the configuration; so a committed system with a broken configuration never reboots. What this
//! cannot see (a daemon that does not run at all) is for the guard of its own ([`crate::guard`]).

use std::time::Duration;

use twinboot::config::Config;
use twinboot::host::Host;
use twinboot::model::{BootId, Slot};
use twinboot::store::{FileStore, Loaded, StateStore as _};
use twinboot::update::{Phase, State};

use crate::loader;

/// How long a reboot that was asked for may take before it is asked for again.
const REBOOT_LIMIT: Duration = Duration::from_secs(300);

/// Looks after a trial for as long as nothing else can be done.
#[derive(Default)]
pub(crate) struct Guard {
    /// When a reboot was asked for last, since the boot.
    asked: Option<Duration>,
}

impl Guard {
    /// The slot on trial if its time is over, and a reboot has to be asked for now. Blocking.
    pub(crate) fn due(&mut self, config: &Config) -> Option<Slot> {
        let host = Host::new(config.simulator.root.clone());
        let now = host.awake();
        let waits = self.asked.is_some_and(|asked| now.saturating_sub(asked) < REBOOT_LIMIT);
        if waits || now < config.health.deadline {
            return None;
        }
        let trial = on_trial(config, &host)?;
        self.asked = Some(now);
        Some(trial)
    }
}

fn on_trial(config: &Config, host: &Host) -> Option<Slot> {
    let target = host.boot_id().ok().and_then(|boot| remembered(config, &boot))?;
    let view = loader::open(config).and_then(|mut bootloader| bootloader.view());
    view.is_ok_and(|view| view.trial == Some(target)).then_some(target)
}

/// The slot that runs on trial in this boot, by our record.
fn remembered(config: &Config, boot: &BootId) -> Option<Slot> {
    // Where there is none, looking must not make one.
    if !config.state.directory.join("record").exists() {
        return None;
    }
    let Loaded::Found(record, _) = FileStore::new(config.state.directory.clone()).load() else { return None };
    match &record.state {
        State::Idle | State::Restarting { .. } => None,
        State::Busy(job) => match &job.phase {
            Phase::Rebooting { since } if since != boot => Some(job.target),
            Phase::Confirming | Phase::Committing => Some(job.target),
            Phase::Accepted
            | Phase::Downloading
            | Phase::Verifying
            | Phase::Staged
            | Phase::Applying
            | Phase::Rebooting { .. }
            | Phase::Resetting
            | Phase::Finishing { .. }
            | Phase::RollingBack { .. }
            | Phase::Returning { .. } => None,
        },
    }
}
