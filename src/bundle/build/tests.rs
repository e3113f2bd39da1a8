//! Packing, checking and estimating, with images that are made here.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use super::super::{Envelope, Kind, ManifestType, PayloadType, encode_head};
use super::*;
use crate::bundle::{Chunking, Payload};
use crate::model::Sha256;

/// Bytes that no two seeds share, and that hardly pack.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Something like a file system: text that packs, noise that does not, holes, what comes again, and an odd end.
fn image() -> Vec<u8> {
    let text: Vec<u8> =
        (0..90_000_u32).flat_map(|it| format!("line {it} of much text\n").into_bytes()).collect();
    let mut image = text[..1_000_000].to_vec();
    image.resize(1_400_000 & !4095, 0);
    image.extend(noise(1, 700_000));
    image.extend(&text[500_000..1_200_000]);
    image.resize(image.len() + 3_000_000, 0);
    image.extend(noise(2, 100_001));
    image
}

fn packing(chunking: Chunking, threads: usize) -> Packing {
    Packing { threads, level: 3, ..Packing::usual(chunking) }
}

/// A bundle of an image: its manifest, the length of its head, and the file.
fn bundle(image: &[u8], packing: &Packing) -> (Manifest, u64, Vec<u8>) {
    let (mut bodies, mut data) = (vec![], vec![]);
    let mut told = 0;
    let (payload, table) =
        pack(&mut &*image, packing, &mut bodies, &mut data, &mut |done| told = done).unwrap();
    assert_eq!(told, image.len() as u64);
    let manifest = manifest(payload);
    let payload = manifest.encode().unwrap();
    let envelope = Envelope { payload_type: PayloadType::Manifest, payload, signatures: vec![] };
    let head = encode_head(b"{}", &envelope.encode()).unwrap();
    let len = head.len() as u64;
    (manifest, len, [head, table, bodies, data].concat())
}

fn manifest(payload: Payload) -> Manifest {
    Manifest {
        document: ManifestType::Manifest,
        schema: Manifest::SCHEMA,
        delegation: Sha256::of(b"{}"),
        product: "gateway".into(),
        compatible: vec![],
        version: "2.0.0".parse().unwrap(),
        rollback_index: 1,
        allow_downgrade: false,
        created: crate::model::Timestamp(0),
        expires: None,
        min_twinboot: None,
        payloads: vec![payload],
    }
}

fn checked(manifest: &Manifest, head: u64, file: &[u8]) -> Result<(), Fault> {
    check(&mut Cursor::new(file), manifest, head, &mut |_| ())
}

#[test]
fn what_was_packed_is_the_image_when_it_is_unpacked() {
    let image = image();
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let (manifest, head, file) = bundle(&image, &packing(chunking, 2));
        let slot = manifest.slot();
        assert_eq!((slot.kind, slot.size, slot.sha256), (Kind::Slot, image.len() as u64, Sha256::of(&image)));
        checked(&manifest, head, &file).unwrap();
        assert!(file.len() < image.len() / 3, "{chunking:?}: {} of {}", file.len(), image.len());
        assert_eq!(read_head(&mut &*file).unwrap().len() as u64, head);
    }
    for small in [&b"x"[..], &[0; 1], &[0; 5000], &noise(3, 4096), &noise(3, 4097)] {
        for chunking in [Chunking::Aligned, Chunking::Content] {
            let (manifest, head, file) = bundle(small, &packing(chunking, 1));
            checked(&manifest, head, &file).unwrap();
        }
    }
}

#[test]
fn however_many_threads_there_are_the_bytes_are_the_same() {
    let image = image();
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let (_, _, one) = bundle(&image, &packing(chunking, 1));
        for threads in [2, 8] {
            assert!(bundle(&image, &packing(chunking, threads)).2 == one, "{chunking:?}, {threads} threads");
        }
    }
}

/// Reads that are cut short anywhere change nothing either.
#[test]
fn however_the_image_comes_the_bytes_are_the_same() {
    struct Dribble<'a>(&'a [u8], usize);
    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 * 7 % 9973 + 1;
            let count = self.1.min(into.len());
            self.0.read(&mut into[..count])
        }
    }
    let image = &image()[1_300_000..1_900_000];
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let packing = packing(chunking, 2);
        let (mut bodies, mut data) = (vec![], vec![]);
        let dribbled = pack(&mut Dribble(image, 1), &packing, &mut bodies, &mut data, &mut |_| ()).unwrap();
        let file = bundle(image, &packing).2;
        assert!(file.ends_with(&[dribbled.1, bodies, data].concat()), "{chunking:?}");
    }
}

