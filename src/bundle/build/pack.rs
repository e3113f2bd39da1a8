//! Packing an image: read once from front to back, cut, packed by all threads, written in order.

use std::io::{self, Read, Write};
use std::sync::Mutex;

use sha2::Digest as _;

use super::pool::Pool;
use super::squeeze::Squeezer;
use crate::bundle::{Body, Chunk, Chunker, Chunking, Entry, Kind, Manifest, Page, Pager, Payload, TableInfo};
use crate::bundle::{chunk_id, groups};
use crate::model::Sha256;

/// Bytes of the image that are read at once.
const BLOCK: usize = 1 << 20;

/// How an image is packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packing {
    /// How it is cut into chunks.
    pub chunking: Chunking,
    /// Longest group in bytes of the image.
    pub group: u32,
    /// Bytes of the image before a group that it may refer to.
    pub prefix: u32,
    /// zstd's level, 1 to 22.
    pub level: i32,
    /// Threads that pack. Whatever their number, what they make is the same.
    pub threads: usize,
}

impl Packing {
    /// What was measured to be fewest bytes on the wire for a device that has an older image, at a speed that does not
    /// keep anybody waiting. The figures are in this module's page, [`build`](super).
    pub fn usual(chunking: Chunking) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (group, prefix) = match chunking {
            Chunking::Aligned => (16 << 10, 256 << 10),
            // Packed already, mostly: what is fetched needlessly costs more than what zstd finds.
            Chunking::Content => (4 << 10, 64 << 10),
        };
        Self { chunking, group, prefix, level: 12, threads }
    }
}

/// A page on its way to a thread: its chunks, and its bytes with those before them that may be referred to.
struct Job {
    chunks: Vec<Chunk>,
    bytes: Vec<u8>,
    /// Where in `bytes` the page begins.
    begin: usize,
    entry: Entry,
}

/// A packed page.
struct Packed {
    entry: Entry,
    body: Vec<u8>,
    data: Vec<u8>,
}

/// Where pages go.
struct Writer<'a> {
    bodies: &'a mut dyn Write,
    data: &'a mut dyn Write,
    table: Vec<u8>,
    lens: (u64, u64),
}

/// Packs an image: page bodies and data go to writers of their own, because what comes before both in a bundle is
/// known in the end. Returns the payload that the manifest has, for one partition, and the bytes of the page table.
///
/// `told` is told how many bytes of the image have been read. In memory are, for each thread, three pages with what is
/// before them ([`Packing::prefix`]), and 28 bytes for each page of the image: with the usual packing some 10 MiB for
/// each thread.
///
/// # Errors
/// If the image cannot be read, is empty or too long, or something cannot be written.
pub fn pack(
    image: &mut dyn Read,
    packing: &Packing,
    bodies: &mut dyn Write,
    data: &mut dyn Write,
    told: &mut dyn FnMut(u64),
) -> io::Result<(Payload, Vec<u8>)> {
    let mut writer = Writer { bodies, data, table: vec![], lens: (0, 0) };
    let jobs = Mutex::new(None);
    let (size, sha256) = std::thread::scope(|scope| {
        let mut pool = Pool::new(scope, packing.threads, &jobs, || |job: Job| squeeze(job, packing));
        let mut send = |job: Job| match pool.give(job)? {
            Some(packed) => writer.write(packed?),
            None => Ok(()),
        };
        let whole = read(image, packing, &mut send, told)?;
        while let Some(packed) = pool.take()? {
            writer.write(packed?)?;
        }
        io::Result::Ok(whole)
    })?;
    let table = TableInfo {
        size: writer.table.len() as u64,
        pages: (writer.table.len() / Entry::LEN) as u64,
        sha256: Sha256::of(&writer.table),
    };
    let Packing { chunking, group, prefix, .. } = *packing;
    let (bodies, data) = writer.lens;
    let payload = Payload {
        kind: Kind::Slot,
        size,
        sha256,
        parts: vec![],
        chunking,
        group,
        prefix,
        table,
        bodies,
        data,
    };
    Ok((payload, writer.table))
}

