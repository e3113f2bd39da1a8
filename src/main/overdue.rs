//! What a trial that is ended from outside leaves behind for the old system: that it had no verdict in time, and why, as
//! far as can be seen. Without it the old system could only guess that the new one never came up, or that its trial was
//! cut short by the power supply and deserves another one.
//!
//! The system is sick and may hang wherever it is touched, so this is a thread of its own that is left alone after a
//! while: the reboot matters more than the word.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;
use twinboot::config::Config;
use twinboot::host::Host;
use twinboot::model::{BootId, Slot};
use twinboot::program::Manager;
use twinboot::store::{FileStore, Loaded, StateStore as _, overdue};
use twinboot::update::{Overdue, State};

/// How long the service manager may take to say what is the matter, and the state directory to keep it.
const ASK_LIMIT: Duration = Duration::from_secs(15);
const LIMIT: Duration = Duration::from_secs(10);
/// There while systemd is the service manager (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
/// The daemon's unit.
const UNIT: &str = "twinboot.service";
/// So many of the units that failed are named.
const NAMED: usize = 4;

/// Leaves the word that the system in `slot` was not judged, because of `why`.
pub(crate) async fn leave(config: &Config, host: &Host, slot: Slot, why: String) {
    let (sender, left) = oneshot::channel();
    let (directory, boot) = (config.state.directory.clone(), host.boot_id().ok());
    std::thread::spawn(move || {
        // Nobody may be listening any more.
        let _ = sender.send(boot.map_or(Ok(()), |boot| note(directory, boot, slot, why)));
    });
    let failed = match tokio::time::timeout(LIMIT, left).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(why))) => why,
        Ok(Err(_)) | Err(_) => format!("no answer within {LIMIT:?}"),
    };
    tracing::warn!(why = failed, "the old system will not be told why it is back");
}

/// Which trial it is, is known from the record alone.
fn note(directory: PathBuf, boot: BootId, slot: Slot, why: String) -> Result<(), String> {
    // Where there is none, looking must not make one.
    if !directory.join("record").exists() {
        return Err(format!("{} has no record", directory.display()));
    }
    let Loaded::Found(record, _) = FileStore::new(directory.clone()).load() else {
        return Err(format!("the record in {} cannot be read", directory.display()));
    };
    match &record.state {
        State::Busy(job) if job.target == slot => {
            let overdue = Overdue { update: job.id.clone(), trial: job.trials, slot, boot, why };
            overdue::leave(&directory, &overdue)
        }
        State::Idle | State::Restarting { .. } | State::Busy(_) => {
            Err(format!("the record does not know of a trial of slot {slot}"))
        }
    }
}

/// What is the matter with the daemon, as far as the service manager can tell.
pub(crate) async fn what_is_wrong(config: &Config) -> String {
    if config.simulator.root.is_some() || !Path::new(SYSTEMD).exists() {
        return "no daemon judged it".to_owned();
    }
    let manager = Manager::new("/run/twinboot/programs".into());
    let asked = async { Ok::<_, String>((manager.service(UNIT).await?, manager.units().await?.failed)) };
    match tokio::time::timeout(ASK_LIMIT, asked).await {
        Ok(Ok((daemon, failed))) => {
            let others: Vec<_> =
                failed.iter().map(String::as_str).filter(|unit| *unit != UNIT).take(NAMED).collect();
            if others.is_empty() { daemon } else { format!("{daemon}; failed: {}", others.join(", ")) }
        }
        Ok(Err(why)) => format!("no daemon judged it, and {why}"),
        Err(_) => format!("no daemon judged it, and systemd did not say why within {ASK_LIMIT:?}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use twinboot::model::{Artifact, Install, Location, Origin};
    use twinboot::update::{Event, Facts, Phase, Record};

    use super::*;

    #[test]
    fn only_the_trial_that_the_record_knows_is_told_of() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().to_owned();
        let leave =
            |slot| note(state.clone(), BootId("2".into()), slot, "twinboot.service is failed".to_owned());
        assert!(leave(Slot::B).unwrap_err().contains("has no record"));
        assert!(!state.join("record").exists(), "looking makes none");
        let mut store = FileStore::new(state.clone());
        let mut record = Record::default();
        store.save(&record).unwrap();
        assert!(leave(Slot::B).unwrap_err().contains("does not know"));
        let facts = Facts {
            boot: BootId("1".into()),
            booted: Slot::A,
            default: Some(Slot::A),
            trial: None,
            version: None,
            booted_at: None,
            factory: Default::default(),
            floor: None,
            overdue: None,
        };
        let location = Location::File("/image".into());
        let artifact = Artifact { version: None, location, sha256: None, size: None };
        let install = Install::new(artifact, Origin::Local, None);
        record.step(&facts, None, Event::Asked(install.clone())).unwrap();
        let State::Busy(job) = &mut record.state else { panic!("no job") };
        (job.phase, job.trials) = (Phase::Confirming, 2);
        store.save(&record).unwrap();
        assert!(leave(Slot::A).is_err(), "that is the old system");
        assert_eq!(overdue::find(&state), None);
        leave(Slot::B).unwrap();
        let found = overdue::find(&state).unwrap();
        assert_eq!((found.update, found.trial, found.slot), (install.id, 2, Slot::B));
        assert_eq!(found.why, "twinboot.service is failed");
    }
}
