//! The works, done with the adapters: one function per [`Work`], each idempotent, so that it may begin from any
//! prefix of itself.
//!
//! The tools travel: the engine hands them to the thread of the one work that is going on and gets them back with
//! its result, so no two works can ever touch a slot or the bootloader at the same time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::hooked::Word;
use super::target::Device;
use super::trust::Signing;
use crate::boot::{BootView, Bootloader};
use crate::durable::Generations;
use crate::health::{self, Check, HubMode};
use crate::hooks::{self, Hooks};
use crate::host::Host;
use crate::image::{self, Cancel, Progress, RateLimit};
use crate::model::{Failure, Reason, Slot, TargetSlot, VerifiedSlot};
use crate::program::{Keep, Purpose, Runner, Task, is_trusted};
use crate::slots::{SlotMap, TargetDevice};
use crate::store::overdue;
use crate::update::{Event, Facts, Job, Phase, Plan, Work};

/// A write to the bootloader is tried so often before it counts as failed; a lock may be held, a device may be busy.
const BOOT_ATTEMPTS: u32 = 3;
const BOOT_PAUSE: Duration = Duration::from_secs(2);
/// How long a reboot that was asked for may take before it is asked for again.
const REBOOT_LIMIT: Duration = Duration::from_secs(300);
/// How often health checks that have no verdict yet are asked again.
const HEALTH_PAUSE: Duration = Duration::from_millis(500);
/// How long the program of a factory reset may take to end when it is asked to, before it is made to.
const RESET_GRACE: Duration = Duration::from_secs(5);
/// Where the position of a download is kept, in the state directory.
const CHECKPOINT: &str = "download";

/// Everything the works need.
pub struct Tools {
    /// The bootloader.
    pub bootloader: Box<dyn Bootloader>,
    /// Where the slots are.
    pub slots: SlotMap,
    /// The machine.
    pub host: Host,
    /// How to fetch.
    pub image: image::Settings,
    /// Through which client.
    pub net: image::Net,
    /// How a new system proves itself.
    pub health: Health,
    /// How a factory reset makes the data as new, if it has a program for that.
    pub factory_program: Option<FactoryProgram>,
    /// Who runs the integrator's programs.
    pub runner: Runner,
    /// Programs that take part in an update.
    pub hooks: Hooks,
    /// What hooks failed that nothing depended on, until it is told.
    pub complaints: Vec<String>,
    /// By whom bundles must be signed; `None` if nobody may sign, and images are plain.
    pub signing: Option<Signing>,
    /// Where the position of a download is kept, and what must outlive it.
    pub state: PathBuf,
    /// What this process has read back and found right; forgotten when the slot is written again.
    pub verified: Option<VerifiedSlot>,
}

/// How a new system proves itself.
#[derive(Clone, Debug)]
pub struct Health {
    /// After its boot, it has this long.
    pub deadline: Duration,
    /// Programs that judge.
    pub directory: PathBuf,
    /// How long each may take.
    pub timeout: Duration,
    /// Whether the hub must be reached.
    pub hub: HubMode,
    /// Whether it is.
    pub reached: watch::Receiver<bool>,
    /// Units of systemd's that may fail, if others must not that had not failed before the update.
    pub units: Option<Vec<String>>,
}

