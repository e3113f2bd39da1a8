//! What a document may look like: one spelling, bounds, nothing said twice, and each type for itself.

use super::*;

/// A device would have to hold a table that it has no memory for.
#[test]
fn a_page_table_that_is_too_long_is_refused() {
    let mut maker = Maker::small();
    let table = |pages: u64| TableInfo { pages, size: pages * 28, sha256: Sha256::of(b"") };
    maker.manifest.payloads[0].table = table(149_796);
    maker.open(&Trust::default()).unwrap();
    let good = String::from_utf8(maker.manifest.encode().unwrap()).unwrap();
    maker.manifest.payloads[0].table = table(149_797);
    assert!(maker.manifest.encode().unwrap_err().contains("at most 4 MiB"));
    // Somebody else's tool may make one.
    let longer = good.replace("149796", "149797").replace("4194288", "4194316");
    let refusal = Manifest::parse(longer.as_bytes(), None).unwrap_err();
    assert_eq!(refusal.failure(), Failure::BundleDamaged);
    assert!(refusal.to_string().contains("at most 4 MiB"), "{refusal}");
}

#[test]
fn a_document_is_never_taken_for_one_of_another_type() {
    let maker = Maker::small();
    let head = maker.head();
    let (delegation, manifest) = split_head(&head).unwrap();
    let swapped = encode_head(manifest, delegation).unwrap();
    refused(
        open(&swapped, &maker.root_keys(), &Trust::default(), &device()),
        Failure::BundleSignature,
        "malformed",
    );
    // The root signs a manifest as a delegation: it is read, and is none.
    let manifest = Envelope::parse(manifest, PayloadType::Manifest).unwrap();
    let posing = sealed(PayloadType::Delegation, manifest.payload, &maker.roots);
    let head = encode_head(&posing.encode(), &manifest_bytes(&maker)).unwrap();
    refused(
        open(&head, &maker.root_keys(), &Trust::default(), &device()),
        Failure::BundleDamaged,
        "another type",
    );
    // The signature over the document alone, without its type, does not hold.
    let bare = Envelope { payload_type: PayloadType::Manifest, ..maker.delegation() };
    assert_ne!(bare.signed_bytes(), maker.delegation().signed_bytes());
}

fn manifest_bytes(maker: &Maker) -> Vec<u8> {
    split_head(&maker.head()).unwrap().1.to_vec()
}

#[test]
fn an_envelope_has_one_spelling() {
    let envelope = Maker::small().delegation();
    let text = String::from_utf8(envelope.encode()).unwrap();
    assert_eq!(Envelope::parse(text.as_bytes(), PayloadType::Delegation).unwrap(), envelope);
    let id = envelope.signatures[0].key.to_string();
    let upper = id.to_uppercase();
    for (from, to) in [
        ("{\"payloadType\"", "{ \"payloadType\""),
        (":[{", ":[ {"),
        ("]}", "]} "),
        ("]}", "]}\n"),
        ("\"payload\":", "\"payload\" :"),
        ("\"sig\":", "\"other\":1,\"sig\":"),
        ("}]}", "},]}"),
        ("}]}", "}{]}"),
        ("[{", "[,{"),
        ("==\"}", "=\"}"),
        ("==\"}", "\"}"),
        ("delegation+json", "delegation\\u002bjson"),
        (&id, &upper),
        (&id, &id[1..]),
        (&id, &format!("+{}", &id[1..])),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let refusal = Envelope::parse(changed.as_bytes(), PayloadType::Delegation).expect_err(to);
        assert_eq!(refusal.failure(), Failure::BundleSignature);
    }
    // The last digit before the padding has bits that a lenient decoder drops.
    let end = text.find("==\"}").unwrap();
    let digit = text.as_bytes()[end - 1];
    let lenient = (b'A'..=b'Z').filter(|it| *it != digit).filter(|it| {
        let mut changed = text.clone().into_bytes();
        changed[end - 1] = *it;
        Envelope::parse(&changed, PayloadType::Delegation).is_ok_and(|it| it == envelope)
    });
    assert_eq!(lenient.count(), 0);
}

