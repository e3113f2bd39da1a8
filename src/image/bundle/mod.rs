//! Installing a bundle: fetch what tells what is in it, see what of that is here, count what the rest costs, and put the
//! image together.
//!
//! ```text
//! head ─▶ trust ─▶ page table ─▶ both slots ─▶ page bodies ─▶ cost ─▶ page by page: copy, fetch, check, write
//!         `bundle`               `seeds`       `plan`                 `restore`, `reader`, `patch`
//! ```
//!
//! # Resuming
//!
//! There is no position to go on from: the target slot is itself the record of what is done. After any interruption
//! both slots are looked through again, and what was written, to the end or in pieces, is found and not fetched. It
//! holds whatever was lost of the state directory, or of the last few writes. Fetched again are the head, the table and
//! the bodies of pages that are not complete; all else at most as far as the slot was not flushed, and that it is every
//! [`Settings::checkpoint_every`](super::Settings::checkpoint_every) bytes. What is kept is what it has cost so far.
//!
//! # Trust
//!
//! Nothing is parsed before its signatures hold, and nothing is written before the cost is known and allowed. Table,
//! bodies and chunks are bound to the manifest by digests. Those of the chunks are short ones: the last word has the
//! manifest's SHA-256 of the whole image, with which what is read back from the slot is compared.

mod index;
mod patch;
mod plan;
mod reader;
mod restore;
mod seeds;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::checkpoint::{Done, Journal, Point, Saved};
use super::source::Source;
use super::{Error, Fetch, Target, Written};
use crate::bundle::{Device, HEAD_FIXED, Manifest, Opened, RootKeys, Table, Trust, delegated, head_len};
use crate::model::{Cost, Image, Location, Seal};

use patch::Patch;
use plan::{Plan, Purse};
use reader::{Ranges, Reader};
use restore::{Parts, Restore};
use seeds::Seeds;

pub use seeds::Seed;

/// What is asked for first: few heads are longer.
const FIRST: u64 = 8 << 10;

/// What it takes to trust a bundle, and to install it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// Who may say who signs.
    pub roots: &'a RootKeys,
    /// What is remembered of those.
    pub ledger: &'a dyn Ledger,
    /// What a bundle is judged against.
    pub device: Device<'a>,
    /// How many bytes somebody allowed this update to fetch in all, beyond what the configuration allows.
    pub allowance: Option<u64>,
    /// The slot that runs.
    pub seed: Option<&'a dyn Seed>,
}

/// What is remembered of those who are trusted, beyond one update.
pub trait Ledger: fmt::Debug {
    /// As it is now.
    fn trust(&self) -> Trust;
    /// From now on it is this: saved before this returns, as far as it can be.
    fn remember(&self, trust: &Trust);
}

/// For the life of a process.
impl Ledger for Mutex<Trust> {
    fn trust(&self) -> Trust {
        self.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, trust: &Trust) {
        *self.lock().unwrap_or_else(PoisonError::into_inner) = trust.clone();
    }
}

/// Whether an artifact is a bundle: its name says so.
pub fn is_bundle(location: &Location) -> bool {
    match location {
        Location::Url(url) => {
            let path = url.redacted().split(['?', '#']).next().unwrap_or_default();
            path.to_ascii_lowercase().ends_with(".twb")
        }
        Location::File(path) => path.extension().is_some_and(|it| it.eq_ignore_ascii_case("twb")),
    }
}

/// Installs the bundle of `fetch` into `target`; see [`super::write()`].
pub(super) fn install(
    fetch: &Fetch<'_>,
    signed: &Signed<'_>,
    target: &mut dyn Target,
    journal: &mut Journal<'_>,
    saved: Option<&Saved>,
) -> Result<Written, Error> {
    let cap = fetch.settings.data_cap;
    let mut source = Source::open(fetch, saved)?;
    let is_limited = cap > 0 && source.is_remote();
    let limit = if is_limited { cap.max(signed.allowance.unwrap_or(0)) } else { 0 };
    source.limit(limit);
    let mut install =
        Install { fetch, signed, reader: Reader::new(source), purse: Purse { limit, began: 0, cap } };
    loop {
        let done = install.attempt(target, journal);
        match done.map_err(|error| install.reader.source.reconsider(error)) {
            Ok(opened) => {
                let (written, good_until) = (written(&opened), opened.good_until);
                let done = Done { written: written.clone(), good_until };
                journal.save(&install.reader.source, Point::Whole(Box::new(done)));
                return Ok(written);
            }
            Err(Error::StartOver(why)) => {
                tracing::info!(%why, "the download starts over");
                journal.save(&install.reader.source, Point::Nothing);
            }
            Err(error) => {
                journal.recount(&install.reader.source, Point::Nothing);
                return Err(error);
            }
        }
    }
}

struct Install<'a, 's> {
    fetch: &'a Fetch<'s>,
    signed: &'a Signed<'a>,
    reader: Reader<'s>,
    purse: Purse,
}

