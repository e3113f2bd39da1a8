//! The Device Provisioning Service that belongs to the hub: its settings, its enrolments and who has registered. Not
//! the transports (`mqtt`, `rest`) and not the devices that assignments create (`hub`).
//!
//! Source: "Communicate with your DPS using the MQTT protocol", "Reprovision devices", and the service REST
//! reference for the documents.

mod enrollment;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::certificates::Peer;
use crate::error::{Code, Error};
use crate::sas::Token;
use crate::{clock, random};

pub(crate) use enrollment::{Enrollment, Outcome, Proof};

/// The id scope unless another is asked for.
pub(crate) const ID_SCOPE: &str = "0ne00000001";
/// Operations beyond these are forgotten, oldest first.
const OPERATIONS: usize = 1000;

/// What a device shows of itself when it registers.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) token: Option<Token>,
    pub(crate) peer: Peer,
}

/// Why a registration is refused: HTTP status, the service's code, and words. The service's own codes differ from
/// the hub's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    code: u32,
    message: String,
    /// Seconds after which another try is welcome.
    pub(crate) retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn unauthorized() -> Refusal {
        // No more is said to somebody who is not known.
        Refusal { status: 401, code: 401_002, message: "Unauthorized".to_owned(), retry_after: None }
    }

    pub(crate) fn not_found(message: &str) -> Refusal {
        Refusal { status: 404, code: 404_203, message: message.to_owned(), retry_after: None }
    }

    pub(crate) fn invalid(message: String) -> Refusal {
        Refusal { status: 400, code: 400_004, message, retry_after: None }
    }

    /// What a fault switch asks for.
    pub(crate) fn fault(status: u16, retry_after: Option<u64>) -> Refusal {
        let message = "fault: registrations fail".to_owned();
        Refusal { status, code: u32::from(status) * 1000 + 1, message, retry_after }
    }

    pub(crate) fn body(&self) -> Value {
        json!({
            "errorCode": self.code,
            "trackingId": random::token(16),
            "message": self.message,
            "timestampUtc": clock::now(),
        })
    }
}

/// What a device that registers or asks is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// Come again after so many seconds.
    Wait {
        body: Value,
        retry_after: u64,
    },
    Done {
        body: Value,
    },
}

/// A registration that took place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) id: String,
    pub(crate) device: String,
    pub(crate) hub: String,
    pub(crate) status: String,
    pub(crate) substatus: String,
    pub(crate) error: Option<String>,
    pub(crate) payload: Value,
    pub(crate) created: String,
    pub(crate) updated: String,
    /// How often it took place.
    pub(crate) count: u64,
}

impl Registration {
    /// As the device and the service see it.
    pub(crate) fn document(&self) -> Value {
        let mut document = json!({
            "registrationId": self.id,
            "createdDateTimeUtc": self.created,
            "lastUpdatedDateTimeUtc": self.updated,
            "status": self.status,
            "etag": format!("{:016x}", self.count),
        });
        let known = [("assignedHub", &self.hub), ("deviceId", &self.device), ("substatus", &self.substatus)];
        for (name, value) in known {
            if !value.is_empty() {
                document[name] = json!(value);
            }
        }
        if let Some(error) = &self.error {
            document["errorCode"] = json!(400_209);
            document["errorMessage"] = json!(error);
        }
        if !self.payload.is_null() {
            document["payload"] = self.payload.clone();
        }
        document
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Operation {
    id: String,
    /// The key of the registration.
    registration: String,
    polls_left: u32,
}

/// The service's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Provisioning {
    pub(crate) id_scope: String,
    /// How many polls are answered with "assigning" before the outcome is told.
    pub(crate) polls: u32,
    /// Seconds between polls.
    pub(crate) retry_after: u64,
    /// The hub that devices are sent to; none is this one, by the port that they came in through.
    pub(crate) hub: Option<String>,
    /// By registration id in lower case: case does not matter there.
    pub(crate) enrollments: BTreeMap<String, Enrollment>,
    pub(crate) groups: BTreeMap<String, Enrollment>,
    pub(crate) registrations: BTreeMap<String, Registration>,
    operations: Vec<Operation>,
}

impl Provisioning {
    pub(crate) fn new(id_scope: &str) -> Provisioning {
        Provisioning {
            id_scope: id_scope.to_owned(),
            polls: 1,
            retry_after: 1,
            hub: None,
            enrollments: BTreeMap::new(),
            groups: BTreeMap::new(),
            registrations: BTreeMap::new(),
            operations: Vec::new(),
        }
    }

    /// Takes over what a body names: `polls`, `retryAfter`, `assignedHub` (null is this hub).
    pub(crate) fn configure(&mut self, body: &Value) -> Result<(), Error> {
        let number = |name: &str, present: u64| match body.get(name) {
            None => Ok(present),
            Some(value) => value.as_u64().ok_or_else(|| Error::invalid(format!("{name} is not a count"))),
        };
        let polls = number("polls", u64::from(self.polls))?;
        let polls = u32::try_from(polls).map_err(|_| Error::invalid("so many polls nobody waits for"))?;
        let retry_after = number("retryAfter", self.retry_after)?;
        let hub = match body.get("assignedHub") {
            None => self.hub.clone(),
            Some(Value::Null) => None,
            Some(Value::String(host)) => Some(host.clone()),
            Some(_) => return Err(Error::invalid("assignedHub is not a host name")),
        };
        (self.polls, self.retry_after, self.hub) = (polls, retry_after, hub);
        Ok(())
    }

