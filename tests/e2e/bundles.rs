//! Signed bundles, from the hub's wish or from a stick: what a device with root keys takes, what it refuses, what it asks
//! for first, and what it remembers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use twinboot::bundle::build::{Packing, pack};
use twinboot::bundle::{
    Chunking, DelegatedKey, Delegation, DelegationType, Envelope, KeyId, Manifest, ManifestType, PayloadType,
    SigningKey, encode_head,
};
use twinboot::model::{Sha256, Timestamp};

use super::support::{Checked, Published, Recipe, Slot};
use super::{Bench, LIMIT, MIB, V1, V2};

/// Who makes bundles: a root key, and a key that it lets sign.
pub(super) struct Operator {
    pub(super) root: SigningKey,
    signer: SigningKey,
    epoch: u64,
    revoked: Vec<KeyId>,
}

impl Operator {
    pub(super) fn new() -> Self {
        let key = || SigningKey::generate().unwrap().0;
        Self { root: key(), signer: key(), epoch: 1, revoked: Vec::new() }
    }

    fn sealed(payload_type: PayloadType, payload: Vec<u8>, key: &SigningKey) -> Vec<u8> {
        let mut envelope = Envelope { payload_type, payload, signatures: Vec::new() };
        key.seal(&mut envelope);
        envelope.encode()
    }

    /// A bundle of this image.
    pub(super) fn bundle(&self, version: &str, index: u64, image: &[u8]) -> Vec<u8> {
        self.bundle_as(version, index, image, |_| ())
    }

    fn bundle_as(&self, version: &str, index: u64, image: &[u8], change: fn(&mut Manifest)) -> Vec<u8> {
        let delegation = Delegation {
            document: DelegationType::Delegation,
            schema: 1,
            epoch: self.epoch,
            keys: vec![DelegatedKey { key: *self.signer.public(), not_after: None }],
            revoked: self.revoked.iter().copied().collect(),
        };
        let delegation = Self::sealed(PayloadType::Delegation, delegation.encode().unwrap(), &self.root);
        let (mut bodies, mut data) = (Vec::new(), Vec::new());
        let packing = Packing { level: 1, threads: 1, ..Packing::usual(Chunking::Aligned) };
        let (payload, table) =
            pack(&mut &image[..], &packing, &mut bodies, &mut data, &mut |_| ()).expect("it is packed");
        let mut manifest = Manifest {
            document: ManifestType::Manifest,
            schema: 1,
            delegation: Sha256::of(&delegation),
            product: "gateway".into(),
            compatible: vec!["rev-b".into()],
            version: version.parse().unwrap(),
            rollback_index: index,
            allow_downgrade: false,
            created: Timestamp(1_780_000_000_000),
            expires: None,
            min_twinboot: None,
            payloads: vec![payload],
        };
        change(&mut manifest);
        let manifest = Self::sealed(PayloadType::Manifest, manifest.encode().unwrap(), &self.signer);
        [encode_head(&delegation, &manifest).unwrap(), table, bodies, data].concat()
    }

    /// A device that has its root key, with more for the configuration.
    pub(super) fn device(&self, config: &str) -> Checked<Bench> {
        let trust = "[trust]\nproduct = \"gateway\"\ncompatible = [\"rev-b\"]\n";
        let bench = Bench::off(&format!("{trust}{config}"))?;
        let file = bench.device.path("keys.d/root.pem");
        fs::write(&file, self.root.public().to_pem())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        bench.device.power_on()?;
        bench.runs("1.0.0")?;
        Ok(bench)
    }
}

impl Bench {
    /// Puts a bundle on the image server.
    pub(super) fn offer(&self, version: &str, bundle: &[u8]) -> Published {
        self.cloud.publish(&format!("{version}.twb"), version, bundle)
    }

    /// Wants it, without a digest.
    pub(super) fn wish(&self, offered: &Published) -> Checked {
        // What an earlier wish said of its digest would stay in the twin.
        let digest = Value::Null;
        self.cloud.desire(
            json!({"fwVersion": offered.version, "fwPackageURI": offered.url, "fwPackageCheckValue": digest}),
        )
    }

