//! The end of the chain: image bytes into the slot, what it takes until they are really there, and their digest.
//!
//! ```text
//!  chain ─▶ Sink ═ whole chunks ═▶ Worker ─▶ digest, slot      two threads, [`PIECES`] chunks between them
//!             ◀════ used ones ════
//! ```
//!
//! Unpacking and writing take about as long as each other, so they are done at the same time. At a checkpoint the one waits
//! for the other, and nothing is written meanwhile: what a power cut can meet stays in one order.
//!
//! Three rules, each for a failure seen in the field:
//!
//! * **A flush that failed is final.** The kernel forgets the lost pages and reports success the next time. So nothing is
//!   built upon what was written since the last good flush: [`write()`](super::write()) begins anew where the last
//!   checkpoint is, as after a power cut, a few times.
//! * **Zeros are made, not skipped.** A run of zeros becomes a request to the device to forget that range, which the
//!   kernel grants only if it reads as zeros afterwards. Skipping would be right only where the slot is known to be
//!   empty, which after a resume nobody knows. Short runs are written like anything else.
//! * **Aligned, large writes.** [`CHUNK`] bytes at multiples of [`BLOCK`], so that no flash page is written in two
//!   halves; a checkpoint in between writes the open block and later writes it again, whole.
//!
//! What lies in the slot beyond the image stays there; the image's digest covers the image alone.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, scope};

use super::decode::Out;
use super::hash::Hasher;
use super::{Error, Target};

/// The unit of writes.
pub(super) const CHUNK: usize = 256 << 10;
/// How many there are: one is filled, one waits, one is written.
const PIECES: u32 = 3;
/// The unit of alignment, and of looking for zeros.
pub(super) const BLOCK: usize = 4096;
/// Zeros in a row that are worth a request of their own.
pub(super) const ZERO_RUN: usize = 64 << 10;

/// Takes the image from front to back.
pub(super) struct Sink {
    size: u64,
    /// The image up to here was accepted; the last `open.len()` bytes of it lie in `open`.
    position: u64,
    /// Up to here it is what the last boundary stands for.
    boundary: u64,
    open: Vec<u8>,
    /// How many chunks were taken that are no used ones.
    made: u32,
    orders: Sender<Order>,
    used: Receiver<Vec<u8>>,
    flushed: Receiver<Hasher>,
}

/// What the worker has to do, one after the other.
enum Order {
    /// Write this.
    Write(Piece),
    /// Write this, make everything durable, and tell the digest's state at the boundary.
    Flush(Piece),
}

/// Bytes of the image.
struct Piece {
    offset: u64,
    bytes: Vec<u8>,
    /// Where the last boundary is.
    boundary: u64,
}

/// Has `work` fill a sink, and a thread write what comes of it. It goes on at byte `position` of the image; what lies before
/// it is in the slot, durable, and in `digest`.
pub(super) fn fill<T>(
    target: &mut dyn Target,
    position: u64,
    digest: Hasher,
    work: impl FnOnce(&mut Sink) -> Result<T, Error>,
) -> Result<T, Error> {
    let size = target.size();
    let mut open = Vec::with_capacity(CHUNK);
    open.resize((position % BLOCK as u64) as usize, 0);
    read_exactly(target, position - open.len() as u64, &mut open)?;
    scope(|scope| {
        let (orders, wanted) = channel();
        let (spare, used) = channel();
        let (told, flushed) = channel();
        let worker =
            Worker { target, digest: digest.clone(), hashed: position, at_boundary: digest, spare, told };
        let thread = Builder::new().name("write".to_owned()).spawn_scoped(scope, move || worker.run(wanted));
        let thread = thread.map_err(failure("starting to write", position))?;
        let mut sink = Sink { size, position, boundary: position, open, made: 1, orders, used, flushed };
        let done = work(&mut sink);
        // Now it has heard everything, and comes to its end.
        drop(sink);
        // Why it ended early is why nobody could go on.
        thread.join().unwrap_or_else(|panic| resume_unwind(panic)).and(done)
    })
}

impl Sink {
    /// How many bytes of the image were accepted.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes fit.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Here is a boundary.
    pub(super) fn mark(&mut self) {
        self.boundary = self.position;
    }

