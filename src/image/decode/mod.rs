//! Unpacking: raw, gzip, xz or zstd, told by the first bytes and never by a name.
//!
//! # Stopping in the middle, and going on after a power cut
//!
//! Within a process nothing special is needed: the source reconnects and the decoder never notices. Across
//! processes the decoder itself must be rebuilt, and no library can save its state. What does work, because every
//! byte of output is in the slot and can be read back:
//!
//! * **raw**: nothing to rebuild.
//! * **gzip**: the inflater tells when it stands between two deflate blocks. There its whole state is up to seven
//!   bits and the last 32 KiB of output.
//! * **zstd**: between two blocks the state is the window, three repeat offsets and four entropy tables. That is
//!   just what a zstd *dictionary* holds. So we follow the tables and offsets ourselves ([`zstd::track`], a few
//!   percent of the decoder's time), keep them, and after a cut hand libzstd a dictionary made of them and of the
//!   last output, and a fresh frame header. The fast C library does all the unpacking, before and after.
//! * **xz**: at the start of each block (`xz -T0`, and xz 5.6 by default, make one per 24 MiB or so). A file of a
//!   single block is fetched again from its beginning after a power cut, though not after a lost connection. The
//!   state inside a block (LZMA probabilities) stays inside liblzma.
//!
//! Rejected: our own decoders for zstd and gzip with state that can be saved (about 1500 lines in the hot path, and
//! slower); keeping compressed bytes on the side (writes everything twice, and needs the space).
//!
//! A place where the work could be taken up again is called a *boundary*; [`Decoder::decode`] always stops at one.

mod gzip;
mod xz;
pub(super) mod zstd;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::Error;

/// Where unpacked bytes go.
pub(super) trait Out {
    /// Takes the next bytes of the image.
    fn accept(&mut self, bytes: &[u8]) -> Result<(), Error>;
    /// Hears that `len` more bytes are to come, before the first of them.
    fn announce(&mut self, len: u64) -> Result<(), Error>;
}

/// What one call achieved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Step {
    /// So many bytes of the input are dealt with.
    pub(super) used: usize,
    /// After them lies a boundary, and [`Decoder::state`] can be kept.
    pub(super) boundary: bool,
}

/// What may be asked of a decoder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most memory for a window or dictionary, in bytes.
    pub(super) memory: u64,
    /// Length of the whole input, if known.
    pub(super) total: Option<u64>,
}

/// A decoder at a boundary, as it is kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Nothing but the position.
    Raw,
    /// See [`gzip`].
    Gzip(gzip::State),
    /// See [`xz`].
    Xz(xz::State),
    /// See [`zstd`].
    Zstd(Box<zstd::State>),
}

impl State {
    /// Finds out what was left for the case that it is wanted. `None` if a decoder cannot be built from it after all: another
    /// boundary will do.
    pub(super) fn settle(self) -> Option<Self> {
        match self {
            Self::Zstd(state) => state.settle().map(|state| Self::Zstd(Box::new(state))),
            Self::Raw | Self::Gzip(_) | Self::Xz(_) => Some(self),
        }
    }
}

/// Reads back the last bytes of the image before the boundary.
pub(super) type Window<'a> = dyn FnMut(&mut [u8]) -> Result<(), Error> + 'a;

/// Unpacks a stream that is pushed through it.
pub(super) enum Decoder {
    /// Not enough bytes yet to know.
    Unknown { first: Vec<u8>, limits: Limits },
    /// The image itself.
    Raw,
    /// RFC 1952.
    Gzip(Box<gzip::Decoder>),
    /// The .xz file format.
    Xz(Box<xz::Decoder>),
    /// RFC 8878.
    Zstd(Box<zstd::Decoder>),
}

/// As many bytes as the longest magic number.
const MAGIC: usize = 6;

impl Decoder {
    /// For the beginning of a file.
    pub(super) fn new(limits: Limits) -> Self {
        Self::Unknown { first: Vec::with_capacity(MAGIC), limits }
    }

    /// For the boundary that `state` was taken at.
    pub(super) fn resume(state: &State, limits: Limits, window: &mut Window<'_>) -> Result<Self, Error> {
        Ok(match state {
            State::Raw => Self::Raw,
            State::Gzip(state) => Self::Gzip(Box::new(gzip::Decoder::resume(state, window)?)),
            State::Xz(state) => Self::Xz(Box::new(xz::Decoder::resume(state, limits)?)),
            State::Zstd(state) => Self::Zstd(Box::new(zstd::Decoder::resume(state, limits, window)?)),
        })
    }

