//! The hub as it is kept over the emulator's end: everything but connections, calls under way and fault switches. Not
//! the file (`store`).

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Hub;
use super::links::Session;
use super::messages::Message;
use super::telemetry::Telemetry;
use crate::certificates::Authorities;
use crate::configurations::Configuration;
use crate::jobs::Job;
use crate::provisioning::Provisioning;
use crate::registry::Device;

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    devices: BTreeMap<String, Device>,
    modules: BTreeMap<String, Device>,
    configurations: BTreeMap<String, Configuration>,
    jobs: BTreeMap<String, Job>,
    /// Keys of the service's policies, by name.
    policies: BTreeMap<String, String>,
    authorities: Authorities,
    provisioning: Provisioning,
    sessions: BTreeMap<String, Session>,
    messages: BTreeMap<String, VecDeque<Message>>,
    message_serial: u64,
    telemetry: BTreeMap<String, Telemetry>,
    serial: u64,
}

impl Hub {
    pub(crate) fn snapshot(&self) -> Snapshot {
        // What a connection with CleanSession=1 subscribed to ends with it.
        let lasting = |id: &&String| self.links.get(*id).is_none_or(|link| !link.clean);
        let lasting: Vec<&String> = self.sessions.keys().filter(lasting).collect();
        Snapshot {
            devices: self.devices.clone(),
            modules: self.modules.clone(),
            configurations: self.configurations.clone(),
            jobs: self.jobs.clone(),
            policies: self.policies.keys(),
            authorities: self.authorities.clone(),
            provisioning: self.provisioning.clone(),
            sessions: lasting.into_iter().map(|id| (id.clone(), self.sessions[id].clone())).collect(),
            messages: self.messages.clone(),
            message_serial: self.message_serial,
            telemetry: self.telemetry.clone(),
            serial: self.serial,
        }
    }

    /// Takes up where the hub of the snapshot ended.
    pub(crate) fn restore(&mut self, saved: Snapshot) {
        self.devices = saved.devices;
        self.modules = saved.modules;
        self.configurations = saved.configurations;
        self.jobs = saved.jobs;
        self.policies.restore(&saved.policies);
        self.authorities = saved.authorities;
        self.provisioning = saved.provisioning;
        self.sessions = saved.sessions;
        self.messages = saved.messages;
        self.message_serial = saved.message_serial;
        self.telemetry = saved.telemetry;
        self.serial = saved.serial;
    }
}
