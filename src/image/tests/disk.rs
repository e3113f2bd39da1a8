//! A slot in memory that can lose, refuse and spoil.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::Target;

/// What an operation of the disk should do instead of what it is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// Fail, and lose everything since the last flush, as a kernel does that drops dirty pages.
    LoseAll,
    /// The process dies here.
    Die,
    /// Pretend, and do nothing.
    Lie,
}

/// A slot; clones are the same one, so that a test can look at it while it is being written.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

struct Inner {
    durable: Vec<u8>,
    /// The partitions that it is made of.
    parts: Vec<u64>,
    /// Accepted, in order, and not yet durable.
    pending: VecDeque<(usize, Vec<u8>)>,
    /// Faults by the number of the operation.
    faults: Vec<(u64, Fault)>,
    /// Faults by the number of the flush.
    flush_faults: Vec<(u64, Fault)>,
    operations: u64,
    flushes: u64,
    /// So many of the next readings are wrong.
    misread: u32,
    /// How long each flush takes.
    slowness: Duration,
    /// Bytes that were changed, and those of them that were made zeros.
    written: u64,
    zeroed: u64,
}

impl Disk {
    /// Full of old bytes.
    pub(super) fn new(size: u64) -> Self {
        Self::of_parts(&[size])
    }

    pub(super) fn of_parts(parts: &[u64]) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            durable: vec![0xdb; parts.iter().sum::<u64>() as usize],
            parts: parts.to_vec(),
            pending: VecDeque::new(),
            faults: Vec::new(),
            flush_faults: Vec::new(),
            operations: 0,
            flushes: 0,
            misread: 0,
            slowness: Duration::ZERO,
            written: 0,
            zeroed: 0,
        })))
    }

    pub(super) fn fault(&self, operation: u64, fault: Fault) {
        self.0.lock().unwrap().faults.push((operation, fault));
    }

    pub(super) fn flush_fault(&self, flush: u64, fault: Fault) {
        self.0.lock().unwrap().flush_faults.push((flush, fault));
    }

    /// From now on each flush takes so long.
    pub(super) fn flushes_take(&self, time: Duration) {
        self.0.lock().unwrap().slowness = time;
    }

    /// How many operations changed something.
    pub(super) fn operations(&self) -> u64 {
        self.0.lock().unwrap().operations
    }

    /// How many bytes were written or made zeros.
    pub(super) fn written(&self) -> u64 {
        self.0.lock().unwrap().written
    }

    /// How many bytes were made zeros by the device.
    pub(super) fn zeroed(&self) -> u64 {
        self.0.lock().unwrap().zeroed
    }

    pub(super) fn durable(&self) -> Vec<u8> {
        self.0.lock().unwrap().durable.clone()
    }

    /// The power is cut: of what was not flushed, some happens to be there and some is not.
    pub(super) fn power_cut(&self, seed: u64) {
        let mut inner = self.0.lock().unwrap_or_else(|poisoned| {
            self.0.clear_poison();
            poisoned.into_inner()
        });
        inner.faults.clear();
        inner.flush_faults.clear();
        for (index, (offset, bytes)) in std::mem::take(&mut inner.pending).into_iter().enumerate() {
            let dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(index as u32 % 64);
            // Torn at a sector.
            let kept = [0, bytes.len() / 2 / 512 * 512, bytes.len()][(dice % 3) as usize];
            inner.durable[offset..offset + kept].copy_from_slice(&bytes[..kept]);
        }
    }

    /// What it holds becomes something else.
    pub(super) fn fill(&self, bytes: &[u8]) {
        self.0.lock().unwrap().durable[..bytes.len()].copy_from_slice(bytes);
    }

    /// The next readings, so many of them, give other bytes than there are.
    pub(super) fn misread(&self, times: u32) {
        self.0.lock().unwrap().misread = times;
    }

    pub(super) fn spoil(&self, offset: usize) {
        self.0.lock().unwrap().durable[offset] ^= 1;
    }

    pub(super) fn open(&self) -> Handle {
        Handle(self.clone())
    }
}

/// The slot, open.
pub(super) struct Handle(Disk);

impl Inner {
    /// Whether to go on with an operation. Panics in place of dying.
    fn act(&mut self, fault: Option<Fault>) -> io::Result<bool> {
        match fault {
            None => Ok(true),
            Some(Fault::Lie) => Ok(false),
            Some(Fault::LoseAll) => {
                self.pending.clear();
                Err(io::Error::from_raw_os_error(5))
            }
            // Unwinds without a word: this one is wanted.
            Some(Fault::Die) => std::panic::resume_unwind(Box::new("killed")),
        }
    }

    fn change(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        self.written += bytes.len() as u64;
        assert!(offset as usize + bytes.len() <= self.durable.len(), "beyond the end");
        let fault = self.faults.iter().find(|fault| fault.0 == number).map(|fault| fault.1);
        if self.act(fault)? {
            self.pending.push_back((offset as usize, bytes));
        }
        Ok(())
    }
}

impl Target for Handle {
    fn size(&self) -> u64 {
        self.0.0.lock().unwrap().durable.len() as u64
    }

    fn parts(&self) -> Vec<u64> {
        self.0.0.lock().unwrap().parts.clone()
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.0.lock().unwrap().change(offset, data.to_vec())
    }

    fn zero(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let mut inner = self.0.0.lock().unwrap();
        inner.zeroed += len;
        inner.change(offset, vec![0; len as usize])
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut inner = self.0.0.lock().unwrap();
        std::thread::sleep(inner.slowness);
        let number = inner.flushes;
        inner.flushes += 1;
        let fault = inner.flush_faults.iter().find(|fault| fault.0 == number).map(|fault| fault.1);
        if inner.act(fault)? {
            for (offset, bytes) in std::mem::take(&mut inner.pending) {
                inner.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        Ok(())
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.0.0.lock().unwrap();
        let is_wrong = inner.misread > 0 && !buffer.is_empty();
        inner.misread -= u32::from(is_wrong);
        let rest = &inner.durable[(offset as usize).min(inner.durable.len())..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        // What lies in the device's own cache is read as well.
        for (at, bytes) in &inner.pending {
            let (from, until) = ((*at).max(offset as usize), (at + bytes.len()).min(offset as usize + count));
            if from < until {
                buffer[from - offset as usize..until - offset as usize]
                    .copy_from_slice(&bytes[from - at..until - at]);
            }
        }
        if is_wrong {
            buffer.iter_mut().for_each(|byte| *byte ^= 1);
        }
        Ok(count)
    }
}
