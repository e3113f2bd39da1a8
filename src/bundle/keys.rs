//! Keys: Ed25519 as OpenSSL writes them, and which of them are the roots.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// What a key is called: the first 16 bytes of the SHA-256 of its 32 bytes, written as 32 hex digits in lower case.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(pub [u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no key id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a key id is 32 hex digits in lower case")]
pub struct BadKeyId;

impl FromStr for KeyId {
    type Err = BadKeyId;

    fn from_str(text: &str) -> Result<Self, BadKeyId> {
        let is_hex = text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32 && is_hex);
        number.map(|it| Self(it.to_be_bytes())).ok_or(BadKeyId)
    }
}

impl TryFrom<String> for KeyId {
    type Error = BadKeyId;

    fn try_from(text: String) -> Result<Self, BadKeyId> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.to_string()
    }
}

/// An Ed25519 public key that a signature can be judged by: none of the few that anybody can sign for.
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// What is no key that we can use. The message never repeats it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0}: an Ed25519 key is needed, in PEM as OpenSSL writes it, or a public one as its 32 bytes in base64"
)]
pub struct BadKey(pub(super) &'static str);

/// What stands before the 32 bytes in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00];

impl PublicKey {
    /// A key of these bytes.
    ///
    /// # Errors
    /// They are no key, or one that is good for nothing.
    pub fn new(bytes: [u8; 32]) -> Result<Self, BadKey> {
        if is_weak(&bytes) {
            return Err(BadKey("this key is one that anybody can sign for"));
        }
        Ok(Self(bytes))
    }

    /// Reads the text of a key file: PEM as OpenSSL writes it, or one line of base64. Empty lines and lines that begin
    /// with `#` are left out.
    ///
    /// # Errors
    /// It is not just one such key.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let lines: Vec<_> =
            text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#')).collect();
        match lines.as_slice() {
            [line] => {
                let bytes = STANDARD.decode(line).map_err(|_| BadKey("this is no base64"))?;
                Self::new(bytes.try_into().map_err(|_| BadKey("this is not 32 bytes long"))?)
            }
            [begin, base64 @ .., end] => {
                if *begin != "-----BEGIN PUBLIC KEY-----" || *end != "-----END PUBLIC KEY-----" {
                    return Err(BadKey("this is no public key in PEM"));
                }
                let der = STANDARD.decode(base64.concat()).map_err(|_| BadKey("this is no PEM"))?;
                let bytes = der.strip_prefix(&SPKI).ok_or(BadKey("this is a key of another kind"))?;
                Self::new(bytes.try_into().map_err(|_| BadKey("this is not 32 bytes long"))?)
            }
            [] => Err(BadKey("this is empty")),
        }
    }

    /// The key as OpenSSL writes it.
    pub fn to_pem(&self) -> String {
        let der = STANDARD.encode([&SPKI[..], &self.0].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    /// What it is called.
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = sha2::Sha256::digest(self.0).into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        KeyId(id)
    }

    /// The 32 bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is this key's signature over `message`, strictly.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let (r, _) = signature.split_at(32);
        let is_weak = r.try_into().is_ok_and(|r: &[u8; 32]| is_weak(r));
        !is_weak && UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = BadKey;

    fn try_from(text: String) -> Result<Self, BadKey> {
        let bytes = STANDARD.decode(text).map_err(|_| BadKey("this is no base64"))?;
        Self::new(bytes.try_into().map_err(|_| BadKey("this is not 32 bytes long"))?)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        STANDARD.encode(key.0)
    }
}

/// The y coordinates of the eight points of small order (RFC 7748's curve in Edwards form): for a key among them, anybody
/// can make signatures that hold. The five are 0, 1, -1 and the two of order eight.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xFF; 32];
        (minus_one[0], minus_one[31]) = (0xEC, 0x7F);
        minus_one
    },
    [
        0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0, 0xD5,
        0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05,
    ],
    [
        0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F, 0x2A,
        0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A,
    ],
];

/// Whether these bytes are a point of small order, or encode a point in another way than the one there is.
///
/// This is what ring's verification lacks of being strict: it refuses an S that is not reduced, and an R that is not
/// spelled as it would spell it; but it takes any key that is a point. The sign of x does not matter here: where
/// there is a second spelling by it, x is 0, and the point of small order.
fn is_weak(bytes: &[u8; 32]) -> bool {
    let mut y = *bytes;
    y[31] &= 0x7F;
    // The prime is 2^255 - 19.
    let is_reduced = y[31] != 0x7F || y[1..31].iter().any(|it| *it != 0xFF) || y[0] < 0xED;
    !is_reduced || SMALL_ORDER.contains(&y)
}

/// The keys that say who may sign, and how many of them have to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RootKeys {
    threshold: usize,
    keys: BTreeMap<KeyId, PublicKey>,
}

impl RootKeys {
    /// These keys, of which `threshold` must sign (0 is taken for 1). The same key twice is one.
    pub fn new(threshold: usize, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { threshold: threshold.max(1), keys: keys.into_iter().map(|it| (it.id(), it)).collect() }
    }

    /// How many must sign.
    pub fn threshold(&self) -> usize {
        self.threshold.max(1)
    }

    /// The keys by their ids.
    pub fn keys(&self) -> &BTreeMap<KeyId, PublicKey> {
        &self.keys
    }

    /// Whether there are none: then no bundle can be trusted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether so many as must sign are there and not in `revoked`.
    pub fn is_reachable(&self, revoked: &BTreeSet<KeyId>) -> bool {
        self.keys.keys().filter(|id| !revoked.contains(id)).count() >= self.threshold()
    }
}
