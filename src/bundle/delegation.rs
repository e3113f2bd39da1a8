//! The delegation: which keys may sign manifests, as the root keys say.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::json;
use super::keys::{KeyId, PublicKey};
use super::refusal::Refusal;
use crate::model::Timestamp;

/// The `type` of a delegation.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DelegationType {
    /// The only one.
    #[default]
    Delegation,
}

/// Which keys may sign manifests.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Delegation {
    /// That this is a delegation.
    #[serde(rename = "type")]
    pub document: DelegationType,
    /// [`Delegation::SCHEMA`].
    pub schema: u64,
    /// Counts up with every change; what is lower than a device has seen is void there.
    pub epoch: u64,
    /// The keys, 1 to 32, no two the same.
    pub keys: Vec<DelegatedKey>,
    /// Keys that must never be believed again, at most 1024. A device remembers them for ever.
    pub revoked: BTreeSet<KeyId>,
}

/// A key that may sign manifests.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DelegatedKey {
    /// The key.
    pub key: PublicKey,
    /// From when on it counts no more, where the clock can be trusted.
    #[serde(default, with = "json::maybe_time", skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

impl Delegation {
    /// The schema of this version of the format.
    pub const SCHEMA: u64 = 1;

    /// Reads and checks a delegation. Whether anybody signed it is not asked here.
    ///
    /// # Errors
    /// It is none, or out of bounds: `bundle.damaged`. Its schema is newer: `bundle.incompatible`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        json::check(bytes, "delegation", Self::SCHEMA)?;
        let delegation: Self = json::parse(bytes, "delegation")?;
        delegation.check().map_err(|what| Refusal::damaged(format!("the delegation: {what}")))?;
        Ok(delegation)
    }

    /// The exact bytes to be signed, always the same for the same delegation.
    ///
    /// # Errors
    /// Something is out of bounds; says what.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        self.check()?;
        serde_json::to_vec(self).map_err(|it| it.to_string())
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != Self::SCHEMA {
            return Err(format!("its schema must be {}", Self::SCHEMA));
        }
        let ids: BTreeSet<_> = self.keys.iter().map(|it| it.key.id()).collect();
        if !(1..=32).contains(&self.keys.len()) || ids.len() != self.keys.len() {
            return Err("it must name 1 to 32 different keys".into());
        }
        if self.revoked.len() > 1024 {
            return Err("it must revoke at most 1024 keys".into());
        }
        Ok(())
    }
}
