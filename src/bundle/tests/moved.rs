//! Chunks and pages: the same bytes come back, and what has moved is found again.

use std::collections::HashSet;

use super::*;

const BOTH: [Chunking; 2] = [Chunking::Aligned, Chunking::Content];

#[test]
fn what_is_packed_comes_back() {
    for chunking in BOTH {
        for (seed, len) in
            [(1, 1), (2, 4095), (3, 4096), (4, 4097), (5, 65_536), (6, 1_000_000), (7, 3_000_001)]
        {
            let image = image(seed, len);
            for (group, prefix) in [(4096, 0), (65_536, 131_072), (1 << 20, 4 << 20)] {
                let packed = pack(&image, chunking, group, prefix);
                Maker::new(packed.payload.clone()).open(&Trust::default()).unwrap();
                let got = unpack(&packed.payload, &packed.table, &packed.bodies, &packed.data).unwrap();
                assert!(got == image, "{chunking:?}, {len} bytes, groups of {group}, prefix {prefix}");
            }
        }
    }
}

#[test]
fn the_pieces_in_which_bytes_come_make_no_difference() {
    let image = image(11, 300_000);
    for chunking in BOTH {
        let whole = cut(&image, chunking);
        assert_eq!(whole.concat(), image);
        for piece in [1, 7, 1023, 1024, 1025, 4096, 16_384, 100_000] {
            let (mut chunker, mut chunks) = (Chunker::new(chunking), vec![]);
            image.chunks(piece).for_each(|it| chunker.push(it, &mut |it| chunks.push(it.to_vec())));
            chunker.finish(&mut |it| chunks.push(it.to_vec()));
            assert!(chunks == whole, "{chunking:?} in pieces of {piece}");
        }
    }
}

#[test]
fn chunks_have_the_lengths_that_they_should() {
    let noise = {
        let mut bytes = vec![0; 8 << 20];
        bytes
            .iter_mut()
            .scan(1_u64, |state, byte| {
                *state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (*state >> 56) as u8;
                Some(())
            })
            .for_each(drop);
        bytes
    };
    let aligned = cut(&noise[..10_000], Chunking::Aligned);
    assert_eq!(aligned.iter().map(Vec::len).collect::<Vec<_>>(), [4096, 4096, 1808]);
    let lens: Vec<_> = cut(&noise, Chunking::Content).iter().map(Vec::len).collect();
    let (_, but_last) = lens.split_last().unwrap();
    assert!(but_last.iter().all(|len| (1025..=16_384).contains(len)));
    let mean = noise.len() / lens.len();
    assert!((3900..5300).contains(&mean), "{mean} bytes on average");
}

/// Anybody's reader must cut as this one does: these are facts of the format, and never change. (They were found by
/// a reader in another language, too, written after the specification.)
#[test]
fn the_cuts_of_version_one_are_what_they_always_were() {
    let image = image(1, 2_000_000);
    let digest = |it: &[u8]| format!("{:.16}", Sha256::of(it));
    assert_eq!(digest(&image), "97bcf5beb9df72f7", "the test's own bytes");
    let lens = |chunking| {
        cut(&image, chunking).iter().flat_map(|it| (it.len() as u32).to_le_bytes()).collect::<Vec<_>>()
    };
    assert_eq!(digest(&lens(Chunking::Content)), "445e414509a93ff1");
    let keys = |chunking| pages(&image, chunking).iter().flat_map(|it| it.key.0).collect::<Vec<_>>();
    assert_eq!(digest(&keys(Chunking::Aligned)), "f36524be47401585");
    assert_eq!(digest(&keys(Chunking::Content)), "49090c939a50618b");
}

#[test]
fn zeros_have_an_id_of_their_own_and_cost_nothing() {
    for len in [1, 63, 64, 65, 4096, 16_384] {
        let mut chunk = vec![0; len];
        assert_eq!(chunk_id(&chunk), ChunkId::ZERO);
        for at in [0, len / 2, len - 1] {
            chunk[at] = 1;
            assert_ne!(chunk_id(&chunk), ChunkId::ZERO, "{at} of {len}");
            chunk[at] = 0;
        }
    }
    // 64 MiB of nothing: a table entry for each MiB, or each 4 MiB.
    for (chunking, entries) in [(Chunking::Aligned, 64), (Chunking::Content, 16)] {
        let packed = pack(&vec![0; 64 << 20], chunking, 65_536, 65_536);
        assert_eq!((packed.payload.table.pages, packed.payload.bodies, packed.payload.data), (entries, 0, 0));
        let got = unpack(&packed.payload, &packed.table, &[], &[]).unwrap();
        assert!(got.len() == 64 << 20 && got.iter().all(|it| *it == 0));
    }
}

