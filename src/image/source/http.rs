//! A file on an https server, as one stream from front to back, or as ranges of it.
//!
//! Connections come and go underneath. Each new one asks for the rest (`Range`), on condition that the file is still
//! the same (`If-Range`), at the *original* address: what a redirect led to last time may have been signed for a
//! minute only.
//!
//! Ranges ([`Http::seek`]) are asked for one by one over one connection, which is kept as long as all goes well, and
//! without a condition: whoever wants them checks each piece by itself, and of several servers behind one address each may
//! have a name of its own for the same file. A server that knows no ranges answers with the whole file. Then it is a
//! stream after all, and [`Http::offset`] tells where in it the bytes are that are handed out: whoever wanted a range
//! waits until it comes by.

mod connect;

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Url;

use crate::model::SecretUrl;

use super::super::{Error, Fetch};
use super::get::{Body, Getter, Way};
use super::pace::{Ceiling, Floor};
use super::{Start, Validator};

/// A connection that got this much further than all before it was worth its while.
const PROGRESS: u64 = 4096;

/// A wait that lasts so much longer than it may was slept through.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// So many waits in a row without a byte may be slept through. Whoever is frozen again and again oversleeps all of them.
const OVERSLEEPS: u32 = 2;

/// A source behind https.
pub(in crate::image) struct Http<'a> {
    fetch: Fetch<'a>,
    url: Url,
    host: String,
    /// The next byte of the file to hand out.
    offset: u64,
    /// Where the wanted range ends. `None`: wanted is all, and no range has ever been.
    until: Option<u64>,
    /// The server has no ranges.
    is_stream: bool,
    total: Option<u64>,
    validator: Validator,
    body: Option<Body>,
    way: Way,
    /// Kept for the next range.
    getter: Option<Getter>,
    /// How many bytes this update may fetch in all; 0 is no limit.
    cap: u64,
    /// The farthest byte ever reached; below it, bytes are fetched again.
    farthest: u64,
    /// The farthest byte reached of the file as it is now.
    reached: u64,
    /// Where `reached` was when the connection began.
    began_at: u64,
    /// Connections in a row that got no further.
    barren: u32,
    changes: u32,
    refusals: u32,
    /// Waits in a row that were slept through, and without a byte.
    overslept: u32,
    /// Parts were put together without a validator to hold them together, or ranges of which the validators differ.
    is_patchwork: bool,
    floor: Floor,
    ceiling: Ceiling,
    since: Instant,
    spent_before: Duration,
    /// Bytes fetched for this update, in earlier processes too.
    tally: u64,
}

impl<'a> Http<'a> {
    pub(super) fn new(fetch: &Fetch<'a>, url: &SecretUrl, start: Start) -> Result<Self, Error> {
        let parsed: Result<Url, _> = url.expose().parse();
        let url = parsed.map_err(|_| Error::Redirect("to something that is no address".into()))?;
        let settings = fetch.settings;
        Ok(Self {
            fetch: *fetch,
            host: url.host_str().unwrap_or_default().to_owned(),
            url,
            offset: start.offset,
            until: None,
            is_stream: false,
            total: start.total,
            validator: start.validator,
            body: None,
            way: fetch.net.way.clone(),
            getter: None,
            cap: settings.data_cap,
            farthest: start.offset,
            reached: start.offset,
            began_at: start.offset,
            barren: 0,
            changes: start.changes,
            refusals: 0,
            overslept: 0,
            is_patchwork: false,
            floor: Floor::new(settings.minimum_rate, settings.minimum_rate_window),
            ceiling: Ceiling::default(),
            since: Instant::now(),
            spent_before: start.spent,
            tally: start.tally,
        })
    }

    /// Whether all of it may be fetched, before anybody is asked for anything.
    pub(super) fn afford_all(&self) -> Result<(), Error> {
        self.afford(self.total.or(self.fetch.artifact.size))
    }

