//! One request for a file and its answer, whoever makes it: this process ([`super::client`]), or the one that has the
//! network ([`super::remote`]). All that is *decided* about a download is decided by who asks (`http`).

use std::fmt;

use bytes::Bytes;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, LOCATION,
    RETRY_AFTER,
};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::super::Error;
use super::client::{Client, Direct};
use super::remote;
use crate::wire::Side;

/// The headers by which an answer is judged.
pub(super) const JUDGED: [HeaderName; 7] =
    [CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION, RETRY_AFTER];

/// What to ask a server for.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Get {
    /// The file.
    pub url: Url,
    /// From which byte on.
    pub from: u64,
    /// Up to which byte, without that; `None` is to the end.
    pub until: Option<u64>,
    /// On which condition a part will do.
    pub if_range: Option<String>,
}

impl fmt::Debug for Get {
    /// Without the address, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Get");
        shown.field("from", &self.from).field("until", &self.until).finish_non_exhaustive()
    }
}

/// How a server answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    /// At least those in [`JUDGED`].
    pub headers: HeaderMap,
    /// The body's length as the HTTP library understood it.
    pub length: Option<u64>,
    pub body: Body,
}

/// The bytes that come with an answer.
#[derive(Debug)]
pub(super) enum Body {
    Direct(super::client::Body),
    Remote(remote::Body),
}

impl Body {
    /// The next bytes, or `None` at the end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Direct(body) => body.chunk().await,
            Self::Remote(body) => body.chunk().await,
        }
    }
}

/// Why there is no answer, or not all of it. In words, without the address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Fault {
    /// The client cannot be made.
    Client(String),
    /// There is no way through the proxy.
    Proxy(String),
    /// TLS is the cause.
    Tls(String),
    /// What came is no answer in HTTP/1.1.
    Answer(String),
    /// The line is.
    Connection(String),
    /// The process that has the network is.
    Apart(String),
}

impl Fault {
    /// What this amounts to while `doing` something (such as "connecting to") with `host`.
    pub(super) fn error(self, doing: &'static str, host: String) -> Error {
        match self {
            Self::Client(cause) => Error::Client(cause.into()),
            Self::Proxy(words) => Error::Proxy(words),
            Self::Tls(cause) => Error::Tls { host, cause: cause.into() },
            Self::Answer(cause) => {
                Error::Answer { host, what: format!("what is no answer in HTTP/1.1: {cause}") }
            }
            Self::Connection(cause) => Error::Connection { doing, host, cause: cause.into() },
            Self::Apart(words) => Error::Apart(words),
        }
    }
}

/// Whoever makes requests.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Direct(Box<Direct>),
    Remote(Side),
}

impl Way {
    /// Gets ready for a request, and for those that it is redirected to. Authorities and passwords are as of now.
    pub(super) fn ready(&mut self) -> Result<Getter, Fault> {
        match self {
            Self::Direct(direct) => direct.client().map(Getter::Direct),
            Self::Remote(side) => Ok(Getter::Remote(remote::Asker::new(side.clone()))),
        }
    }
}

/// Makes the requests of one connection, one after the other.
#[derive(Debug)]
pub(super) enum Getter {
    Direct(Client),
    Remote(remote::Asker),
}

impl Getter {
    /// Asks, and waits for the head of the answer. The body of the one before has been read to its end, or the
    /// connection is not used again. It has no limit of its own in time, but for connecting.
    pub(super) async fn get(&self, get: &Get) -> Result<Answer, Fault> {
        match self {
            Self::Direct(client) => client.get(get).await,
            Self::Remote(asker) => asker.get(get).await,
        }
    }
}
