//! One wish to install something, the two ids it is known by, and the terms it is made on.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{Artifact, Location, Timestamp};

/// A wish to install an artifact.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Install {
    /// Exactly this wish: the same id delivered again is the same wish.
    pub id: UpdateId,
    /// What it amounts to, however it is fetched: a new token in the address is not a new intent.
    pub intent: IntentId,
    /// What to install.
    pub artifact: Artifact,
    /// Who asked.
    pub origin: Origin,
    /// What this wish asks for beside the configuration.
    #[serde(default, skip_serializing_if = "Terms::is_usual")]
    pub terms: Terms,
}

/// On which terms an update is wished for, beside what the configuration says. They may be stricter than it, and with
/// [`Terms::force_by`] they end the waiting; they never make an update come sooner by themselves.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct Terms {
    /// Download and verify, then wait to be told to apply, whatever the configuration says: the two-step.
    pub hold: bool,
    /// Ask for consent, even if the configuration does not.
    pub consent: bool,
    /// From this time on wait neither for consent nor for the window.
    pub force_by: Option<Timestamp>,
    /// Nobody asked for it just now: it was found, as on a stick that may be found again at every boot. What was rolled
    /// back is not tried again then, as for the desired property.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unattended: bool,
}

impl Terms {
    /// Whether all is left to the configuration.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// Somebody allowed switching over.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Consent {
    /// Who.
    pub by: Origin,
    /// When, if the clock was to be trusted.
    pub at: Option<Timestamp>,
}

/// Who asked for an update. An explicit request may try again what failed before; the desired property, which the
/// hub delivers again at every reconnect, may not.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The device twin's desired property `firmware`.
    Desired,
    /// A direct method.
    Method,
    /// The control socket of this device.
    Local,
}

impl Install {
    /// Derives both ids from the wish's content. `job` is the requester's own name for this attempt, if any: naming
    /// a new one asks for another try.
    pub fn new(artifact: Artifact, origin: Origin, job: Option<&str>) -> Self {
        let text = |value: Option<String>| value.unwrap_or_default();
        let location = match &artifact.location {
            Location::Url(url) => url.expose().to_owned(),
            Location::File(path) => path.display().to_string(),
        };
        let version = text(artifact.version.as_ref().map(ToString::to_string));
        let sha256 = text(artifact.sha256.as_ref().map(ToString::to_string));
        let size = text(artifact.size.map(|size| size.to_string()));
        // Without a digest only the location tells one artifact from another.
        let what = if sha256.is_empty() { &location } else { &sha256 };
        let job = job.unwrap_or_default();
        let intent = IntentId(fingerprint(&[&version, what, job]));
        let id = UpdateId(fingerprint(&[&version, &sha256, &location, &size, job]));
        Self { id, intent, artifact, origin, terms: Terms::default() }
    }

    /// The same wish on these terms. Terms other than the usual ones make another wish (another [`Install::id`]) of
    /// the same intent.
    #[must_use]
    pub fn on(mut self, terms: Terms) -> Self {
        if !terms.is_usual() {
            let flag = |flag: bool| if flag { "1" } else { "" };
            let force_by = terms.force_by.map_or(String::new(), |time| time.0.to_string());
            let mut parts = vec![self.id.0.as_str(), flag(terms.hold), flag(terms.consent), &force_by];
            // Only where it is so: a wish on other terms, stored by an older twinboot, keeps its id.
            parts.extend(terms.unattended.then_some("unattended"));
            self.id = UpdateId(fingerprint(&parts));
        }
        self.terms = terms;
        self
    }
}

/// 16 hex digits that stand for `parts`, each told apart from its neighbours by its length.
fn fingerprint(parts: &[&str]) -> String {
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    format!("{:.16}", super::Sha256(hash.finalize().into()))
}

/// Names one wish: 16 hex digits derived from all that it says.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(transparent)]
pub struct UpdateId(pub String);

impl UpdateId {
    /// The id of going back to the previous system, which is no wish of the hub's.
    pub const GO_BACK: &'static str = "go-back";
    /// The id of a factory reset.
    pub const FACTORY_RESET: &'static str = "factory-reset";
}

impl fmt::Display for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names what a wish amounts to: version, digest and job, but not the address.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(transparent)]
pub struct IntentId(pub String);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sha256;

    fn wish(url: &str, job: Option<&str>) -> Install {
        let artifact = Artifact {
            version: "2.8.5".parse().ok(),
            location: Location::Url(url.parse().expect("good address")),
            sha256: Some(Sha256::of(b"image")),
            size: None,
        };
        Install::new(artifact, Origin::Desired, job)
    }

    #[test]
    fn a_new_token_is_a_new_wish_with_the_same_intent_and_a_new_job_is_another_try() {
        let first = wish("https://h/fw?sig=1", None);
        assert_eq!(first.id, wish("https://h/fw?sig=1", None).id);
        let token = wish("https://h/fw?sig=2", None);
        assert_ne!(first.id, token.id);
        assert_eq!(first.intent, token.intent);
        let job = wish("https://h/fw?sig=1", Some("again"));
        assert_ne!(first.id, job.id);
        assert_ne!(first.intent, job.intent);
    }

    #[test]
    fn other_terms_make_another_wish_of_the_same_intent() {
        let plain = || wish("https://h/fw", None);
        assert_eq!(plain().on(Terms::default()), plain(), "a wish stored by an older twinboot keeps its id");
        let hold = Terms { hold: true, ..Terms::default() };
        let consent = Terms { consent: true, ..Terms::default() };
        let forced = Terms { force_by: Some(Timestamp(1)), ..Terms::default() };
        let unattended = Terms { unattended: true, ..Terms::default() };
        let mut ids = vec![plain().id];
        for terms in [hold, consent, forced, unattended] {
            let wish = plain().on(terms);
            assert_eq!((wish.intent, wish.terms), (plain().intent, terms));
            assert!(!ids.contains(&wish.id));
            ids.push(wish.id);
        }
    }
}
