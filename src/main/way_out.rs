//! From the configuration to who this device is and how it gets out: identity, trust, proxy.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use twinboot::config::{self, Attestation, Config};
use twinboot::events;
use twinboot::hub::credential::Keeper;
use twinboot::hub::keyfile::KeyFile;
use twinboot::hub::pair::PairFiles;
use twinboot::hub::provisioning::{Enrolment, Provisioning};
use twinboot::hub::{self, Source, StringFile, registration};
use twinboot::model::Timestamp;
use twinboot::proxy::Proxy;
use twinboot::secret::Guard;
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

/// Whom to trust; nobody, as long as that is unusable. A system on trial must be judged whatever is wrong with it.
pub(crate) fn trust(tls: &config::Tls, floor: Timestamp) -> anyhow::Result<Trust> {
    let clock = tls::ClockFloor {
        believed_from: Duration::from_millis(hub::CLOCK_FLOOR.0),
        otherwise: Duration::from_millis(floor.0),
    };
    let ca_files = tls.ca_files.clone();
    let trust = Trust::new(tls::Settings { ca_files, system_roots: tls.system_roots, clock });
    let trust = trust.context("setting up TLS")?;
    if let Some(problem) = trust.problem() {
        events::network_unusable(problem);
    }
    Ok(trust)
}

/// The proxy, if there is one.
pub(crate) fn proxy(proxy: &config::Proxy) -> Option<Proxy> {
    let address = proxy.url.clone()?;
    let credentials = proxy.credentials_file.as_deref().map(find);
    Some(Proxy::new(address, credentials, guard(), proxy.no_proxy.clone()))
}

/// Who says who this device is; `None` if nobody does: then it can be asked on its own socket only. What is unusable
/// now may be corrected under the running daemon, so it is only told.
pub(crate) fn identity(config: &Config, root: &Path) -> Option<Source> {
    match (&config.provisioning.id_scope, &config.provisioning.registration_id) {
        (Some(id_scope), Some(registration)) => {
            let registration = match registration::resolve(registration, root) {
                Ok(registration) => registration,
                Err(error) => {
                    events::network_unusable(&error);
                    return None;
                }
            };
            Some(provisioned(config, id_scope.clone(), registration))
        }
        (None, _) | (_, None) => connection_string(config),
    }
}

/// Whether [`identity`] would find something, by now.
pub(crate) fn has_identity(config: &Config, root: &Path) -> bool {
    match (&config.provisioning.id_scope, &config.provisioning.registration_id) {
        (Some(_), Some(registration)) => registration::resolve(registration, root).is_ok(),
        (None, _) | (_, None) => {
            let credentials = guard().credentials;
            config::candidates(&config.hub.connection_string_file, credentials.as_deref())
                .iter()
                .any(|path| is_there(path))
        }
    }
}

fn connection_string(config: &Config) -> Option<Source> {
    let candidates = config::candidates(&config.hub.connection_string_file, guard().credentials.as_deref());
    let Some(path) = candidates.iter().find(|path| is_there(path)) else {
        let wanted = candidates.last().map_or(String::new(), |path| path.display().to_string());
        events::not_provisioned(&wanted);
        return None;
    };
    let mut file = StringFile::new(path.clone(), guard(), pair(config));
    if let Err(error) = file.identity() {
        events::network_unusable(&error);
    }
    Some(Source::File(Box::new(file)))
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
    let mut keeper =
        keeper.unwrap_or_else(|| Box::new(KeyFile::of_device(find(&from.symmetric_key_file), guard())));
    if let Err(error) = keeper.credential() {
        events::network_unusable(&error);
    }
    let payload = from.payload_file.as_deref().map(find);
    let enrolment = Enrolment { id_scope, registration, endpoint: from.endpoint.clone(), payload };
    Source::Provisioned(Box::new(Provisioning::new(enrolment, keeper, config.state.directory.clone())))
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
fn is_there(path: &Path) -> bool {
    let is_blank = std::fs::read(path).is_ok_and(|text| text.trim_ascii().is_empty());
    path.exists() && !is_blank
}

/// The first place where the file is, or the last where it could be.
fn find(file: &Path) -> PathBuf {
    let mut candidates = config::candidates(file, guard().credentials.as_deref());
    let last = candidates.pop().unwrap_or_else(|| file.to_owned());
    candidates.into_iter().find(|path| is_there(path)).unwrap_or(last)
}
