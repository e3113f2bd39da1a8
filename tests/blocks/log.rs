//! What reached the disks, and what of it a power cut leaves.
//!
//! A disk may keep what it was given in its cache until it is flushed. So when the power goes there is all that was written
//! before the last flush that had come to its end, and any part of what came after it, in units that a disk writes whole:
//! sectors of 512 or 4096 bytes. Each disk has a cache of its own. What a disk was told to forget is either forgotten or not.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::ops::Range;

use super::dice::Dice;

/// Bytes of an entry's head (`struct entry` in `disks.c`).
const HEAD: usize = 24;

/// What was done to a disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// Where its bytes lie in the log.
    Write(Range<usize>),
    Zero,
    Flush,
}

/// One thing that was done to a disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Op {
    pub(super) disk: usize,
    pub(super) what: What,
    offset: usize,
    len: usize,
    /// Where it begins in the log.
    begin: u64,
}

/// All of it, in its order.
#[derive(Debug, Default)]
pub(super) struct Log {
    bytes: Vec<u8>,
    pub(super) ops: Vec<Op>,
}

impl Log {
    /// Reads what `disks.c` has written.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let (mut at, mut ops) = (0, Vec::new());
        while at < bytes.len() {
            let head = bytes.get(at..at + HEAD).ok_or("the log ends in a head")?;
            let number = |at: usize| {
                head[at..at + 8].iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
            };
            let (offset, len, begin) = (number(8), number(16), at as u64);
            at += HEAD;
            let what = match head[0] {
                b'W' => {
                    at += len;
                    What::Write(at - len..at)
                }
                b'Z' => What::Zero,
                b'F' => What::Flush,
                other => return Err(format!("the log has an entry {other}")),
            };
            ops.push(Op { disk: head[1].into(), what, offset, len, begin });
        }
        if at > bytes.len() { Err("the log ends in a write".into()) } else { Ok(Self { bytes, ops }) }
    }

    /// How many ops come before a position of the log in bytes.
    pub(super) fn count(&self, position: u64) -> usize {
        self.ops.partition_point(|op| op.begin < position)
    }

    /// The parts of an op as a disk writes them: its own bytes in each sector of `unit` bytes.
    fn pieces(&self, op: &Op, unit: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (begin, end) = (op.offset, op.offset + op.len);
        let first = begin / unit;
        (first..end.div_ceil(unit))
            .map(move |sector| (begin.max(sector * unit), end.min((sector + 1) * unit)))
    }

    fn apply(&self, op: &Op, (from, to): (usize, usize), image: &mut [u8]) {
        match &op.what {
            What::Write(bytes) => {
                let bytes = &self.bytes[bytes.start + from - op.offset..bytes.start + to - op.offset];
                image[from..to].copy_from_slice(bytes);
            }
            What::Zero => image[from..to].fill(0),
            What::Flush => {}
        }
    }
}

/// A moment at which the power goes, and what is left of what was not flushed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cut {
    /// After so many ops.
    pub(super) at: usize,
    /// Bytes that a disk writes whole.
    pub(super) unit: usize,
    /// What is left, by dice.
    pub(super) seed: u64,
}

/// What the disks hold after a cut.
#[derive(Debug)]
pub(super) struct State {
    pub(super) images: Vec<Vec<u8>>,
    /// What was not flushed, and how much of it is there, for people.
    pub(super) story: Vec<String>,
}

/// A part of an op: the op's place in the log, and from where to where.
type Piece = (usize, (usize, usize));

/// What a disk does when it is told to flush.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flushes {
    Done,
    /// It says that it has.
    Claimed,
}

/// Goes through a log from its beginning on, and knows what is durable.
#[derive(Debug)]
pub(super) struct Player<'a> {
    log: &'a Log,
    flushes: Flushes,
    durable: Vec<Vec<u8>>,
    /// By disk: what came after its last flush.
    pending: Vec<Vec<usize>>,
    at: usize,
}

