//! The end of the chain: image bytes into the slot, and what it takes until they are really there.
//!
//! Three rules, each for a failure seen in the field:
//!
//! * **Keep what is not flushed.** After a failed flush the kernel forgets the lost pages and reports success the
//!   next time. So everything since the last good flush stays in memory (at most [`RETAIN`] bytes) and is *written*
//!   again before the flush is tried again; three times, then the device is given up.
//! * **Zeros are made, not skipped.** A run of zeros becomes a request to the device to forget that range, which the
//!   kernel grants only if it reads as zeros afterwards. Skipping would be right only where the slot is known to be
//!   empty, which after a resume nobody knows. Short runs are written like anything else.
//! * **Aligned, large writes.** [`CHUNK`] bytes at multiples of [`BLOCK`], so that no flash page is written in two
//!   halves; a checkpoint in between writes the open block and later writes it again, whole.
//!
//! What lies in the slot beyond the image stays there; the image's digest covers the image alone.

use super::{Error, Target};

/// The unit of writes: one is open, and so many are kept as [`RETAIN`] has room for.
pub(super) const CHUNK: usize = 256 << 10;
/// The unit of alignment, and of looking for zeros.
pub(super) const BLOCK: usize = 4096;
/// Zeros in a row that are worth a request of their own.
pub(super) const ZERO_RUN: usize = 64 << 10;
/// A flush happens at the latest after this many bytes that are not zeros. They are half of what an install takes beside a
/// decoder's window; twice as many would save every second flush, and cost 2 MiB.
pub(super) const RETAIN: usize = 2 << 20;
/// How often a region that could not be written or flushed is written again.
pub(super) const REWRITES: u32 = 3;

/// Written but not known to be durable.
enum Piece {
    Data { offset: u64, bytes: Vec<u8> },
    Zeros { offset: u64, len: u64 },
}

/// Takes the image from front to back.
pub(super) struct Sink<'a> {
    target: &'a mut dyn Target,
    size: u64,
    /// The image up to here was accepted; the last `open.len()` bytes of it lie in `open`.
    position: u64,
    open: Vec<u8>,
    unflushed: Vec<Piece>,
    unflushed_bytes: usize,
    /// Buffers to use again: a fresh one each time costs more than copying into it.
    spare: Vec<Vec<u8>>,
}

impl<'a> Sink<'a> {
    /// Goes on at byte `position` of the image; what lies before it is in the slot and durable.
    pub(super) fn new(target: &'a mut dyn Target, position: u64) -> Result<Self, Error> {
        let size = target.size();
        let mut open = Vec::with_capacity(CHUNK);
        open.resize((position % BLOCK as u64) as usize, 0);
        let start = position - open.len() as u64;
        read_exactly(target, start, &mut open)?;
        Ok(Self {
            target,
            size,
            position,
            open,
            unflushed: Vec::new(),
            unflushed_bytes: 0,
            spare: Vec::new(),
        })
    }

    /// How many bytes of the image were accepted.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes fit.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Fails if `len` more bytes do not fit: before the first of them is written.
    pub(super) fn check_room(&self, len: u64) -> Result<(), Error> {
        let needed = self.position.saturating_add(len);
        if needed > self.size { Err(Error::TooBig { needed, size: self.size }) } else { Ok(()) }
    }

    /// Takes the next bytes of the image.
    pub(super) fn accept(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.check_room(bytes.len() as u64)?;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.open.len()));
            self.open.extend_from_slice(now);
            self.position += now.len() as u64;
            bytes = later;
            if self.open.len() == CHUNK {
                self.spill()?;
            }
        }
        Ok(())
    }

    /// Makes everything accepted so far durable.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let start = self.position - self.open.len() as u64;
        let done = put(self.target, start, &self.open).and_then(|()| self.target.flush());
        if let Err(error) = done {
            self.rewrite(error)?;
        }
        self.unflushed_bytes = 0;
        for piece in self.unflushed.drain(..) {
            match piece {
                Piece::Data { bytes, .. } => self.spare.push(bytes),
                Piece::Zeros { .. } => {}
            }
        }
        // The whole blocks are done; the open one is written again when it is full.
        let whole = self.open.len() - self.open.len() % BLOCK;
        self.open.drain(..whole);
        Ok(())
    }

    /// Writes the full buffer, without waiting for durability.
    fn spill(&mut self) -> Result<(), Error> {
        let offset = self.position - self.open.len() as u64;
        let written = if zeros_at(&self.open) == self.open.len() {
            self.open.clear();
            match self.unflushed.last_mut() {
                Some(Piece::Zeros { offset: begin, len }) if *begin + *len == offset => *len += CHUNK as u64,
                Some(Piece::Zeros { .. } | Piece::Data { .. }) | None => {
                    self.unflushed.push(Piece::Zeros { offset, len: CHUNK as u64 });
                }
            }
            self.target.zero(offset, CHUNK as u64)
        } else {
            let mut next = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK));
            next.clear();
            let bytes = std::mem::replace(&mut self.open, next);
            let written = put(self.target, offset, &bytes);
            self.unflushed_bytes += bytes.len();
            self.unflushed.push(Piece::Data { offset, bytes });
            written
        };
        if let Err(error) = written {
            self.rewrite(error)?;
        }
        if self.unflushed_bytes >= RETAIN { self.flush() } else { Ok(()) }
    }

    /// The device failed. Nothing since the last good flush can be relied upon, so all of it is written again.
    fn rewrite(&mut self, mut error: std::io::Error) -> Result<(), Error> {
        let open_at = self.position - self.open.len() as u64;
        for attempt in 1..=REWRITES {
            tracing::debug!(attempt, %error, "writing again what was not flushed");
            let again = self.unflushed.iter().try_for_each(|piece| match piece {
                Piece::Data { offset, bytes } => put(self.target, *offset, bytes),
                Piece::Zeros { offset, len } => self.target.zero(*offset, *len),
            });
            let again = again.and_then(|()| put(self.target, open_at, &self.open));
            match again.and_then(|()| self.target.flush()) {
                Ok(()) => return Ok(()),
                Err(next) => error = next,
            }
        }
        let offset = match self.unflushed.first() {
            Some(Piece::Data { offset, .. } | Piece::Zeros { offset, .. }) => *offset,
            None => open_at,
        };
        Err(Error::Target { doing: "writing", offset, source: error })
    }
}

/// Writes `bytes` at `offset`, with long runs of zeros made by the device.
pub(super) fn put(target: &mut dyn Target, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    let mut written = 0;
    let mut at = 0;
    while at < bytes.len() {
        let zeros = zeros_at(&bytes[at..]);
        if zeros >= ZERO_RUN {
            target.write_at(offset + written as u64, &bytes[written..at])?;
            target.zero(offset + at as u64, zeros as u64)?;
            at += zeros;
            written = at;
        } else {
            at += zeros.max(BLOCK);
        }
    }
    if written < bytes.len() { target.write_at(offset + written as u64, &bytes[written..]) } else { Ok(()) }
}

/// How many bytes at the front are whole blocks of zeros.
pub(super) fn zeros_at(bytes: &[u8]) -> usize {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    bytes.chunks_exact(BLOCK).take_while(|block| *block == ZEROS).count() * BLOCK
}

/// Fills `buffer` from the device.
pub(super) fn read_exactly(target: &dyn Target, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
    let error = |source| Error::Target { doing: "reading", offset, source };
    match target.read_back(offset, buffer) {
        Ok(count) if count == buffer.len() => Ok(()),
        Ok(_) => Err(error(std::io::ErrorKind::UnexpectedEof.into())),
        Err(source) => Err(error(source)),
    }
}