/// A head whose manifest is this text, well signed.
fn head_of(maker: &Maker, manifest: &str) -> Vec<u8> {
    let delegation = maker.delegation().encode();
    let manifest = manifest.replace("DELEGATION", &Sha256::of(&delegation).to_string());
    let manifest = sealed(PayloadType::Manifest, manifest.into_bytes(), &maker.signers);
    encode_head(&delegation, &manifest.encode()).unwrap()
}

/// The text of a manifest that is good.
fn text_of(maker: &Maker) -> String {
    let text = String::from_utf8(maker.manifest.encode().unwrap()).unwrap();
    text.replace(&Sha256::of(b"").to_string(), "DELEGATION")
}

#[test]
fn what_is_newer_says_that_a_newer_twinboot_is_needed() {
    let maker = Maker::small();
    let text = text_of(&maker);
    let judge = |text: &str| open(&head_of(&maker, text), &maker.root_keys(), &Trust::default(), &device());
    judge(&text).unwrap();
    for (from, to, part) in [
        ("\"schema\":1", "\"schema\":2,\"colour\":\"red\"", "schema 2"),
        ("\"kind\":\"slot\"", "\"kind\":\"bootloader\",\"where\":1", "bootloader"),
        ("aligned-4096", "content-1024", "content-1024"),
        ("\"payloads\":[", "\"payloads\":[{\"kind\":\"application\",\"chunking\":\"-\"},", "application"),
        ("\"payloads\":", "\"min_twinboot\":\"9.0.0\",\"colour\":\"red\",\"payloads\":", "9.0.0"),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        refused(judge(&changed), Failure::BundleIncompatible, part);
        refused(judge(&changed), Failure::BundleIncompatible, "newer twinboot");
    }
    let mut head = maker.head();
    head[7] = 2;
    refused(
        open(&head, &maker.root_keys(), &Trust::default(), &device()),
        Failure::BundleIncompatible,
        "format 2",
    );
    // There never was an older one.
    head[7] = 0;
    let judged = open(&head, &maker.root_keys(), &Trust::default(), &device());
    refused(judged, Failure::BundleDamaged, "no bundle");
    refused(judge(&text.replacen("\"schema\":1", "\"schema\":0", 1)), Failure::BundleDamaged, "schema 0");
}

