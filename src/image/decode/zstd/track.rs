//! What a zstd frame carries from one block to the next, besides its output: three repeat offsets and four tables.
//!
//! It is not a decoder: literals are not unpacked and nothing is copied. Of each block only the table descriptions
//! are kept and the sequences read, for the sake of the repeat offsets (RFC 8878, sections 3.1.1.3 to 3.1.1.5).
//! It judges nothing either: libzstd says whether a block is sound. What cannot be followed makes the frame one that
//! cannot be taken up, until its end.
//!
//! Reading sequences takes a third of the time of unpacking them, and of hundreds of blocks between two checkpoints only
//! the last offsets matter. So blocks wait until somebody asks ([`Tracker::settle`]), and mostly in vain: three offsets
//! that a block names itself are all there is to know, and a block with more than a few sequences nearly always does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fse::{Backward, Distribution, Table};

/// Most symbols and largest accuracy of each kind of table.
const LENGTHS: (usize, u32) = (36, 9);
const OFFSETS: (usize, u32) = (32, 8);
const MATCHES: (usize, u32) = (53, 9);

/// The distributions that are used where a block names none.
const DEFAULT_LENGTHS: (u32, &[i16]) = (
    6,
    &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1,
        -1, -1, -1,
    ],
);
const DEFAULT_OFFSETS: (u32, &[i16]) =
    (5, &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1]);
const DEFAULT_MATCHES: (u32, &[i16]) = (
    6,
    &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
);

/// Extra bits behind a literal length code and a match length code.
const LENGTH_BITS: [u8; 36] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13,
    14, 15, 16,
];
const MATCH_BITS: [u8; 53] = [
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1,
    1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];

/// A block with so many sequences is taken to say itself which offsets were used last.
const TELLING: u32 = 64;
/// Most blocks that wait. With more in a row that say little, all of them are read.
const WAITING: usize = 32;
/// An offset that is not known: no offset is zero.
const UNKNOWN: u64 = 0;

/// The state between two blocks.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(in crate::image) struct Tracker {
    /// The description of the Huffman table, once a block had one.
    huffman: Option<Vec<u8>>,
    lengths: Source,
    offsets: Source,
    matches: Source,
    /// Before the blocks that wait.
    repeats: [u64; 3],
    /// Something could not be followed.
    lost: bool,
    /// Sequences that were not read yet, from the oldest block to the newest. None are kept in a checkpoint.
    #[serde(skip)]
    waiting: Vec<Block>,
}

/// The sequences of a block, and what they are read with.
#[derive(Clone, Debug, PartialEq)]
struct Block {
    count: u32,
    lengths: Source,
    offsets: Source,
    matches: Source,
    bits: Arc<[u8]>,
}

/// Where a table comes from, so that it can be made again.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// The format's own.
    Default,
    /// Described in a block, in these bytes.
    Described(Vec<u8>),
    /// A single symbol.
    One(u8),
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            huffman: None,
            lengths: Source::Default,
            offsets: Source::Default,
            matches: Source::Default,
            repeats: [1, 4, 8],
            lost: false,
            waiting: Vec::new(),
        }
    }
}

impl Tracker {
    /// Follows one compressed block.
    pub(super) fn follow(&mut self, block: &[u8]) {
        if !self.lost && self.try_follow(block).is_none() {
            tracing::debug!("cannot follow a zstd block; no checkpoint in the rest of its frame");
            self.lost = true;
        }
    }

    /// Reads what waits, and says whether a decoder that reaches back `reach` bytes can be built from this.
    ///
    /// A table of one symbol is the exception: a dictionary cannot hold it. libzstd never builds upon such a table,
    /// but others may, so the next boundary has to do.
    pub(super) fn settle(&mut self, reach: u64) -> bool {
        self.read_all();
        let describable = |source: &Source| !matches!(source, Source::One(_));
        !self.lost
            && describable(&self.lengths)
            && describable(&self.offsets)
            && describable(&self.matches)
            && self.repeats.iter().all(|offset| (1..=reach).contains(offset))
    }

