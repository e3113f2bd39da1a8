//! The rest of a bundle: page table, bodies, groups, and images that are packed and unpacked again.

use twinboot::bundle::build::{Packing, pack};
use twinboot::bundle::{
    Body, Chunk, ChunkId, Chunker, Chunking, Entry, Kind, PageKey, Pager, Payload, Table, TableInfo,
    Unpacker, chunk_id, groups,
};
use twinboot::model::Sha256;

use super::{KIB, MIB, Target};
use crate::kit::{Input, planted};

fn payload(chunking: Chunking, group: u32, table: &[u8]) -> Payload {
    Payload {
        kind: Kind::Slot,
        size: 0,
        sha256: Sha256::of(b""),
        parts: vec![],
        chunking,
        group,
        prefix: 1 << 16,
        table: TableInfo {
            size: table.len() as u64,
            pages: (table.len() / Entry::LEN) as u64,
            sha256: Sha256::of(table),
        },
        bodies: 0,
        data: 0,
    }
}

fn chunking(byte: u8) -> Chunking {
    if byte & 1 == 0 { Chunking::Aligned } else { Chunking::Content }
}

pub const TABLE: Target = Target {
    name: "table",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (chunking, table) = (chunking(input.byte()), input.rest());
        // The manifest that belongs to it: what a signer could do to a device, by mistake or not.
        let mut payload = payload(chunking, 4096, table);
        for entry in table.as_chunks::<{ Entry::LEN }>().0 {
            let mut lengths = Input::new(&entry[16..]);
            payload.size += lengths.number(4);
            payload.bodies += lengths.number(4);
            payload.data += lengths.number(4);
        }
        let Ok(parsed) = Table::parse(table, &payload) else { return };
        assert!(parsed.pages().iter().flat_map(Entry::encode).eq(table.iter().copied()));
        let mut ends = (0, 0, 0);
        for page in parsed.pages() {
            assert_eq!((page.image_at, page.body_at, page.data_at), ends);
            assert!(
                (1..=payload.longest_page()).contains(&page.image_len) && page.data_len <= page.image_len
            );
            // As the format's bounds say: nobody makes room for more.
            assert!(page.body_len <= 8 * 1024, "a body of {} bytes", page.body_len);
            assert!(!planted() || !page.is_zero(), "every page has data");
            let Entry { image_at, image_len, body_at, body_len, data_at, data_len, .. } = *page;
            ends = (
                image_at + u64::from(image_len),
                body_at + u64::from(body_len),
                data_at + u64::from(data_len),
            );
        }
        assert_eq!(ends, (payload.size, payload.bodies, payload.data));
        let bytes = [table, &[0]].concat();
        assert!(Table::parse(&bytes, &payload).is_err(), "another table than was promised");
    },
    longest: KIB,
    memory: 16 * KIB,
    seeds: || {
        let entry = |image: u32, body: u32, data: u32| {
            let numbers = [image, body, data].map(u32::to_le_bytes).concat();
            [&[0x4b; 16], numbers.as_slice()].concat()
        };
        vec![
            [vec![0], entry(65_536, 140, 30_000), entry(4096, 11, 4096)].concat(),
            [vec![1], entry(9000, 27, 8000), entry(50_000, 3000, 1)].concat(),
        ]
    },
    words: &[b"\x00\x10\x00\x00", b"\x00\x00\x10\x00", b"\x00\x00\x00\x00"],
};

