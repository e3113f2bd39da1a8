//! What a request to install says, read once and strictly: JSON in, [`Install`] or a clear refusal out. Pure.
//!
//! Not the twin's bookkeeping ([`super::twin`]) and not the methods' envelope ([`super::methods`]); both use it.
//! The names are the firmware update tutorial's and case-sensitive. Names that are not known are ignored, and told,
//! so that a newer back end can talk to an older device.

use serde_json::Value;

use super::merge::Object;
use crate::model::{
    Artifact, BadUrl, Failure, Install, Location, Origin, Reason, SecretUrl, Sha256, Terms, Timestamp,
    UpdateId, Version, Vouching,
};

/// The largest integer that a twin keeps exactly for all of its readers: 2^53.
const MAX_SIZE: u64 = 1 << 53;
/// Longest `jobId`, in bytes.
const MAX_JOB: usize = 128;
/// Deepest nesting of a request, counted in objects and arrays: a twin holds no deeper ones.
const MAX_DEPTH: usize = 10;
/// Largest request, in bytes of JSON: a twin section holds no larger one.
const MAX_BYTES: usize = 32 * 1024;
/// The member with the digest.
const DIGEST: &str = "fwPackageCheckValue";
/// Most unknown names that are told.
const MAX_UNKNOWN: usize = 16;

/// What the desired property `firmware` amounts to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Desired {
    /// There is none, or it was cleared.
    Absent,
    /// Something well formed to install.
    Wish(Install),
    /// Something that cannot be a request.
    Invalid {
        /// Why not.
        reason: Reason,
        /// The version it names, if that much could be read.
        version: Option<Version>,
        /// Stands for the whole property as it was sent: the same again is the same, and told once. That of the
        /// installation, if nothing but a signature or a digest is missing.
        id: UpdateId,
    },
}

/// A [`Desired`] and what else was noticed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parsed {
    /// What it amounts to.
    pub desired: Desired,
    /// Members of `firmware` that mean nothing to this version of twinboot, printable, at most sixteen.
    pub unknown: Vec<String>,
}

/// Reads the desired property `firmware`; `vouching` says what must vouch for the bytes.
pub fn desired(firmware: Option<&Value>, vouching: Vouching) -> Parsed {
    let Some(firmware) = firmware.filter(|value| !value.is_null()) else {
        return Parsed { desired: Desired::Absent, unknown: Vec::new() };
    };
    let version = firmware.get("fwVersion").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let uri = &["fwPackageURI"];
    let rules = Rules { place: "firmware", uri, version_required: true, vouching, hold: false };
    let refused =
        |reason, id| Parsed { desired: Desired::Invalid { reason, version, id }, unknown: Vec::new() };
    match rules.read(firmware, Origin::Desired) {
        Ok(install) => match rules.judge(&install) {
            Ok(()) => Parsed { desired: Desired::Wish(install), unknown: rules.unknown(firmware) },
            // The same wish, whoever is asked: what was taken by other rules is not another one.
            Err(reason) => refused(reason, install.id),
        },
        Err(reason) => refused(reason, fingerprint(firmware)),
    }
}

/// A twin whose text cannot be read at all, told once for the same text.
pub(super) fn unreadable(text: &[u8], detail: &str) -> Parsed {
    let reason = Failure::RequestInvalid.because(format!("the twin cannot be read: {detail}"));
    let id = UpdateId(format!("{:.16}", Sha256::of(text)));
    Parsed { desired: Desired::Invalid { reason, version: None, id }, unknown: Vec::new() }
}

fn fingerprint(value: &Value) -> UpdateId {
    UpdateId(format!("{:.16}", Sha256::of(value.to_string().as_bytes())))
}

/// How one kind of request is read.
pub(super) struct Rules {
    /// What the fields belong to, for the messages; empty if that is plain.
    pub place: &'static str,
    /// The names that the address may have.
    pub uri: &'static [&'static str],
    /// Whether `fwVersion` must be there.
    pub version_required: bool,
    /// What must vouch for the bytes.
    pub vouching: Vouching,
    /// Whether it is to be held when it is downloaded, whatever it says of that itself.
    pub hold: bool,
}

impl Rules {
    /// Reads `value` as a request of `origin`.
    pub(super) fn install(&self, value: &Value, origin: Origin) -> Result<Install, Reason> {
        let install = self.read(value, origin)?;
        self.judge(&install)?;
        Ok(install)
    }

    /// Whether what must vouch for the bytes does.
    fn judge(&self, install: &Install) -> Result<(), Reason> {
        let Artifact { location, sha256, .. } = &install.artifact;
        let judged = self.vouching.judge(location, sha256.is_some());
        judged.map_err(|why| {
            let lacks_digest = why.failure == Failure::RequestUnverifiable;
            let named = || why.failure.because(format!("{} is missing: {}", self.named(DIGEST), why.detail));
            if lacks_digest { named() } else { why }
        })
    }

