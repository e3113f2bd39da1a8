//! Any bytes at all: no panic, no more memory than the bounds say, never another length than was promised.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn settings(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() }
}

/// A table and a body and data that are good, of either chunking, and their image.
fn sample(content: bool) -> &'static (make::Packed, Vec<u8>) {
    static SAMPLES: LazyLock<[(make::Packed, Vec<u8>); 2]> = LazyLock::new(|| {
        let image = image(9, 300_000);
        [Chunking::Aligned, Chunking::Content].map(|it| (pack(&image, it, 32_768, 65_536), image.clone()))
    });
    &SAMPLES[usize::from(content)]
}

/// The same with the digests that belong to changed bytes: what a signer could do to a device, by mistake or not.
fn resigned(packed: &make::Packed, table: &[u8]) -> Payload {
    let mut payload = packed.payload.clone();
    payload.table = TableInfo {
        size: table.len() as u64,
        pages: (table.len() / Entry::LEN) as u64,
        sha256: Sha256::of(table),
    };
    payload
}

proptest! {
    #![proptest_config(settings(2000))]

    #[test]
    fn any_bytes_are_no_head(bytes in prop::collection::vec(any::<u8>(), 0..300), magic: bool) {
        let head = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
        let maker = RootKeys::new(1, [*key().public()]);
        prop_assert!(open(&head, &maker, &Trust::default(), &device()).is_err());
        if let Ok(len) = head_len(&head) {
            prop_assert!(len <= 16 + 2 * MAX_ENVELOPE as u64);
        }
    }

    #[test]
    fn any_bytes_are_no_document(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Manifest::parse(&bytes, Some("0.1.0")).is_err());
        prop_assert!(Delegation::parse(&bytes).is_err());
        for of in [PayloadType::Manifest, PayloadType::Delegation] {
            prop_assert!(Envelope::parse(&bytes, of).is_err());
        }
    }

    #[test]
    fn any_text_like_a_manifest_is_read_without_panic(
        at in 0_usize..900, len in 0_usize..40, piece in "[\\[\\]{}\",:0-9a-z\\\\u.-]{0,40}",
    ) {
        let text = serde_json::to_string(&Maker::small().manifest).unwrap();
        let (at, end) = (at.min(text.len()), (at + len).min(text.len()));
        let changed = format!("{}{piece}{}", &text[..at], &text[end..]);
        if let Ok(manifest) = Manifest::parse(changed.as_bytes(), Some("0.1.0")) {
            // What is read is in bounds, and comes back as it was.
            let encoded = manifest.encode().unwrap();
            prop_assert_eq!(Manifest::parse(&encoded, None).unwrap(), manifest);
        }
    }

    #[test]
    fn any_text_like_an_envelope_has_its_one_spelling(
        at in 0_usize..600, len in 0_usize..20, piece in "[\\[\\]{}\",:0-9a-zA-Z=+/]{0,20}",
    ) {
        let text = String::from_utf8(Maker::small().delegation().encode()).unwrap();
        let (at, end) = (at.min(text.len()), (at + len).min(text.len()));
        let changed = format!("{}{piece}{}", &text[..at], &text[end..]);
        if let Ok(envelope) = Envelope::parse(changed.as_bytes(), PayloadType::Delegation) {
            prop_assert_eq!(envelope.encode(), changed.into_bytes());
        }
    }

    #[test]
    fn any_key_file_is_read_without_panic(text in "\\PC{0,200}", lines in prop::collection::vec("[A-Za-z0-9+/=# -]{0,70}", 0..5)) {
        for text in [text, lines.join("\n")] {
            if let Ok(key) = PublicKey::parse(&text) {
                prop_assert_eq!(PublicKey::parse(&key.to_pem()), Ok(key));
            }
            prop_assert!(SigningKey::parse(&text).is_err());
        }
    }

    #[test]
    fn any_table_is_read_without_panic(table in prop::collection::vec(any::<u8>(), 0..40 * 28), content: bool) {
        let packed = &sample(content).0;
        prop_assert!(Table::parse(&table, &packed.payload).is_err());
        prop_assert!(Table::parse(&table, &resigned(packed, &table)).is_err());
    }

    #[test]
    fn any_body_is_read_without_panic(
        body in prop::collection::vec(any::<u8>(), 0..4000), count in 0_u16..300, image_len in 0..5_000_000_u32, data_len: u32, content: bool,
    ) {
        let packed = &sample(content).0;
        let body = [&count.to_le_bytes()[..], &body].concat();
        let key_len = usize::from(count) * if content { 12 } else { 8 };
        // A key that is right, so that what comes behind is read.
        let key = body.get(2..2 + key_len).map_or(PageKey([0; 16]), PageKey::of_bytes);
        let entry = Entry { key, image_at: 0, image_len, body_at: 0, body_len: body.len() as u32, data_at: 0, data_len };
        if let Ok(body) = Body::parse(&body, &entry, &packed.payload) {
            prop_assert_eq!(body.chunks.iter().map(|it| it.len).sum::<u32>(), image_len);
            prop_assert_eq!(body.groups.iter().map(|it| it.packed).sum::<u32>(), data_len);
        }
    }

    #[test]
    fn a_damaged_group_never_gives_more_or_less_than_was_promised(
        data in prop::collection::vec(any::<u8>(), 0..2000), raw in 0_u32..200_000, prefix in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        let packed = &sample(false).0;
        let mut unpacker = Unpacker::new(&packed.payload);
        if let Ok(got) = unpacker.unpack(&prefix, &data, raw) {
            prop_assert_eq!(got.len(), raw as usize);
        }
    }
}

