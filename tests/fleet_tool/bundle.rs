//! `bundle`: no hub is needed. What OpenSSL, tokens and the makers of images have to do with it is in the tier `peers`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::tool::{PROGRAM, Ran, ran};

/// A directory with keys: two roots, one that signs, and a delegation.
struct Bench(tempfile::TempDir);

const CREATE: [&str; 15] = [
    "create",
    "--version-label",
    "2.0.0",
    "--product",
    "gateway",
    "--compatible",
    "rev-b",
    "--rollback-index",
    "4",
    "--delegation",
    "delegation",
    "--created",
    "2026-11-21T00:00Z",
    "-o",
    "new.twb",
];
const ROOTS: [&str; 6] = ["--root", "root-1.pem", "--root", "root-2.pem", "--threshold", "2"];

impl Bench {
    fn bare() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn new() -> Self {
        let bench = Self::bare();
        for name in ["root-1", "root-2", "signer"] {
            bench.good(&["keygen", name]);
        }
        bench.good(&[
            "delegate",
            "delegation",
            "--epoch",
            "1",
            "--signer",
            "signer.pem",
            "--key",
            "root-1.key",
        ]);
        bench.good(&["delegate", "delegation", "--key", "root-2.key"]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(PROGRAM);
        command.env_clear().env("HOME", self.0.path()).current_dir(self.0.path());
        ran(command.arg("bundle").args(arguments).output().unwrap())
    }

    #[track_caller]
    fn good(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert!(ran.status == 0 && ran.err.is_empty(), "{arguments:?}: {ran:#?}");
        ran.out
    }

    /// It must be refused with this status, saying each of these.
    #[track_caller]
    fn refused(&self, arguments: &[&str], status: i32, said: &[&str]) {
        let ran = self.run(arguments);
        assert_eq!(ran.status, status, "{arguments:?}: {ran:#?}");
        for text in said {
            assert!(ran.err.contains(text), "{arguments:?}: no {text:?} in {}", ran.err);
        }
    }

    fn program(&self, line: &str) -> String {
        let mut command = Command::new("/bin/sh");
        command.current_dir(self.0.path()).env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
        let ran = ran(command.args(["-ec", line]).output().unwrap());
        assert_eq!(ran.status, 0, "{line}: {ran:#?}");
        ran.out
    }
}

/// Text that packs, of so many bytes, which begins to differ from others at its end.
fn image(len: usize, end: &str) -> Vec<u8> {
    let mut image: Vec<u8> =
        (0..).flat_map(|it: u32| format!("{it} and some more\n").into_bytes()).take(len).collect();
    image.extend(end.as_bytes());
    image
}

#[test]
fn a_bundle_is_made_signed_looked_at_and_verified() {
    let bench = Bench::new();
    bench.write("old.img", &image(2_000_000, "old"));
    bench.write("new.img", &image(2_000_000, "new"));
    let out = bench.good(&[&CREATE[..], &["--part", "new.img", "--key", "signer.key"]].concat());
    let told: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let verified = bench.good(&[&["verify", "new.twb"], &ROOTS[..]].concat());
    assert!(verified.starts_with("new.twb: good: version 2.0.0"), "{verified}");
    let json: Value =
        serde_json::from_str(&bench.good(&["inspect", "new.twb", "--against", "old.img", "--json"])).unwrap();
    assert_eq!(
        json["manifest"]["payloads"][0]["sha256"],
        twinboot::model::Sha256::of(&bench.bytes("new.img")).to_string()
    );
    assert_eq!((&json["head"]["sha256"], &json["size"]), (&told["fwPackageCheckValue"], &told["fwSize"]));
    assert_eq!(json["size"], bench.bytes("new.twb").len());
    let fetched = json["against"][0]["bytes"].as_u64().unwrap();
    assert!(fetched < json["size"].as_u64().unwrap() / 3, "{json:#}");
    let words = bench.good(&["inspect", "new.twb", "--against", "old.img"]);
    assert!(words.contains("aligned-4096") && words.contains("old.img: fetches "), "{words}");
}

#[test]
fn the_same_images_make_the_same_bytes_and_the_build_may_tell_the_time() {
    let bench = Bench::new();
    bench.write("new.img", &image(3_000_000, "new"));
    let create = [&CREATE[..13], &["--part", "new.img", "--key", "signer.key", "-o"]].concat();
    bench.good(&[&create[..], &["one.twb"]].concat());
    bench.good(&[&create[..], &["two.twb"]].concat());
    assert!(bench.bytes("one.twb") == bench.bytes("two.twb"));
    // On one processor, at the time of the build.
    let one = CREATE[..11].join(" ");
    let line = format!(
        "SOURCE_DATE_EPOCH=1795219200 taskset -c 0 {PROGRAM} bundle {one} --part new.img --key signer.key -o three.twb"
    );
    bench.program(&line);
    assert!(bench.bytes("one.twb") == bench.bytes("three.twb"));
}

#[test]
fn a_bundle_of_several_partitions_has_zeros_between_them_and_says_where_each_ends() {
    let bench = Bench::new();
    bench.write("boot", &image(100_000, ""));
    bench.write("root", &image(500_000, ""));
    bench.refused(
        &[&CREATE[..], &["--part", "boot", "--part", "root"]].concat(),
        2,
        &["boot: how long is its partition?", "boot:SIZE"],
    );
    bench.refused(&[&CREATE[..], &["--part", "boot:64K"]].concat(), 2, &["does not fit into 65536"]);
    bench.good(&[&CREATE[..], &["--part", "boot:1M", "--part", "root", "--key", "signer.key"]].concat());
    bench.good(&[&["verify", "new.twb"], &ROOTS[..]].concat());
    let json: Value = serde_json::from_str(&bench.good(&["inspect", "new.twb", "--json"])).unwrap();
    let slot = &json["manifest"]["payloads"][0];
    assert_eq!(slot["parts"], serde_json::json!([{"size": 1 << 20}, {"size": 500_000}]));
    let mut whole = bench.bytes("boot");
    whole.resize(1 << 20, 0);
    whole.extend(bench.bytes("root"));
    assert_eq!(slot["sha256"], twinboot::model::Sha256::of(&whole).to_string());
}

#[test]
fn what_is_wrong_is_named_with_what_to_do_about_it_and_nothing_is_left() {
    let bench = Bench::new();
    bench.write("new.img", &image(100_000, "new"));
    bench.write("new.img.gz", &[0x1f, 0x8b, 8, 0, 0]);
    bench.write("empty", b"");
    bench.good(&["keygen", "other"]);
    bench.good(&["delegate", "unsigned", "--epoch", "1", "--signer", "signer.pem"]);
    let create = |more: &[&'static str]| [&CREATE[..], &["--part", "new.img"], more].concat();
    bench.refused(&create(&["--key", "other.key"]), 2, &["does not name the key", "bundle delegate"]);
    bench.refused(&create(&["--key", "signer.pem"]), 2, &["signer.pem", "chmod 600"]);
    bench.refused(&create(&["--url", "https://h/new.img"]), 2, &["--url", ".twb"]);
    bench.refused(&create(&["--url", "http://h/new.twb"]), 2, &["--url", "Insecure"]);
    let mut wrong = create(&[]);
    wrong[10] = "unsigned";
    bench.refused(&wrong, 2, &["no root key has signed unsigned", "bundle delegate unsigned --key"]);
    wrong[10] = "signer.pem";
    bench.refused(&wrong, 1, &["signer.pem", "bundle delegate"]);
    let mut wrong = create(&[]);
    wrong[14] = "new.img.out";
    bench.refused(&wrong, 2, &["does not end in .twb"]);
    wrong[14] = "missing/new.twb";
    bench.refused(&wrong, 2, &["--output", "missing"]);
    let mut wrong = create(&[]);
    wrong[4] = "two words";
    bench.refused(&wrong, 2, &["product"]);
    for (part, said) in
        [("new.img.gz", "gunzip new.img.gz"), ("empty", "empty is empty"), ("none", "--part: none: ")]
    {
        let mut wrong = create(&[]);
        wrong[16] = part;
        bench.refused(&wrong, 2, &[said]);
    }
    bench.refused(&["keygen", "other"], 2, &["other.key is there already"]);
    bench.refused(&["delegate", "delegation"], 2, &["nothing is to be done"]);
    bench.refused(
        &["delegate", "delegation", "--epoch", "2", "--signer", "signer.pem"],
        2,
        &["another name"],
    );
    bench.refused(&["inspect", "new.img"], 1, &["new.img: ", "bundle.damaged"]);
    bench.refused(&["verify", "new.img", "--root", "root-1.pem", "--threshold", "2"], 2, &["--threshold"]);
    let left: Vec<_> = std::fs::read_dir(bench.0.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("twb")), "{left:?}");
}

#[test]
fn a_bundle_that_was_changed_or_that_the_wrong_people_signed_does_not_verify() {
    let bench = Bench::new();
    bench.write("new.img", &image(400_000, "new"));
    bench.good(&[&CREATE[..], &["--part", "new.img", "--key", "signer.key"]].concat());
    let verify = [&["verify", "new.twb"], &ROOTS[..]].concat();
    bench.good(&verify);
    let whole = bench.bytes("new.twb");
    for at in [20, 900, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        bench.write("new.twb", &changed);
        bench.refused(&verify, 1, &["new.twb: ", "bundle."]);
    }
    bench.write("new.twb", &whole[..whole.len() - 1]);
    bench.refused(&verify, 1, &["bundle.damaged"]);
    bench.write("new.twb", &whole);
    bench.good(&["keygen", "stranger"]);
    bench.refused(&["verify", "new.twb", "--root", "stranger.pem"], 1, &["bundle.key"]);
    let both = ["verify", "new.twb", "--root", "stranger.pem", "--root", "root-1.pem", "--threshold", "2"];
    bench.refused(&both, 1, &["bundle.signature"]);
}

/// The way of a token: what is to be signed goes out, the signature comes in; meanwhile the bundle is no good.
#[test]
fn a_signature_that_was_made_elsewhere_is_taken_if_it_holds() {
    let bench = Bench::new();
    bench.write("new.img", &image(400_000, "new"));
    bench.good(&[&CREATE[..], &["--part", "new.img"]].concat());
    let verify = [&["verify", "new.twb"], &ROOTS[..]].concat();
    bench.refused(&verify, 1, &["nobody signed the manifest"]);
    bench.good(&["sign", "new.twb", "--to-sign", "tbs"]);
    assert!(bench.bytes("tbs").starts_with(b"DSSEv1 "));
    bench.write("sig", b"short");
    let add = ["sign", "new.twb", "--signature", "sig", "--public", "signer.pem"];
    bench.refused(&add, 2, &["it has 5 bytes", "64"]);
    bench.write("sig", &[7; 64]);
    bench.refused(&add, 2, &["does not hold", "--to-sign"]);
    bench.refused(&["sign", "new.twb"], 2, &["--key", "--to-sign"]);
    bench.good(&["sign", "new.twb", "--key", "signer.key"]);
    bench.good(&verify);
    // A new delegation, and the old image.
    bench.good(&["keygen", "next"]);
    bench.good(&[
        "delegate",
        "delegation-2",
        "--epoch",
        "2",
        "--signer",
        "next.pem",
        "--revoke",
        "signer.pem",
        "--key",
        "root-1.key",
        "--key",
        "root-2.key",
    ]);
    bench.refused(
        &["sign", "new.twb", "--delegation", "delegation-2", "--key", "signer.key"],
        2,
        &["does not name"],
    );
    bench.good(&["sign", "new.twb", "--delegation", "delegation-2", "--key", "next.key", "-o", "next.twb"]);
    bench.good(&[&["verify", "next.twb"], &ROOTS[..]].concat());
    bench.good(&verify);
}

#[test]
fn what_deploy_needs_is_written_without_telling_the_token_of_the_address() {
    let bench = Bench::new();
    bench.write("new.img", &image(100_000, "new"));
    let url = "https://example.com/new.twb?sig=SECRET";
    let create = [&CREATE[..], &["--part", "new.img", "--key", "signer.key", "--url", url]].concat();
    let out = bench.good(&create);
    assert!(!out.contains("SECRET"), "{out}");
    let out = bench.good(&[&create[..], &["--deploy-json", "firmware.json"]].concat());
    assert!(!out.contains("SECRET"), "{out}");
    let firmware: Value = serde_json::from_slice(&bench.bytes("firmware.json")).unwrap();
    assert_eq!((&firmware["fwPackageURI"], &firmware["fwVersion"]), (&url.into(), &"2.0.0".into()));
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |name: &str| std::fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("firmware.json"), mode("signer.key")), (0o600, 0o600));
}

