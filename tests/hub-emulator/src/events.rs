//! What happened, as it happens: for live log lines, for the demo's cloud column, for tests. Not state, which is
//! asked of `hub`. Fed by `hub`, `mqtt`, `rest` and `images`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use crate::clock;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// What.
    pub kind: EventKind,
}

/// What can happen. Serialised with the name in `event`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
#[non_exhaustive]
pub enum EventKind {
    /// A device got its CONNACK 0.
    Connected {
        /// Device id.
        device: String,
        /// A stored session was found and taken up.
        session_present: bool,
    },
    /// A device was turned away.
    Refused {
        /// Device id, as claimed.
        device: String,
        /// Why.
        why: String,
    },
    /// A connection ended.
    Disconnected {
        /// Device id.
        device: String,
        /// Why.
        why: String,
    },
    /// A device subscribed to a topic filter.
    Subscribed {
        /// Device id.
        device: String,
        /// The filter.
        filter: String,
    },
    /// A device asked for its twin.
    TwinRead {
        /// Device id.
        device: String,
    },
    /// A device changed its reported properties.
    Reported {
        /// Device id.
        device: String,
        /// The patch.
        patch: Value,
        /// The version it led to.
        version: u64,
    },
    /// A device's patch of reported properties was refused.
    ReportRefused {
        /// Device id.
        device: String,
        /// Why.
        why: String,
    },
    /// Desired properties changed.
    Desired {
        /// Device id.
        device: String,
        /// The patch.
        patch: Value,
        /// The version it led to.
        version: u64,
        /// Whether a connected device was told.
        notified: bool,
    },
    /// A direct method went to a device.
    MethodCalled {
        /// Device id.
        device: String,
        /// Method name.
        method: String,
        /// Payload.
        payload: Value,
    },
    /// A device answered a direct method.
    MethodAnswered {
        /// Device id.
        device: String,
        /// Its status.
        status: i64,
        /// Its payload.
        payload: Value,
    },
    /// A telemetry message arrived.
    Telemetry {
        /// Device id.
        device: String,
        /// Properties, system ones with their `$.` names.
        properties: Vec<(String, String)>,
        /// The body: JSON if it is, else a text, else base64; null if it is long.
        body: Value,
        /// Length of the body in bytes.
        bytes: usize,
    },
    /// A cloud-to-device message was sent to the device, perhaps not for the first time.
    MessageSent {
        /// Device id.
        device: String,
        /// Message id.
        id: String,
    },
    /// A device acknowledged a cloud-to-device message.
    MessageCompleted {
        /// Device id.
        device: String,
        /// Message id.
        id: String,
    },
    /// A cloud-to-device message expired or was sent too often.
    MessageDropped {
        /// Device id.
        device: String,
        /// Message id.
        id: String,
    },
    /// A device asked the provisioning service to be registered.
    Registered {
        /// Registration id.
        registration: String,
        /// The device it became; empty if it became none.
        device: String,
        /// `assigned`, `disabled`, `failed`, `unassigned` or `refused with ` and the HTTP status.
        status: String,
    },
    /// A device was created in the registry.
    DeviceCreated {
        /// Device id.
        device: String,
    },
    /// A device was deleted from the registry.
    DeviceDeleted {
        /// Device id.
        device: String,
    },
    /// A configuration was created, changed or deleted.
    Configuration {
        /// Its id.
        id: String,
        /// `created`, `changed` or `deleted`.
        what: String,
    },
    /// A configuration became Applied, Targeted or nothing (empty) on a device.
    ConfigurationStatus {
        /// Configuration id.
        id: String,
        /// Device id.
        device: String,
        /// `Applied`, `Targeted` or empty when the device is no longer targeted.
        status: String,
    },
    /// A scheduled job has another status.
    Job {
        /// Its id.
        id: String,
        /// `queued`, `scheduled`, `enqueued`, `running`, `completed`, `failed` or `cancelled`.
        status: String,
        /// Of one that has ended: how.
        why: Option<String>,
    },
    /// A scheduled job has got on with one device.
    JobDevice {
        /// The job's id.
        id: String,
        /// Device id.
        device: String,
        /// `running`, `completed`, `failed` or `canceled`.
        status: String,
        /// Of one that failed: why.
        why: Option<String>,
    },
    /// The image server answered a request; the body is still to come.
    ImageRequested {
        /// Path of the request.
        path: String,
        /// The Range header, if any.
        range: Option<String>,
        /// HTTP status.
        status: u16,
    },
    /// The image server ended a response.
    ImageSent {
        /// Path of the request.
        path: String,
        /// Bytes of body handed to the connection.
        bytes: u64,
        /// Whether that was the whole body.
        complete: bool,
    },
    /// A fault switch did its work.
    FaultFired {
        /// The name of the fault.
        fault: String,
        /// The device id or the image path it hit.
        target: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", clock::time_of_day(self.at), self.kind)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { device, session_present } => {
                let session = if *session_present { "stored" } else { "new" };
                write!(f, "{device}  connected ({session} session)")
            }
            Self::Refused { device, why } => write!(f, "{device}  REFUSED: {why}"),
            Self::Disconnected { device, why } => write!(f, "{device}  disconnected: {why}"),
            Self::Subscribed { device, filter } => write!(f, "{device}  subscribed {filter}"),
            Self::TwinRead { device } => write!(f, "{device}  read its twin"),
            Self::Reported { device, patch, version } => write!(f, "{device}  reported v{version} {patch}"),
            Self::ReportRefused { device, why } => write!(f, "{device}  report REFUSED: {why}"),
            Self::Desired { device, patch, version, notified } => {
                let told = if *notified { "told" } else { "not told" };
                write!(f, "{device}  desired v{version} ({told}) {patch}")
            }
            Self::MethodCalled { device, method, payload } => {
                write!(f, "{device}  method {method} {payload}")
            }
            Self::MethodAnswered { device, status, payload } => {
                write!(f, "{device}  method answered {status} {payload}")
            }
            Self::Telemetry { device, bytes, .. } => write!(f, "{device}  telemetry, {bytes} bytes"),
            Self::MessageSent { device, id } => write!(f, "{device}  message {id} sent"),
            Self::MessageCompleted { device, id } => write!(f, "{device}  message {id} completed"),
            Self::MessageDropped { device, id } => write!(f, "{device}  message {id} DROPPED"),
            Self::Registered { registration, device, status } => {
                write!(f, "{registration}  registration {status} {device}")
            }
            Self::DeviceCreated { device } => write!(f, "{device}  created"),
            Self::DeviceDeleted { device } => write!(f, "{device}  deleted"),
            Self::Configuration { id, what } => write!(f, "configuration {id} {what}"),
            Self::ConfigurationStatus { id, device, status } => {
                let status = if status.is_empty() { "no longer targeted" } else { status };
                write!(f, "{device}  configuration {id}: {status}")
            }
            Self::Job { id, status, why } => write!(f, "job {id}  {status}{}", reason(why)),
            Self::JobDevice { id, device, status, why } => {
                write!(f, "{device}  job {id}: {status}{}", reason(why))
            }
            Self::ImageRequested { path, range, status } => match range {
                Some(range) => write!(f, "image {path} {range} -> {status}"),
                None => write!(f, "image {path} -> {status}"),
            },
            Self::ImageSent { path, bytes, complete } => {
                let how = if *complete { "all sent" } else { "CUT SHORT" };
                write!(f, "image {path} {bytes} bytes, {how}")
            }
            Self::FaultFired { fault, target } => write!(f, "fault {fault} hit {target}"),
        }
    }
}