/// In the data there are bits that mean nothing to zstd, such as one in each frame's first byte: then the image is as it
/// was, which is what `check` says.
#[test]
fn a_changed_byte_is_found_wherever_it_changes_anything() {
    let image = &image()[900_000..1_500_000];
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let (manifest, head, mut file) = bundle(image, &packing(chunking, 2));
        let (end, data) = (file.len(), manifest.layout(head).data.start as usize);
        let mut passed = 0;
        for at in (head as usize..data).step_by(17).chain((data..end).step_by(end / 50)).chain([end - 1]) {
            file[at] ^= 0x10;
            match checked(&manifest, head, &file) {
                Err(Fault::Refused(refusal)) => {
                    assert_eq!(refusal.failure(), crate::model::Failure::BundleDamaged, "byte {at}");
                }
                Err(fault) => panic!("byte {at}: {fault}"),
                Ok(()) => {
                    assert!(at >= data, "byte {at} of the table or of a body");
                    passed += 1;
                }
            }
            file[at] ^= 0x10;
        }
        assert!(passed <= 2, "{chunking:?}: {passed} changes were not found");
        checked(&manifest, head, &file).unwrap();
        for wrong in [&file[..end - 1], &[file.as_slice(), b"x"].concat()] {
            assert!(checked(&manifest, head, wrong).unwrap_err().to_string().contains("bytes"));
        }
    }
}

#[test]
fn an_image_that_packs_to_something_else_than_was_signed_is_found() {
    let image = image();
    let (mut manifest, head, file) = bundle(&image, &packing(Chunking::Aligned, 1));
    manifest.payloads[0].sha256 = Sha256::of(b"another");
    assert!(checked(&manifest, head, &file).unwrap_err().to_string().contains("digest"));
}

fn fetched(old: &[u8], new: &[u8], chunking: Chunking) -> (Fetch, u64) {
    let (manifest, head, file) = bundle(new, &packing(chunking, 2));
    let known = Known::read(&mut &*old, chunking, &mut |_| ()).unwrap();
    (against(&mut Cursor::new(&file), &manifest, head, &known).unwrap(), file.len() as u64)
}

#[test]
fn who_has_the_image_fetches_no_data_and_who_has_nothing_fetches_all() {
    let image = image();
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let (same, all) = fetched(&image, &image, chunking);
        assert_eq!((same.bodies, same.data, same.missing), (0, 0, 0));
        assert!(same.requests <= 2 && same.total() < all);
        let (nothing, all) = fetched(&noise(9, 10_000), &image, chunking);
        let fetched = nothing.table + nothing.bodies + nothing.data;
        // With the head, 8 KiB are asked for, some of which is fetched again.
        assert!((all..all + 8192).contains(&fetched), "{chunking:?}: {fetched} of {all}");
        assert!(nothing.requests <= 4, "{nothing:?}");
    }
}

/// One change in the middle: some pieces of the data around it, and few pages.
#[test]
fn a_small_change_costs_little_and_one_that_moves_all_does_so_only_when_cut_by_content() {
    let old = noise(5, 4 << 20);
    let mut new = old.clone();
    new[2_000_000..2_010_000].copy_from_slice(&noise(6, 10_000));
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let (fetch, _) = fetched(&old, &new, chunking);
        assert!((10_000..60_000).contains(&fetch.data), "{chunking:?}: {fetch:?}");
        assert!(fetch.bodies < 10_000 && fetch.requests <= 6, "{chunking:?}: {fetch:?}");
    }
    new.splice(1_000_000..1_000_000, noise(7, 100));
    assert!(fetched(&old, &new, Chunking::Content).0.data < 100_000);
    assert!(fetched(&old, &new, Chunking::Aligned).0.data > 3_000_000);
}

#[test]
fn an_image_that_cannot_be_read_is_an_error_and_leaves_no_thread_behind() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 > 5 {
                return Err(io::Error::other("bad sector"));
            }
            into.fill(self.0 as u8);
            Ok(into.len())
        }
    }
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let packing = packing(Chunking::Aligned, 2);
    let error = pack(&mut Broken(0), &packing, &mut vec![], &mut vec![], &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "bad sector");
    let error = pack(&mut &*noise(1, 9 << 20), &packing, &mut vec![], &mut Full, &mut |_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_file_that_is_cut_short_in_its_head_is_told_to_be_that() {
    let (_, head, file) = bundle(&noise(1, 5000), &packing(Chunking::Aligned, 1));
    for len in [0, 5, 16, head as usize - 1] {
        assert!(matches!(read_head(&mut &file[..len]), Err(Fault::Refused(_))), "{len} bytes");
    }
}