#[test]
#[ignore = "peers: needs openssl"]
fn peers_keys_and_signatures_of_openssl_are_as_good_as_ours() {
    let bench = Bench::bare();
    bench.program(
        "umask 077
        for name in root signer; do
            openssl genpkey -algorithm ed25519 -out $name.key
            openssl pkey -in $name.key -pubout -out $name.pem
        done",
    );
    bench.write("new.img", &image(400_000, "new"));
    bench.good(&["delegate", "delegation", "--epoch", "1", "--signer", "signer.pem", "--to-sign", "tbs"]);
    bench.program("openssl pkeyutl -sign -rawin -inkey root.key -in tbs -out sig");
    bench.good(&["delegate", "delegation", "--signature", "sig", "--public", "root.pem"]);
    bench.good(&[&CREATE[..], &["--part", "new.img"]].concat());
    bench.good(&["sign", "new.twb", "--to-sign", "tbs"]);
    bench.program("openssl pkeyutl -sign -rawin -inkey signer.key -in tbs -out sig");
    bench.good(&["sign", "new.twb", "--signature", "sig", "--public", "signer.pem"]);
    bench.good(&["verify", "new.twb", "--root", "root.pem"]);
    // Keys of OpenSSL's sign here, and keys of ours there.
    bench.good(&["sign", "new.twb", "--key", "signer.key"]);
    bench.good(&["keygen", "ours"]);
    bench.program(
        "openssl pkeyutl -sign -rawin -inkey ours.key -in tbs -out sig
        openssl pkeyutl -verify -rawin -pubin -inkey ours.pem -in tbs -sigfile sig",
    );
    bench.program("openssl pkey -in root.key -aes256 -passout pass:x -out locked.key");
    bench.refused(&["delegate", "delegation", "--key", "locked.key"], 2, &["encrypted", "openssl pkey"]);
}