    /// Wants it and waits until it runs for good.
    pub(super) fn install(&self, version: &str, bundle: &[u8]) -> Checked<Published> {
        let offered = self.offer(version, bundle);
        self.wish(&offered)?;
        self.runs(version)?;
        Ok(offered)
    }

    fn sent(&self, offered: &Published) -> u64 {
        self.cloud.emulator.images().bytes_sent(&offered.name)
    }

    /// What the status says of trust.
    pub(super) fn trust(&self) -> Checked<Value> {
        Ok(self.device.status()?["trust"].clone())
    }
}

#[test]
fn a_signed_bundle_is_installed_without_a_digest_and_the_next_one_fetches_what_is_new() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("")?;
    let next = Recipe::good("2.1.0", 3 * MIB).make();
    // Behind its file system, the first one has most of the second, at another place.
    let mut first = Recipe::good("2.0.0", MIB).make();
    first.resize(first.len().next_multiple_of(4096), 0);
    first.extend_from_slice(&next[..next.len() - (64 << 10)]);
    bench.install("2.0.0", &operator.bundle("2.0.0", 1, &first))?;
    bench.settled(Slot::B, &first)?;
    assert_eq!(bench.trust()?["epoch"], 1);
    let bundle = operator.bundle("2.1.0", 2, &next);
    let offered = bench.install("2.1.0", &bundle)?;
    bench.settled(Slot::A, &next)?;
    let (sent, all) = (bench.sent(&offered), bundle.len() as u64);
    assert!(sent < all / 4, "{sent} of {all} bytes were fetched");
    let (_, shown) = bench.device.command(&["status"])?;
    assert!(shown.contains(&operator.root.public().id().to_string()), "{shown}");
    Ok(())
}

#[test]
fn what_is_not_signed_by_who_may_is_refused_before_anything_changes() -> Checked {
    let (operator, stranger) = (Operator::new(), Operator::new());
    let bench = operator.device("")?;
    let plain = bench.publish("2.0.0", &V2);
    bench.cloud.desire(plain.desired())?;
    bench.fails("error", "bundle.unsigned")?;
    bench.is_untouched()?;
    let (status, answer) = bench
        .cloud
        .call("firmwareUpdate", json!({"fwPackageUri": plain.url, "fwPackageCheckValue": plain.sha256}))?;
    assert_eq!((status, &answer["code"]), (400, &json!("bundle.unsigned")));
    bench.is_untouched()?;
    // Somebody else's bundle, and one that names our key but was not signed by it.
    let foreign = bench.offer("2.0.1", &stranger.bundle("2.0.1", 1, &V2));
    bench.wish(&foreign)?;
    bench.fails("error", "bundle.key")?;
    let mut forged = operator.bundle("2.0.2", 1, &V2);
    let at = forged.windows(7).rposition(|it| it == b"\"sig\":\"").unwrap() + 10;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = bench.offer("2.0.2", &forged);
    bench.wish(&forged)?;
    bench.fails("error", "bundle.signature")?;
    // For other hardware.
    let other = operator.bundle_as("2.0.3", 1, &V2, |manifest| manifest.compatible = vec!["rev-z".into()]);
    let other = bench.offer("2.0.3", &other);
    bench.wish(&other)?;
    bench.fails("error", "bundle.incompatible")?;
    // What its root keys said holds all the same.
    assert_eq!((bench.device.boots(), bench.trust()?["epoch"].clone()), (1, json!(1)));
    bench.settled(Slot::A, &V1)?;
    assert!(bench.device.slot_bytes(Slot::B, MIB)?.iter().all(|byte| *byte == 0), "slot b was written");
    // And a good one after all that.
    bench.install("2.0.4", &operator.bundle("2.0.4", 1, &Recipe::good("2.0.4", MIB).make()))?;
    Ok(())
}

#[test]
fn without_root_keys_a_bundle_is_refused_and_says_what_is_missing() -> Checked {
    let (operator, bench) = (Operator::new(), Bench::new()?);
    let offered = bench.offer("2.0.0", &operator.bundle("2.0.0", 1, &V2));
    bench.wish(&offered)?;
    let reported = bench.fails("error", "bundle.key")?;
    let why = reported["firmware"]["fwUpdateSubstatus"].as_str().unwrap();
    assert!(why.contains("trust.keys"), "{why}");
    bench.is_untouched()
}

