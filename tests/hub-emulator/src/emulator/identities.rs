//! The part of the handle that concerns who devices are: certificates and enrolments.

use serde_json::{Value, json};

use super::Emulator;
use crate::certificates;
use crate::error::Error;

impl Emulator {
    /// Creates a device that proves itself with a client certificate and returns its connection string. With
    /// thumbprints, at most two, of SHA-1 or SHA-256 in hexadecimal digits, it must be one of these; without, it must
    /// be signed by an authority of [`add_ca`](Self::add_ca) and have the device id as its common name.
    ///
    /// # Errors
    /// If there is a device by this id, or it, a thumbprint or the tags cannot be.
    pub fn create_x509_device(&self, id: &str, thumbprints: &[&str], tags: Value) -> Result<String, Error> {
        let authentication = if thumbprints.is_empty() {
            json!({"type": "certificateAuthority"})
        } else {
            let [primary, secondary] = [thumbprints.first(), thumbprints.get(1)];
            let both = json!({"primaryThumbprint": primary, "secondaryThumbprint": secondary});
            json!({"type": "selfSigned", "x509Thumbprint": both})
        };
        self.shared.with(|hub| {
            hub.put_identity(id, &json!({ "authentication": authentication }), None)?;
            hub.update_twin(id, &json!({ "tags": tags }), false, None)
        })?;
        self.device_connection_string(id)
    }

    /// Registers the authorities in a PEM text: their signature on a device's certificate counts.
    ///
    /// # Errors
    /// If the text holds none, or there are more than 25.
    pub fn add_ca(&self, pem: &str) -> Result<(), Error> {
        self.shared.with(|hub| hub.authorities.add(pem)).map(|_| ())
    }

    /// The SHA-256 thumbprint of the first certificate in a PEM text, as the registry keeps it.
    ///
    /// # Errors
    /// If there is none.
    pub fn thumbprint(pem: &str) -> Result<String, Error> {
        let [_, thumbprint] = certificates::thumbprints(&certificates::read(pem)?[0]);
        Ok(thumbprint)
    }

    /// The id scope of the provisioning service.
    pub fn id_scope(&self) -> String {
        self.shared.read(|hub| hub.provisioning.id_scope.clone())
    }

    /// Enrols one device. The body is that of the service's REST API (`IndividualEnrollment`); all but
    /// `registrationId` may be left out and is then a symmetric key, which is in the document that comes back.
    ///
    /// # Errors
    /// If something in the body cannot be.
    pub fn create_enrollment(&self, body: Value) -> Result<Value, Error> {
        self.enroll("registrationId", false, &body)
    }

    /// Enrols a group of devices: `EnrollmentGroup`, of which all but `enrollmentGroupId` may be left out.
    ///
    /// # Errors
    /// If something in the body cannot be.
    pub fn create_enrollment_group(&self, body: Value) -> Result<Value, Error> {
        self.enroll("enrollmentGroupId", true, &body)
    }

    fn enroll(&self, name: &str, group: bool, body: &Value) -> Result<Value, Error> {
        let id = body.get(name).and_then(Value::as_str).unwrap_or_default();
        self.shared.with(|hub| hub.provisioning.enroll(id, group, body))
    }

    /// Deletes the enrolment of one device; the device itself stays.
    ///
    /// # Errors
    /// If there is none.
    pub fn delete_enrollment(&self, id: &str) -> Result<(), Error> {
        self.shared.with(|hub| hub.provisioning.unenroll(id, false))
    }

    /// Sets what the body names: `polls` (how many are answered with "assigning"), `retryAfter` (seconds between
    /// them), `assignedHub` (a host name; null is this hub, with its port if that is not the usual one).
    ///
    /// # Errors
    /// If a value cannot be.
    pub fn configure_provisioning(&self, body: &Value) -> Result<(), Error> {
        self.shared.with(|hub| hub.provisioning.configure(body))
    }

    /// Settings, enrolments and registrations, as `GET /emulator/provisioning` shows them.
    pub fn provisioning(&self) -> Value {
        self.shared.read(|hub| hub.provisioning.document())
    }
}
