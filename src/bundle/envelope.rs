//! Envelopes: a document and the signatures over its exact bytes, as in DSSE.
//!
//! An envelope is JSON, but there is just one spelling of it. So it is not parsed as JSON: it is compared with that
//! spelling, which leaves nothing to be understood in two ways, and no bit that could change unnoticed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::keys::KeyId;
use super::refusal::Refusal;

/// What the document in an envelope is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PayloadType {
    /// A [`Delegation`](super::Delegation).
    Delegation,
    /// A [`Manifest`](super::Manifest).
    Manifest,
}

impl PayloadType {
    /// The media type: signed along with the document.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Delegation => "application/vnd.twinboot.delegation+json",
            Self::Manifest => "application/vnd.twinboot.manifest+json",
        }
    }

    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Delegation => "delegation",
            Self::Manifest => "manifest",
        }
    }
}

/// A signature, not judged yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature {
    /// The key that it is said to be made by.
    pub key: KeyId,
    /// The Ed25519 signature.
    pub bytes: [u8; 64],
}

/// A document and its signatures, not judged yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// What the document is.
    pub payload_type: PayloadType,
    /// The exact bytes of the document.
    pub payload: Vec<u8>,
    /// At most [`Envelope::MAX_SIGNATURES`].
    pub signatures: Vec<Signature>,
}

impl Envelope {
    /// Most signatures of an envelope.
    pub const MAX_SIGNATURES: usize = 16;

    /// Reads an envelope with a document of this type. Nothing in the document is looked at.
    ///
    /// # Errors
    /// It is not in the one spelling there is: `bundle.signature`.
    pub fn parse(bytes: &[u8], payload_type: PayloadType) -> Result<Self, Refusal> {
        let failed =
            |what: &str| Refusal::signature(format!("the envelope of the {} {what}", payload_type.word()));
        let malformed = || failed("is malformed");
        let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
        let before = format!("{{\"payloadType\":\"{}\",\"payload\":\"", payload_type.media_type());
        let (payload, mut rest) = text
            .strip_prefix(&before)
            .and_then(|it| it.split_once("\",\"signatures\":["))
            .ok_or_else(malformed)?;
        // This decoder takes padding only where it belongs, and no bits that mean nothing.
        let payload = STANDARD.decode(payload).map_err(|_| malformed())?;
        let mut signatures = vec![];
        while rest != "]}" {
            if signatures.len() == Self::MAX_SIGNATURES {
                return Err(failed(&format!("has more than {} signatures", Self::MAX_SIGNATURES)));
            }
            let comma = if signatures.is_empty() { "" } else { "," };
            let (one, more) = rest
                .strip_prefix(comma)
                .and_then(|it| it.strip_prefix("{\"keyid\":\""))
                .and_then(|it| it.split_once("\"}"))
                .ok_or_else(malformed)?;
            let (key, signature) = one.split_once("\",\"sig\":\"").ok_or_else(malformed)?;
            let key = key.parse().map_err(|_| malformed())?;
            let bytes = STANDARD.decode(signature).map_err(|_| malformed())?;
            let len = bytes.len();
            let bytes = bytes
                .try_into()
                .map_err(|_| failed(&format!("has a signature of {len} bytes; Ed25519 has 64")))?;
            signatures.push(Signature { key, bytes });
            rest = more;
        }
        Ok(Self { payload_type, payload, signatures })
    }

    /// The bytes of this envelope.
    pub fn encode(&self) -> Vec<u8> {
        let signatures: Vec<_> = self
            .signatures
            .iter()
            .map(|it| format!("{{\"keyid\":\"{}\",\"sig\":\"{}\"}}", it.key, STANDARD.encode(it.bytes)))
            .collect();
        let (of, payload) = (self.payload_type.media_type(), STANDARD.encode(&self.payload));
        let signatures = signatures.join(",");
        format!("{{\"payloadType\":\"{of}\",\"payload\":\"{payload}\",\"signatures\":[{signatures}]}}")
            .into_bytes()
    }

    /// The bytes that its signatures are over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        signed_bytes(self.payload_type, &self.payload)
    }
}

/// The bytes that are signed for a document: DSSE's pre-authentication encoding, so that one type of document never
/// passes for another.
pub fn signed_bytes(payload_type: PayloadType, payload: &[u8]) -> Vec<u8> {
    let of = payload_type.media_type();
    let mut bytes = format!("DSSEv1 {} {of} {} ", of.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}
