#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use twinboot::bundle::{
    Chunking, DelegatedKey, Delegation, DelegationType, Envelope, Kind, Manifest, ManifestType, Payload,
    PayloadType, SigningKey, TableInfo, encode_head,
};
use twinboot::model::{Sha256, Timestamp};

use super::*;

/// Who may sign, and a stick.
struct Stick {
    directory: tempfile::TempDir,
    root: SigningKey,
    signer: SigningKey,
}

impl Stick {
    fn new() -> Self {
        let key = || SigningKey::generate().unwrap().0;
        Self { directory: tempfile::tempdir().unwrap(), root: key(), signer: key() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sealed(payload_type: PayloadType, payload: Vec<u8>, key: &SigningKey) -> Vec<u8> {
        let mut envelope = Envelope { payload_type, payload, signatures: Vec::new() };
        key.seal(&mut envelope);
        envelope.encode()
    }

    fn delegation(&self) -> Delegation {
        Delegation {
            document: DelegationType::Delegation,
            schema: 1,
            epoch: 1,
            keys: vec![DelegatedKey { key: *self.signer.public(), not_after: None }],
            revoked: [].into(),
        }
    }

    /// A bundle of this version, of the gateway, with what makes it another one.
    fn bundle(&self, version: &str, index: u64, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        self.bundle_by(self.delegation(), version, index, change)
    }

    fn bundle_by(
        &self,
        delegation: Delegation,
        version: &str,
        index: u64,
        change: impl FnOnce(&mut Manifest),
    ) -> Vec<u8> {
        let delegation = Self::sealed(PayloadType::Delegation, delegation.encode().unwrap(), &self.root);
        let mut manifest = Manifest {
            document: ManifestType::Manifest,
            schema: 1,
            delegation: Sha256::of(&delegation),
            product: "gateway".into(),
            compatible: vec!["rev-b".into()],
            version: version.parse().unwrap(),
            rollback_index: index,
            allow_downgrade: false,
            created: Timestamp(1_000),
            expires: None,
            min_twinboot: None,
            payloads: vec![Payload {
                kind: Kind::Slot,
                size: 1 << 16,
                sha256: Sha256::of(b"image"),
                parts: Vec::new(),
                chunking: Chunking::Aligned,
                group: 65536,
                prefix: 65536,
                table: TableInfo { size: 28, pages: 1, sha256: Sha256::of(b"table") },
                bodies: 0,
                data: 0,
            }],
        };
        change(&mut manifest);
        let manifest = Self::sealed(PayloadType::Manifest, manifest.encode().unwrap(), &self.signer);
        let head = encode_head(&delegation, &manifest).unwrap();
        [head, vec![0; 28]].concat()
    }

    fn put(&self, name: &str, version: &str, index: u64, change: impl FnOnce(&mut Manifest)) {
        fs::write(self.path(name), self.bundle(version, index, change)).unwrap();
    }

    fn look(&self) -> Result<Chosen, String> {
        self.look_as(0, Trust::default())
    }

    /// As a device that has committed to the index `floor`, and knows this of keys.
    fn look_as(&self, floor: u64, trust: Trust) -> Result<Chosen, String> {
        let roots = RootKeys::new(1, [*self.root.public()]);
        let compatible = ["rev-b".to_owned(), "rev-c".to_owned()];
        let now = Some(Timestamp(5_000));
        let device = Device {
            product: Some("gateway"),
            compatible: &compatible,
            floor,
            now,
            twinboot: env!("CARGO_PKG_VERSION"),
        };
        look(self.directory.path(), &roots, trust, &device)
    }

    /// The chosen file's name, and what is said.
    fn chosen(&self) -> (String, String) {
        let Chosen { artifact, told } = self.look().unwrap();
        let Location::File(path) = artifact.location else { panic!() };
        (path.file_name().unwrap().to_str().unwrap().to_owned(), told.join("\n"))
    }
}

#[test]
fn the_highest_rollback_index_wins_and_then_the_newest() {
    let stick = Stick::new();
    stick.put("z-old.twb", "9.0.0", 3, |manifest| manifest.created = Timestamp(4_000));
    stick.put("a-new.twb", "2.0.0", 4, |manifest| manifest.created = Timestamp(2_000));
    stick.put("newest.twb", "2.1.0", 4, |manifest| manifest.created = Timestamp(3_000));
    fs::write(stick.path("image.squashfs"), "plain").unwrap();
    fs::create_dir(stick.path("more")).unwrap();
    fs::write(stick.path("more/best.twb"), stick.bundle("3.0.0", 9, |_| ())).unwrap();
    let (name, told) = stick.chosen();
    assert_eq!(name, "newest.twb");
    assert!(told.contains("newest.twb: version 2.1.0, rollback index 4: this is the one"), "{told}");
    assert!(told.contains("z-old.twb: passed over") && !told.contains("best"), "{told}");
    // What the daemon is told is this very file: its head's digest, its length, its version.
    let bytes = fs::read(stick.path("newest.twb")).unwrap();
    let Artifact { version, sha256, size, .. } = stick.look().unwrap().artifact;
    assert_eq!((version, size), ("2.1.0".parse().ok(), Some(bytes.len() as u64)));
    assert_eq!(sha256, Some(Sha256::of(&bytes[..bytes.len() - 28])));
}

#[test]
fn what_is_not_for_this_device_is_passed_over_and_told() {
    let stick = Stick::new();
    stick.put("good.twb", "1.0.0", 1, |_| ());
    stick.put("other.twb", "1.0.0", 9, |manifest| manifest.product = "toaster".into());
    stick.put("board.twb", "1.0.0", 9, |manifest| manifest.compatible = vec!["rev-z".into()]);
    stick.put("late.twb", "1.0.0", 9, |manifest| manifest.expires = Some(Timestamp(4_000)));
    stick.put("newer.twb", "1.0.0", 9, |manifest| manifest.min_twinboot = Some("99.0.0".into()));
    let strangers = Stick::new();
    fs::write(stick.path("strange.twb"), strangers.bundle("1.0.0", 9, |_| ())).unwrap();
    let (name, told) = stick.chosen();
    assert_eq!(name, "good.twb", "{told}");
    for (name, words) in [
        ("other", "toaster"),
        ("board", "rev-z"),
        ("late", "good until"),
        ("newer", "twinboot"),
        ("strange", "root key"),
    ] {
        let line = told.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{told}"));
        assert!(line.contains("passed over") && line.contains(words), "{line}");
    }
}

/// Each of these would be the best one by its contents.
#[test]
fn odd_names_links_and_what_is_no_file_are_refused() {
    let stick = Stick::new();
    stick.put("good.twb", "1.0.0", 1, |_| ());
    let best = stick.bundle("2.0.0", 9, |_| ());
    for name in [".hidden.twb", "-rf.twb", "a b.twb", "a\nb.twb", "$(reboot).twb", "\u{e9}.twb", "._x.twb"] {
        fs::write(stick.path(name), &best).unwrap();
    }
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("best"), &best).unwrap();
    symlink(elsewhere.path().join("best"), stick.path("link.twb")).unwrap();
    fs::create_dir(stick.path("directory.twb")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        stick.path("pipe.twb"),
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    let _listener = UnixListener::bind(stick.path("socket.twb")).unwrap();
    let (name, told) = stick.chosen();
    assert_eq!(name, "good.twb", "{told}");
    assert_eq!(told.matches("a name of letters").count(), 7, "{told}");
    assert_eq!(told.matches("no regular file").count(), 2, "{told}");
    assert!(told.contains("link.twb: passed over: it is a link"), "{told}");
    assert!(told.contains("a\\nb.twb") && told.lines().count() == 12, "{told}");
}

/// Somebody pulled the stick while it was written.
#[test]
fn a_copy_that_is_cut_off_is_passed_over() {
    let stick = Stick::new();
    stick.put("good.twb", "1.0.0", 1, |_| ());
    let best = stick.bundle("2.0.0", 9, |_| ());
    for (at, len) in [0, 8, 15, 16, 500, best.len() - 29, best.len() - 1].into_iter().enumerate() {
        fs::write(stick.path(&format!("cut{at}.twb")), &best[..len]).unwrap();
    }
    fs::write(stick.path("long.twb"), [&best[..], b"x"].concat()).unwrap();
    let (name, told) = stick.chosen();
    assert_eq!(name, "good.twb");
    assert_eq!(told.matches("passed over").count(), 8, "{told}");
    assert!(told.contains("copy it anew"), "{told}");
}

#[test]
fn a_medium_without_a_bundle_for_this_device_is_told_with_the_reasons() {
    let stick = Stick::new();
    assert!(stick.look().unwrap_err().contains("there is no bundle for this device"));
    fs::write(stick.path("x.twb"), [0xff; 200]).unwrap();
    let why = stick.look().unwrap_err();
    assert!(why.lines().count() == 2 && why.contains("x.twb: passed over"), "{why}");
    let gone = stick.directory.path().join("gone");
    let roots = RootKeys::new(1, [*stick.root.public()]);
    let device = Device { product: None, compatible: &[], floor: 0, now: None, twinboot: "0.1.0" };
    assert!(look(&gone, &roots, Trust::default(), &device).unwrap_err().contains("cannot be read"));
}

/// A stick cannot have thousands of signatures checked.
#[test]
fn only_so_many_files_are_looked_at() {
    let stick = Stick::new();
    for at in 0..MAX_BUNDLES + 10 {
        fs::write(stick.path(&format!("{at:03}.twb")), "x").unwrap();
    }
    let why = stick.look().unwrap_err();
    assert_eq!(why.lines().count(), MAX_BUNDLES + 2, "{why}");
    for at in 0..MAX_NAMES {
        fs::write(stick.path(&at.to_string()), "").unwrap();
    }
    assert!(stick.look().unwrap_err().contains("more than 4096 names"));
}

/// It would be refused, and the one that is taken would never be asked for.
#[test]
fn what_the_device_would_refuse_hides_nothing() {
    let name = |chosen: Result<Chosen, String>| match chosen.unwrap().artifact.location {
        Location::File(path) => path.file_name().unwrap().to_str().unwrap().to_owned(),
        Location::Url(_) => panic!("a file"),
    };
    let mut stick = Stick::new();
    // Below the floor, but for the signed permission.
    stick.put("low.twb", "1.0.0", 4, |_| ());
    stick.put("down.twb", "0.9.0", 2, |manifest| manifest.allow_downgrade = true);
    assert_eq!(name(stick.look_as(4, Trust::default())), "low.twb");
    assert_eq!(name(stick.look_as(5, Trust::default())), "down.twb");
    // By a key that was revoked meanwhile, and the one that took its place.
    stick.put("stolen.twb", "9.0.0", 9, |_| ());
    let stolen = std::mem::replace(&mut stick.signer, SigningKey::generate().unwrap().0);
    let again = Delegation { epoch: 2, revoked: [stolen.public().id()].into(), ..stick.delegation() };
    let digest = Sha256::of(&again.encode().unwrap());
    fs::write(stick.path("new.twb"), stick.bundle_by(again.clone(), "5.0.0", 5, |_| ())).unwrap();
    fs::remove_file(stick.path("down.twb")).unwrap();
    // The stick itself says so, in another bundle.
    assert_eq!(name(stick.look()), "new.twb");
    let told = stick.look().unwrap().told.join("\n");
    assert!(told.contains("stolen.twb: passed over") && told.contains("epoch 2"), "{told}");
    // But not in one that is not installed anyway: another product's, or one that is cut off.
    let toaster = stick.bundle_by(again.clone(), "5.0.0", 5, |manifest| manifest.product = "toaster".into());
    let whole = stick.bundle_by(again, "5.0.0", 5, |_| ());
    for bytes in [&toaster[..], &whole[..whole.len() - 1]] {
        fs::write(stick.path("new.twb"), bytes).unwrap();
        assert_eq!(name(stick.look()), "stolen.twb");
    }
    // And the daemon does, of an epoch, of a key, and of another delegation.
    fs::remove_file(stick.path("new.twb")).unwrap();
    assert_eq!(name(stick.look()), "stolen.twb");
    let id = stolen.public().id();
    let status = |trust: serde_json::Value| serde_json::json!({ "floor": 0, "trust": trust });
    for (told, words) in [
        (serde_json::json!({"epoch": 2, "delegation": digest, "revoked": []}), "epoch 2"),
        (serde_json::json!({"epoch": 1, "delegation": null, "revoked": [id]}), "revoked"),
        (serde_json::json!({"epoch": 1, "delegation": digest, "revoked": []}), "another delegation"),
    ] {
        let refused = stick.look_as(0, known(&status(told))).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    // A daemon that says nothing knows nothing.
    assert_eq!(known(&serde_json::Value::Null), Trust::default());
}