proptest! {
    #![proptest_config(settings(300))]

    #[test]
    fn data_that_is_changed_cut_or_stretched_makes_no_other_image(
        at in 0_usize..200_000, piece in prop::collection::vec(any::<u8>(), 1..64), content: bool,
    ) {
        let (packed, image) = sample(content);
        let mut data = packed.data.clone();
        let at = at % data.len();
        let end = (at + piece.len()).min(data.len());
        data[at..end].copy_from_slice(&piece[..end - at]);
        if let Ok(got) = unpack(&packed.payload, &packed.table, &packed.bodies, &data) {
            prop_assert!(&got == image);
        }
    }
}

/// A few bytes that want to become a gigabyte, or a window of as much: they get what was promised, and no more.
#[test]
fn a_group_that_wants_too_much_is_refused() {
    let payload = Payload { group: 65_536, ..sample(false).0.payload.clone() };
    let mut unpacker = Unpacker::new(&payload);
    // A frame with the largest window, then a block of one byte repeated: 128 KiB from four bytes.
    let block = |last: u32, len: u32| (last | 1 << 1 | len << 3).to_le_bytes()[..3].to_vec();
    let header = [0, 0x58_u8];
    let bomb = [&header[..], &block(0, 131_072), &[7], &block(1, 131_072), &[7]].concat();
    for raw in [1000, 65_536] {
        assert_eq!(unpacker.unpack(&[], &bomb, raw).expect_err("unpacked").failure(), Failure::BundleDamaged);
    }
    for window in [0x00, 0x50, 0x58, 0xA8, 0xFF] {
        let frame = [&[0, window][..], &block(1, 1000), &[7]].concat();
        match unpacker.unpack(&[], &frame, 1000) {
            Ok(got) => assert_eq!(got, [7; 1000]),
            Err(refusal) => assert_eq!(refusal.failure(), Failure::BundleDamaged),
        }
        for raw in [999, 1001] {
            assert!(unpacker.unpack(&[], &frame, raw).is_err(), "{raw} of 1000");
        }
    }
    // More than the manifest's longest group is never made room for.
    assert!(unpacker.unpack(&[], &bomb, u32::MAX).is_err());
    // A frame of another kind behind the first, or nothing at all.
    assert!(unpacker.unpack(&[], &[], 10).is_err());
    assert_eq!(
        unpacker.unpack(&[], b"0123456789", 10).unwrap(),
        b"0123456789",
        "as long as it is raw: as it is"
    );
    assert_eq!(unpacker.unpack(&[], &[], 0).unwrap(), b"");
}

/// What stands before is part of the meaning.
#[test]
fn a_group_with_another_prefix_is_another_group_or_none() {
    let mut old = image(3, 4 << 20);
    old.retain(|it| *it != 0);
    old.truncate(65_536);
    let mut new = old.clone();
    new[100] ^= 1;
    let both = [&old[..], &new].concat();
    let packed = pack(&both, Chunking::Aligned, 65_536, 65_536);
    let alone = pack(&old, Chunking::Aligned, 65_536, 65_536);
    assert!(packed.data.len() < alone.data.len() + 2000, "the second half is told by the first");
    let got = unpack(&packed.payload, &packed.table, &packed.bodies, &packed.data).unwrap();
    assert!(got == both);
    let blind = Payload { prefix: 0, ..packed.payload.clone() };
    assert!(unpack(&blind, &packed.table, &packed.bodies, &packed.data).is_err());
}
