//! Who is believed, and what is installed where: the catalogue's group B as far as it is decided here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::bundle::json::counter::reads;

/// A bundle that is refused brings its revocations all the same: else who spoils it keeps them from a device.
#[test]
fn a_delegation_that_holds_counts_whatever_the_rest_is_like() {
    let mut maker = Maker::small();
    let stolen = key();
    maker.delegation.epoch = 5;
    maker.delegation.revoked.insert(stolen.public().id());
    maker.manifest.product = "kettle".into();
    let (head, roots) = (maker.head(), maker.root_keys());
    let mut spoilt = head.clone();
    *spoilt.last_mut().unwrap() ^= 1;
    for (head, failure) in [(&head, Failure::BundleIncompatible), (&spoilt, Failure::BundleSignature)] {
        let delegated = super::super::delegated(head, &roots, &Trust::default()).unwrap();
        let trust = delegated.trust().clone();
        assert_eq!((trust.epoch, trust.revoked.contains(&stolen.public().id())), (5, true));
        assert_eq!(delegated.open(&device()).unwrap_err().failure(), failure);
        // And an older word of the root keys is none any more.
        maker.delegation.epoch = 4;
        refused(maker.open(&trust), Failure::BundleRevoked, "epoch 5");
    }
    // What the root keys did not sign says nothing.
    let strangers = RootKeys::new(1, [*key().public()]);
    let refusal = super::super::delegated(&head, &strangers, &Trust::default()).unwrap_err();
    assert_eq!(refusal.failure(), Failure::BundleKey);
}

#[test]
fn p027_a_good_bundle_is_accepted() {
    let maker = Maker::small();
    let head = maker.head();
    assert_eq!(head_len(&head[..HEAD_FIXED]), Ok(head.len() as u64));
    let opened = maker.open(&Trust::default()).unwrap();
    assert_eq!(opened.manifest.version.as_str(), "2.8.5");
    assert_eq!((opened.id, opened.head_len), (Sha256::of(&head), head.len() as u64));
    assert_eq!((opened.trust.epoch, opened.trust.revoked.len()), (1, 0));
    assert_eq!(opened.notes, [""; 0]);
    let slot = opened.manifest.slot();
    let layout = opened.manifest.layout(opened.head_len);
    assert_eq!(layout.table, opened.head_len..opened.head_len + slot.table.size);
    assert_eq!((layout.bodies.start, layout.data.start), (layout.table.end, layout.bodies.end));
    assert_eq!(layout.total, layout.data.end);
    // The same bundle again, by what is remembered then.
    assert_eq!(maker.open(&opened.trust).unwrap().trust, opened.trust);
    let remembered = serde_json::to_vec(&opened.trust).unwrap();
    assert_eq!(serde_json::from_slice::<Trust>(&remembered).unwrap(), opened.trust);
}

/// An envelope in which the signature is these bytes.
fn signed_by(envelope: &Envelope, signature: Option<&[u8]>) -> Vec<u8> {
    let text = String::from_utf8(envelope.encode()).unwrap();
    let (before, _) = text.split_once("\"signatures\":").unwrap();
    let one = signature.map_or(String::new(), |it| {
        format!("{{\"keyid\":\"{}\",\"sig\":\"{}\"}}", envelope.signatures[0].key, STANDARD.encode(it))
    });
    format!("{before}\"signatures\":[{one}]}}").into_bytes()
}

#[test]
fn p030_a_signature_that_is_missing_or_of_another_length_is_none() {
    let maker = Maker::small();
    let (delegation, roots) = (maker.delegation(), maker.root_keys());
    let head = maker.head();
    let (_, manifest) = split_head(&head).unwrap();
    let manifest = Envelope::parse(manifest, PayloadType::Manifest).unwrap();
    let good = &manifest.signatures[0].bytes;
    let long = vec![7; 4096];
    let wrong = [
        None,
        Some(&good[..0]),
        Some(&good[..63]),
        Some(&[&good[..], &[0]].concat()[..]),
        Some(&long[..]),
        Some(&[0; 64][..]),
    ]
    .map(|it| (signed_by(&manifest, it), signed_by(&delegation, it)));
    for (manifest, bad_delegation) in &wrong {
        let head = encode_head(&delegation.encode(), manifest).unwrap();
        let before = reads();
        refused(open(&head, &roots, &Trust::default(), &device()), Failure::BundleSignature, "manifest");
        assert_eq!(reads() - before, 1, "the delegation alone was read");
        let head = encode_head(bad_delegation, manifest).unwrap();
        refused(open(&head, &roots, &Trust::default(), &device()), Failure::BundleSignature, "delegation");
        assert_eq!(reads() - before, 1);
    }
    assert_eq!(signed_by(&manifest, Some(good)), manifest.encode(), "what was compared with is well made");
    // Seventeen that are good.
    let many = Envelope { signatures: vec![manifest.signatures[0].clone(); 17], ..manifest.clone() };
    let head = encode_head(&delegation.encode(), &many.encode()).unwrap();
    refused(open(&head, &roots, &Trust::default(), &device()), Failure::BundleSignature, "more than 16");
}

