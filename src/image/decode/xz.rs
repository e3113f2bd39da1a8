//! The .xz format (version 1.2.0 of its specification): streams of blocks, each block with its own check.
//!
//! liblzma unpacks the blocks. We walk along, counting, so as to know where one ends: at LZMA2's chunk headers,
//! which say how long each chunk is. The index at the end of a stream is read here and not by liblzma, which could
//! not agree with it when we began in the middle.

use liblzma::stream::{Action, Status, Stream};
use serde::{Deserialize, Serialize};

use super::{Error, Limits, Out, Step};

/// What every .xz file begins with.
pub(super) const MAGIC: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];

/// What liblzma needs besides the dictionary itself.
const OVERHEAD: u64 = 1 << 20;

/// An xz decoder at a boundary: between two blocks. `None` is between two streams.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(in crate::image) struct State(Option<InStream>);

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct InStream {
    /// The stream's check type, from its header.
    check: u8,
    /// How many blocks it had so far.
    blocks: u64,
}

/// Where in the file we are. Each collects bytes until it knows how many to expect next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Between streams; zeros may stand here, in fours.
    Begin,
    /// At a block, or at the index.
    BlockSize,
    /// In a block's header.
    BlockHeader,
    /// At an LZMA2 chunk.
    Control,
    /// In an LZMA2 chunk's header.
    ChunkHeader,
    /// In an LZMA2 chunk, or in what follows the last one.
    Skip { left: u64, then_block: bool },
    /// In the index.
    Index,
    /// In the footer.
    Footer,
}

/// Unpacks xz.
pub(in crate::image) struct Decoder {
    memory: u64,
    stage: Stage,
    unit: Vec<u8>,
    need: usize,
    stream: InStream,
    streams: u64,
    /// Bytes of LZMA2 data in this block so far: padding makes them a multiple of four.
    packed: u64,
    index: Index,
    lzma: Option<Stream>,
    buffer: Vec<u8>,
}

/// The index, checked as it passes: the number of records, and the checksum.
#[derive(Default)]
struct Index {
    crc: crc32fast::Hasher,
    len: u64,
    value: u64,
    shift: u32,
    /// How many numbers are still to come; `None` before the first, which says how many records there are.
    numbers: Option<u64>,
}

