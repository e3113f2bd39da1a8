//! XXH64, the checksum at the end of a zstd frame, with a state that can be kept: whoever goes on in the middle of a frame
//! knows at its end whether what was copied from before the middle was right.
//!
//! By the specification, <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>, with the seed 0.

use serde::{Deserialize, Serialize};

const P1: u64 = 0x9e37_79b1_85eb_ca87;
const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P3: u64 = 0x1656_67b1_9e37_79f9;
const P4: u64 = 0x85eb_ca77_c2b2_ae63;
const P5: u64 = 0x27d4_eb2f_1656_67c5;

/// So many bytes are taken at once.
const STRIPE: usize = 32;

/// A checksum in the making.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Sum {
    lanes: [u64; 4],
    len: u64,
    /// What came after the last whole stripe, and zeros.
    rest: [u8; STRIPE],
}

impl Default for Sum {
    fn default() -> Self {
        let lanes = [P1.wrapping_add(P2), P2, 0, P1.wrapping_neg()];
        Self { lanes, len: 0, rest: [0; STRIPE] }
    }
}

impl Sum {
    /// The checksum of these bytes.
    pub(super) fn of(bytes: &[u8]) -> u64 {
        let mut sum = Self::default();
        sum.update(bytes);
        sum.finish()
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let held = self.held();
        self.len = self.len.wrapping_add(bytes.len() as u64);
        let (first, bytes) = bytes.split_at(bytes.len().min((STRIPE - held) % STRIPE));
        self.rest[held..held + first.len()].copy_from_slice(first);
        if held > 0 && held + first.len() == STRIPE {
            let stripe = std::mem::take(&mut self.rest);
            self.take(&stripe);
        }
        let (stripes, rest) = bytes.as_chunks();
        for stripe in stripes {
            self.take(stripe);
        }
        if !rest.is_empty() {
            self.rest[..rest.len()].copy_from_slice(rest);
        }
    }

    pub(super) fn finish(&self) -> u64 {
        let begin = if self.len < STRIPE as u64 { P5 } else { self.merged() };
        let mut hash = begin.wrapping_add(self.len);
        let (words, rest) = self.rest[..self.held()].as_chunks();
        for word in words {
            let mixed = hash ^ round(0, u64::from_le_bytes(*word));
            hash = mixed.rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        }
        let (halves, rest) = rest.as_chunks();
        for half in halves {
            let mixed = hash ^ u64::from(u32::from_le_bytes(*half)).wrapping_mul(P1);
            hash = mixed.rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        }
        for byte in rest {
            let mixed = hash ^ u64::from(*byte).wrapping_mul(P5);
            hash = mixed.rotate_left(11).wrapping_mul(P1);
        }
        hash = (hash ^ hash >> 33).wrapping_mul(P2);
        hash = (hash ^ hash >> 29).wrapping_mul(P3);
        hash ^ hash >> 32
    }

    /// How many bytes of `rest` mean something.
    fn held(&self) -> usize {
        (self.len % STRIPE as u64) as usize
    }

    fn take(&mut self, stripe: &[u8; STRIPE]) {
        for (lane, word) in self.lanes.iter_mut().zip(stripe.as_chunks().0) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }

    fn merged(&self) -> u64 {
        let turned = self.lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
        let sum = turned.fold(0, u64::wrapping_add);
        let merge = |hash: u64, lane: &u64| (hash ^ round(0, *lane)).wrapping_mul(P1).wrapping_add(P4);
        self.lanes.iter().fold(sum, merge)
    }
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u64).map(|at| (at.wrapping_mul(P1) >> 40) as u8).collect()
    }

    #[test]
    fn known_sums_are_these() {
        for (bytes, sum) in [
            (&b""[..], 0xef46_db37_51d8_e999),
            (b"a", 0xd24e_c4f1_a98c_6e5b),
            (b"abc", 0x44bc_2cf5_ad77_0999),
        ] {
            assert_eq!(Sum::of(bytes), sum, "{bytes:?}");
        }
    }

    /// libzstd ends a frame with the lower half of its own.
    #[test]
    fn the_sum_is_that_of_libzstd_at_any_length() {
        use ::zstd::zstd_safe::{CCtx, CParameter, compress_bound};
        let bytes = noise(5000);
        for len in (0..200).chain([255, 256, 1023, 4097, 5000]) {
            let mut zstd = CCtx::create();
            zstd.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
            let mut packed = vec![0; compress_bound(len)];
            let end = zstd.compress2(&mut packed[..], &bytes[..len]).unwrap();
            let told = u32::from_le_bytes(packed[end - 4..end].try_into().unwrap());
            assert_eq!(Sum::of(&bytes[..len]) as u32, told, "{len}");
        }
    }

    #[test]
    fn a_sum_that_was_kept_goes_on_where_it_was() {
        let bytes = noise(300);
        for cut in 0..=bytes.len() {
            let mut sum = Sum::default();
            bytes[..cut].chunks(7).for_each(|piece| sum.update(piece));
            let text = serde_json::to_string(&sum).unwrap();
            assert!(text.len() < 300, "{text}");
            let mut kept: Sum = serde_json::from_str(&text).unwrap();
            bytes[cut..].chunks(100).for_each(|piece| kept.update(piece));
            assert_eq!(kept.finish(), Sum::of(&bytes), "{cut}");
        }
    }
}