#[test]
fn p039_what_is_too_long_or_too_deep_is_refused() {
    // The head tells lengths first: more than 64 KiB is never asked for.
    for (a, b) in [(65_537, 10), (10, 65_537), (10 << 20, 1), (u32::MAX, u32::MAX), (0, 1), (1, 0)] {
        let first = [&MAGIC[..], &u32::to_le_bytes(a), &u32::to_le_bytes(b)].concat();
        assert_eq!(head_len(&first).unwrap_err().failure(), Failure::BundleDamaged);
    }
    assert_eq!(head_len(&[&MAGIC[..], &65_536_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat()), Ok(65_553));
    let maker = Maker::small();
    let text = text_of(&maker);
    let parse = |text: &str| Manifest::parse(text.replace("DELEGATION", &"0".repeat(64)).as_bytes(), None);
    parse(&text).unwrap();
    let padded = |len: usize| format!("{text}{}", " ".repeat(len - text.len() - 64 + "DELEGATION".len()));
    parse(&padded(65_536)).unwrap();
    for len in [65_537, 10_000_000] {
        assert!(parse(&padded(len)).unwrap_err().to_string().contains("longer than"));
    }
    for depth in [11, 128, 100_000] {
        let deep = text.replacen(
            "\"product\":",
            &format!("\"x\":{}1{},\"product\":", "[".repeat(depth), "]".repeat(depth)),
            1,
        );
        let refusal = parse(&deep).unwrap_err();
        let part = if deep.len() > 65_536 { "longer" } else { "deeper" };
        assert!(refusal.to_string().contains(part), "{refusal}");
    }
}

/// What is replaced in a good manifest, and by what.
const DOUBTFUL: &[(&str, &str)] = &[
    ("\"product\":", "\"product\":\"a\",\"product\":"),
    ("\"product\":", "\"pr\\u006fduct\":\"a\",\"product\":"),
    ("\"product\":", "\"colour\":1,\"product\":"),
    ("\"size\":", "\"size\":1,\"size\":"),
    ("\"group\":", "\"size\":1,\"group\":"),
    ("\"pages\":", "\"pages\":1,\"pages\":"),
    ("\"type\":", "\"type\":\"manifest\",\"type\":"),
    ("\"type\":\"manifest\"", "\"type\":\"delegation\""),
    ("\"rollback_index\":7", "\"rollback_index\":-7"),
    ("\"rollback_index\":7", "\"rollback_index\":7.0"),
    ("\"rollback_index\":7", "\"rollback_index\":7e0"),
    ("\"rollback_index\":7", "\"rollback_index\":\"7\""),
    ("\"rollback_index\":7", "\"rollback_index\":18446744073709551616"),
    ("\"rollback_index\":7,", ""),
    ("\"rollback_index\":7,", "\"rollback_index\":7,\"expires\":null,"),
    ("\"rollback_index\":7,", "\"rollback_index\":7,\"min_twinboot\":null,"),
    ("\"rollback_index\":7,", "\"rollback_index\":7,\"min_twinboot\":\"1\","),
    ("\"created\":\"2026", "\"created\":\"026"),
    ("\"gateway\"", "\"\""),
    ("\"gateway\"", "\"gate way\""),
    ("\"rev-b\"", "\"r\\u0000\""),
    ("\"chunking\":", "\"parts\":[{\"size\":4999}],\"chunking\":"),
    ("\"chunking\":", "\"parts\":[{\"size\":5000},{\"size\":0}],\"chunking\":"),
    ("\"chunking\":", "\"parts\":[{\"size\":5000,\"name\":\"x\"}],\"chunking\":"),
    ("\"chunking\":", "\"parts\":[{\"size\":18446744073709551615},{\"size\":5001}],\"chunking\":"),
    ("\"size\":5000", "\"size\":0"),
    ("\"size\":5000", "\"size\":1099511627777"),
    ("\"group\":65536", "\"group\":4095"),
    ("\"group\":65536", "\"group\":1048577"),
    ("\"prefix\":65536", "\"prefix\":4194305"),
    ("\"pages\":1", "\"pages\":2"),
    ("\"pages\":1", "\"pages\":658812288374171466"),
    ("\"bodies\":", "\"bodies\":9999"),
    ("\"data\":", "\"data\":9999"),
    ("]}", "]"),
    ("]}", "]}}"),
];

#[test]
fn p039_what_says_a_thing_twice_or_means_nothing_is_refused() {
    let text = text_of(&Maker::small());
    let parse = |text: &str| Manifest::parse(text.replace("DELEGATION", &"0".repeat(64)).as_bytes(), None);
    for (from, to) in DOUBTFUL {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert_eq!(parse(&changed).expect_err(to).failure(), Failure::BundleDamaged, "{to}");
    }
    assert!(
        parse(&text.replace("\"chunking\":", "\"parts\":[{\"size\":4000},{\"size\":1000}],\"chunking\":"))
            .is_ok()
    );
    let payload = &text[text.find("\"payloads\":[").unwrap() + 12..text.len() - 2];
    let none = text.replace(payload, "");
    assert_eq!(parse(&none).expect_err("none").failure(), Failure::BundleDamaged);
}

#[test]
fn p039_a_delegation_keeps_its_bounds() {
    let mut maker = Maker::small();
    let good = maker.delegation.clone();
    for keys in [vec![], vec![good.keys[0].clone(); 2], (0..33).map(|_| delegated(&key())).collect()] {
        let wrong = Delegation { keys, ..good.clone() };
        assert!(wrong.encode().is_err());
        let bytes = serde_json::to_vec(&wrong).unwrap();
        assert_eq!(Delegation::parse(&bytes).unwrap_err().failure(), Failure::BundleDamaged);
    }
    maker.delegation.revoked = (0..1025_u128).map(|it| KeyId(it.to_be_bytes())).collect();
    assert!(maker.delegation.encode().is_err());
    maker.delegation.revoked.pop_last();
    let bytes = maker.delegation.encode().unwrap();
    assert_eq!(Delegation::parse(&bytes).unwrap(), maker.delegation);
    assert!(maker.open(&Trust::default()).is_ok(), "the most there can be fits into an envelope");
}