    /// Hears how long the whole input is, as soon as that is known.
    pub(super) fn learn_total(&mut self, total: Option<u64>) {
        if let Self::Unknown { limits, .. } = self {
            limits.total = limits.total.or(total);
        }
    }

    /// Unpacks from the front of `input`, which must not be empty, up to the next boundary or its end.
    pub(super) fn decode(&mut self, input: &[u8], out: &mut dyn Out) -> Result<Step, Error> {
        match self {
            Self::Unknown { first, limits } => {
                let used = input.len().min(MAGIC - first.len());
                first.extend_from_slice(&input[..used]);
                let boundary = first.len() == MAGIC && {
                    let (first, limits) = (std::mem::take(first), *limits);
                    *self = Self::known(&first, limits, out)?;
                    self.replay(&first, out)?
                };
                Ok(Step { used, boundary })
            }
            Self::Raw => {
                out.accept(input)?;
                Ok(Step { used: input.len(), boundary: true })
            }
            Self::Gzip(gzip) => gzip.decode(input, out),
            Self::Xz(xz) => xz.decode(input, out),
            Self::Zstd(zstd) => zstd.decode(input, out),
        }
    }

    /// The state to [settle](State::settle) and keep, at a boundary. `None` where this stream cannot be taken up again.
    pub(super) fn state(&self) -> Option<State> {
        match self {
            Self::Unknown { .. } => None,
            Self::Raw => Some(State::Raw),
            Self::Gzip(gzip) => gzip.state().map(State::Gzip),
            Self::Xz(xz) => xz.state().map(State::Xz),
            Self::Zstd(zstd) => zstd.state().map(|state| State::Zstd(Box::new(state))),
        }
    }

    /// The input is over: was it complete?
    pub(super) fn finish(&mut self, out: &mut dyn Out) -> Result<(), Error> {
        match self {
            // Too short for any packed format: it is what it is.
            Self::Unknown { first, .. } if first.is_empty() => {
                Err(Error::Undecodable { format: "empty", what: "there is no image in it".into() })
            }
            Self::Unknown { first, .. } => out.accept(first),
            Self::Raw => Ok(()),
            Self::Gzip(gzip) => gzip.finish(),
            Self::Xz(xz) => xz.finish(),
            Self::Zstd(zstd) => zstd.finish(),
        }
    }

    fn known(first: &[u8], limits: Limits, out: &mut dyn Out) -> Result<Self, Error> {
        Ok(match first {
            [0x1f, 0x8b, ..] => Self::Gzip(Box::default()),
            xz::MAGIC => Self::Xz(Box::new(xz::Decoder::new(limits))),
            [a, b, c, d, ..] if zstd::is_magic([*a, *b, *c, *d]) => {
                Self::Zstd(Box::new(zstd::Decoder::new(limits)))
            }
            _ => {
                refuse_foreign(first)?;
                out.announce(limits.total.unwrap_or(0))?;
                Self::Raw
            }
        })
    }

    /// Hands the first bytes to the decoder that was chosen by them. Only a raw image has a boundary among them.
    fn replay(&mut self, first: &[u8], out: &mut dyn Out) -> Result<bool, Error> {
        let mut rest = first;
        let mut boundary = false;
        while !rest.is_empty() {
            let step = self.decode(rest, out)?;
            rest = &rest[step.used..];
            boundary = step.boundary;
        }
        Ok(boundary)
    }
}

/// Packed in a way we cannot unpack: written as it is, it would be a slot full of nonsense.
fn refuse_foreign(first: &[u8]) -> Result<(), Error> {
    if crate::bundle::MAGIC.starts_with(first) {
        return Err(Error::damaged("it is a bundle, and its name does not say so: name it .twb"));
    }
    let format = match first {
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41] => "bzip2",
        [0x04, 0x22, 0x4d, 0x18, ..] => "lz4",
        [0x5d, 0, 0, _, _, _] => "lzma",
        [b'P', b'K', 3, 4, ..] => "zip",
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c] => "7z",
        _ => return Ok(()),
    };
    Err(Error::Undecodable { format, what: "not supported; an image may be raw, gzip, xz or zstd".into() })
}
