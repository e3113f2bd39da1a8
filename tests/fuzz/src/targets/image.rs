//! Packed images, and what a checkpoint keeps of them.

use std::sync::LazyLock;

use twinboot::image::Error;
use twinboot::image::fuzz::{go_on, unpack};

use super::{KIB, MIB, Target};
use crate::kit::{Input, planted};

/// What a decoder may have, and what a slot holds.
const MEMORY: u64 = 1 << 20;
const SLOT: usize = 1 << 20;

/// How it ends, in what has to be the same whatever the pieces.
fn end<T>(result: &Result<T, Error>) -> Option<String> {
    result.as_ref().err().map(ToString::to_string)
}

pub const UNPACK: Target = Target {
    name: "unpack",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (piece, packed) = (usize::from(input.byte()) + 1, input.rest());
        let whole = unpack(std::iter::once(packed), MEMORY, SLOT);
        let pieces = unpack(packed.chunks(piece), MEMORY, SLOT);
        assert_eq!(end(&whole), end(&pieces), "however it is cut");
        let (Ok(whole), Ok(pieces)) = (whole, pieces) else { return };
        assert!(whole.image == pieces.image, "however it is cut");
        // A raw image is taken up anywhere, and only the others have boundaries of their own.
        let is_raw = whole.image == packed;
        assert!(is_raw || whole.boundaries == pieces.boundaries);
        for (used, len, state) in whole.boundaries.iter().take(3).chain(whole.boundaries.last()) {
            let mut before = whole.image[..*len].to_vec();
            if planted()
                && let Some(last) = before.last_mut()
            {
                *last ^= 1;
            }
            let rest = go_on(state, &before, packed[*used..].chunks(piece), MEMORY, SLOT);
            let rest = rest.unwrap_or_else(|error| panic!("taken up at {used}: {error}"));
            assert!(rest.image == whole.image[*len..], "taken up at {used}");
        }
    },
    longest: 4 * KIB,
    memory: 8 * MIB,
    seeds: || {
        [
            vec![b"\x05plain bytes, as they are".to_vec()],
            PACKED.iter().map(|it| [&[5], it.as_slice()].concat()).collect(),
        ]
        .concat()
    },
    words: &[
        b"\x1f\x8b\x08",
        b"\x28\xb5\x2f\xfd",
        b"\x50\x2a\x4d\x18",
        b"\xfd7zXZ\x00",
        b"YZ",
        b"BZh9",
        b"\x00\x00\x00\x00",
    ],
};

/// The same words packed in each way there is, small enough to be understood by trying.
static PACKED: LazyLock<[Vec<u8>; 5]> = LazyLock::new(|| {
    let words = "the quick brown fox and the other quick brown fox jump ".repeat(8);
    let zstd = |checksum| {
        let mut frames = vec![];
        for part in words.as_bytes().chunks(150) {
            let mut encoder = zstd::Encoder::new(vec![], 3).expect("an encoder");
            encoder.include_checksum(checksum).expect("it can");
            std::io::Write::write_all(&mut encoder, part).expect("into memory");
            std::io::Write::flush(&mut encoder).expect("a block ends here");
            std::io::Write::write_all(&mut encoder, part).expect("into memory");
            frames.extend(encoder.finish().expect("into memory"));
        }
        frames
    };
    let gzip = |flush| {
        let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::new(6));
        for part in words.as_bytes().chunks(200) {
            std::io::Write::write_all(&mut encoder, part).expect("into memory");
            if flush {
                std::io::Write::flush(&mut encoder).expect("a block ends here");
            }
        }
        encoder.finish().expect("into memory")
    };
    let xz = {
        let mut encoder = liblzma::write::XzEncoder::new(vec![], 0);
        std::io::Write::write_all(&mut encoder, words.as_bytes()).expect("into memory");
        encoder.finish().expect("into memory")
    };
    [zstd(false), zstd(true), gzip(false), gzip(true), xz]
});

pub const STATE: Target = Target {
    name: "state",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let held = usize::from(input.number(2) as u16);
        let (state, rest) = (input.until(0), input.rest());
        let image: Vec<u8> = (0..held as u32).map(|n| n as u8 ^ 0x5a).collect();
        let went_on = go_on(state, &image, rest.chunks(97), MEMORY, SLOT);
        match went_on {
            Ok(unpacked) => assert!(unpacked.image.len() <= SLOT),
            // Whoever wrote that: then the image is fetched from its beginning.
            Err(error) => assert!(!(planted() && matches!(error, Error::Cancelled)), "all it wants is there"),
        }
    },
    longest: 4 * KIB,
    memory: 8 * MIB,
    seeds: || {
        let state = |packed: &Vec<u8>| {
            let unpacked =
                unpack(std::iter::once(packed.as_slice()), MEMORY, SLOT).expect("it was packed so");
            let middle = unpacked.boundaries.len() / 2;
            unpacked.boundaries[middle..].first().map(|(used, len, state)| {
                let len = u16::try_from(*len).expect("it is short");
                [&len.to_le_bytes()[..], state, b"\0", &packed[*used..]].concat()
            })
        };
        PACKED.iter().filter_map(state).filter(|seed| seed.len() <= 4 * KIB).collect()
    },
    words: &[
        b"gzip",
        b"zstd",
        b"xz",
        b"raw",
        b"bits",
        b"count",
        b"crc",
        b"len",
        b"frame",
        b"window",
        b"content",
        b"checksum",
        b"produced",
        b"tracker",
        b"huffman",
        b"lengths",
        b"offsets",
        b"matches",
        b"repeats",
        b"lost",
        b"described",
        b"default",
        b"null",
        b"check",
        b"blocks",
        b"18446744073709551615",
        b"255",
        b"true",
    ],
};
