//! What is kept across a power cut, and when.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::bundle::Device;
use crate::durable::{Generations, Loaded};
use crate::model::{Image, Location, Seal, Sha256, Timestamp};

use super::chain::{InFile, Position};
use super::decode::State;
use super::hash::Hasher;
use super::source::{Source, Validator};
use super::{Fetch, Signed};

/// The room that [`Generations`] needs for a checkpoint, in bytes.
pub const CAPACITY: usize = 8 << 10;

/// Another number for another layout: an old checkpoint is then as good as none.
const SCHEMA: u32 = 2;
/// On a slow line a checkpoint is made after this time even if few bytes came.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);

/// A checkpoint.
pub(super) struct Saved {
    pub(super) point: Point,
    pub(super) validator: Validator,
    pub(super) total: Option<u64>,
    /// How long this update's download has taken so far.
    pub(super) spent: Duration,
    /// How often this update saw the file change.
    pub(super) changes: u32,
    /// How many bytes this update has fetched so far, as far as was written down.
    pub(super) tally: u64,
}

/// How far it is.
pub(super) enum Point {
    /// On the way.
    Half(Box<Position>),
    /// All there, and durable.
    Whole(Box<Done>),
    /// Nothing of use is there; what it cost to get that far still counts.
    Nothing,
}

/// What is all there.
pub(super) struct Done {
    pub(super) written: super::Written,
    /// From when on those who signed it would not have it installed any more.
    pub(super) good_until: Option<Timestamp>,
}

/// A checkpoint as it is written.
#[derive(Deserialize, Serialize)]
struct Document {
    schema: u32,
    job: Sha256,
    validator: Validator,
    total: Option<u64>,
    spent_s: u64,
    changes: u32,
    /// Which update took so long, saw so many changes and fetched that many bytes.
    #[serde(default)]
    update: String,
    #[serde(default)]
    tally: u64,
    point: Written,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Written {
    Half {
        offset: u64,
        fetched: Packed,
        len: u64,
        image: Packed,
        decoder: State,
    },
    Whole {
        image: Image,
        seal: Option<Seal>,
        /// By whom it was judged.
        #[serde(default)]
        judges: Option<Sha256>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        good_until: Option<Timestamp>,
    },
    Nothing,
}

/// Bytes, as text.
#[derive(Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Packed(Vec<u8>);

impl Clone for Packed {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl From<Packed> for String {
    fn from(packed: Packed) -> Self {
        STANDARD_NO_PAD.encode(packed.0)
    }
}

impl TryFrom<String> for Packed {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD_NO_PAD.decode(text).map(Self)
    }
}

/// Keeps the checkpoints of one download.
pub(super) struct Journal<'a> {
    store: &'a mut Generations,
    job: Sha256,
    every: u64,
    update: &'a str,
    signed: Option<Signed<'a>>,
    has_digest: bool,
    is_capped: bool,
    /// The tally that is saved.
    tally: u64,
    /// The position that is saved.
    offset: u64,
    at: Instant,
    is_working: bool,
    /// What is saved vouches for bytes that are about to be overwritten.
    is_stale: bool,
}

impl<'a> Journal<'a> {
    pub(super) fn new(store: &'a mut Generations, fetch: &Fetch<'a>) -> Self {
        Self {
            store,
            job: job(fetch),
            every: fetch.settings.checkpoint_every,
            update: fetch.update,
            signed: fetch.signed,
            has_digest: fetch.artifact.sha256.is_some(),
            is_capped: fetch.settings.data_cap > 0,
            tally: 0,
            offset: 0,
            at: Instant::now(),
            is_working: true,
            is_stale: false,
        }
    }

