//! Pages: runs of chunks, cut so that a run is found again wherever it has moved to.

use std::fmt;

use sha2::Digest as _;

use super::chunk::{ChunkId, Chunking};

/// One chunk of an image: its id and its length in bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Chunk {
    /// What it is called.
    pub id: ChunkId,
    /// Its length in bytes.
    pub len: u32,
}

/// What a page is called: the first 16 bytes of the SHA-256 of its [key bytes](key_bytes).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PageKey(pub [u8; 16]);

impl PageKey {
    /// The key of a page of these chunks.
    pub fn of(chunking: Chunking, chunks: &[Chunk]) -> Self {
        Self::of_bytes(&key_bytes(chunking, chunks))
    }

    /// The key of a page with these key bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let digest: [u8; 32] = sha2::Sha256::digest(bytes).into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }
}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a page's key is computed from: the ids of its chunks, one after the other; and where chunks differ in length,
/// then their lengths, as little-endian numbers of 4 bytes.
pub fn key_bytes(chunking: Chunking, chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes: Vec<u8> = chunks.iter().flat_map(|it| it.id.0).collect();
    match chunking {
        Chunking::Aligned => {}
        Chunking::Content => bytes.extend(chunks.iter().flat_map(|it| it.len.to_le_bytes())),
    }
    bytes
}

/// A page that is complete.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// What it is called.
    pub key: PageKey,
    /// Its chunks, in order; never empty.
    pub chunks: Vec<Chunk>,
}

impl Page {
    /// Its length in bytes of the image.
    pub fn image_len(&self) -> u64 {
        self.chunks.iter().map(|it| u64::from(it.len)).sum()
    }

    /// Whether it is nothing but zeros: then it has neither body nor data in a bundle.
    pub fn is_zero(&self) -> bool {
        self.chunks.iter().all(|it| it.id.is_zero())
    }
}

/// Cuts a sequence of chunks into pages.
///
/// A page ends where the ids say so, not at a place, and so a run of chunks that has moved is cut as before, from the
/// first such end on.
#[derive(Clone, Debug)]
pub struct Pager {
    chunking: Chunking,
    chunks: Vec<Chunk>,
}

impl Pager {
    /// No page ends with fewer chunks, except the last.
    pub const SHORTEST: usize = 16;
    /// Every page ends with so many chunks.
    pub const LONGEST: usize = 256;

    /// At the beginning of an image.
    pub fn new(chunking: Chunking) -> Self {
        Self { chunking, chunks: Vec::with_capacity(Self::LONGEST) }
    }

    /// Takes the next chunk, of `len` bytes. The page that is now known to be complete, if one is, may end before this
    /// chunk or with it.
    pub fn push(&mut self, id: ChunkId, len: u32) -> Option<Page> {
        let is_long = self.chunks.len() >= Self::SHORTEST;
        let turns = self.chunks.last().is_some_and(|last| last.id.is_zero() != id.is_zero());
        let before = if is_long && turns { self.finish() } else { None };
        self.chunks.push(Chunk { id, len });
        // A page that has just been begun is never complete: at most one ends here.
        if before.is_none() && self.ends() { self.finish() } else { before }
    }

    /// The rest, if there is any. Then this is at the beginning of an image again.
    pub fn finish(&mut self) -> Option<Page> {
        if self.chunks.is_empty() {
            return None;
        }
        let chunks = std::mem::replace(&mut self.chunks, Vec::with_capacity(Self::LONGEST));
        Some(Page { key: PageKey::of(self.chunking, &chunks), chunks })
    }

    /// Whether the page ends with its last chunk.
    fn ends(&self) -> bool {
        let Some(last) = self.chunks.last() else { return false };
        let says_so = if last.id.is_zero() {
            // Data and then a long stretch of zeros: these get pages of their own, which cost no body.
            self.chunks.iter().any(|it| !it.id.is_zero())
        } else {
            last.id.0[7] & 0x3F == 0
        };
        self.chunks.len() >= Self::LONGEST || (self.chunks.len() >= Self::SHORTEST && says_so)
    }
}
