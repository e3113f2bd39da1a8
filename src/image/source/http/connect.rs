//! Making a connection, and what follows from how it is answered or ends.

use std::time::{Duration, SystemTime};

use reqwest::Url;

use super::super::super::Error;
use super::super::Validator;
use super::super::answer::{Ask, File, Verdict, differs, follow, judge};
use super::super::get::{Answer, Body, Get, Getter};
use super::super::pace::backoff;
use super::{Http, PROGRESS};

impl Http<'_> {
    /// Gets a body that continues the file, following redirects.
    pub(super) fn connect(&mut self) -> Result<(), Error> {
        // Whoever asks for ranges checks each piece by itself.
        if self.offset > 0 && self.until.is_none() && self.validator == Validator::default() {
            if self.fetch.artifact.sha256.is_none() {
                return self.start_over("nothing tells whether the file is still the same".into(), None);
            }
            self.is_patchwork = true;
        }
        self.began_at = self.reached;
        self.fetch.progress.note(|now| now.connections += 1);
        let mut url = self.url.clone();
        let mut been = vec![url.clone()];
        let ready = self.getter.take().map_or_else(|| self.way.ready(), Ok);
        let getter = match ready.map_err(|fault| fault.error("connecting to", self.host.clone())) {
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
                until: self.until.filter(|_| !self.is_stream),
                total: self.total,
                size: self.fetch.artifact.size,
                validator: self.validator.clone(),
            };
            let verdict = judge(&ask, status, &headers, length, now);
            let Verdict::Redirect(location) = verdict else {
                // One range after the other over the same connection; a stream has it to itself.
                self.getter = self.until.map(|_| getter);
                return self.take(verdict, body);
            };
            if been.len() > self.fetch.settings.redirects as usize {
                return Err(Error::Redirect(format!("from {} is one too many", self.host)));
            }
            url = follow(&url, &location, &been)?;
            been.push(url.clone());
        }
    }

    /// Acts on the verdict about an answer that is no redirect.
    fn take(&mut self, verdict: Verdict, body: Body) -> Result<(), Error> {
        if let Verdict::Body(file) | Verdict::Whole(file) = &verdict
            && self.until.is_some()
        {
            // If a piece is wrong after that, it is most likely one of another version.
            self.is_patchwork |= differs(&self.validator, &file.validator);
        }
        match verdict {
            Verdict::Body(file) if self.is_stream && self.is_of_another_length(&file) => {
                self.changed(format!("{} has another version of the file now", self.host), None)
            }
            Verdict::Body(file) => {
                (self.total, self.validator) = (file.total, file.validator);
                if self.until.is_none() {
                    self.fetch.progress.note(|now| now.total = self.total);
                    self.afford(self.total)?;
                }
                self.body = Some(body);
                Ok(())
            }
            Verdict::Whole(file) if self.until.is_some() => {
                // No ranges here: what is wanted is picked out of the whole as it passes by.
                tracing::info!(host = %self.host, "the server sends no parts of files, so the whole is read");
                (self.offset, self.total, self.validator) = (0, file.total, file.validator);
                (self.is_stream, self.body) = (true, Some(body));
                Ok(())
            }
            Verdict::Whole(file) => {
                let why = format!("{} sends the whole file although a part was asked for", self.host);
                self.body = Some(body);
                self.start_over(why, Some(file))
            }
            Verdict::Changed(file) => {
                let why = format!("{} has another version of the file now", self.host);
                self.body = file.is_some().then_some(body).filter(|_| self.until.is_none());
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
        // A range is good whatever its server calls the file: each piece is checked by itself.
        let if_range = self.validator.if_range().filter(|_| self.until.is_none()).map(str::to_owned);
        let (from, until) = if self.is_stream { (0, None) } else { (self.offset, self.until) };
        let get = Get { url: url.clone(), from, until, if_range };
        let settings = self.fetch.settings;
        // The client limits connecting by itself; the rest is waiting for the head of the answer.
        let limit = settings.connect_timeout + settings.idle_timeout;
        match self.block(async { tokio::time::timeout(limit, getter.get(&get)).await })? {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(fault)) => Err(fault.error("connecting to", self.host.clone())),
            Err(_) => Err(Error::Silent { host: self.host.clone(), seconds: limit.as_secs() }),
        }
    }

    /// Whether what is sent once more from its beginning is not as long as it was.
    fn is_of_another_length(&self, file: &File) -> bool {
        self.total.zip(file.total).is_some_and(|(then, now)| then != now)
    }

    /// The file is another one: once, that is bad luck.
    pub(super) fn changed(&mut self, why: String, file: Option<File>) -> Result<(), Error> {
        self.changes += 1;
        if self.changes > 1 {
            self.body = None;
            return Err(Error::ContentChanged(why));
        }
        // Of this one nothing is here yet: a connection that ends before the old one's farthest byte got further.
        (self.reached, self.began_at) = (0, 0);
        self.start_over(why, file)
    }

    /// Begins with the first byte again; of the body at hand if there is one.
    fn start_over(&mut self, why: String, file: Option<File>) -> Result<(), Error> {
        let file = file.unwrap_or_default();
        self.is_patchwork = false;
        (self.offset, self.total, self.validator) = (0, file.total, file.validator);
        if self.until.is_none() {
            self.afford(self.total.or(self.fetch.artifact.size))?;
        }
        Err(Error::StartOver(why))
    }

    /// A connection failed in a way that may pass. Waits, unless that happened too often.
    pub(super) fn trouble(&mut self, error: Error, wait: Option<Duration>) -> Result<(), Error> {
        (self.body, self.getter) = (None, None);
        if self.is_stream {
            // The next connection begins with the first byte again.
            self.offset = 0;
        }
        let got_further = self.reached >= self.began_at + PROGRESS;
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
}