#[test]
fn p037_a_lower_rollback_index_is_refused_and_going_back_lowers_nothing() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("")?;
    let image = |version| Recipe::good(version, MIB).make();
    bench.install("2.0.0", &operator.bundle("2.0.0", 5, &image("2.0.0")))?;
    assert_eq!(bench.device.status()?["floor"], 5);
    assert_eq!(bench.device.environment().load().unwrap().text("twinboot_floor"), "5");
    let old = bench.offer("1.9.0", &operator.bundle("1.9.0", 4, &image("1.9.0")));
    bench.wish(&old)?;
    bench.fails("error", "bundle.downgrade")?;
    // One that is ill is no step forward.
    let sick = Recipe::unhealthy("3.0.0", MIB).make();
    let sick = bench.offer("3.0.0", &operator.bundle("3.0.0", 9, &sick));
    bench.wish(&sick)?;
    bench.fails("rolledback", "health.failed")?;
    assert_eq!(bench.device.status()?["floor"], 5);
    // The system before is what was known to be good; what was committed since is not forgotten.
    bench.install("2.1.0", &operator.bundle("2.1.0", 6, &image("2.1.0")))?;
    let (code, said) = bench.device.command(&["rollback"])?;
    assert_eq!(code, Some(0), "{said}");
    bench.reports("2.0.0 is back", |it| {
        it["currentFwVersion"] == "2.0.0" && it["fwUpdateStatus"] == "rolledback"
    })?;
    assert_eq!(bench.device.status()?["floor"], 6);
    let again = bench.offer("2.0.1", &operator.bundle("2.0.1", 5, &image("2.0.1")));
    bench.wish(&again)?;
    bench.fails("error", "bundle.downgrade")?;
    // The signed permission.
    let down = operator.bundle_as("1.8.0", 4, &image("1.8.0"), |manifest| manifest.allow_downgrade = true);
    bench.install("1.8.0", &down)?;
    assert_eq!(bench.device.status()?["floor"], 4);
    Ok(())
}

#[test]
fn what_costs_more_than_the_cap_waits_for_consent_and_goes_on_after_it() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("[download]\ndata_cap = '512KiB'\nrate_limit = '1MiB'\n")?;
    let bundle = operator.bundle("2.0.0", 1, &V2);
    assert!(bundle.len() > MIB);
    let offered = bench.offer("2.0.0", &bundle);
    bench.wish(&offered)?;
    bench.device.wait_status("waiting for consent to the cost", 0, LIMIT, |status| {
        status["update"]["cost"]["fetch"].as_u64().is_some_and(|fetch| fetch > 512 << 10)
            && status["update"]["cost_seconds"]
                == status["update"]["cost"]["fetch"].as_u64().unwrap().div_ceil(1 << 20)
            && status["gate"].as_str().is_some_and(|gate| gate.contains(" in some "))
    })?;
    let before = bench.sent(&offered);
    assert!(before < 512 << 10, "{before} bytes were fetched unasked");
    bench.settled(Slot::A, &V1)?;
    let (status, answer) = bench.cloud.call("firmwareApply", Value::Null)?;
    assert_eq!(status, 202, "{answer}");
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn a_revoked_key_stays_revoked() -> Checked {
    let mut operator = Operator::new();
    let bench = operator.device("")?;
    let image = |version| Recipe::good(version, MIB).make();
    let by_old_key = operator.bundle("2.1.0", 9, &image("2.1.0"));
    let stolen = std::mem::replace(&mut operator.signer, SigningKey::generate().unwrap().0);
    operator.epoch = 2;
    operator.revoked.push(stolen.public().id());
    bench.install("2.0.0", &operator.bundle("2.0.0", 1, &image("2.0.0")))?;
    let offered = bench.offer("2.1.0", &by_old_key);
    bench.wish(&offered)?;
    bench.fails("error", "bundle.revoked")?;
    let from = bench.device.now();
    bench.device.power_cycle()?;
    bench
        .device
        .wait_status("epoch 2, also after a power cut", from, LIMIT, |it| it["trust"]["epoch"] == 2)?;
    Ok(())
}

