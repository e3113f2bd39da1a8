//! Chunks: what an image is cut into, and what a chunk is called.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Sha256;

/// How an image is cut into chunks. The parameters are fixed for each name.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Chunking {
    /// Every 4096 bytes; only the last chunk may be shorter. For what keeps its data in blocks, such as ext4 or erofs.
    #[serde(rename = "aligned-4096")]
    Aligned,
    /// Where the content says so, 4096 bytes on average. For what packs its data without gaps, such as squashfs.
    #[serde(rename = "content-4096")]
    Content,
}

impl Chunking {
    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aligned => "aligned-4096",
            Self::Content => "content-4096",
        }
    }

    /// The longest chunk, in bytes.
    pub fn longest(self) -> u32 {
        match self {
            Self::Aligned => ALIGNED as u32,
            Self::Content => MAX as u32,
        }
    }
}

const ALIGNED: usize = 4096;

/// No content-defined chunk but the last of an image is this short, or shorter.
const MIN: usize = 1024;
/// Up to this length a boundary is unlikely, beyond it likely: lengths gather around it.
const NORMAL: usize = 4096;
const MAX: usize = 16_384;
/// The top 14 bits must be zero up to [`NORMAL`], the top 10 beyond.
const EARLY: u64 = !(u64::MAX >> 14);
const LATE: u64 = !(u64::MAX >> 10);

/// What each byte adds to the rolling hash: the n-th is the n-th output of SplitMix64 from the seed `twinboot` (in
/// ASCII, read as a big-endian number).
const GEAR: [u64; 256] = gear(u64::from_be_bytes(*b"twinboot"));

const fn gear(mut state: u64) -> [u64; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        table[at] = mixed ^ (mixed >> 31);
        at += 1;
    }
    table
}

/// What a chunk is called: the first 8 bytes of its SHA-256, or eight zero bytes for a chunk of zeros, of any length.
///
/// Long enough to find a chunk again among millions. Not what the image is trusted by: that is the manifest's SHA-256
/// of all of it.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChunkId(pub [u8; 8]);

impl ChunkId {
    /// A chunk of nothing but zeros: it has no data in a bundle.
    pub const ZERO: Self = Self([0; 8]);

    /// Whether the chunk is nothing but zeros.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// The id of a chunk. (A digest that begins with eight zero bytes, should one ever be seen, ends in 1 here.)
pub fn chunk_id(chunk: &[u8]) -> ChunkId {
    if is_zero(chunk) {
        return ChunkId::ZERO;
    }
    let Sha256([a, b, c, d, e, f, g, h, ..]) = Sha256::of(chunk);
    let id = ChunkId([a, b, c, d, e, f, g, h]);
    if id.is_zero() { ChunkId([0, 0, 0, 0, 0, 0, 0, 1]) } else { id }
}

/// Whether there is nothing but zeros. In steps that the compiler makes wide.
fn is_zero(bytes: &[u8]) -> bool {
    let mut blocks = bytes.chunks_exact(64);
    blocks.by_ref().all(|it| it.iter().fold(0, |all, byte| all | byte) == 0)
        && blocks.remainder().iter().all(|byte| *byte == 0)
}

/// Cuts a stream into chunks, whatever pieces it comes in.
#[derive(Clone, Debug)]
pub struct Chunker {
    chunking: Chunking,
    /// The beginning of the chunk that is not complete, of `len` bytes.
    held: Vec<u8>,
    hash: u64,
}

impl Chunker {
    /// At the beginning of an image.
    pub fn new(chunking: Chunking) -> Self {
        Self { chunking, held: Vec::with_capacity(chunking.longest() as usize), hash: 0 }
    }

    /// Takes the next bytes of the image, and gives each chunk that they complete to `each`.
    pub fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        while let Some(end) = self.boundary(bytes) {
            let (rest, more) = bytes.split_at(end);
            if self.held.is_empty() {
                each(rest);
            } else {
                self.held.extend_from_slice(rest);
                each(&self.held);
                self.held.clear();
            }
            self.hash = 0;
            bytes = more;
        }
        self.held.extend_from_slice(bytes);
    }

    /// Gives the last chunk to `each`, if anything is left, and is at the beginning of an image again.
    pub fn finish(&mut self, each: &mut dyn FnMut(&[u8])) {
        if !self.held.is_empty() {
            each(&self.held);
        }
        self.held.clear();
        self.hash = 0;
    }

    /// How many of these bytes, which follow those that are held, complete the chunk.
    fn boundary(&mut self, bytes: &[u8]) -> Option<usize> {
        let held = self.held.len();
        let content = match self.chunking {
            Chunking::Aligned => return Some(ALIGNED - held).filter(|end| *end <= bytes.len()),
            Chunking::Content => bytes,
        };
        let (first, last) = (MIN.saturating_sub(held), MAX - held);
        for (at, byte) in content.iter().enumerate().take(last).skip(first) {
            self.hash = (self.hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            let mask = if held + at < NORMAL { EARLY } else { LATE };
            if self.hash & mask == 0 {
                return Some(at + 1);
            }
        }
        (content.len() >= last).then_some(last)
    }
}
