//! The throw-away certificate authority and the TLS that listeners speak. Not a PKI: the CA's key is forgotten as
//! soon as the one server certificate is signed. Called by `emulator` at start.
//!
//! TLS 1.2 must be on: Microsoft's Python SDK speaks nothing newer. Clients are asked for a certificate and may have
//! none; what is made of it is `certificates`' and decided at CONNECT.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, version};

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

impl Identity {
    /// A new CA and a server certificate for the usual names and for these.
    pub(crate) fn generate(more_names: &[String]) -> Result<Identity, Failed> {
        let failed = |error: rcgen::Error| Failed(error.to_string());
        let ca_key = KeyPair::generate().map_err(failed)?;
        let ca_params = ca_params();
        let ca = ca_params.self_signed(&ca_key).map_err(failed)?;
        let issuer = Issuer::new(ca_params, ca_key);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate =
            server_params(more_names).map_err(failed)?.signed_by(&key, &issuer).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone(), ca.der().clone()];
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .and_then(|builder| {
                builder.with_client_cert_verifier(AnyCertificate::new()).with_single_cert(chain, key)
            })
            .map_err(|error| Failed(error.to_string()))?;
        Ok(Identity { ca_pem: ca.pem(), server: Arc::new(server) })
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
