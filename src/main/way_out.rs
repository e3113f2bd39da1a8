//! From the configuration to who this device is and how it gets out: identity, trust, proxy. Used by whoever has the
//! network: the only process there is, or the network side of two.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use twinboot::config::{self, Attestation, Config};
use twinboot::hub::credential::Keeper;
use twinboot::hub::keyfile::KeyFile;
use twinboot::hub::pair::PairFiles;
use twinboot::hub::provisioning::{Enrolment, Provisioning};
use twinboot::hub::{self, Access, Lost, Seeker, Source, StringFile, registration};
use twinboot::image::Direct;
use twinboot::model::Timestamp;
use twinboot::proxy::Proxy;
use twinboot::secret::{self, Guard};
use twinboot::tls::{self, Trust};

/// What time it is for a clock that cannot be right: when our record was last saved, if that is later than the day this
/// program was made.
pub(crate) fn clock_floor(state: &Path) -> Timestamp {
    let changed = |entry: std::io::Result<std::fs::DirEntry>| {
        let since = entry.ok()?.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    };
    let newest = std::fs::read_dir(state).ok().and_then(|entries| entries.filter_map(changed).max());
    Timestamp(newest.unwrap_or(0)).max(hub::CLOCK_FLOOR)
}

/// How to get out.
#[derive(Clone, Debug)]
pub(crate) struct WayOut {
    trust: Trust,
    proxy: Option<Proxy>,
    connect_timeout: Duration,
}

impl WayOut {
    /// As `config` says. Nobody is trusted as long as what it names is unusable: a system on trial must be judged
    /// whatever is wrong with it.
    pub(crate) fn new(config: &Config, floor: Timestamp) -> anyhow::Result<Self> {
        let clock = tls::ClockFloor {
            believed_from: Duration::from_millis(hub::CLOCK_FLOOR.0),
            otherwise: Duration::from_millis(floor.0),
        };
        let ca_files = config.tls.ca_files.clone();
        let trust = Trust::new(tls::Settings { ca_files, system_roots: config.tls.system_roots, clock });
        let trust = trust.context("setting up TLS")?;
        let connect_timeout = config.download.connect_timeout;
        Ok(Self { trust, proxy: proxy(&config.proxy), connect_timeout })
    }

    /// The way to the hub, for whoever `config` says we are.
    pub(crate) fn access(&self, config: &Config) -> Access {
        Access::new(Source::Sought(identity(config)), self.trust.clone(), self.proxy.clone())
    }

    /// The way to servers with images.
    pub(crate) fn direct(&self) -> Direct {
        Direct::new(self.trust.clone(), self.proxy.clone(), self.connect_timeout)
    }
}

fn proxy(proxy: &config::Proxy) -> Option<Proxy> {
    let address = proxy.url.clone()?;
    let credentials = proxy.credentials_file.as_deref().map(find);
    Some(Proxy::new(address, credentials, guard(), proxy.no_proxy.clone()))
}

/// Who says who this device is. Where nobody does, it is looked for again before every connection.
fn identity(config: &Config) -> Seeker {
    let config = config.clone();
    Seeker::new(move || match (&config.provisioning.id_scope, &config.provisioning.registration_id) {
        (Some(id_scope), Some(registration)) => {
            let registration =
                registration::resolve(registration, root(&config)).map_err(Lost::Credential)?;
            Ok(provisioned(&config, id_scope.clone(), registration))
        }
        (None, _) | (_, None) => connection_string(&config),
    })
}

/// Whether somebody says who this device is, as far as this process can see.
pub(crate) fn has_identity(config: &Config) -> bool {
    match (&config.provisioning.id_scope, &config.provisioning.registration_id) {
        (Some(_), Some(registration)) => registration::resolve(registration, root(config)).is_ok(),
        (None, _) | (_, None) => {
            let credentials = guard().credentials;
            config::candidates(&config.hub.connection_string_file, credentials.as_deref())
                .iter()
                .any(|path| is_there(path))
        }
    }
}

