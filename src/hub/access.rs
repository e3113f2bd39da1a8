//! Who we are and how we get through: everything that must be known before a connection, looked up anew for each.
//!
//! Keys, certificates and authorities may be exchanged, and ports closed, under a daemon that runs for years. So a
//! session does not hold an identity; it asks here for a link, and what is on disk by then is used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use super::Lost;
use super::credential::{Credential, Keeper};
use super::dial::{self, Dial, Opened, Opening};
use super::identity::{Identity, StringFile};
use super::memory::{Memory, Shelf};
use super::provisioning::{Circumstances, Provisioning};
use super::settings::{Settings, Transport};
use super::way::{self, Target, Ways};
use crate::model::Timestamp;
use crate::proxy::Proxy;
use crate::tls::{self, Trust};

/// A connection that was let in by a certificate is renewed this often: so an exchanged one is in use within a day, and
/// an operator hears of a hub that would not take it any more while there is still a connection.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Renewing more often than this is of no use, however near the end is.
const SHORTEST_LIFE: Duration = Duration::from_secs(10 * 60);
/// So long before a certificate ends it is warned of.
const ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Who says who we are.
#[derive(Debug)]
pub enum Source {
    /// Somebody who will not change their mind.
    Fixed(Identity),
    /// A connection string in a file.
    File(Box<StringFile>),
    /// The provisioning service.
    Provisioned(Box<Provisioning>),
    /// Not known yet: it is looked for before every connection, until it is found.
    Sought(Seeker),
}

/// Looks for who says who we are.
pub struct Seeker(Box<dyn Fn() -> Result<Source, Lost> + Send>);

impl Seeker {
    /// `seek` finds it, or says why there is none: [`Lost::Unprovisioned`] or [`Lost::Credential`].
    pub fn new(seek: impl Fn() -> Result<Source, Lost> + Send + 'static) -> Self {
        Self(Box::new(seek))
    }
}

impl fmt::Debug for Seeker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seeker")
    }
}

/// The way to a session's next link.
#[derive(Debug)]
pub struct Access {
    source: Source,
    trust: Trust,
    proxy: Option<Proxy>,
    memory: Memory,
    shelf: Option<Shelf>,
    known: Introduction,
    told: Introduction,
}

/// Who we turned out to be, and what an operator should know about it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Introduction {
    /// The hub's name; empty while it is not known.
    pub hub: String,
    /// The device id; empty while it is not known.
    pub device: String,
    /// How the hub is reached, to be put behind its name; empty for what is usual.
    pub way: String,
    /// What works and should not stay as it is.
    pub warnings: Vec<String>,
}

impl Access {
    /// Access for whoever `source` says we are, to hubs that `trust` trusts.
    pub fn new(source: Source, trust: Trust, proxy: Option<Proxy>) -> Self {
        let known = Introduction::default();
        let memory = Memory::default();
        Self { source, trust, proxy, memory, shelf: None, told: known.clone(), known }
    }

    /// With what `shelf` remembers, and remembering there.
    #[must_use]
    pub fn remembering(self, shelf: Shelf) -> Self {
        Self { memory: shelf.memory(), shelf: Some(shelf), ..self }
    }

