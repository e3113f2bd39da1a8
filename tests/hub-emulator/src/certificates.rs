//! Certificates of devices: what a client presented, its thumbprints and common name, and the authorities that vouch
//! for it. Not the decision who may come in (`admission`), nor the emulator's own certificate (`tls`).
//!
//! Any certificate of version 3 passes the TLS handshake (rustls reads no other), as its owner alone can use it there:
//! the hub decides at CONNECT, so that a wrong one is answered in MQTT.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error};

/// A hub knows no more authorities.
const AUTHORITY_LIMIT: usize = 25;
/// The object identifier 2.5.4.3, common name, as it is encoded.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What a client presented: its certificate and those it brought to vouch for it. Empty is none.
#[derive(Clone, Default)]
pub(crate) struct Peer {
    chain: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.chain.len())
    }
}

impl Peer {
    pub(crate) fn new(chain: Option<&[CertificateDer<'_>]>) -> Peer {
        let owned = |chain: &[CertificateDer<'_>]| chain.iter().map(|one| one.clone().into_owned()).collect();
        Peer { chain: chain.map(owned).unwrap_or_default() }
    }

    /// SHA-1 and SHA-256 of the certificate, in upper-case hexadecimal digits.
    pub(crate) fn thumbprints(&self) -> Option<[String; 2]> {
        self.chain.first().map(|own| thumbprints(own))
    }

    pub(crate) fn common_name(&self) -> Option<String> {
        common_name(self.chain.first()?)
    }
}

/// The authorities whose signature on a device's certificate counts. In PEM, for a state file that people can read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Authorities(Vec<String>);

impl Authorities {
    /// Takes the certificates in a PEM text; how many there were. One that is known already is not taken twice.
    pub(crate) fn add(&mut self, pem: &str) -> Result<usize, Error> {
        let found = read(pem)?;
        let known: Vec<String> = self.list().map(|one| thumbprints(&one)[1].clone()).collect();
        let mut store = RootCertStore::empty();
        for one in &found {
            let unusable =
                |error| Error::invalid(format!("the authority's certificate cannot be used: {error}"));
            store.add(one.clone()).map_err(unusable)?;
        }
        let fresh = found.iter().filter(|one| !known.contains(&thumbprints(one)[1]));
        let fresh: Vec<String> = fresh.map(|one| encode(one)).collect();
        if self.0.len() + fresh.len() > AUTHORITY_LIMIT {
            return Err(Error::new(Code::InvalidOperation, "a hub knows at most 25 authorities"));
        }
        self.0.extend(fresh);
        Ok(found.len())
    }

    /// Forgets the authority with this SHA-256 thumbprint; whether it was known.
    pub(crate) fn remove(&mut self, thumbprint: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|pem| {
            let other = |one: CertificateDer<'_>| !thumbprints(&one)[1].eq_ignore_ascii_case(thumbprint);
            read(pem).is_ok_and(|found| found.into_iter().all(other))
        });
        self.0.len() < before
    }

    /// Common name and SHA-256 thumbprint of each, for people.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        let name = |one: CertificateDer<'_>| {
            let [_, thumbprint] = thumbprints(&one);
            (common_name(&one).unwrap_or_default(), thumbprint)
        };
        self.list().map(name).collect()
    }

    /// Whether one of them signed the certificate, itself or through certificates that the client brought along.
    pub(crate) fn vouch_for(&self, peer: &Peer) -> Result<(), String> {
        let Some((own, brought)) = peer.chain.split_first() else {
            return Err("the client presented no certificate".to_owned());
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.list());
        if store.is_empty() {
            return Err("no authority is registered that could have signed the certificate".to_owned());
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider())
            .build()
            .map_err(|error| error.to_string())?;
        verifier
            .verify_client_cert(own, brought, UnixTime::now())
            .map(|_| ())
            .map_err(|error| format!("no registered authority vouches for the certificate: {error}"))
    }

    fn list(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        self.0.iter().filter_map(|pem| read(pem).ok()).flatten()
    }
}

/// SHA-1 and SHA-256 of a certificate, in upper-case hexadecimal digits, as the registry keeps them.
pub(crate) fn thumbprints(certificate: &[u8]) -> [String; 2] {
    let hex = |algorithm: &'static Algorithm| {
        digest(algorithm, certificate).as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
    };
    [hex(&SHA1_FOR_LEGACY_USE_ONLY), hex(&SHA256)]
}

