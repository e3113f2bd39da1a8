//! The units of the old system, kept for the new one to be compared with: noted right before the bootloader is told, in a
//! file beside the record that outlives the reboot.
//!
//! What cannot be noted is not compared: it is no reason to refuse an update, nor to roll one back.

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::Tools;
use super::tools::{Order, job};
use crate::durable::{Generations, Loaded};
use crate::health::{Check, SameUnits};
use crate::program::{Runner, Units};
use crate::update::Job;

/// The file, in the state directory, and its size: some hundred units.
const FILE: &str = "units";
const CAPACITY: usize = 16 << 10;

/// What the file says.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Noted {
    /// For which update it was looked at.
    update: String,
    units: Units,
}

impl Tools {
    /// Notes what systemd says of the old system.
    pub(super) fn note_units(&self, order: &Order) {
        let (Some(_), Runner::Systemd(manager), Ok(job)) = (&self.health.units, &self.runner, job(order))
        else {
            return;
        };
        let units = Handle::current().block_on(manager.units());
        let noted = units.and_then(|units| {
            let noted = Noted { update: job.id.to_string(), units };
            let text = serde_json::to_vec(&noted).map_err(|error| error.to_string())?;
            let mut file =
                Generations::open(&self.state, FILE, CAPACITY).map_err(|error| error.to_string())?;
            // What is there says which generation is the newest, whatever it is.
            let _ = file.load();
            file.save(&text).map_err(|error| error.to_string())
        });
        if let Err(why) = noted {
            tracing::warn!(
                why,
                "the units of the old system are not known, and not compared with those of the new one"
            );
        }
    }

    /// The comparison of the new system with the old one, if that was noted for this update.
    pub(super) fn units_check(&self, job: &Job) -> Option<Box<dyn Check>> {
        let (Some(ignored), Runner::Systemd(manager)) = (&self.health.units, &self.runner) else {
            return None;
        };
        let Loaded::Found { payload, .. } = Generations::open(&self.state, FILE, CAPACITY).ok()?.load()
        else {
            return None;
        };
        let noted: Noted = serde_json::from_slice(&payload).ok()?;
        let check =
            || Box::new(SameUnits::new(noted.units, ignored.clone(), manager.clone())) as Box<dyn Check>;
        (noted.update == job.id.to_string()).then(check)
    }
}
