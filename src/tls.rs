//! The one TLS configuration: whom we trust, and with which cryptography.
//!
//! It is not a connection and knows no hosts. `main` makes one [`Trust`] and hands it to the hub session and to the
//! image's HTTP client, so that both trust the same authorities and only one TLS library is ever linked in. Both ask it
//! before every connection: authorities may be exchanged under a running daemon.
//!
//! Nothing here can weaken a check: there is no custom verifier, no switch to leave names unchecked, and no
//! process-wide default that somebody else could install first. The provider is named explicitly.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};

use crate::stamp::Stamp;

/// Whom to trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// PEM files with certificate authorities, besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// Trust the authorities that the system trusts (`ca-certificates`).
    pub system_roots: bool,
    /// What time it is for a clock that cannot be right.
    pub clock: ClockFloor,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ca_files: Vec::new(), system_roots: true, clock: ClockFloor::default() }
    }
}

/// Whom to trust as of now: configured files and the system's are read again when they changed, and while something is
/// wrong with them.
#[derive(Clone, Debug)]
pub struct Trust {
    settings: Settings,
    seen: Stamp,
    config: Arc<ClientConfig>,
    problem: Option<String>,
}

impl Trust {
    /// Reads what `settings` name. If that is unusable nobody is trusted, until it is: a system on trial must be
    /// judged whatever is wrong with its certificates, and go back.
    ///
    /// # Errors
    /// If the provider does not do the protocol versions we ask for.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let mut trust = Self {
            config: with_roots(RootCertStore::empty(), settings.clock)?,
            seen: Stamp::default(),
            problem: None,
            settings,
        };
        trust.read();
        Ok(trust)
    }

    /// Trust that never changes.
    pub fn fixed(config: Arc<ClientConfig>) -> Self {
        let settings = Settings { system_roots: false, ..Settings::default() };
        let seen = Stamp::of([]);
        Self { settings, seen, config, problem: None }
    }

    /// The configuration for a connection that begins now. What became unusable leaves what it was: a file may be
    /// half written.
    pub fn now(&mut self) -> Arc<ClientConfig> {
        // What is wrong may lie in a file that no stamp is taken of.
        if self.problem.is_some() || self.seen != self.stamp() {
            self.read();
        }
        self.config.clone()
    }

    /// What is wrong with the files, if anything is.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn stamp(&self) -> Stamp {
        let system = if self.settings.system_roots { system_files() } else { Vec::new() };
        Stamp::of(self.settings.ca_files.iter().chain(&system).map(PathBuf::as_path))
    }

    fn read(&mut self) {
        self.seen = self.stamp();
        match client_config(&self.settings) {
            Ok(config) => (self.config, self.problem) = (config, None),
            Err(error) => {
                let cause = std::error::Error::source(&error).map_or(String::new(), |it| format!(": {it}"));
                self.problem = Some(format!("{error}{cause}"));
            }
        }
    }
}

/// `config`, with what `who` has to show for us.
pub fn presenting(config: &ClientConfig, who: Arc<dyn ResolvesClientCert>) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.client_auth_cert_resolver = who;
    Arc::new(config)
}

/// What to make of a clock that cannot be right: a device without a battery for its clock starts in 1970, where no
/// certificate is good. Times are counted from 1970.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ClockFloor {
    /// A clock that tells an earlier time is not believed.
    pub believed_from: Duration,
    /// What is taken for the time then.
    pub otherwise: Duration,
}

