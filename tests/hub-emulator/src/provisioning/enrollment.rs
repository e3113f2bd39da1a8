//! An enrolment: which device, or group of devices, may register, what proves it, and what it gets. Not the list of
//! them (`provisioning`). The documents are those of the service REST reference, `IndividualEnrollment` and
//! `EnrollmentGroup`, with one member of our own, `outcome`, for results that cannot be had otherwise.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Credentials, check_id};
use crate::certificates::{self, Authorities};
use crate::error::Error;
use crate::{random, sas};

/// How a device, or each device of a group, proves itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Attestation {
    /// Two keys, of which the device, or the group's owner, has one.
    SymmetricKey([String; 2]),
    /// SHA-256 of the device's own certificates, primary and secondary.
    Certificate(Vec<String>),
    /// A group's: authorities that sign its devices' certificates.
    Authority(Authorities),
}

/// An outcome other than assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    Failed,
    Unassigned,
}

/// What the hub is to know a registered device by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Keys([String; 2]),
    /// SHA-256 of the certificate that was presented.
    Thumbprint(String),
}

/// An individual enrolment or a group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Enrollment {
    /// The registration id, or the group's name.
    id: String,
    group: bool,
    attestation: Attestation,
    pub(crate) enabled: bool,
    /// The device id of an individual enrolment; none is the registration id.
    pub(crate) device: Option<String>,
    /// The hub to assign; none is the service's.
    pub(crate) hub: Option<String>,
    /// Tags and desired properties of the new twin, as in a twin's document.
    pub(crate) initial_twin: Value,
    /// Whether a device that registers again may be sent to another hub, and take its twin along.
    pub(crate) reassign: bool,
    pub(crate) migrate: bool,
    pub(crate) outcome: Option<Outcome>,
    /// What the device is given on top, as custom allocation can.
    pub(crate) payload: Value,
    version: u64,
}

impl Enrollment {
    /// Reads the body of a PUT. Keys that are missing or empty are those of the enrolment before, or new.
    pub(crate) fn read(
        id: &str,
        group: bool,
        body: &Value,
        before: Option<&Enrollment>,
    ) -> Result<Enrollment, Error> {
        check_id(id).map_err(Error::invalid)?;
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let named = text(if group { "enrollmentGroupId" } else { "registrationId" });
        if named.is_some_and(|named| !named.eq_ignore_ascii_case(id)) {
            return Err(Error::invalid("the id of the body is not that of the path"));
        }
        let enabled = match text("provisioningStatus").as_deref() {
            None | Some("enabled") => true,
            Some("disabled") => false,
            Some(other) => return Err(Error::invalid(format!("provisioningStatus cannot be {other}"))),
        };
        let outcome = match body.get("outcome").filter(|value| !value.is_null()) {
            None => None,
            Some(value) => Some(serde_json::from_value(value.clone()).map_err(|_| {
                Error::invalid(format!("outcome is failed, unassigned or left out, and not {value}"))
            })?),
        };
        let policy =
            |name: &str| body.pointer(&format!("/reprovisionPolicy/{name}")).and_then(Value::as_bool);
        Ok(Enrollment {
            id: id.to_owned(),
            group,
            attestation: Attestation::read(group, body.get("attestation"), before)?,
            enabled,
            device: text("deviceId").filter(|device| !group && !device.is_empty()),
            hub: text("iotHubHostName").filter(|host| !host.is_empty()),
            initial_twin: body.get("initialTwin").cloned().unwrap_or_default(),
            reassign: policy("updateHubAssignment").unwrap_or(true),
            migrate: policy("migrateDeviceData").unwrap_or(true),
            outcome,
            payload: body.get("payload").cloned().unwrap_or_default(),
            version: before.map_or(1, |before| before.version + 1),
        })
    }

    pub(crate) fn document(&self) -> Value {
        let name = if self.group { "enrollmentGroupId" } else { "registrationId" };
        json!({
            name: self.id,
            "attestation": self.attestation.document(),
            "provisioningStatus": if self.enabled { "enabled" } else { "disabled" },
            "deviceId": self.device,
            "iotHubHostName": self.hub,
            "initialTwin": self.initial_twin,
            "reprovisionPolicy": {"updateHubAssignment": self.reassign, "migrateDeviceData": self.migrate},
            "outcome": self.outcome,
            "payload": self.payload,
            "etag": format!("\"{:08x}\"", self.version),
        })
    }

    /// Whether these are the credentials of this individual enrolment.
    pub(super) fn prove(&self, id: &str, credentials: &Credentials) -> Option<Proof> {
        match (&self.attestation, &credentials.token) {
            (Attestation::SymmetricKey(keys), Some(token)) => signed(token, keys),
            (Attestation::Certificate(known), None) => {
                let thumbprint = own_certificate(id, credentials)?;
                known.contains(&thumbprint).then_some(Proof::Thumbprint(thumbprint))
            }
            (Attestation::SymmetricKey(_), None)
            | (Attestation::Certificate(_), Some(_))
            | (Attestation::Authority(_), _) => None,
        }
    }

