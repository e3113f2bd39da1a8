//! A file on an https server, as one stream from front to back.
//!
//! Connections come and go underneath. Each new one asks for the rest (`Range`), on condition that the file is still
//! the same (`If-Range`), at the *original* address: what a redirect led to last time may have been signed for a
//! minute only.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::Url;

use crate::model::SecretUrl;

use super::super::{Error, Fetch};
use super::answer::{Ask, File, Verdict, follow, judge};
use super::get::{Answer, Body, Get, Getter, Way};
use super::pace::{Ceiling, Floor, backoff};
use super::{Start, Validator};

/// A connection that got this much further than all before it was worth its while.
const PROGRESS: u64 = 4096;

/// A source behind https.
pub(in crate::image) struct Http<'a> {
    fetch: Fetch<'a>,
    url: Url,
    host: String,
    /// The next byte of the file to hand out.
    offset: u64,
    total: Option<u64>,
    validator: Validator,
    body: Option<Body>,
    way: Way,
    /// The farthest byte ever reached; below it, bytes are fetched again.
    farthest: u64,
    /// Where `farthest` was when the connection began.
    began_at: u64,
    /// Connections in a row that got no further.
    barren: u32,
    changes: u32,
    refusals: u32,
    /// Parts were put together without a validator to hold them together.
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
        let http = Self {
            fetch: *fetch,
            host: url.host_str().unwrap_or_default().to_owned(),
            url,
            offset: start.offset,
            total: start.total,
            validator: start.validator,
            body: None,
            way: fetch.net.way.clone(),
            farthest: start.offset,
            began_at: start.offset,
            barren: 0,
            changes: start.changes,
            refusals: 0,
            is_patchwork: false,
            floor: Floor::new(settings.minimum_rate, settings.minimum_rate_window),
            ceiling: Ceiling::default(),
            since: Instant::now(),
            spent_before: start.spent,
            tally: start.tally,
        };
        // Before anybody is asked for anything.
        http.afford(http.total.or(fetch.artifact.size))?;
        Ok(http)
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
                if self.offset > 0 && self.total == Some(self.offset) {
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
                    match self.total {
                        Some(total) if self.offset < total => {
                            let (host, got) = (self.host.clone(), self.offset);
                            self.trouble(Error::Cut { host, got, expected: total }, None)?;
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
        }
    }

    pub(super) fn reconsider(&mut self, error: Error) -> Error {
        let wrong_bytes = matches!(error, Error::Digest { .. } | Error::Undecodable { .. });
        if !self.is_patchwork || !wrong_bytes {
            return error;
        }
        let why = format!("parts do not belong together: {}", error.chain());
        self.body = None;
        self.is_patchwork = false;
        self.changed(why, None).err().unwrap_or(error)
    }

    /// Accounts for bytes of the body.
    fn hand_out(&mut self, bytes: Bytes) -> Result<Bytes, Error> {
        let len = bytes.len() as u64;
        let again = self.farthest.saturating_sub(self.offset).min(len);
        self.offset += len;
        self.tally += len;
        self.farthest = self.farthest.max(self.offset);
        self.fetch.progress.note(|now| {
            now.fetched += len;
            now.fetched_twice += again;
            now.total = self.total;
            now.trouble = None;
        });
        if let Some(wanted) = self.total.filter(|total| self.offset > *total) {
            return Err(Error::Size { found: format!("more than {wanted}"), wanted });
        }
        let cap = self.fetch.settings.data_cap;
        if cap > 0 && self.tally > cap {
            return Err(Error::DataCap { fetched: self.tally, rest: None, cap });
        }
        self.hold_back(len)?;
        Ok(bytes)
    }

    /// Whether the rest of a file of `total` bytes may still be fetched.
    fn afford(&self, total: Option<u64>) -> Result<(), Error> {
        let (fetched, cap) = (self.tally, self.fetch.settings.data_cap);
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
        let bytes = match &read {
            Ok(Ok(Some(bytes))) => bytes.len() as u64,
            Ok(Ok(None) | Err(_)) | Err(_) => 0,
        };
        if let Some(rate) = self.floor.note(waited, bytes) {
            let (host, floor) = (self.host.clone(), self.fetch.settings.minimum_rate);
            return Err(Error::TooSlow { host, rate, floor });
        }
        match read {
            Ok(Ok(Some(bytes))) => {
                self.body = Some(body);
                Ok(Some(bytes))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(fault)) => Err(fault.error("receiving from", self.host.clone())),
            Err(_) if limit < idle => {
                // Only the window for the mean rate ended, and the mean is good.
                self.body = Some(body);
                Ok(Some(Bytes::new()))
            }
            Err(_) => Err(Error::Silent { host: self.host.clone(), seconds: idle.as_secs() }),
        }
    }

    /// Gets a body that continues the file, following redirects.
    fn connect(&mut self) -> Result<(), Error> {
        if self.offset > 0 && self.validator == Validator::default() {
            if self.fetch.artifact.sha256.is_none() {
                return self.start_over("nothing tells whether the file is still the same".into(), None);
            }
            self.is_patchwork = true;
        }
        self.began_at = self.farthest;
        self.fetch.progress.note(|now| now.connections += 1);
        let mut url = self.url.clone();
        let mut been = vec![url.clone()];
        let getter = match self.way.ready().map_err(|fault| fault.error("connecting to", self.host.clone())) {
            Ok(getter) => getter,
            Err(error @ Error::Proxy(_)) => return self.trouble(error, None),
            Err(error) => return Err(error),
        };
        loop {
            self.host = url.host_str().unwrap_or_default().to_owned();
            let Answer { status, headers, length, body } = match self.request(&getter, &url) {
                Ok(answer) => answer,
                Err(error @ (Error::Cancelled | Error::Client(_))) => return Err(error),
                Err(error) => return self.trouble(error, None),
            };
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_secs());
            let ask = Ask {
                host: self.host.clone(),
                offset: self.offset,
                total: self.total,
                size: self.fetch.artifact.size,
                validator: self.validator.clone(),
            };
            let verdict = judge(&ask, status, &headers, length, now);
            let Verdict::Redirect(location) = verdict else { return self.take(verdict, body) };
            if been.len() > self.fetch.settings.redirects as usize {
                return Err(Error::Redirect(format!("from {} is one too many", self.host)));
            }
            url = follow(&url, &location, &been)?;
            been.push(url.clone());
        }
    }

    /// Acts on the verdict about an answer that is no redirect.
    fn take(&mut self, verdict: Verdict, body: Body) -> Result<(), Error> {
        match verdict {
            Verdict::Body(file) => {
                (self.total, self.validator) = (file.total, file.validator);
                self.fetch.progress.note(|now| now.total = self.total);
                self.afford(self.total)?;
                self.body = Some(body);
                Ok(())
            }
            Verdict::Whole(file) => {
                let why = format!("{} sends the whole file although a part was asked for", self.host);
                self.body = Some(body);
                self.start_over(why, Some(file))
            }
            Verdict::Changed(file) => {
                let why = format!("{} has another version of the file now", self.host);
                self.body = file.is_some().then_some(body);
                self.changed(why, file)
            }
            Verdict::RangeRefused(what) => {
                self.refusals += 1;
                if self.refusals > 1 {
                    return Err(Error::Answer { host: self.host.clone(), what });
                }
                self.start_over(format!("{} answers a request for a part with {what}", self.host), None)
            }
            Verdict::Fatal(error) => Err(error),
            Verdict::Later(error, wait) => self.trouble(error, wait),
            Verdict::Redirect(_) => Err(Error::Redirect(format!("from {} without an end", self.host))),
        }
    }

    fn request(&self, getter: &Getter, url: &Url) -> Result<Answer, Error> {
        let if_range = self.validator.if_range().map(str::to_owned);
        let get = Get { url: url.clone(), from: self.offset, if_range };
        let settings = self.fetch.settings;
        // The client limits connecting by itself; the rest is waiting for the head of the answer.
        let limit = settings.connect_timeout + settings.idle_timeout;
        match self.block(async { tokio::time::timeout(limit, getter.get(&get)).await })? {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(fault)) => Err(fault.error("connecting to", self.host.clone())),
            Err(_) => Err(Error::Silent { host: self.host.clone(), seconds: limit.as_secs() }),
        }
    }

    /// The file is another one: once, that is bad luck.
    fn changed(&mut self, why: String, file: Option<File>) -> Result<(), Error> {
        self.changes += 1;
        if self.changes > 1 {
            self.body = None;
            return Err(Error::ContentChanged(why));
        }
        self.start_over(why, file)
    }

    /// Begins with the first byte again; of the body at hand if there is one.
    fn start_over(&mut self, why: String, file: Option<File>) -> Result<(), Error> {
        let file = file.unwrap_or_default();
        (self.offset, self.total, self.validator) = (0, file.total, file.validator);
        self.afford(self.total.or(self.fetch.artifact.size))?;
        Err(Error::StartOver(why))
    }

    /// A connection failed in a way that may pass. Waits, unless that happened too often.
    fn trouble(&mut self, error: Error, wait: Option<Duration>) -> Result<(), Error> {
        self.body = None;
        let got_further = self.farthest >= self.began_at + PROGRESS;
        let was_slow = matches!(error, Error::TooSlow { .. });
        self.barren = if got_further && !was_slow { 0 } else { self.barren + 1 };
        let settings = self.fetch.settings;
        let (spent, barren) = (self.spent(), self.barren);
        if barren >= settings.attempts || spent >= settings.time_limit {
            let after = if barren >= settings.attempts {
                format!("after {barren} connections that got no further")
            } else {
                format!("after {} s", spent.as_secs())
            };
            return Err(Error::GaveUp { after, last: Box::new(error) });
        }
        let told = wait.map(|wait| wait.min(settings.retry_after_limit));
        let random = getrandom::u64().unwrap_or(0);
        let wait = told.unwrap_or_else(|| backoff(settings.backoff, barren.saturating_sub(1), random));
        let wait = wait.min(settings.time_limit.saturating_sub(spent));
        let text = error.chain();
        tracing::debug!(error = %text, offset = self.offset, barren, ?wait, "download interrupted");
        self.fetch.progress.note(|now| now.trouble = Some(text));
        self.block(async { tokio::time::sleep(wait).await })
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