/// The program of a factory reset: `[factory_reset]` of the configuration.
#[derive(Clone, Debug)]
pub struct FactoryProgram {
    /// Which.
    pub path: PathBuf,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a work needs to know besides.
pub(super) struct Order {
    /// What to do.
    pub work: Work,
    /// For which job; none for a reboot that was asked for.
    pub job: Option<Job>,
    /// The slot the previous system is in.
    pub previous: Option<Slot>,
    /// Whether the other slot is known to hold nothing that could be gone back to.
    pub is_spoiled: bool,
    /// The lowest rollback index that is taken.
    pub floor: u64,
    /// Where we are.
    pub facts: Facts,
    /// Where to note how far it is.
    pub progress: Progress,
    /// What stops it.
    pub cancel: Cancel,
    /// How fast it may fetch, as it is at any moment.
    pub rate: RateLimit,
}

impl Tools {
    /// Does the work, blocking, and says how it went. After a cancelled work nobody listens.
    pub(super) fn perform(&mut self, order: &Order) -> Word {
        let done = match order.work {
            Work::Rest => self.look(None, order.facts.booted, order.is_spoiled).map(drop),
            Work::Await(stage) => return self.ask_at_gate(order, stage),
            Work::Download(slot) => match self.download(order, slot) {
                Ok(event) => return Word::Event(event),
                Err(why) => Err(why),
            },
            Work::Verify(slot) => self.verify(order, slot),
            Work::Arm(slot) => self.arm(order, slot),
            Work::Reboot => self.reboot(order),
            Work::CheckHealth => self.prepare_trial(order).and_then(|()| self.check_health(order)),
            Work::Commit(slot) => self.commit(order, slot),
            Work::Revert(slot) => self.revert(order, slot),
            Work::Reset => self.reset(order),
        };
        Word::Event(match done {
            Ok(()) => Event::Done,
            Err(why) => Event::Failed(why),
        })
    }

    /// The first look at the bootloader in this process. In a boot of the default system, whatever is under way for the
    /// other slot, it is also told that this boot was a good one: a loader that counts every boot down would otherwise
    /// run out. `is_spoiled`: the record knows that the other slot holds nothing to go back to.
    ///
    /// # Errors
    /// If it cannot be asked, or told what it must be.
    pub fn look(&mut self, job: Option<&Job>, booted: Slot, is_spoiled: bool) -> Result<BootView, Reason> {
        let view = self.bootloader.view().map_err(|error| error.reason())?;
        if self.is_no_trial(&view, job, booted, is_spoiled) {
            // Left alone, the loader itself would go there in a few boots; undone, as a trial that nobody knows is, at
            // the next one. Neither would ever come up. Nor is the other slot to be a fallback, as a commit would leave it.
            self.bootloader.revert(booted).map_err(|error| error.reason())?;
            let mut view = self.bootloader.view().map_err(|error| error.reason())?;
            view.warnings.push(format!(
                "the bootloader had slot {booted} on trial, and slot {}, to go back to, {}: slot {booted} stays; look for who \
                 sets the bootloader's variables",
                !booted,
                if is_spoiled { "holds half an update" } else { "is empty" }
            ));
            return Ok(view);
        }
        if view.trial.is_none() && view.default == booted {
            if let Err(error) = self.bootloader.commit(booted, None) {
                tracing::warn!(%error, "the bootloader could not be told of a good boot");
            }
            return self.bootloader.view().map_err(|error| error.reason());
        }
        Ok(view)
    }

    /// Whether the bootloader's variables speak of a trial of the running system that can be none: whoever begins one runs
    /// from the other slot, and that is empty, or holds what is left of an update. Somebody set them by hand.
    fn is_no_trial(&self, view: &BootView, job: Option<&Job>, booted: Slot, is_spoiled: bool) -> bool {
        let is_ours = job.is_some_and(|job| job.target == booted);
        let on_trial = view.trial == Some(booted) && view.default != booted;
        on_trial && !is_ours && (is_spoiled || self.slots.is_blank(!booted).unwrap_or(false))
    }

    /// What the bootloader says, for the status; `None` if it cannot be asked.
    pub fn view(&mut self) -> Option<BootView> {
        self.bootloader.view().ok()
    }

    fn verify(&mut self, order: &Order, slot: Slot) -> Result<(), Reason> {
        self.disarm(order, slot)?;
        self.verified = Some(match job(order)?.plan {
            Plan::Install(_) | Plan::FactoryReset(_) => self.read_back(order, slot)?,
            Plan::GoBack => {
                let target = self.target(order, slot)?;
                VerifiedSlot::previous(target, order.previous).ok_or_else(|| {
                    Failure::NoPrevious.because("the other slot has been written since it ran")
                })?
            }
            Plan::Rescue => return Err(Failure::Internal.because("there is nothing to verify in a rescue")),
        });
        Ok(())
    }