    /// Reads `value`, whoever vouches for it.
    fn read(&self, value: &Value, origin: Origin) -> Result<Install, Reason> {
        if deeper_than(value, MAX_DEPTH) {
            return Err(invalid(format!("{} is nested deeper than {MAX_DEPTH} levels", self.what())));
        }
        if value.to_string().len() > MAX_BYTES {
            return Err(invalid(format!("{} is larger than {MAX_BYTES} bytes", self.what())));
        }
        let Value::Object(fields) = value else {
            return Err(invalid(format!("{} must be an object, found {}", self.what(), kind(value))));
        };
        let version = self.version(fields)?;
        let location = Location::Url(self.url(fields)?);
        let sha256 = self.digest(fields)?;
        let size = self.size(fields)?;
        let job = self.text(fields, "jobId")?.filter(|job| !job.is_empty());
        if job.is_some_and(|job| job.len() > MAX_JOB) {
            return Err(invalid(format!("{} is longer than {MAX_JOB} bytes", self.named("jobId"))));
        }
        let terms = self.terms(fields)?;
        Ok(Install::new(Artifact { version, location, sha256, size }, origin, job).on(terms))
    }

    fn terms(&self, fields: &Object) -> Result<Terms, Reason> {
        let flag = |name| match member(fields, name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => {
                Err(invalid(format!("{} must be true or false, found {}", self.named(name), kind(value))))
            }
        };
        let (hold, consent) = (flag("fwHold")? || self.hold, flag("fwConsent")?);
        let force_by = match self.text(fields, "fwForceBy")? {
            Some(text) => {
                let bad = |error| invalid(format!("{} {error}", self.named("fwForceBy")));
                Some(text.parse::<Timestamp>().map_err(bad)?)
            }
            None => None,
        };
        Ok(Terms { hold, consent, force_by, unattended: false })
    }

    fn version(&self, fields: &Object) -> Result<Option<Version>, Reason> {
        match self.text(fields, "fwVersion")? {
            Some(text) => {
                let bad = |error| invalid(format!("{}: {error}", self.named("fwVersion")));
                text.parse().map(Some).map_err(bad)
            }
            None if self.version_required => Err(invalid(format!("{} is missing", self.named("fwVersion")))),
            None => Ok(None),
        }
    }

    fn url(&self, fields: &Object) -> Result<SecretUrl, Reason> {
        let mut found = None;
        for name in self.uri {
            let text = self.text(fields, name)?;
            if found.is_some() && text.is_some() && found != text {
                return Err(invalid(format!("{} are given and differ", self.uri.join(" and "))));
            }
            found = found.or(text);
        }
        let Some(text) = found else {
            return Err(invalid(format!("{} is missing", self.named(self.uri[0]))));
        };
        text.parse().map_err(|error: BadUrl| match error {
            // Just these words: back ends of the tutorial look for them.
            BadUrl::Insecure => Failure::RequestInsecureUri.because(error.to_string()),
            BadUrl::Malformed => invalid(error.to_string()),
        })
    }

    fn digest(&self, fields: &Object) -> Result<Option<Sha256>, Reason> {
        let bad = |error| invalid(format!("{}: {error}", self.named(DIGEST)));
        self.text(fields, DIGEST)?.map(|text| text.parse().map_err(bad)).transpose()
    }

    fn size(&self, fields: &Object) -> Result<Option<u64>, Reason> {
        let Some(value) = member(fields, "fwSize") else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=MAX_SIZE).contains(&size) => Ok(Some(size)),
            Some(_) | None => Err(invalid(format!(
                "{} must be a whole number from 1 to {MAX_SIZE}, found {}",
                self.named("fwSize"),
                kind(value)
            ))),
        }
    }

    fn text<'a>(&self, fields: &'a Object, name: &str) -> Result<Option<&'a str>, Reason> {
        match member(fields, name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => {
                Err(invalid(format!("{} must be a string, found {}", self.named(name), kind(value))))
            }
        }
    }

    /// Names in `value` that nobody reads.
    fn unknown(&self, value: &Value) -> Vec<String> {
        let known = |name: &str| {
            self.uri.contains(&name)
                || matches!(
                    name,
                    "fwVersion"
                        | "fwPackageCheckValue"
                        | "fwSize"
                        | "jobId"
                        | "fwHold"
                        | "fwConsent"
                        | "fwForceBy"
                )
        };
        let names = value.as_object().into_iter().flat_map(Object::keys).filter(|name| !known(name));
        let printable = |name: &String| name.chars().take(64).flat_map(char::escape_debug).collect();
        names.map(printable).take(MAX_UNKNOWN).collect()
    }

    fn named(&self, field: &str) -> String {
        if self.place.is_empty() { field.to_owned() } else { format!("{}.{field}", self.place) }
    }

    fn what(&self) -> &str {
        if self.place.is_empty() { "the request" } else { self.place }
    }
}

pub(super) fn invalid(detail: String) -> Reason {
    Failure::RequestInvalid.because(detail)
}

/// A member; `null` is the same as none, as it is in a twin.
fn member<'a>(fields: &'a Object, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

/// Looks no deeper than `levels` containers, whatever is below.
fn deeper_than(value: &Value, levels: usize) -> bool {
    let below = |value: &Value| deeper_than(value, levels - 1);
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(below),
        Value::Object(fields) => levels == 0 || fields.values().any(below),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// What a value is, in words; never the value, which may be a secret in the wrong place.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