/// A revocation cannot be kept from a device by having the bundle refused that brings it.
#[test]
fn a_bundle_that_is_refused_brings_its_revocations() -> Checked {
    let mut operator = Operator::new();
    let bench = operator.device("")?;
    let by_old_key = operator.bundle("2.1.0", 9, &V2);
    let stolen = std::mem::replace(&mut operator.signer, SigningKey::generate().unwrap().0);
    operator.epoch = 2;
    operator.revoked.push(stolen.public().id());
    let other = operator.bundle_as("2.0.0", 1, &V2, |manifest| manifest.product = "kettle".into());
    let other = bench.offer("2.0.0", &other);
    bench.wish(&other)?;
    bench.fails("error", "bundle.incompatible")?;
    bench.device.power_cycle()?;
    let offered = bench.offer("2.1.0", &by_old_key);
    bench.wish(&offered)?;
    bench.fails("error", "bundle.revoked")?;
    let trust = bench.trust()?;
    assert_eq!((&trust["epoch"], &trust["revoked"]), (&json!(2), &json!([stolen.public().id()])));
    bench.settled(Slot::A, &V1)
}

#[test]
fn a_stick_brings_the_newest_bundle_and_may_stay_in() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("")?;
    let image = |version| Recipe::good(version, MIB).make();
    let stick = tempfile::tempdir()?;
    for (name, version, index) in [("a.twb", "2.0.0", 1), ("b.twb", "2.2.0", 3), ("c.twb", "2.1.0", 2)] {
        fs::write(stick.path().join(name), operator.bundle(version, index, &image(version)))?;
    }
    fs::write(stick.path().join("plain.squashfs"), &*V2)?;
    let path = stick.path().display().to_string();
    let take = || bench.device.command(&["install", "--signed-only", "--wait", "--from-medium", &path]);
    let (code, said) = take()?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("b.twb: version 2.2.0, rollback index 3: this is the one"), "{said}");
    bench.runs("2.2.0")?;
    bench.settled(Slot::B, &image("2.2.0"))?;
    // It is still in when the machine has come up again: nothing to do, however often.
    let boots = bench.device.boots();
    let (code, said) = take()?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("already up to date"), "{said}");
    assert_eq!(bench.device.boots(), boots);
    // What this device would refuse is not chosen, though its root keys have signed it.
    let old = tempfile::tempdir()?;
    fs::write(old.path().join("old.twb"), operator.bundle("1.9.0", 2, &image("1.9.0")))?;
    let from = old.path().display().to_string();
    let (code, said) = bench.device.command(&["install", "--from-medium", &from])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("old.twb: passed over") && said.contains("rollback index is 2"), "{said}");
    // By hand, an unsigned image is refused, by the command and by the daemon.
    let plain = stick.path().join("plain.squashfs").display().to_string();
    assert_eq!(bench.device.command(&["install", "--signed-only", &plain])?.0, Some(2));
    assert_eq!(bench.device.command(&["install", &plain])?.0, Some(1));
    Ok(())
}

/// It would be tried at each boot otherwise, and each of these is one.
#[test]
fn what_was_rolled_back_is_not_tried_again_from_a_stick_that_stays_in() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("")?;
    let stick = tempfile::tempdir()?;
    let sick = Recipe::unhealthy("2.0.0", MIB).make();
    let file = stick.path().join("sick.twb");
    fs::write(&file, operator.bundle("2.0.0", 1, &sick))?;
    let path = stick.path().display().to_string();
    let take = || bench.device.command(&["install", "--wait", "--from-medium", &path]);
    take()?;
    bench.fails("rolledback", "health.failed")?;
    let boots = bench.device.boots();
    for _ in 0..3 {
        let (code, said) = take()?;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("rolled back on this device before"), "{said}");
    }
    assert_eq!(bench.device.boots(), boots);
    Ok(())
}

/// A file system on a loop device, mounted as a stick is.
struct Mounted {
    directory: tempfile::TempDir,
}

