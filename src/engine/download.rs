//! The work *download*: what a fetch needs to know of this device, and what follows from how it ended.

use super::target::{Device, Seed};
use super::tools::{Order, job};
use super::trust::{Kept, Signing};
use super::{Engine, Tools};
use crate::bundle;
use crate::health::{Check, UsableKeys};
use crate::image::{self, Error};
use crate::model::{Artifact, Failure, Reason, Slot};
use crate::slots::SeedDevice;
use crate::update::{Event, Gate, Job, Phase, Plan, Wait};

impl Engine {
    /// What a job that is to fetch something waits for, if the root keys that would have to judge it cannot be used. Nothing is
    /// touched meanwhile: an update that ended for this would have given up the way back, and its wish with it. Keys that
    /// can be used again begin another engine, so there is nothing to look for here.
    pub(super) fn gate_of_keys(&self) -> Option<Gate> {
        let job = self.record.state.job()?;
        let fetches =
            matches!(job.phase, Phase::Accepted | Phase::Downloading) && job.plan.artifact().is_some();
        let why = self.live.unusable_keys().filter(|_| fetches && asks_signature(job))?;
        Some(Gate { wait: Wait::Keys(why.to_owned()), until: None })
    }

    /// Whether it begins with a download that waits for root keys: no start begins that, and so none is paid for.
    pub(super) fn rests_where_it_was(&self) -> bool {
        let here = self.facts.booted;
        let rests = |job: &Job| job.phase == Phase::Downloading && job.target != here;
        let is_at_rest = self.record.state.job().is_some_and(rests) && self.facts.trial.is_none();
        is_at_rest && self.gate_of_keys().is_some()
    }

    /// Whether a download that an earlier process began has to wait for root keys that can be used; tells it, then.
    pub(super) fn download_waits(&mut self) -> bool {
        let gate = self.gate_of_keys();
        let waits = gate.is_some();
        if waits {
            self.show_gate(gate);
        }
        waits
    }
}

impl Tools {
    /// Fetches the image into `slot`, or finds out that it is too dear.
    pub(super) fn download(&mut self, order: &Order, slot: Slot) -> Result<Event, Reason> {
        let job = job(order)?;
        let artifact = artifact(job)?;
        // Before anything is touched. Without usable keys nothing gets here: it waits.
        let signing = self.signing_of(job).cloned();
        let roots =
            signing.as_ref().map(|signing| signing.roots.as_ref().map_err(Clone::clone)).transpose()?;
        self.verified = None;
        let booted = order.facts.booted;
        if order.facts.default.is_none() {
            self.refuse_unknown_trial(order)?;
        }
        // Before the first byte: a half-written slot must be nobody's fallback.
        self.tell_bootloader(order, |bootloader| bootloader.revert(booted))?;
        let mut target = Device(self.open(order, slot)?);
        if job.rewrites_left < Job::REWRITES {
            target.0.write_zeros();
        }
        let mut checkpoint = self.checkpoint()?;
        let update = format!("{} {}", job.intent.0, job.times.accepted.map_or(0, |time| time.0));
        let kept = Kept::open(&self.state);
        // What cannot be looked at is fetched.
        let seed = SeedDevice::open(&self.slots, booted).ok().map(Seed);
        let fetch = image::Fetch {
            artifact,
            slot,
            settings: &self.image,
            net: &self.net,
            progress: &order.progress,
            cancel: &order.cancel,
            rate: &order.rate,
            update: &update,
            signed: signing.as_ref().zip(roots).map(|(signing, roots)| image::Signed {
                roots,
                ledger: &kept,
                device: bundle::Device {
                    product: signing.product.as_deref(),
                    compatible: &signing.compatible,
                    floor: order.floor,
                    now: self.host.wall_clock(),
                    twinboot: env!("CARGO_PKG_VERSION"),
                },
                allowance: Some(job.allowance(self.image.data_cap)),
                seed: seed.as_ref().map(|seed| seed as &dyn image::Seed),
            }),
        };
        let written = image::write(&fetch, &mut target, &mut checkpoint);
        match written {
            Ok(image::Written { image, seal }) => {
                target.has_root(&image)?;
                Ok(Event::Written { image, seal })
            }
            Err(Error::Cost { cost, .. }) => Ok(Event::TooDear(cost)),
            Err(error) => Err(error.reason()),
        }
    }

    /// The bootloader could not be asked when this process began: the running system may be on a trial that the record does
    /// not know, and the slot to be written the only good one. The engine, which then sees it too, ends that trial first.
    fn refuse_unknown_trial(&mut self, order: &Order) -> Result<(), Reason> {
        let booted = order.facts.booted;
        let mut is_damaged = false;
        self.tell_bootloader(order, |bootloader| match bootloader.view() {
            // Then nothing is on trial, and to write it anew is the only way out.
            Err(crate::boot::Error::Damaged(_)) => {
                is_damaged = true;
                Ok(())
            }
            seen => seen.map(drop),
        })?;
        if is_damaged {
            return Ok(());
        }
        let view = self.look(order.job.as_ref(), booted, order.is_spoiled)?;
        if view.trial == Some(booted) {
            let why = format!("slot {booted} runs on trial, and nobody remembers why");
            return Err(Failure::RecordLost.because(why));
        }
        Ok(())
    }

    /// Whether the root keys can be used, if this device has any.
    pub(super) fn keys_check(&self) -> Option<Box<dyn Check>> {
        let fault = self.signing.as_ref()?.roots.as_ref().err()?;
        Some(Box::new(UsableKeys::new(fault.detail.clone())))
    }

    /// By whom the job's artifact must be signed.
    fn signing_of(&self, job: &Job) -> Option<&Signing> {
        self.signing.as_ref().filter(|_| asks_signature(job))
    }
}

/// Whether the job's artifact must be signed on a device with root keys. A factory's plain image is the integrator's own file,
/// declared in a configuration that only root writes, as the root keys are. A factory's bundle is judged like any other,
/// and if it is to be older than what was committed, it needs the signed permission for that.
fn asks_signature(job: &Job) -> bool {
    let is_plain = job.plan.artifact().is_some_and(|artifact| !image::is_bundle(&artifact.location));
    !(matches!(job.plan, Plan::FactoryReset(_)) && is_plain)
}

fn artifact(job: &Job) -> Result<&Artifact, Reason> {
    let artifact = job.plan.artifact();
    artifact.ok_or_else(|| Failure::Internal.because("there is nothing to download"))
}