/// The first of the files with secrets, wherever `config` has them looked for, that others than their owner can read. For
/// whoever leaves the reading to the network side: that is given copies, and cannot see it.
pub(crate) fn exposed(config: &Config) -> Option<secret::Error> {
    let files = [
        (Some(&config.hub.connection_string_file), "the connection string"),
        (config.hub.private_key_file.as_ref(), "a private key"),
        (Some(&config.provisioning.symmetric_key_file), "a symmetric key"),
        (config.proxy.credentials_file.as_ref(), "the proxy's password"),
    ];
    files.into_iter().filter_map(|(file, what)| Some((file?, what))).find_map(|(file, what)| {
        config::candidates(file, None).iter().find_map(|path| secret::check(path, what).err())
    })
}

fn root(config: &Config) -> &Path {
    config.simulator.root.as_deref().unwrap_or(Path::new("/"))
}

fn connection_string(config: &Config) -> Result<Source, Lost> {
    let candidates = config::candidates(&config.hub.connection_string_file, guard().credentials.as_deref());
    let Some(path) = candidates.iter().find(|path| is_there(path)) else {
        let wanted = candidates.last().map_or(String::new(), |path| path.display().to_string());
        return Err(Lost::Unprovisioned { wanted });
    };
    tracing::debug!(file = %path.display(), "the connection string");
    Ok(Source::File(Box::new(StringFile::new(path.clone(), guard(), pair(config)))))
}

fn provisioned(config: &Config, id_scope: String, registration: String) -> Source {
    let from = &config.provisioning;
    let key = find(&from.symmetric_key_file);
    let keeper: Option<Box<dyn Keeper>> = match from.attestation {
        Attestation::SymmetricKey => Some(Box::new(KeyFile::of_device(key, guard()))),
        Attestation::GroupKey => Some(Box::new(KeyFile::of_group(key, guard(), registration.clone()))),
        Attestation::X509 => pair(config),
    };
    // The configuration was checked: attestation by X.509 has its files.
    let keeper =
        keeper.unwrap_or_else(|| Box::new(KeyFile::of_device(find(&from.symmetric_key_file), guard())));
    let payload = from.payload_file.as_deref().map(find);
    let enrolment = Enrolment { id_scope, registration, endpoint: from.endpoint.clone(), payload };
    Source::Provisioned(Box::new(Provisioning::new(enrolment, keeper)))
}

/// The device's certificate and key, if they are named.
fn pair(config: &Config) -> Option<Box<dyn Keeper>> {
    let (certificate, key) =
        (config.hub.certificate_file.as_deref()?, config.hub.private_key_file.as_deref()?);
    Some(Box::new(PairFiles::new(find(certificate), find(key), guard())))
}

fn guard() -> Guard {
    Guard { credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) }
}

/// Whether there is a file with something in it: the shipped unit makes blank credentials for what is not there.
pub(crate) fn is_there(path: &Path) -> bool {
    let is_blank = std::fs::read(path).is_ok_and(|text| text.trim_ascii().is_empty());
    path.exists() && !is_blank
}

/// The first place where the file is, or the last where it could be.
fn find(file: &Path) -> PathBuf {
    let mut candidates = config::candidates(file, guard().credentials.as_deref());
    let last = candidates.pop().unwrap_or_else(|| file.to_owned());
    candidates.into_iter().find(|path| is_there(path)).unwrap_or(last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_original_that_others_can_read_is_found_wherever_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, "secret").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let mut config = Config::default();
        config.hub.connection_string_file = file("connection-string");
        config.hub.private_key_file = Some(file("device-key.pem"));
        config.provisioning.symmetric_key_file = directory.path().join("none");
        config.proxy.credentials_file = Some(file("proxy-credentials"));
        assert!(exposed(&config).is_none());
        for name in ["connection-string", "device-key.pem", "proxy-credentials"] {
            let path = directory.path().join(name);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
            let error = exposed(&config).unwrap().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}