    /// A process before this one armed it and did not live to say so, or its trial was cut short. It waits at its gate again,
    /// and somebody's reboot must not be its trial meanwhile.
    fn disarm(&mut self, order: &Order, slot: Slot) -> Result<(), Reason> {
        let view = self.bootloader.view().map_err(|error| error.reason())?;
        if view.trial != Some(slot) {
            return Ok(());
        }
        let booted = order.facts.booted;
        self.tell_bootloader(order, |bootloader| bootloader.revert(booted))
    }

    fn read_back(&mut self, order: &Order, slot: Slot) -> Result<VerifiedSlot, Reason> {
        let image = job(order)?.image.as_ref();
        let image =
            image.ok_or_else(|| Failure::ReadbackMismatch.because("it is not known what was written"))?;
        let target = self.target(order, slot)?;
        let device = Device(self.open(order, slot)?);
        let found = image::read_back(&device, image, &order.progress, &order.cancel)
            .map_err(|error| error.reason())?;
        VerifiedSlot::attest(target, &found, image).map_err(|mismatch| {
            // What the checkpoint vouches for is not there: fetch it all again.
            if let Ok(mut checkpoint) = self.checkpoint() {
                image::discard(&mut checkpoint);
            }
            Failure::ReadbackMismatch.because(mismatch.to_string())
        })
    }

    fn arm(&mut self, order: &Order, slot: Slot) -> Result<(), Reason> {
        let verified = self.verified.take().filter(|verified| verified.slot() == slot);
        let verified = verified.ok_or_else(|| Failure::Internal.because("the slot was not verified"))?;
        self.note_units(order);
        // Whatever it says is about another trial. Should it stay, it names that one.
        if let Err(why) = overdue::discard(&self.state) {
            tracing::warn!(why, "what the guard over an earlier trial left behind could not be removed");
        }
        self.tell_bootloader(order, |bootloader| bootloader.arm(&verified))
    }

    fn reboot(&mut self, order: &Order) -> Result<(), Reason> {
        let handle = Handle::current();
        let argument = self.reboot_argument(order)?;
        handle.block_on(self.host.reboot(argument.as_deref())).map_err(|error| error.reason())?;
        // The service manager stops us while we wait; if it does not, the reboot got lost.
        handle.block_on(async {
            let _ = tokio::time::timeout(REBOOT_LIMIT, order.cancel.cancelled()).await;
        });
        Err(Failure::RebootRefused
            .because(format!("still running {REBOOT_LIMIT:?} after a reboot was asked for")))
    }

    /// Only the reboot that begins a trial has something to tell the loader.
    fn reboot_argument(&mut self, order: &Order) -> Result<Option<String>, Reason> {
        let begins_trial = order.job.as_ref().is_some_and(|job| matches!(job.phase, Phase::Rebooting { .. }));
        if !begins_trial {
            return Ok(None);
        }
        self.bootloader.reboot_argument().map_err(|error| error.reason())
    }

    fn check_health(&mut self, order: &Order) -> Result<(), Reason> {
        let job = job(order)?;
        let settings = health::Settings {
            directory: self.health.directory.clone(),
            timeout: self.health.timeout,
            environment: environment(job),
            runner: self.runner.clone(),
        };
        let mut checks: Vec<Box<dyn Check>> = Vec::new();
        if let Some(check) = health::RightVersion::new(job.version.clone(), self.host.image_version()) {
            checks.push(Box::new(check));
        }
        checks.extend(health::programs(&settings));
        checks.extend(self.units_check(job));
        checks.extend(self.keys_check());
        if let Some(check) =
            health::Connected::new(self.health.hub, job.hub_reached, self.health.reached.clone())
        {
            checks.push(Box::new(check));
        }
        let judged = health::judge(&mut checks, self.trial_deadline(), HEALTH_PAUSE);
        Handle::current().block_on(async {
            tokio::select! {
                verdict = judged => verdict,
                () = order.cancel.cancelled() => Err(Failure::Internal.because("stopped")),
            }
        })
    }

    /// How long the new system has to prove itself.
    pub(super) fn trial_deadline(&self) -> health::Deadline<impl Fn() -> health::Uptime> {
        let host = self.host.clone();
        health::Deadline::new(self.health.deadline, move || (host.since_boot(), host.suspended()))
    }