fn reason(why: &Option<String>) -> String {
    why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
}

impl EventKind {
    /// The device that it befell, if it was one.
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Connected { device, .. }
            | Self::Refused { device, .. }
            | Self::Disconnected { device, .. }
            | Self::Subscribed { device, .. }
            | Self::TwinRead { device }
            | Self::Reported { device, .. }
            | Self::ReportRefused { device, .. }
            | Self::Desired { device, .. }
            | Self::MethodCalled { device, .. }
            | Self::MethodAnswered { device, .. }
            | Self::Telemetry { device, .. }
            | Self::MessageSent { device, .. }
            | Self::MessageCompleted { device, .. }
            | Self::MessageDropped { device, .. }
            | Self::DeviceCreated { device }
            | Self::DeviceDeleted { device }
            | Self::ConfigurationStatus { device, .. }
            | Self::JobDevice { device, .. } => Some(device),
            Self::Registered { registration, .. } => Some(registration),
            Self::FaultFired { target, .. } => Some(target),
            Self::Configuration { .. }
            | Self::Job { .. }
            | Self::ImageRequested { .. }
            | Self::ImageSent { .. } => None,
        }
    }
}

/// How many of the latest events are kept for those who come later.
const KEPT: usize = 500;

/// Hands events to everyone who listens, and keeps the latest.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    listeners: Vec<Sender<Event>>,
    latest: VecDeque<Event>,
    /// How many there were in all; the number of the last one.
    count: u64,
}

impl Events {
    pub(crate) fn subscribe(&self) -> Receiver<Event> {
        let (sender, receiver) = channel();
        self.told().listeners.push(sender);
        receiver
    }

    pub(crate) fn emit(&self, kind: EventKind) {
        let event = Event { at: SystemTime::now(), kind };
        let mut told = self.told();
        // A listener that is gone is forgotten.
        told.listeners.retain(|listener| listener.send(event.clone()).is_ok());
        if told.latest.len() == KEPT {
            told.latest.pop_front();
        }
        told.latest.push_back(event);
        told.count += 1;
    }

    /// The number of the last event, and those after number `after` that are still kept. A number that is yet to come
    /// is one of another emulator before this one: then all are news.
    pub(crate) fn since(&self, after: u64) -> (u64, Vec<Event>) {
        let told = self.told();
        let news = told.count.checked_sub(after).unwrap_or(told.count);
        let kept = told.latest.len();
        let news = usize::try_from(news).unwrap_or(kept).min(kept);
        (told.count, told.latest.iter().skip(kept - news).cloned().collect())
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_events_are_kept_with_their_numbers() {
        let events = Events::default();
        let device = |number: usize| EventKind::TwinRead { device: number.to_string() };
        for number in 1..=KEPT + 7 {
            events.emit(device(number));
        }
        let last = (KEPT + 7) as u64;
        assert_eq!(events.since(last), (last, vec![]));
        let (count, two) = events.since(last - 2);
        let kinds: Vec<_> = two.into_iter().map(|event| event.kind).collect();
        assert_eq!((count, kinds), (last, vec![device(KEPT + 6), device(KEPT + 7)]));
        assert_eq!(events.since(0).1.len(), KEPT);
        assert_eq!(events.since(last + 1).1.len(), KEPT);
    }
}