pub const BODY: Target = Target {
    name: "body",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (chunking, group) = (chunking(input.byte()), 4096 << (input.byte() % 9));
        let (image_len, data_len, body) = (input.number(4) as u32, input.number(4) as u32, input.rest());
        let payload = payload(chunking, group, b"");
        let count = usize::from(Input::new(body).number(2) as u16);
        let len = count * if chunking == Chunking::Aligned { 8 } else { 12 };
        // The key that belongs to it, so that what comes behind is read.
        let key = body.get(2..2 + len).map_or([0; 16], |key| {
            let Sha256(digest) = Sha256::of(key);
            digest.first_chunk().copied().expect("it is longer")
        });
        let body_len = body.len() as u32;
        let mut entry =
            Entry { key: PageKey(key), image_at: 0, image_len, body_at: 0, body_len, data_at: 0, data_len };
        let Ok(parsed) = Body::parse(body, &entry, &payload) else { return };
        assert!((1..=256).contains(&parsed.chunks.len()));
        assert_eq!(parsed.chunks.iter().map(|it| u64::from(it.len)).sum::<u64>(), u64::from(image_len));
        let mut at = 0;
        for (found, range) in parsed.groups.iter().zip(groups(&parsed.chunks, group)) {
            assert_eq!((&found.chunks, found.at), (&range, at));
            assert!((1..=found.raw).contains(&found.packed) && found.raw <= payload.longest_group());
            at += found.packed;
        }
        assert_eq!(at, data_len);
        let is_doubtful = |chunk: &Chunk| chunk.id.0[0] == 0 && !chunk.id.is_zero();
        assert!(!(planted() && parsed.chunks.iter().any(is_doubtful)), "an id of zeros begins with one");
        let packed: Vec<_> = parsed.groups.iter().map(|it| it.packed).collect();
        assert_eq!(Body::encode(chunking, &parsed.chunks, &packed), body, "there is one spelling");
        entry.key.0[0] ^= 1;
        assert!(Body::parse(body, &entry, &payload).is_err(), "another page's body");
    },
    longest: 4 * KIB,
    memory: 32 * KIB,
    seeds: || {
        let seed = |flags: u8, chunks: &[Chunk], packed: &[u32]| {
            let image_len: u32 = chunks.iter().map(|it| it.len).sum();
            let body = Body::encode(chunking(flags), chunks, packed);
            [&[flags, 2], &image_len.to_le_bytes()[..], &packed.iter().sum::<u32>().to_le_bytes(), &body]
                .concat()
        };
        let chunk = |id: u8, len| Chunk { id: ChunkId([id; 8]), len };
        vec![
            seed(0, &[chunk(1, 4096), chunk(0, 4096), chunk(2, 4096), chunk(3, 100)], &[3000, 4196]),
            seed(1, &[chunk(1, 5000), chunk(2, 1025), chunk(0, 9000), chunk(4, 16_384)], &[200, 16_000]),
        ]
    },
    words: &[b"\x00\x00\x00\x00\x00\x00\x00\x00", b"\x01\x00", b"\x00\x01", b"\x7f"],
};

pub const GROUP: Target = Target {
    name: "group",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (raw, prefix) = (input.number(3) as u32, usize::from(input.byte()));
        let (prefix, packed) = (input.take(prefix), input.rest());
        let payload = payload(Chunking::Content, 65_536, b"");
        let mut unpacker = Unpacker::new(&payload);
        let Ok(image) = unpacker.unpack(prefix, packed, raw) else { return };
        let image = image.to_vec();
        assert_eq!(image.len(), raw as usize, "just what was promised");
        assert!(raw <= payload.longest_group() || packed.len() == raw as usize);
        assert!(!planted() || packed == image, "it is as it was");
        // Nothing of it stays for the next one.
        assert_eq!(unpacker.unpack(prefix, packed, raw).ok(), Some(image.as_slice()));
    },
    longest: 4 * KIB,
    memory: 256 * KIB,
    seeds: || {
        // A frame without its magic number: a window, then a block of one byte repeated, or of bytes as they are.
        let repeated = [&[232, 3, 0, 0][..], &[0, 0, 0x43, 0x1f, 0, 7]].concat();
        let plain = [&[5, 0, 0, 2][..], b"ab", &[0, 0, 0x29, 0, 0], b"hello"].concat();
        vec![repeated, plain, [&[3, 0, 0, 0][..], b"raw"].concat()]
    },
    words: &[b"\x00\x58", b"\x20\x05", b"\x03\x00\x00"],
};

/// A small image out of a few bytes: runs, copies and what they say themselves.
fn image(input: &mut Input<'_>) -> Vec<u8> {
    let mut image = vec![];
    loop {
        let (kind, count) = (input.byte(), input.number(2) as usize);
        let bytes = input.take(count % 64);
        if count == 0 || image.len() > 200_000 {
            return image;
        }
        match kind % 4 {
            0 => image.extend(std::iter::repeat_n(0, count)),
            1 => image.extend(
                (0..count as u32).flat_map(|n| (n.wrapping_mul(0x9E37_79B9) ^ u32::from(kind)).to_le_bytes()),
            ),
            2 => image.extend_from_within(image.len().saturating_sub(count)..),
            _ => image.extend_from_slice(bytes),
        }
    }
}

