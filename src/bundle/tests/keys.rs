//! Keys and signatures: strictly Ed25519, and the same as OpenSSL's.

use std::fs;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::*;

fn hex(text: &str) -> [u8; 32] {
    let Sha256(bytes) = text.parse().unwrap();
    bytes
}

/// Every spelling of the eight points of small order, with either sign of x: the five values of y, and those that are
/// the same modulo the prime. (From the list in libsodium, and Chalkias et al., "Taming the many EdDSAs", 2020.)
fn small_order() -> Vec<[u8; 32]> {
    let mut points: Vec<_> = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ]
    .map(hex)
    .to_vec();
    for point in points.clone() {
        points.push(point.map(|it| it));
        points.last_mut().unwrap()[31] |= 0x80;
    }
    points
}

#[test]
fn keys_that_anybody_can_sign_for_are_refused() {
    for bytes in small_order() {
        assert!(PublicKey::new(bytes).is_err(), "{bytes:02x?}");
        assert!(PublicKey::parse(&STANDARD.encode(bytes)).is_err());
        assert!(serde_json::from_str::<PublicKey>(&format!("\"{}\"", STANDARD.encode(bytes))).is_err());
    }
    // Nor a y that is not reduced, whatever it means.
    for low in 0xED..=0xFF {
        for top in [0x7F, 0xFF] {
            let mut bytes = [0xFF; 32];
            (bytes[0], bytes[31]) = (low, top);
            assert!(PublicKey::new(bytes).is_err());
        }
    }
    let mut fine = [0xFF; 32];
    (fine[0], fine[31]) = (0xEB, 0x7F);
    assert!(PublicKey::new(fine).is_ok(), "the largest that is reduced and of no small order");
}

/// Why that is asked: ring alone takes such a key, and then this signature over anything at all.
#[test]
fn a_signature_for_a_key_of_small_order_holds_for_ring() {
    let identity = small_order()[1];
    let forged = [&identity[..], &[0; 32]].concat();
    for message in ["pay", "nothing"] {
        assert!(UnparsedPublicKey::new(&ED25519, identity).verify(message.as_bytes(), &forged).is_ok());
    }
    // The same signature for a key that is good: R alone would be enough to refuse it.
    let key = key();
    assert!(!key.public().verifies(b"pay", &forged.try_into().unwrap()));
}

/// The order of the group, L = 2^252 + 27742317777372353535851937790883648493, in little endian.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

