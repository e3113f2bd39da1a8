//! The target slot, open for writing: exclusively, and only after everything that could be lost was looked for.
//!
//! Writes bypass the page cache where the device allows it, and reading back always does. A page cache makes a
//! liar of any check: after one failed flush the kernel marks the pages clean, the next flush says "fine", and a
//! normal read shows the new bytes while the device holds the old.
//!
//! Several partitions are one device to whoever writes: a flush is one only when all of them are flushed, and nothing is
//! told of where one ends and the next begins.

use std::cell::RefCell;
use std::io;
use std::path::Path;

use crate::model::{Slot, TargetSlot};

use super::part::{Bounce, Part};
use super::{Error, Found, SlotMap};

/// A slot that is being written. Its devices stay exclusively ours until this is dropped: nobody can mount them.
#[derive(Debug)]
pub struct TargetDevice {
    slot: Slot,
    /// With the offset at which each begins; never none.
    parts: Vec<(u64, Part)>,
    size: u64,
    bounce: RefCell<Bounce>,
}

impl TargetDevice {
    /// Opens the slot for writing.
    ///
    /// # Errors
    /// If a device is missing, not a block device, one of the booted slot's by another name, mounted, held by another
    /// driver or process, read-only, cannot be opened, or does not fit to its like in the booted slot.
    pub fn open(map: &SlotMap, target: TargetSlot, booted: Slot) -> Result<Self, Error> {
        let slot = target.slot();
        let found = map.find_all(slot)?;
        // The proof in `target` is about names. Names can be configured wrongly, devices cannot.
        let theirs = map.find_all(booted)?;
        let is_theirs = |found: &&Found| theirs.iter().any(|their| their.identity == found.identity);
        if let Some(same) = found.iter().find(is_theirs) {
            return Err(Error::SameDevice { path: same.path.clone() });
        }
        map.refuse_shared()?;
        map.compare_sizes()?;
        let (mut parts, mut size) = (Vec::new(), 0);
        for found in found {
            let part = Part::open(slot, found)?;
            let begin = size;
            size += part.size;
            parts.push((begin, part));
        }
        Ok(Self { slot, parts, size, bounce: RefCell::new(Bounce::new()) })
    }

    /// Which slot it is.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The device of its root file system, links followed.
    pub fn path(&self) -> &Path {
        self.parts.last().map_or(Path::new(""), |(_, part)| &part.path)
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The sizes of its partitions in bytes, in order.
    pub fn parts(&self) -> Vec<u64> {
        self.parts.iter().map(|(_, part)| part.size).collect()
    }

    /// Where its root file system begins: an image that ends here or before has none.
    pub fn root_begins(&self) -> u64 {
        self.parts.last().map_or(0, |(begin, _)| *begin)
    }

    /// Writes all of `data` at `offset`. Not durable before [`TargetDevice::flush`].
    ///
    /// # Errors
    /// Whatever the device says; what was written by then is unknown.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let bounce = self.bounce.get_mut();
        let mut rest = data;
        for (part, at, len) in pieces(&self.parts, offset, data.len() as u64) {
            // No longer than `data`, so it fits.
            let (piece, after) = rest.split_at(len as usize);
            self.parts[part].1.write_at(at, piece, bounce)?;
            rest = after;
        }
        Ok(())
    }

    /// Makes `len` bytes at `offset` read as zeros, by telling the device to forget them where it can, and else by writing
    /// them.
    ///
    /// # Errors
    /// Whatever the device says; what is zero by then is unknown.
    pub fn zero(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let bounce = self.bounce.get_mut();
        for (part, at, len) in pieces(&self.parts, offset, len) {
            self.parts[part].1.zero(at, len, bounce)?;
        }
        Ok(())
    }

    /// From now on zeros are written, and the device is not asked to forget ranges: what was read back was not what had
    /// been written, and a device that says that it forgot and did not would do the same again.
    pub fn write_zeros(&mut self) {
        for (_, part) in &mut self.parts {
            part.write_zeros();
        }
    }

    /// Makes everything written so far durable (`fdatasync`, which also empties the device's own cache).
    ///
    /// # Errors
    /// Then everything since the last flush must be written again: another flush would say "fine" and be wrong.
    pub fn flush(&mut self) -> io::Result<()> {
        self.parts.iter().try_for_each(|(_, part)| part.flush())
    }

    /// From now on this partition cannot be flushed.
    #[cfg(test)]
    pub(super) fn break_flush(&mut self, part: usize) -> io::Result<()> {
        self.parts[part].1.break_flush()
    }

    /// Reads from the device itself, not from memory. Returns how many bytes: fewer only at the end.
    ///
    /// # Errors
    /// Whatever the device says.
    pub fn read_back(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bounce = self.bounce.borrow_mut();
        let mut done = 0;
        for (part, at, len) in pieces(&self.parts, offset, buffer.len() as u64) {
            let piece = &mut buffer[done..done + len as usize];
            let count = self.parts[part].1.read_back(at, piece, &mut bounce)?;
            done += count;
            if count < len as usize {
                break;
            }
        }
        Ok(done)
    }
}

/// Which piece of `len` bytes at `offset` lies in which part: its index, and offset and length there. What lies beyond the
/// end is the last one's to refuse.
fn pieces(parts: &[(u64, Part)], offset: u64, len: u64) -> Vec<(usize, u64, u64)> {
    let last = parts.len().saturating_sub(1);
    let piece = |(index, (begin, part)): (usize, &(u64, Part))| {
        let end = if index == last { u64::MAX } else { begin + part.size };
        let (from, to) = (offset.max(*begin), offset.saturating_add(len).min(end));
        (from < to).then(|| (index, from - begin, to - from))
    };
    parts.iter().enumerate().filter_map(piece).collect()
}