    /// The checkpoint of this very job. One that is damaged, of another job, or of another time is as good as none.
    pub(super) fn load(&mut self) -> Option<Saved> {
        let payload = match self.store.load() {
            Loaded::Empty => return None,
            Loaded::Found { payload, damaged } => {
                // Until it has proved to be ours.
                self.is_stale = true;
                if let Some(damaged) = damaged {
                    tracing::warn!(%damaged, "one of the two copies of the download's checkpoint");
                }
                payload
            }
            Loaded::Damaged(what) => {
                tracing::warn!(%what, "no usable checkpoint; the download starts from its beginning");
                return None;
            }
        };
        let document: Document = serde_json::from_slice(&payload).ok()?;
        if document.schema != SCHEMA || document.job != self.job {
            return None;
        }
        // What an update before this one went through is not held against this one.
        let is_ours = document.update == self.update;
        let (spent, changes) = if is_ours { (document.spent_s, document.changes) } else { (0, 0) };
        self.tally = if is_ours { document.tally } else { 0 };
        let is_something = !matches!(document.point, Written::Nothing);
        let point = match document.point {
            Written::Nothing => Point::Nothing,
            // Without a digest the same address may lead to something else by the next update.
            Written::Whole { .. } if !is_ours && !self.has_digest => Point::Nothing,
            // By now its signatures might not do.
            Written::Whole { judges, .. } if judges != self.judges() => Point::Nothing,
            Written::Whole { good_until, .. } if self.is_past(good_until) => Point::Nothing,
            Written::Whole { image, seal, judges: _, good_until } => {
                Point::Whole(Box::new(Done { written: super::Written { image, seal }, good_until }))
            }
            Written::Half { offset, fetched, len, image, decoder } => {
                self.offset = offset;
                let (fetched, image) = (Hasher::restore(&fetched.0)?, Hasher::restore(&image.0)?);
                let file = InFile { offset, fetched, decoder };
                Point::Half(Box::new(Position { file, len, image }))
            }
        };
        self.is_stale = matches!(point, Point::Nothing) && is_something;
        Some(Saved {
            point,
            validator: document.validator,
            total: document.total,
            spent: Duration::from_secs(spent),
            changes,
            tally: self.tally,
        })
    }

    /// The slot is about to be written: a checkpoint that vouches for other bytes in it, of another artifact above all, must
    /// be gone before. If it stays, what is wrong is found when the slot is read back.
    pub(super) fn claim(&mut self, source: &Source<'_>) {
        if self.is_stale {
            self.save(source, Point::Nothing);
        }
    }

    /// Names those by whom a bundle is judged now, and what it is judged against, but for the time: as long as that is the
    /// same, so is the verdict.
    fn judges(&self) -> Option<Sha256> {
        let Signed { roots, ledger, device, .. } = self.signed.as_ref()?;
        let (keys, trust) = (roots.keys().keys().collect::<Vec<_>>(), ledger.trust());
        let Device { product, compatible, floor, now: _, twinboot: _ } = device;
        let all = (roots.threshold(), keys, trust, product, compatible, floor);
        Some(Sha256::of(format!("{all:?}").as_bytes()))
    }

    /// Whether it is known to be later than that.
    fn is_past(&self, end: Option<Timestamp>) -> bool {
        let now = self.signed.as_ref().and_then(|signed| signed.device.now);
        end.zip(now).is_some_and(|(end, now)| now >= end)
    }

    /// Up to where it need not be fetched again.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a boundary at `offset` should be saved.
    pub(super) fn is_due(&self, offset: u64) -> bool {
        let fresh = offset.saturating_sub(self.offset);
        fresh >= self.every || (fresh > 0 && self.at.elapsed() >= AT_LEAST_EVERY)
    }

    /// Whether a boundary at `offset` is another one than the saved one.
    pub(super) fn is_new(&self, offset: u64) -> bool {
        offset > self.offset
    }

    /// Whether so much was fetched since the last checkpoint that it must be written down, boundary or not.
    pub(super) fn is_behind(&self, source: &Source<'_>) -> bool {
        self.is_capped && source.tally().saturating_sub(self.tally) >= self.every
    }