    /// Makes everything accepted so far durable. Returns the state of the digest at the last boundary.
    pub(super) fn flush(&mut self) -> Result<Hasher, Error> {
        // The whole blocks are done then; the open one is written again when it is full.
        let whole = self.open.len() - self.open.len() % BLOCK;
        let rest = self.open[whole..].to_vec();
        let piece = self.take()?;
        self.open.extend_from_slice(&rest);
        self.order(Order::Flush(piece))?;
        self.flushed.recv().map_err(|_| self.gone())
    }

    fn accept_some(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.open.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        if self.open.len() == CHUNK {
            let piece = self.take()?;
            self.order(Order::Write(piece))?;
        }
        Ok(())
    }

    /// What was collected, and in its place an empty chunk.
    fn take(&mut self) -> Result<Piece, Error> {
        let mut next = if self.made < PIECES {
            self.made += 1;
            Vec::with_capacity(CHUNK)
        } else {
            self.used.recv().map_err(|_| self.gone())?
        };
        next.clear();
        let offset = self.position - self.open.len() as u64;
        let bytes = std::mem::replace(&mut self.open, next);
        Ok(Piece { offset, bytes, boundary: self.boundary })
    }

    fn order(&self, order: Order) -> Result<(), Error> {
        self.orders.send(order).map_err(|_| self.gone())
    }

    /// The worker has ended. It says itself why, and that is what is told in the end.
    fn gone(&self) -> Error {
        failure("writing", self.position)(io::ErrorKind::BrokenPipe.into())
    }
}

impl Out for Sink {
    fn accept(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.announce(bytes.len() as u64)?;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.open.len()));
            self.accept_some(now)?;
            bytes = later;
        }
        Ok(())
    }

    /// Fails if that much does not fit: before the first byte of it is written.
    fn announce(&mut self, len: u64) -> Result<(), Error> {
        let needed = self.position.saturating_add(len);
        if needed > self.size { Err(Error::TooBig { needed, size: self.size }) } else { Ok(()) }
    }
}

/// Writes, and makes the digest.
struct Worker<'a> {
    target: &'a mut dyn Target,
    /// The digest of the image up to `hashed`, and as it was at the last boundary.
    digest: Hasher,
    hashed: u64,
    at_boundary: Hasher,
    spare: Sender<Vec<u8>>,
    told: Sender<Hasher>,
}

impl Worker<'_> {
    /// Until there is nothing more to come, or the device fails.
    fn run(mut self, orders: Receiver<Order>) -> Result<(), Error> {
        for order in orders {
            match order {
                Order::Write(piece) => self.write(piece)?,
                Order::Flush(piece) => {
                    let offset = piece.offset;
                    self.write(piece)?;
                    self.target.flush().map_err(failure("flushing", offset))?;
                    // Whoever does not listen any more has other troubles.
                    let _ = self.told.send(self.at_boundary.clone());
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, piece: Piece) -> Result<(), Error> {
        let Piece { offset, bytes, boundary } = piece;
        // The first bytes of an open block have been hashed already.
        let fresh = &bytes[(self.hashed - offset) as usize..];
        // A boundary that is told late is not before what was hashed, or it was told with an earlier piece.
        let fresh = match boundary.checked_sub(self.hashed) {
            Some(before) => {
                let (before, after) = fresh.split_at(before as usize);
                self.digest.update(before);
                self.at_boundary = self.digest.clone();
                after
            }
            None => fresh,
        };
        self.digest.update(fresh);
        self.hashed = offset + bytes.len() as u64;
        put(self.target, offset, &bytes).map_err(failure("writing", offset))?;
        let _ = self.spare.send(bytes);
        Ok(())
    }
}

/// What is told of the slot when something that is done to it fails.
pub(super) fn failure(doing: &'static str, offset: u64) -> impl Fn(io::Error) -> Error {
    move |source| Error::Target { doing, offset, source }
}

/// Writes `bytes` at `offset`, with long runs of zeros made by the device.
pub(super) fn put(target: &mut dyn Target, offset: u64, bytes: &[u8]) -> io::Result<()> {
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
    let error = failure("reading", offset);
    match target.read_back(offset, buffer) {
        Ok(count) if count == buffer.len() => Ok(()),
        Ok(_) => Err(error(io::ErrorKind::UnexpectedEof.into())),
        Err(source) => Err(error(source)),
    }
}