    /// Whether these are the credentials of a member of this group.
    pub(super) fn prove_member(&self, id: &str, credentials: &Credentials) -> Option<Proof> {
        match (&self.attestation, &credentials.token) {
            (Attestation::SymmetricKey([primary, secondary]), Some(token)) => {
                signed(token, &[derive(primary, id)?, derive(secondary, id)?])
            }
            (Attestation::Authority(authorities), None) => {
                let thumbprint = own_certificate(id, credentials)?;
                authorities.vouch_for(&credentials.peer).ok()?;
                Some(Proof::Thumbprint(thumbprint))
            }
            (Attestation::SymmetricKey(_), None)
            | (Attestation::Authority(_), Some(_))
            | (Attestation::Certificate(_), _) => None,
        }
    }
}

fn signed(token: &sas::Token, keys: &[String; 2]) -> Option<Proof> {
    keys.iter().any(|key| token.signed_by(key)).then(|| Proof::Keys(keys.clone()))
}

/// SHA-256 of the certificate presented, if its common name is the registration id.
fn own_certificate(id: &str, credentials: &Credentials) -> Option<String> {
    let name = credentials.peer.common_name()?;
    let [_, thumbprint] = credentials.peer.thumbprints()?;
    name.eq_ignore_ascii_case(id).then_some(thumbprint)
}

/// The key of a group's device: HMAC-SHA256 of its registration id, with the group's key. None if that is no key.
pub(super) fn derive(group_key: &str, id: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(group_key).ok()?).ok()?;
    mac.update(id.as_bytes());
    Some(STANDARD.encode(mac.finalize().into_bytes()))
}

impl Attestation {
    fn read(group: bool, body: Option<&Value>, before: Option<&Enrollment>) -> Result<Attestation, Error> {
        let kind = body.and_then(|body| body.get("type")).and_then(Value::as_str).unwrap_or("symmetricKey");
        match kind {
            "symmetricKey" => {
                let fresh = || [random::key(), random::key()];
                let mut keys = match before.map(|before| &before.attestation) {
                    Some(Attestation::SymmetricKey(keys)) => keys.clone(),
                    Some(Attestation::Certificate(_) | Attestation::Authority(_)) | None => fresh(),
                };
                for (at, name) in ["primaryKey", "secondaryKey"].into_iter().enumerate() {
                    let path = format!("/symmetricKey/{name}");
                    let key = body.and_then(|body| body.pointer(&path)).and_then(Value::as_str);
                    if let Some(key) = key.filter(|key| !key.is_empty()) {
                        if !sas::is_key(key) {
                            return Err(Error::invalid(format!("{name} is not base64 of 16 to 64 bytes")));
                        }
                        keys[at] = key.to_owned();
                    }
                }
                Ok(Attestation::SymmetricKey(keys))
            }
            "x509" if group => {
                let mut authorities = Authorities::default();
                for pem in certificates_of(body, "signingCertificates") {
                    authorities.add(&pem)?;
                }
                if authorities.names().is_empty() {
                    return Err(Error::invalid("x509.signingCertificates.primary.certificate is missing"));
                }
                Ok(Attestation::Authority(authorities))
            }
            "x509" => {
                let mut thumbprints = Vec::new();
                for pem in certificates_of(body, "clientCertificates") {
                    let [_, thumbprint] = certificates::thumbprints(&certificates::read(&pem)?[0]);
                    thumbprints.push(thumbprint);
                }
                for slot in ["primary", "secondary"] {
                    let path = format!("/x509/clientCertificates/{slot}/info/sha256Thumbprint");
                    let named = body.and_then(|body| body.pointer(&path)).and_then(Value::as_str);
                    thumbprints.extend(named.map(str::to_ascii_uppercase));
                }
                if thumbprints.is_empty() {
                    return Err(Error::invalid("x509.clientCertificates.primary.certificate is missing"));
                }
                Ok(Attestation::Certificate(thumbprints))
            }
            other => Err(Error::invalid(format!("attestation by {other:?} is not emulated"))),
        }
    }

    fn document(&self) -> Value {
        match self {
            Attestation::SymmetricKey([primary, secondary]) => {
                json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": primary, "secondaryKey": secondary}})
            }
            Attestation::Certificate(thumbprints) => {
                let slot =
                    |at: usize| thumbprints.get(at).map(|one| json!({"info": {"sha256Thumbprint": one}}));
                json!({"type": "x509", "x509": {"clientCertificates": {"primary": slot(0), "secondary": slot(1)}}})
            }
            Attestation::Authority(authorities) => {
                let names = authorities.names();
                let slot = |at: usize| {
                    let (name, thumbprint) = names.get(at)?;
                    Some(
                        json!({"info": {"subjectName": format!("CN={name}"), "sha256Thumbprint": thumbprint}}),
                    )
                };
                json!({"type": "x509", "x509": {"signingCertificates": {"primary": slot(0), "secondary": slot(1)}}})
            }
        }
    }
}

/// The certificates, in PEM, in the slots of an x509 attestation; the service takes base64 without the frame too.
fn certificates_of(body: Option<&Value>, list: &str) -> Vec<String> {
    let slot = |name: &str| {
        let path = format!("/x509/{list}/{name}/certificate");
        body?.pointer(&path)?.as_str().filter(|text| !text.is_empty()).map(framed)
    };
    ["primary", "secondary"].into_iter().filter_map(slot).collect()
}

fn framed(text: &str) -> String {
    if text.contains("-----BEGIN") {
        return text.to_owned();
    }
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
