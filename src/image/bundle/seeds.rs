//! What of the image this device has already: in the slot that runs, and in the one that is to be written.
//!
//! Both are read once, cut as the image is cut, and every page and chunk is compared by name. What is found is a hint
//! and no more: the booted slot is in use and may change at any moment, so everything is checked again when it is used.
//! The image is restored from front to back. So what the target holds is of use at its own place, or if it lies behind
//! that.

use std::fmt;
use std::io;

use super::super::Error;
use super::super::sink::CHUNK;
use super::super::{Cancel, Target};
use super::index::{self, Index};
use crate::bundle::{Chunk, ChunkId, Chunker, Chunking, Entry, Page, PageKey, Pager, Payload, chunk_id};

/// So many runs of zeros of the target are remembered; others are read once more.
const MOST_RUNS: usize = 64 << 10;

/// A slot whose bytes may be used for an image, as far as they fit.
pub trait Seed: fmt::Debug {
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Reads at `offset`; fewer bytes than asked for only at the end.
    ///
    /// # Errors
    /// Whatever the device says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// A place on this device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// In the slot that runs.
    Booted(u64),
    /// In the slot that is written.
    Target(u64),
}

/// Where a page of the image comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It is where it belongs.
    There,
    /// It is nothing but zeros, which are yet to be made.
    Zero,
    /// All of it is here.
    Copy(Place),
    /// Some of it has to be fetched, for all that is known.
    Missing,
}

/// What is where.
pub(super) struct Seeds {
    in_booted: Index,
    in_target: Index,
    zeros: Runs,
    /// For each page of the table.
    pub(super) pages: Vec<State>,
    /// How many bytes of each page differ from what the target holds.
    pub(super) writes: Vec<u32>,
}

impl Seeds {
    /// Looks through both slots for the pages of `table`.
    ///
    /// # Errors
    /// [`Error::Cancelled`]. What cannot be read is not there.
    pub(super) fn scan(
        table: &[Entry],
        payload: &Payload,
        target: &dyn Target,
        booted: Option<&dyn Seed>,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        // Where content says how long a chunk is, they may be somewhat shorter than 4 KiB.
        let chunks = |len: u64| len.div_ceil(3072);
        // Beyond the image's length lies nothing that it was made from, but for what the older one was longer.
        let booted_len = booted.map_or(0, |seed| seed.size().min(payload.size + payload.size / 4));
        let room = index::room(table.len());
        let mut seeds = Self {
            in_booted: Index::new(chunks(booted_len), room),
            in_target: Index::new(chunks(payload.size), room),
            zeros: Runs::default(),
            pages: vec![State::Missing; table.len()],
            writes: table.iter().map(|entry| entry.image_len).collect(),
        };
        let keys = Keys::new(table);
        let mut read = |at: u64, buffer: &mut [u8]| target.read_back(at, buffer);
        let mut scan = Scan { read: &mut read, len: payload.size, chunking: payload.chunking, cancel };
        scan.run(&mut |seen| match seen {
            Seen::Chunk(chunk, at) if chunk.id.is_zero() => seeds.zeros.add(at, chunk.len),
            Seen::Chunk(chunk, at) => seeds.in_target.add(chunk.id, at),
            Seen::Page(page, at) => {
                for index in keys.of(page.key) {
                    match table[index].image_at {
                        place if place == at => seeds.is_there(index),
                        place if place < at && seeds.pages[index] == State::Missing => {
                            seeds.pages[index] = State::Copy(Place::Target(at));
                        }
                        _ => {}
                    }
                }
            }
        })?;
        seeds.in_target.sort();
        for (index, entry) in table.iter().enumerate().filter(|(_, entry)| entry.is_zero()) {
            if seeds.zeros.has(entry.image_at, entry.image_len) {
                seeds.is_there(index);
            } else {
                seeds.pages[index] = State::Zero;
            }
        }
        if let Some(booted) = booted {
            let mut read = |at: u64, buffer: &mut [u8]| booted.read_at(at, buffer);
            let mut scan = Scan { read: &mut read, len: booted_len, chunking: payload.chunking, cancel };
            scan.run(&mut |seen| match seen {
                Seen::Chunk(chunk, _) if chunk.id.is_zero() => {}
                Seen::Chunk(chunk, at) => seeds.in_booted.add(chunk.id, at),
                Seen::Page(page, at) => {
                    for index in keys.of(page.key) {
                        if matches!(seeds.pages[index], State::Missing | State::Copy(Place::Target(_))) {
                            seeds.pages[index] = State::Copy(Place::Booted(at));
                            seeds.writes[index] = seeds.to_write(table[index].image_at, &page.chunks);
                        }
                    }
                }
            })?;
            seeds.in_booted.sort();
        }
        Ok(seeds)
    }

    fn is_there(&mut self, index: usize) {
        (self.pages[index], self.writes[index]) = (State::There, 0);
    }

    /// How many bytes of these chunks, which belong at `at`, the target does not hold there.
    pub(super) fn to_write(&self, at: u64, chunks: &[Chunk]) -> u32 {
        let mut at = at;
        let mut sum = 0;
        for chunk in chunks {
            let is_there = match chunk.id.is_zero() {
                true => self.zeros.has(at, chunk.len),
                false => self.is_in_place(chunk.id, at),
            };
            sum += if is_there { 0 } else { chunk.len };
            at += u64::from(chunk.len);
        }
        sum
    }