    /// With what somebody else remembers.
    pub(super) fn recalling(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    /// What is to be remembered.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Who we turned out to be so far.
    pub(super) fn introduction(&self) -> &Introduction {
        &self.known
    }

    /// Whether the hub lets us in: connects, greets, and leaves again. Where either way may be gone, both are tried. What
    /// it is told by is who we turned out to be.
    ///
    /// # Errors
    /// What was in the way, the last time it was tried.
    pub async fn try_out(&mut self, settings: &Settings, now: Timestamp) -> Result<Introduction, Lost> {
        let first = self.open(settings, now).await;
        if first.is_err() && settings.transport == Transport::Auto {
            self.open(settings, now).await?;
        } else {
            first?;
        }
        Ok(self.known.clone())
    }

    /// Connects, greets and subscribes. `now` is the time to sign for.
    pub(super) async fn open(&mut self, settings: &Settings, now: Timestamp) -> Result<Opened, Lost> {
        let tls = self.trust.now();
        let result = self.reach(tls, settings, now).await;
        if matches!(self.source, Source::Provisioned(_)) {
            self.memory.note(result.as_ref().err());
        }
        if let Some(shelf) = &mut self.shelf {
            shelf.keep(&self.memory);
        }
        self.known.warnings = self.warnings(now);
        result
    }

    async fn reach(
        &mut self,
        tls: Arc<ClientConfig>,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Opened, Lost> {
        if let Source::Sought(Seeker(seek)) = &self.source {
            self.source = seek()?;
        }
        let mut ways = Ways::new(settings.transport, self.memory.way);
        let (way, proxy) = (ways.next(), self.proxy.as_ref());
        let identity = match &mut self.source {
            Source::Fixed(identity) => Ok(identity.clone()),
            Source::File(file) => file.identity().map_err(Lost::Credential),
            Source::Provisioned(provisioning) => {
                let port = provisioning.port();
                let circumstances = Circumstances { way, proxy, tls: &tls, settings, now };
                let identity = provisioning.identity(circumstances, &mut self.memory).await;
                if let Err(lost) = &identity {
                    ways.note(Some(lost), port, settings);
                    self.memory.way = Some(ways.next());
                }
                identity
            }
            Source::Sought(_) => Err(Lost::Credential("nobody says who this device is".to_owned())),
        }?;
        self.known.hub.clone_from(&identity.hub.host);
        self.known.device.clone_from(&identity.device);
        self.known.way = way::in_words(way, proxy, identity.dialled());
        let tls = armed(&tls, &identity.credential);
        let expiry = match &self.source {
            Source::Fixed(_) | Source::Sought(_) => None,
            Source::File(file) => file.keeper().and_then(Keeper::expiry),
            Source::Provisioned(provisioning) => provisioning.keeper().expiry(),
        };
        let target =
            Target { dialled: identity.dialled(), host: &identity.hub.host, port: identity.hub.port };
        let opened = async {
            let stream = way::connect(way, target, proxy, tls, settings).await?;
            let opened = dial::ready(stream, &identity, settings, now).await?;
            Ok(match identity.credential {
                Credential::Key(_) => opened,
                Credential::Certificate(_) => Opened { lives: Some(life(expiry, now)), ..opened },
            })
        };
        let result = opened.await;
        ways.note(result.as_ref().err(), identity.hub.port, settings);
        self.memory.way = Some(ways.next());
        result
    }

    fn warnings(&self, now: Timestamp) -> Vec<String> {
        let (problem, keeper) = match &self.source {
            Source::Fixed(_) | Source::Sought(_) => (None, None),
            Source::File(file) => (file.problem(), file.keeper()),
            Source::Provisioned(provisioning) => (None, Some(provisioning.keeper())),
        };
        let unsaved = self.shelf.as_ref().and_then(Shelf::problem);
        let authorities = self.trust.problem().map(|problem| format!("certificate authorities: {problem}"));
        let problem = problem.or(unsaved).map(str::to_owned);
        let kept = keeper.into_iter().flat_map(|keeper| {
            keeper.warnings().into_iter().chain(keeper.expiry().and_then(|expiry| ending(expiry, now)))
        });
        authorities.into_iter().chain(problem).chain(kept).collect()
    }
}

/// The way to the next link, as a session wants it.
pub(super) struct Door {
    pub access: Access,
    pub settings: Settings,
}

impl Dial for Door {
    fn open(&mut self, now: Timestamp) -> Opening<'_> {
        Box::pin(self.access.open(&self.settings, now))
    }

    fn device(&self) -> &str {
        &self.access.known.device
    }

    fn news(&mut self) -> Option<Introduction> {
        let Access { known, told, .. } = &mut self.access;
        if told == known {
            return None;
        }
        told.clone_from(known);
        Some(known.clone())
    }
}

/// `tls`, with the certificate if that is what proves who we are.
pub(super) fn armed(tls: &Arc<ClientConfig>, credential: &Credential) -> Arc<ClientConfig> {
    match credential {
        Credential::Key(_) => tls.clone(),
        Credential::Certificate(resolver) => tls::presenting(tls, resolver.clone()),
    }
}

/// How long a connection may last that begins now and was let in by a certificate.
fn life(expiry: Option<Timestamp>, now: Timestamp) -> Duration {
    expiry.map_or(CERTIFICATE_LIFE, |expiry| {
        let left = Duration::from_millis(expiry.0.saturating_sub(now.0));
        left.clamp(SHORTEST_LIFE, CERTIFICATE_LIFE)
    })
}

fn ending(expiry: Timestamp, now: Timestamp) -> Option<String> {
    let left = expiry.0.saturating_sub(now.0);
    if left == 0 {
        Some(format!(
            "the device's certificate ended at {expiry}: the hub will refuse it until it is exchanged"
        ))
    } else if u128::from(left) < ENDS_SOON.as_millis() {
        Some(format!("the device's certificate ends soon, at {expiry}: exchange it before"))
    } else {
        None
    }
}
