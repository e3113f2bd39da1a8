//! The way into the slot for what differs, and only for that.
//!
//! What is put together is compared with what the slot holds, block by block of 4 KiB, and only blocks that differ are
//! written: flash wears out by writing, not by reading. A page may end within a block; the block waits for its other
//! half. The rules of the module `sink` hold: a flush that failed is final, and long runs of zeros are made by the device.

use super::super::sink::{BLOCK, failure, put, read_exactly};
use super::super::{Error, Target};

/// Bytes as the slot holds them, from a block's beginning on.
#[derive(Default)]
struct Old {
    at: u64,
    bytes: Vec<u8>,
}

/// Takes pieces of an image, in order, and leaves alone what is there.
pub(super) struct Patch<'a> {
    target: &'a mut dyn Target,
    /// Length of the image.
    size: u64,
    /// The beginning of a block whose end is not known yet, and where the block begins.
    open: Vec<u8>,
    open_at: u64,
    old: Old,
    is_flushed: bool,
    /// Bytes that differed, those made zeros included.
    written: u64,
}

impl<'a> Patch<'a> {
    /// For an image of `size` bytes, which the target has room for.
    pub(super) fn new(target: &'a mut dyn Target, size: u64) -> Self {
        Self {
            target,
            size,
            open: Vec::with_capacity(BLOCK),
            open_at: 0,
            old: Old::default(),
            is_flushed: true,
            written: 0,
        }
    }

    /// How many bytes were written because they differed.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Reads what the slot holds, as it is now.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        read_exactly(self.target, at, buffer)
    }

    /// What the slot held at `at` before anything of that was written. In the order of the image.
    /// `None`: it cannot be read, and is worth nothing.
    pub(super) fn old(&mut self, at: u64, len: usize) -> Option<&[u8]> {
        let from = at - at % BLOCK as u64;
        let until = (at + len as u64).next_multiple_of(BLOCK as u64).min(self.size);
        if self.old.at > from || self.old.at + (self.old.bytes.len() as u64) < until {
            self.old.at = from;
            self.old.bytes.resize((until - from) as usize, 0);
            if let Err(error) = read_exactly(self.target, from, &mut self.old.bytes) {
                tracing::debug!(
                    error = error.chain(),
                    "a part of the slot cannot be read, and is written anew"
                );
                self.old.bytes.clear();
                return None;
            }
        }
        let skip = (at - self.old.at) as usize;
        Some(&self.old.bytes[skip..skip + len])
    }

    /// Sees to it that the slot holds `bytes` at `at`, which is not before the end of what it was given last. What lies
    /// between the two is as it should be.
    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        if self.open_at + self.open.len() as u64 != at {
            self.close()?;
            let begins = at - at % BLOCK as u64;
            let mut before = vec![0; (at - begins) as usize];
            self.read(begins, &mut before)?;
            (self.open, self.open_at) = (before, begins);
        }
        let (mut at, mut bytes) = (at, bytes);
        if !self.open.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min(BLOCK - self.open.len()));
            self.open.extend_from_slice(head);
            (at, bytes) = (at + head.len() as u64, rest);
            if self.open.len() < BLOCK {
                return Ok(());
            }
            let block = std::mem::take(&mut self.open);
            self.write(self.open_at, &block)?;
        }
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK);
        self.write(at, whole)?;
        self.open = rest.to_vec();
        self.open_at = at + whole.len() as u64;
        Ok(())
    }

    /// Writes the open block, completed by what is there: what follows is in its place.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        let mut block = std::mem::take(&mut self.open);
        if block.is_empty() {
            return Ok(());
        }
        let at = self.open_at + block.len() as u64;
        let missing = self.size.saturating_sub(at).min((BLOCK - block.len()) as u64) as usize;
        let kept = block.len();
        block.resize(kept + missing, 0);
        read_exactly(self.target, at, &mut block[kept..])?;
        self.write(self.open_at, &block)
    }

    /// Writes what differs of whole blocks, or of the last one of the image.
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let differs: Vec<bool> = match self.old(at, bytes.len()) {
            Some(old) => bytes.chunks(BLOCK).zip(old.chunks(BLOCK)).map(|(new, old)| new != old).collect(),
            None => vec![true; bytes.len().div_ceil(BLOCK)],
        };
        let mut block = 0;
        while block < differs.len() {
            let run = differs[block..].iter().take_while(|run| **run == differs[block]).count();
            if differs[block] {
                let (from, until) = (block * BLOCK, bytes.len().min((block + run) * BLOCK));
                self.change(at + from as u64, &bytes[from..until])?;
            }
            block += run;
        }
        Ok(())
    }

    fn change(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.written += bytes.len() as u64;
        self.is_flushed = false;
        put(self.target, at, bytes).map_err(failure("writing", at))
    }

    /// Makes everything that was put so far durable, but for a block that is not complete.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if self.is_flushed { Ok(()) } else { self.sync() }
    }

    /// Makes everything durable; nothing will be put any more.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.close()?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.target.flush().map_err(failure("flushing", self.open_at))?;
        self.is_flushed = true;
        Ok(())
    }
}