/// A few chunks of data in between: the zeros behind them must not be told one by one.
#[test]
fn data_among_zeros_takes_no_zeros_along() {
    let mut image = vec![0; 32 << 20];
    for place in 0..32 {
        image[(place << 20) + 500_000..][..20_000].fill(place as u8 + 1);
    }
    for chunking in BOTH {
        let packed = pack(&image, chunking, 65_536, 65_536);
        let per_place = packed.bodies.len() / 32;
        assert!(per_place < 24 * 12 + 40, "{chunking:?}: {per_place} bytes of body for 20 kB of data");
    }
}

/// How much of `new`, in bytes, is in pages that `old` has, too.
fn kept(old: &[u8], new: &[u8], chunking: Chunking) -> u64 {
    let old: HashSet<_> = pages(old, chunking).iter().map(|it| it.key).collect();
    pages(new, chunking).iter().filter(|it| old.contains(&it.key)).map(Page::image_len).sum()
}

#[test]
fn a_page_is_found_again_where_it_has_moved_to() {
    for seed in 1..=10 {
        let old = image(seed, 8 << 20);
        // One block more somewhere, one less, a piece from the end to the front, a block changed.
        let at = 4096 * (100 + seed as usize * 37);
        let more = [&old[..at], &[0xA5; 4096], &old[at..]].concat();
        let less = [&old[..at], &old[at + 4096..]].concat();
        let turned = [&old[5 << 20..], &old[..5 << 20]].concat();
        let mut changed = old.clone();
        changed[at] ^= 1;
        for new in [&more, &less, &turned, &changed] {
            for chunking in BOTH {
                let lost = new.len() as u64 - kept(&old, new, chunking);
                // Two places where it differs, each within the page that it is in and the ones until the cuts agree.

                assert!(lost < 3 << 19, "seed {seed}, {chunking:?}: {lost} bytes in pages that are new");
            }
        }
        // A byte more: only what is cut by content is found again.
        let odd = [&old[..at], &[0xA5], &old[at..]].concat();
        assert!(odd.len() as u64 - kept(&old, &odd, Chunking::Content) < 3 << 19, "seed {seed}");
    }
}

#[test]
fn a_page_ends_by_its_chunks_alone() {
    let id = |last: u8| ChunkId([1, 2, 3, 4, 5, 6, 7, last]);
    let ends = |ids: &[ChunkId]| {
        let mut pager = Pager::new(Chunking::Aligned);
        let mut pages: Vec<_> =
            ids.iter().filter_map(|it| pager.push(*it, 4096)).map(|it| it.chunks.len()).collect();
        pages.extend(pager.finish().map(|it| it.chunks.len()));
        pages
    };
    let (plain, end, zero) = (id(1), id(0x40), ChunkId::ZERO);
    assert_eq!(ends(&[plain; 600]), [256, 256, 88]);
    assert_eq!(ends(&[zero; 600]), [256, 256, 88]);
    assert_eq!(ends(&[end; 40]), [16, 16, 8], "no page ends before its 16th chunk");
    assert_eq!(ends(&[&[plain; 20][..], &[zero; 20], &[plain; 20]].concat()), [20, 20, 20]);
    assert_eq!(ends(&[&[plain; 10][..], &[zero; 300]].concat()), [16, 256, 38]);
    assert_eq!(ends(&[&[zero; 3][..], &[plain; 30], &[end], &[plain]].concat()), [34, 1]);
    assert_eq!(ends(&[]), [0; 0]);
}

#[test]
fn a_group_is_as_long_as_may_be_and_has_no_zeros() {
    let chunk = |id: u8, len| Chunk { id: ChunkId([id; 8]), len };
    let chunks =
        [chunk(1, 4096), chunk(2, 4096), chunk(3, 4096), chunk(0, 4096), chunk(4, 4096), chunk(5, 904)];
    assert_eq!(groups(&chunks, 8192), [0..2, 2..3, 4..6]);
    assert_eq!(groups(&chunks, 4096), [0..1, 1..2, 2..3, 4..5, 5..6]);
    assert_eq!(groups(&chunks, 1 << 20), [0..3, 4..6]);
    assert_eq!(groups(&chunks[3..4], 4096), [0..0; 0]);
    assert_eq!(groups(&[chunk(1, 16_384), chunk(2, 1)], 4096), [0..1, 1..2], "a chunk is never divided");
}
