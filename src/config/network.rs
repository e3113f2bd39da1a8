//! The sections about the way out: who the device is, how it reaches its hub, whom it trusts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::sections::{Backoff, minutes};
use crate::hub::identity::HubName;
use crate::proxy::{Address, Exception};

/// `[hub]`: the connection to the hub.
#[derive(Clone, Debug, PartialEq)]
pub struct Hub {
    /// File with the connection string; see [`candidates`] for a relative name.
    pub connection_string_file: PathBuf,
    /// File with the device's certificate, for a device that the hub knows by X.509; as above.
    pub certificate_file: Option<PathBuf>,
    /// File with its private key; as above.
    pub private_key_file: Option<PathBuf>,
    /// How to reach the hub.
    pub transport: Transport,
    /// The port of the WebSocket.
    pub websocket_port: u32,
    /// MQTT keep-alive.
    pub keep_alive: Duration,
    /// How long a token lives.
    pub token_lifetime: Duration,
    /// Waiting between connections.
    pub backoff: Backoff,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            connection_string_file: "connection-string".into(),
            certificate_file: None,
            private_key_file: None,
            transport: Transport::Auto,
            websocket_port: 443,
            keep_alive: minutes(4),
            token_lifetime: minutes(60),
            backoff: Backoff::default(),
        }
    }
}

/// Where to look for a file with a secret, best first. One with a relative name is looked for in `credentials` (the value
/// of `$CREDENTIALS_DIRECTORY`), then on the storage that both slots share, and in `/etc/twinboot`. The shipped unit loads
/// the last two as credentials, with `shared_` and `etc_` before the name, so that they rank there as they do without it,
/// and the name alone is left to whoever loads something else. One with an absolute name is that file; where it cannot be
/// read, `credentials` may have it by the last part of its name. A blank file counts as absent: the shipped unit gives a
/// blank credential to a device that has none yet.
pub fn candidates(file: &Path, credentials: Option<&Path>) -> Vec<PathBuf> {
    let name = file.file_name().unwrap_or_default();
    let given = credentials.into_iter().flat_map(|them| {
        ["", "shared_", "etc_"].map(|from| {
            let mut called = OsString::from(from);
            called.push(name);
            them.join(called)
        })
    });
    let mut candidates: Vec<_> = if file.is_absolute() {
        [file.to_owned()].into_iter().chain(given).chain([file.to_owned()]).collect()
    } else {
        let kept = ["/var/lib/twinboot/credentials", "/etc/twinboot"].map(|them| Path::new(them).join(file));
        given.chain(kept).collect()
    };
    candidates.dedup();
    candidates
}

/// How to reach the hub.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// MQTT, and by turns a WebSocket where nothing is heard of the hub.
    Auto,
    /// MQTT on its own port.
    Mqtt,
    /// MQTT in a WebSocket.
    WebSocket,
}

/// `[provisioning]`: the service that says which hub the device belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Provisioning {
    /// Which instance of the service; `None` if there is a connection string.
    pub id_scope: Option<String>,
    /// Who the device is to it.
    pub registration_id: Option<String>,
    /// Where it is.
    pub endpoint: HubName,
    /// What proves it.
    pub attestation: Attestation,
    /// File with the key; see [`candidates`] for a relative name.
    pub symmetric_key_file: PathBuf,
    /// File with a JSON document for the service; as above.
    pub payload_file: Option<PathBuf>,
}

impl Default for Provisioning {
    fn default() -> Self {
        Self {
            id_scope: None,
            registration_id: None,
            endpoint: HubName { host: "global.azure-devices-provisioning.net".into(), port: None },
            attestation: Attestation::SymmetricKey,
            symmetric_key_file: "symmetric-key".into(),
            payload_file: None,
        }
    }
}

/// What proves to the provisioning service who a device is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attestation {
    /// The device's own key.
    SymmetricKey,
    /// The key of its group.
    GroupKey,
    /// Its certificate.
    X509,
}

/// `[proxy]`: the way out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxy {
    /// Where it is; `None` if connections are direct.
    pub url: Option<Address>,
    /// File with `user:password`; see [`candidates`] for a relative name.
    pub credentials_file: Option<PathBuf>,
    /// Who is reached without it.
    pub no_proxy: Vec<Exception>,
}

/// `[tls]`: whom to trust on the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls {
    /// PEM files of further certificate authorities.
    pub ca_files: Vec<PathBuf>,
    /// Trust the system's authorities too.
    pub system_roots: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca_files: Vec::new(), system_roots: true }
    }
}
