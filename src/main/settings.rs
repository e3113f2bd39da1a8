//! From the configuration to the adapters' own settings, section by section. Nothing is opened or looked for here.

use std::path::PathBuf;

use tokio::sync::watch;

use twinboot::config::{self, Config};
use twinboot::engine::{Health, Signing};
use twinboot::health::HubMode;
use twinboot::hooks::Hooks;
use twinboot::keyring::{self, Keyring};
use twinboot::model::{Artifact, Factory, Failure, Location, LogLevel, Rules, Vouching};
use twinboot::program::Runner;
use twinboot::report::{Dialect, Waiting};
use twinboot::{hub, image, properties, slots};

/// How to behave, as far as the hub may change it.
pub(crate) fn rules(config: &Config, verbose: bool) -> Rules {
    Rules {
        window: config.policy.window,
        zone: config.policy.timezone.clone(),
        consent: config.policy.consent,
        rate_limit: config.download.rate_limit,
        progress_every: config.report.progress_every,
        log_level: if verbose { LogLevel::Debug } else { LogLevel::Info },
        ..Rules::default()
    }
}

/// What a factory reset is on this device.
pub(crate) fn factory(reset: &config::FactoryReset) -> Factory {
    let image = reset.image.clone().map(|file| Artifact {
        version: None,
        location: Location::File(file),
        sha256: reset.sha256,
        size: None,
    });
    Factory { image, program: reset.program.is_some() }
}

/// The root keys, or what is wrong with them.
pub(crate) type Keys = Result<Keyring, Vec<keyring::Fault>>;

/// The root keys. Whoever names a directory for them means it to be there; the usual one may be missing.
pub(crate) fn keyring(config: &Config) -> Keys {
    let config::Trust { keys, threshold, .. } = &config.trust;
    Keyring::load(keys, *threshold, *keys == config::Trust::default().keys)
}

/// Why the root keys cannot be used, and what to do about it.
pub(crate) fn unusable(keys: &Keys) -> Option<Waiting> {
    let faults = keys.as_ref().err()?;
    let first = faults.first().cloned().unwrap_or_default();
    let others = match faults.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    let what = format!("the root keys cannot be used: {}{others}", first.what);
    Some(Waiting {
        what,
        remedy: format!("{}; `twinboot check-config` shows all that is wrong", first.remedy),
    })
}

/// Whether there are root keys that can be used.
pub(crate) fn has_keys(keys: &Keys) -> bool {
    keys.as_ref().is_ok_and(|keyring| !keyring.roots().is_empty())
}

/// Whether `new` may take the place of the root keys `old` that are in force; if not, why. Keys that can be used are not given
/// up for a file that cannot: it may be in the middle of being copied. To do without signatures takes somebody who asks for
/// it (`is_asked`): that the last file of a key is gone is not enough.
pub(crate) fn may_follow(new: &Keys, old: &Keys, is_asked: bool) -> Result<(), Waiting> {
    if let Some(unusable) = unusable(new).filter(|_| old.is_ok()) {
        return Err(unusable);
    }
    if is_signed(old) && !is_signed(new) && !is_asked {
        return Err(Waiting {
            what: "the root keys are gone".into(),
            remedy: "put them back; to do without, `twinboot reload`".into(),
        });
    }
    Ok(())
}

/// Whether signatures are asked for. Keys that cannot be used are keys: without one of them a device would take what it was
/// told not to take.
pub(crate) fn is_signed(keys: &Keys) -> bool {
    keys.as_ref().map_or(true, |keyring| !keyring.roots().is_empty())
}

/// What must vouch for an image that is asked for.
pub(crate) fn vouching(config: &Config, keys: &Keys) -> Vouching {
    Vouching { signed: is_signed(keys), undigested: config.trust.allow_undigested }
}

/// By whom bundles must be signed, if anybody must.
pub(crate) fn signing(config: &Config, keys: &Keys) -> Option<Signing> {
    let config::Trust { product, compatible, .. } = config.trust.clone();
    let roots = match (keys, unusable(keys)) {
        (_, Some(Waiting { what, remedy })) => {
            Err(Failure::KeysUnusable.because(format!("{what}: {remedy}")))
        }
        (Ok(keyring), None) => Ok(keyring.roots().clone()),
        (Err(_), None) => return None,
    };
    is_signed(keys).then_some(Signing { roots, product, compatible })
}

/// Where the two slots are.
pub(crate) fn slots(config: &Config) -> slots::Settings {
    slots::Settings {
        a: config.slots.devices.a.0.clone(),
        b: config.slots.devices.b.0.clone(),
        allow_files: config.simulator.root.is_some(),
    }
}