    /// Writes down how much was fetched, with the `point` that is saved already.
    pub(super) fn recount(&mut self, source: &Source<'_>, point: Point) {
        if self.is_capped && source.tally() != self.tally {
            self.save(source, point);
        }
    }

    /// Saves `point`, which the slot must already hold durably. If that fails the download goes on without: a full
    /// state directory must not stop an update that may be the cure for it.
    pub(super) fn save(&mut self, source: &Source<'_>, point: Point) {
        let offset = match &point {
            Point::Half(position) => position.file.offset,
            Point::Whole(_) => source.total().unwrap_or(self.offset),
            Point::Nothing => 0,
        };
        let is_something = !matches!(point, Point::Nothing);
        let document = Document {
            schema: SCHEMA,
            job: self.job,
            validator: if is_something { source.validator().clone() } else { Validator::default() },
            total: source.total().filter(|_| is_something),
            spent_s: source.spent().as_secs(),
            changes: source.changes(),
            update: self.update.to_owned(),
            tally: source.tally(),
            point: match point {
                Point::Whole(done) => {
                    let Done { written: super::Written { image, seal }, good_until } = *done;
                    Written::Whole { image, seal, judges: self.judges(), good_until }
                }
                Point::Nothing => Written::Nothing,
                Point::Half(position) => Written::Half {
                    offset,
                    fetched: Packed(position.file.fetched.save()),
                    len: position.len,
                    image: Packed(position.image.save()),
                    decoder: position.file.decoder,
                },
            },
        };
        let saved = serde_json::to_vec(&document).map_err(|error| error.to_string());
        let saved = saved.and_then(|payload| self.store.save(&payload).map_err(|error| error.to_string()));
        match &saved {
            Ok(()) => tracing::debug!(offset, "checkpoint"),
            // Once is enough: it will hardly work again two megabytes later.
            Err(error) if self.is_working => {
                tracing::warn!(%error, "cannot save a checkpoint; a power cut would cost more than usual");
            }
            Err(error) => tracing::debug!(%error, "cannot save a checkpoint"),
        }
        self.is_working = saved.is_ok();
        self.is_stale &= saved.is_err();
        (self.offset, self.at, self.tally) = (offset, Instant::now(), source.tally());
    }

    /// What was written is of no use, and the update is over.
    pub(super) fn clear(&mut self) {
        (self.offset, self.at) = (0, Instant::now());
        match self.store.clear() {
            Ok(()) => self.is_stale = false,
            Err(error) => tracing::warn!(%error, "cannot clear the download's checkpoint"),
        }
    }
}

/// What the slot holds is not what the checkpoint says: the next [`super::write()`] fetches all of it again. What was
/// fetched so far still counts against the data cap.
pub fn discard(store: &mut Generations) {
    let found = match store.load() {
        Loaded::Found { payload, .. } => serde_json::from_slice::<Document>(&payload).ok(),
        Loaded::Empty | Loaded::Damaged(_) => None,
    };
    let discarded = found.and_then(|document| {
        let (validator, total) = (Validator::default(), None);
        let document = Document { validator, total, point: Written::Nothing, ..document };
        let payload = serde_json::to_vec(&document).ok()?;
        store.save(&payload).ok()
    });
    if discarded.is_none()
        && let Err(error) = store.clear()
    {
        tracing::warn!(%error, "cannot clear the download's checkpoint");
    }
}

/// Names what is fetched where. The query of an address is left out: a new token is not a new file.
fn job(fetch: &Fetch<'_>) -> Sha256 {
    let artifact = fetch.artifact;
    let location = match &artifact.location {
        Location::Url(url) => url.redacted().to_owned(),
        Location::File(path) => path.display().to_string(),
    };
    let text = format!("{} {:?} {:?} {location}", fetch.slot, artifact.sha256, artifact.size);
    Sha256::of(text.as_bytes())
}
