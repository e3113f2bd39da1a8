//! What is going on just now and is not worth remembering: progress, the hub's link, warnings. And how it is told:
//! to the control socket whenever it changes, to the hub as a whole document, to the service manager as a line.

mod pace;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::tools::Tools;
use super::trust::{self, Signing};
use crate::bundle::{RootKeys, Trust};
use crate::host::service;
use crate::hub::{Commands, Report};
use crate::image::{RateLimit, Snapshot};
use crate::model::{Cost, Reason, Slot};
use crate::report::{Activity, Dialect, HubLink, Progress, Status, document};
use crate::slots::SlotMap;
use crate::update::{Facts, Gate, Phase, Record, Wait};
use pace::{Mean, Rate};

/// The live part of the status, and who is told.
pub(super) struct Live {
    pub(super) hub: HubLink,
    pub(super) gate: Option<Gate>,
    pub(super) blocked: Option<Reason>,
    pub(super) warnings: BTreeSet<String>,
    /// The acknowledged settings; not told before the hub was heard.
    pub(super) settings: Option<Value>,
    /// What the slots were when this engine began.
    slots: Value,
    /// Whom this device trusts, if it takes signed bundles.
    trust: Option<Trusted>,
    /// Those of the warnings that are about the way to the hub.
    access_warnings: Vec<String>,
    /// What is wrong between us and the hub that an operator must see to; empty if nothing is.
    pub(super) hub_warning: String,
    pub(super) status: watch::Sender<Value>,
    dialects: Vec<Dialect>,
    /// How fast may be fetched.
    pub(super) limit: RateLimit,
    rate: Rate,
    mean: Mean,
    told: Told,
}

/// So many revoked keys are named at most: a status is also the answer to a direct method, which has an end.
const REVOKED_SHOWN: usize = 256;

/// The root keys, and what is remembered of what they signed.
struct Trusted {
    keys: Value,
    threshold: Option<usize>,
    /// Why the keys cannot be used.
    problem: Option<String>,
    state: PathBuf,
    /// What is remembered, as it was in this phase: it only grows by a download.
    known: (Option<Activity>, Trust),
}

impl Trusted {
    fn new(signing: &Signing, state: &Path) -> Self {
        let roots = signing.roots.as_ref();
        let ids = roots.into_iter().flat_map(|roots| roots.keys().keys());
        Self {
            keys: ids.map(|id| Value::String(id.to_string())).collect(),
            threshold: roots.ok().map(RootKeys::threshold),
            problem: roots.err().map(|fault| fault.detail.clone()),
            state: state.to_owned(),
            known: (None, Trust::default()),
        }
    }

    fn shown(&mut self, phase: Activity) -> Value {
        if self.known.0 != Some(phase) {
            self.known = (Some(phase), trust::load(&self.state).0);
        }
        let Trust { epoch, delegation, revoked } = &self.known.1;
        let revoked: Vec<_> = revoked.iter().take(REVOKED_SHOWN).collect();
        json!({
            "keys": self.keys, "threshold": self.threshold, "problem": self.problem,
            "epoch": epoch, "delegation": delegation, "revoked": revoked,
        })
    }
}

/// What was told last.
#[derive(Default)]
struct Told {
    generation: u64,
    document: Value,
    phase: Option<Activity>,
    gate: Option<Gate>,
    line: String,
}

impl Live {
    pub(super) fn new(
        status: watch::Sender<Value>,
        dialects: Vec<Dialect>,
        warnings: Vec<String>,
        tools: &Tools,
    ) -> Self {
        Self {
            hub: HubLink::default(),
            gate: None,
            blocked: None,
            warnings: warnings.into_iter().collect(),
            settings: None,
            slots: shown(&tools.slots),
            trust: tools.signing.as_ref().map(|signing| Trusted::new(signing, &tools.state)),
            access_warnings: Vec::new(),
            hub_warning: String::new(),
            status,
            dialects,
            limit: RateLimit::default(),
            rate: Rate::default(),
            mean: Mean::default(),
            told: Told::default(),
        }
    }

    /// Why the root keys cannot be used, if there are some and they cannot.
    pub(super) fn unusable_keys(&self) -> Option<&str> {
        self.trust.as_ref()?.problem.as_deref()
    }

    /// How many seconds it takes to fetch what an update costs: at the limit, or as fast as it goes if that is slower.
    pub(super) fn seconds(&self, cost: Cost) -> Option<u64> {
        self.mean.seconds(cost, self.limit.get())
    }

    /// Shows these warnings about the way to the hub in place of those before; the ones that are new.
    pub(super) fn warn_of_hub(&mut self, warnings: Vec<String>) -> Vec<String> {
        let old = std::mem::replace(&mut self.access_warnings, warnings);
        self.warnings.retain(|warning| !old.contains(warning));
        self.warnings.extend(self.access_warnings.iter().cloned());
        self.access_warnings.iter().filter(|warning| !old.contains(warning)).cloned().collect()
    }