/// The certificates in a PEM text, at least one.
pub(crate) fn read(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |why: &dyn fmt::Display| Error::invalid(format!("the text is no certificate in PEM: {why}"));
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&error))?;
    let mut store = RootCertStore::empty();
    for one in &found {
        store.add(one.clone()).map_err(|error| wrong(&error))?;
    }
    if found.is_empty() { Err(wrong(&"there is none in it")) } else { Ok(found) }
}

fn encode(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// The common name of a certificate's subject. Source of the structure: RFC 5280, 4.1.
fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    // The version is left out in certificates of the first; it alone has this tag.
    if let (0xA0, _, after) = element(rest)? {
        rest = after;
    }
    // Serial number, algorithm, issuer and validity come before the subject.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (_, mut subject, _) = element(rest)?;
    while let Some((_, set, after)) = element(subject) {
        let (_, pair, _) = element(set)?;
        let (_, kind, value) = element(pair)?;
        if kind == COMMON_NAME {
            return String::from_utf8(element(value)?.1.to_vec()).ok();
        }
        subject = after;
    }
    None
}

/// The first element of a DER text: tag, content, and what comes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F).min(4))?;
        (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Asks every client for a certificate and takes any, or none. That the client holds its key is still proven.
#[derive(Debug)]
pub(crate) struct AnyCertificate(CryptoProvider);

impl AnyCertificate {
    pub(crate) fn new() -> Arc<AnyCertificate> {
        Arc::new(AnyCertificate(rustls::crypto::ring::default_provider()))
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None are named, so that clients present whatever they have.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn params(name: &str, is_ca: bool) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Örtlich GmbH");
        params.distinguished_name.push(DnType::CommonName, name);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        params
    }

    #[test]
    fn a_chain_is_vouched_for_by_the_authority_at_its_end() {
        let (root_key, middle_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = params("root", true).self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(params("root", true), root_key);
        let middle = params("middle", true).signed_by(&middle_key, &root_issuer).unwrap();
        let middle_issuer = Issuer::new(params("middle", true), middle_key);
        let own = params("dev-1", false).signed_by(&KeyPair::generate().unwrap(), &middle_issuer).unwrap();
        let with = Peer::new(Some(&[own.der().clone(), middle.der().clone()]));
        let alone = Peer::new(Some(&[own.der().clone()]));
        assert_eq!(with.common_name().as_deref(), Some("dev-1"));
        let mut authorities = Authorities::default();
        assert!(authorities.vouch_for(&with).unwrap_err().contains("no authority is registered"));
        assert_eq!(authorities.add(&root.pem()).unwrap(), 1);
        assert_eq!(authorities.add(&root.pem()).unwrap(), 1);
        assert_eq!(authorities.names().len(), 1);
        authorities.vouch_for(&with).unwrap();
        assert!(authorities.vouch_for(&alone).is_err());
        // An intermediate may be registered itself.
        authorities.add(&middle.pem()).unwrap();
        authorities.vouch_for(&alone).unwrap();
        let [(_, first), (name, _)] = &authorities.names()[..] else { panic!("two") };
        assert_eq!(name, "middle");
        assert!(authorities.remove(first));
        assert!(!authorities.remove(first));
        authorities.vouch_for(&alone).unwrap();
        let stranger = params("dev-1", false).self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(authorities.vouch_for(&Peer::new(Some(&[stranger.der().clone()]))).is_err());
        assert!(authorities.vouch_for(&Peer::default()).is_err());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Authorities::default().add(text).is_err(), "{text}");
        }
        for bytes in [&b""[..], b"\x30", b"\x30\x84\xFF\xFF\xFF\xFF", b"\x30\x03\x30\x01\x02"] {
            assert_eq!(common_name(bytes), None);
        }
    }

    #[test]
    fn thumbprints_are_the_ones_that_tools_print() {
        let [short, long] = thumbprints(b"abc");
        assert_eq!(short, "A9993E364706816ABA3E25717850C26C9CD0D89D");
        assert_eq!(long, "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD");
    }
}