/// The chunks of an image that comes in pieces.
fn chunks(image: &[u8], chunking: Chunking, piece: usize) -> Vec<Chunk> {
    let (mut chunker, mut found) = (Chunker::new(chunking), vec![]);
    let mut each = |chunk: &[u8]| found.push(Chunk { id: chunk_id(chunk), len: chunk.len() as u32 });
    image.chunks(piece.max(1)).for_each(|piece| chunker.push(piece, &mut each));
    chunker.finish(&mut each);
    found
}

/// The image that a bundle's parts are, from front to back; no chunk is looked at.
fn unpacked(payload: &Payload, table: &Table, bodies: &[u8], data: &[u8]) -> Vec<u8> {
    let (mut image, mut unpacker) = (vec![], Unpacker::new(payload));
    for entry in table.pages() {
        let begin = image.len();
        if entry.is_zero() {
            image.resize(begin + entry.image_len as usize, 0);
            continue;
        }
        let body = &bodies[entry.body_at as usize..][..entry.body_len as usize];
        let body = Body::parse(body, entry, payload).expect("it was packed so");
        let mut groups = body.groups.iter().peekable();
        for (number, chunk) in body.chunks.iter().enumerate() {
            match groups.next_if(|it| it.chunks.start == number) {
                Some(group) => {
                    let packed = &data[entry.data_at as usize + group.at as usize..][..group.packed as usize];
                    let prefix = &image[image.len().saturating_sub(payload.prefix as usize)..];
                    let raw = unpacker.unpack(prefix, packed, group.raw).expect("it was packed so").to_vec();
                    image.extend(raw);
                }
                None if chunk.id.is_zero() => image.resize(image.len() + chunk.len as usize, 0),
                None => {}
            }
        }
    }
    image
}

pub const PACK: Target = Target {
    name: "pack",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (flags, piece) = (input.byte(), input.number(2) as usize);
        let (chunking, image) = (chunking(flags), image(&mut input));
        let whole = chunks(&image, chunking, usize::MAX);
        assert_eq!(chunks(&image, chunking, piece), whole, "however it is cut");
        assert!(whole.iter().all(|it| (1..=chunking.longest()).contains(&it.len)));
        let short = whole.iter().rev().skip(usize::from(!planted())).filter(|it| it.len <= 1024);
        assert_eq!(short.count(), 0, "only the last one is so short");
        let mut pager = Pager::new(chunking);
        let mut pages: Vec<_> = whole.iter().filter_map(|it| pager.push(it.id, it.len)).collect();
        pages.extend(pager.finish());
        assert!(pages.iter().rev().skip(1).all(|it| (16..=256).contains(&it.chunks.len())));
        assert!(pages.iter().flat_map(|it| &it.chunks).eq(&whole), "none is lost");
        if image.is_empty() || flags & 0x30 != 0 {
            return; // Packing takes the time of a hundred of the others.
        }
        let packing =
            Packing { chunking, group: 4096 << (flags >> 1 & 3), prefix: 1 << 15, level: 1, threads: 1 };
        let (mut bodies, mut data) = (vec![], vec![]);
        let (payload, table) = pack(&mut image.as_slice(), &packing, &mut bodies, &mut data, &mut |_| {})
            .expect("it can be packed");
        let table = Table::parse(&table, &payload).expect("it was packed so");
        assert!(unpacked(&payload, &table, &bodies, &data) == image, "what is packed comes back");
    },
    longest: 512,
    memory: 16 * MIB,
    seeds: || {
        let part = |kind: u8, count: u16| {
            [vec![kind], count.to_le_bytes().to_vec(), vec![7; usize::from(count % 64)]].concat()
        };
        let parts =
            [part(1, 9000), part(0, 60_000), part(2, 20_000), part(3, 40), part(5, 30_000), part(2, 65_000)]
                .concat();
        [[0, 5, 1], [1, 0, 16], [0x13, 99, 0]].map(|head| [&head, parts.as_slice()].concat()).to_vec()
    },
    words: &[b"\x00\x10", b"\xff\xff", b"\x00\x04"],
};