#[test]
fn p032_a_bundle_for_something_else_is_refused() {
    let mut maker = Maker::small();
    let none = Trust::default();
    maker.manifest.product = "kettle".into();
    refused(maker.open(&none), Failure::BundleIncompatible, "kettle");
    maker.manifest.product = "gateway".into();
    maker.manifest.compatible = vec!["rev-a".into()];
    refused(maker.open(&none), Failure::BundleIncompatible, "rev-a");
    maker.manifest.compatible = vec![];
    maker.open(&none).unwrap();
    maker.manifest.min_twinboot = Some("0.1.1".into());
    refused(maker.open(&none), Failure::BundleIncompatible, "0.1.1");
    for fine in ["0.1.0", "0.0.99"] {
        maker.manifest.min_twinboot = Some(fine.into());
        maker.open(&none).unwrap();
    }
    // A device that has not been told what it is says so, and installs.
    let untold = Device { product: None, compatible: &[], ..device() };
    maker.manifest.compatible = vec!["rev-a".into()];
    let opened = open(&maker.head(), &maker.root_keys(), &none, &untold).unwrap();
    assert_eq!(opened.notes.len(), 2, "{:?}", opened.notes);
}

#[test]
fn p033_a_key_that_is_not_known_is_refused() {
    let maker = Maker::small();
    let other = Maker::small();
    let judge = |maker: &Maker, roots: &RootKeys| open(&maker.head(), roots, &Trust::default(), &device());
    refused(judge(&maker, &other.root_keys()), Failure::BundleKey, "no root key");
    refused(judge(&maker, &RootKeys::default()), Failure::BundleKey, "no root keys");
    // Signed by somebody whom the delegation does not name; by the root itself.
    let mut stranger = Maker::small();
    stranger.signers = vec![key()];
    refused(judge(&stranger, &stranger.root_keys()), Failure::BundleKey, "does not name it");
    stranger.signers = vec![];
    refused(judge(&stranger, &stranger.root_keys()), Failure::BundleSignature, "nobody signed");
    // A good signature does not help one that may not be there.
    let mut both = Maker::small();
    both.signers.push(key());
    refused(judge(&both, &both.root_keys()), Failure::BundleKey, "does not name it");
    // A signature under the id of another key does not hold.
    let mut posing = maker.delegation();
    posing.signatures =
        vec![Signature { key: maker.roots[0].public().id(), ..other.delegation().signatures[0].clone() }];
    let head = maker.head_with(&posing);
    refused(
        open(&head, &maker.root_keys(), &Trust::default(), &device()),
        Failure::BundleSignature,
        "does not hold",
    );
}

#[test]
fn p034_keys_are_changed_and_what_was_revoked_stays_so() {
    // N names the old key and the new one.
    let mut maker = Maker::small();
    let (old_key, new) = (maker.delegation.keys[0].clone(), key());
    let id = old_key.key.id();
    maker.delegation.keys.push(delegated(&new));
    let trust = maker.open(&Trust::default()).unwrap().trust;
    let old_head = maker.head();
    // N+1 is signed by the new one, and then the old one is revoked.
    let old = std::mem::replace(&mut maker.signers, vec![new]);
    let trust = maker.open(&trust).unwrap().trust;
    maker.delegation.epoch = 2;
    maker.delegation.keys.remove(0);
    maker.delegation.revoked.insert(id);
    let trust = maker.open(&trust).unwrap().trust;
    assert!(trust.epoch == 2 && trust.revoked.contains(&id));
    // N+2 by the old one: with the delegation of old, or with one that names it again by mistake.
    let roots = maker.root_keys();
    refused(open(&old_head, &roots, &trust, &device()), Failure::BundleRevoked, "epoch 1");
    maker.delegation.epoch = 3;
    maker.delegation.revoked.clear();
    maker.delegation.keys.push(old_key);
    let trust = maker.open(&trust).unwrap().trust;
    assert!(trust.revoked.contains(&id), "remembered, although this delegation does not tell it");
    maker.signers = old;
    refused(maker.open(&trust), Failure::BundleRevoked, "revoked");
}

#[test]
fn two_delegations_of_one_epoch_are_two_opinions() {
    let mut maker = Maker::small();
    let trust = maker.open(&Trust::default()).unwrap().trust;
    maker.delegation.keys.push(delegated(&key()));
    refused(maker.open(&trust), Failure::BundleKey, "another delegation of epoch 1");
    maker.delegation.epoch = 2;
    assert_eq!(maker.open(&trust).unwrap().trust.epoch, 2);
}

fn sign_with(maker: &Maker, roots: &[SigningKey]) -> Vec<u8> {
    maker.head_with(&sealed(PayloadType::Delegation, maker.delegation.encode().unwrap(), roots))
}

