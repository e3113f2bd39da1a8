//! Registering devices: what an enrolment promises becomes a device of this hub. Not the enrolments and operations
//! themselves, which are `provisioning`.

use serde_json::{Value, json};

use super::Hub;
use crate::clock;
use crate::error::Error;
use crate::events::EventKind;
use crate::faults::FaultKind;
use crate::provisioning::{Answer, Credentials, Enrollment, Outcome, Proof, Refusal, Registration};

const INITIAL: &str = "initialAssignment";

impl Hub {
    /// A device's request to be registered. `here` is this hub by the door that the device came in through.
    pub(crate) fn register(
        &mut self,
        scope: &str,
        id: &str,
        credentials: &Credentials,
        here: &str,
        body: &Value,
    ) -> Result<Answer, Refusal> {
        let refused = self.faulted(id).map_or(Ok(()), Err);
        let outcome = refused.and_then(|()| self.try_register(scope, id, credentials, here, body));
        let (status, device) = match (&outcome, self.provisioning.registrations.get(&id.to_ascii_lowercase()))
        {
            (Ok(_), Some(registration)) => (registration.status.clone(), registration.device.clone()),
            (Ok(_), None) => (String::new(), String::new()),
            (Err(refusal), _) => (format!("refused with {}", refusal.status), String::new()),
        };
        self.events.emit(EventKind::Registered { registration: id.to_owned(), device, status });
        outcome
    }

    /// A device's question how its registration fares.
    pub(crate) fn registration_status(
        &mut self,
        scope: &str,
        id: &str,
        credentials: &Credentials,
        operation: &str,
    ) -> Result<Answer, Refusal> {
        if let Some(refusal) = self.faulted(id) {
            return Err(refusal);
        }
        self.provisioning.attest(scope, id, credentials)?;
        self.provisioning.poll(id, operation)
    }

    fn faulted(&self, id: &str) -> Option<Refusal> {
        let failing = |kind: &FaultKind| {
            if let FaultKind::FailRegistration { status, retry_after } = kind {
                Some(Refusal::fault(*status, *retry_after))
            } else {
                None
            }
        };
        self.faults.take(id, failing)
    }

    fn try_register(
        &mut self,
        scope: &str,
        id: &str,
        credentials: &Credentials,
        here: &str,
        body: &Value,
    ) -> Result<Answer, Refusal> {
        let (enrollment, proof) = self.provisioning.attest(scope, id, credentials)?;
        let enrollment = enrollment.clone();
        let named = body.get("registrationId").and_then(Value::as_str);
        if named.is_some_and(|named| !named.eq_ignore_ascii_case(id)) {
            return Err(Refusal::invalid(
                "the registrationId of the body is not that of the user name".into(),
            ));
        }
        let before = self.provisioning.registrations.get(&id.to_ascii_lowercase()).cloned();
        let mut next = Registration {
            id: id.to_owned(),
            device: String::new(),
            hub: String::new(),
            status: "assigned".to_owned(),
            substatus: String::new(),
            error: None,
            payload: Value::Null,
            created: before.as_ref().map_or_else(clock::now, |before| before.created.clone()),
            updated: clock::now(),
            count: before.as_ref().map_or(1, |before| before.count + 1),
        };
        match (enrollment.enabled, enrollment.outcome) {
            (false, _) => next.status = "disabled".to_owned(),
            (true, Some(Outcome::Unassigned)) => next.status = "unassigned".to_owned(),
            (true, Some(Outcome::Failed)) => fail(&mut next, "the enrolment is set to fail".to_owned()),
            (true, None) => {
                if let Err(error) = self.assign(&mut next, &enrollment, &proof, before.as_ref(), here) {
                    fail(&mut next, error.message);
                }
            }
        }
        Ok(self.provisioning.begin(next))
    }

    fn assign(
        &mut self,
        next: &mut Registration,
        enrollment: &Enrollment,
        proof: &Proof,
        before: Option<&Registration>,
        here: &str,
    ) -> Result<(), Error> {
        let before = before.filter(|before| !before.hub.is_empty());
        let wanted = enrollment.hub.as_ref().or(self.provisioning.hub.as_ref());
        (next.hub, next.substatus) = match (before, wanted) {
            // By another door it is still the same hub.
            (before, None) => (
                here.to_owned(),
                before.map_or_else(|| INITIAL.to_owned(), |before| before.substatus.clone()),
            ),
            (None, Some(wanted)) => (wanted.clone(), INITIAL.to_owned()),
            (Some(before), Some(wanted)) if before.hub == *wanted || !enrollment.reassign => {
                (before.hub.clone(), before.substatus.clone())
            }
            (Some(_), Some(wanted)) if enrollment.migrate => {
                (wanted.clone(), "deviceDataMigrated".to_owned())
            }
            (Some(_), Some(wanted)) => (wanted.clone(), "deviceDataReset".to_owned()),
        };
        let moved_without_data = before.is_some_and(|before| before.hub != next.hub) && !enrollment.migrate;
        next.device = enrollment.device.clone().unwrap_or_else(|| next.id.clone());
        next.payload = enrollment.payload.clone();
        let authentication = match proof {
            Proof::Keys([primary, secondary]) => {
                json!({"type": "sas", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}})
            }
            Proof::Thumbprint(thumbprint) => {
                json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": thumbprint}})
            }
        };
        if moved_without_data && self.devices.contains_key(&next.device) {
            self.delete_identity(&next.device, None)?;
        }
        let mut body = json!({"deviceId": next.device, "authentication": authentication});
        if let Some(device) = self.devices.get(&next.device) {
            body["status"] = json!(if device.enabled { "enabled" } else { "disabled" });
            self.put_identity(&next.device, &body, Some("\"*\""))?;
            return Ok(());
        }
        self.put_identity(&next.device, &body, None)?;
        if enrollment.initial_twin.is_object() {
            self.update_twin(&next.device, &enrollment.initial_twin, true, None)?;
        }
        Ok(())
    }
}

fn fail(registration: &mut Registration, why: String) {
    registration.status = "failed".to_owned();
    (registration.hub, registration.substatus, registration.device) = Default::default();
    registration.error = Some(why);
}
