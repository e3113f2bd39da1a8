//! The whole state of the hub in one place: devices, connections, sessions, configurations. Every change is a
//! method here and happens under one lock (`shared`). Not protocol: MQTT and REST are `mqtt` and `rest`.

mod call;
mod identities;
mod links;
mod messages;
mod methods;
mod mishaps;
mod registrations;
mod snapshot;
mod telemetry;
mod twins;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::certificates::Authorities;
use crate::configurations::Configuration;
use crate::events::Events;
use crate::faults::Faults;
use crate::jobs::Job;
use crate::limits::Limits;
use crate::policies::Policies;
use crate::provisioning::{ID_SCOPE, Provisioning};
use crate::query::{self, Query, Source};
use crate::registry::Device;
use crate::throttle::Throttle;

pub(crate) use call::MethodCall;
use links::Session;
pub(crate) use links::{Link, Push};
use messages::Message;
pub(crate) use methods::Answer;
pub(crate) use snapshot::Snapshot;
use telemetry::Telemetry;
pub(crate) use twins::apply as apply_patch;

/// What the emulated hub knows. Tests read it through [`Emulator::wait_for`](crate::Emulator::wait_for).
#[derive(Debug)]
pub struct Hub {
    pub(crate) devices: BTreeMap<String, Device>,
    /// Modules of devices by `device/module`, which is also their client id.
    pub(crate) modules: BTreeMap<String, Device>,
    pub(crate) configurations: BTreeMap<String, Configuration>,
    /// Scheduled jobs, those that have ended too.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// Jobs that a task of this process is at work on.
    pub(crate) job_workers: BTreeSet<String>,
    pub(crate) policies: Policies,
    pub(crate) events: Arc<Events>,
    pub(crate) faults: Faults,
    /// Configurations are evaluated at every change rather than by the clock alone.
    pub(crate) immediate: bool,
    pub(crate) limits: Limits,
    /// Who may sign the certificates of devices.
    pub(crate) authorities: Authorities,
    pub(crate) provisioning: Provisioning,
    pub(crate) throttle: Option<Throttle>,
    links: BTreeMap<String, Link>,
    sessions: BTreeMap<String, Session>,
    /// Method calls that wait for an answer, by device and request id.
    calls: BTreeMap<(String, String), oneshot::Sender<Answer>>,
    telemetry: BTreeMap<String, Telemetry>,
    /// Cloud-to-device messages that wait, by device.
    messages: BTreeMap<String, VecDeque<Message>>,
    /// How many there were, for their packet ids.
    message_serial: u64,
    serial: u64,
}

impl Hub {
    pub(crate) fn new(policies: Policies, events: Arc<Events>, faults: Faults, immediate: bool) -> Hub {
        Hub {
            devices: BTreeMap::new(),
            modules: BTreeMap::new(),
            configurations: BTreeMap::new(),
            jobs: BTreeMap::new(),
            job_workers: BTreeSet::new(),
            policies,
            events,
            faults,
            immediate,
            limits: Limits::default(),
            authorities: Authorities::default(),
            provisioning: Provisioning::new(ID_SCOPE),
            throttle: None,
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            calls: BTreeMap::new(),
            telemetry: BTreeMap::new(),
            messages: BTreeMap::new(),
            message_serial: 0,
            serial: 0,
        }
    }

    /// Whether the device is connected now.
    pub fn device_connected(&self, id: &str) -> bool {
        self.links.contains_key(id)
    }

    /// Whether the device's session holds this topic filter.
    pub fn subscribed(&self, id: &str, filter: &str) -> bool {
        self.sessions.get(id).is_some_and(|session| session.holds(filter))
    }

    /// The twin as the service sees it; null if there is no such device.
    pub fn twin(&self, id: &str) -> Value {
        self.find(id).map(|device| device.twin(self.standing(id))).unwrap_or_default()
    }

    /// The reported properties alone; null if there is no such device.
    pub fn reported(&self, id: &str) -> Value {
        self.find(id).map(|device| Value::Object(device.reported.value().clone())).unwrap_or_default()
    }

    /// The desired properties alone; null if there is no such device.
    pub fn desired(&self, id: &str) -> Value {
        self.find(id).map(|device| Value::Object(device.desired.value().clone())).unwrap_or_default()
    }

    /// A configuration with its metrics as of now; null if there is none by that id.
    pub fn configuration(&self, id: &str) -> Value {
        self.configurations.get(id).map(|found| self.configuration_document(found)).unwrap_or_default()
    }

    /// Everything, for people.
    pub(crate) fn state(&self) -> Value {
        let devices: Map<String, Value> = self
            .keys()
            .into_iter()
            .map(|id| {
                let subscriptions = self.sessions.get(&id).map(Session::filters).unwrap_or_default();
                let value = json!({
                    "connected": self.device_connected(&id),
                    "subscriptions": subscriptions,
                    "telemetry": self.telemetry_count(&id),
                    "received": self.telemetry(&id),
                    "waiting": self.message_count(&id),
                    "twin": self.twin(&id),
                });
                (id, value)
            })
            .collect();
        let configurations: Vec<Value> =
            self.configurations.values().map(|found| self.configuration_document(found)).collect();
        let jobs = self.job_list(None, None);
        json!({"devices": devices, "configurations": configurations, "jobs": jobs, "faults": self.faults.switches()})
    }

    /// Nothing of a deleted identity may be found by a later one of the same name.
    fn forget(&mut self, key: &str) {
        self.sessions.remove(key);
        self.telemetry.remove(key);
        self.messages.remove(key);
    }

    pub(crate) fn connected_count(&self) -> usize {
        self.links.len()
    }

    /// So many rows of a query about single devices, after the device `after`; and the device to go on after, if there
    /// are more. The work is that of the page and of finding the next row, however many devices there are.
    pub(crate) fn ask_after(&self, query: &Query, after: &str, size: usize) -> (Vec<Value>, Option<String>) {
        let from = (Bound::Excluded(after), Bound::Unbounded);
        let (mut rows, mut last) = (Vec::new(), None);
        for id in self.devices.range::<str, _>(from).map(|(id, _)| id) {
            let row = query::run(query, vec![self.twin(id)]);
            if row.is_empty() {
                continue;
            }
            if rows.len() == size {
                return (rows, last);
            }
            rows.extend(row);
            last = Some(id.clone());
        }
        (rows, None)
    }

    /// All rows of a query.
    pub(crate) fn ask(&self, query: &Query) -> Vec<Value> {
        let documents = match query.source {
            Source::Devices => self.devices.keys().map(|id| self.twin(id)).collect(),
            Source::Modules => self.modules.keys().map(|id| self.twin(id)).collect(),
            Source::Jobs => self.job_rows(),
        };
        query::run(query, documents)
    }
}

#[cfg(test)]
mod tests;
