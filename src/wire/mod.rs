//! Between the two processes that twinboot may be: the *device side*, which holds the devices and has no network, and
//! the *network side*, which has the network and nothing else.
//!
//! A Unix stream socket, and frames on it: a kind, a length, a body. This module knows how they are framed, how long
//! each may be, and how a connection begins. What they say belongs to those who talk: the hub's session, and the
//! download of an image.
//!
//! ```text
//! device side                                   network side
//!     Hello, Setup ────────────────────────────▶            which program, which configuration
//!     ◀──────────────────────────────────── Hello
//!     Open ────────────────────────────────────▶            then one of: a link to the hub
//!     ◀─────────────── Opened, then Bytes, Lost
//!     Bytes ───────────────────────────────────▶
//!     Get ─────────────────────────────────────▶            one request for a file or a range of it,
//!     ◀──────── Answer, Bytes…, End; or Failed              and after an End the next one
//!     Leave ───────────────────────────────────▶            end, and let others start you anew
//! ```
//!
//! Each connection is for one purpose and begins anew: nothing is kept on the network side between two of them, so it
//! may be killed at any moment. The device side trusts nothing that it reads here: a frame that is not expected, too
//! long, or garbled ends the connection, and buffers grow with what has really come.

mod frames;
mod side;

pub use frames::{Frames, Kind};
pub use side::{Setup, Side, accept};

/// Counts up with every change of what is said on the wire.
pub const PROTOCOL: u32 = 2;

/// Why a connection between the two sides ended.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// There is nobody.
    #[error("connecting to {socket}: {cause}")]
    Unreachable {
        /// The socket.
        socket: String,
        /// What the system says.
        cause: std::io::Error,
    },
    /// It ended in between.
    #[error("it ended")]
    Ended,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It says what it may not say.
    #[error("it broke the protocol: {0}")]
    Garbled(String),
    /// It is another program than ours.
    #[error("it is twinboot {theirs}, this is {ours}; it ends and is started anew")]
    Version {
        /// Its version.
        theirs: String,
        /// Ours.
        ours: String,
    },
}
