//! Putting the image together, page by page and from front to back, out of what is here and what is fetched.
//!
//! Every chunk's id is computed from the bytes that are about to be written. What is not what it was found to be when
//! the slots were looked through is fetched after all.

use std::time::{Duration, Instant};

use super::super::checkpoint::{Journal, Point};
use super::super::{Error, Fetch};
use super::patch::Patch;
use super::plan::{Plan, places};
use super::reader::Reader;
use super::seeds::{Place, Seed, Seeds, State, key_of};
use crate::bundle::{Body, Entry, Group, Layout, Payload, Unpacker, chunk_id};

/// The slot is flushed after this time at the latest, if there is anything to flush.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);

/// What an image is put together from.
pub(super) struct Parts<'a> {
    pub(super) table: &'a [Entry],
    pub(super) payload: &'a Payload,
    pub(super) layout: &'a Layout,
    pub(super) seeds: &'a Seeds,
    pub(super) booted: Option<&'a dyn Seed>,
}

/// The image as far as it is.
pub(super) struct Restore<'a, 'r, 's> {
    fetch: &'a Fetch<'s>,
    parts: Parts<'a>,
    plan: Plan,
    reader: &'a mut Reader<'r>,
    patch: Patch<'a>,
    unpacker: Unpacker,
    /// The image's bytes from `base` on, as far back as a group may need them.
    work: Vec<u8>,
    base: u64,
    packed: Vec<u8>,
    /// How much was fetched and written when the slot was flushed last, and when.
    tally: u64,
    written: u64,
    at: Instant,
}

impl<'a, 'r, 's> Restore<'a, 'r, 's> {
    pub(super) fn new(
        fetch: &'a Fetch<'s>,
        parts: Parts<'a>,
        plan: Plan,
        reader: &'a mut Reader<'r>,
        patch: Patch<'a>,
    ) -> Self {
        let unpacker = Unpacker::new(parts.payload);
        let tally = reader.source.tally();
        let (work, packed) = (Vec::new(), Vec::new());
        Self {
            fetch,
            parts,
            plan,
            reader,
            patch,
            unpacker,
            work,
            base: 0,
            packed,
            tally,
            written: 0,
            at: Instant::now(),
        }
    }

    /// All of it. After an error what was put together so far is durable where that was possible.
    pub(super) fn run(mut self, journal: &mut Journal<'_>) -> Result<(), Error> {
        let done = self.pages(journal);
        match &done {
            Ok(()) => {
                self.patch.finish()?;
                let written = self.patch.written();
                self.fetch.progress.note(|now| now.written = written);
                Ok(())
            }
            // Nothing can be built upon a device that failed.
            Err(Error::Target { .. }) => done,
            Err(_) => self.patch.flush().and(done),
        }
    }

    fn pages(&mut self, journal: &mut Journal<'_>) -> Result<(), Error> {
        for (index, entry) in self.parts.table.iter().enumerate() {
            if self.fetch.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            self.page(index, entry)?;
            let (position, written) = (entry.image_at + u64::from(entry.image_len), self.patch.written());
            self.fetch.progress.note(|now| (now.position, now.written) = (position, written));
            let fetched = self.reader.source.tally() - self.tally;
            let fresh = fetched.max(written - self.written);
            if fresh >= self.fetch.settings.checkpoint_every
                || (fresh > 0 && self.at.elapsed() >= AT_LEAST_EVERY)
            {
                self.patch.flush()?;
                if fetched > 0 {
                    journal.save(&self.reader.source, Point::Nothing);
                }
                (self.tally, self.written, self.at) = (self.reader.source.tally(), written, Instant::now());
            }
        }
        Ok(())
    }