impl TimeProvider for ClockFloor {
    fn current_time(&self) -> Option<UnixTime> {
        let now = UnixTime::now();
        let is_believed = now.as_secs() >= self.believed_from.as_secs();
        Some(if is_believed { now } else { UnixTime::since_unix_epoch(self.otherwise) })
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
    with_roots(roots, settings.clock)
}

/// Where the system's authorities are: a file with all of them, and directories, which change when one comes or goes.
fn system_files() -> Vec<PathBuf> {
    let found = openssl_probe::probe();
    found.cert_file.into_iter().chain(found.cert_dir).collect()
}

fn with_roots(roots: RootCertStore, clock: ClockFloor) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(clock))
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
        Settings { ca_files: vec![path.to_owned()], system_roots: false, ..Settings::default() }
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
        let nobody = Settings { system_roots: false, ..Settings::default() };
        let error = client_config(&nobody).unwrap_err().to_string();
        assert!(error.contains("tls.ca_files"), "{error}");
    }
    #[test]
    fn authorities_are_exchanged_under_a_running_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let make = || {
            let key = rcgen::KeyPair::generate().unwrap();
            rcgen::CertificateParams::new(vec!["ca".into()]).unwrap().self_signed(&key).unwrap().pem()
        };
        let mut trust = Trust::new(only(&path)).unwrap();
        assert!(trust.problem().is_some_and(|it| it.contains("ca.pem") && it.contains("No such file")));
        let nobody = trust.now();
        std::fs::write(&path, make()).unwrap();
        let first = trust.now();
        assert!(!Arc::ptr_eq(&nobody, &first) && trust.problem().is_none());
        assert!(Arc::ptr_eq(&first, &trust.now()), "read once");
        std::fs::write(&path, "half writ").unwrap();
        assert!(Arc::ptr_eq(&first, &trust.now()), "what was good stays");
        assert!(trust.problem().is_some());
        std::fs::write(&path, make().repeat(2)).unwrap();
        assert!(!Arc::ptr_eq(&first, &trust.now()) && trust.problem().is_none());
    }

    /// By a program of its own: where the system's authorities are is told by the environment, which other tests share.
    #[test]
    fn the_systems_authorities_are_exchanged_under_a_running_daemon_too() {
        const PLACE: &str = "TWINBOOT_TEST_AUTHORITIES";
        let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
            let directory = tempfile::tempdir().unwrap();
            let name = "tls::tests::the_systems_authorities_are_exchanged_under_a_running_daemon_too";
            let ran = std::process::Command::new(std::env::current_exe().unwrap())
                .args([name, "--exact", "--nocapture"])
                .env(PLACE, directory.path())
                .env("SSL_CERT_FILE", directory.path().join("all.pem"))
                .env("SSL_CERT_DIR", directory.path().join("each"))
                .output()
                .unwrap();
            let said =
                String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success() && said.contains("1 passed"), "{said}");
            return;
        };
        let pem = || {
            let key = rcgen::KeyPair::generate().unwrap();
            rcgen::CertificateParams::new(vec!["ca".into()]).unwrap().self_signed(&key).unwrap().pem()
        };
        let one = place.join("each/0123abcd.0");
        std::fs::create_dir(place.join("each")).unwrap();
        std::fs::write(&one, "half writ").unwrap();
        // So that the next change of it is seen, however soon it comes.
        std::fs::File::open(place.join("each")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let mut trust = Trust::new(Settings::default()).unwrap();
        assert!(trust.problem().is_some_and(|it| it.contains("ca-certificates")), "{:?}", trust.problem());
        let nobody = trust.now();
        // Its directory does not tell.
        std::fs::write(&one, pem()).unwrap();
        let first = trust.now();
        assert!(!Arc::ptr_eq(&nobody, &first) && trust.problem().is_none(), "{:?}", trust.problem());
        assert!(Arc::ptr_eq(&first, &trust.now()), "read once");
        std::fs::write(place.join("each/4567abcd.0"), pem()).unwrap();
        let second = trust.now();
        assert!(!Arc::ptr_eq(&first, &second), "one more");
        std::fs::write(place.join("all.pem"), pem()).unwrap();
        let third = trust.now();
        assert!(!Arc::ptr_eq(&second, &third), "a file with all of them");
        std::fs::write(place.join("all.pem"), pem() + &pem()).unwrap();
        assert!(!Arc::ptr_eq(&third, &trust.now()), "another one in its place");
    }

    #[test]
    fn p134_certificates_are_not_judged_by_a_clock_in_1970() {
        let at = |believed_from| {
            let otherwise = Duration::from_secs(7);
            let floor = ClockFloor { believed_from: Duration::from_secs(believed_from), otherwise };
            floor.current_time().unwrap().as_secs()
        };
        assert_eq!(at(1 << 40), 7);
        assert!(at(1_700_000_000) > 1_700_000_000, "a clock that may be right is never second-guessed");
    }
}
