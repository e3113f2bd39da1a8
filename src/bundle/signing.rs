//! Signing, on the operator's side only: nothing of it is in the device's program.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use super::envelope::{Envelope, PayloadType, Signature, signed_bytes};
use super::keys::{BadKey, PublicKey};

/// What stands before the 32 bytes in a PKCS#8 key of version 1 (RFC 8410, section 7), as OpenSSL writes it.
const PKCS8: [u8; 16] =
    [0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A private key. Never shown.
#[derive(Debug)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A new key, and the text of its file, as `openssl genpkey -algorithm ed25519` would write it.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<(Self, Zeroizing<String>), getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())?;
        let der = Zeroizing::new([&PKCS8[..], seed.as_slice()].concat());
        let base64 = Zeroizing::new(STANDARD.encode(der.as_slice()));
        let pem = Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", base64.as_str()));
        match Self::parse(&pem) {
            Ok(key) => Ok((key, pem)),
            // One of the handful of keys that are good for nothing: this has not happened to anybody.
            Err(_) => Self::generate(),
        }
    }

    /// Reads the text of a key file: PKCS#8 in PEM, not encrypted.
    ///
    /// # Errors
    /// It is no such key. The message never repeats it.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let lines: Vec<_> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
        let [begin, base64 @ .., end] = lines.as_slice() else { return Err(BadKey("this is no key in PEM")) };
        if begin.contains("ENCRYPTED") {
            return Err(BadKey(
                "this key is encrypted (`openssl pkey` takes the passphrase off; or sign by OpenSSL)",
            ));
        }
        if *begin != BEGIN || *end != END {
            return Err(BadKey("this is no private key in PEM"));
        }
        let base64 = Zeroizing::new(base64.concat());
        let der =
            STANDARD.decode(base64.as_str()).map(Zeroizing::new).map_err(|_| BadKey("this is no PEM"))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map_err(|_| BadKey("this is a private key of another kind, or a broken one"))?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| BadKey("this is a broken key"))?;
        Ok(Self { pair, public: PublicKey::new(public)? })
    }

    /// What others know of it.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// This key's signature over a document.
    pub fn sign(&self, payload_type: PayloadType, payload: &[u8]) -> Signature {
        let signature = self.pair.sign(&signed_bytes(payload_type, payload));
        let mut bytes = [0; 64];
        bytes.copy_from_slice(signature.as_ref());
        Signature { key: self.public.id(), bytes }
    }

    /// Puts this key's signature into an envelope, in place of an older one of it.
    pub fn seal(&self, envelope: &mut Envelope) {
        let signature = self.sign(envelope.payload_type, &envelope.payload);
        envelope.signatures.retain(|it| it.key != signature.key);
        envelope.signatures.push(signature);
    }
}