    /// The status now.
    fn project(&mut self, record: &Record, facts: &Facts, work: Option<Snapshot>) -> Status {
        let mut status = Status::new(record, facts, self.gate.clone());
        let reading_back = record.state.job().is_some_and(|job| job.phase == Phase::Verifying);
        let len = record.state.job().and_then(|job| job.image.as_ref()).map(|image| image.len);
        let goes =
            record.state.job().is_some_and(|job| matches!(job.phase, Phase::Downloading | Phase::Verifying));
        let work = work.filter(|_| goes);
        // When all is here no more comes.
        if !reading_back {
            let (plan, fetched) = work.as_ref().map_or((None, 0), |now| (now.plan, now.fetched));
            self.mean.see(Instant::now(), plan, fetched);
        }
        status.progress = work.map(|now| {
            let (done, total) = if reading_back { (now.verified, len) } else { (now.position, now.total) };
            let percent = total.filter(|total| *total > 0).map(|total| (done.min(total) * 100 / total) as u8);
            Progress {
                fetched: now.position,
                total: now.total,
                written: if reading_back { now.verified } else { now.written },
                fetched_twice: now.fetched_twice,
                rate: self.rate.of(if reading_back { now.verified } else { now.fetched }),
                plan: now.plan,
                plan_seconds: now.plan.and_then(|cost| self.seconds(cost)),
                percent,
            }
        });
        if let Some(job) = &mut status.update {
            job.cost_seconds = job.cost.and_then(|cost| cost.seconds(self.limit.get()));
        }
        status.hub = self.hub;
        status.blocked.clone_from(&self.blocked);
        let hub = Some(&self.hub_warning).filter(|warning| !warning.is_empty());
        status.warnings = self.warnings.iter().chain(hub).cloned().collect();
        status
    }

    /// All that the hub is told.
    fn document(&self, status: &Status, brief: bool) -> Value {
        let mut document = document(status, &self.dialects, brief);
        if let Some(settings) = &self.settings {
            document["twinboot"] = settings.clone();
        }
        document
    }

    /// Whether nothing is other than what was told, but the words of the hook that is still waited for: how many times
    /// a day these change is up to a program, and how often the hub hears of it is not.
    fn is_reworded(&self, status: &Status) -> bool {
        let is_hook = |gate: &&Gate| matches!(gate.wait, Wait::Hook(_));
        let before = self.told.gate.as_ref().filter(is_hook);
        let (Some(before), Some(_)) = (before, self.gate.as_ref().filter(is_hook)) else { return false };
        let told = Status { gate: Some(before.to_string()), ..status.clone() };
        self.document(&told, false) == self.told.document
    }

    /// Tells everybody what changed.
    pub(super) fn tell(
        &mut self,
        record: &Record,
        facts: &Facts,
        work: Option<Snapshot>,
        hub: Option<&Commands>,
    ) {
        let status = self.project(record, facts, work);
        let mut value =
            serde_json::to_value(&status).expect("a status has string keys and finite numbers only");
        value["slots"] = self.slots.clone();
        let trust = self.trust.as_mut().map(|trust| trust.shown(status.phase));
        value["trust"] = trust.unwrap_or_default();
        self.status.send_if_modified(|told| {
            let changed = *told != value;
            if changed {
                *told = value;
            }
            changed
        });
        let line = summary(&status);
        if line != self.told.line {
            service::status(&line);
            self.told.line = line;
        }
        let Some(hub) = hub else { return };
        let full = self.document(&status, false);
        if full == self.told.document {
            return;
        }
        let is_new = Some(status.phase) != self.told.phase;
        let urgent = is_new || (status.progress.is_none() && !self.is_reworded(&status));
        self.told.generation += 1;
        self.told.phase = Some(status.phase);
        self.told.gate.clone_from(&self.gate);
        let object = |value: Value| match value {
            Value::Object(object) => object,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                serde_json::Map::new()
            }
        };
        hub.report(Report {
            generation: self.told.generation,
            full: object(full.clone()),
            minimal: Some(object(self.document(&status, true))),
            urgent,
        });
        self.told.document = full;
    }
}

/// The partitions of each slot: the name of each, and its device and size in bytes, or why these are not known.
fn shown(slots: &SlotMap) -> Value {
    let parts = |slot: Slot| {
        let parts = slots.look(slot).into_iter().map(|part| match part.found {
            Ok((device, size)) => json!({"name": part.name, "device": device, "size": size}),
            Err(problem) => json!({"name": part.name, "problem": problem}),
        });
        Value::Array(parts.collect())
    };
    json!({"a": parts(Slot::A), "b": parts(Slot::B)})
}

/// One line for `systemctl status`.
fn summary(status: &Status) -> String {
    let version = |version: &Option<_>| version.as_ref().map_or("unknown".to_owned(), ToString::to_string);
    let running = version(&status.version.running);
    let trial = if status.trial == Some(status.booted) { ", on trial" } else { "" };
    let hub = if status.hub.connected { "hub connected" } else { "hub not connected" };
    let update = status.update.as_ref().map_or(String::new(), |job| {
        let percent =
            status.progress.and_then(|now| now.percent).map_or(String::new(), |now| format!(" {now} %"));
        let phase = serde_json::to_value(status.phase).unwrap_or_default();
        format!("; {}{percent}, version {}", phase.as_str().unwrap_or_default(), version(&job.version))
    });
    let warning = status.warnings.first().map_or(String::new(), |warning| format!("; {warning}"));
    format!("running {running} from slot {}{trial}{update}; {hub}{warning}", status.booted)
}
