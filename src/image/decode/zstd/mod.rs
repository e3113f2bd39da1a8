//! Zstandard (RFC 8878): frames of blocks, unpacked by libzstd, one block at a time.
//!
//! Between blocks we know everything that libzstd knows (see [`track`]), so a decoder can be built anew there: a
//! frame header of our own making, and a dictionary that holds the frame's tables, repeat offsets and last output.
//!
//! That output is read back from the slot. Read wrongly just this once, it would be copied into what follows, and all
//! digests would agree with the slot: so the frame's own checksum ([`sum`]) is carried over, and has to hold.

pub(in crate::image) mod fse;
mod header;
mod sum;
#[cfg(test)]
mod tests;
pub(in crate::image) mod track;

use serde::{Deserialize, Serialize};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::{Error, Limits, Out, Step, Window};
use header::{header, header_len, parse_header};
use sum::Sum;
use track::Tracker;

const FRAME: u32 = 0xfd2f_b528;
const SKIPPABLE: u32 = 0x184d_2a50;
/// The most a block may hold or unpack to.
const BLOCK: usize = 128 << 10;
/// Windows up to this size are always allowed: the format asks every decoder to have that much.
const ALWAYS_ALLOWED: u64 = 8 << 20;

/// A zstd decoder at a boundary. `None` is between two frames.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(in crate::image) struct State(Option<InFrame>);

/// In a frame, between two blocks.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct InFrame {
    frame: Frame,
    tracker: Tracker,
}

impl State {
    /// The state as it can be kept, if it can.
    pub(super) fn settle(mut self) -> Option<Self> {
        let can_be_kept = self
            .0
            .as_mut()
            .is_none_or(|InFrame { frame, tracker }| tracker.settle(frame.window.min(frame.produced)));
        can_be_kept.then_some(self)
    }
}

/// What a frame's header says, and how far we are in it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Frame {
    window: u64,
    content: Option<u64>,
    checksum: bool,
    produced: u64,
    /// The checksum of what was produced, if the frame ends with one. Checkpoints that an older version kept do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sum: Option<Sum>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Magic,
    SkipSize,
    Skip(u64),
    Descriptor,
    Header,
    BlockHeader,
    Block,
    Checksum,
}

/// Unpacks zstd.
pub(in crate::image) struct Decoder {
    limits: Limits,
    stage: Stage,
    unit: Vec<u8>,
    need: usize,
    frame: Frame,
    frames: u64,
    tracker: Tracker,
    zstd: DCtx<'static>,
    /// Whether this frame was begun in the middle: then libzstd knows nothing of its checksum, and must forget the
    /// dictionary afterwards.
    resumed: bool,
    buffer: Vec<u8>,
}

/// Whether a file that begins with these bytes is zstd.
pub(super) fn is_magic(bytes: [u8; 4]) -> bool {
    let magic = u32::from_le_bytes(bytes);
    magic == FRAME || magic & !15 == SKIPPABLE
}

