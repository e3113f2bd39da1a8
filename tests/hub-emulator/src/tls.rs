//! The throw-away certificate authority and the TLS that listeners speak. Not a PKI: it signs one server certificate
//! per start, and is kept only with the rest of the emulator's state. Called by `emulator` at start.
//!
//! TLS 1.2 must be on: Microsoft's Python SDK speaks nothing newer. Clients are asked for a certificate and may have
//! none; what is made of it is `certificates`' and decided at CONNECT.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, version};
use serde::{Deserialize, Serialize};

use crate::certificates::AnyCertificate;

/// Names that the server certificate is good for, besides those asked for.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "*.azure-devices.net"];

/// What a client must trust, and what a listener presents.
pub(crate) struct Identity {
    pub(crate) ca_pem: String,
    pub(crate) server: Arc<ServerConfig>,
}

/// Why no identity could be made.
#[derive(Debug)]
pub(crate) struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "making the certificates: {}", self.0)
    }
}

impl std::error::Error for Failed {}

impl From<rcgen::Error> for Failed {
    fn from(error: rcgen::Error) -> Failed {
        Failed(error.to_string())
    }
}

/// A certificate authority as it is kept over the emulator's end, so that clients need not be told of another.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Authority {
    /// In PEM, both.
    certificate: String,
    key: String,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// A new one.
    pub(crate) fn generate() -> Result<Authority, Failed> {
        let key = KeyPair::generate()?;
        let certificate = ca_params().self_signed(&key)?;
        Ok(Authority { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A server certificate for the usual names and for these, signed by it.
    pub(crate) fn identity(&self, more_names: &[String]) -> Result<Identity, Failed> {
        let unreadable = |error: pem::Error| Failed(error.to_string());
        let own = CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(unreadable)?;
        // The certificate is the one that clients trust; what signs is made of the same parts.
        let issuer = Issuer::new(ca_params(), KeyPair::from_pem(&self.key)?);
        let key = KeyPair::generate()?;
        let certificate = server_params(more_names)?.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone(), own];
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .and_then(|builder| {
                builder.with_client_cert_verifier(AnyCertificate::new()).with_single_cert(chain, key)
            })
            .map_err(|error| Failed(error.to_string()))?;
        Ok(Identity { ca_pem: self.certificate.clone(), server: Arc::new(server) })
    }
}

fn ca_params() -> CertificateParams {
    let mut params = dated();
    params.distinguished_name.push(DnType::CommonName, "hub-emulator throw-away CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server_params(more_names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut names: Vec<String> =
        NAMES.into_iter().map(str::to_owned).chain(more_names.iter().cloned()).collect();
    names.sort();
    names.dedup();
    let mut params = dated();
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    params.distinguished_name.push(DnType::CommonName, "hub-emulator");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Newer OpenSSL-based clients refuse a chain without it.
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Dates that neither a device without a clock nor a 32-bit time_t falls over.
fn dated() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date_time_ymd(1975, 1, 1);
    params.not_after = date_time_ymd(2037, 12, 31);
    params
}