impl Mounted {
    /// One with this file on it.
    fn new(name: &str, bytes: &[u8]) -> Checked<Self> {
        let directory = tempfile::tempdir()?;
        let it = Self { directory };
        fs::create_dir(it.path("files"))?;
        fs::create_dir(it.path("mnt"))?;
        fs::write(it.path("files").join(name), bytes)?;
        let room = bytes.len() as u64 + (8 << 20);
        fs::File::create(it.path("stick.img"))?.set_len(room)?;
        let (files, image) = (it.path("files"), it.path("stick.img"));
        run(Command::new("mkfs.ext4").args(["-q", "-L", "TWINBOOT", "-d"]).arg(files).arg(image));
        Ok(it)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn mount(&self) {
        // As the unit does.
        let options = "ro,nosuid,nodev,noexec,loop";
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", options])
            .arg(self.path("stick.img"))
            .arg(self.path("mnt")));
    }

    fn unmount(&self) {
        run(Command::new("umount").arg("--lazy").arg(self.path("mnt")));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--quiet", "--lazy"]).arg(self.path("mnt")).status();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// How many MB the update that begins after this place of the journal is about to write, in its own words.
fn planned(bench: &Bench, from: usize) -> Checked<f64> {
    let words = bench.device.wait("what it costs", from, LIMIT, |happening| {
        let super::Happening::Said(line) = happening else { return None };
        line.split_once(": fetching ")?.1.split_once(", writing ").map(|(_, words)| words.to_owned())
    })?;
    let (number, unit) = words.split_once(' ').unwrap();
    let number: f64 = number.parse().unwrap();
    Ok(if unit.starts_with("MB") { number } else { number / 1000.0 })
}

#[test]
#[ignore = "peers: needs root, loop devices and mkfs.ext4"]
fn peers_a_stick_that_is_pulled_is_an_ordinary_error_and_comes_back() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("")?;
    let image = Recipe::good("2.0.0", 24 * MIB).make();
    let bundle = operator.bundle("2.0.0", 1, &image);
    let stick = Mounted::new("gateway.twb", &bundle)?;
    stick.mount();
    // What the kernel has not read by now it cannot read any more.
    let half = bundle.len() as u64 * 3 / 4;
    fs::File::options().write(true).open(stick.path("stick.img"))?.set_len(half)?;
    let mount = stick.path("mnt").display().to_string();
    let from = bench.device.now();
    let (code, said) = bench.device.command(&["install", "--wait", "--from-medium", &mount])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("download.source-unreadable"), "{said}");
    bench.fails("error", "download.source-unreadable")?;
    stick.unmount();
    let whole = planned(&bench, from)?;
    assert_eq!(bench.device.boots(), 1);
    bench.settled(Slot::A, &V1)?;
    // Another port, another place: what is there already is not written again.
    let again = Mounted::new("gateway.twb", &bundle)?;
    again.mount();
    let from = bench.device.now();
    let mount = again.path("mnt").display().to_string();
    let (code, said) = bench.device.command(&["install", "--wait", "--from-medium", &mount])?;
    assert_eq!(code, Some(0), "{said}");
    let rest = planned(&bench, from)?;
    assert!(rest < whole * 0.75, "{rest} of {whole} MB are written again");
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &image)
}

/// As `twinboot-medium@.service` runs it: nobody, in the group that may ask. The daemon judges by what the kernel says of it.
#[test]
#[ignore = "peers: needs root and setpriv"]
fn peers_what_looks_through_a_stick_needs_no_privilege() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("[control]\ngroup = 'daemon'\n")?;
    let image = Recipe::good("2.0.0", MIB).make();
    let stick = tempfile::tempdir()?;
    fs::write(stick.path().join("gateway.twb"), operator.bundle("2.0.0", 1, &image))?;
    fs::write(stick.path().join("plain.squashfs"), &*V2)?;
    for open in [stick.path(), &bench.device.path("")] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o755))?;
    }
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=1", "--clear-groups", "--no-new-privs", "--inh-caps=-all"]);
        command.arg(env!("CARGO_BIN_EXE_twinboot")).arg("--config").arg(bench.device.path("twinboot.toml"));
        command.arg("install").args(arguments).env_clear();
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    let path = stick.path().display().to_string();
    // A file without a digest is root's alone, bundle or not.
    let (code, said) = nobody(&[&format!("{path}/gateway.twb")]);
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = nobody(&["--signed-only", "--wait", "--from-medium", &path]);
    assert_eq!(code, Some(0), "{said}");
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &image)
}