impl<'a> Player<'a> {
    /// With what the disks held before the log begins.
    pub(super) fn new(log: &'a Log, before: &[Vec<u8>], flushes: Flushes) -> Self {
        let pending = vec![Vec::new(); before.len()];
        Self { log, flushes, durable: before.to_vec(), pending, at: 0 }
    }

    /// Goes on until so many ops are done; never back.
    pub(super) fn go(&mut self, at: usize) {
        for index in self.at..at {
            let op = &self.log.ops[index];
            if op.what != What::Flush {
                self.pending[op.disk].push(index);
                continue;
            }
            if self.flushes == Flushes::Claimed {
                continue;
            }
            for index in std::mem::take(&mut self.pending[op.disk]) {
                let op = &self.log.ops[index];
                self.log.apply(op, (op.offset, op.offset + op.len), &mut self.durable[op.disk]);
            }
        }
        self.at = self.at.max(at);
    }

    /// What was not flushed at this moment, in the order in which it came, and whether it is there all the same.
    fn pieces(&self, cut: &Cut) -> Vec<(Piece, bool)> {
        let mut pending: Vec<_> = self.pending.iter().flatten().copied().collect();
        pending.sort_unstable();
        let of = |op: &usize| {
            let op = *op;
            self.log.pieces(&self.log.ops[op], cut.unit).map(move |piece| (op, piece))
        };
        let pieces: Vec<Piece> = pending.iter().flat_map(of).collect();
        let kept = kept(&pieces, &pending, &mut Dice::new(cut.seed));
        pieces.into_iter().zip(kept).collect()
    }

    /// A number that is the same for what is the same.
    pub(super) fn print(&self, cut: &Cut) -> u64 {
        let mut hash = DefaultHasher::new();
        self.at_last_flush().hash(&mut hash);
        for (piece, _) in self.pieces(cut).iter().filter(|(_, is_kept)| *is_kept) {
            piece.hash(&mut hash);
        }
        hash.finish()
    }

    /// What a cut at this moment leaves.
    pub(super) fn cut(&self, cut: &Cut) -> State {
        let (mut images, mut counts) = (self.durable.clone(), BTreeMap::<usize, (usize, usize)>::new());
        for ((index, piece), is_kept) in self.pieces(cut) {
            let (op, count) = (&self.log.ops[index], counts.entry(index).or_default());
            count.1 += 1;
            if is_kept {
                self.log.apply(op, piece, &mut images[op.disk]);
                count.0 += 1;
            }
        }
        let tell = |(index, (there, all)): (usize, (usize, usize))| {
            let op = &self.log.ops[index];
            let what = if op.what == What::Zero { "zeros" } else { "bytes" };
            let Op { disk, offset, len, .. } = op;
            format!("{index}: {len} {what} at {offset:#x} of disk {disk}: {there} of {all} are there")
        };
        State { images, story: counts.into_iter().map(tell).collect() }
    }

    /// What is durable, by the flushes it took.
    fn at_last_flush(&self) -> Vec<Option<usize>> {
        let last = |disk| {
            let is_flush =
                |op: &Op| self.flushes == Flushes::Done && op.disk == disk && op.what == What::Flush;
            self.log.ops[..self.at].iter().rposition(is_flush)
        };
        (0..self.durable.len()).map(last).collect()
    }
}