#[test]
fn a_signature_has_one_form() {
    let key = key();
    let envelope =
        Envelope { payload_type: PayloadType::Manifest, payload: b"{}".to_vec(), signatures: vec![] };
    let signed = envelope.signed_bytes();
    let good = key.sign(PayloadType::Manifest, b"{}").bytes;
    assert!(key.public().verifies(&signed, &good));
    // S + L, as long as it fits into 32 bytes: equal for a verifier that does not ask.
    let order = hex(ORDER);
    let mut other = good;
    for times in 1..=15 {
        let mut carry = 0;
        for (byte, more) in other[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert!(carry == 1 || !key.public().verifies(&signed, &other), "S + {times} L");
        if carry == 1 {
            break;
        }
    }
    // R of small order, or spelled in another way; S of 0.
    for r in small_order() {
        for s in [&good[32..], &[0; 32]] {
            assert!(!key.public().verifies(&signed, &[&r[..], s].concat().try_into().unwrap()));
        }
    }
    assert!(!key.public().verifies(&signed, &[0; 64]));
}

/// RFC 8032, section 7.1, test 3.
#[test]
fn signatures_are_those_of_the_standard() {
    let public =
        PublicKey::new(hex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")).unwrap();
    let r = hex("6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac");
    let s = hex("18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a");
    let signature = [r, s].concat().try_into().unwrap();
    assert!(public.verifies(&[0xAF, 0x82], &signature));
    assert!(!public.verifies(&[0xAF, 0x83], &signature));
}

/// Of the same key, with 0 where a random number belongs: R is the point of order one, and S is SHA-512 of R, the key and the
/// message, times the secret scalar. It holds for ring.
#[test]
fn a_signature_of_small_order_is_refused_although_it_fits() {
    let public = hex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025");
    let r = small_order()[1];
    let s = hex("89653588ead4771e2326253c8cc167ed5f891f0c238314c9d136bb6e54f2f206");
    let signature: [u8; 64] = [r, s].concat().try_into().unwrap();
    assert!(UnparsedPublicKey::new(&ED25519, public).verify(&[0xAF, 0x82], &signature).is_ok());
    assert!(!PublicKey::new(public).unwrap().verifies(&[0xAF, 0x82], &signature));
}

#[test]
fn key_files_are_read_as_openssl_writes_them_and_in_no_other_way() {
    let (key, pem) = SigningKey::generate().unwrap();
    assert_eq!(SigningKey::parse(&pem).unwrap().public(), key.public());
    let public = key.public();
    let base64 = STANDARD.encode(public.bytes());
    for text in [
        &public.to_pem(),
        &base64,
        &format!("# the root of 2026\n\n  {base64} \r\n"),
        &format!("# x\n{}", public.to_pem()),
    ] {
        assert_eq!(PublicKey::parse(text), Ok(*public), "{text}");
    }
    assert_eq!(public.id().to_string().parse(), Ok(public.id()));
    assert_eq!(Sha256::of(public.bytes()).to_string()[..32], public.id().to_string());
    let text = public.to_pem();
    let two = format!("{text}{text}");
    for bad in [
        "",
        "# only this\n",
        "hello",
        &base64[1..],
        &format!("{base64}\n{base64}"),
        &two,
        &pem,
        &text.replace("PUBLIC", "RSA PUBLIC"),
        &text.replace("MCow", "MCox"),
        &text.replace("MCow", ""),
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----",
    ] {
        let error = PublicKey::parse(bad).expect_err(bad).to_string();
        assert!(error.contains("PEM") && !error.contains(&base64[4..20]), "{error}");
    }
    let secret = pem.lines().nth(1).unwrap();
    for bad in
        ["", &text, &pem.replace("PRIVATE", "ENCRYPTED PRIVATE"), &pem.replace("MC4C", "MC5C"), &secret[4..]]
    {
        let error = SigningKey::parse(bad).expect_err("read").to_string();
        assert!(!error.contains(&secret[8..20]), "{error}");
    }
    assert!(!format!("{key:?}").contains(&secret[24..40]));
}

fn openssl(arguments: &[&str], directory: &std::path::Path) -> Vec<u8> {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(directory)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

#[test]
#[ignore = "peers: needs openssl"]
fn peers_p027_keys_and_signatures_of_openssl_are_as_good_as_ours() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let read = |name: &str| fs::read(at.join(name)).unwrap();
    let text = |name: &str| String::from_utf8(read(name)).unwrap();
    for name in ["root", "signer"] {
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", name], at);
        openssl(&["pkey", "-in", name, "-pubout", "-out", &format!("{name}.pub")], at);
    }
    let [root, signer] = ["root.pub", "signer.pub"].map(|it| PublicKey::parse(&text(it)).unwrap());
    assert_eq!(root.to_pem(), text("root.pub"));
    let mut maker = Maker::small();
    maker.delegation.keys = vec![DelegatedKey { key: signer, not_after: None }];
    // As with a key in a token: the bytes to be signed go out, a signature comes back.
    let sign = |payload_type, payload: Vec<u8>, key: &str, public: &PublicKey| {
        fs::write(at.join("signed"), signed_bytes(payload_type, &payload)).unwrap();
        openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", "signed", "-out", "signature"], at);
        let bytes = read("signature").try_into().unwrap();
        Envelope { payload_type, payload, signatures: vec![Signature { key: public.id(), bytes }] }
    };
    let delegation =
        sign(PayloadType::Delegation, maker.delegation.encode().unwrap(), "root", &root).encode();
    maker.manifest.delegation = Sha256::of(&delegation);
    let manifest = sign(PayloadType::Manifest, maker.manifest.encode().unwrap(), "signer", &signer).encode();
    let head = encode_head(&delegation, &manifest).unwrap();
    let roots = RootKeys::new(1, [root]);
    open(&head, &roots, &Trust::default(), &device()).unwrap();
    // The other way round: it reads our keys, and says that our signatures hold.
    let (ours, pem) = SigningKey::generate().unwrap();
    fs::write(at.join("ours"), pem.as_bytes()).unwrap();
    fs::write(at.join("ours.pub"), ours.public().to_pem()).unwrap();
    assert_eq!(openssl(&["pkey", "-in", "ours", "-pubout"], at), ours.public().to_pem().into_bytes());
    assert_eq!(openssl(&["pkey", "-in", "ours"], at), pem.as_bytes(), "spelled as it would");
    fs::write(at.join("signed"), signed_bytes(PayloadType::Manifest, b"{}")).unwrap();
    fs::write(at.join("signature"), ours.sign(PayloadType::Manifest, b"{}").bytes).unwrap();
    let verify = [
        "pkeyutl",
        "-verify",
        "-rawin",
        "-pubin",
        "-inkey",
        "ours.pub",
        "-in",
        "signed",
        "-sigfile",
        "signature",
    ];
    openssl(&verify, at);
    // A key of its is ours, too; an encrypted one, or of another kind, is not.
    assert_eq!(SigningKey::parse(&text("root")).unwrap().public(), &root);
    openssl(&["pkey", "-in", "root", "-aes256", "-passout", "pass:x", "-out", "locked"], at);
    assert!(SigningKey::parse(&text("locked")).unwrap_err().to_string().contains("encrypted"));
    for other in ["ed448", "x25519"] {
        openssl(&["genpkey", "-algorithm", other, "-out", "other"], at);
        openssl(&["pkey", "-in", "other", "-pubout", "-out", "other.pub"], at);
        assert!(SigningKey::parse(&text("other")).is_err() && PublicKey::parse(&text("other.pub")).is_err());
    }
}
