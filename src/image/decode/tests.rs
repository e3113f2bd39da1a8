#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use proptest::prelude::*;

use super::*;

pub(super) const LIMITS: Limits = Limits { memory: 64 << 20, total: None };

#[derive(Default)]
pub(super) struct Collect {
    pub(super) bytes: Vec<u8>,
    announced: u64,
}

impl Out for Collect {
    fn accept(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn announce(&mut self, len: u64) -> Result<(), Error> {
        self.announced = len;
        Ok(())
    }
}

/// Text, tables, runs of zeros, copies from far back, and noise: what a file system is made of.
pub(super) fn image(len: usize, seed: u64) -> Vec<u8> {
    let mut random = seed.wrapping_mul(2) + 1;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 65536);
    while bytes.len() < len {
        let count = (next() % 30_000) as usize;
        match next() % 7 {
            0 => bytes.extend(std::iter::repeat_n(0, count * 4)),
            1 => bytes.extend((0..count).map(|_| next() as u8)),
            2 | 3 if bytes.len() > 70_000 => {
                let from = bytes.len() - 1 - (next() as usize % (bytes.len() - 1));
                let end = (from + count).min(bytes.len());
                bytes.extend_from_within(from..end);
            }
            4 => (0..count / 16).for_each(|i| bytes.extend((i as u64 * 4096).to_le_bytes())),
            _ => (0..count / 8).for_each(|_| {
                let word =
                    ["libtwin", "/usr/", "ELF", "\n", "config", "=", "the ", "0x00"][(next() % 8) as usize];
                bytes.extend(word.bytes());
            }),
        }
    }
    bytes.truncate(len);
    bytes
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder =
        flate2::GzBuilder::new().filename("image").write(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8], level: i32, checksum: bool) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.include_checksum(checksum).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// xz with blocks of `block` bytes.
fn xz(bytes: &[u8], block: usize) -> Vec<u8> {
    use liblzma::stream::{Action, Check, Status, Stream};
    let mut stream = Stream::new_easy_encoder(1, Check::Crc64).unwrap();
    let mut packed = Vec::with_capacity(bytes.len() + bytes.len() / 4 + 65536);
    for piece in bytes.chunks(block) {
        let before = stream.total_in();
        while stream.total_in() - before < piece.len() as u64 {
            let done = (stream.total_in() - before) as usize;
            stream.process_vec(&piece[done..], &mut packed, Action::Run).unwrap();
        }
        while stream.process_vec(&[], &mut packed, Action::FullFlush).unwrap() != Status::StreamEnd {}
    }
    while stream.process_vec(&[], &mut packed, Action::Finish).unwrap() != Status::StreamEnd {}
    packed
}

/// Unpacks in pieces of `piece` bytes. Gives the image, and every state with how much input and output it stands
/// for.
fn unpack(packed: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<Kept>), Error> {
    unpack_within(LIMITS, packed, piece)
}

/// A state, and how much input and output it stands for.
pub(super) type Kept = (usize, usize, State);

pub(super) fn unpack_within(
    limits: Limits,
    packed: &[u8],
    piece: usize,
) -> Result<(Vec<u8>, Vec<Kept>), Error> {
    let mut decoder = Decoder::new(limits);
    let mut out = Collect::default();
    let mut states = Vec::new();
    let mut offset = 0;
    for piece in packed.chunks(piece) {
        let mut rest = piece;
        while !rest.is_empty() {
            let step = decoder.decode(rest, &mut out)?;
            assert!(step.used > 0);
            offset += step.used;
            rest = &rest[step.used..];
            if step.boundary
                && let Some(state) = decoder.state().and_then(State::settle)
            {
                states.push((offset, out.bytes.len(), state));
            }
        }
    }
    decoder.finish(&mut out)?;
    Ok((out.bytes, states))
}

/// Goes on from a state as after a power cut: with nothing but what was written down, and the image so far.
fn go_on(packed: &[u8], image: &[u8], kept: &Kept) -> Result<Vec<u8>, Error> {
    go_on_by(packed, kept, &mut |buffer: &mut [u8]| {
        buffer.copy_from_slice(&image[kept.1 - buffer.len()..kept.1]);
        Ok(())
    })
}

/// The same, and this reads back the image.
pub(super) fn go_on_by(
    packed: &[u8],
    (offset, _, state): &Kept,
    window: &mut Window<'_>,
) -> Result<Vec<u8>, Error> {
    let text = serde_json::to_vec(state).unwrap();
    assert!(text.len() < 4096, "{} bytes of state", text.len());
    let state: State = serde_json::from_slice(&text).unwrap();
    let mut decoder = Decoder::resume(&state, LIMITS, window)?;
    let mut out = Collect::default();
    for piece in packed[*offset..].chunks(50_000) {
        let mut rest = piece;
        while !rest.is_empty() {
            rest = &rest[decoder.decode(rest, &mut out)?.used..];
        }
    }
    decoder.finish(&mut out)?;
    Ok(out.bytes)
}

