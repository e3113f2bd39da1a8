//! The whole state of the hub in one place: devices, connections, sessions, configurations. Every change is a
//! method here and happens under one lock (`shared`). Not protocol: MQTT and REST are `mqtt` and `rest`.

mod links;
mod methods;
mod mishaps;
mod twins;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use crate::configurations::Configuration;
use crate::error::{Code, Error};
use crate::events::{EventKind, Events};
use crate::faults::Faults;
use crate::policies::Policies;
use crate::query::{self, Query, Source};
use crate::registry::{Device, check_etag};

use links::Session;
pub(crate) use links::{Link, Push};
pub(crate) use methods::Answer;

/// What the emulated hub knows. Tests read it through [`Emulator::wait_for`](crate::Emulator::wait_for).
#[derive(Debug)]
pub struct Hub {
    pub(crate) devices: BTreeMap<String, Device>,
    pub(crate) configurations: BTreeMap<String, Configuration>,
    pub(crate) policies: Policies,
    pub(crate) events: Arc<Events>,
    pub(crate) faults: Faults,
    /// Configurations are evaluated at every change rather than by the clock alone.
    pub(crate) immediate: bool,
    links: BTreeMap<String, Link>,
    sessions: BTreeMap<String, Session>,
    /// Method calls that wait for an answer, by device and request id.
    calls: BTreeMap<(String, String), oneshot::Sender<Answer>>,
    telemetry: BTreeMap<String, u64>,
    serial: u64,
}

impl Hub {
    pub(crate) fn new(policies: Policies, events: Arc<Events>, faults: Faults, immediate: bool) -> Hub {
        Hub {
            devices: BTreeMap::new(),
            configurations: BTreeMap::new(),
            policies,
            events,
            faults,
            immediate,
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            calls: BTreeMap::new(),
            telemetry: BTreeMap::new(),
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
        self.devices.get(id).map(|device| device.twin(self.device_connected(id))).unwrap_or_default()
    }

    /// The reported properties alone; null if there is no such device.
    pub fn reported(&self, id: &str) -> Value {
        self.devices.get(id).map(|device| Value::Object(device.reported.value().clone())).unwrap_or_default()
    }

    /// The desired properties alone; null if there is no such device.
    pub fn desired(&self, id: &str) -> Value {
        self.devices.get(id).map(|device| Value::Object(device.desired.value().clone())).unwrap_or_default()
    }

    /// How many telemetry messages the device has sent.
    pub fn telemetry_count(&self, id: &str) -> u64 {
        self.telemetry.get(id).copied().unwrap_or(0)
    }

    /// A configuration with its metrics as of now; null if there is none by that id.
    pub fn configuration(&self, id: &str) -> Value {
        self.configurations.get(id).map(|found| self.configuration_document(found)).unwrap_or_default()
    }

    /// Everything, for people.
    pub(crate) fn state(&self) -> Value {
        let devices: Map<String, Value> = self
            .devices
            .keys()
            .map(|id| {
                let subscriptions = self.sessions.get(id).map(Session::filters).unwrap_or_default();
                let value = json!({
                    "connected": self.device_connected(id),
                    "subscriptions": subscriptions,
                    "telemetry": self.telemetry_count(id),
                    "twin": self.twin(id),
                });
                (id.clone(), value)
            })
            .collect();
        let configurations: Vec<Value> =
            self.configurations.values().map(|found| self.configuration_document(found)).collect();
        json!({"devices": devices, "configurations": configurations, "faults": self.faults.switches()})
    }

    pub(crate) fn device(&self, id: &str) -> Result<&Device, Error> {
        self.devices.get(id).ok_or_else(|| Error::no_device(id))
    }

    pub(crate) fn device_mut(&mut self, id: &str) -> Result<&mut Device, Error> {
        self.devices.get_mut(id).ok_or_else(|| Error::no_device(id))
    }

    pub(crate) fn identity(&self, id: &str) -> Result<Value, Error> {
        Ok(self.device(id)?.identity(self.device_connected(id)))
    }

    /// A PUT without If-Match creates, one with it updates.
    pub(crate) fn put_device(
        &mut self,
        id: &str,
        body: &Value,
        if_match: Option<&str>,
    ) -> Result<Value, Error> {
        match (self.devices.get_mut(id), if_match) {
            (Some(_), None) => {
                return Err(Error::new(Code::AlreadyExists, format!("there is a device {id}")));
            }
            (None, Some(_)) => return Err(Error::no_device(id)),
            (Some(device), Some(_)) => {
                check_etag(if_match, &device.etag())?;
                device.update(body)?;
                if !device.enabled {
                    self.cut(id, "the device was disabled");
                }
            }
            (None, None) => {
                self.devices.insert(id.to_owned(), Device::create(id, body)?);
                self.events.emit(EventKind::DeviceCreated { device: id.to_owned() });
                self.settle(id);
            }
        }
        self.identity(id)
    }

    pub(crate) fn delete_device(&mut self, id: &str, if_match: Option<&str>) -> Result<(), Error> {
        check_etag(if_match, &self.device(id)?.etag())?;
        self.cut(id, "the device was deleted");
        self.devices.remove(id);
        self.sessions.remove(id);
        self.telemetry.remove(id);
        self.events.emit(EventKind::DeviceDeleted { device: id.to_owned() });
        Ok(())
    }

    pub(crate) fn telemetry_arrived(&mut self, id: &str, properties: Vec<(String, String)>, bytes: usize) {
        *self.telemetry.entry(id.to_owned()).or_default() += 1;
        self.events.emit(EventKind::Telemetry { device: id.to_owned(), properties, bytes });
    }

    pub(crate) fn connected_count(&self) -> usize {
        self.links.len()
    }

    /// All rows of a query.
    pub(crate) fn ask(&self, query: &Query) -> Vec<Value> {
        let documents = match query.source {
            Source::Devices => self.devices.keys().map(|id| self.twin(id)).collect(),
            Source::Modules | Source::Jobs => Vec::new(),
        };
        query::run(query, documents)
    }
}
