//! SHA-256 whose half-way state can be kept: after a power cut nothing before the checkpoint is read again. And one that
//! is made on a second processor, where there is one.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

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

/// How many pieces there are: one is filled while another one is hashed.
const PIECES: u32 = 2;

/// A digest that is made while whoever makes it gets the next piece. It has a thread of its own for that; where none can be
/// had, it does without.
#[derive(Debug)]
pub(super) struct Beside {
    here: Hasher,
    there: Option<Helper>,
    /// Pieces that were hashed here, to be used again.
    spare: Vec<u8>,
    /// How many pieces were handed out that are no old ones.
    made: u32,
}

/// The thread. It ends when nobody can send it a piece any more.
#[derive(Debug)]
struct Helper {
    pieces: Sender<Vec<u8>>,
    hashed: Receiver<Vec<u8>>,
    thread: JoinHandle<Hasher>,
}

impl Helper {
    fn start() -> Option<Self> {
        let (pieces, wanted) = channel::<Vec<u8>>();
        let (used, hashed) = channel();
        let hash = move || {
            let mut hasher = Hasher::default();
            for piece in wanted {
                hasher.update(&piece);
                // Nobody wants it any more when all has been read.
                let _ = used.send(piece);
            }
            hasher
        };
        let thread = Builder::new().name("hash".to_owned()).spawn(hash).ok()?;
        Some(Self { pieces, hashed, thread })
    }
}

impl Beside {
    /// Of nothing yet.
    pub(super) fn new() -> Self {
        Self { here: Hasher::default(), there: Helper::start(), spare: Vec::new(), made: 0 }
    }

    /// Of nothing yet, and without a thread.
    #[cfg(test)]
    fn alone() -> Self {
        Self { there: None, ..Self::new() }
    }

    /// A piece of `len` bytes to be filled. What is in it is of no meaning.
    pub(super) fn buffer(&mut self, len: usize) -> Vec<u8> {
        let mut piece = match &self.there {
            Some(_) if self.made < PIECES => {
                self.made += 1;
                Vec::new()
            }
            Some(helper) => helper.hashed.recv().unwrap_or_default(),
            None => std::mem::take(&mut self.spare),
        };
        piece.resize(len, 0);
        piece
    }

    /// The next bytes.
    pub(super) fn update(&mut self, piece: Vec<u8>) {
        match &self.there {
            // It takes whatever it gets as long as we live: `finish` would find that it had panicked.
            Some(helper) => drop(helper.pieces.send(piece)),
            None => {
                self.here.update(&piece);
                self.spare = piece;
            }
        }
    }

    /// The digest of all of them.
    pub(super) fn finish(self) -> Sha256 {
        let Some(Helper { pieces, hashed: _, thread }) = self.there else { return self.here.finish() };
        drop(pieces);
        thread.join().expect("hashing does not panic").finish()
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
    fn a_digest_on_another_thread_is_the_same() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i * 7) as u8).collect();
        for mut digest in [Beside::new(), Beside::alone()] {
            for part in bytes.chunks(3_333) {
                let mut piece = digest.buffer(part.len());
                piece.copy_from_slice(part);
                digest.update(piece);
            }
            assert!(digest.made <= PIECES);
            assert_eq!(digest.finish(), Sha256::of(&bytes));
        }
        assert_eq!(Beside::new().finish(), Sha256::of(b""), "of nothing");
    }

    #[test]
    fn garbage_is_not_a_state() {
        for len in [0, 1, 104, 106, 1000] {
            assert!(Hasher::restore(&vec![0xff; len]).is_none(), "{len}");
        }
    }
}