    /// A dictionary (RFC 8878, section 5) with this state and no content yet.
    pub(super) fn dictionary(&self) -> Option<Vec<u8>> {
        const MAGIC: u32 = 0xec30_a437;
        // Its number is not zero, which would mean "none", and no frame of ours asks for one.
        const NUMBER: u32 = 1;
        // Two symbols of one bit each, for frames that had no table yet: a dictionary must have one.
        const ANY: &[u8] = &[128, 0x10];
        let mut bytes = [MAGIC.to_le_bytes(), NUMBER.to_le_bytes()].concat();
        bytes.extend_from_slice(self.huffman.as_deref().unwrap_or(ANY));
        bytes.extend(self.offsets.description(DEFAULT_OFFSETS)?);
        bytes.extend(self.matches.description(DEFAULT_MATCHES)?);
        bytes.extend(self.lengths.description(DEFAULT_LENGTHS)?);
        for offset in self.repeats {
            bytes.extend(u32::try_from(offset).ok()?.to_le_bytes());
        }
        Some(bytes)
    }

    fn try_follow(&mut self, block: &[u8]) -> Option<()> {
        let sequences = block.get(self.literals(block)?..)?;
        let (count, used) = match *sequences {
            [0] => return Some(()),
            [a @ 1..128, ..] => (u32::from(a), 1),
            [a @ 128..=254, b, ..] => ((u32::from(a) - 128) << 8 | u32::from(b), 2),
            [255, b, c, ..] => (u32::from(b) + (u32::from(c) << 8) + 0x7f00, 3),
            _ => return None,
        };
        let modes = *sequences.get(used)?;
        let mut rest = sequences.get(used + 1..)?;
        self.lengths.update(modes >> 6, &mut rest, LENGTHS)?;
        self.offsets.update(modes >> 4 & 3, &mut rest, OFFSETS)?;
        self.matches.update(modes >> 2 & 3, &mut rest, MATCHES)?;
        let [lengths, offsets, matches] = [&self.lengths, &self.offsets, &self.matches].map(Source::clone);
        if count >= TELLING {
            self.waiting.clear();
            self.repeats = [UNKNOWN; 3];
        } else if self.waiting.len() == WAITING {
            self.read_all();
        }
        self.waiting.push(Block { count, lengths, offsets, matches, bits: rest.into() });
        Some(())
    }

    /// Reads the blocks that wait.
    fn read_all(&mut self) {
        for block in std::mem::take(&mut self.waiting) {
            if !self.lost && self.sequences(&block).is_none() {
                tracing::debug!("cannot follow the sequences of a zstd block");
                self.lost = true;
            }
        }
    }

