//! From an address to the bytes of a slot: fetch, check, unpack, write, and read back.
//!
//! One blocking thread pushes the bytes through a chain, and another one writes what comes of them, whatever the image's
//! size in constant memory:
//!
//! ```text
//! source ─▶ digest of what is fetched ─▶ decoder ─▶ sink ═▶ digest of the image ─▶ slot
//!    ▲                                      │                               │
//!    └── reconnects by itself               └── boundaries ─▶ checkpoint ◀── flushed
//! ```
//!
//! That is a plain image. A *bundle*, which is signed and of which only what is missing is fetched, has the same source
//! and the same end, and a way of its own between them: see the module `bundle`.
//!
//! It decides nothing about updates and knows no slots, only a [`Target`]. The engine's worker calls [`write()`] for
//! the work *download* and [`read_back`] for the work *verify*; both may be called again after any interruption,
//! with the same arguments, and go on where they can.
//!
//! # Resuming
//!
//! A lost connection is the source's affair: it asks for the rest, with `If-Range`, and the decoder never notices.
//! For a lost process there is a checkpoint: at most every [`Settings::checkpoint_every`] fetched bytes the slot is
//! flushed and then position, both digests' states, the decoder's state and the file's validators are saved (see
//! the module `decode` for how a decoder is rebuilt). It is always saved *after* the flush that makes it true. A slot
//! that fails to write or to flush is a lost process, too: what lies in it behind the checkpoint is worth nothing.
//!
//! # Why pushed, and not a chain of `Read`ers
//!
//! A `Read` chain reads ahead in every link. Here every link stands at the same byte whenever the decoder reports a
//! boundary, so that a checkpoint is just a copy of their states; the sink remembers that of the digest behind it.

mod bundle;
mod chain;
mod checkpoint;
mod decode;
mod error;
#[cfg(feature = "fakes")]
#[doc(hidden)]
pub mod fuzz;
mod hash;
mod progress;
mod rate;
mod sink;
mod source;

#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use crate::durable::Generations;
use crate::model::{Artifact, Image, Seal, Sha256, Slot};

use checkpoint::{Done, Journal, Point, Saved};
use hash::Beside;
use source::Source;

pub use bundle::{Ledger, Seed, Signed, is_bundle};
pub use checkpoint::{CAPACITY as CHECKPOINT_CAPACITY, discard};
pub use error::Error;
pub use progress::{Cancel, Progress, Snapshot};
pub use rate::RateLimit;
pub use source::{Direct, Net, serve};

/// How much of a slot is read back at once. Two such pieces are in memory.
const READ: usize = 1 << 20;
/// How often it is tried again with a slot that fails, without getting further.
const REWRITES: u32 = 3;

/// A slot that is being written. Written with large pieces at multiples of 4 KiB, except for the end of an image and
/// around checkpoints.
pub trait Target: Send {
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// The sizes in bytes of the partitions that it consists of.
    fn parts(&self) -> Vec<u64> {
        vec![self.size()]
    }
    /// Writes all of `data`; not durable before the next flush.
    ///
    /// # Errors
    /// Whatever the device says.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes a range read as zeros; not durable before the next flush.
    ///
    /// # Errors
    /// Whatever the device says.
    fn zero(&mut self, offset: u64, len: u64) -> io::Result<()>;
    /// Makes all of it durable.
    ///
    /// # Errors
    /// Then what was written since the last flush may be lost, and flushing again proves nothing.
    fn flush(&mut self) -> io::Result<()>;
    /// Reads from the device itself, past any cache. Fewer bytes than asked for only at the end.
    ///
    /// # Errors
    /// Whatever the device says.
    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// How to fetch: the section `[download]` of the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// For DNS, TCP and TLS together.
    pub connect_timeout: Duration,
    /// A server that is silent for this long is given up, and asked again on a new connection.
    pub idle_timeout: Duration,
    /// Bytes per second; less on average over `minimum_rate_window` is a fault. 0 allows everything.
    pub minimum_rate: u64,
    /// Over how much time the rate is averaged. Only time spent waiting for the network counts.
    pub minimum_rate_window: Duration,
    /// How many connections in a row may fail to get any further than the ones before them. A connection that did
    /// get further begins the count anew: a link that drops every few seconds is no reason to fail, a server that
    /// drops at the same byte each time is.
    pub attempts: u32,
    /// A connection that fails after this much time in all, restarts of the process included, was the last. A download
    /// that goes on is not ended by it.
    pub time_limit: Duration,
    /// Waiting between connections is random, up to a limit that doubles from the first to the second.
    pub backoff: [Duration; 2],
    /// `Retry-After` is obeyed up to this.
    pub retry_after_limit: Duration,
    /// How many redirects are followed.
    pub redirects: u32,
    /// Most memory for a decoder's window or dictionary, in bytes. zstd windows up to 8 MiB are always allowed. Going on
    /// with a zstd file in a new process takes its window twice: where that is more, it begins anew.
    pub decoder_memory: u64,
    /// How many fetched bytes may lie between two checkpoints.
    pub checkpoint_every: u64,
    /// Bytes of bodies that one update may fetch, those that are fetched again and those of earlier processes
    /// included; 0 is no limit.
    pub data_cap: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            minimum_rate: 1 << 10,
            minimum_rate_window: Duration::from_secs(120),
            attempts: 20,
            time_limit: Duration::from_secs(24 * 60 * 60),
            backoff: [Duration::from_secs(1), Duration::from_secs(300)],
            retry_after_limit: Duration::from_secs(60 * 60),
            redirects: 5,
            decoder_memory: 64 << 20,
            checkpoint_every: 2 << 20,
            data_cap: 0,
        }
    }
}

