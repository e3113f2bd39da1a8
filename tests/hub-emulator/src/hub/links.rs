//! Connections and stored sessions of devices: who is on line, what they subscribed to, and the cutting of a line.
//! Not the bytes (that is `mqtt`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use super::Hub;
use crate::clock;
use crate::events::EventKind;
use crate::faults::FaultKind;

/// More than these the hub does not grant.
const SUBSCRIPTION_LIMIT: usize = 5;

/// The hub's end of a connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Tells connections of the same device apart.
    serial: u64,
    pub(super) clean: bool,
    pub(super) out: UnboundedSender<Push>,
    /// Packet ids of messages that were sent on it and not acknowledged.
    pub(super) in_flight: BTreeSet<u16>,
    /// A notification that waits until the next one has gone, by a fault.
    held: Option<(String, Vec<u8>)>,
}

/// What the hub wants done on a connection.
#[derive(Clone, Debug)]
pub(crate) enum Push {
    Publish {
        topic: String,
        payload: Vec<u8>,
    },
    /// A cloud-to-device message; without a packet id at QoS 0.
    Message {
        packet: Option<u16>,
        again: bool,
        topic: String,
        payload: Vec<u8>,
    },
    /// From now on nothing is heard and nothing is said.
    Mute,
    Close,
}

/// What outlives a connection made with CleanSession=0. Both of Microsoft's SDKs rely on it: they do not subscribe
/// to everything again. Cloud-to-device messages that wait are the device's and not the session's: they outlive a
/// connection with CleanSession=1 as well.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Session {
    subscriptions: BTreeMap<String, u8>,
}

impl Session {
    pub(super) fn holds(&self, filter: &str) -> bool {
        self.subscriptions.contains_key(filter)
    }

    /// The QoS that was granted for a filter.
    pub(super) fn granted(&self, filter: &str) -> Option<u8> {
        self.subscriptions.get(filter).copied()
    }

    pub(super) fn filters(&self) -> Vec<String> {
        self.subscriptions.keys().cloned().collect()
    }
}

impl Hub {
    /// A device has come in. An older connection of the same id goes. Returns the number to say goodbye with, and
    /// whether there was a stored session.
    pub(crate) fn connect(&mut self, id: &str, clean: bool, out: UnboundedSender<Push>) -> (u64, bool) {
        self.cut(id, "a newer connection of the same device");
        if clean || self.faults.fires(id, &FaultKind::ForgetSession) {
            self.sessions.remove(id);
        }
        let session_present = self.sessions.contains_key(id);
        self.sessions.entry(id.to_owned()).or_default();
        self.serial += 1;
        let link = Link { serial: self.serial, clean, out, in_flight: BTreeSet::new(), held: None };
        self.links.insert(id.to_owned(), link);
        self.touch(id);
        self.events.emit(EventKind::Connected { device: id.to_owned(), session_present });
        // What the stored session listens to comes before the client has subscribed again.
        self.deliver_messages(id);
        (self.serial, session_present)
    }

    /// The Plug-and-Play model that an identity named when it came in; none leaves the one before.
    pub(crate) fn note_model(&mut self, id: &str, model: Option<String>) {
        if let (Some(device), Some(model)) = (self.find_mut(id), model) {
            device.model_id = model;
        }
    }

    /// The connection with this number has ended. Nothing if it was cut from here.
    pub(crate) fn disconnect(&mut self, id: &str, serial: u64, why: &str) {
        if self.links.get(id).is_some_and(|link| link.serial == serial) {
            self.unlink(id, why);
        }
    }

    /// Ends the device's connection, if there is one.
    pub(crate) fn cut(&mut self, id: &str, why: &str) -> bool {
        let link = self.unlink(id, why);
        // The other end may have gone by itself in the meantime.
        link.is_some_and(|link| link.out.send(Push::Close).is_ok())
    }

    fn unlink(&mut self, id: &str, why: &str) -> Option<Link> {
        let link = self.links.remove(id)?;
        if link.clean {
            self.sessions.remove(id);
        }
        self.touch(id);
        self.events.emit(EventKind::Disconnected { device: id.to_owned(), why: why.to_owned() });
        Some(link)
    }

    fn touch(&mut self, id: &str) {
        if let Some(device) = self.find_mut(id) {
            device.connection_updated = clock::now();
            device.last_activity = clock::now();
        }
    }

    /// Grants a filter, or not: the hub is no broker and knows only these.
    pub(crate) fn subscribe(&mut self, id: &str, filter: &str, wanted: u8) -> Option<u8> {
        let known = [
            "$iothub/twin/res/#".to_owned(),
            "$iothub/twin/PATCH/properties/desired/#".to_owned(),
            "$iothub/methods/POST/#".to_owned(),
            match id.split_once('/') {
                // Granted, but nothing comes: only an edge runtime routes messages to modules.
                Some((device, module)) => format!("devices/{device}/modules/{module}/inputs/#"),
                None => format!("devices/{id}/messages/devicebound/#"),
            },
        ];
        let session = self.sessions.entry(id.to_owned()).or_default();
        let room = session.holds(filter) || session.subscriptions.len() < SUBSCRIPTION_LIMIT;
        if !room || !known.iter().any(|topic| topic == filter) {
            return None;
        }
        // There is no QoS 2: asked for, it becomes 1.
        let granted = wanted.min(1);
        session.subscriptions.insert(filter.to_owned(), granted);
        self.events.emit(EventKind::Subscribed { device: id.to_owned(), filter: filter.to_owned() });
        self.deliver_messages(id);
        Some(granted)
    }

    pub(crate) fn unsubscribe(&mut self, id: &str, filter: &str) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.subscriptions.remove(filter);
        }
    }

    /// Keeps a message back.
    pub(super) fn hold(&mut self, id: &str, topic: String, payload: Vec<u8>) {
        if let Some(link) = self.links.get_mut(id) {
            link.held = Some((topic, payload));
        }
    }

    /// The message that was kept back, if there is one.
    pub(super) fn held(&mut self, id: &str) -> Option<(String, Vec<u8>)> {
        self.links.get_mut(id).and_then(|link| link.held.take())
    }

    /// The devices that are connected.
    pub(super) fn connected(&self) -> Vec<String> {
        self.links.keys().cloned().collect()
    }

    /// Ends all talk with a device whose connection stays.
    pub(super) fn mute(&self, id: &str) {
        if let Some(link) = self.links.get(id) {
            // It may be on its way out.
            let _ = link.out.send(Push::Mute);
        }
    }

    /// Sends to the device if it is there and has subscribed to `filter`; whether it was.
    pub(crate) fn deliver(&self, id: &str, filter: &str, topic: String, payload: Vec<u8>) -> bool {
        let Some(link) = self.links.get(id) else { return false };
        self.subscribed(id, filter) && link.out.send(Push::Publish { topic, payload }).is_ok()
    }
}
