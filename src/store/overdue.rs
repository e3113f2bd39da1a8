//! What the guard over a trial leaves behind before it has the machine reboot, for the old system to find: the file
//! `overdue` in the state directory, of two generations as the record is.
//!
//! Written by a system that is sick, so nothing depends on it: without it, or if it is damaged, all goes on as if the
//! trial had been cut short. Whether it is about the trial at hand is decided by `update`.

use std::path::Path;

use crate::durable::{Generations, Loaded};
use crate::update::Overdue;

/// The file, in the state directory, and room for one generation in bytes.
const FILE: &str = "overdue";
const CAPACITY: usize = 4 << 10;

/// Leaves it. The directory must be there: one that is made in a system that cannot mount it is not the one that the old
/// system looks into.
///
/// # Errors
/// A sentence, if it is not sure to be found.
pub fn leave(directory: &Path, overdue: &Overdue) -> Result<(), String> {
    let text = serde_json::to_vec(overdue).map_err(|error| error.to_string())?;
    let saved = Generations::open(directory, FILE, CAPACITY).and_then(|mut file| file.save(&text));
    saved.map_err(super::chain)
}

/// What was left; `None` also if it is damaged.
pub fn find(directory: &Path) -> Option<Overdue> {
    let loaded = Generations::read_only(&directory.join(FILE), CAPACITY)?;
    match loaded {
        Loaded::Found { payload, damaged: None } => serde_json::from_slice(&payload).ok(),
        // Of an older trial, perhaps: the newer one is the one that is torn.
        Loaded::Found { damaged: Some(_), .. } | Loaded::Empty | Loaded::Damaged(_) => None,
    }
}

/// Forgets it, and keeps room for the next one. Done before a trial begins, and when it has had its effect.
///
/// # Errors
/// A sentence, if it may still be found.
pub fn discard(directory: &Path) -> Result<(), String> {
    // Twice: neither generation is left to be found should the other one be damaged.
    let discarded = Generations::open(directory, FILE, CAPACITY).and_then(|mut file| {
        file.clear()?;
        file.clear()
    });
    discarded.map_err(super::chain)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{BootId, Slot, UpdateId};

    fn overdue(why: &str) -> Overdue {
        let (update, boot) = (UpdateId("u".into()), BootId("b".into()));
        Overdue { update, trial: 1, slot: Slot::B, boot, why: why.into() }
    }

    #[test]
    fn what_is_left_is_found_until_it_is_discarded() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(find(directory.path()), None);
        leave(directory.path(), &overdue("one")).unwrap();
        leave(directory.path(), &overdue("two")).unwrap();
        assert_eq!(find(directory.path()), Some(overdue("two")));
        discard(directory.path()).unwrap();
        assert_eq!(find(directory.path()), None);
        leave(directory.path(), &overdue("three")).unwrap();
        assert_eq!(find(directory.path()), Some(overdue("three")));
    }

    #[test]
    fn what_is_damaged_is_as_good_as_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        leave(directory.path(), &overdue("old")).unwrap();
        leave(directory.path(), &overdue("new")).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for half in [0, CAPACITY] {
            let mut torn = whole.clone();
            torn[half + 30] ^= 1;
            std::fs::write(&path, torn).unwrap();
            assert_eq!(find(directory.path()), None, "{half}");
        }
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(find(directory.path()), None);
        discard(directory.path()).unwrap();
        assert_eq!(find(directory.path()), None);
        assert!(leave(&directory.path().join("nowhere"), &overdue("x")).is_err());
    }
}