#[test]
fn p034_a_root_key_is_revoked_and_another_takes_over() {
    let mut maker = Maker::small();
    maker.roots.push(key());
    maker.threshold = 1;
    let roots = maker.root_keys();
    maker.delegation.revoked.insert(maker.roots[0].public().id());
    let trust = maker.open(&Trust::default()).unwrap().trust;
    assert!(
        roots.is_reachable(&trust.revoked)
            && !RootKeys::new(2, roots.keys().values().copied()).is_reachable(&trust.revoked)
    );
    maker.delegation.epoch = 2;
    refused(
        open(&sign_with(&maker, &maker.roots[..1]), &roots, &trust, &device()),
        Failure::BundleRevoked,
        "root key",
    );
    open(&sign_with(&maker, &maker.roots[1..]), &roots, &trust, &device()).unwrap();
    open(&sign_with(&maker, &maker.roots), &roots, &trust, &device()).unwrap();
}

#[test]
fn p035_two_of_three_are_two_different_ones() {
    let mut maker = Maker::small();
    maker.roots.extend([key(), key()]);
    let roots = RootKeys::new(2, maker.roots.iter().map(|it| *it.public()));
    let judge = |head: &[u8]| open(head, &roots, &Trust::default(), &device());
    refused(
        judge(&sign_with(&maker, &maker.roots[..1])),
        Failure::BundleSignature,
        "1 root keys signed the delegation, 2 have to",
    );
    let mut twice = maker.delegation();
    twice.signatures.truncate(1);
    twice.signatures.push(twice.signatures[0].clone());
    refused(judge(&maker.head_with(&twice)), Failure::BundleSignature, "2 have to");
    for two in [[0, 1], [1, 2], [2, 0]] {
        let mut envelope = maker.delegation();
        envelope.signatures = two.map(|it| envelope.signatures[it].clone()).to_vec();
        judge(&maker.head_with(&envelope)).unwrap();
    }
    // A key that is configured twice is one key.
    let same = RootKeys::new(2, [*maker.roots[0].public(); 2]);
    assert!(same.keys().len() == 1 && !same.is_reachable(&BTreeSet::new()));
    assert_eq!(RootKeys::new(0, []).threshold(), 1, "nobody is no threshold");
}

#[test]
fn p036_what_has_expired_is_refused_where_the_time_is_known() {
    let none = Trust::default();
    let no_clock = Device { now: None, ..device() };
    let mut maker = Maker::small();
    maker.manifest.expires = Some(at("2026-11-21T00:00:00Z"));
    refused(maker.open(&none), Failure::BundleExpired, "2026-11-21");
    let opened = open(&maker.head(), &maker.root_keys(), &none, &no_clock).unwrap();
    assert!(opened.notes.len() == 1 && opened.notes[0].contains("clock"), "{:?}", opened.notes);
    maker.manifest.expires = Some(at("2026-11-21T00:00:01Z"));
    assert_eq!(maker.open(&none).unwrap().notes.len(), 0);
    // The key.
    maker.delegation.keys[0].not_after = Some(at("2026-11-20T00:00:00Z"));
    refused(maker.open(&none), Failure::BundleExpired, "key");
    maker.delegation.keys[0].not_after = Some(at("2026-11-21T00:00:01Z"));
    maker.open(&none).unwrap();
    maker.delegation.keys[0].not_after = Some(at("2026-11-21T00:00:00Z"));
    refused(maker.open(&none), Failure::BundleExpired, "key");
    let opened = open(&maker.head(), &maker.root_keys(), &none, &no_clock).unwrap();
    assert_eq!(opened.notes.len(), 2, "{:?}", opened.notes);
    // Another key that is good is enough.
    let second = key();
    maker.delegation.keys.push(delegated(&second));
    maker.signers.push(second);
    maker.open(&none).unwrap();
}

#[test]
fn p037_a_lower_index_needs_a_signed_permission() {
    let none = Trust::default();
    let mut maker = Maker::small();
    for (index, fine) in [
        (6, false),
        (0, false),
        (7, true),
        (8, true),
        (7 + (1 << 32), false),
        (6 + (1 << 32), true),
        (u64::MAX, false),
    ] {
        maker.manifest.rollback_index = index;
        maker.manifest.allow_downgrade = false;
        match maker.open(&none) {
            Ok(_) => assert!(fine, "{index}"),
            Err(refusal) => {
                assert!(!fine && refusal.failure() == Failure::BundleDowngrade, "{index}: {refusal}");
            }
        }
        maker.manifest.allow_downgrade = true;
        maker.open(&none).unwrap();
    }
    // Only the index counts: which version is newer is the operator's business.
    maker.manifest.rollback_index = 7;
    maker.manifest.allow_downgrade = false;
    maker.manifest.version = "0.0.1".parse().unwrap();
    maker.open(&none).unwrap();
}

#[test]
fn the_manifest_is_bound_to_the_delegation_that_it_came_with() {
    let mut maker = Maker::small();
    let head = maker.head();
    let (_, manifest) = split_head(&head).unwrap();
    maker.delegation.epoch = 2;
    let mixed = encode_head(&maker.delegation().encode(), manifest).unwrap();
    refused(
        open(&mixed, &maker.root_keys(), &Trust::default(), &device()),
        Failure::BundleSignature,
        "another delegation",
    );
}
