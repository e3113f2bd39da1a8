//! The head of a bundle: envelopes, documents, keys, and whether they are believed.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use twinboot::bundle::{
    Chunking, DelegatedKey, Delegation, DelegationType, Device, Envelope, Kind, Manifest, ManifestType, Part,
    Payload, PayloadType, PublicKey, RootKeys, SigningKey, TableInfo, Trust, encode_head, head_len, open,
    split_head,
};
use twinboot::model::{Sha256, Timestamp};

use super::{KIB, Target};
use crate::kit::{Input, planted, text};

/// A key that everybody knows.
fn key(seed: u8) -> SigningKey {
    const PKCS8: &[u8] =
        &[0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let der = STANDARD.encode([PKCS8, &[seed; 32]].concat());
    let pem = format!("-----BEGIN PRIVATE {0}-----\n{der}\n-----END PRIVATE {0}-----\n", "KEY");
    SigningKey::parse(&pem).expect("a key")
}

static ROOT: LazyLock<SigningKey> = LazyLock::new(|| key(1));
static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| key(2));

fn sample_delegation() -> Delegation {
    Delegation {
        document: DelegationType::Delegation,
        schema: 1,
        epoch: 3,
        keys: vec![DelegatedKey { key: *SIGNER.public(), not_after: Some(Timestamp(1_800_000_000_000)) }],
        revoked: [key(3).public().id()].into(),
    }
}

fn sample_manifest() -> Manifest {
    Manifest {
        document: ManifestType::Manifest,
        schema: 1,
        delegation: Sha256::of(b""),
        product: "gateway".into(),
        compatible: vec!["rev-b".into()],
        version: "2.8.5".parse().expect("a version"),
        rollback_index: 7,
        allow_downgrade: false,
        created: Timestamp(1_795_000_000_000),
        expires: Some(Timestamp(1_799_000_000_000)),
        min_twinboot: Some("0.1.0".into()),
        payloads: vec![Payload {
            kind: Kind::Slot,
            size: 100_000,
            sha256: Sha256::of(b"image"),
            parts: vec![Part { size: 100_000 }],
            chunking: Chunking::Aligned,
            group: 65_536,
            prefix: 1 << 20,
            table: TableInfo { size: 56, pages: 2, sha256: Sha256::of(b"table") },
            bodies: 400,
            data: 50_000,
        }],
    }
}

fn sealed(key: &SigningKey, payload_type: PayloadType, payload: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope { payload_type, payload: payload.to_vec(), signatures: vec![] };
    key.seal(&mut envelope);
    envelope.encode()
}

/// A manifest that was read is in bounds, whatever it says.
fn in_bounds(manifest: &Manifest) {
    let slot = manifest.slot();
    assert!((1..=1 << 40).contains(&slot.size) && slot.data <= slot.size);
    assert!(slot.table.size <= 4 << 20 && slot.table.size == slot.table.pages * 28 && slot.table.pages > 0);
    assert!((4096..=1 << 20).contains(&slot.group) && slot.prefix <= 4 << 20 && slot.parts.len() <= 16);
    assert!(slot.parts.is_empty() || slot.parts.iter().map(|part| part.size).sum::<u64>() == slot.size);
    let layout = manifest.layout(131_088);
    assert!(layout.table.end == layout.bodies.start && layout.bodies.end == layout.data.start);
    assert_eq!((layout.data.end, layout.data.end - layout.data.start), (layout.total, slot.data));
    assert!(layout.total <= 2 << 40);
}

