//! Everything that can keep an image from getting into its slot.

use std::io;
use std::path::PathBuf;

use crate::bundle::Refusal;
use crate::model::{Cost, Failure, Reason, Sha256, Version};

/// What somebody else's error said, with its causes, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

impl From<String> for Cause {
    fn from(words: String) -> Self {
        Self(words)
    }
}

/// Why an image could not be fetched, unpacked, written or read back. Never carries an address with its query: that
/// may be a storage token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody raised the [`super::Cancel`] flag. What was fetched stays usable.
    #[error("stopped before the image was complete")]
    Cancelled,
    /// The HTTP client cannot be set up; a fault of ours.
    #[error("setting up the HTTP client")]
    Client(#[source] Cause),
    /// No connection to the server, or it broke.
    #[error("{doing} {host}")]
    Connection {
        /// What was tried.
        doing: &'static str,
        /// With whom.
        host: String,
        /// Why it failed.
        #[source]
        cause: Cause,
    },
    /// The process that has the network is not there, or not sound.
    #[error("{0}")]
    Apart(String),
    /// No way through the proxy: which, why, and what to do.
    #[error("{0}")]
    Proxy(String),
    /// The server's certificate is not acceptable, or it speaks no TLS that is.
    #[error("TLS with {host}")]
    Tls {
        /// With whom.
        host: String,
        /// Why it failed.
        #[source]
        cause: Cause,
    },
    /// Nothing came for too long.
    #[error("{host} was silent for {seconds} s")]
    Silent {
        /// Who.
        host: String,
        /// How long.
        seconds: u64,
    },
    /// The connection ended before the body did.
    #[error("{host} closed the connection after {got} of {expected} bytes")]
    Cut {
        /// Who.
        host: String,
        /// How far we are in the file.
        got: u64,
        /// How long the file is.
        expected: u64,
    },
    /// Slower than the configured floor.
    #[error("{host} sent {rate} bytes/s, less than {floor}")]
    TooSlow {
        /// Who.
        host: String,
        /// Bytes per second.
        rate: u64,
        /// Bytes per second that are wanted.
        floor: u64,
    },
    /// The server refuses, for now or for good.
    #[error("{host} answers with status {code}")]
    Status {
        /// Who.
        host: String,
        /// The HTTP status.
        code: u16,
    },
    /// A redirect that is not followed.
    #[error("redirect {0}")]
    Redirect(String),
    /// An answer that contradicts itself or the request.
    #[error("{host} answers with {what}")]
    Answer {
        /// Who.
        host: String,
        /// What.
        what: String,
    },
    /// The file is not the one that was begun, for the second time.
    #[error("the file changed while it was being fetched: {0}")]
    ContentChanged(String),
    /// The length is not the one announced.
    #[error("the file has {found} bytes, {wanted} were announced")]
    Size {
        /// How many there are, as far as known ("more than 5").
        found: String,
        /// How many there should be.
        wanted: u64,
    },
    /// The digest is not the one asked for.
    #[error("the file's digest is {found}, wanted {wanted}")]
    Digest {
        /// What it is.
        found: Sha256,
        /// What it should be.
        wanted: Sha256,
    },
    /// It takes more bytes than one update may fetch.
    #[error("{}", over_cap(*fetched, *rest, *cap))]
    DataCap {
        /// So many were fetched for this update already.
        fetched: u64,
        /// So many are to come, if known.
        rest: Option<u64>,
        /// So many are allowed.
        cap: u64,
    },
    /// Fetching what is missing takes more than is allowed, and somebody has to allow it.
    #[error("{} bytes are to be fetched of {}, and {cap} are allowed (download.data_cap)", cost.fetch, cost.full)]
    Cost {
        /// What it takes.
        cost: Cost,
        /// So many may be fetched without asking.
        cap: u64,
    },
    /// Not to be trusted, not for this device, or not what was signed.
    #[error("{what}")]
    Refused {
        /// The code.
        failure: Failure,
        /// Why, and what to do.
        what: String,
    },
    /// The file on this device cannot be read.
    #[error("reading {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The compressed stream is damaged, or asks for more than is allowed.
    #[error("{format} stream: {what}")]
    Undecodable {
        /// Which format.
        format: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The image does not fit.
    #[error("the image has {needed} bytes or more, the slot {size}")]
    TooBig {
        /// At least this many bytes are needed.
        needed: u64,
        /// The slot has these.
        size: u64,
    },
    /// The file is longer than any that an image for the slot is in.
    #[error("the file has {len} bytes or more, too many for an image that fits into the slot of {size}")]
    TooLong {
        /// At least this long.
        len: u64,
        /// The slot has these.
        size: u64,
    },
    /// The slot's device failed: at last also when everything since its last good flush was written again.
    #[error("{doing} the slot at byte {offset}")]
    Target {
        /// What was tried.
        doing: &'static str,
        /// Where.
        offset: u64,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The connections or the time allowed are used up.
    #[error("gave up {after}")]
    GaveUp {
        /// After how many connections or how much time.
        after: String,
        /// The last trouble.
        #[source]
        last: Box<Error>,
    },
    /// Used inside this module only: everything begins again with the first byte.
    #[error("starting over: {0}")]
    StartOver(String),
}

fn over_cap(fetched: u64, rest: Option<u64>, cap: u64) -> String {
    let already = if fetched > 0 { format!("{fetched} bytes were fetched already, ") } else { String::new() };
    match rest {
        Some(rest) => format!("{already}{rest} are to be fetched, download.data_cap allows {cap} in all"),
        None => format!("{fetched} bytes were fetched, download.data_cap allows {cap} in all"),
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { failure: refusal.failure(), what: refusal.to_string() }
    }
}

impl Error {
    pub(super) fn damaged(what: &str) -> Self {
        Self::Refused { failure: Failure::BundleDamaged, what: what.to_owned() }
    }

    /// A plain image, where images are to be signed.
    pub(super) fn unsigned() -> Self {
        let what = "there are root keys on this device, so what is installed has to be signed: make a bundle (.twb) of it";
        Self::Refused { failure: Failure::BundleUnsigned, what: what.to_owned() }
    }

    /// A bundle, and nobody whose signature counts.
    pub(super) fn no_keys() -> Self {
        let what =
            "it is a bundle, and there are no root keys on this device: put them into its directory of keys";
        Self::Refused { failure: Failure::BundleKey, what: what.to_owned() }
    }

    /// The request is for another version than the bundle has.
    pub(super) fn other_version(asked: &Version, found: &Version) -> Self {
        let what = format!("the bundle has version {found}, asked for was {asked}");
        Self::Refused { failure: Failure::RequestInvalid, what }
    }

    /// The slot's partitions are others than those the image is for.
    pub(super) fn other_parts(theirs: &[u64], ours: &[u64]) -> Self {
        let what = format!("the image is for partitions of {theirs:?} bytes, the slot's have {ours:?}");
        Self::Refused { failure: Failure::BundleIncompatible, what }
    }

    /// The public failure this amounts to.
    pub fn reason(&self) -> Reason {
        self.failure().because(self.chain())
    }

    /// The message and those of all its causes, in one line.
    pub(super) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            // Some libraries repeat their cause in their own message.
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = error.source();
        }
        text
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Cancelled => Failure::Cancelled,
            Self::Client(_) | Self::StartOver(_) => Failure::Internal,
            Self::Connection { .. }
            | Self::Apart(_)
            | Self::Proxy(_)
            | Self::Silent { .. }
            | Self::Cut { .. } => Failure::DownloadUnreachable,
            Self::Tls { .. } => Failure::DownloadTls,
            Self::TooSlow { .. } => Failure::DownloadTooSlow,
            Self::Status { .. } => Failure::DownloadHttpStatus,
            Self::Redirect(_) => Failure::DownloadRedirect,
            Self::Answer { .. } => Failure::DownloadHttpAnswer,
            Self::ContentChanged(_) => Failure::DownloadContentChanged,
            Self::Size { .. } => Failure::DownloadSizeMismatch,
            Self::Digest { .. } => Failure::DownloadDigestMismatch,
            Self::DataCap { .. } | Self::Cost { .. } => Failure::DataCap,
            Self::Refused { failure, .. } => *failure,
            Self::File { .. } => Failure::SourceUnreadable,
            Self::Undecodable { .. } => Failure::ImageUndecodable,
            Self::TooBig { .. } | Self::TooLong { .. } => Failure::TargetTooSmall,
            Self::Target { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Failure::TargetReadOnly
            }
            Self::Target { .. } => Failure::TargetIo,
            Self::GaveUp { last, .. } => last.failure(),
        }
    }

    /// Whether the bytes were not those that they should have been.
    pub(super) fn is_of_wrong_bytes(&self) -> bool {
        matches!(
            self,
            Self::Digest { .. }
                | Self::Undecodable { .. }
                | Self::Refused { failure: Failure::BundleDamaged | Failure::BundleSignature, .. }
        )
    }

    /// Whether what was written so far is still a good beginning of the same image.
    pub(super) fn leaves_a_good_beginning(&self) -> bool {
        match self {
            Self::Cancelled
            | Self::Client(_)
            | Self::Connection { .. }
            | Self::Apart(_)
            | Self::Proxy(_)
            | Self::Tls { .. }
            | Self::Silent { .. }
            | Self::Cut { .. }
            | Self::TooSlow { .. }
            | Self::Status { .. }
            | Self::Redirect(_)
            | Self::Answer { .. }
            | Self::DataCap { .. }
            | Self::Cost { .. }
            | Self::File { .. }
            | Self::GaveUp { .. } => true,
            Self::ContentChanged(_)
            | Self::Size { .. }
            | Self::Digest { .. }
            | Self::Undecodable { .. }
            | Self::Refused { .. }
            | Self::TooBig { .. }
            | Self::TooLong { .. }
            | Self::Target { .. }
            | Self::StartOver(_) => false,
        }
    }
}
