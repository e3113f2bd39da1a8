//! SHA-256 whose half-way state can be kept: after a power cut nothing before the checkpoint is read again.

use sha2::Digest as _;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};

use crate::model::Sha256;

/// A digest in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Hasher(sha2::Sha256);

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }

    /// The state, for [`Hasher::restore`]. It does not reveal the bytes, except the last few of an open block.
    pub(super) fn save(&self) -> Vec<u8> {
        self.0.serialize().to_vec()
    }

    /// `None` if `state` is none of ours.
    pub(super) fn restore(state: &[u8]) -> Option<Self> {
        let state = SerializedState::<sha2::Sha256>::try_from(state).ok()?;
        sha2::Sha256::deserialize(&state).ok().map(Self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_hash_goes_on_where_it_was() {
        let bytes: Vec<u8> = (0..1000_u32).map(|i| (i * 7) as u8).collect();
        for cut in [0, 1, 63, 64, 65, 127, 999, 1000] {
            let mut hasher = Hasher::default();
            hasher.update(&bytes[..cut]);
            let mut restored = Hasher::restore(&hasher.save()).unwrap();
            restored.update(&bytes[cut..]);
            assert_eq!(restored.finish(), Sha256::of(&bytes), "{cut}");
        }
    }

    #[test]
    fn garbage_is_not_a_state() {
        for len in [0, 1, 104, 106, 1000] {
            assert!(Hasher::restore(&vec![0xff; len]).is_none(), "{len}");
        }
    }
}
