//! What a device that has another image would fetch of a bundle.

use std::collections::HashSet;
use std::io::{self, Read, Seek};
use std::ops::Range;

use super::{Fault, read_at, read_table};
use crate::bundle::{Body, ChunkId, Chunker, Chunking, Manifest, PageKey, Pager, chunk_id};

/// What a request costs besides what it brings: its own head and that of the answer, with TLS and TCP around them.
const REQUEST: u64 = 600;
/// What lies between two ranges is fetched along if it is no longer than this: a request of its own costs about as much.
const GAP: u64 = 2048;
/// What a device asks for at first, in the hope that the head is in it.
const FIRST: u64 = 8192;

/// The chunks and pages of an image that a device has.
#[derive(Clone, Debug, Default)]
pub struct Known {
    chunks: HashSet<ChunkId>,
    pages: HashSet<PageKey>,
}

impl Known {
    /// Reads an image and cuts it as `chunking` says. `told` is told how many bytes have been read.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(image: &mut dyn Read, chunking: Chunking, told: &mut dyn FnMut(u64)) -> io::Result<Self> {
        let mut known = Self::default();
        let (mut chunker, mut pager) = (Chunker::new(chunking), Pager::new(chunking));
        let (mut block, mut size) = (vec![0; 1 << 20], 0);
        loop {
            let count = match image.read(&mut block) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut each = |chunk: &[u8]| {
                let id = chunk_id(chunk);
                known.chunks.insert(id);
                known.pages.extend(pager.push(id, chunk.len() as u32).map(|page| page.key));
            };
            if count == 0 {
                chunker.finish(&mut each);
                known.pages.extend(pager.finish().map(|page| page.key));
                return Ok(known);
            }
            chunker.push(&block[..count], &mut each);
            size += count as u64;
            told(size);
        }
    }
}

/// What is fetched, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fetch {
    /// Head and page table.
    pub table: u64,
    /// Bodies of pages that the device does not have, and what lies between them.
    pub bodies: u64,
    /// Groups with a chunk that the device does not have, and what lies between them.
    pub data: u64,
    /// Requests.
    pub requests: u64,
    /// Bytes of the image in chunks that the device does not have.
    pub missing: u64,
}

impl Fetch {
    /// All that is fetched, with what requests cost.
    pub fn total(&self) -> u64 {
        self.table + self.bodies + self.data + self.requests * REQUEST
    }
}

/// Ranges of a file as they are fetched: close ones in one request.
#[derive(Default)]
struct Ranges {
    end: Option<u64>,
    bytes: u64,
    requests: u64,
}

impl Ranges {
    fn add(&mut self, range: Range<u64>) {
        match self.end {
            Some(end) if range.start.saturating_sub(end) <= GAP => self.bytes += range.end - end,
            Some(_) | None => {
                self.bytes += range.end - range.start;
                self.requests += 1;
            }
        }
        self.end = Some(range.end);
    }
}

/// What a device that has what is `known` would fetch of this bundle, whose head has this length.
///
/// # Errors
/// If the bundle cannot be read or is not what its manifest promises.
pub fn against<F: Read + Seek>(
    bundle: &mut F,
    manifest: &Manifest,
    head_len: u64,
    known: &Known,
) -> Result<Fetch, Fault> {
    let (slot, layout) = (manifest.slot(), manifest.layout(head_len));
    let table = read_table(bundle, manifest, head_len)?;
    let (mut bodies, mut data) = (Ranges::default(), Ranges::default());
    let (mut missing, mut bytes) = (0, vec![]);
    for entry in table.pages().iter().filter(|it| !it.is_zero() && !known.pages.contains(&it.key)) {
        let at = layout.bodies.start + entry.body_at;
        bodies.add(at..at + u64::from(entry.body_len));
        read_at(bundle, at, entry.body_len, &mut bytes)?;
        let body = Body::parse(&bytes, entry, slot)?;
        let lacks = |chunk: usize| {
            let id = body.chunks[chunk].id;
            !id.is_zero() && !known.chunks.contains(&id)
        };
        for group in &body.groups {
            let lacking =
                group.chunks.clone().filter(|it| lacks(*it)).map(|it| u64::from(body.chunks[it].len));
            let lacking = lacking.sum::<u64>();
            if lacking > 0 {
                let at = layout.data.start + entry.data_at + u64::from(group.at);
                data.add(at..at + u64::from(group.packed));
                missing += lacking;
            }
        }
    }
    Ok(Fetch {
        table: layout.table.end.max(FIRST.min(layout.total)),
        bodies: bodies.bytes,
        data: data.bytes,
        requests: 1 + u64::from(layout.table.end > FIRST) + bodies.requests + data.requests,
        missing,
    })
}