    /// Creates or changes an enrolment; its document, keys included.
    pub(crate) fn enroll(&mut self, id: &str, group: bool, body: &Value) -> Result<Value, Error> {
        let list = self.list(group);
        let key = key_of(id, group);
        let enrollment = Enrollment::read(id, group, body, list.get(&key))?;
        let document = enrollment.document();
        list.insert(key, enrollment);
        Ok(document)
    }

    /// Forgets an enrolment and, if it is of one device, the device's registration; the device itself stays.
    pub(crate) fn unenroll(&mut self, id: &str, group: bool) -> Result<(), Error> {
        let key = key_of(id, group);
        self.list(group).remove(&key).ok_or_else(|| no_enrollment(id))?;
        if !group {
            self.registrations.remove(&key);
        }
        Ok(())
    }

    /// The document of one enrolment.
    pub(crate) fn enrollment(&self, id: &str, group: bool) -> Result<Value, Error> {
        let list = if group { &self.groups } else { &self.enrollments };
        list.get(&key_of(id, group)).map(Enrollment::document).ok_or_else(|| no_enrollment(id))
    }

    fn list(&mut self, group: bool) -> &mut BTreeMap<String, Enrollment> {
        if group { &mut self.groups } else { &mut self.enrollments }
    }

    /// Everything, for people and for the service's doors.
    pub(crate) fn document(&self) -> Value {
        let list = |all: &BTreeMap<String, Enrollment>| -> Vec<Value> {
            all.values().map(Enrollment::document).collect()
        };
        let registrations: Vec<Value> = self.registrations.values().map(Registration::document).collect();
        json!({
            "idScope": self.id_scope,
            "polls": self.polls,
            "retryAfter": self.retry_after,
            "assignedHub": self.hub,
            "enrollments": list(&self.enrollments),
            "enrollmentGroups": list(&self.groups),
            "registrations": registrations,
        })
    }

    /// The enrolment that the credentials belong to and what proves it. An individual enrolment stands before every
    /// group, even one that is disabled.
    pub(crate) fn attest(
        &self,
        scope: &str,
        id: &str,
        credentials: &Credentials,
    ) -> Result<(&Enrollment, Proof), Refusal> {
        check_id(id).map_err(Refusal::invalid)?;
        if scope != self.id_scope {
            return Err(Refusal::not_found("there is no such id scope"));
        }
        let found = match self.enrollments.get(&id.to_ascii_lowercase()) {
            Some(individual) => individual.prove(id, credentials).map(|proof| (individual, proof)),
            None => self
                .groups
                .values()
                .find_map(|group| group.prove_member(id, credentials).map(|proof| (group, proof))),
        };
        found.ok_or_else(Refusal::unauthorized)
    }

    /// Notes a registration and starts the operation that tells its outcome.
    pub(crate) fn begin(&mut self, registration: Registration) -> Answer {
        let key = registration.id.to_ascii_lowercase();
        let id = format!("5.{}.{}", random::token(8).to_lowercase(), random::token(16).to_lowercase());
        self.registrations.insert(key.clone(), registration);
        if self.operations.len() >= OPERATIONS {
            self.operations.remove(0);
        }
        self.operations.push(Operation { id: id.clone(), registration: key, polls_left: self.polls });
        self.assigning(&id)
    }

    /// A poll. Only the device that began the operation may ask.
    pub(crate) fn poll(&mut self, registration: &str, operation: &str) -> Result<Answer, Refusal> {
        let key = registration.to_ascii_lowercase();
        let mine = |one: &&mut Operation| one.id == operation && one.registration == key;
        let unknown = || Refusal::not_found("Operation not found.");
        let found = self.operations.iter_mut().find(mine).ok_or_else(unknown)?;
        if found.polls_left > 0 {
            found.polls_left -= 1;
            return Ok(self.assigning(operation));
        }
        let registration = self.registrations.get(&key).ok_or_else(unknown)?;
        let body = json!({
            "operationId": operation,
            "status": registration.status,
            "registrationState": registration.document(),
        });
        Ok(Answer::Done { body })
    }

    fn assigning(&self, operation: &str) -> Answer {
        let body = json!({"operationId": operation, "status": "assigning"});
        Answer::Wait { body, retry_after: self.retry_after }
    }
}

/// Case does not matter in registration ids, and does in the names of groups.
fn key_of(id: &str, group: bool) -> String {
    if group { id.to_owned() } else { id.to_ascii_lowercase() }
}

fn no_enrollment(id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no enrolment {id}"))
}

/// Alphanumeric and `-._:`, the last one alphanumeric or `-`, 128 at most.
pub(crate) fn check_id(id: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    let ends_well = id.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    if id.len() <= 128 && ends_well && id.chars().all(allowed) {
        return Ok(());
    }
    Err(format!("{id:?} cannot be a registration id"))
}

#[cfg(test)]
mod tests;
