//! Whom this device trusts, and what it remembers of that: the root keys come from the configuration, and what
//! delegations that were accepted said outlives the update that brought them, in the file `trust` of the state directory.
//!
//! What is remembered only ever grows. It is saved as soon as a delegation was accepted, before anything else of the bundle
//! is looked at and whatever becomes of it: a key that was revoked stays so. If it cannot be read, it is as good as empty, and told: who could replace it could
//! replace the keys, too, and a device that takes no bundle any more would be lost to its owner.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bundle::{RootKeys, Trust};
use crate::durable::{Generations, Loaded};
use crate::image;
use crate::model::Reason;

/// The file, in the state directory, and room for one generation in bytes: some thousand revoked keys.
const FILE: &str = "trust";
const CAPACITY: usize = 64 << 10;
/// Another number for another layout.
const SCHEMA: u32 = 1;

/// By whom bundles must be signed, and for what: `[trust]` of the configuration.
#[derive(Clone, Debug)]
pub struct Signing {
    /// The root keys, and how many of them it takes. At least one; or why they cannot be used, and what to do. Then nothing
    /// that asks for a signature is installed: a file that cannot be read is no key less.
    pub roots: Result<RootKeys, Reason>,
    /// The product that this is, if that is told.
    pub product: Option<String>,
    /// The names of its board; none: it has not been told.
    pub compatible: Vec<String>,
}

#[derive(Deserialize, Serialize)]
struct Document {
    schema: u32,
    trust: Trust,
}

/// What is remembered; and a sentence if some of it was lost.
pub(super) fn load(state: &Path) -> (Trust, Option<String>) {
    let lost =
        |why: String| (Trust::default(), Some(format!("what is known of revoked keys is lost: {why}")));
    let path = state.join(FILE);
    match Generations::read_only(&path, CAPACITY) {
        None if path.exists() => lost(format!("{} cannot be read", path.display())),
        None | Some(Loaded::Empty) => (Trust::default(), None),
        Some(Loaded::Damaged(why)) => lost(why),
        Some(Loaded::Found { payload, damaged }) => match serde_json::from_slice(&payload) {
            Ok(Document { schema: SCHEMA, trust }) => (
                trust,
                damaged.map(|why| format!("what is known of revoked keys may be one bundle old: {why}")),
            ),
            Ok(Document { schema, .. }) => lost(format!("{} has schema {schema}", path.display())),
            Err(error) => lost(error.to_string()),
        },
    }
}

/// What is remembered, as the download of a bundle sees it and adds to it.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    state: &'a Path,
    trust: Mutex<Trust>,
}

impl<'a> Kept<'a> {
    /// What is remembered in the state directory `state`.
    pub(super) fn open(state: &'a Path) -> Self {
        Self { state, trust: Mutex::new(load(state).0) }
    }
}

impl image::Ledger for Kept<'_> {
    fn trust(&self) -> Trust {
        image::Ledger::trust(&self.trust)
    }

    fn remember(&self, trust: &Trust) {
        let mut known = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == *trust {
            return;
        }
        *known = trust.clone();
        if let Err(why) = save(self.state, trust) {
            tracing::warn!(why, "what a bundle said of keys holds for this update only");
        }
    }
}

/// Remembers it.
///
/// # Errors
/// A sentence, if that cannot be promised.
pub(super) fn save(state: &Path, trust: &Trust) -> Result<(), String> {
    let document = Document { schema: SCHEMA, trust: trust.clone() };
    let text = serde_json::to_vec(&document).map_err(|error| error.to_string())?;
    Generations::open(state, FILE, CAPACITY)
        .and_then(|mut file| file.save(&text))
        .map_err(|error| format!("remembering revoked keys: {error}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn epoch(epoch: u64) -> Trust {
        Trust { epoch, ..Trust::default() }
    }

    #[test]
    fn trust_outlives_the_process_and_one_damaged_copy() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(directory.path()), (Trust::default(), None));
        save(directory.path(), &epoch(3)).unwrap();
        save(directory.path(), &epoch(4)).unwrap();
        assert_eq!(load(directory.path()), (epoch(4), None));
        let path = directory.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        let damaged = |at: &[usize]| {
            let mut bytes = whole.clone();
            at.iter().for_each(|at| bytes[at + 30] ^= 1);
            std::fs::write(&path, bytes).unwrap();
            load(directory.path())
        };
        let (trust, told) = damaged(&[CAPACITY]);
        assert_eq!(trust, epoch(3));
        assert!(told.unwrap().contains("may be one bundle old"));
        let (trust, told) = damaged(&[0, CAPACITY]);
        assert_eq!(trust, Trust::default());
        assert!(told.unwrap().contains("is lost"));
        assert!(save(&directory.path().join("nowhere"), &epoch(5)).is_err());
    }
}
