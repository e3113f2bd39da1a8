//! A copy on raw flash: erase blocks, bad blocks, locks, and a flag that is cleared in place.
//!
//! Not here: the system calls (`mtd`). Called by `device`. Works on the [`Flash`] trait, so that tests can put
//! simulated flash under it, whose bits only clear until a block is erased.
//!
//! A copy starts at an erase block and may use as many as the configuration grants it. On NAND, bad ones among them
//! are skipped, as U-Boot does. What else lies in the last block is written back: others may keep data behind the
//! environment.

use std::io;

use super::config::Place;
use super::env::Scheme;

/// What the kernel says of the device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Geometry {
    pub(super) kind: FlashKind,
    /// Bytes of the whole device.
    pub(super) size: u64,
    /// Bytes that are erased at once.
    pub(super) erase_size: u64,
    /// Bytes that are written at once (1 on NOR, a page on NAND).
    pub(super) write_size: u64,
}

/// The kinds that U-Boot keeps environments on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FlashKind {
    Nor,
    Nand,
    DataFlash,
}

/// One MTD device.
pub(super) trait Flash {
    fn geometry(&mut self) -> io::Result<Geometry>;
    /// Whether the NAND block at `start` is marked bad.
    fn is_bad(&mut self, start: u64) -> io::Result<bool>;
    /// Whether the range is locked; an error where the device knows no locks.
    fn is_locked(&mut self, start: u64, len: u64) -> io::Result<bool>;
    fn set_locked(&mut self, start: u64, len: u64, locked: bool) -> io::Result<()>;
    /// Sets all bits of the range.
    fn erase(&mut self, start: u64, len: u64) -> io::Result<()>;
    fn read(&mut self, bytes: &mut [u8], start: u64) -> io::Result<()>;
    /// Clears bits; never sets one.
    fn write(&mut self, bytes: &[u8], start: u64) -> io::Result<()>;
}

/// Which meaning the flag byte has on this flash: as in U-Boot's `tools/env/fw_env.c`.
pub(super) fn scheme(flash: &mut dyn Flash) -> io::Result<Scheme> {
    Ok(match flash.geometry()?.kind {
        FlashKind::Nor | FlashKind::DataFlash => Scheme::Boolean,
        FlashKind::Nand => Scheme::Incremental,
    })
}

/// Reads a whole copy.
pub(super) fn read(flash: &mut dyn Flash, place: &Place) -> io::Result<Vec<u8>> {
    let (starts, block) = blocks(flash, place)?;
    let mut image = vec![0; to_usize(place.size)?];
    for (chunk, start) in image.chunks_mut(block).zip(starts) {
        flash.read(chunk, start)?;
    }
    Ok(image)
}

/// Erases and writes a whole copy.
pub(super) fn write(flash: &mut dyn Flash, place: &Place, image: &[u8]) -> io::Result<()> {
    let geometry = flash.geometry()?;
    let (starts, block) = blocks(flash, place)?;
    for (chunk, start) in image.chunks(block).zip(starts) {
        let mut content = vec![0; block];
        if chunk.len() < block {
            flash.read(&mut content, start)?;
        }
        content[..chunk.len()].copy_from_slice(chunk);
        // Erased pages stay unwritten: on NAND a page may be written once, and 0xff counts as writing.
        let page = to_usize(geometry.write_size)?.max(1);
        let used = content.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
        content.truncate(used.next_multiple_of(page).min(block));
        unlocked(flash, place, start, block as u64, |flash| {
            // DataFlash erases by itself, page by page, as it is written.
            if geometry.kind != FlashKind::DataFlash {
                flash.erase(start, block as u64)?;
            }
            flash.write(&content, start)
        })?;
    }
    Ok(())
}

/// Marks a copy obsolete by clearing its flag byte, without erasing anything.
pub(super) fn clear_flag(flash: &mut dyn Flash, place: &Place) -> io::Result<()> {
    let (starts, block) = blocks(flash, place)?;
    let start = starts.first().copied().unwrap_or_default();
    unlocked(flash, place, start, block as u64, |flash| flash.write(&[0], start + 4))
}

/// Lifts the lock of a range if there is one, and restores it whatever happens in between. A device that cannot tell
/// is unlocked on suspicion, as libubootenv does: some flash wakes up locked.
fn unlocked(
    flash: &mut dyn Flash,
    place: &Place,
    start: u64,
    len: u64,
    act: impl FnOnce(&mut dyn Flash) -> io::Result<()>,
) -> io::Result<()> {
    if !place.handle_locks {
        return act(flash);
    }
    match flash.is_locked(start, len) {
        Ok(false) => act(flash),
        Ok(true) => {
            flash.set_locked(start, len, false)?;
            let outcome = act(flash);
            outcome.and(flash.set_locked(start, len, true))
        }
        Err(_) => {
            // Most devices have no locks, and say so here once more.
            let _ = flash.set_locked(start, len, false);
            act(flash)
        }
    }
}

/// The good blocks that hold a copy, as many as it needs, and their length.
fn blocks(flash: &mut dyn Flash, place: &Place) -> io::Result<(Vec<u64>, usize)> {
    let geometry = flash.geometry()?;
    let block = place.erase_size.unwrap_or(geometry.erase_size);
    if geometry.erase_size == 0 || block == 0 || !block.is_multiple_of(geometry.erase_size) {
        let problem = format!("the erase size {block:#x} is no multiple of {:#x}", geometry.erase_size);
        return Err(io::Error::other(problem));
    }
    let first = match u64::try_from(place.offset) {
        Ok(offset) => Some(offset),
        Err(_) => geometry.size.checked_add_signed(place.offset),
    };
    let first = first.filter(|first| first % block == 0);
    let first = first.ok_or_else(|| io::Error::other("the offset is not at the start of an erase block"))?;
    let needed = place.size.div_ceil(block);
    let granted = place.erase_blocks.unwrap_or(needed);
    let mut good = Vec::new();
    for index in 0..granted {
        let start = first + index * block;
        if good.len() as u64 == needed || start + block > geometry.size {
            break;
        }
        if geometry.kind != FlashKind::Nand || !flash.is_bad(start)? {
            good.push(start);
        }
    }
    if (good.len() as u64) < needed {
        let problem = format!("{} good erase blocks, {needed} are needed", good.len());
        return Err(io::Error::other(problem));
    }
    Ok((good, to_usize(block)?))
}

fn to_usize(number: u64) -> io::Result<usize> {
    usize::try_from(number).map_err(io::Error::other)
}

#[cfg(test)]
#[path = "flash_tests.rs"]
mod tests;
