//! Where on this device which chunk is, in bounded memory.

use crate::bundle::ChunkId;

/// So many chunks are remembered of a slot at most: with 4 KiB each the data of 3 GiB, in 10 MB of memory. A chunk
/// that finds no room is fetched if its page has changed, and costs nothing if it has not.
pub(super) const MOST: usize = 768 << 10;

/// Id and place of a chunk, in 13 bytes: sorted they are sorted by id, and then by place.
type Entry = [u8; 13];

/// Chunk ids and the places of a slot where they are.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
}

fn entry(id: ChunkId, at: u64) -> Entry {
    let mut entry = [0; 13];
    entry[..8].copy_from_slice(&id.0);
    entry[8..].copy_from_slice(&at.to_be_bytes()[3..]);
    entry
}

fn place(entry: &Entry) -> u64 {
    entry[8..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Index {
    /// For about so many chunks.
    pub(super) fn new(chunks: u64) -> Self {
        Self { entries: Vec::with_capacity(usize::try_from(chunks).map_or(MOST, |chunks| chunks.min(MOST))) }
    }

    /// Remembers that chunk `id` is at byte `at`, which is below 2^40, if there is room.
    pub(super) fn add(&mut self, id: ChunkId, at: u64) {
        if self.entries.len() < self.entries.capacity() && at >> 40 == 0 {
            self.entries.push(entry(id, at));
        }
    }

    /// To be called after the last [`Index::add`], and before anything is looked up.
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable();
    }

    /// Whether chunk `id` is at byte `at`.
    pub(super) fn has(&self, id: ChunkId, at: u64) -> bool {
        at >> 40 == 0 && self.entries.binary_search(&entry(id, at)).is_ok()
    }

    /// The first place at or behind byte `at` where chunk `id` is.
    pub(super) fn find(&self, id: ChunkId, at: u64) -> Option<u64> {
        let wanted = entry(id, at.min((1 << 40) - 1));
        let next = self.entries.partition_point(|entry| *entry < wanted);
        self.entries.get(next).filter(|entry| entry[..8] == id.0).map(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_found_where_they_are_and_further_back() {
        let id = |n: u8| ChunkId([n; 8]);
        let mut index = Index::new(5);
        for (n, at) in [(7, 4096), (3, 0), (7, (1 << 40) - 1), (9, 8192), (9, 1 << 40), (8, 5)] {
            index.add(id(n), at);
        }
        index.sort();
        assert!(index.has(id(7), 4096) && !index.has(id(7), 4097) && !index.has(id(9), 1 << 40));
        let found =
            [(7, 0), (7, 4097), (3, 1), (9, 0), (8, 0), (7, u64::MAX)].map(|(n, at)| index.find(id(n), at));
        assert_eq!(found, [Some(4096), Some((1 << 40) - 1), None, Some(8192), Some(5), Some((1 << 40) - 1)]);
        index.add(id(1), 1);
        assert_eq!(index.entries.len(), 5, "no more than there is room for");
    }
}