impl Install<'_, '_> {
    /// Everything, from the head on.
    fn attempt(&mut self, target: &mut dyn Target, journal: &mut Journal<'_>) -> Result<Opened, Error> {
        self.purse.began = self.reader.source.tally();
        let opened = self.head()?;
        let (payload, layout) = (opened.manifest.slot().clone(), opened.manifest.layout(opened.head_len));
        self.suits(&opened, target)?;
        let table = self.table(&opened)?;
        let table = table.pages();
        let mut seeds = Seeds::scan(table, &payload, target, self.signed.seed, self.fetch.cancel)?;
        let plan = Plan::make(&mut self.reader, (table, &payload, &layout), &mut seeds, self.purse)?;
        let cost = plan.cost;
        self.fetch.progress.note(|now| (now.plan, now.total) = (Some(cost), Some(payload.size)));
        self.purse.afford(cost, self.reader.source.tally())?;
        let (fetch, write, full) = (cost.fetch, cost.write, cost.full);
        tracing::debug!(fetch, write, full, "what the bundle costs");
        self.reader.expect(plan.data.clone());
        let parts =
            Parts { table, payload: &payload, layout: &layout, seeds: &seeds, booted: self.signed.seed };
        journal.claim(&self.reader.source);
        let patch = Patch::new(target, payload.size);
        let restore = Restore::new(self.fetch, parts, plan, &mut self.reader, patch);
        restore.run(journal).map_err(|error| self.over(error, cost, layout.data.start))?;
        Ok(opened)
    }

    /// More was fetched than was planned, and that is more than is allowed: somebody is asked, for what it takes now.
    fn over(&self, error: Error, cost: Cost, again: u64) -> Error {
        let Error::DataCap { fetched, .. } = error else { return error };
        // Head, table and bodies are fetched once more by then.
        let fetch = fetched + self.reader.to_come() + again;
        Error::Cost { cost: Cost { fetch, ..cost }, cap: self.purse.cap }
    }

    /// Fetches the head and decides whether to trust it.
    fn head(&mut self) -> Result<Opened, Error> {
        let mut first = Ranges::default();
        first.add(0, FIRST);
        self.reader.restart(first)?;
        let mut head = Vec::new();
        self.reader.read(0, HEAD_FIXED, &mut head)?;
        self.reader.settle()?;
        let len = head_len(&head)?;
        let mut rest = Vec::new();
        let missing = len.saturating_sub(HEAD_FIXED as u64) as usize;
        self.reader.read(HEAD_FIXED as u64, missing, &mut rest)?;
        head.extend_from_slice(&rest);
        let delegated = delegated(&head, self.signed.roots, &self.signed.ledger.trust())?;
        // Before the rest is judged: a key that was revoked stays so, whatever becomes of this bundle.
        self.signed.ledger.remember(delegated.trust());
        let opened = delegated.open(&self.signed.device)?;
        for note in &opened.notes {
            tracing::info!("{note}");
        }
        Ok(opened)
    }

    /// Whether it is the bundle that was asked for, and fits into the slot.
    fn suits(&self, opened: &Opened, target: &dyn Target) -> Result<(), Error> {
        let (artifact, found) = (self.fetch.artifact, opened.id);
        if let Some(wanted) = artifact.sha256.filter(|wanted| *wanted != found) {
            return Err(Error::Digest { found, wanted });
        }
        let (asked, version) = (&artifact.version, &opened.manifest.version);
        if let Some(asked) = asked.as_ref().filter(|asked| *asked != version) {
            return Err(Error::other_version(asked, version));
        }
        let total = opened.manifest.layout(opened.head_len).total;
        for wanted in artifact.size.into_iter().chain(self.reader.source.total()) {
            if wanted != total {
                return Err(Error::Size { found: total.to_string(), wanted });
            }
        }
        let (needed, size) = (opened.manifest.slot().size, target.size());
        if needed > size {
            return Err(Error::TooBig { needed, size });
        }
        has_same_parts(&opened.manifest, &target.parts())
    }

    fn table(&mut self, opened: &Opened) -> Result<Table, Error> {
        let layout = opened.manifest.layout(opened.head_len);
        let (at, len) = (layout.table.start, layout.table.end - layout.table.start);
        let mut wanted = Ranges::default();
        wanted.add(at, len);
        let spent = self.reader.source.tally() + self.reader.cost(&wanted);
        let cost = Cost { fetch: spent + layout.total - layout.table.end, write: 0, full: layout.total };
        if self.purse.limit > 0 && spent > self.purse.limit {
            self.purse.afford(cost, self.reader.source.tally())?;
        }
        self.reader.expect(wanted);
        let mut bytes = Vec::new();
        self.reader.read(at, len as usize, &mut bytes)?;
        Ok(Table::parse(&bytes, opened.manifest.slot())?)
    }
}

/// All partitions but the last are filled exactly, or what lies behind them would be in the wrong one.
fn has_same_parts(manifest: &Manifest, ours: &[u64]) -> Result<(), Error> {
    let slot = manifest.slot();
    let theirs: Vec<u64> = if slot.parts.is_empty() {
        vec![slot.size]
    } else {
        slot.parts.iter().map(|part| part.size).collect()
    };
    let fits =
        theirs.len() == ours.len()
            && theirs.iter().zip(ours).enumerate().all(|(index, (their, our))| {
                if index + 1 == ours.len() { their <= our } else { their == our }
            });
    if fits { Ok(()) } else { Err(Error::other_parts(&theirs, ours)) }
}

fn written(opened: &Opened) -> Written {
    let manifest = &opened.manifest;
    let slot = manifest.slot();
    let seal = Seal {
        version: manifest.version.clone(),
        rollback_index: manifest.rollback_index,
        allow_downgrade: manifest.allow_downgrade,
        bundle: opened.id,
    };
    Written { image: Image { sha256: slot.sha256, len: slot.size }, seal: Some(seal) }
}