    /// Whether the target has the chunk at `at`.
    pub(super) fn is_in_place(&self, id: ChunkId, at: u64) -> bool {
        self.in_target.has(id, at)
    }

    /// Where the chunk is that belongs at `at`, if it is anywhere.
    pub(super) fn find(&self, id: ChunkId, at: u64) -> Option<Place> {
        if self.in_target.has(id, at) {
            return Some(Place::Target(at));
        }
        let booted = self.in_booted.find(id, 0).map(Place::Booted);
        booted.or_else(|| self.in_target.find(id, at).map(Place::Target))
    }

    /// Whether the chunk is `len` bytes behind `place`.
    pub(super) fn follows(&self, place: Place, len: u64, id: ChunkId) -> bool {
        match place {
            Place::Booted(at) => self.in_booted.has(id, at + len),
            Place::Target(at) => self.in_target.has(id, at + len),
        }
    }
}

/// The pages of a table by their keys.
struct Keys(Vec<(PageKey, u32)>);

impl Keys {
    fn new(table: &[Entry]) -> Self {
        let pages = table.iter().zip(0..).filter(|(entry, _)| !entry.is_zero());
        let mut keys: Vec<_> = pages.map(|(entry, index)| (entry.key, index)).collect();
        keys.sort_unstable();
        Self(keys)
    }

    fn of(&self, key: PageKey) -> impl Iterator<Item = usize> {
        let first = self.0.partition_point(|entry| entry.0 < key);
        self.0[first..].iter().take_while(move |entry| entry.0 == key).map(|entry| entry.1 as usize)
    }
}

/// Ranges of zeros, in order.
#[derive(Debug, Default)]
struct Runs(Vec<(u64, u64)>);

impl Runs {
    fn add(&mut self, at: u64, len: u32) {
        let until = at + u64::from(len);
        let has_room = self.0.len() < MOST_RUNS;
        match self.0.last_mut() {
            Some(last) if last.1 == at => last.1 = until,
            Some(_) | None if has_room => self.0.push((at, until)),
            Some(_) | None => {}
        }
    }

    fn has(&self, at: u64, len: u32) -> bool {
        let next = self.0.partition_point(|run| run.0 <= at);
        let run = next.checked_sub(1).and_then(|last| self.0.get(last));
        run.is_some_and(|run| run.1 >= at + u64::from(len))
    }
}

/// What is come across.
enum Seen<'a> {
    Chunk(Chunk, u64),
    Page(&'a Page, u64),
}

/// Cuts what a slot holds into chunks and pages.
struct Scan<'a> {
    read: &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>,
    len: u64,
    chunking: Chunking,
    cancel: &'a Cancel,
}

impl Scan<'_> {
    fn run(&mut self, each: &mut dyn FnMut(Seen<'_>)) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        let mut cut = Cut::new(self.chunking, 0);
        let mut at = 0;
        while at < self.len {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let len = (self.len - at).min(CHUNK as u64) as usize;
            match (self.read)(at, &mut buffer[..len]) {
                Ok(count) if count == len => cut.push(&buffer[..len], each),
                read => {
                    tracing::debug!(at, ?read, "a part of a slot cannot be read, and so not be used");
                    cut = Cut::new(self.chunking, at + len as u64);
                }
            }
            at += len as u64;
        }
        cut.finish(each);
        Ok(())
    }
}

/// The chunker and the pager, and where they stand.
struct Cut {
    chunker: Chunker,
    pages: Pages,
}

struct Pages {
    pager: Pager,
    chunk_at: u64,
    page_at: u64,
}

impl Cut {
    fn new(chunking: Chunking, at: u64) -> Self {
        let pages = Pages { pager: Pager::new(chunking), chunk_at: at, page_at: at };
        Self { chunker: Chunker::new(chunking), pages }
    }

    fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Seen<'_>)) {
        let pages = &mut self.pages;
        self.chunker.push(bytes, &mut |chunk| pages.chunk(chunk, each));
    }

    fn finish(mut self, each: &mut dyn FnMut(Seen<'_>)) {
        let pages = &mut self.pages;
        self.chunker.finish(&mut |chunk| pages.chunk(chunk, each));
        let last = pages.pager.finish();
        pages.page(last, each);
    }
}

impl Pages {
    fn chunk(&mut self, bytes: &[u8], each: &mut dyn FnMut(Seen<'_>)) {
        let chunk = Chunk { id: chunk_id(bytes), len: bytes.len() as u32 };
        each(Seen::Chunk(chunk, self.chunk_at));
        self.chunk_at += u64::from(chunk.len);
        let page = self.pager.push(chunk.id, chunk.len);
        self.page(page, each);
    }

    fn page(&mut self, page: Option<Page>, each: &mut dyn FnMut(Seen<'_>)) {
        if let Some(page) = page {
            each(Seen::Page(&page, self.page_at));
            self.page_at += page.image_len();
        }
    }
}

/// What an image's bytes are called, all of them one page.
pub(super) fn key_of(bytes: &[u8], chunking: Chunking) -> PageKey {
    let (mut chunker, mut chunks) = (Chunker::new(chunking), Vec::with_capacity(Pager::LONGEST));
    let mut each = |chunk: &[u8]| chunks.push(Chunk { id: chunk_id(chunk), len: chunk.len() as u32 });
    chunker.push(bytes, &mut each);
    chunker.finish(&mut each);
    PageKey::of(chunking, &chunks)
}