impl Decoder {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            memory: limits.memory.saturating_add(OVERHEAD),
            stage: Stage::Begin,
            unit: Vec::new(),
            need: 4,
            stream: InStream { check: 0, blocks: 0 },
            streams: 0,
            packed: 0,
            index: Index::default(),
            lzma: None,
            buffer: vec![0; 64 << 10],
        }
    }

    pub(super) fn resume(state: &State, limits: Limits) -> Result<Self, Error> {
        let mut decoder = Self { streams: 1, ..Self::new(limits) };
        if let Some(stream) = state.0 {
            decoder.stream = stream;
            decoder.start_lzma()?;
            decoder.expect(Stage::BlockSize, 1);
        }
        Ok(decoder)
    }

    pub(super) fn state(&self) -> Option<State> {
        match self.stage {
            Stage::Begin if self.unit.is_empty() => Some(State(None)),
            Stage::BlockSize if self.unit.is_empty() => Some(State(Some(self.stream))),
            Stage::Begin
            | Stage::BlockSize
            | Stage::BlockHeader
            | Stage::Control
            | Stage::ChunkHeader
            | Stage::Skip { .. }
            | Stage::Index
            | Stage::Footer => None,
        }
    }

    pub(super) fn decode(&mut self, input: &[u8], out: &mut dyn Out) -> Result<Step, Error> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            if let Stage::Skip { left, then_block } = self.stage {
                let now = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                self.feed(&rest[..now], out)?;
                used += now;
                self.stage = Stage::Skip { left: left - now as u64, then_block };
                self.after_skip();
            } else {
                let now = rest.len().min(self.need - self.unit.len());
                self.unit.extend_from_slice(&rest[..now]);
                used += now;
                if self.unit.len() < self.need {
                    break;
                }
                self.on_unit(out)?;
            }
            if self.state().is_some() {
                return Ok(Step { used, boundary: true });
            }
        }
        Ok(Step { used, boundary: false })
    }

    pub(super) fn finish(&self) -> Result<(), Error> {
        let ended = self.stage == Stage::Begin && self.unit.is_empty() && self.streams > 0;
        if ended { Ok(()) } else { Err(bad("ends too early")) }
    }

    fn expect(&mut self, stage: Stage, need: usize) {
        self.stage = stage;
        self.need = need;
        self.unit.clear();
    }

    /// Skipping is over: on to the next chunk, or the next block.
    fn after_skip(&mut self) {
        match self.stage {
            Stage::Skip { left: 0, then_block: true } => {
                self.stream.blocks += 1;
                self.expect(Stage::BlockSize, 1);
            }
            Stage::Skip { left: 0, then_block: false } => self.expect(Stage::Control, 1),
            Stage::Skip { .. }
            | Stage::Begin
            | Stage::BlockSize
            | Stage::BlockHeader
            | Stage::Control
            | Stage::ChunkHeader
            | Stage::Index
            | Stage::Footer => {}
        }
    }

    /// As many bytes as were expected are there. Those that belong to a block go on to liblzma.
    fn on_unit(&mut self, out: &mut dyn Out) -> Result<(), Error> {
        let unit = std::mem::take(&mut self.unit);
        let more = match self.stage {
            Stage::Begin => self.on_begin(&unit)?,
            Stage::BlockSize if unit[0] == 0 => {
                self.index = Index::default();
                self.index.take(0, self.stream.blocks)?;
                self.expect(Stage::Index, 1);
                return Ok(());
            }
            Stage::BlockSize => Some((Stage::BlockHeader, (usize::from(unit[0]) + 1) * 4)),
            Stage::BlockHeader => {
                self.feed(&unit, out)?;
                self.packed = 0;
                self.expect(Stage::Control, 1);
                None
            }
            Stage::Control => match unit[0] {
                0 => {
                    self.feed(&unit, out)?;
                    self.end_chunks();
                    None
                }
                1 | 2 => Some((Stage::ChunkHeader, 3)),
                0x80..0xc0 => Some((Stage::ChunkHeader, 5)),
                0xc0.. => Some((Stage::ChunkHeader, 6)),
                _ => return Err(bad("damaged")),
            },
            Stage::ChunkHeader => {
                let at = if unit[0] < 0x80 { 1 } else { 3 };
                let left = u64::from(u16::from_be_bytes([unit[at], unit[at + 1]])) + 1;
                self.feed(&unit, out)?;
                self.packed += unit.len() as u64 + left;
                self.stage = Stage::Skip { left, then_block: false };
                None
            }
            Stage::Index => {
                let stage = if self.index.take(unit[0], self.stream.blocks)? {
                    (Stage::Footer, 12)
                } else {
                    (Stage::Index, 1)
                };
                self.expect(stage.0, stage.1);
                None
            }
            Stage::Footer => {
                self.on_footer(&unit)?;
                None
            }
            Stage::Skip { .. } => None,
        };
        // The same bytes, and some more of them.
        if let Some((stage, need)) = more {
            self.expect(stage, need);
            self.unit = unit;
        }
        Ok(())
    }

    /// After the last chunk of a block there are zeros up to a multiple of four, and the check.
    fn end_chunks(&mut self) {
        self.packed += 1;
        let left = self.packed.wrapping_neg() % 4 + check_len(self.stream.check);
        self.stage = Stage::Skip { left, then_block: true };
        self.after_skip();
    }

    /// Four bytes between streams, or the twelve of a stream's header.
    fn on_begin(&mut self, unit: &[u8]) -> Result<Option<(Stage, usize)>, Error> {
        if unit.len() == 4 {
            return match unit {
                [0, 0, 0, 0] if self.streams > 0 => {
                    self.expect(Stage::Begin, 4);
                    Ok(None)
                }
                _ if unit == &MAGIC[..4] => Ok(Some((Stage::Begin, 12))),
                _ => Err(bad("is followed by something else")),
            };
        }
        if &unit[..6] != MAGIC || unit[6] != 0 || unit[7] > 15 {
            return Err(bad("has a header we do not know"));
        }
        self.stream = InStream { check: unit[7], blocks: 0 };
        if unit != self.header() {
            return Err(bad("has a damaged header"));
        }
        self.start_lzma()?;
        self.expect(Stage::BlockSize, 1);
        Ok(None)
    }

    fn on_footer(&mut self, unit: &[u8]) -> Result<(), Error> {
        let crc = u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]]);
        let backward = u64::from(u32::from_le_bytes([unit[4], unit[5], unit[6], unit[7]]));
        let as_begun = unit[8..] == [0, self.stream.check, b'Y', b'Z'];
        if crc != crc32fast::hash(&unit[4..10]) || !as_begun || (backward + 1) * 4 != self.index.len {
            return Err(bad("has a damaged footer"));
        }
        self.streams += 1;
        self.lzma = None;
        self.expect(Stage::Begin, 4);
        Ok(())
    }

    /// The header of the stream we are in.
    fn header(&self) -> [u8; 12] {
        let mut header = [0; 12];
        header[..6].copy_from_slice(MAGIC);
        header[7] = self.stream.check;
        let crc = crc32fast::hash(&header[6..8]);
        header[8..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// A fresh liblzma, as if it stood at the first block of the stream.
    fn start_lzma(&mut self) -> Result<(), Error> {
        let mut lzma = Stream::new_stream_decoder(self.memory, 0).map_err(|error| failed(&error))?;
        lzma.process(&self.header(), &mut [], Action::Run).map_err(|error| failed(&error))?;
        self.lzma = Some(lzma);
        Ok(())
    }

    fn feed(&mut self, mut input: &[u8], out: &mut dyn Out) -> Result<(), Error> {
        let Some(lzma) = &mut self.lzma else { return Err(bad("has no header")) };
        loop {
            let (read, wrote) = (lzma.total_in(), lzma.total_out());
            let status =
                lzma.process(input, &mut self.buffer, Action::Run).map_err(|error| failed(&error))?;
            let read = (lzma.total_in() - read) as usize;
            let wrote = (lzma.total_out() - wrote) as usize;
            out.accept(&self.buffer[..wrote])?;
            input = &input[read..];
            match status {
                Status::Ok | Status::MemNeeded if read > 0 || wrote > 0 => {}
                Status::Ok | Status::MemNeeded if input.is_empty() => return Ok(()),
                Status::Ok | Status::MemNeeded | Status::StreamEnd | Status::GetCheck => {
                    return Err(bad("damaged"));
                }
            }
        }
    }
}

impl Index {
    /// One more byte; `true` when it was the last.
    fn take(&mut self, byte: u8, blocks: u64) -> Result<bool, Error> {
        let in_records = self.len == 0 || self.numbers != Some(0);
        let in_padding = !in_records && !self.len.is_multiple_of(4) && self.shift == 0;
        if in_records || in_padding {
            self.crc.update(&[byte]);
        }
        self.len += 1;
        if self.len == 1 {
            return Ok(false);
        }
        if in_records {
            self.number(byte, blocks)?;
            return Ok(false);
        }
        if in_padding {
            return if byte == 0 { Ok(false) } else { Err(bad("has a damaged index")) };
        }
        // The checksum, least byte first. `shift` counts its bits, so that padding cannot begin again.
        self.value |= u64::from(byte) << self.shift;
        self.shift += 8;
        if self.shift < 32 {
            return Ok(false);
        }
        if self.value != u64::from(self.crc.clone().finalize()) {
            return Err(bad("has a damaged index"));
        }
        Ok(true)
    }

    /// A byte of one of the index' numbers: seven bits each, the highest bit says that more follow.
    fn number(&mut self, byte: u8, blocks: u64) -> Result<(), Error> {
        if self.shift > 56 {
            return Err(bad("has a damaged index"));
        }
        self.value |= u64::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        if byte & 0x80 != 0 {
            return Ok(());
        }
        self.numbers = match self.numbers {
            // Each block has two numbers: its packed and its unpacked size.
            None if self.value == blocks => Some(blocks * 2),
            None => return Err(bad("has another number of blocks than its index says")),
            Some(left) => Some(left - 1),
        };
        (self.value, self.shift) = (0, 0);
        Ok(())
    }
}

/// Length of a check by its type, from the specification.
fn check_len(check: u8) -> u64 {
    match check {
        0 => 0,
        1..=3 => 4,
        4..=6 => 8,
        7..=9 => 16,
        10..=12 => 32,
        _ => 64,
    }
}

fn failed(error: &liblzma::stream::Error) -> Error {
    bad(&error.to_string())
}

fn bad(what: &str) -> Error {
    Error::Undecodable { format: "xz", what: what.into() }
}