    /// From now on wanted are the bytes from `from` up to `until`, without that. What follows from here is fetched as
    /// one stream if the server knows no ranges.
    pub(super) fn seek(&mut self, from: u64, until: u64) {
        if self.is_stream && self.body.is_some() && from >= self.offset {
            self.until = Some(until);
            return;
        }
        if self.body.is_some() && self.end() == Some(self.offset) {
            self.finish();
        } else if self.body.take().is_some() {
            // Its rest would come before the next answer.
            self.getter = None;
        }
        self.barren = 0;
        (self.until, self.offset) = (Some(until), if self.is_stream { 0 } else { from });
    }

    /// Takes the end of a body of which all is there, so that its connection can be used again.
    fn finish(&mut self) {
        if !matches!(self.read(), Ok(None)) {
            (self.body, self.getter) = (None, None);
        }
    }

    /// Where it stands in the file.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How far it goes on from there without being asked anew.
    pub(super) fn until(&self) -> u64 {
        if self.is_stream { u64::MAX } else { self.until.unwrap_or(u64::MAX) }
    }

    /// Whether the server turned out to know no ranges.
    pub(super) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Who is asked.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Limits how many bytes may be fetched in all, those of earlier processes included; 0 is no limit.
    pub(super) fn limit(&mut self, cap: u64) {
        self.cap = cap;
    }

    /// Where the bytes end that are asked for, as far as known.
    fn end(&self) -> Option<u64> {
        let until = self.until.filter(|_| !self.is_stream);
        self.total.into_iter().chain(until).min()
    }

    pub(super) fn total(&self) -> Option<u64> {
        self.total
    }

    pub(super) fn validator(&self) -> &Validator {
        &self.validator
    }

    pub(super) fn spent(&self) -> Duration {
        self.spent_before + self.since.elapsed()
    }

    pub(super) fn tally(&self) -> u64 {
        self.tally
    }

