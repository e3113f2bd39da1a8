//! A certificate and its private key in two PEM files, for devices that the hub knows by X.509.
//!
//! Not whether the hub will take it: that it says itself. The pair is read again when either file changed; they are
//! exchanged one after the other, so a pair that does not belong together leaves the one before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::certificate::Certificate;
use super::credential::{Credential, Keeper};
use crate::model::Timestamp;
use crate::secret::Guard;
use crate::stamp::Kept;

/// Longest chain of certificates that is read, in bytes.
const MAX_CHAIN: u64 = 256 * 1024;

/// The two files.
#[derive(Debug)]
pub struct PairFiles {
    kept: Kept<Pair>,
    guard: Guard,
    provider: Arc<CryptoProvider>,
}

/// What was read from them.
#[derive(Debug)]
struct Pair {
    resolver: Arc<SingleCertAndKey>,
    /// The certificate counts from the first to the second of these; `None` if that cannot be made out.
    validity: Option<[Timestamp; 2]>,
}

impl PairFiles {
    /// `certificate` holds the device's certificate first and then those that lead to a known authority;
    /// `private_key` the key, as PKCS#8, SEC1 or PKCS#1. Nothing is read yet.
    pub fn new(certificate: PathBuf, private_key: PathBuf, guard: Guard) -> Self {
        let kept = Kept::new(vec![certificate, private_key]);
        Self { kept, guard, provider: Arc::new(default_provider()) }
    }

    /// When the certificate begins to count.
    pub fn beginning(&self) -> Option<Timestamp> {
        self.kept.good().and_then(|pair| pair.validity).map(|[from, _]| from)
    }
}

impl Keeper for PairFiles {
    fn credential(&mut self) -> Result<Credential, String> {
        let (guard, provider) = (&self.guard, &self.provider);
        let pair = self.kept.now(|files| read(&files[0], &files[1], guard, provider))?;
        Ok(Credential::Certificate(pair.resolver.clone()))
    }

    fn expiry(&self) -> Option<Timestamp> {
        self.kept.good().and_then(|pair| pair.validity).map(|[_, to]| to)
    }

    fn warnings(&self) -> Vec<String> {
        self.kept.problem().map(str::to_owned).into_iter().collect()
    }
}

