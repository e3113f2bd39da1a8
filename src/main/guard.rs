//! `twinboot guard`: the trial guard, a process of its own that systemd starts some time after each boot, whether or not
//! the daemon runs. A system on trial that nobody has kept or given up by then has no daemon that works: none that starts,
//! or one that ends again and again. So the machine reboots, until the bootloader has tried often enough and goes back.
//!
//! It needs the bootloader's variables, and of the configuration as much as can be understood; no daemon, no record, no
//! hub. It changes nothing: between its look and its reboot the daemon may commit after all, and then the reboot is one too
//! many and no harm, while a bootloader turned back would be. A committed system is never rebooted. All that it writes is a
//! word for the old system about why it is back ([`crate::overdue`]), if that can be done in a few seconds.
//!
//! If the bootloader cannot be asked, it is told, and this ends as a failure. What follows then, and what is left where
//! even this program does not start, is said in `systemd/twinboot-trial.service`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use twinboot::boot::Error;
use twinboot::config::Config;
use twinboot::events;
use twinboot::host::{Host, service};
use twinboot::model::Slot;
use twinboot::slots::SlotMap;

use crate::{loader, overdue, settings};

/// How long after the health deadline a verdict is waited for, at most: a hook or a check that is over its time must be
/// ended first, and the bootloader be told.
const MARGIN: Duration = Duration::from_secs(300);
/// How often is looked whether the trial is still on.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often a bootloader that does not answer is asked, and how long between that.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_secs(2);

/// Ends when there is no trial, or when its time is over and a reboot was asked for.
pub(crate) fn run(config: &Path) -> ExitCode {
    events::init(events::journal_is_connected(), false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(keep(config))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            events::guard_failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Everything is done on this one thread, so that the service manager's watchdog ends a look that hangs in a device.
async fn keep(config: &Path) -> anyhow::Result<()> {
    service::ready();
    tokio::select! {
        ended = watch(config) => ended,
        never = service::stay_alive() => match never {},
    }
}

async fn watch(config: &Path) -> anyhow::Result<()> {
    let mut failed = 0;
    loop {
        // Read again each time: what the daemon would go by counts.
        let config = Config::understood(config);
        let host = Host::new(config.simulator.root.clone());
        let trial = match trial(&config) {
            Ok(trial) => trial,
            Err(error) => {
                failed += 1;
                if failed == ATTEMPTS {
                    let why = error.reason().detail;
                    anyhow::bail!("the bootloader cannot be asked whether this is a trial: {why}");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        failed = 0;
        let Some(slot) = trial else { return Ok(()) };
        // In suspend nobody comes to a verdict.
        let (since, over) = (host.awake(), over(config.health.deadline));
        if since >= over {
            events::trial_overdue(slot, since);
            overdue::leave(&config, &host, slot, overdue::what_is_wrong(&config).await).await;
            // Without the argument that began the trial, where the loader wants one: it is over.
            return host.reboot(None).await.context("the trial is over, and the reboot was refused");
        }
        tokio::time::sleep(LOOK_AGAIN.min(over - since)).await;
    }
}

/// The slot that runs on trial, and is not committed.
fn trial(config: &Config) -> Result<Option<Slot>, Error> {
    let Some(trial) = loader::open(config)?.view()?.trial else { return Ok(None) };
    let booted = SlotMap::new(settings::slots(config)).booted(&settings::root(config));
    Ok(match booted {
        // Armed by the old system, which is about to reboot.
        Ok(booted) if booted != trial => None,
        // A new system that does not know its own slots is one that cannot be kept. And should it be the old one, it
        // boots into the trial, as it was going to: that ends after as many boots as the bootloader allows.
        Ok(_) | Err(_) => Some(trial),
    })
}

/// When a trial is over, after the boot: later than the daemon's own verdict in any case.
fn over(deadline: Duration) -> Duration {
    deadline.saturating_add(MARGIN.min(deadline / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_has_time_for_its_verdict() {
        for (deadline, seconds) in [(600, 900), (60, 90), (86_400, 86_700)] {
            assert_eq!(over(Duration::from_secs(deadline)), Duration::from_secs(seconds));
        }
    }
}
