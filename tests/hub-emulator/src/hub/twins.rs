//! Changing twins, from either side, and telling the device. Not the rules of merging (`twin`).

use serde_json::{Map, Value, json};

use super::Hub;
use crate::clock;
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::faults::FaultKind;
use crate::registry::{Device, check_etag};
use crate::twin;

const DESIRED_FILTER: &str = "$iothub/twin/PATCH/properties/desired/#";

impl Hub {
    /// The service's PATCH (merge) or PUT (replace what is named) of tags and desired properties: all or nothing.
    pub(crate) fn update_twin(
        &mut self,
        id: &str,
        body: &Value,
        replace: bool,
        if_match: Option<&str>,
    ) -> Result<Value, Error> {
        let mut device = self.device(id)?.clone();
        check_etag(if_match, &device.twin_etag())?;
        if !body.is_object() {
            return Err(Error::invalid(
                "the body is not {\"tags\": {…}, \"properties\": {\"desired\": {…}}}",
            ));
        }
        let before = device.twin_etag();
        let desired = apply(&mut device, body, replace)?;
        if device.twin_etag() == before {
            return Ok(self.twin(id));
        }
        self.store(device);
        if let Some(patch) = desired {
            self.tell_desired(id, patch);
        }
        self.settle(id);
        Ok(self.twin(id))
    }

    /// A configuration's patch of desired properties, which asks nobody.
    pub(crate) fn patch_desired(&mut self, id: &str, patch: Map<String, Value>) -> Result<(), Error> {
        let device = self.device_mut(id)?;
        device.desired.merge(&patch)?;
        device.twin_changed();
        self.tell_desired(id, patch);
        Ok(())
    }

    /// The device's GET.
    pub(crate) fn twin_for_device(&self, id: &str) -> Result<Value, Error> {
        let device = self.device(id)?;
        self.events.emit(EventKind::TwinRead { device: id.to_owned() });
        Ok(json!({"desired": device.desired.for_device(), "reported": device.reported.for_device()}))
    }

    /// The device's PATCH of reported properties; the new version.
    pub(crate) fn report(&mut self, id: &str, payload: &[u8], expected: Option<u64>) -> Result<u64, Error> {
        let outcome = self.try_report(id, payload, expected);
        match &outcome {
            Ok((version, patch)) => {
                let (device, patch) = (id.to_owned(), Value::Object(patch.clone()));
                self.events.emit(EventKind::Reported { device, patch, version: *version });
                self.settle(id);
            }
            Err(error) => {
                let (device, why) = (id.to_owned(), error.to_string());
                self.events.emit(EventKind::ReportRefused { device, why });
            }
        }
        outcome.map(|(version, _)| version)
    }

    fn try_report(
        &mut self,
        id: &str,
        payload: &[u8],
        expected: Option<u64>,
    ) -> Result<(u64, Map<String, Value>), Error> {
        let patch = serde_json::from_slice(payload)
            .map_err(|error| Error::invalid(format!("the patch is not a JSON object: {error}")))?;
        let device = self.device_mut(id)?;
        let present = device.reported.version();
        if expected.is_some_and(|expected| expected != present) {
            let why = format!("the reported properties are at version {present}");
            return Err(Error::new(Code::PreconditionFailed, why));
        }
        device.reported.merge(&patch)?;
        device.twin_changed();
        device.last_activity = clock::now();
        Ok((device.reported.version(), patch))
    }

    /// Tells a connected device. Nothing is kept for one that is away: it must read its twin when it comes back.
    fn tell_desired(&mut self, id: &str, patch: Map<String, Value>) {
        let Some(version) = self.find(id).map(|device| device.desired.version()) else { return };
        let topic = format!("$iothub/twin/PATCH/properties/desired/?$version={version}");
        let mut body = patch.clone();
        body.insert("$version".to_owned(), json!(version));
        let body = Value::Object(body).to_string().into_bytes();
        let listens = self.device_connected(id) && self.subscribed(id, DESIRED_FILTER);
        let lost = listens && self.faults.fires(id, &FaultKind::LoseDesired);
        let held = self.held(id);
        // One at a time waits for the next one.
        let waits = listens && !lost && held.is_none() && self.faults.fires(id, &FaultKind::ReorderDesired);
        if waits {
            self.hold(id, topic.clone(), body.clone());
        }
        let notified = !lost && !waits && self.deliver(id, DESIRED_FILTER, topic.clone(), body.clone());
        if notified && self.faults.fires(id, &FaultKind::DuplicateDesired) {
            self.deliver(id, DESIRED_FILTER, topic, body);
        }
        if let Some((topic, body)) = held {
            self.deliver(id, DESIRED_FILTER, topic, body);
        }
        let patch = Value::Object(patch);
        self.events.emit(EventKind::Desired { device: id.to_owned(), patch, version, notified });
    }
}

/// Changes a twin as a PATCH (merge) or a PUT (replace what is named) wants it; the change of desired properties that
/// its device is to be told. After an error the device is to be thrown away: some of it may have changed.
pub(crate) fn apply(
    device: &mut Device,
    body: &Value,
    replace: bool,
) -> Result<Option<Map<String, Value>>, Error> {
    let tags = section(body.get("tags"), "tags")?;
    let changes_tags = tags.is_some();
    if let Some(tags) = tags {
        if replace {
            device.tags.clear();
        }
        twin::merge_tags(&mut device.tags, &tags)?;
    }
    let desired = section(body.pointer("/properties/desired"), "properties.desired")?;
    let desired = desired.filter(|patch| replace || !patch.is_empty());
    if let Some(patch) = &desired {
        if replace {
            device.desired.replace(patch)?;
        } else {
            device.desired.merge(patch)?;
        }
    }
    // What names nothing changes nothing.
    if changes_tags || desired.is_some() {
        device.twin_changed();
    }
    Ok(desired)
}

/// A section of a request's body: absent and null are nothing, anything but an object is an error.
fn section(value: Option<&Value>, name: &str) -> Result<Option<Map<String, Value>>, Error> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(section)) => Ok(Some(twin::without_system_keys(section))),
        Some(_) => Err(Error::invalid(format!("{name} is not an object"))),
    }
}