/// One image to fetch.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// What.
    pub artifact: &'a Artifact,
    /// Into which slot; a checkpoint for one slot is none for the other.
    pub slot: Slot,
    /// How.
    pub settings: &'a Settings,
    /// Through which client.
    pub net: &'a Net,
    /// Where to note how far it is.
    pub progress: &'a Progress,
    /// What stops it.
    pub cancel: &'a Cancel,
    /// How fast, as it is at any moment.
    pub rate: &'a RateLimit,
    /// Names the update: what an earlier one fetched does not count against the data cap.
    pub update: &'a str,
    /// How bundles are judged. With this only bundles are installed, and without it none is.
    pub signed: Option<Signed<'a>>,
}

/// What was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// What the slot holds, for [`read_back`] to be compared with.
    pub image: Image,
    /// What the signatures vouch for, if it was a bundle.
    pub seal: Option<Seal>,
}

/// Fetches the image into `target`, going on from `checkpoint` if that is of the same image; blocks until all of it
/// is durable. A file whose name ends in `.twb` is a bundle, any other a plain image.
///
/// After success the checkpoint says "complete", and calling again returns the same at once. Whoever knows that the
/// update is over, or that the slot does not hold what it should, clears the checkpoint.
///
/// # Errors
/// [`Error::Cancelled`] if stopped. All others are final: what could be tried again was. The checkpoint is kept
/// where what was fetched is a good beginning, and cleared where it is not.
pub fn write(
    fetch: &Fetch<'_>,
    target: &mut dyn Target,
    checkpoint: &mut Generations,
) -> Result<Written, Error> {
    let is_bundle = bundle::is_bundle(&fetch.artifact.location);
    match &fetch.signed {
        Some(_) if !is_bundle => return Err(Error::unsigned()),
        None if is_bundle => return Err(Error::no_keys()),
        Some(_) | None => {}
    }
    let mut journal = Journal::new(checkpoint, fetch);
    let (mut tries, mut reached) = (0, 0);
    loop {
        let failed = match attempt(fetch, target, &mut journal) {
            Err(error @ Error::Target { .. }) => error,
            done => return done,
        };
        if journal.offset() > reached {
            (tries, reached) = (0, journal.offset());
        }
        if tries == REWRITES {
            journal.clear();
            return Err(failed);
        }
        tries += 1;
        // As after a power cut: nothing that was written since the last good flush can be relied upon.
        tracing::info!(
            error = failed.chain(),
            "the slot fails; what is not durable is fetched and written again"
        );
        fetch.progress.note(|now| now.fetched_twice += now.position.saturating_sub(journal.offset()));
    }
}

/// From the last checkpoint to the end, or until the slot fails.
fn attempt(fetch: &Fetch<'_>, target: &mut dyn Target, journal: &mut Journal<'_>) -> Result<Written, Error> {
    let mut saved = journal.load();
    // Nothing is left to fetch, so nothing has to be allowed or reachable.
    if let Some(Saved { point: Point::Whole(done), .. }) = &saved {
        return Ok(done.written.clone());
    }
    if let Some(signed) = &fetch.signed {
        return bundle::install(fetch, signed, target, journal, saved.as_ref());
    }
    let mut source = Source::open(fetch, saved.as_ref())?;
    source.afford_all()?;
    loop {
        let begin = match saved.take().map(|saved| saved.point) {
            Some(Point::Whole(done)) => return Ok(done.written),
            Some(Point::Half(position)) => Some(*position),
            Some(Point::Nothing) | None => None,
        };
        let done = chain::install(fetch, target, begin, &mut source, journal);
        let done = done.map_err(|error| source.reconsider(error));
        match done {
            Ok(image) => {
                let written = Written { image, seal: None };
                let done = Done { written: written.clone(), good_until: None };
                journal.save(&source, Point::Whole(Box::new(done)));
                return Ok(written);
            }
            Err(Error::StartOver(why)) => {
                tracing::info!(%why, "the download starts over");
                journal.save(&source, Point::Nothing);
                source.rewind()?;
            }
            // What was durable before it failed still is.
            Err(error @ Error::Target { .. }) => return Err(error),
            Err(error) => {
                if !error.leaves_a_good_beginning() {
                    journal.clear();
                }
                return Err(error);
            }
        }
    }
}

/// Reads the image back from the device, past every cache; blocks until done. The caller compares
/// ([`crate::model::VerifiedSlot::attest`]).
///
/// # Errors
/// [`Error::Cancelled`], or if the device cannot be read.
pub fn read_back(
    target: &dyn Target,
    image: &Image,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Sha256, Error> {
    // Reading and hashing take about as long as each other, so they are done at the same time.
    let mut digest = Beside::new();
    let mut offset = 0;
    while offset < image.len {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let mut piece = digest.buffer((image.len - offset).min(READ as u64) as usize);
        sink::read_exactly(target, offset, &mut piece)?;
        offset += piece.len() as u64;
        digest.update(piece);
        progress.note(|now| now.verified = offset);
    }
    Ok(digest.finish())
}
