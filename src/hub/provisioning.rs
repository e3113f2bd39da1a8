//! The Device Provisioning Service: asks which hub this device belongs to, and remembers the answer.
//!
//! Not the talk with the service itself (`conversation`), nor the memory ([`super::memory`]), which outlives a restart
//! so that a device that starts where the service cannot be reached still finds its hub. The service is asked again when
//! - nothing fitting is remembered: another id scope, registration, service or payload than now;
//! - the hub refused us three times in a row, as one does that we were moved away from;
//! - ten connections in a row failed for whatever reason: a hub may be gone for good.
//!
//! How long to wait in between is up to the session, whose waits grow and are random; so a fleet that was moved does not
//! come to the service at once, and a device that is disabled asks a few times an hour.

mod conversation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use sha2::{Digest as _, Sha256};
use tracing::debug;

use super::Lost;
use super::credential::Keeper;
use super::identity::{HubName, Identity};
use super::memory::{Assigned, Memory};
use super::settings::Settings;
use super::way::{Target, Way};
use crate::model::Timestamp;
use crate::proxy::Proxy;

/// So many refusals in a row, and the service is asked again.
const REFUSALS: u32 = 3;
/// So many failures in a row, whatever they are, and the service is asked again.
const FAILURES: u32 = 10;
/// No payload of a registration is near this many bytes.
const MAX_PAYLOAD: u64 = 64 * 1024;

/// What to tell the service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrolment {
    /// Which instance of the service: its id scope.
    pub id_scope: String,
    /// Who we are to it.
    pub registration: String,
    /// Where it is.
    pub endpoint: HubName,
    /// A file with a JSON document for whoever decides about the hub.
    pub payload: Option<PathBuf>,
}

/// What there is to connect with.
pub(super) struct Circumstances<'a> {
    pub way: Way,
    pub proxy: Option<&'a Proxy>,
    pub tls: &'a Arc<ClientConfig>,
    pub settings: &'a Settings,
    pub now: Timestamp,
}

/// Who we are, by the service's word.
#[derive(Debug)]
pub struct Provisioning {
    enrolment: Enrolment,
    keeper: Box<dyn Keeper>,
}

impl Provisioning {
    /// `keeper` proves to the service who we are, and to the hub as well.
    pub fn new(enrolment: Enrolment, keeper: Box<dyn Keeper>) -> Self {
        Self { enrolment, keeper }
    }

    /// The service's port, if another than usual is named.
    pub(super) fn port(&self) -> Option<u16> {
        self.enrolment.endpoint.port
    }

    pub(super) fn keeper(&self) -> &dyn Keeper {
        &*self.keeper
    }

    /// Who we are: as remembered, or as the service says now, which is remembered then.
    pub(super) async fn identity(
        &mut self,
        around: Circumstances<'_>,
        memory: &mut Memory,
    ) -> Result<Identity, Lost> {
        let credential = self.keeper.credential().map_err(Lost::Credential)?;
        let payload = payload(self.enrolment.payload.as_deref()).map_err(Lost::Credential)?;
        let asked = self.question(payload.as_ref());
        let fits = memory.assigned.as_ref().is_some_and(|assigned| assigned.asked == asked);
        if !fits || memory.refusals >= REFUSALS || memory.failures >= FAILURES {
            // Whatever comes of it, the hub is next: the service may be unreachable and the hub may have come back.
            (memory.refusals, memory.failures) = (0, 0);
            let endpoint = &self.enrolment.endpoint;
            let target = Target { dialled: &endpoint.host, host: &endpoint.host, port: endpoint.port };
            let (hub, device) =
                conversation::register(&around, target, &self.enrolment, &credential, payload).await?;
            debug!(%hub, %device, "assigned by the provisioning service");
            memory.assigned = Some(Assigned { hub, device, asked });
        }
        let Some(assigned) = &memory.assigned else {
            return Err(Lost::Malformed("no assignment".to_owned()));
        };
        let hub =
            assigned.hub.parse().map_err(|wanted| Lost::Malformed(format!("the hub's name: {wanted}")))?;
        Ok(Identity { hub, device: assigned.device.clone(), gateway: None, credential })
    }

    /// A digest of all that the answer depends on.
    fn question(&self, payload: Option<&serde_json::Value>) -> String {
        let Enrolment { id_scope, registration, endpoint, payload: _ } = &self.enrolment;
        let payload = payload.map_or(String::new(), ToString::to_string);
        let mut hash = Sha256::new();
        for part in [id_scope, registration, &endpoint.host, &payload] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn payload(path: Option<&Path>) -> Result<Option<serde_json::Value>, String> {
    let Some(path) = path else { return Ok(None) };
    let named = |error: String| format!("the payload of the registration, {}: {error}", path.display());
    let length = path.metadata().map_err(|error| named(error.to_string()))?.len();
    if length > MAX_PAYLOAD {
        return Err(named(format!("longer than {MAX_PAYLOAD} bytes")));
    }
    let text = std::fs::read(path).map_err(|error| named(error.to_string()))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| named(format!("no JSON: {error}")))
}

/// Whether this can be a registration id, or an id scope: what the service allows of the first.
pub fn is_registration_id(text: &str) -> bool {
    let last = text.bytes().next_back().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'-');
    let all = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':'));
    last && all && text.len() <= 128
}
