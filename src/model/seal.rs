//! What a signed bundle says of what is in it, and what it costs to have it.

use serde::{Deserialize, Serialize};

use super::{Sha256, Version};

/// What the signatures over a bundle vouch for, beside the image itself.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Seal {
    /// What the new system calls itself.
    pub version: Version,
    /// How new it is, as far as going back is concerned: a device that has committed to an index takes no lower one.
    pub rollback_index: u64,
    /// The signed permission to be installed in spite of a lower index.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// The digest of the bundle's head, which names it.
    pub bundle: Sha256,
}

impl Seal {
    /// Whether a device that has committed to the index `floor` may take it.
    pub fn may_replace(&self, floor: u64) -> bool {
        self.allow_downgrade || self.rollback_index >= floor
    }

    /// The lowest index that a device takes once it has committed to this, if it was `floor` before.
    pub fn floor_after(&self, floor: u64) -> u64 {
        if self.allow_downgrade { self.rollback_index } else { self.rollback_index.max(floor) }
    }
}

/// What an update costs, computed from what this device has already.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Cost {
    /// Bytes to fetch in all, those fetched already included.
    pub fetch: u64,
    /// Bytes of the slot to write.
    pub write: u64,
    /// Bytes of the whole file.
    pub full: u64,
}

impl Cost {
    /// How many seconds fetching takes in all, at so many bytes per second; nothing is known of it without a rate.
    pub fn seconds(&self, rate: u64) -> Option<u64> {
        (rate > 0).then(|| self.fetch.div_ceil(rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_takes_its_time() {
        let cost = |fetch| Cost { fetch, write: 0, full: u64::MAX };
        assert_eq!(
            (cost(1001).seconds(1000), cost(0).seconds(1), cost(7).seconds(0)),
            (Some(2), Some(0), None)
        );
    }

    #[test]
    fn p037_a_lower_index_needs_the_signed_permission() {
        let seal = |rollback_index, allow_downgrade| Seal {
            version: "2".parse().expect("a version"),
            rollback_index,
            allow_downgrade,
            bundle: Sha256::of(b""),
        };
        for (index, permission, floor, may, after) in [
            (4, false, 5, false, 5),
            (5, false, 5, true, 5),
            (6, false, 5, true, 6),
            (4, true, 5, true, 4),
            (6, true, 5, true, 6),
        ] {
            let seal = seal(index, permission);
            assert_eq!((seal.may_replace(floor), seal.floor_after(floor)), (may, after), "{seal:?}");
        }
    }
}