pub const BUNDLE: Target = Target {
    name: "bundle",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (flags, floor, epoch) = (input.byte(), input.number(1), input.number(1));
        if flags & 1 != 0 {
            // Nobody has signed this.
            let head = input.rest();
            let judged =
                open(head, &RootKeys::new(1, [*ROOT.public()]), &Trust::default(), &device(flags, floor));
            assert!(judged.is_err());
            let Ok((delegation, manifest)) = split_head(head) else { return };
            assert_eq!(head_len(head).ok(), Some(head.len() as u64));
            assert_eq!(encode_head(delegation, manifest).as_deref(), Ok(head));
            return;
        }
        // This was signed, whatever it is: what a signer could do to a device, by mistake or not.
        let delegation = match input.until(0) {
            b"" => sample_delegation().encode().expect("in bounds"),
            other => other.to_vec(),
        };
        let delegation = sealed(&ROOT, PayloadType::Delegation, &delegation);
        let document =
            String::from_utf8_lossy(input.rest()).replace('@', &Sha256::of(&delegation).to_string());
        let manifest = sealed(&SIGNER, PayloadType::Manifest, document.as_bytes());
        let Ok(head) = encode_head(&delegation, &manifest) else { return };
        let known = Trust { epoch, ..Trust::default() };
        let Ok(opened) = open(&head, &RootKeys::new(1, [*ROOT.public()]), &known, &device(flags, floor))
        else {
            return;
        };
        let manifest = &opened.manifest;
        in_bounds(manifest);
        assert_eq!((opened.head_len, manifest.delegation), (head.len() as u64, Sha256::of(&delegation)));
        let above = if planted() { floor + 1 } else { floor };
        assert!(manifest.allow_downgrade || manifest.rollback_index >= above, "{}", manifest.rollback_index);
        assert!(manifest.product == "gateway", "for another product");
        assert!(manifest.compatible.is_empty() || manifest.compatible.iter().any(|it| it == "rev-b"));
        assert!(manifest.expires.is_none_or(|end| flags & 2 != 0 || end > NOW));
        assert!(opened.trust.epoch >= epoch && !opened.trust.revoked.contains(&SIGNER.public().id()));
        assert!(opened.notes.is_empty() || flags & 2 != 0, "{:?}", opened.notes);
    },
    longest: 4 * KIB,
    memory: 512 * KIB,
    seeds: || {
        let manifest = sample_manifest().encode().expect("in bounds");
        let manifest = text(&manifest).replace(&sample_manifest().delegation.to_string(), "@");
        let delegation = sample_delegation().encode().expect("in bounds");
        let head =
            encode_head(&sealed(&ROOT, PayloadType::Delegation, &delegation), b"{}").expect("it is short");
        vec![
            [&[0, 6, 3, 0], manifest.as_bytes()].concat(),
            [&[2, 7, 2], delegation.as_slice(), b"\0", manifest.as_bytes()].concat(),
            [&[1, 0, 0], head.as_slice()].concat(),
        ]
    },
    words: WORDS,
};

const NOW: Timestamp = Timestamp(1_796_000_000_000);

fn device(flags: u8, floor: u64) -> Device<'static> {
    static BOARDS: LazyLock<Vec<String>> = LazyLock::new(|| vec!["rev-b".to_owned()]);
    let now = (flags & 2 == 0).then_some(NOW);
    Device { product: Some("gateway"), compatible: &BOARDS, floor, now, twinboot: "0.1.0" }
}

const WORDS: &[&[u8]] = &[
    b"type",
    b"manifest",
    b"delegation",
    b"schema",
    b"product",
    b"compatible",
    b"version",
    b"rollback_index",
    b"allow_downgrade",
    b"created",
    b"expires",
    b"min_twinboot",
    b"payloads",
    b"kind",
    b"slot",
    b"size",
    b"sha256",
    b"parts",
    b"chunking",
    b"aligned-4096",
    b"content-4096",
    b"group",
    b"prefix",
    b"table",
    b"pages",
    b"bodies",
    b"data",
    b"epoch",
    b"keys",
    b"key",
    b"not_after",
    b"revoked",
    b"true",
    b"null",
    b"18446744073709551615",
    b"4194304",
    b"1099511627776",
];

