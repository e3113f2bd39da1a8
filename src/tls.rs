//! The one TLS configuration: whom we trust, and with which cryptography.
//!
//! It is not a connection and knows no hosts. `main` builds it once and hands it to the hub session and to the
//! image's HTTP client, so that both trust the same authorities and only one TLS library is ever linked in.
//!
//! Nothing here can weaken a check: there is no custom verifier, no switch to leave names unchecked, and no
//! process-wide default that somebody else could install first. The provider is named explicitly.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};

/// Whom to trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// PEM files with certificate authorities, besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// Trust the authorities that the system trusts (`ca-certificates`).
    pub system_roots: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ca_files: Vec::new(), system_roots: true }
    }
}

/// Why there is no TLS configuration. All of these are faults of this device's set-up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configured file cannot be read.
    #[error("reading certificate authorities from {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A configured file holds no certificate.
    #[error("no certificate in {path}: a PEM file with BEGIN CERTIFICATE is needed")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A configured file holds something that is not a certificate authority.
    #[error("certificate {number} in {path} cannot be used as an authority")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Which certificate in it, counted from 1.
        number: usize,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// Nobody is trusted, so no connection could ever be made.
    #[error(
        "no certificate authority is trusted: install ca-certificates or name a file in tls.ca_files{detail}"
    )]
    NoAuthority {
        /// What went wrong with the system's authorities, if anything did.
        detail: String,
    },
    /// The provider does not do the protocol versions we ask for.
    #[error("setting up TLS 1.2 and 1.3")]
    Protocol(#[source] rustls::Error),
}

/// A configuration for clients: TLS 1.2 and 1.3, host names and chains checked against the authorities of
/// `settings`.
///
/// # Errors
/// If a configured file is unusable, or nobody is trusted at all. An unusable certificate among the *system's* is
/// only skipped: distributions ship a few that no strict library takes.
pub fn client_config(settings: &Settings) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    let mut detail = String::new();
    if settings.system_roots {
        let system = rustls_native_certs::load_native_certs();
        let (added, skipped) = roots.add_parsable_certificates(system.certs);
        tracing::debug!(added, skipped, "system certificate authorities");
        if let Some(error) = system.errors.first() {
            detail = format!(" (the system's: {error})");
        }
    }
    for path in &settings.ca_files {
        add_file(&mut roots, path)?;
    }
    if roots.is_empty() {
        return Err(Error::NoAuthority { detail });
    }
    with_roots(roots)
}

/// A configuration with which every connection fails: for going on without a network where the configured one is
/// unusable. A system on trial whose certificates are broken must still be judged, and go back.
///
/// # Errors
/// If the provider does not do the protocol versions we ask for.
pub fn trusting_nobody() -> Result<Arc<ClientConfig>, Error> {
    with_roots(RootCertStore::empty())
}

fn with_roots(roots: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(Error::Protocol)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// All of a configured file or nothing: an authority left out silently is a device that cannot be reached later.
fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut number = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        number += 1;
        roots.add(certificate.map_err(unreadable)?).map_err(|source| Error::Unusable {
            path: path.to_owned(),
            number,
            source,
        })?;
    }
    if number == 0 { Err(Error::Empty { path: path.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn only(path: &Path) -> Settings {
        Settings { ca_files: vec![path.to_owned()], system_roots: false }
    }

    #[test]
    fn a_configured_authority_is_enough() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new(vec!["ca".into()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(&path, ca.pem().repeat(2)).unwrap();
        assert!(client_config(&only(&path)).is_ok());
    }

    #[test]
    fn whatever_is_wrong_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in [None, Some(""), Some("not PEM"), Some(garbage), Some("-----BEGIN CERTIFICATE-----\n")]
        {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            let error = client_config(&only(&path)).unwrap_err().to_string();
            assert!(error.contains("ca.pem"), "{content:?}: {error}");
        }
    }

    #[test]
    fn trusting_nobody_is_an_error_and_not_a_device_that_never_connects() {
        let nobody = Settings { ca_files: Vec::new(), system_roots: false };
        let error = client_config(&nobody).unwrap_err().to_string();
        assert!(error.contains("tls.ca_files"), "{error}");
    }
}