/// Which of the pieces are there: nothing; all up to one of them, as if in order; some pieces; some ops; all but one;
/// or one alone.
fn kept(pieces: &[Piece], ops: &[usize], dice: &mut Dice) -> Vec<bool> {
    let one_op = ops.get(dice.below(ops.len()));
    let one_piece = dice.below(pieces.len());
    let is_whole = dice.one_in(2);
    let some: BTreeSet<_> = ops.iter().filter(|_| dice.one_in(2)).collect();
    let how = dice.below(6);
    let mut is_kept = |(at, (op, _)): (usize, &Piece)| {
        let is_it = if is_whole { Some(op) == one_op } else { at == one_piece };
        match how {
            0 => false,
            1 => at < one_piece,
            2 => dice.one_in(2),
            3 => some.contains(op),
            4 => !is_it,
            _ => is_it,
        }
    };
    pieces.iter().enumerate().map(&mut is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 8192;

    fn entry(what: u8, disk: u8, offset: usize, len: usize, byte: u8) -> Vec<u8> {
        let mut bytes = vec![what, disk, 0, 0, 0, 0, 0, 0];
        bytes.extend([offset as u64, len as u64].map(u64::to_le_bytes).concat());
        bytes.extend(if what == b'W' { vec![byte; len] } else { Vec::new() });
        bytes
    }

    fn log(entries: &[Vec<u8>]) -> Log {
        Log::parse(entries.concat()).expect("it is one")
    }

    fn states(log: &Log, at: usize, unit: usize) -> Vec<Vec<Vec<u8>>> {
        let mut player = Player::new(log, &[vec![0; SIZE], vec![0; SIZE]], Flushes::Done);
        player.go(at);
        (0..400).map(|seed| player.cut(&Cut { at, unit, seed }).images).collect()
    }

    #[test]
    fn what_was_flushed_is_there_and_a_flush_is_for_its_own_disk_alone() {
        let log = log(&[
            entry(b'W', 0, 0, 512, 1),
            entry(b'W', 1, 0, 512, 2),
            entry(b'F', 0, 0, 0, 0),
            entry(b'W', 0, 512, 512, 3),
        ]);
        let states = states(&log, 4, 512);
        assert!(states.iter().all(|state| state[0][..512] == [1; 512]));
        for byte in [(1, 0), (0, 512)] {
            let there = states.iter().filter(|state| state[byte.0][byte.1] != 0).count();
            assert!((1..states.len()).contains(&there), "{byte:?} is there {there} times");
        }
        // The later one without the one before it.
        assert!(states.iter().any(|state| state[1][0] == 0 && state[0][512] == 3));
    }

    #[test]
    fn writes_are_torn_between_sectors_and_never_within_one() {
        let log = log(&[entry(b'W', 0, 1024, 6144, 1)]);
        for (unit, first) in [(512, 1536), (4096, 4096)] {
            let states = states(&log, 1, unit);
            let is_torn = |state: &&Vec<Vec<u8>>| state[0][first - 1] != state[0][first];
            assert!(states.iter().any(|state| is_torn(&state)), "{unit}");
            for state in &states {
                for sector in state[0].chunks(unit) {
                    let written: Vec<_> = sector.iter().filter(|byte| **byte == 1).collect();
                    assert!([0, 1024, 3072, unit].contains(&written.len()), "{unit}: {}", written.len());
                }
            }
        }
    }

    #[test]
    fn of_two_writes_to_a_sector_the_older_one_may_be_left_and_zeros_are_writes() {
        let log = log(&[entry(b'W', 0, 0, 512, 1), entry(b'Z', 0, 0, 512, 0), entry(b'W', 0, 0, 512, 2)]);
        let found: BTreeSet<u8> = states(&log, 3, 512).iter().map(|state| state[0][0]).collect();
        assert_eq!(found, BTreeSet::from([0, 1, 2]));
        let until_zeros: BTreeSet<u8> = states(&log, 2, 512).iter().map(|state| state[0][0]).collect();
        assert_eq!(until_zeros, BTreeSet::from([0, 1]));
    }

    #[test]
    fn the_same_seed_leaves_the_same_and_a_log_that_is_cut_short_is_none() {
        let entries = [entry(b'W', 0, 0, 4096, 1), entry(b'W', 1, 512, 2048, 2)];
        let log = log(&entries);
        assert_eq!(states(&log, 2, 512), states(&log, 2, 512));
        assert_eq!(log.count(0), 0);
        assert_eq!(log.count(entries[0].len() as u64), 1);
        let all = entries.concat();
        assert!(Log::parse(all[..all.len() - 1].to_vec()).is_err());
        assert!(Log::parse(all[..10].to_vec()).is_err());
    }
}
