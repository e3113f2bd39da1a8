//! What proves to the hub who we are, and who keeps it.
//!
//! # The seam for hardware
//!
//! A secret need not be readable to be used. Everything above asks a [`Keeper`] for a [`Credential`] before each
//! connection, and a credential only ever *does* something with the secret:
//! - a symmetric key signs tokens: [`Signer`], one HMAC-SHA256 (a TPM does it with a key that was imported under its
//!   storage hierarchy, a PKCS#11 token as `CKM_SHA256_HMAC`);
//! - a certificate's private key signs handshakes: rustls' own [`ResolvesClientCert`], whose
//!   [`CertifiedKey`](rustls::sign::CertifiedKey) holds the chain and a [`SigningKey`](rustls::sign::SigningKey), which is
//!   where `C_Sign` or `TPM2_Sign` would be called.
//!
//! So a keeper for hardware is one file beside this one with these two or three functions, chosen in `main`, and nothing
//! else changes. What is built is the keeping in files: [`super::pair`], [`super::keyfile`] and the connection string.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::client::ResolvesClientCert;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::model::Timestamp;

/// Uses a symmetric key without giving it away.
pub trait Signer: fmt::Debug + Send + Sync {
    /// HMAC-SHA256 of `text` under the device's key.
    ///
    /// # Errors
    /// In words without secrets, if whatever keeps the key does not do it.
    fn sign(&self, text: &[u8]) -> Result<[u8; 32], String>;
}

/// What proves who we are.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A key that signs tokens.
    Key(Arc<dyn Signer>),
    /// A certificate, shown while TLS is set up.
    Certificate(Arc<dyn ResolvesClientCert>),
}

/// Keeps a device's secret. Asked before every connection, so what it keeps may be exchanged at any time.
pub trait Keeper: fmt::Debug + Send {
    /// What proves who we are, as of now.
    ///
    /// # Errors
    /// In words that name the remedy and hold no secret, if there is nothing that can be used.
    fn credential(&mut self) -> Result<Credential, String>;

    /// When the credential ends by itself, if it does.
    fn expiry(&self) -> Option<Timestamp> {
        None
    }

    /// What an operator should know about it although it works.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A symmetric device key. Wiped when dropped, and never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// The key of the device `registration` in a group that shares this key (base64 of its HMAC-SHA256 under the group's
    /// key: Microsoft's "Symmetric key attestation", group enrolments).
    pub fn derive(&self, registration: &str) -> Self {
        Self(Zeroizing::new(self.hmac(registration.as_bytes()).to_vec()))
    }

    fn hmac(&self, text: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(text);
        mac.finalize().into_bytes().into()
    }

    #[cfg(test)]
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Signer for Key {
    fn sign(&self, text: &[u8]) -> Result<[u8; 32], String> {
        Ok(self.hmac(text))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a symmetric key must look like. Half a key that was lost in pasting would only ever be told "unauthorized" by
/// the hub.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("base64 of 16 to 64 bytes")]
pub struct BadKey;

impl FromStr for Key {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        let good = STANDARD.decode_vec(text, &mut bytes).is_ok() && (16..=64).contains(&bytes.len());
        if good { Ok(Self(bytes)) } else { Err(BadKey) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The vector of the vendor's documentation.
    #[test]
    fn a_devices_key_is_derived_from_its_groups() {
        let group =
            "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==";
        let device = group.parse::<Key>().unwrap().derive("sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6");
        assert_eq!(STANDARD.encode(device.expose()), "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=");
        assert_eq!(format!("{device:?}"), "Key(…)");
    }

    #[test]
    fn keys_are_whole() {
        for bad in ["", "short", "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4", "AAAA", " "] {
            assert_eq!(bad.parse::<Key>(), Err(BadKey), "{bad}");
        }
        assert!(STANDARD.encode([1; 65]).parse::<Key>().is_err());
        assert!(STANDARD.encode([1; 64]).parse::<Key>().is_ok());
    }
}