    fn page(&mut self, index: usize, entry: &Entry) -> Result<(), Error> {
        let len = entry.image_len as usize;
        match self.parts.seeds.pages[index] {
            State::There => return Ok(()),
            State::Zero => {
                let start = self.begin(entry)?;
                self.work.resize(start + len, 0);
            }
            State::Copy(place) => {
                let start = self.begin(entry)?;
                self.work.resize(start + len, 0);
                let is_read = read(&self.parts, &self.patch, place, &mut self.work[start..]);
                if !is_read || key_of(&self.work[start..], self.parts.payload.chunking) != entry.key {
                    tracing::debug!(
                        at = entry.image_at,
                        "a page of the running system has changed meanwhile"
                    );
                    self.assemble(index, entry)?;
                }
            }
            State::Missing => self.assemble(index, entry)?,
        }
        let start = self.work.len() - len;
        self.patch.put(entry.image_at, &self.work[start..])
    }

    /// Has `work` end where the page begins, which is returned: with what stands before it in the image, if that is at
    /// hand.
    fn begin(&mut self, entry: &Entry) -> Result<usize, Error> {
        let prefix = self.parts.payload.prefix as usize;
        if self.base + self.work.len() as u64 != entry.image_at {
            // Pages between that are in their place: from now on the slot holds all that stands before this one.
            self.patch.close()?;
            self.work.clear();
            self.base = entry.image_at;
        } else if self.work.len() > 2 * prefix {
            let surplus = self.work.len() - prefix;
            self.work.drain(..surplus);
            self.base += surplus as u64;
        }
        Ok(self.work.len())
    }

    /// Puts a page together chunk by chunk, at the end of `work`.
    fn assemble(&mut self, index: usize, entry: &Entry) -> Result<(), Error> {
        let body = self.body(index, entry)?;
        // A page that could not be copied has begun already.
        let begun = self.base + self.work.len() as u64 == entry.image_at + u64::from(entry.image_len);
        if begun {
            self.work.truncate(self.work.len() - entry.image_len as usize);
        } else {
            self.begin(entry)?;
        }
        let page = self.work.len();
        self.work.resize(page + entry.image_len as usize, 0);
        let places = places(&body, entry);
        let mut is_here = self.collect(&body, entry, &places)?;
        for group in &body.groups {
            if !group.chunks.clone().all(|chunk| is_here[chunk]) {
                self.unpack(&body, group, entry, &places)?;
                is_here[group.chunks.clone()].fill(true);
            }
        }
        Ok(())
    }

    /// The chunks of a page that are on this device; says which.
    fn collect(&mut self, body: &Body, entry: &Entry, places: &[u64]) -> Result<Vec<bool>, Error> {
        let (seeds, page) = (self.parts.seeds, self.work.len() - entry.image_len as usize);
        let offset = |chunk: usize| (places[chunk] - entry.image_at) as usize;
        let mut is_here: Vec<bool> = body.chunks.iter().map(|chunk| chunk.id.is_zero()).collect();
        let old = self.patch.old(entry.image_at, entry.image_len as usize);
        for (at, chunk) in body.chunks.iter().enumerate() {
            let range = offset(at)..offset(at) + chunk.len as usize;
            let old = old.filter(|_| !is_here[at] && seeds.is_in_place(chunk.id, places[at]));
            if let Some(old) = old.map(|old| &old[range.clone()]).filter(|old| chunk_id(old) == chunk.id) {
                self.work[page..][range].copy_from_slice(old);
                is_here[at] = true;
            }
        }
        let mut at = 0;
        while at < body.chunks.len() {
            let place = if is_here[at] { None } else { seeds.find(body.chunks[at].id, places[at]) };
            let Some(place) = place.filter(|place| *place != Place::Target(places[at])) else {
                at += 1;
                continue;
            };
            // What stands together there as it does here is read at once.
            let (mut end, mut len) = (at + 1, u64::from(body.chunks[at].len));
            while end < body.chunks.len() && !is_here[end] && seeds.follows(place, len, body.chunks[end].id) {
                len += u64::from(body.chunks[end].len);
                end += 1;
            }
            let run = page + offset(at)..page + offset(at) + len as usize;
            if read(&self.parts, &self.patch, place, &mut self.work[run]) {
                for (index, is_here) in is_here.iter_mut().enumerate().take(end).skip(at) {
                    let chunk = &body.chunks[index];
                    let range = page + offset(index)..page + offset(index) + chunk.len as usize;
                    *is_here = chunk_id(&self.work[range]) == chunk.id;
                }
            }
            at = end;
        }
        Ok(is_here)
    }