fn read(
    certificate: &Path,
    private_key: &Path,
    guard: &Guard,
    provider: &CryptoProvider,
) -> Result<Pair, String> {
    let name = certificate.display();
    let length =
        certificate.metadata().map_err(|error| format!("reading the certificate {name}: {error}"))?.len();
    if length > MAX_CHAIN {
        return Err(format!("the certificate {name} is far too long"));
    }
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| format!("reading the certificate {name}: {error}"))?;
    let Some(first) = chain.first() else {
        return Err(format!("no certificate in {name}: a PEM file with BEGIN CERTIFICATE is needed"));
    };
    let Some(Certificate { validity, key: theirs }) = Certificate::read(first) else {
        return Err(format!("the first certificate in {name} is damaged"));
    };
    let theirs = theirs.to_vec();
    let text = guard.read(private_key, "a private key").map_err(|error| error.to_string())?;
    let key_name = private_key.display();
    // The error could quote the file.
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
        format!("no private key in {key_name}: an unencrypted PEM file with BEGIN PRIVATE KEY is needed")
    })?;
    let key = provider.key_provider.load_private_key(key).map_err(|_| {
        format!(
            "the private key in {key_name} is of a kind that is not known: RSA, P-256, P-384 and Ed25519 are"
        )
    })?;
    if key.public_key().is_some_and(|ours| *ours != *theirs) {
        return Err(format!("{name} and {key_name} are no pair: exchange both"));
    }
    let pair = CertifiedKey::new(chain, key);
    Ok(Pair { resolver: Arc::new(SingleCertAndKey::from(pair)), validity })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Files {
        _directory: tempfile::TempDir,
        certificate: PathBuf,
        key: PathBuf,
    }

    impl Files {
        fn new() -> (Self, PairFiles) {
            let directory = tempfile::tempdir().unwrap();
            let (certificate, key) =
                (directory.path().join("device.pem"), directory.path().join("device.key"));
            let keeper = PairFiles::new(certificate.clone(), key.clone(), Guard::default());
            (Self { _directory: directory, certificate, key }, keeper)
        }

        fn write_key(&self, text: &str, mode: u32) {
            std::fs::write(&self.key, text).unwrap();
            std::fs::set_permissions(&self.key, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    fn make() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["dev1".into()]).unwrap().self_signed(&key).unwrap();
        (made.pem(), key.serialize_pem())
    }

    /// The certificate that is shown.
    fn shown(keeper: &mut PairFiles) -> Result<Vec<u8>, String> {
        match keeper.credential()? {
            Credential::Certificate(resolver) => Ok(resolver.resolve(&[], &[]).unwrap().cert[0].to_vec()),
            Credential::Key(_) => panic!(),
        }
    }

    #[test]
    fn a_pair_is_exchanged_file_by_file_and_stays_whole() {
        let (files, mut keeper) = Files::new();
        assert!(shown(&mut keeper).unwrap_err().contains("device.pem"));
        let (certificate, key) = make();
        std::fs::write(&files.certificate, &certificate).unwrap();
        assert!(shown(&mut keeper).unwrap_err().contains("device.key"));
        files.write_key(&key, 0o600);
        let first = shown(&mut keeper).unwrap();
        assert_eq!(keeper.warnings(), [""; 0]);
        assert!(keeper.expiry().is_some_and(|it| it > keeper.beginning().unwrap()));

        let (certificate, key) = make();
        std::fs::write(&files.certificate, &certificate[..certificate.len() / 2]).unwrap();
        assert_eq!(shown(&mut keeper).unwrap(), first, "half written");
        std::fs::write(&files.certificate, &certificate).unwrap();
        assert_eq!(shown(&mut keeper).unwrap(), first, "the key is still the old one");
        assert!(keeper.warnings()[0].contains("no pair"), "{:?}", keeper.warnings());
        files.write_key(&key, 0o644);
        assert_eq!(shown(&mut keeper).unwrap(), first, "exposed");
        assert!(keeper.warnings()[0].contains("chmod 600"), "{:?}", keeper.warnings());
        files.write_key(&key, 0o600);
        assert_ne!(shown(&mut keeper).unwrap(), first);
        assert_eq!(keeper.warnings(), [""; 0]);
    }

    #[test]
    fn whatever_is_wrong_names_the_file_and_shows_nothing() {
        let (files, mut keeper) = Files::new();
        let (certificate, key) = make();
        std::fs::write(&files.certificate, &certificate).unwrap();
        for (text, mode, needle) in [
            (key.as_str(), 0o640, "chmod 600"),
            ("hunter2", 0o600, "BEGIN PRIVATE KEY"),
            ("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n", 0o600, "device.key"),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
                0o600,
                "unencrypted",
            ),
            (make().1.as_str(), 0o600, "no pair"),
        ] {
            files.write_key(text, mode);
            let error = shown(&mut keeper).unwrap_err();
            assert!(error.contains(needle) && error.contains("device.key"), "{error}");
            assert!(!error.contains("hunter2") && !error.contains(&key[30..60]), "{error}");
        }
        files.write_key(&key, 0o600);
        for text in ["", "no certificate"] {
            std::fs::write(&files.certificate, text).unwrap();
            assert!(shown(&mut keeper).unwrap_err().contains("BEGIN CERTIFICATE"));
        }
    }

    /// Keys as openssl 3 writes them: `genpkey`, `ecparam -genkey -noout`, `rsa -traditional`.
    #[test]
    fn pkcs8_sec1_and_pkcs1_are_read() {
        for (certificate, key, kind) in [
            (include_str!("pair/ec.pem"), include_str!("pair/ec-sec1.key"), "BEGIN EC PRIVATE KEY"),
            (include_str!("pair/ec.pem"), include_str!("pair/ec-pkcs8.key"), "BEGIN PRIVATE KEY"),
            (include_str!("pair/rsa.pem"), include_str!("pair/rsa-pkcs1.key"), "BEGIN RSA PRIVATE KEY"),
        ] {
            assert!(key.contains(kind));
            let (files, mut keeper) = Files::new();
            std::fs::write(&files.certificate, certificate).unwrap();
            files.write_key(key, 0o600);
            shown(&mut keeper).unwrap();
            let text = |it: Option<Timestamp>| it.unwrap().to_string();
            assert_eq!(text(keeper.beginning()), "2026-11-21T00:00:00.000Z", "{kind}");
            assert_eq!(text(keeper.expiry()), "2056-01-02T03:04:05.000Z", "{kind}");
        }
    }
}
