//! Where the bytes of an artifact come from: a stream from front to back, or ranges of it, that survive what networks do.

pub(super) mod answer;
mod client;
mod file;
#[cfg(feature = "fakes")]
#[doc(hidden)]
pub(super) mod fuzz;
mod get;
mod http;
mod pace;
mod remote;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::model::Location;
use crate::wire::Side;

use super::checkpoint::{Point, Saved};
use super::{Error, Fetch};

pub use client::Direct;
pub use remote::serve;

/// What it takes to make requests: whoever makes them, and the runtime that drives the connections.
#[derive(Clone, Debug)]
pub struct Net {
    way: get::Way,
    runtime: Handle,
}

impl Net {
    /// `runtime` is a runtime whose thread is running it: the image's thread blocks on it and does not drive it.
    ///
    /// # Errors
    /// If a client cannot be built.
    pub fn new(direct: Direct, runtime: Handle) -> Result<Self, Error> {
        Direct { proxy: None, ..direct.clone() }.client().map_err(|fault| fault.error("", String::new()))?;
        Ok(Self { way: get::Way::Direct(Box::new(direct)), runtime })
    }

    /// Requests that the network side `side` makes. `runtime` as above.
    pub fn remote(side: Side, runtime: Handle) -> Self {
        Self { way: get::Way::Remote(side), runtime }
    }
}

/// How to tell whether a file is still the same.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Validator {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

/// A place to go on from.
#[derive(Clone, Debug, Default)]
struct Start {
    offset: u64,
    total: Option<u64>,
    validator: Validator,
    spent: Duration,
    changes: u32,
    tally: u64,
}

/// A source of bytes.
pub(super) enum Source<'a> {
    Http(Box<http::Http<'a>>),
    File(Box<file::LocalFile<'a>>),
}

impl<'a> Source<'a> {
    /// Prepares to read from where `saved` is, or from the beginning.
    pub(super) fn open(fetch: &Fetch<'a>, saved: Option<&Saved>) -> Result<Self, Error> {
        let start = saved.map_or_else(Start::default, |saved| Start {
            offset: match &saved.point {
                Point::Half(position) => position.file.offset,
                Point::Whole(_) | Point::Nothing => 0,
            },
            total: saved.total,
            validator: saved.validator.clone(),
            spent: saved.spent,
            changes: saved.changes,
            tally: saved.tally,
        });
        Ok(match &fetch.artifact.location {
            Location::Url(url) => Self::Http(Box::new(http::Http::new(fetch, url, start)?)),
            Location::File(path) => Self::File(Box::new(file::LocalFile::open(fetch, path, start)?)),
        })
    }

    /// Whether all of it may be fetched: asked before anybody is asked for anything.
    pub(super) fn afford_all(&self) -> Result<(), Error> {
        match self {
            Self::Http(http) => http.afford_all(),
            Self::File(_) => Ok(()),
        }
    }

    /// From now on wanted are the bytes from `from` up to `until`, without that.
    pub(super) fn seek(&mut self, from: u64, until: u64) -> Result<(), Error> {
        match self {
            Self::Http(http) => {
                http.seek(from, until);
                Ok(())
            }
            Self::File(file) => file.seek(from),
        }
    }

    /// Where it stands in the file: what was handed out last ends here.
    pub(super) fn offset(&self) -> u64 {
        match self {
            Self::Http(http) => http.offset(),
            Self::File(file) => file.offset(),
        }
    }

    /// How far it goes on from there without being asked anew.
    pub(super) fn until(&self) -> u64 {
        match self {
            Self::Http(http) => http.until(),
            Self::File(file) => file.total(),
        }
    }

    /// Whether ranges turned out to be had only by reading all that lies before them.
    pub(super) fn is_stream(&self) -> bool {
        match self {
            Self::Http(http) => http.is_stream(),
            Self::File(_) => false,
        }
    }

    /// The error if parts of the file are needed that would have to be had by reading it again and again.
    pub(super) fn needs_ranges(&self) -> Error {
        let host = match self {
            Self::Http(http) => http.host().to_owned(),
            Self::File(_) => "the file".to_owned(),
        };
        let what = "the whole file where a part was asked for: a bundle of so large an image needs a server that sends \
                    parts of files (Range, RFC 9110)";
        Error::Answer { host, what: what.to_owned() }
    }

    /// Whether what is fetched comes over the network.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Http(_))
    }

    /// Limits how many bytes may be fetched in all, those of earlier processes included; 0 is no limit.
    pub(super) fn limit(&mut self, cap: u64) {
        match self {
            Self::Http(http) => http.limit(cap),
            Self::File(_) => {}
        }
    }

    /// The next bytes, or `None` at the end. After [`Error::StartOver`] it stands at the beginning.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Http(http) => http.next(),
            Self::File(file) => file.next(),
        }
    }

    /// How long the file is, once known.
    pub(super) fn total(&self) -> Option<u64> {
        match self {
            Self::Http(http) => http.total(),
            Self::File(file) => Some(file.total()),
        }
    }

    pub(super) fn validator(&self) -> &Validator {
        match self {
            Self::Http(http) => http.validator(),
            Self::File(file) => file.validator(),
        }
    }

    /// Time spent on this download, in earlier processes too.
    pub(super) fn spent(&self) -> Duration {
        match self {
            Self::Http(http) => http.spent(),
            Self::File(_) => Duration::ZERO,
        }
    }

    /// How often the file was seen to change.
    pub(super) fn changes(&self) -> u32 {
        match self {
            Self::Http(http) => http.changes(),
            Self::File(_) => 0,
        }
    }

    /// Bytes fetched over the network for this update, in earlier processes too.
    pub(super) fn tally(&self) -> u64 {
        match self {
            Self::Http(http) => http.tally(),
            Self::File(_) => 0,
        }
    }

    /// Stands at the beginning from now on, if it does not already.
    pub(super) fn rewind(&mut self) -> Result<(), Error> {
        match self {
            Self::Http(http) => {
                http.rewind();
                Ok(())
            }
            Self::File(file) => file.rewind(),
        }
    }

    /// The image failed. If its bytes were wrong and parts were put together without a way to tell that they belong together, that is
    /// the likeliest cause, and worth one more try in one go.
    pub(super) fn reconsider(&mut self, error: Error) -> Error {
        match self {
            Self::Http(http) => http.reconsider(error),
            Self::File(_) => error,
        }
    }
}