    pub(super) fn changes(&self) -> u32 {
        self.changes
    }

    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.fetch.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if self.body.is_none() {
                if self.offset > 0 && self.end().is_some_and(|end| end <= self.offset) {
                    return Ok(None);
                }
                self.connect()?;
                continue;
            }
            match self.read() {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => return self.hand_out(bytes).map(Some),
                Ok(None) => {
                    self.body = None;
                    match self.end() {
                        Some(end) if self.offset < end => {
                            let (host, got) = (self.host.clone(), self.offset);
                            self.trouble(Error::Cut { host, got, expected: end }, None)?;
                        }
                        // A body without a length ends where it ends. The digest has the last word.
                        Some(_) | None => {
                            self.total = Some(self.offset);
                            return Ok(None);
                        }
                    }
                }
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => self.trouble(error, None)?,
            }
        }
    }

    pub(super) fn rewind(&mut self) {
        // At the beginning there may be a body at hand already, that of a server that sent the whole file.
        if self.offset > 0 {
            self.offset = 0;
            self.body = None;
            // Whoever fetches it all again gets further before that reaches the byte where it was.
            (self.reached, self.began_at) = (0, 0);
        }
    }

    pub(super) fn reconsider(&mut self, error: Error) -> Error {
        if !self.is_patchwork || !error.is_of_wrong_bytes() {
            return error;
        }
        let why = format!("parts do not belong together: {}", error.chain());
        (self.body, self.getter) = (None, None);
        self.changed(why, None).err().unwrap_or(error)
    }

    /// Accounts for bytes of the body.
    fn hand_out(&mut self, bytes: Bytes) -> Result<Bytes, Error> {
        let len = bytes.len() as u64;
        // Ranges are not in order, and what was not asked for twice is not fetched twice.
        let is_in_order = self.until.is_none() || self.is_stream;
        let again = if is_in_order { self.farthest.saturating_sub(self.offset).min(len) } else { 0 };
        self.offset += len;
        self.tally += len;
        self.farthest = self.farthest.max(self.offset);
        self.reached = self.reached.max(self.offset);
        self.fetch.progress.note(|now| {
            now.fetched += len;
            now.fetched_twice += again;
            now.total = if self.until.is_none() { self.total } else { now.total };
            now.trouble = None;
        });
        if let Some(wanted) = self.end().filter(|end| self.offset > *end) {
            return Err(Error::Size { found: format!("more than {wanted}"), wanted });
        }
        let cap = self.cap;
        if cap > 0 && self.tally > cap {
            return Err(Error::DataCap { fetched: self.tally, rest: None, cap });
        }
        self.hold_back(len)?;
        Ok(bytes)
    }

    /// Whether the rest of a file of `total` bytes may still be fetched.
    fn afford(&self, total: Option<u64>) -> Result<(), Error> {
        let (fetched, cap) = (self.tally, self.cap);
        let Some(rest) = total.map(|total| total.saturating_sub(self.offset)) else { return Ok(()) };
        if cap == 0 || fetched.saturating_add(rest) <= cap {
            return Ok(());
        }
        Err(Error::DataCap { fetched, rest: Some(rest), cap })
    }

    /// Waits after `len` bytes for as long as the rate asks for, or until it is another one.
    fn hold_back(&mut self, len: u64) -> Result<(), Error> {
        let rate = self.fetch.rate.get();
        let wait = self.ceiling.wait(len, rate, Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        let limit = self.fetch.rate;
        let in_time = self.block(async { tokio::time::timeout(wait, limit.differs(rate)).await.is_err() })?;
        if !in_time {
            self.ceiling.forget();
        }
        Ok(())
    }

    /// Waits for more of the body, not too long.
    fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut body) = self.body.take() else { return Ok(None) };
        let idle = self.fetch.settings.idle_timeout;
        let limit = idle.min(self.floor.left());
        let began = Instant::now();
        let read = self.block(async {
            let read = tokio::time::timeout(limit, body.chunk()).await;
            (read, body)
        });
        let (read, body) = read?;
        let waited = began.elapsed();
        // Whoever was frozen through the end of the wait did not listen: what came meanwhile is still to be read, and
        // nobody was slow. Whoever is frozen all the time would never hear of a server's silence, so that has an end.
        let overslept = waited > limit + OVERSLEPT;
        let waited = if overslept { Duration::ZERO } else { waited };
        let bytes = match &read {
            Ok(Ok(Some(bytes))) => bytes.len() as u64,
            Ok(Ok(None) | Err(_)) | Err(_) => 0,
        };
        if let Some(rate) = self.floor.note(waited, bytes) {
            let (host, floor) = (self.host.clone(), self.fetch.settings.minimum_rate);
            return Err(Error::TooSlow { host, rate, floor });
        }
        let in_a_row = std::mem::take(&mut self.overslept);
        match read {
            Ok(Ok(Some(bytes))) => {
                self.body = Some(body);
                Ok(Some(bytes))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(fault)) => Err(fault.error("receiving from", self.host.clone())),
            Err(_) if overslept && in_a_row < OVERSLEEPS && self.spent() < self.fetch.settings.time_limit => {
                self.overslept = in_a_row + 1;
                self.body = Some(body);
                Ok(Some(Bytes::new()))
            }
            Err(_) if !overslept && limit < idle => {
                // Only the window for the mean rate ended, and the mean is good.
                self.overslept = in_a_row;
                self.body = Some(body);
                Ok(Some(Bytes::new()))
            }
            Err(_) => Err(Error::Silent { host: self.host.clone(), seconds: idle.as_secs() }),
        }
    }

    /// Waits for `future`, or until cancelled.
    fn block<T>(&self, future: impl Future<Output = T>) -> Result<T, Error> {
        self.fetch.net.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.fetch.cancel.cancelled() => Err(Error::Cancelled),
                done = future => Ok(done),
            }
        })
    }
}