/// As the manual tells it, with a token that is only software.
#[test]
#[ignore = "peers: needs softhsm2-util, pkcs11-tool and openssl"]
fn peers_a_root_key_in_a_token_delegates() {
    let bench = Bench::bare();
    std::fs::create_dir(bench.path("tokens")).unwrap();
    let tokens =
        format!("directories.tokendir = {}\nobjectstore.backend = file\n", bench.path("tokens").display());
    bench.write("softhsm2.conf", tokens.as_bytes());
    bench.good(&["keygen", "signer"]);
    bench.program(
        "softhsm2-util --init-token --free --label root --pin 1234 --so-pin 1234
        module=$(ls /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so 2>/dev/null | head -n 1)
        token=\"pkcs11-tool --module $module --token-label root --login --pin 1234\"
        $token --keypairgen --key-type EC:edwards25519 --id 01 --label root
        $token --read-object --type pubkey --id 01 --output-file root.der
        openssl pkey -pubin -in root.der -out root.pem || openssl pkey -pubin -inform DER -in root.der -out root.pem
        echo \"$token\" >token",
    );
    bench.good(&["delegate", "delegation", "--epoch", "1", "--signer", "signer.pem", "--to-sign", "tbs"]);
    bench.program("$(cat token) --sign --mechanism EDDSA --id 01 --input-file tbs --output-file sig");
    bench.good(&["delegate", "delegation", "--signature", "sig", "--public", "root.pem"]);
    bench.write("new.img", &image(100_000, "new"));
    bench.good(&[&CREATE[..], &["--part", "new.img", "--key", "signer.key"]].concat());
    bench.good(&["verify", "new.twb", "--root", "root.pem"]);
}

