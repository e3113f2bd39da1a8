//! Direct methods: handing a call to the device and its answer to the caller. Not the waiting, which is `shared`.

use serde_json::Value;
use tokio::sync::oneshot;

use super::Hub;
use super::call::check_name;
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::faults::FaultKind;

const FILTER: &str = "$iothub/methods/POST/#";
/// Most bytes of payload, either way.
const PAYLOAD_LIMIT: usize = 128 * 1024;

/// The device's own status and payload, or what was wrong with its answer.
pub(crate) type Answer = Result<(i64, Value), Error>;

impl Hub {
    /// Whether a call would reach the device now.
    pub(crate) fn takes_methods(&self, id: &str) -> bool {
        self.device_connected(id) && self.subscribed(id, FILTER)
    }

    /// Sends a call. The answer comes through the receiver; `forget_call` when nobody waits any more.
    pub(crate) fn call(
        &mut self,
        id: &str,
        method: &str,
        payload: Value,
    ) -> Result<(String, oneshot::Receiver<Answer>), Error> {
        self.device(id)?;
        check_name(method)?;
        let body = payload.to_string().into_bytes();
        if body.len() > PAYLOAD_LIMIT {
            return Err(Error::new(Code::MessageTooLarge, "the payload is larger than 128 KiB"));
        }
        let refused =
            |kind: &FaultKind| if let FaultKind::FailMethod { status } = kind { Some(*status) } else { None };
        if let Some(status) = self.faults.take(id, refused) {
            return Err(Error::new(Code::from_status(status), "fault: method calls fail"));
        }
        self.serial += 1;
        // A lower-case hexadecimal counter, as the hub's own.
        let rid = format!("{:x}", self.serial);
        let topic = format!("$iothub/methods/POST/{method}/?$rid={rid}");
        let lost = self.takes_methods(id) && self.faults.fires(id, &FaultKind::LoseMethodCall);
        if !lost && !self.deliver(id, FILTER, topic, body) {
            return Err(Error::new(
                Code::DeviceNotOnline,
                format!("{id} is not there to take a method call"),
            ));
        }
        let (device, method) = (id.to_owned(), method.to_owned());
        self.events.emit(EventKind::MethodCalled { device, method, payload });
        let (sender, receiver) = oneshot::channel();
        self.calls.insert((id.to_owned(), rid.clone()), sender);
        Ok((rid, receiver))
    }

    /// The device's answer. One that nobody waits for is dropped, as the hub does.
    pub(crate) fn answer(&mut self, id: &str, rid: &str, status: i64, payload: &[u8]) {
        let answer = read(payload).map(|payload| (status, payload));
        if let Ok((status, payload)) = &answer {
            let (device, status, payload) = (id.to_owned(), *status, payload.clone());
            self.events.emit(EventKind::MethodAnswered { device, status, payload });
        }
        if self.faults.fires(id, &FaultKind::LoseMethodAnswer) {
            return;
        }
        if let Some(caller) = self.calls.remove(&(id.to_owned(), rid.to_owned())) {
            // The caller may have given up.
            let _ = caller.send(answer);
        }
    }

    pub(crate) fn forget_call(&mut self, id: &str, rid: &str) {
        self.calls.remove(&(id.to_owned(), rid.to_owned()));
    }
}

fn read(payload: &[u8]) -> Result<Value, Error> {
    if payload.len() > PAYLOAD_LIMIT {
        return Err(Error::new(Code::BadDeviceResponse, "the device's answer is larger than 128 KiB"));
    }
    if payload.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(payload).map_err(|error| {
        Error::new(Code::BadDeviceResponse, format!("the device's answer is no JSON: {error}"))
    })
}