    /// Takes the Huffman table from a literals section, if it brings one. Returns how long the section is.
    fn literals(&mut self, block: &[u8]) -> Option<usize> {
        let first = *block.first()?;
        let field = |len: usize| {
            let bytes = block.get(..len)?;
            Some(bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
        };
        let (kind, format) = (first & 3, first >> 2 & 3);
        if kind < 2 {
            let (len, size) = match format {
                0 | 2 => (1, field(1)? >> 3),
                1 => (2, field(2)? >> 4),
                _ => (3, field(3)? >> 4),
            };
            return Some(len + if kind == 0 { usize::try_from(size).ok()? } else { 1 });
        }
        let (len, bits) = [(3, 10), (3, 10), (4, 14), (5, 18)][usize::from(format)];
        let size = usize::try_from(field(len)? >> (4 + bits) & ((1 << bits) - 1)).ok()?;
        if kind == 2 {
            let content = block.get(len..len + size)?;
            let description = match usize::from(*content.first()?) {
                packed @ 0..128 => 1 + packed,
                plain => 1 + (plain - 127).div_ceil(2),
            };
            self.huffman = Some(content.get(..description)?.to_vec());
        }
        Some(len + size)
    }

    /// Reads the sequences of a block for their offsets.
    fn sequences(&mut self, block: &Block) -> Option<()> {
        let lengths = block.lengths.table(LENGTHS, DEFAULT_LENGTHS)?;
        let offsets = block.offsets.table(OFFSETS, DEFAULT_OFFSETS)?;
        let matches = block.matches.table(MATCHES, DEFAULT_MATCHES)?;
        let mut bits = Backward::new(&block.bits)?;
        let mut length = bits.take(lengths.log)? as usize;
        let mut offset = bits.take(offsets.log)? as usize;
        let mut matched = bits.take(matches.log)? as usize;
        for left in (0..block.count).rev() {
            let (l, o, m) = (lengths.entries[length], offsets.entries[offset], matches.entries[matched]);
            let value = (1_u64 << o.symbol) + bits.take(u32::from(o.symbol))?;
            // The lengths themselves do not matter, only how many bits they take.
            let match_bits = *MATCH_BITS.get(usize::from(m.symbol))?;
            let length_bits = *LENGTH_BITS.get(usize::from(l.symbol))?;
            bits.take(u32::from(match_bits) + u32::from(length_bits))?;
            self.repeat(value, l.symbol == 0);
            if left > 0 {
                // In this order: literal length, match length, offset.
                let low = bits.take(u32::from(l.bits) + u32::from(m.bits) + u32::from(o.bits))? as usize;
                length = usize::from(l.base) + (low >> (m.bits + o.bits));
                matched = usize::from(m.base) + (low >> o.bits & ((1 << m.bits) - 1));
                offset = usize::from(o.base) + (low & ((1 << o.bits) - 1));
            }
        }
        bits.is_empty().then_some(())
    }

    /// One offset value: 1 to 3 stand for the offsets used last, which shift by one where no literals precede.
    fn repeat(&mut self, value: u64, no_literals: bool) {
        let [first, second, third] = self.repeats;
        self.repeats = match (value + u64::from(no_literals), value) {
            (_, 4..) => [value - 3, first, second],
            (1, _) => [first, second, third],
            (2, _) => [second, first, third],
            (3, _) => [third, first, second],
            // Of 1 it would be none, which libzstd refuses.
            _ => [first.saturating_sub(1), first, second],
        };
    }
}

impl Source {
    /// Takes a block's word on this table, reading its description from the front of `rest`.
    fn update(&mut self, mode: u8, rest: &mut &[u8], (most_symbols, most_log): (usize, u32)) -> Option<()> {
        match mode {
            0 => *self = Self::Default,
            1 => {
                let (symbol, later) = rest.split_first()?;
                (*self, *rest) = (Self::One(*symbol), later);
            }
            2 => {
                let (_, used) = Distribution::read(rest, most_symbols, most_log)?;
                let (description, later) = rest.split_at(used);
                (*self, *rest) = (Self::Described(description.to_vec()), later);
            }
            _ => {}
        }
        Some(())
    }

    fn table(&self, (most_symbols, most_log): (usize, u32), default: (u32, &[i16])) -> Option<Table> {
        Some(match self {
            Self::Default => Distribution { log: default.0, counts: default.1.to_vec() }.table(),
            Self::Described(bytes) => Distribution::read(bytes, most_symbols, most_log)?.0.table(),
            Self::One(symbol) if usize::from(*symbol) < most_symbols => Table::of_one(*symbol),
            Self::One(_) => return None,
        })
    }

    fn description(&self, default: (u32, &[i16])) -> Option<Vec<u8>> {
        match self {
            Self::Default => Some(Distribution { log: default.0, counts: default.1.to_vec() }.write()),
            Self::Described(bytes) => Some(bytes.clone()),
            Self::One(_) => None,
        }
    }
}
