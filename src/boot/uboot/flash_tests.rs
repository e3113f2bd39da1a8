//! Tests on simulated flash: bits only clear, blocks are bad or locked, pages are written once.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

const BLOCK: u64 = 0x1000;

struct Chip {
    geometry: Geometry,
    bytes: Vec<u8>,
    bad: BTreeSet<u64>,
    locked: BTreeSet<u64>,
    knows_locks: bool,
    written_pages: BTreeSet<u64>,
    erased: Vec<u64>,
}

impl Chip {
    fn new(kind: FlashKind) -> Self {
        let write_size = if kind == FlashKind::Nor { 1 } else { 512 };
        let geometry = Geometry { kind, size: 8 * BLOCK, erase_size: BLOCK, write_size };
        Self {
            geometry,
            // As it comes from a busy life: nothing is erased.
            bytes: vec![0x5a; to_usize(geometry.size).unwrap()],
            bad: BTreeSet::new(),
            locked: BTreeSet::new(),
            knows_locks: true,
            written_pages: (0..geometry.size / write_size).collect(),
            erased: Vec::new(),
        }
    }

    fn check(&self, start: u64) -> io::Result<()> {
        let block = start / BLOCK * BLOCK;
        let is_out = self.bad.contains(&block) || self.locked.contains(&block);
        if is_out { Err(io::Error::other("bad or locked")) } else { Ok(()) }
    }
}

impl Flash for Chip {
    fn geometry(&mut self) -> io::Result<Geometry> {
        Ok(self.geometry)
    }

    fn is_bad(&mut self, start: u64) -> io::Result<bool> {
        assert_eq!(self.geometry.kind, FlashKind::Nand, "others have no such call");
        Ok(self.bad.contains(&start))
    }

    fn is_locked(&mut self, start: u64, len: u64) -> io::Result<bool> {
        assert_eq!(len, BLOCK);
        if self.knows_locks { Ok(self.locked.contains(&start)) } else { Err(io::Error::other("no locks")) }
    }

    fn set_locked(&mut self, start: u64, _len: u64, locked: bool) -> io::Result<()> {
        if locked {
            self.locked.insert(start)
        } else {
            self.locked.remove(&start)
        };
        if self.knows_locks { Ok(()) } else { Err(io::Error::other("no locks")) }
    }

    fn erase(&mut self, start: u64, len: u64) -> io::Result<()> {
        assert_eq!((start % BLOCK, len % BLOCK), (0, 0));
        self.check(start)?;
        self.erased.push(start);
        let (start_page, end_page) =
            (start / self.geometry.write_size, (start + len) / self.geometry.write_size);
        self.written_pages.retain(|page| *page < start_page || *page >= end_page);
        self.bytes[to_usize(start)?..to_usize(start + len)?].fill(0xff);
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8], start: u64) -> io::Result<()> {
        let start = to_usize(start)?;
        bytes.copy_from_slice(&self.bytes[start..start + bytes.len()]);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], start: u64) -> io::Result<()> {
        self.check(start)?;
        let page = self.geometry.write_size;
        assert_eq!((start % page, bytes.len() as u64 % page), (0, 0), "whole pages");
        if self.geometry.kind == FlashKind::DataFlash {
            self.bytes[to_usize(start)?..][..bytes.len()].copy_from_slice(bytes);
            return Ok(());
        }
        for page in start / page..(start + bytes.len() as u64) / page {
            let is_first = self.written_pages.insert(page);
            assert!(is_first || self.geometry.kind == FlashKind::Nor, "page {page} is written twice");
        }
        for (index, byte) in bytes.iter().enumerate() {
            self.bytes[to_usize(start)? + index] &= byte;
        }
        Ok(())
    }
}

fn place(offset: i64, size: u64, erase_blocks: Option<u64>) -> Place {
    let (named_by, path) = ("f:1".to_owned(), "/dev/mtd0".into());
    Place { named_by, path, offset, size, erase_size: None, erase_blocks, handle_locks: true }
}

fn image(len: u64) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

#[test]
fn written_is_read_on_every_kind() {
    for kind in [FlashKind::Nor, FlashKind::Nand, FlashKind::DataFlash] {
        for (size, blocks) in [(BLOCK, 1), (BLOCK / 2, 1), (3 * BLOCK, 3), (BLOCK + 1, 2)] {
            let mut chip = Chip::new(kind);
            let place = place(2 * BLOCK as i64, size, None);
            for round in 0..2 {
                let image: Vec<u8> = image(size).iter().map(|byte| byte.wrapping_add(round)).collect();
                write(&mut chip, &place, &image).unwrap();
                assert_eq!(read(&mut chip, &place).unwrap(), image, "{kind:?} {size}");
            }
            let erased = if kind == FlashKind::DataFlash { 0 } else { 2 * blocks };
            assert_eq!(chip.erased.len(), erased, "{kind:?} {size}");
        }
    }
}