    /// The body of a page: as it was fetched for the plan, or fetched now.
    fn body(&mut self, index: usize, entry: &Entry) -> Result<Body, Error> {
        let bytes = match self.plan.take_body(index) {
            Some(bytes) => bytes,
            // It was to come as a part, and since then the server has taken to sending all of it, each time.
            None if self.reader.source.is_stream() && self.parts.seeds.pages[index] == State::Missing => {
                return Err(self.reader.source.needs_ranges());
            }
            None => {
                let (mut bytes, at) = (Vec::new(), self.parts.layout.bodies.start + entry.body_at);
                self.reader.read(at, entry.body_len as usize, &mut bytes)?;
                bytes
            }
        };
        Ok(Body::parse(&bytes, entry, self.parts.payload)?)
    }

    /// Fetches a group and unpacks it to where it belongs in `work`. One that is damaged is fetched once more.
    fn unpack(&mut self, body: &Body, group: &Group, entry: &Entry, places: &[u64]) -> Result<(), Error> {
        let page = self.work.len() - entry.image_len as usize;
        let missing = self.window(entry)?;
        let page = page + missing;
        let begin = page + (places[group.chunks.start] - entry.image_at) as usize;
        let prefix = begin.saturating_sub(self.parts.payload.prefix as usize);
        let at = self.parts.layout.data.start + entry.data_at + u64::from(group.at);
        let mut is_second = false;
        loop {
            self.reader.read(at, group.packed as usize, &mut self.packed)?;
            let unpacked = self.unpacker.unpack(&self.work[prefix..begin], &self.packed, group.raw);
            let checked = unpacked.map_err(Error::from).and_then(|raw| {
                let mut rest = raw;
                for chunk in &body.chunks[group.chunks.clone()] {
                    let (bytes, more) = rest.split_at(chunk.len as usize);
                    if chunk_id(bytes) != chunk.id {
                        return Err(Error::damaged("a group of chunks is not what its page says"));
                    }
                    rest = more;
                }
                Ok(raw)
            });
            match checked {
                Ok(raw) => {
                    self.work[begin..begin + raw.len()].copy_from_slice(raw);
                    return Ok(());
                }
                Err(error) if is_second => return Err(error),
                Err(error) => {
                    tracing::debug!(at, error = error.chain(), "a damaged group is fetched once more");
                    is_second = true;
                }
            }
        }
    }

    /// Has `work` begin with all that a group of the page may be the continuation of. By how many bytes it grew at its
    /// front.
    fn window(&mut self, entry: &Entry) -> Result<usize, Error> {
        let from = entry.image_at.saturating_sub(u64::from(self.parts.payload.prefix));
        let missing = self.base.saturating_sub(from) as usize;
        if missing > 0 {
            let mut before = vec![0; missing];
            self.patch.read(from, &mut before)?;
            self.work.splice(0..0, before);
            self.base = from;
        }
        Ok(missing)
    }
}

/// Fills `buffer` with what is there. Whether it could be read: what it is worth is checked by its ids.
fn read(parts: &Parts<'_>, patch: &Patch<'_>, place: Place, buffer: &mut [u8]) -> bool {
    match place {
        Place::Booted(at) => {
            let len = buffer.len();
            parts.booted.is_some_and(|seed| seed.read_at(at, buffer).is_ok_and(|count| count == len))
        }
        Place::Target(at) => patch.read(at, buffer).is_ok(),
    }
}