/// Unpacks, and takes up again at up to `most` of the boundaries. Returns the share of the input that lies between
/// the two boundaries farthest apart, in bytes.
fn check(packed: &[u8], image: &[u8], piece: usize, most: usize) -> usize {
    let (unpacked, states) = unpack(packed, piece).unwrap();
    assert!(unpacked == image);
    for state in states.iter().step_by((states.len() / most).max(1)) {
        let rest = go_on(packed, image, state).unwrap();
        assert!(rest == image[state.1..], "taken up at {} of {}", state.0, packed.len());
    }
    let ends = states.iter().map(|state| state.0).chain([packed.len()]);
    let begins = [0].into_iter().chain(states.iter().map(|state| state.0));
    ends.zip(begins).map(|(end, begin)| end - begin).max().unwrap()
}

fn failure(packed: &[u8]) -> String {
    match unpack(packed, 1000) {
        Ok(_) => panic!("unpacked"),
        Err(error @ Error::Undecodable { .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_first_bytes_tell_the_format_and_short_files_are_raw() {
    for bytes in [&b"\x1f"[..], b"\xfd7zXZ", b"raw", b"\x28\xb5\x2f", &image(100_000, 1)] {
        assert_eq!(check(bytes, bytes, 1, 3), 6.min(bytes.len()).max(1));
    }
    for (bytes, format) in [(&b"BZh91AY&SY"[..], "bzip2"), (b"PK\x03\x04....", "zip"), (b"", "empty")] {
        assert!(failure(bytes).contains(format));
    }
}

#[test]
fn gzip_is_taken_up_between_any_two_deflate_blocks() {
    let image = image(3_000_000, 2);
    for level in [0, 1, 6, 9] {
        let gap = check(&gzip(&image, level), &image, 16_384, 25);
        // How long a block gets is the packer's choice; those that are in a hurry make few.
        assert!(level < 6 || gap < 300_000, "level {level}: {gap}");
    }
    let small = &image[..200_000];
    check(&gzip(small, 6), small, 1, 10);
    check(&gzip(small, 6), small, 7, 10);
    let two = [gzip(&image[..70_000], 9), gzip(&image[70_000..200_000], 1)].concat();
    check(&two, small, 999, 100);
}

#[test]
fn zstd_is_taken_up_between_any_two_blocks() {
    let image = image(6_000_000, 3);
    for level in [-5, 1, 3, 9, 19] {
        for checksum in [false, true] {
            let gap = check(&zstd(&image, level, checksum), &image, 16_384, 12);
            assert!(gap < 1_000_000, "level {level}: {gap}");
        }
    }
}

#[test]
fn zstd_frames_follow_each_other_and_foreign_data_between_them_is_skipped() {
    let image = image(500_000, 4);
    let (a, b) = image.split_at(123_456);
    // A whole buffer at once makes a frame without a window of its own.
    let single = ::zstd::bulk::compress(b, 5).unwrap();
    let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"later"].concat();
    let nothing = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    let empty = zstd(b"", 3, true);
    let all = [&skippable[..], &zstd(a, 3, true), &empty, &nothing, &single, &skippable].concat();
    for piece in [1, 3, 100_000] {
        check(&all, &image, piece, 8);
    }
    let mut out = Collect::default();
    let mut decoder = Decoder::new(LIMITS);
    decoder.decode(&single[..6], &mut out).unwrap();
    let mut at = 6;
    while at < 20 {
        at += decoder.decode(&single[at..20], &mut out).unwrap().used;
    }
    assert_eq!(out.announced, b.len() as u64, "the length is known before the first byte");
}

#[test]
fn xz_is_taken_up_between_blocks() {
    let image = image(2_000_000, 5);
    let gap = check(&xz(&image, 300_000), &image, 16_384, 10);
    assert!(gap < 300_000, "{gap}");
    let two = [xz(&image[..70_000], 20_000), vec![0; 8], xz(&image[70_000..], 400_000)].concat();
    check(&two, &image, 7777, 10);
    check(&xz(&image[..50_000], 20_000), &image[..50_000], 1, 10);
    check(&xz(b"", 20_000), b"", 1, 10);
    assert!(failure(&[xz(b"x", 100), vec![0; 4], b"garbage!".to_vec()].concat()).contains("something else"));
}

#[test]
fn p075_what_follows_the_stream_is_refused() {
    for packed in [gzip(b"image", 6), zstd(b"image", 3, true), xz(b"image", 100)] {
        for garbage in [&b"garbage"[..], &[0; 8], &[0x1f, 0x8b, 9, 9]] {
            if packed[0] == 0xfd && garbage == [0; 8] {
                continue; // xz has padding
            }
            failure(&[&packed[..], garbage].concat());
        }
    }
}

#[test]
fn p073_a_stream_cut_anywhere_is_too_short() {
    let image = image(3000, 6);
    for packed in [gzip(&image, 6), zstd(&image, 3, true), xz(&image, 1000)] {
        for len in 6..packed.len() {
            failure(&packed[..len]);
        }
    }
}

#[test]
fn more_memory_than_allowed_is_refused() {
    let image = image(1_000_000, 7);
    let limits = Limits { memory: 1 << 20, total: None };
    let refused = |packed: &[u8]| {
        let mut decoder = Decoder::new(limits);
        let mut rest = packed;
        loop {
            match decoder.decode(rest, &mut Collect::default()) {
                Ok(step) => rest = &rest[step.used..],
                Err(error) => return error.to_string(),
            }
            assert!(!rest.is_empty(), "unpacked");
        }
    };
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&image).unwrap();
    assert!(refused(&encoder.finish().unwrap()).contains("16777216"));
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
    encoder.write_all(&image).unwrap();
    refused(&encoder.finish().unwrap());
    // 8 MiB must work for zstd, whatever the limit: the format asks for it.
    let mut decoder = Decoder::new(limits);
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(23).unwrap();
    encoder.write_all(&image).unwrap();
    let packed = encoder.finish().unwrap();
    let mut rest = &packed[..];
    while !rest.is_empty() {
        rest = &rest[decoder.decode(rest, &mut Collect::default()).unwrap().used..];
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_image_at_any_level_is_taken_up(
        seed: u64, len in 0_usize..700_000, level in 0_u32..10, strong in -7_i32..20, piece in 1_usize..70_000,
    ) {
        let image = image(len, seed);
        check(&gzip(&image, level), &image, piece, 4);
        check(&zstd(&image, strong, seed % 2 == 0), &image, piece, 4);
        check(&xz(&image, 100_000), &image, piece, 2);
    }

    #[test]
    fn p073_damage_is_an_error_or_another_image_but_never_a_panic(
        seed: u64, which in 0_u8..3, flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..=255), 1..4),
        piece in 1_usize..3000,
    ) {
        let image = image(60_000, seed);
        let mut packed = match which {
            0 => gzip(&image, 6),
            1 => zstd(&image, 3, false),
            _ => xz(&image, 20_000),
        };
        for (index, mask) in flips {
            let at = index.index(packed.len());
            packed[at] ^= mask;
        }
        if let Ok((damaged, states)) = unpack(&packed, piece) {
            for state in states.iter().take(20) {
                let _ = go_on(&packed, &damaged, state);
            }
        }
    }

    #[test]
    fn noise_behind_a_magic_number_never_panics(
        which in 0_u8..4, mut noise in prop::collection::vec(any::<u8>(), 8..2000), piece in 1_usize..300,
    ) {
        let magic: &[u8] = match which {
            0 => &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3],
            1 => &[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58],
            2 => &[0x28, 0xb5, 0x2f, 0xfd],
            _ => &[0xfd, b'7', b'z', b'X', b'Z', 0, 0, 1, 0x69, 0x22, 0xde, 0x36],
        };
        if which == 1 {
            // A compressed block of just this noise.
            let header = ((noise.len() as u32) << 3 | 0b101).to_le_bytes();
            noise.splice(0..0, header[..3].iter().copied());
        }
        let _ = unpack(&[magic, &noise].concat(), piece);
    }

    #[test]
    fn noise_as_a_state_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), count: u8, bits: u8) {
        let text = format!(r#"{{"gzip":{{"bits":{bits},"count":{count},"crc":1,"len":5}}}}"#);
        let state: State = serde_json::from_str(&text).unwrap();
        let mut window = |buffer: &mut [u8]| { buffer.fill(7); Ok(()) };
        if let Ok(mut decoder) = Decoder::resume(&state, LIMITS, &mut window) && !bytes.is_empty() {
            let _ = decoder.decode(&bytes, &mut Collect::default());
        }
        let text = format!(
            r#"{{"zstd":{{"frame":{{"window":1024,"content":null,"checksum":true,"produced":9}},"tracker":{{
            "huffman":{bytes:?},"lengths":{{"described":{bytes:?}}},"offsets":"default","matches":"default",
            "repeats":[1,4,8],"lost":false}}}}}}"#
        );
        let state: State = serde_json::from_str(&text).unwrap();
        if let Ok(mut decoder) = Decoder::resume(&state, LIMITS, &mut window) && !bytes.is_empty() {
            let _ = decoder.decode(&bytes, &mut Collect::default());
        }
    }
}
