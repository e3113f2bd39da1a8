//! P029: no bit of what is trusted can be changed.

use super::*;
use crate::bundle::json::counter::reads;

/// Changes each single bit of `bytes`, and gives what comes of it to `judge` along with the place of its byte.
fn each_flip(bytes: &[u8], mut judge: impl FnMut(usize, &[u8])) -> usize {
    let mut changed = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        changed[bit / 8] ^= 1 << (bit % 8);
        judge(bit / 8, &changed);
        changed[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(changed, bytes);
    bytes.len() * 8
}

fn flip_every_bit_of_the_head(maker: &Maker) {
    let head = maker.head();
    let (roots, trust) = (maker.root_keys(), Trust::default());
    let (delegation, _) = split_head(&head).unwrap();
    let end = HEAD_FIXED + delegation.len();
    let before = reads();
    open(&head, &roots, &trust, &device()).unwrap();
    assert_eq!(reads() - before, 2, "a good head: the delegation and the manifest are read");
    let mut most = 0;
    let flips = each_flip(&head, |at, changed| {
        let before = reads();
        let refusal = open(changed, &roots, &trust, &device()).expect_err("accepted");
        let read = reads() - before;
        most = most.max(read);
        let place = format!("byte {at}: {refusal}");
        // What is changed is never read. The delegation, where it is not, may be.
        assert_eq!(read, u64::from(at >= end), "{place}");
        let codes: &[Failure] = match at {
            // The version: a later one is another twinboot's, an earlier one there never was.
            7 if changed[7] > head[7] => &[Failure::BundleIncompatible],
            0..8 => &[Failure::BundleDamaged],
            8..HEAD_FIXED => &[Failure::BundleDamaged, Failure::BundleSignature],
            _ => &[Failure::BundleSignature, Failure::BundleKey],
        };
        assert!(codes.contains(&refusal.failure()), "{}: {place}", refusal.failure());
    });
    assert!(flips > 10_000 && most == 1, "{flips} flips, {most}");
}

#[test]
fn p029_every_single_bit_of_the_head_counts_and_nothing_is_parsed_before_its_signatures_hold() {
    flip_every_bit_of_the_head(&Maker::small());
}

#[test]
fn p029_every_single_bit_of_the_head_counts_with_several_keys() {
    let mut maker = Maker::small();
    maker.roots.push(key());
    maker.threshold = 2;
    let second = key();
    maker.delegation.keys.push(delegated(&second));
    maker.signers.push(second);
    flip_every_bit_of_the_head(&maker);
}

/// A signature that this device has no key for, or does not need: it cannot be judged by itself, but the manifest binds
/// it.
#[test]
fn p029_every_single_bit_of_a_signature_counts_that_nobody_needs() {
    let mut maker = Maker::small();
    maker.roots.extend([key(), key()]);
    let known = maker.roots.len() - 1;
    let head = maker.head();
    // The last of the three is another generation's.
    let roots = RootKeys::new(1, maker.roots[..known].iter().map(|it| *it.public()));
    open(&head, &roots, &Trust::default(), &device()).unwrap();
    each_flip(&head, |at, changed| {
        assert!(open(changed, &roots, &Trust::default(), &device()).is_err(), "byte {at}");
    });
}

#[test]
fn p029_every_single_bit_of_table_and_bodies_counts() {
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let image = image(5, 700_000);
        let packed = pack(&image, chunking, 16_384, 65_536);
        assert!(packed.payload.table.pages > 4 && packed.bodies.len() > 1000);
        each_flip(&packed.table, |at, changed| {
            let refusal = Table::parse(changed, &packed.payload).expect_err("accepted");
            assert_eq!(refusal.failure(), Failure::BundleDamaged, "byte {at}");
        });
        let table = Table::parse(&packed.table, &packed.payload).unwrap();
        for entry in table.pages().iter().filter(|it| !it.is_zero()) {
            let body = &packed.bodies[entry.body_at as usize..][..entry.body_len as usize];
            Body::parse(body, entry, &packed.payload).unwrap();
            each_flip(body, |at, changed| {
                let refusal = Body::parse(changed, entry, &packed.payload).expect_err("accepted");
                assert_eq!(refusal.failure(), Failure::BundleDamaged, "byte {at}");
            });
        }
    }
}

/// Whoever signs a table by mistake must not have a device make room for hundreds of megabytes.
#[test]
fn a_body_longer_than_any_can_be_is_refused_before_it_is_fetched() {
    let packed = pack(&image(5, 700_000), Chunking::Aligned, 16_384, 65_536);
    let pages = Table::parse(&packed.table, &packed.payload).unwrap().pages().to_vec();
    let at = pages.iter().position(|it| !it.is_zero()).unwrap();
    for (body_len, is_good) in [(Body::LONGEST, true), (Body::LONGEST + 1, false), (u32::MAX, false)] {
        let mut changed = pages.clone();
        changed[at].body_len = body_len;
        let table: Vec<u8> = changed.iter().flat_map(Entry::encode).collect();
        let bodies = changed.iter().map(|it| u64::from(it.body_len)).sum();
        let info = TableInfo { sha256: Sha256::of(&table), ..packed.payload.table };
        let parsed = Table::parse(&table, &Payload { bodies, table: info, ..packed.payload.clone() });
        assert_eq!(parsed.is_ok(), is_good, "{body_len}: {parsed:?}");
    }
}

/// Compressed data has bits that mean nothing. What matters: no other image comes of it.
#[test]
fn p029_a_changed_bit_of_the_data_never_makes_another_image() {
    let image = image(6, 60_000);
    let packed = pack(&image, Chunking::Aligned, 16_384, 65_536);
    let mut same = 0;
    let flips = each_flip(&packed.data, |at, changed| {
        match unpack(&packed.payload, &packed.table, &packed.bodies, changed) {
            Ok(got) => {
                assert!(got == image, "byte {at}");
                same += 1;
            }
            Err(refusal) => assert_eq!(refusal.failure(), Failure::BundleDamaged, "byte {at}"),
        }
    });
    assert!(flips > 20_000 && same * 100 < flips, "{same} of {flips}");
}
