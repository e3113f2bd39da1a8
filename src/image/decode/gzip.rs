//! gzip (RFC 1952): members one after the other, each a deflate stream with a CRC and a length behind it.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress};
use serde::{Deserialize, Serialize};

use super::{Error, Out, Step, Window};

/// How far deflate looks back.
const WINDOW: usize = 32 << 10;
/// The ring that output is made in: a power of two, large enough to hand on in big pieces.
const RING: usize = 128 << 10;

/// A gzip decoder at a boundary. `None` is between two members.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(in crate::image) struct State(Option<Block>);

/// Between two deflate blocks of a member.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Block {
    /// Bits of the last byte that belong to the next block, and how many they are.
    bits: u8,
    count: u8,
    /// Of the member's output so far.
    crc: u32,
    len: u64,
}

/// Where in a member we are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// In the ten bytes every member begins with.
    Fixed(u8),
    /// In the length of the extra field.
    ExtraLen(u8),
    /// In the extra field.
    Extra,
    /// In the name.
    Name,
    /// In the comment.
    Comment,
    /// In the header's checksum.
    HeaderCrc(u8),
    /// In the deflate stream.
    Body,
    /// In CRC and length.
    Trailer(u8),
}

/// Unpacks gzip.
pub(in crate::image) struct Decoder {
    stage: Stage,
    flags: u8,
    extra: u16,
    trailer: [u8; 8],
    members: u64,
    inflate: Box<DecompressorOxide>,
    ring: Vec<u8>,
    at: usize,
    crc: crc32fast::Hasher,
    len: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            stage: Stage::Fixed(0),
            flags: 0,
            extra: 0,
            trailer: [0; 8],
            members: 0,
            inflate: Box::default(),
            ring: vec![0; RING],
            at: 0,
            crc: crc32fast::Hasher::new(),
            len: 0,
        }
    }
}

impl Decoder {
    pub(super) fn resume(state: &State, window: &mut Window<'_>) -> Result<Self, Error> {
        let mut decoder = Self { members: 1, ..Self::default() };
        if let Some(block) = &state.0 {
            let held = block.len.min(WINDOW as u64) as usize;
            window(&mut decoder.ring[..held])?;
            decoder.at = held;
            let boundary =
                BlockBoundaryState { num_bits: block.count & 7, bit_buf: block.bits, ..Default::default() };
            *decoder.inflate = DecompressorOxide::from_block_boundary_state(&boundary);
            decoder.crc = crc32fast::Hasher::new_with_initial(block.crc);
            decoder.len = block.len;
            decoder.stage = Stage::Body;
        }
        Ok(decoder)
    }

    pub(super) fn state(&self) -> Option<State> {
        match self.stage {
            Stage::Fixed(0) => Some(State(None)),
            Stage::Body => {
                let boundary = self.inflate.block_boundary_state()?;
                Some(State(Some(Block {
                    bits: boundary.bit_buf,
                    count: boundary.num_bits,
                    crc: self.crc.clone().finalize(),
                    len: self.len,
                })))
            }
            Stage::Fixed(_)
            | Stage::ExtraLen(_)
            | Stage::Extra
            | Stage::Name
            | Stage::Comment
            | Stage::HeaderCrc(_)
            | Stage::Trailer(_) => None,
        }
    }

    pub(super) fn decode(&mut self, input: &[u8], out: &mut dyn Out) -> Result<Step, Error> {
        let mut used = 0;
        while used < input.len() {
            if self.stage == Stage::Body {
                let (count, boundary) = self.inflate(&input[used..], out)?;
                used += count;
                if boundary {
                    return Ok(Step { used, boundary });
                }
            } else {
                self.frame(input[used])?;
                used += 1;
                if self.stage == Stage::Fixed(0) {
                    return Ok(Step { used, boundary: true });
                }
            }
        }
        Ok(Step { used, boundary: false })
    }

    pub(super) fn finish(&self) -> Result<(), Error> {
        if self.stage == Stage::Fixed(0) && self.members > 0 { Ok(()) } else { Err(bad("ends too early")) }
    }

