//! What is remembered from one link to the next, and what of it outlives this process.
//!
//! Whoever makes links keeps nothing: it is given a [`Memory`] and gives it back. So the network side may be another
//! process, and be killed at any moment. It holds no secret.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Lost;
use super::identity::{HubName, is_device_id};
use super::way::Way;
use crate::durable::{Generations, Loaded};

/// The file in the state directory.
const FILE: &str = "assignment";
/// Room for it.
const CAPACITY: usize = 4096;

/// What is remembered.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The way to try next; `None` for the first.
    pub(super) way: Option<Way>,
    /// What the provisioning service said last.
    pub(super) assigned: Option<Assigned>,
    /// So many times in a row the hub it named refused us.
    pub(super) refusals: u32,
    /// So many connections in a row to the hub it named failed.
    pub(super) failures: u32,
}

impl Memory {
    /// Learns how a connection to an assigned hub ended before it was one.
    pub(super) fn note(&mut self, failed: Option<&Lost>) {
        match failed {
            None => (self.refusals, self.failures) = (0, 0),
            Some(Lost::Refused(2 | 4 | 5)) => {
                self.refusals = self.refusals.saturating_add(1);
                self.failures = self.failures.saturating_add(1);
            }
            // Not the hub's doing.
            Some(
                Lost::Credential(_) | Lost::Provisioning { .. } | Lost::Unprovisioned { .. } | Lost::Apart(_),
            ) => {}
            Some(
                Lost::Unresolved { .. }
                | Lost::Unreachable { .. }
                | Lost::Tls { .. }
                | Lost::WebSocket { .. }
                | Lost::Proxy { .. }
                | Lost::Refused(_)
                | Lost::Unsubscribed(_)
                | Lost::Closed
                | Lost::Contested { .. }
                | Lost::Broken(_)
                | Lost::Silent(_)
                | Lost::Malformed(_),
            ) => {
                self.refusals = 0;
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    /// Without what cannot be, as anybody might have said it.
    pub(super) fn vetted(mut self) -> Self {
        self.assigned = self.assigned.filter(Assigned::can_be);
        self
    }
}

/// What the provisioning service said.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Assigned {
    /// The hub, as it was named.
    pub hub: String,
    /// The device id there.
    pub device: String,
    /// For which question: 64 hex digits.
    pub asked: String,
}

impl Assigned {
    fn can_be(&self) -> bool {
        let is_digest = self.asked.len() == 64 && self.asked.bytes().all(|b| b.is_ascii_hexdigit());
        // No name in the world-wide domain name system is longer.
        let is_hub = self.hub.len() <= 255 + ":65535".len() && self.hub.parse::<HubName>().is_ok();
        is_digest && is_hub && is_device_id(&self.device)
    }
}

/// Where the assigned hub is kept over restarts.
#[derive(Debug)]
pub struct Shelf {
    state: PathBuf,
    kept: Option<Assigned>,
    problem: Option<String>,
}

impl Shelf {
    /// The one in the state directory `state`.
    pub fn open(state: &Path) -> Self {
        Self { state: state.to_owned(), kept: load(state), problem: None }
    }

    /// What it holds.
    pub fn memory(&self) -> Memory {
        Memory { assigned: self.kept.clone(), ..Memory::default() }
    }

    /// Makes durable what of `memory` has to be, if it is new. Where that fails it is asked for again after the next
    /// start, and that is all.
    pub(super) fn keep(&mut self, memory: &Memory) {
        if memory.assigned.is_none() || (memory.assigned == self.kept && self.problem.is_none()) {
            return;
        }
        self.kept.clone_from(&memory.assigned);
        let saved = Generations::open(&self.state, FILE, CAPACITY).and_then(|mut file| {
            file.load();
            file.save(&serde_json::to_vec(&self.kept).expect("text has a JSON form"))
        });
        self.problem = saved.err().map(|error| {
            let cause = std::error::Error::source(&error).map_or(String::new(), |it| format!(": {it}"));
            format!("the assigned hub is not remembered: {error}{cause}")
        });
    }

    /// What an operator should know.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// What was remembered; anything else than a whole answer is as good as none.
fn load(state: &Path) -> Option<Assigned> {
    match Generations::read_only(&state.join(FILE), CAPACITY)? {
        Loaded::Found { payload, .. } => {
            let assigned: Assigned = serde_json::from_slice(&payload).ok()?;
            Some(assigned).filter(Assigned::can_be)
        }
        Loaded::Empty | Loaded::Damaged(_) => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn assigned(hub: &str, device: &str) -> Memory {
        let (hub, device, asked) = (hub.to_owned(), device.to_owned(), "0f".repeat(32));
        Memory { assigned: Some(Assigned { hub, device, asked }), ..Memory::default() }
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::open(state.path());
        assert_eq!(shelf.memory(), Memory::default());
        shelf.keep(&assigned("hub:1", "dev"));
        assert_eq!(shelf.problem(), None);
        shelf.keep(&Memory::default());
        assert_eq!(Shelf::open(state.path()).memory(), assigned("hub:1", "dev"), "nothing new keeps the old");
    }

    #[test]
    fn what_cannot_be_is_not_taken_over() {
        let long = "h".repeat(300);
        for memory in [
            assigned("https://hub/", "dev"),
            assigned("hub", "d/../x"),
            assigned("", "dev"),
            assigned(&long, "dev"),
        ] {
            assert_eq!(memory.clone().vetted(), Memory::default(), "{memory:?}");
        }
        let mut memory = assigned("hub", "dev");
        assert_eq!(memory.clone().vetted(), memory);
        memory.assigned.as_mut().unwrap().asked = "x".repeat(3000);
        assert_eq!(memory.vetted().assigned, None);
        assert!(serde_json::from_str::<Memory>(r#"{"refusals":0,"failures":0,"more":1}"#).is_err());
    }

    #[test]
    fn a_directory_that_is_not_there_is_told_and_tried_again() {
        let state = tempfile::tempdir().unwrap();
        let inside = state.path().join("state");
        let mut shelf = Shelf::open(&inside);
        shelf.keep(&assigned("hub", "dev"));
        assert!(shelf.problem().is_some_and(|it| it.contains("not remembered")));
        std::fs::create_dir(&inside).unwrap();
        shelf.keep(&assigned("hub", "dev"));
        assert_eq!(shelf.problem(), None);
        assert_eq!(Shelf::open(&inside).memory(), assigned("hub", "dev"));
    }
}