#[test]
#[ignore = "peers: needs mkfs.ext4 and mksquashfs"]
fn peers_file_systems_make_good_bundles_and_a_changed_file_costs_little() {
    let bench = Bench::new();
    let programs = Path::new(PROGRAM).parent().unwrap().display().to_string();
    for (make, cut) in [
        (
            "mkfs.ext4 -q -d tree -E hash_seed=11111111-2222-3333-4444-555555555555 -U 11111111-2222-3333-4444-555555555555 $1 64M",
            "aligned-4096",
        ),
        ("rm -f $1; mksquashfs tree $1 -quiet -no-progress -all-time 1 -mkfs-time 1", "content-4096"),
    ] {
        // The real program is a good part of a real system; a small one is what changes.
        bench.program(&format!(
            "rm -rf tree; mkdir tree; cp {programs}/twinboot-fleet tree/; seq 100000 >tree/numbers
            make() {{ {make}; }}
            make old.img; seq 7 100007 >tree/numbers; make new.img"
        ));
        let _ = std::fs::remove_file(bench.path("new.twb"));
        bench.good(&[&CREATE[..], &["--part", "new.img", "--key", "signer.key"]].concat());
        bench.good(&[&["verify", "new.twb"], &ROOTS[..]].concat());
        let json: Value = serde_json::from_str(&bench.good(&[
            "inspect",
            "new.twb",
            "--against",
            "old.img",
            "--against",
            "new.img",
            "--json",
        ]))
        .unwrap();
        assert_eq!(json["manifest"]["payloads"][0]["chunking"], cut);
        let [changed, same] = [0, 1].map(|at| json["against"][at]["bytes"].as_u64().unwrap());
        let size = json["size"].as_u64().unwrap();
        assert!(
            same < changed && changed < size / 4 && same < 40_000,
            "{cut}: {changed} and {same} of {size}"
        );
    }
}
