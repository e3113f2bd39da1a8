//! Finite state entropy, as RFC 8878 section 4.1 describes it: just enough to follow the sequences of a block.

/// How often each symbol occurs, out of `1 << log`; -1 is "less than once".
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Distribution {
    pub(super) log: u32,
    pub(super) counts: Vec<i16>,
}

impl Distribution {
    /// Reads a table description from the front of `bytes`; also how many bytes it takes. `None` if it makes no
    /// sense.
    pub(super) fn read(bytes: &[u8], most_symbols: usize, most_log: u32) -> Option<(Self, usize)> {
        let mut bits = Forward { bytes, at: 0 };
        let log = bits.take(4) + 5;
        if log > most_log {
            return None;
        }
        let mut counts = Vec::new();
        let mut remaining = (1_i32 << log) + 1;
        let mut threshold = 1_i32 << log;
        let mut width = log + 1;
        while remaining > 1 {
            // What can still come decides how many bits a value has: small values have one less.
            let most = 2 * threshold - 1 - remaining;
            let short = (bits.peek(width - 1) & (threshold as u32 - 1)) as i32;
            let value = if short < most {
                bits.at += width as usize - 1;
                short
            } else {
                let long = bits.take(width) as i32;
                if long >= threshold { long - most } else { long }
            };
            let count = value - 1;
            remaining -= count.abs();
            counts.push(count as i16);
            if count == 0 {
                // Two bits at a time say how many more zeros follow; three of them means "and maybe more".
                loop {
                    let repeat = bits.take(2);
                    counts.extend((0..repeat).map(|_| 0));
                    if repeat < 3 || counts.len() > most_symbols {
                        break;
                    }
                }
            }
            if counts.len() > most_symbols {
                return None;
            }
            while remaining > 0 && remaining < threshold {
                width -= 1;
                threshold >>= 1;
            }
        }
        let used = bits.at.div_ceil(8);
        (remaining == 1 && used <= bytes.len()).then_some((Self { log, counts }, used))
    }

    /// The description that [`Distribution::read`] reads.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bits = Writer::default();
        bits.put(self.log - 5, 4);
        let mut remaining = (1_i32 << self.log) + 1;
        let mut threshold = 1_i32 << self.log;
        let mut width = self.log + 1;
        let mut at = 0;
        while remaining > 1 && at < self.counts.len() {
            let count = i32::from(self.counts[at]);
            let most = 2 * threshold - 1 - remaining;
            let value = count + 1;
            remaining -= count.abs();
            if value < most {
                bits.put(value as u32, width - 1);
            } else {
                bits.put((if value >= threshold { value + most } else { value }) as u32, width);
            }
            at += 1;
            if count == 0 {
                let mut zeros = self.counts[at..].iter().take_while(|count| **count == 0).count();
                at += zeros;
                while zeros >= 3 {
                    bits.put(3, 2);
                    zeros -= 3;
                }
                bits.put(zeros as u32, 2);
            }
            while remaining > 0 && remaining < threshold {
                width -= 1;
                threshold >>= 1;
            }
        }
        bits.bytes
    }

    /// The decoding table.
    pub(super) fn table(&self) -> Table {
        let size = 1_usize << self.log;
        let mut symbols = vec![0_u8; size];
        let mut next: Vec<u32> = self.counts.iter().map(|count| u32::from(count.unsigned_abs())).collect();
        let mut high = size;
        for (symbol, count) in self.counts.iter().enumerate() {
            if *count == -1 {
                high -= 1;
                symbols[high] = symbol as u8;
            }
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut position = 0;
        for (symbol, count) in self.counts.iter().enumerate() {
            for _ in 0..(*count).max(0) {
                symbols[position] = symbol as u8;
                position = (position + step) & (size - 1);
                while position >= high {
                    position = (position + step) & (size - 1);
                }
            }
        }
        let entries = symbols.into_iter().map(|symbol| {
            let state = next[usize::from(symbol)];
            next[usize::from(symbol)] += 1;
            let bits = self.log - state.max(1).ilog2();
            Entry { symbol, bits: bits as u8, base: ((state << bits) as usize - size) as u16 }
        });
        Table { log: self.log, entries: entries.collect() }
    }
}

/// A decoding table: each state gives a symbol, and how to find the next state.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    pub(super) log: u32,
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) symbol: u8,
    pub(super) bits: u8,
    pub(super) base: u16,
}

impl Table {
    /// A table of one symbol, which takes no bits.
    pub(super) fn of_one(symbol: u8) -> Self {
        Self { log: 0, entries: vec![Entry { symbol, bits: 0, base: 0 }] }
    }
}

/// Bits from the front, lowest first. Beyond the end there are zeros; the caller checks how far it got.
struct Forward<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Forward<'_> {
    fn peek(&self, count: u32) -> u32 {
        let mut value = 0;
        for (place, byte) in self.bytes.iter().skip(self.at / 8).take(4).enumerate() {
            value |= u64::from(*byte) << (8 * place);
        }
        (value >> (self.at % 8)) as u32 & ((1 << count) - 1)
    }

    fn take(&mut self, count: u32) -> u32 {
        let value = self.peek(count);
        self.at += count as usize;
        value
    }
}

/// Bits to the back, lowest first.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    used: u32,
}

impl Writer {
    fn put(&mut self, value: u32, count: u32) {
        for place in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> place & 1) as u8) << (self.used % 8);
            }
            self.used += 1;
        }
    }
}

/// Bits from the back of a stream: the highest bit set in the last byte marks the end.
///
/// This is the one hot loop of following a stream, hence the word that bits are taken from.
pub(super) struct Backward<'a> {
    bytes: &'a [u8],
    /// Bits not taken yet.
    left: usize,
    /// The next `ready` of them, at the low end; what lies above is of no meaning.
    word: u64,
    ready: u32,
}

impl<'a> Backward<'a> {
    /// `None` without an end mark.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let last = *bytes.last()?;
        let left = || (bytes.len() - 1) * 8 + last.ilog2() as usize;
        (last != 0).then(|| Self { bytes, left: left(), word: 0, ready: 0 })
    }

    /// The next `count` bits, at most 32. `None` if there are not so many.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> Option<u64> {
        if count == 0 {
            return Some(0);
        }
        if self.ready < count {
            self.refill();
            if self.ready < count {
                return None;
            }
        }
        self.ready -= count;
        self.left -= count as usize;
        Some((self.word >> self.ready) & ((1 << count) - 1))
    }

    /// Whether all bits were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    fn refill(&mut self) {
        let end = self.left.div_ceil(8);
        let begin = end.saturating_sub(8);
        self.word = match <[u8; 8]>::try_from(&self.bytes[begin..end]) {
            Ok(eight) => u64::from_le_bytes(eight),
            Err(_) => self.bytes[begin..end].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        self.ready = (self.left - begin * 8) as u32;
    }
}