/// How a new system proves itself; `reached` tells whether the hub is connected.
pub(crate) fn health(config: &Config, reached: watch::Receiver<bool>) -> Health {
    Health {
        deadline: config.health.deadline,
        directory: config.health.directory.clone(),
        timeout: config.health.check_timeout,
        hub: match config.health.hub {
            config::HubCheck::Auto => HubMode::Auto,
            config::HubCheck::Required => HubMode::Required,
            config::HubCheck::Ignored => HubMode::Ignored,
        },
        reached,
        units: match config.health.units {
            config::UnitsCheck::Difference => Some(config.health.ignore_units.clone()),
            config::UnitsCheck::Ignored => None,
        },
    }
}

/// What can be read and set of the device.
pub(crate) fn properties(config: &Config, runner: Runner) -> properties::Settings {
    properties::Settings {
        root: root(config),
        state: config.state.directory.clone(),
        directory: config.properties.directory.clone(),
        timeout: config.properties.timeout,
        runner,
    }
}

/// Programs that take part in an update.
pub(crate) fn hooks(config: &Config, runner: Runner) -> Hooks {
    let config::Hooks { directory, timeout, ask_again } = config.hooks.clone();
    Hooks { directory, timeout, ask_again, runner }
}

/// The shapes of the reported properties.
pub(crate) fn dialects(config: &Config) -> Vec<Dialect> {
    let dialect = |dialect: &config::ReportDialect| match dialect {
        config::ReportDialect::Firmware => Dialect::Firmware,
        config::ReportDialect::Flat => Dialect::Flat,
        config::ReportDialect::IothubDm => Dialect::IothubDm,
        config::ReportDialect::Lwm2m => Dialect::Lwm2m,
    };
    config.report.dialects.iter().map(dialect).collect()
}

/// The machine's root directory: that of the simulated one, if it is one.
pub(crate) fn root(config: &Config) -> PathBuf {
    config.simulator.root.clone().unwrap_or_else(|| "/".into())
}

/// The session with the hub; what vouches for an image is for the side to say that judges requests.
pub(crate) fn hub(config: &Config) -> hub::Settings {
    hub::Settings {
        keep_alive: config.hub.keep_alive,
        transport: match config.hub.transport {
            config::Transport::Auto => hub::Transport::Auto,
            config::Transport::Mqtt => hub::Transport::Mqtt,
            config::Transport::WebSocket => hub::Transport::WebSocket,
        },
        websocket_port: u16::try_from(config.hub.websocket_port).unwrap_or(443),
        token_lifetime: config.hub.token_lifetime,
        backoff: [config.hub.backoff.first, config.hub.backoff.last],
        take_messages: true,
        ..hub::Settings::default()
    }
}

/// How images are fetched.
pub(crate) fn image(download: &config::Download) -> image::Settings {
    image::Settings {
        connect_timeout: download.connect_timeout,
        idle_timeout: download.idle_timeout,
        minimum_rate: download.minimum_rate,
        attempts: download.attempts,
        time_limit: download.time_limit,
        backoff: [download.backoff.first, download.backoff.last],
        retry_after_limit: download.retry_after_limit,
        redirects: download.redirects,
        decoder_memory: download.decoder_memory,
        checkpoint_every: download.checkpoint_every,
        data_cap: download.data_cap,
        ..image::Settings::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A public key that OpenSSL made (`openssl genpkey -algorithm ed25519 | openssl pkey -pubout`).
    const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAbFwAlRhm0cqT+itSDynMAfhj2Tgz53ZOmNgNzKjZuBs=\n-----END PUBLIC KEY-----\n";

    /// With this in its file, or without a file.
    fn keys(text: Option<&str>) -> Keys {
        let directory = tempfile::tempdir().unwrap();
        let mode = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(directory.path().to_owned(), 0o755);
        if let Some(text) = text {
            fs::write(directory.path().join("root.pem"), text).unwrap();
            mode(directory.path().join("root.pem"), 0o644);
        }
        Keyring::load(directory.path(), 1, false)
    }

    #[test]
    fn keys_are_given_up_only_on_request_and_never_for_a_broken_file() {
        let (good, broken, none) = (|| keys(Some(KEY)), || keys(Some("no key")), || keys(None));
        assert_eq!([good(), broken(), none()].map(|it| has_keys(&it)), [true, false, false]);
        assert_eq!([good(), broken(), none()].map(|it| is_signed(&it)), [true, true, false]);
        for (old, new, by_itself, asked) in [
            (good(), good(), true, true),
            (good(), broken(), false, false),
            (good(), none(), false, true),
            (broken(), good(), true, true),
            (broken(), broken(), true, true),
            (broken(), none(), false, true),
            (none(), good(), true, true),
            (none(), broken(), false, false),
            (none(), none(), true, true),
        ] {
            let found = [false, true].map(|is_asked| may_follow(&new, &old, is_asked).is_ok());
            assert_eq!(found, [by_itself, asked], "{old:?} {new:?}");
        }
    }
}
