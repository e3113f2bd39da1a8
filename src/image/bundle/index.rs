//! Where on this device which chunk is, in bounded memory.

use crate::bundle::ChunkId;

/// So many bytes are there to look things up in, for the pages of the table and for the chunks of both slots together: an
/// image of more pages has fewer chunks remembered. Beside this there are bodies of pages (8 MiB), a group with its prefix
/// (5 MiB at most, 0.3 MiB as bundles are usually packed), what is not flushed yet (2 MiB), and the ranges that are to be
/// fetched: usually less than 32 MiB together, and somewhat more in the worst corner of all of them.
const BYTES: usize = 18 << 20;
/// What a page takes: its entry, its state, what of it is written, its key.
const PAGE: usize = size_of::<crate::bundle::Entry>() + 16 + 4 + 20;

// The longest table leaves room for chunks, and is itself read in that room: the bytes of the file beside the entries.
const _: () = {
    let pages = crate::bundle::Manifest::MAX_TABLE as usize / crate::bundle::Entry::LEN;
    assert!(pages * PAGE < BYTES);
    assert!(pages * (size_of::<crate::bundle::Entry>() + crate::bundle::Entry::LEN) < BYTES);
};

/// How many chunks are remembered of each slot at most, beside a table of `pages`: with few pages the data of nearly 3 GiB
/// of 4 KiB each. A chunk that finds no room is fetched if its page has changed, and costs nothing if it has not.
pub(super) fn room(pages: usize) -> usize {
    BYTES.saturating_sub(pages * PAGE) / (2 * size_of::<Entry>())
}

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
    /// For about so many chunks, but not more than `most`.
    pub(super) fn new(chunks: u64, most: usize) -> Self {
        Self { entries: Vec::with_capacity(usize::try_from(chunks).map_or(most, |chunks| chunks.min(most))) }
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
        let mut index = Index::new(5, 100);
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
        assert_eq!(Index::new(u64::MAX, 7).entries.capacity(), 7);
    }

    /// What a device has is shared: the longest table leaves little for chunks, and no table the most.
    #[test]
    fn pages_and_chunks_share_what_memory_there_is() {
        let pages = (crate::bundle::Manifest::MAX_TABLE / 28) as usize;
        for pages in [0, 1000, 50_000, pages] {
            let bytes = pages * PAGE + 2 * 13 * room(pages);
            assert!((BYTES - 26..=BYTES).contains(&bytes), "{pages} pages: {bytes}");
        }
        assert!(room(0) > 700_000 && room(pages) > 100_000);
        assert_eq!(room(usize::MAX / PAGE), 0);
        assert!(size_of::<super::super::seeds::State>() <= 16, "as it is counted");
    }
}
