//! How an identity proves itself: the `authentication` object of the registry. Not the proving (`sas`, TLS and
//! `mqtt`). Called by `registry`.
//!
//! Source: the service REST reference (`AuthenticationMechanism`) and what the SDKs send.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Error;
use crate::random;
use crate::sas;

/// The `type` of an authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Scheme {
    /// A token signed with one of two symmetric keys.
    Sas,
    /// A client certificate with one of two thumbprints.
    SelfSigned,
    /// A client certificate of a known authority, with the device id as its common name.
    CertificateAuthority,
    /// None of its own, as of modules that the edge runtime vouches for.
    None,
}

impl Scheme {
    /// The word in documents.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Scheme::Sas => "sas",
            Scheme::SelfSigned => "selfSigned",
            Scheme::CertificateAuthority => "certificateAuthority",
            Scheme::None => "none",
        }
    }
}

/// What an identity proves itself with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Authentication {
    pub(crate) scheme: Scheme,
    /// Base64. Kept, but of no use, while the scheme is not SAS.
    pub(crate) keys: [String; 2],
    /// Upper-case hexadecimal digits of SHA-1 or SHA-256, of use with `SelfSigned` alone.
    pub(crate) thumbprints: [Option<String>; 2],
}

impl Authentication {
    /// Fresh keys.
    pub(crate) fn new() -> Authentication {
        Authentication {
            scheme: Scheme::Sas,
            keys: [random::key(), random::key()],
            thumbprints: [None, None],
        }
    }

    /// Takes over what a body's `authentication` names. Keys that are empty or absent stay: the Node SDK sends empty
    /// ones when its caller gave none.
    pub(crate) fn update(&mut self, body: &Value) -> Result<(), Error> {
        let mut next = self.clone();
        for (at, name) in ["primaryKey", "secondaryKey"].into_iter().enumerate() {
            let key = body.pointer(&format!("/symmetricKey/{name}")).and_then(Value::as_str);
            if let Some(key) = key.filter(|key| !key.is_empty()) {
                if !sas::is_key(key) {
                    return Err(Error::invalid(format!("{name} is not base64 of 16 to 64 bytes")));
                }
                next.keys[at] = key.to_owned();
            }
        }
        if let Some(named) = body.get("x509Thumbprint").filter(|named| named.is_object()) {
            next.thumbprints =
                [thumbprint(named, "primaryThumbprint")?, thumbprint(named, "secondaryThumbprint")?];
        }
        next.scheme = match body.get("type").filter(|kind| !kind.is_null()) {
            Some(kind) => serde_json::from_value(kind.clone()).map_err(|_| {
                Error::invalid(format!(
                    "authentication.type {kind} is none of sas, selfSigned, certificateAuthority, none"
                ))
            })?,
            None if next.thumbprints != self.thumbprints => Scheme::SelfSigned,
            None => next.scheme,
        };
        if next.scheme == Scheme::SelfSigned && next.thumbprints == [None, None] {
            return Err(Error::invalid(
                "selfSigned wants x509Thumbprint.primaryThumbprint, 40 or 64 hex digits",
            ));
        }
        if next.scheme != Scheme::SelfSigned {
            next.thumbprints = [None, None];
        }
        *self = next;
        Ok(())
    }

    /// As the registry shows it: keys only where they open the door.
    pub(crate) fn document(&self) -> Value {
        let key = |at: usize| match self.scheme {
            Scheme::Sas => json!(self.keys[at]),
            Scheme::SelfSigned | Scheme::CertificateAuthority | Scheme::None => Value::Null,
        };
        json!({
            "symmetricKey": {"primaryKey": key(0), "secondaryKey": key(1)},
            "x509Thumbprint": self.thumbprints(),
            "type": self.scheme.word(),
        })
    }

    /// As identities and twins show them.
    pub(crate) fn thumbprints(&self) -> Value {
        json!({"primaryThumbprint": self.thumbprints[0], "secondaryThumbprint": self.thumbprints[1]})
    }
}

/// One thumbprint; colons and blanks, as certificate viewers show them, are left out.
fn thumbprint(body: &Value, name: &str) -> Result<Option<String>, Error> {
    let text = body.get(name).and_then(Value::as_str).unwrap_or_default();
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    match digits.len() {
        0 => Ok(None),
        40 | 64 if digits.chars().all(|c| c.is_ascii_hexdigit()) => Ok(Some(digits.to_ascii_uppercase())),
        _ => Err(Error::invalid(format!("{name} is not 40 or 64 hexadecimal digits"))),
    }
}