#[test]
fn what_lies_behind_in_the_block_is_kept() {
    for kind in [FlashKind::Nor, FlashKind::Nand, FlashKind::DataFlash] {
        let mut chip = Chip::new(kind);
        write(&mut chip, &place(0, BLOCK + 700, None), &image(BLOCK + 700)).unwrap();
        assert!(chip.bytes[to_usize(BLOCK + 700).unwrap()..].iter().all(|byte| *byte == 0x5a), "{kind:?}");
    }
}

#[test]
fn erased_pages_of_nand_stay_unwritten() {
    let mut chip = Chip::new(FlashKind::Nand);
    chip.bytes.fill(0xff);
    write(&mut chip, &place(0, 600, None), &image(600)).unwrap();
    let in_first_block = chip.written_pages.range(..BLOCK / 512).count();
    assert_eq!(in_first_block, 2, "600 bytes are two pages");
}

#[test]
fn bad_blocks_are_skipped_within_the_grant() {
    let mut chip = Chip::new(FlashKind::Nand);
    chip.bad = [BLOCK, 3 * BLOCK].into();
    let generous = place(BLOCK as i64, 2 * BLOCK, Some(4));
    write(&mut chip, &generous, &image(2 * BLOCK)).unwrap();
    assert_eq!(read(&mut chip, &generous).unwrap(), image(2 * BLOCK));
    assert_eq!(chip.erased, [2 * BLOCK, 4 * BLOCK]);
    for granted in [None, Some(3)] {
        let error =
            write(&mut chip, &place(BLOCK as i64, 2 * BLOCK, granted), &image(2 * BLOCK)).unwrap_err();
        assert_eq!(error.to_string(), "1 good erase blocks, 2 are needed");
    }
    assert_eq!(chip.erased.len(), 2, "nothing beyond the grant is touched");
}

#[test]
fn locks_are_lifted_and_restored() {
    let mut chip = Chip::new(FlashKind::Nor);
    chip.locked = [0, BLOCK].into();
    write(&mut chip, &place(0, 2 * BLOCK, None), &image(2 * BLOCK)).unwrap();
    assert_eq!(chip.locked, [0, BLOCK].into());
    clear_flag(&mut chip, &place(0, BLOCK, None)).unwrap();
    assert_eq!(chip.locked, [0, BLOCK].into());
    // Locked again even after an error.
    chip.bad = [0].into();
    write(&mut chip, &place(0, BLOCK, None), &image(BLOCK)).unwrap_err();
    assert_eq!(chip.locked, [0, BLOCK].into());
    // And left alone where the configuration says so.
    chip.bad.clear();
    let left_alone = Place { handle_locks: false, ..place(0, BLOCK, None) };
    write(&mut chip, &left_alone, &image(BLOCK)).unwrap_err();
}

#[test]
fn flash_that_cannot_tell_is_unlocked_on_suspicion() {
    let mut chip = Chip::new(FlashKind::Nor);
    (chip.knows_locks, chip.locked) = (false, [0].into());
    write(&mut chip, &place(0, BLOCK, None), &image(BLOCK)).unwrap();
    assert_eq!(read(&mut chip, &place(0, BLOCK, None)).unwrap(), image(BLOCK));
}

#[test]
fn the_flag_is_cleared_without_erasing() {
    let mut chip = Chip::new(FlashKind::Nor);
    let mut copy = image(BLOCK);
    copy[4] = 1;
    let place = place(BLOCK as i64, BLOCK, None);
    write(&mut chip, &place, &copy).unwrap();
    clear_flag(&mut chip, &place).unwrap();
    copy[4] = 0;
    assert_eq!(read(&mut chip, &place).unwrap(), copy);
    assert_eq!(chip.erased.len(), 1);
}

#[test]
fn negative_offsets_count_from_the_end() {
    let mut chip = Chip::new(FlashKind::Nor);
    write(&mut chip, &place(-2 * BLOCK as i64, BLOCK, None), &image(BLOCK)).unwrap();
    assert_eq!(chip.erased, [6 * BLOCK]);
}

#[test]
fn what_does_not_fit_the_blocks_is_refused() {
    let mut chip = Chip::new(FlashKind::Nor);
    let mut error = |place: &Place| write(&mut chip, place, &image(place.size)).unwrap_err().to_string();
    let wanted = "the offset is not at the start of an erase block";
    assert_eq!(error(&place(0x200, BLOCK, None)), wanted);
    assert_eq!(error(&place(-9 * BLOCK as i64, BLOCK, None)), wanted);
    assert_eq!(error(&place(7 * BLOCK as i64, 2 * BLOCK, None)), "1 good erase blocks, 2 are needed");
    let odd = Place { erase_size: Some(BLOCK + 1), ..place(0, BLOCK, None) };
    assert_eq!(error(&odd), "the erase size 0x1001 is no multiple of 0x1000");
    assert!(chip.erased.is_empty());
}

#[test]
fn schemes_are_those_of_u_boots_tool() {
    let scheme = |kind| scheme(&mut Chip::new(kind)).unwrap();
    assert_eq!(scheme(FlashKind::Nor), Scheme::Boolean);
    assert_eq!(scheme(FlashKind::DataFlash), Scheme::Boolean);
    assert_eq!(scheme(FlashKind::Nand), Scheme::Incremental);
}