impl Decoder {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            stage: Stage::Magic,
            unit: Vec::with_capacity(BLOCK + 3),
            need: 4,
            frame: Frame { window: 0, content: None, checksum: false, produced: 0, sum: None },
            frames: 0,
            tracker: Tracker::default(),
            zstd: DCtx::create(),
            resumed: false,
            buffer: vec![0; BLOCK],
        }
    }

    pub(super) fn resume(state: &State, limits: Limits, window: &mut Window<'_>) -> Result<Self, Error> {
        let mut decoder = Self { frames: 1, ..Self::new(limits) };
        let Some(InFrame { frame, tracker }) = &state.0 else { return Ok(decoder) };
        decoder.check_window(frame.window)?;
        if !decoder.can_be_taken_up(frame.window) {
            return Err(bad("cannot be taken up: that takes its window twice, and more memory than allowed"));
        }
        (decoder.frame, decoder.tracker, decoder.resumed) = (*frame, tracker.clone(), true);
        let held = frame.window.min(frame.produced);
        let held = usize::try_from(held).map_err(|_| bad("needs too much memory"))?;
        let mut dictionary = tracker.dictionary().ok_or_else(|| bad("cannot be taken up here"))?;
        let begin = dictionary.len();
        dictionary.resize(begin + held, 0);
        window(&mut dictionary[begin..])?;
        if frame.sum.is_none() {
            // Nothing will tell at the end of the frame whether this was read right.
            tracing::debug!(
                "a zstd frame is taken up whose checksum is not known: what is there is read twice"
            );
            let first = Sum::of(&dictionary[begin..]);
            window(&mut dictionary[begin..])?;
            if Sum::of(&dictionary[begin..]) != first {
                return Err(bad("cannot be taken up: the slot reads differently the second time"));
            }
        }
        decoder.zstd.load_dictionary(&dictionary).map_err(failed)?;
        drop(dictionary);
        decoder.set_window_limit()?;
        decoder.feed(&header(frame.window), &mut Nowhere)?;
        decoder.expect(Stage::BlockHeader, 3);
        Ok(decoder)
    }

    pub(super) fn state(&self) -> Option<State> {
        if !self.unit.is_empty() {
            return None;
        }
        match self.stage {
            Stage::Magic => Some(State(None)),
            Stage::BlockHeader if !self.can_be_taken_up(self.frame.window) => None,
            Stage::BlockHeader => {
                Some(State(Some(InFrame { frame: self.frame, tracker: self.tracker.clone() })))
            }
            Stage::SkipSize
            | Stage::Skip(_)
            | Stage::Descriptor
            | Stage::Header
            | Stage::Block
            | Stage::Checksum => None,
        }
    }

    pub(super) fn decode(&mut self, input: &[u8], out: &mut dyn Out) -> Result<Step, Error> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            if let Stage::Skip(left) = self.stage {
                let now = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                used += now;
                self.stage = Stage::Skip(left - now as u64);
                if left == now as u64 {
                    self.expect(Stage::Magic, 4);
                }
            } else {
                let now = rest.len().min(self.need - self.unit.len());
                self.unit.extend_from_slice(&rest[..now]);
                used += now;
                if self.unit.len() < self.need {
                    break;
                }
                self.on_unit(out)?;
            }
            if self.unit.is_empty() && matches!(self.stage, Stage::Magic | Stage::BlockHeader) {
                return Ok(Step { used, boundary: true });
            }
        }
        Ok(Step { used, boundary: false })
    }

    pub(super) fn finish(&self) -> Result<(), Error> {
        let ended = self.stage == Stage::Magic && self.unit.is_empty() && self.frames > 0;
        if ended { Ok(()) } else { Err(bad("ends too early")) }
    }

    fn expect(&mut self, stage: Stage, need: usize) {
        self.stage = stage;
        self.need = need;
        self.unit.clear();
    }

    /// Keeps what was collected, for it is the beginning of something longer.
    fn expect_more(&mut self, stage: Stage, need: usize) {
        self.stage = stage;
        self.need = need;
    }

    fn on_unit(&mut self, out: &mut dyn Out) -> Result<(), Error> {
        match self.stage {
            Stage::Magic => match le32(&self.unit) {
                FRAME => self.expect_more(Stage::Descriptor, 5),
                magic if magic & !15 == SKIPPABLE => self.expect(Stage::SkipSize, 4),
                _ => return Err(bad("is followed by something else")),
            },
            Stage::SkipSize => {
                let left = u64::from(le32(&self.unit));
                self.expect(Stage::Skip(left), 0);
                if left == 0 {
                    self.expect(Stage::Magic, 4);
                }
            }
            Stage::Descriptor => self.expect_more(Stage::Header, header_len(self.unit[4])),
            Stage::Header => self.on_header(out)?,
            Stage::BlockHeader => {
                let header = le32(&[self.unit[0], self.unit[1], self.unit[2], 0]);
                let size = (header >> 3) as usize;
                let held = if header >> 1 & 3 == 1 { 1 } else { size };
                if size > BLOCK {
                    return Err(bad("has a block that is too large"));
                }
                self.expect_more(Stage::Block, 3 + held);
                if held == 0 {
                    self.on_block(out)?;
                }
            }
            Stage::Block => self.on_block(out)?,
            Stage::Checksum => {
                // Begun in the middle, libzstd cannot know it.
                if !self.resumed {
                    self.feed_unit(out)?;
                } else if self.frame.sum.is_some_and(|sum| sum.finish() as u32 != le32(&self.unit)) {
                    let what =
                        "what was unpacked since the checkpoint is not what the zstd frame's checksum says";
                    return Err(Error::StartOver(what.into()));
                }
                self.end_frame()?;
            }
            Stage::Skip(_) => {}
        }
        Ok(())
    }

    fn on_header(&mut self, out: &mut dyn Out) -> Result<(), Error> {
        self.frame = parse_header(&self.unit)?;
        self.check_window(self.frame.window)?;
        out.announce(self.frame.content.unwrap_or(0))?;
        self.tracker = Tracker::default();
        self.set_window_limit()?;
        self.feed_unit(out)?;
        self.expect(Stage::BlockHeader, 3);
        Ok(())
    }

    fn on_block(&mut self, out: &mut dyn Out) -> Result<(), Error> {
        let header = self.unit[0];
        let (last, kind) = (header & 1 != 0, header >> 1 & 3);
        if kind == 2 {
            self.tracker.follow(&self.unit[3..]);
        }
        self.feed_unit(out)?;
        match (last, self.frame.checksum) {
            (false, _) => self.expect(Stage::BlockHeader, 3),
            (true, true) => self.expect(Stage::Checksum, 4),
            (true, false) => self.end_frame()?,
        }
        Ok(())
    }

    fn end_frame(&mut self) -> Result<(), Error> {
        if self.frame.content.is_some_and(|content| content != self.frame.produced) {
            return Err(bad("does not have the length it says"));
        }
        if self.resumed {
            self.zstd = DCtx::create();
            self.resumed = false;
        }
        self.frames += 1;
        self.expect(Stage::Magic, 4);
        Ok(())
    }

    fn check_window(&self, window: u64) -> Result<(), Error> {
        let limit = self.limits.memory.max(ALWAYS_ALLOWED);
        if window > limit {
            return Err(bad(&format!("asks for a window of {window} bytes, {limit} are allowed")));
        }
        Ok(())
    }

    /// Whether there is memory to begin in the middle of a frame: libzstd keeps its dictionary, which is the window as it was,
    /// beside the window.
    fn can_be_taken_up(&self, window: u64) -> bool {
        window.saturating_mul(2) <= self.limits.memory.max(2 * ALWAYS_ALLOWED)
    }

    /// libzstd has a limit of its own, as a power of two. Ours is exact, so its only must not be in the way.
    fn set_window_limit(&mut self) -> Result<(), Error> {
        let log = self.frame.window.max(1 << 10).next_power_of_two().ilog2();
        self.zstd.set_parameter(DParameter::WindowLogMax(log)).map(|_| ()).map_err(failed)
    }

    fn feed_unit(&mut self, out: &mut dyn Out) -> Result<(), Error> {
        let unit = std::mem::take(&mut self.unit);
        let fed = self.feed(&unit, out);
        self.unit = unit;
        fed
    }

    /// Gives libzstd just one header or block, and hands on all that comes of it.
    fn feed(&mut self, unit: &[u8], out: &mut dyn Out) -> Result<(), Error> {
        let mut input = InBuffer::around(unit);
        loop {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            self.zstd.decompress_stream(&mut output, &mut input).map_err(failed)?;
            let wrote = output.pos();
            out.accept(&self.buffer[..wrote])?;
            self.frame.produced += wrote as u64;
            if let Some(sum) = &mut self.frame.sum {
                sum.update(&self.buffer[..wrote]);
            }
            if input.pos() == unit.len() && wrote < BLOCK {
                return Ok(());
            }
        }
    }
}

/// For input that unpacks to nothing.
struct Nowhere;

impl Out for Nowhere {
    fn accept(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() { Ok(()) } else { Err(bad("has output where none can be")) }
    }

    fn announce(&mut self, _: u64) -> Result<(), Error> {
        Ok(())
    }
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn failed(code: usize) -> Error {
    bad(get_error_name(code))
}

fn bad(what: &str) -> Error {
    Error::Undecodable { format: "zstd", what: what.into() }
}