    /// Inflates up to the end of a deflate block or of the input.
    fn inflate(&mut self, input: &[u8], out: &mut dyn Out) -> Result<(usize, bool), Error> {
        let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
        let mut used = 0;
        loop {
            let (status, read, wrote) =
                decompress(&mut self.inflate, &input[used..], &mut self.ring, self.at, flags);
            used += read;
            let fresh = &self.ring[self.at..self.at + wrote];
            self.crc.update(fresh);
            self.len += wrote as u64;
            out.accept(fresh)?;
            self.at = (self.at + wrote) % RING;
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput => return Ok((used, false)),
                TINFLStatus::BlockBoundary => return Ok((used, true)),
                TINFLStatus::Done => {
                    self.stage = Stage::Trailer(0);
                    return Ok((used, false));
                }
                // Open to additions: whatever else it says is no success.
                TINFLStatus::Failed
                | TINFLStatus::FailedCannotMakeProgress
                | TINFLStatus::BadParam
                | TINFLStatus::Adler32Mismatch
                | _ => return Err(bad("damaged")),
            }
        }
    }

    /// Deals with one byte outside the deflate stream.
    fn frame(&mut self, byte: u8) -> Result<(), Error> {
        self.stage = match self.stage {
            Stage::Fixed(at) => {
                match (at, byte) {
                    (0, 0x1f) | (1, 0x8b) | (2, 8) | (4.., _) => {}
                    (3, flags) if flags & 0xe0 == 0 => self.flags = flags,
                    (0 | 1, _) if self.members > 0 => return Err(bad("is followed by something else")),
                    _ => return Err(bad("has a header we do not know")),
                }
                if at < 9 { Stage::Fixed(at + 1) } else { self.after(2) }
            }
            Stage::ExtraLen(0) => {
                self.extra = u16::from(byte);
                Stage::ExtraLen(1)
            }
            Stage::ExtraLen(_) => {
                self.extra |= u16::from(byte) << 8;
                if self.extra == 0 { self.after(3) } else { Stage::Extra }
            }
            Stage::Extra => {
                self.extra -= 1;
                if self.extra == 0 { self.after(3) } else { Stage::Extra }
            }
            Stage::Name => {
                if byte == 0 {
                    self.after(4)
                } else {
                    Stage::Name
                }
            }
            Stage::Comment => {
                if byte == 0 {
                    self.after(1)
                } else {
                    Stage::Comment
                }
            }
            Stage::HeaderCrc(0) => Stage::HeaderCrc(1),
            Stage::HeaderCrc(_) => self.after(0),
            Stage::Body => Stage::Body,
            Stage::Trailer(at) => {
                self.trailer[usize::from(at)] = byte;
                if at < 7 { Stage::Trailer(at + 1) } else { self.end_member()? }
            }
        };
        Ok(())
    }

    /// The next part of a header that its flags ask for, from flag bit `from` on in the order of the format: extra
    /// field (bit 2), name (3), comment (4), checksum (1), then the body (0).
    fn after(&mut self, from: u8) -> Stage {
        let order = [2, 3, 4, 1];
        let begin = order.iter().position(|bit| *bit == from).unwrap_or(order.len());
        match order[begin..].iter().find(|bit| self.flags & 1 << **bit != 0) {
            Some(2) => Stage::ExtraLen(0),
            Some(3) => Stage::Name,
            Some(4) => Stage::Comment,
            Some(_) => Stage::HeaderCrc(0),
            None => {
                *self.inflate = DecompressorOxide::new();
                self.crc = crc32fast::Hasher::new();
                self.len = 0;
                Stage::Body
            }
        }
    }

    fn end_member(&mut self) -> Result<Stage, Error> {
        let [a, b, c, d, e, f, g, h] = self.trailer;
        let (crc, len) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if crc != self.crc.clone().finalize() || len != self.len as u32 {
            return Err(bad("does not have the checksum or length it says"));
        }
        self.members += 1;
        Ok(Stage::Fixed(0))
    }
}

fn bad(what: &str) -> Error {
    Error::Undecodable { format: "gzip", what: what.into() }
}
