#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// Public keys that OpenSSL made (`openssl genpkey -algorithm ed25519 | openssl pkey -pubout`).
const A: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAbFwAlRhm0cqT+itSDynMAfhj2Tgz53ZOmNgNzKjZuBs=\n-----END PUBLIC KEY-----\n";
const B: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAA7LHP9PjiK4Gvy6Zbx56PnSS3QVhmUy2tXtr944kQts=\n-----END PUBLIC KEY-----\n";
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";

struct Directory(tempfile::TempDir);

impl Directory {
    fn with(files: &[(&str, &str)]) -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        directory.mode(".", 0o755);
        for (name, text) in files {
            fs::write(directory.path(name), text).unwrap();
            directory.mode(name, 0o644);
        }
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn load(&self, threshold: u32) -> Result<Keyring, Vec<Fault>> {
        Keyring::load(self.0.path(), threshold, false)
    }

    /// The one thing that is wrong.
    fn fault(&self, threshold: u32) -> String {
        let faults = self.load(threshold).unwrap_err();
        let [Fault { what, remedy }] = faults.as_slice() else { panic!("not one: {faults:?}") };
        assert!(!remedy.is_empty(), "{what}");
        what.clone()
    }
}

#[test]
fn each_file_is_a_key_and_what_is_no_pem_is_told_to_be_passed_over() {
    let directory = Directory::with(&[
        ("b.pem", B),
        ("a.pem", A),
        ("README", "what belongs here"),
        (".a.pem.swp", "an editor's"),
        ("a.pem~", "left behind"),
        ("c.pub", A),
    ]);
    fs::create_dir(directory.path("old.pem")).unwrap();
    let keyring = directory.load(2).unwrap();
    let names: Vec<_> = keyring.files().iter().map(|(_, path)| path.file_name().unwrap()).collect();
    assert_eq!(names, ["a.pem", "b.pem"]);
    assert_eq!((keyring.roots().keys().len(), keyring.roots().threshold()), (2, 2));
    assert!(keyring.files().iter().all(|(id, _)| keyring.roots().keys().contains_key(id)));
    assert_eq!(keyring.passed_over(), [directory.path("c.pub")]);
}

#[test]
fn no_key_is_no_fault_but_a_directory_that_was_named_must_be_there() {
    let empty = Directory::with(&[("README", "")]);
    assert!(empty.load(1).unwrap().roots().is_empty());
    assert!(empty.fault(2).contains("2 root keys must sign"), "what was asked for is not there");
    let none = empty.path("none");
    assert!(Keyring::load(&none, 1, true).unwrap().roots().is_empty());
    let faults = Keyring::load(&none, 1, false).unwrap_err();
    assert!(faults[0].what.contains("is not there"), "{faults:?}");
}

/// It leads to a disk that is not mounted, say: the keys are there, and only not to be seen.
#[test]
fn a_link_to_a_directory_that_is_not_there_is_not_as_good_as_no_key() {
    let elsewhere = Directory::with(&[("a.pem", A)]);
    let beside = Directory::with(&[]);
    let link = beside.path("keys.d");
    symlink(elsewhere.path("."), &link).unwrap();
    assert_eq!(Keyring::load(&link, 1, true).unwrap().roots().keys().len(), 1);
    drop(elsewhere);
    for (link, may_be_absent) in [(&link, true), (&link, false), (&link.join(""), true)] {
        let faults = Keyring::load(link, 1, may_be_absent).unwrap_err();
        assert!(faults[0].what.contains("is a link to what is not there"), "{faults:?}");
        assert!(faults[0].remedy.contains("remove the link"), "{faults:?}");
    }
    fs::remove_file(&link).unwrap();
    assert!(Keyring::load(&link, 1, true).unwrap().roots().is_empty());
}

/// A file that cannot be used is never as good as none: the others would be enough for an attacker, or nothing would.
#[test]
fn a_file_that_is_no_key_is_a_fault_whatever_the_others_are() {
    for (text, words) in [
        ("", "empty"),
        ("nonsense", "32 bytes"),
        ("no sense", "base64"),
        (PRIVATE, "holds a private key"),
        (&A.replace("MCow", "MCpw"), "another kind"),
        (&A[..60], "no public key"),
        (&format!("{A}{B}"), "no PEM"),
        (&"A".repeat(5000), "too long"),
    ] {
        let directory = Directory::with(&[("a.pem", A), ("b.pem", text)]);
        let what = directory.fault(1);
        assert!(what.contains("/b.pem") && what.contains(words), "{what}");
    }
    let bytes = Directory::with(&[]);
    fs::write(bytes.path("a.pem"), [0xff; 40]).unwrap();
    assert!(bytes.fault(1).contains("cannot be read"));
}

#[test]
fn a_key_that_anybody_can_sign_for_is_a_fault() {
    let identity = base64_of([&[1][..], &[0; 31]].concat());
    let directory = Directory::with(&[("weak.pem", &identity)]);
    assert!(directory.fault(1).contains("anybody can sign for"));
}

fn base64_of(bytes: Vec<u8>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn the_same_key_twice_and_fewer_than_must_sign_are_faults() {
    let twice = Directory::with(&[("a.pem", A), ("copy.pem", A)]);
    assert!(twice.fault(2).contains("is the same key as"));
    assert!(twice.fault(1).contains("is the same key as"));
    let one = Directory::with(&[("a.pem", A)]);
    assert!(one.fault(2).contains("2 root keys must sign (trust.threshold), and"));
    assert!(one.load(1).is_ok());
}

#[test]
fn what_others_can_write_is_no_key() {
    let directory = Directory::with(&[("a.pem", A)]);
    for mode in [0o666, 0o664, 0o646] {
        directory.mode("a.pem", mode);
        let what = directory.fault(1);
        assert!(what.contains("a.pem can be written by others") && what.contains("chmod go-w"), "{what}");
    }
    directory.mode("a.pem", 0o644);
    directory.mode(".", 0o777);
    assert!(directory.fault(1).contains("can be written by others"));
    directory.mode(".", 0o755);
    let elsewhere = Directory::with(&[("x.pem", B)]);
    symlink(elsewhere.path("x.pem"), directory.path("b.pem")).unwrap();
    assert!(directory.fault(1).contains("leads to"));
}
