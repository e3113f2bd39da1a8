//! Random numbers that can be had again: splitmix64.

/// The seed of a campaign; `BLOCKS_SEED` sets another.
pub(super) fn seed() -> u64 {
    std::env::var("BLOCKS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122)
}

/// The seed of what has this name in it.
pub(super) fn of(name: &str) -> u64 {
    name.bytes().fold(seed(), |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()))
}

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit.max(1) as u64) as usize
    }

    /// Whether one of so many cases is this one.
    pub(super) fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    /// Text of so many characters.
    pub(super) fn text(&mut self, len: usize) -> String {
        (0..len).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}
