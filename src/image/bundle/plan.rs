//! What has to be fetched, and what that costs: known before a byte of the image is fetched.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Error;
use super::reader::{Ranges, Reader};
use super::seeds::{Seeds, State};
use crate::bundle::{Body, Entry, Layout, Payload};
use crate::model::Cost;

/// So many bytes of page bodies are kept until they are needed. That is enough for an image of 3 GiB of which nothing
/// is here; of a larger one the rest is fetched page by page, and the cost is told as if all of these were missing. A
/// server that sends no parts would have to send the whole file for each of those, so there it is too much.
/// Tests have images that are smaller.
const BODIES: u64 = if cfg!(test) { 24 << 10 } else { 8 << 20 };
/// What it takes to keep one, beside its bytes.
const KEPT: u64 = 64;

/// What is to be fetched.
pub(super) struct Plan {
    /// The bodies of pages that are not all here, as they came.
    bodies: BTreeMap<usize, Vec<u8>>,
    /// The data that is missing.
    pub(super) data: Ranges,
    /// What it costs, as far as it was not fetched when this was made.
    pub(super) cost: Cost,
}

/// How many bytes may be fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purse {
    /// In all, for this update; 0 is no limit.
    pub(super) limit: u64,
    /// How many were fetched when this attempt began.
    pub(super) began: u64,
    /// What the configuration allows without asking anybody.
    pub(super) cap: u64,
}

impl Purse {
    /// Whether `cost` is within what is allowed, `tally` bytes being fetched already. If it is not, what was fetched to
    /// find that out is fetched once more when somebody has allowed it, and is a part of what is to be allowed.
    pub(super) fn afford(self, cost: Cost, tally: u64) -> Result<(), Error> {
        if self.limit > 0 && cost.fetch > self.limit {
            let fetch = cost.fetch + tally.saturating_sub(self.began);
            Err(Error::Cost { cost: Cost { fetch, ..cost }, cap: self.cap })
        } else {
            Ok(())
        }
    }
}

impl Plan {
    /// Fetches the bodies of the pages that are not all here, and finds out which data is missing.
    ///
    /// # Errors
    /// Those of the source; [`Error::Cost`] if even the bodies are too much; `bundle.damaged`.
    pub(super) fn make(
        reader: &mut Reader<'_>,
        (table, payload, layout): (&[Entry], &Payload, &Layout),
        seeds: &mut Seeds,
        purse: Purse,
    ) -> Result<Self, Error> {
        let is_stream = reader.source.is_stream();
        let is_missing = |index: &usize| seeds.pages[*index] == State::Missing;
        // From a stream nothing can be had later, should a copy turn out to have changed: then it is all sent again.
        let is_copy = |index: &usize| is_stream && matches!(seeds.pages[*index], State::Copy(_));
        let (mut chosen, mut kept, mut late, mut most) = (BTreeSet::new(), 0, 0, 0);
        for index in (0..table.len()).filter(is_missing).chain((0..table.len()).filter(is_copy)) {
            most += u64::from(table[index].data_len);
            let len = u64::from(table[index].body_len);
            if kept + len + KEPT <= BODIES {
                kept += len + KEPT;
                chosen.insert(index);
            } else if is_missing(&index) {
                late += len;
            }
        }
        if is_stream && late > 0 {
            return Err(reader.source.needs_ranges());
        }
        let mut ranges = Ranges::default();
        for index in &chosen {
            ranges.add(layout.bodies.start + table[*index].body_at, u64::from(table[*index].body_len));
        }
        let write = |seeds: &Seeds| seeds.writes.iter().copied().map(u64::from).sum();
        let spent = reader.source.tally() + reader.cost(&ranges) + late;
        if purse.limit > 0 && spent > purse.limit {
            let cost = Cost { fetch: spent + most, write: write(seeds), full: layout.total };
            purse.afford(cost, reader.source.tally())?;
        }
        reader.expect(ranges);
        let mut bodies = BTreeMap::new();
        for index in chosen {
            let entry = &table[index];
            let mut bytes = Vec::with_capacity(entry.body_len as usize);
            reader.read(layout.bodies.start + entry.body_at, entry.body_len as usize, &mut bytes)?;
            bodies.insert(index, bytes);
        }
        let mut data = Ranges::default();
        for (index, entry) in
            table.iter().enumerate().filter(|(index, _)| seeds.pages[*index] == State::Missing)
        {
            let at = layout.data.start + entry.data_at;
            let Some(bytes) = bodies.get(&index) else {
                data.add(at, u64::from(entry.data_len));
                continue;
            };
            let body = Body::parse(bytes, entry, payload)?;
            let places = places(&body, entry);
            for group in &body.groups {
                let is_here = |chunk: usize| seeds.find(body.chunks[chunk].id, places[chunk]).is_some();
                if !group.chunks.clone().all(is_here) {
                    data.add(at + u64::from(group.at), u64::from(group.packed));
                }
            }
            seeds.writes[index] = seeds.to_write(entry.image_at, &body.chunks);
        }
        let fetch = reader.source.tally() + reader.cost(&data) + late;
        let cost = Cost { fetch, write: write(seeds), full: layout.total };
        Ok(Self { bodies, data, cost })
    }

    /// The body of a page, if it was fetched; it is not kept any longer.
    pub(super) fn take_body(&mut self, index: usize) -> Option<Vec<u8>> {
        self.bodies.remove(&index)
    }
}

/// Where in the image each chunk of a page is.
pub(super) fn places(body: &Body, entry: &Entry) -> Vec<u64> {
    let mut next = entry.image_at;
    let mut place = |len: u32| {
        next += u64::from(len);
        next - u64::from(len)
    };
    body.chunks.iter().map(|chunk| place(chunk.len)).collect()
}