    fn commit(&mut self, order: &Order, slot: Slot) -> Result<(), Reason> {
        let floor = job(order)?.seal.as_ref().map(|seal| seal.floor_after(order.floor));
        self.tell_bootloader(order, |bootloader| bootloader.commit(slot, floor))?;
        self.tell_hooks(order, hooks::Stage::PostCommit);
        Ok(())
    }

    /// Runs the program that makes the data as new. The last look at the bootloader is here, right before it: data is
    /// not given up for a system that may be gone after the next boot.
    fn reset(&mut self, order: &Order) -> Result<(), Reason> {
        let failed = |why: String| Failure::FactoryReset.because(why);
        let view = self.bootloader.view().map_err(|error| error.reason())?;
        if view.trial.is_some() || view.default != order.facts.booted {
            return Err(failed(
                "the running system does not boot by default, so its data is left alone".into(),
            ));
        }
        let FactoryProgram { path, timeout } = self.factory_program.clone().ok_or_else(|| {
            failed("the running system declares no program: [factory_reset] program".to_owned())
        })?;
        is_trusted(&path).map_err(failed)?;
        let (shown, environment) = (path.display().to_string(), environment(job(order)?));
        let task = Task {
            purpose: Purpose::FactoryReset,
            name: &shown,
            path: &path,
            arguments: &[],
            environment: &environment,
            input: None,
            keep: Keep::Tail,
            limit: timeout,
            grace: RESET_GRACE,
        };
        let ran = Handle::current().block_on(async {
            tokio::select! {
                ran = self.runner.run(&task) => ran.map_err(|why| failed(format!("{shown} {why}"))),
                () = order.cancel.cancelled() => Err(Failure::Internal.because("stopped")),
            }
        })?;
        ran.trouble(timeout).map_or(Ok(()), |trouble| Err(failed(format!("{shown} {trouble}"))))
    }

    pub(super) fn tell_bootloader(
        &mut self,
        order: &Order,
        mut verb: impl FnMut(&mut dyn Bootloader) -> Result<(), crate::boot::Error>,
    ) -> Result<(), Reason> {
        let mut attempt = 1;
        loop {
            match verb(&mut *self.bootloader) {
                Ok(()) => return Ok(()),
                Err(error) if attempt == BOOT_ATTEMPTS || order.cancel.is_cancelled() => {
                    return Err(error.reason());
                }
                Err(error) => {
                    tracing::debug!(attempt, %error, "the bootloader could not be told, trying again")
                }
            }
            attempt += 1;
            Handle::current().block_on(async {
                let _ = tokio::time::timeout(BOOT_PAUSE, order.cancel.cancelled()).await;
            });
        }
    }

    /// The proof that `slot` may be written or armed, by what the bootloader says now.
    fn target(&mut self, order: &Order, slot: Slot) -> Result<TargetSlot, Reason> {
        let default = self.bootloader.view().map_err(|error| error.reason())?.default;
        let booted = order.facts.booted;
        TargetSlot::new(slot, booted, default).ok_or_else(|| {
            Failure::TargetBusy
                .because(format!("slot {slot} is not free: {booted} runs and {default} boots by default"))
        })
    }

    pub(super) fn open(&mut self, order: &Order, slot: Slot) -> Result<TargetDevice, Reason> {
        let target = self.target(order, slot)?;
        TargetDevice::open(&self.slots, target, order.facts.booted).map_err(|error| error.reason())
    }

    pub(super) fn checkpoint(&self) -> Result<Generations, Reason> {
        Generations::open(Path::new(&self.state), CHECKPOINT, image::CHECKPOINT_CAPACITY)
            .map_err(|error| Failure::StateUnwritable.because(error.to_string()))
    }
}

pub(super) fn job(order: &Order) -> Result<&Job, Reason> {
    order.job.as_ref().ok_or_else(|| Failure::Internal.because("a work without a job"))
}

/// What the integrator's programs are told.
pub(super) fn environment(job: &Job) -> Vec<(String, String)> {
    let version = job.version.as_ref().map_or(String::new(), ToString::to_string);
    vec![
        ("TWINBOOT_UPDATE_ID".into(), job.id.to_string()),
        ("TWINBOOT_VERSION".into(), version),
        ("TWINBOOT_SLOT".into(), job.target.letter().into()),
    ]
}