pub const MANIFEST: Target = Target {
    name: "manifest",
    run: |bytes| {
        let Ok(manifest) = Manifest::parse(bytes, Some("0.1.0")) else { return };
        in_bounds(&manifest);
        let encoded = manifest.encode().expect("what is read is in bounds");
        assert_eq!(Manifest::parse(&encoded, Some("0.1.0")).as_ref(), Ok(&manifest));
        assert!(!planted() || encoded == bytes, "there is one spelling");
    },
    longest: 4 * KIB,
    memory: 64 * KIB,
    seeds: || {
        let mut other = sample_manifest();
        (other.expires, other.min_twinboot, other.payloads[0].chunking) = (None, None, Chunking::Content);
        [sample_manifest(), other].map(|it| it.encode().expect("in bounds")).to_vec()
    },
    words: WORDS,
};

pub const DELEGATION: Target = Target {
    name: "delegation",
    run: |bytes| {
        let Ok(delegation) = Delegation::parse(bytes) else { return };
        assert!((1..=32).contains(&delegation.keys.len()) && delegation.revoked.len() <= 1024);
        let encoded = delegation.encode().expect("what is read is in bounds");
        assert_eq!(Delegation::parse(&encoded).as_ref(), Ok(&delegation));
        assert!(!planted() || encoded == bytes, "there is one spelling");
    },
    longest: 2 * KIB,
    memory: 64 * KIB,
    seeds: || {
        let mut other = sample_delegation();
        other.keys.push(DelegatedKey { key: *key(4).public(), not_after: None });
        [sample_delegation(), other].map(|it| it.encode().expect("in bounds")).to_vec()
    },
    words: WORDS,
};

pub const ENVELOPE: Target = Target {
    name: "envelope",
    run: |bytes| {
        for of in [PayloadType::Delegation, PayloadType::Manifest] {
            let Ok(envelope) = Envelope::parse(bytes, of) else { continue };
            assert_eq!(envelope.encode(), bytes, "there is one spelling");
            assert!(envelope.signatures.len() <= 16 && !(planted() && !envelope.payload.starts_with(b"{")));
            assert!(envelope.signed_bytes().ends_with(&envelope.payload));
        }
    },
    longest: 2 * KIB,
    memory: 32 * KIB,
    seeds: || {
        let mut twice =
            Envelope { payload_type: PayloadType::Manifest, payload: b"{}".to_vec(), signatures: vec![] };
        ROOT.seal(&mut twice);
        vec![
            sealed(&ROOT, PayloadType::Delegation, b"{\"b\":2}"),
            sealed(&SIGNER, PayloadType::Manifest, b"{\"a\":1}"),
            twice.encode(),
        ]
    },
    words: &[
        b"{\"payloadType\":\"application/vnd.twinboot.",
        b"delegation+json",
        b"manifest+json",
        b"\",\"payload\":\"",
        b"\",\"signatures\":[",
        b"{\"keyid\":\"",
        b"\",\"sig\":\"",
        b"\"}",
        b",",
        b"]}",
        b"==",
        b"=",
    ],
};

pub const KEY: Target = Target {
    name: "key",
    run: |bytes| {
        let text = text(bytes);
        if let Ok(key) = PublicKey::parse(text) {
            assert_eq!(PublicKey::parse(&key.to_pem()).as_ref(), Ok(&key));
            assert!(!planted() || key.to_pem() == text, "there is one spelling");
            assert!(!key.verifies(b"message", &[0; 64]), "a key that anybody can sign for");
        }
        if let Err(error) = SigningKey::parse(text) {
            let said = error.to_string();
            let secrets = text.lines().map(str::trim).filter(|line| line.len() > 40 && !line.contains(' '));
            secrets.for_each(|line| assert!(!said.contains(line), "{said}"));
        }
    },
    longest: 512,
    memory: 16 * KIB,
    seeds: || {
        let pem = ROOT.public().to_pem();
        let one_line = pem.lines().nth(1).map(|line| STANDARD.decode(line).expect("base64")).expect("a key");
        vec![
            pem.into_bytes(),
            STANDARD.encode(&one_line[12..]).into_bytes(),
            b"# a comment\n\nAAAA\n".to_vec(),
        ]
    },
    words: &[
        b"-----BEGIN PUBLIC KEY-----\n",
        b"-----END PUBLIC KEY-----\n",
        b"MCowBQYDK2VwAyEA",
        b"=",
        b"#",
        b"\n",
    ],
};