/// Reads and cuts the image; its length and digest.
fn read(
    image: &mut dyn Read,
    packing: &Packing,
    send: &mut dyn FnMut(Job) -> io::Result<()>,
    told: &mut dyn FnMut(u64),
) -> io::Result<(u64, Sha256)> {
    let (mut chunker, mut pager) = (Chunker::new(packing.chunking), Pager::new(packing.chunking));
    let mut window = Window { bytes: vec![], begin: 0, prefix: packing.prefix as usize };
    let (mut hasher, mut size) = (sha2::Sha256::new(), 0);
    let mut block = vec![0; BLOCK];
    let mut ready = vec![];
    loop {
        let count = match image.read(&mut block) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let mut each = |chunk: &[u8]| {
            // Decided before the chunk is added: the page may end before it.
            let page = pager.push(chunk_id(chunk), chunk.len() as u32);
            window.bytes.extend_from_slice(chunk);
            ready.extend(page.map(|page| window.page(page)));
        };
        if count == 0 {
            chunker.finish(&mut each);
            ready.extend(pager.finish().map(|page| window.page(page)));
        } else {
            hasher.update(&block[..count]);
            chunker.push(&block[..count], &mut each);
        }
        for job in ready.drain(..) {
            send(job)?;
        }
        size += count as u64;
        told(size);
        if count == 0 {
            return Ok((size, Sha256(hasher.finalize().into())));
        }
    }
}

/// The part of the image that pages are cut from: what may be referred to, and what is not in a page yet.
struct Window {
    bytes: Vec<u8>,
    /// Where the next page begins.
    begin: usize,
    prefix: usize,
}

impl Window {
    fn page(&mut self, page: Page) -> Job {
        let image_len = page.image_len() as usize;
        let end = self.begin + image_len;
        let entry = Entry {
            key: page.key,
            image_at: 0,
            image_len: image_len as u32,
            body_at: 0,
            body_len: 0,
            data_at: 0,
            data_len: 0,
        };
        let keep = end.saturating_sub(self.prefix);
        let job = if page.is_zero() {
            Job { chunks: vec![], bytes: vec![], begin: 0, entry }
        } else {
            Job { chunks: page.chunks, bytes: self.bytes[..end].to_vec(), begin: self.begin, entry }
        };
        self.bytes.drain(..keep);
        self.begin = end - keep;
        job
    }
}

/// Packs a page: what each thread does.
fn squeeze(job: Job, packing: &Packing) -> io::Result<Packed> {
    let Job { chunks, bytes, begin, mut entry } = job;
    if chunks.is_empty() {
        return Ok(Packed { entry, body: vec![], data: vec![] });
    }
    let (group, prefix) = (packing.group, packing.prefix as usize);
    let starts: Vec<usize> = chunks
        .iter()
        .scan(begin, |at, chunk| Some(std::mem::replace(at, *at + chunk.len as usize)))
        .chain([bytes.len()])
        .collect();
    let mut squeezer = Squeezer::new(packing.level, prefix + group.max(packing.chunking.longest()) as usize);
    let (mut data, mut lens) = (Vec::with_capacity(bytes.len() - begin), vec![]);
    for range in groups(&chunks, group) {
        let (from, to) = (starts[range.start], starts[range.end]);
        let before = &bytes[from.saturating_sub(prefix)..from];
        lens.push(squeezer.squeeze(before, &bytes[from..to], &mut data)? as u32);
    }
    let body = Body::encode(packing.chunking, &chunks, &lens);
    (entry.body_len, entry.data_len) = (body.len() as u32, data.len() as u32);
    Ok(Packed { entry, body, data })
}

impl Writer<'_> {
    fn write(&mut self, packed: Packed) -> io::Result<()> {
        self.table.extend_from_slice(&packed.entry.encode());
        if self.table.len() as u64 > Manifest::MAX_TABLE {
            let what = format!(
                "the image has more than {} pages, for which no device has the memory: make it smaller, or leave more of it \
                 zeros",
                Manifest::MAX_TABLE / Entry::LEN as u64
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        }
        self.bodies.write_all(&packed.body)?;
        self.data.write_all(&packed.data)?;
        self.lens.0 += packed.body.len() as u64;
        self.lens.1 += packed.data.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before hours are spent on what no device takes.
    #[test]
    fn an_image_of_too_many_pages_is_refused_as_soon_as_that_is_known() {
        let entry = Entry {
            key: crate::bundle::PageKey([0; 16]),
            image_at: 0,
            image_len: 65_536,
            body_at: 0,
            body_len: 0,
            data_at: 0,
            data_len: 0,
        };
        let (mut bodies, mut data) = (io::sink(), io::sink());
        let mut writer = Writer { bodies: &mut bodies, data: &mut data, table: vec![], lens: (0, 0) };
        let mut write = || writer.write(Packed { entry, body: vec![], data: vec![] });
        for page in 1..=149_796 {
            write().unwrap_or_else(|error| panic!("page {page}: {error}"));
        }
        let refused = write().expect_err("one too many").to_string();
        assert!(refused.contains("149796 pages"), "{refused}");
    }
}
