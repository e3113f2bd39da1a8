//! Page bodies: the chunks of a page, and how its data is packed.

use std::ops::Range;

use super::chunk::{ChunkId, Chunking};
use super::manifest::Payload;
use super::page::{Chunk, PageKey, Pager, key_bytes};
use super::refusal::Refusal;
use super::table::Entry;

/// Chunks that are packed together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Which chunks of the page.
    pub chunks: Range<usize>,
    /// Their length in the image, in bytes.
    pub raw: u32,
    /// Length of their data in the file; the same as `raw`: not compressed.
    pub packed: u32,
    /// Where their data begins, counted from the beginning of the page's data.
    pub at: u32,
}

/// The body of a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Body {
    /// The chunks of the page, in order.
    pub chunks: Vec<Chunk>,
    /// The groups in which the chunks that are not zeros are packed, in order.
    pub groups: Vec<Group>,
}

impl Body {
    /// No body is longer, in bytes: a number, and for each chunk at most 12 bytes of the key and 3 for a group's length.
    pub const LONGEST: u32 = 2 + Pager::LONGEST as u32 * 15;

    /// Reads the body of the page `entry`.
    ///
    /// # Errors
    /// It is not that page's body, or contradicts the table: `bundle.damaged`.
    pub fn parse(bytes: &[u8], entry: &Entry, payload: &Payload) -> Result<Self, Refusal> {
        read(bytes, entry, payload)
            .ok_or_else(|| Refusal::damaged("a page's body is not what the page table promises"))
    }

    /// The bytes of a body: of these chunks, whose groups (see [`groups`]) take so many bytes in the file.
    pub fn encode(chunking: Chunking, chunks: &[Chunk], packed: &[u32]) -> Vec<u8> {
        let mut bytes = (chunks.len() as u16).to_le_bytes().to_vec();
        bytes.extend(key_bytes(chunking, chunks));
        for len in packed {
            let mut len = *len;
            while len >= 0x80 {
                bytes.push(len as u8 | 0x80);
                len >>= 7;
            }
            bytes.push(len as u8);
        }
        bytes
    }
}

/// Which chunks of a page are packed together, in groups of at most `limit` bytes of the image: each as many as fit, at
/// least one, and never across a chunk of zeros.
pub fn groups(chunks: &[Chunk], limit: u32) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = vec![];
    let mut len = 0;
    for (at, chunk) in chunks.iter().enumerate().filter(|(_, chunk)| !chunk.id.is_zero()) {
        match groups.last_mut() {
            Some(group) if group.end == at && chunk.len <= limit.saturating_sub(len) => group.end += 1,
            Some(_) | None => {
                groups.push(at..at + 1);
                len = 0;
            }
        }
        len += chunk.len;
    }
    groups
}

fn read(bytes: &[u8], entry: &Entry, payload: &Payload) -> Option<Body> {
    let (count, rest) = bytes.split_first_chunk()?;
    let count = usize::from(u16::from_le_bytes(*count));
    if bytes.len() != entry.body_len as usize || !(1..=Pager::LONGEST).contains(&count) {
        return None;
    }
    let (key, lens) = rest.split_at_checked(count * payload.key_len())?;
    if PageKey::of_bytes(key) != entry.key {
        return None;
    }
    let chunks = chunks(key, count, entry, payload)?;
    let groups = packed(lens, &chunks, entry, payload)?;
    Some(Body { chunks, groups })
}

/// The chunks of a page from its key bytes.
fn chunks(key: &[u8], count: usize, entry: &Entry, payload: &Payload) -> Option<Vec<Chunk>> {
    let (ids, lens) = key.split_at_checked(count * 8)?;
    let (ids, lens) = (ids.as_chunks::<8>().0, lens.as_chunks::<4>().0);
    let longest = payload.chunking.longest();
    let mut left = entry.image_len;
    let mut chunks = Vec::with_capacity(count);
    for (at, id) in ids.iter().enumerate() {
        let len = match payload.chunking {
            // Only the last of the image is shorter, and whatever else is makes the sum wrong.
            Chunking::Aligned => left.min(longest),
            Chunking::Content => u32::from_le_bytes(*lens.get(at)?),
        };
        if len == 0 || len > longest {
            return None;
        }
        left = left.checked_sub(len)?;
        chunks.push(Chunk { id: ChunkId(*id), len });
    }
    (left == 0).then_some(chunks)
}

/// The groups of a page, with the lengths of their data.
fn packed(mut lens: &[u8], chunks: &[Chunk], entry: &Entry, payload: &Payload) -> Option<Vec<Group>> {
    let mut at = 0;
    let mut found = vec![];
    for range in groups(chunks, payload.group) {
        let raw = chunks[range.clone()].iter().map(|it| it.len).sum();
        let packed = number(&mut lens)?;
        if packed == 0 || packed > raw {
            return None;
        }
        found.push(Group { chunks: range, raw, packed, at });
        at += packed;
    }
    (lens.is_empty() && at == entry.data_len).then_some(found)
}

/// A number in LEB128, of at most 3 bytes: no group is longer. In one spelling only.
fn number(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in [0, 7, 14] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u32::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return (*byte != 0 || shift == 0).then_some(number);
        }
    }
    None
}
