//! Keys: made, and read from files.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use twinboot::bundle::{Envelope, KeyId, PublicKey, Signature, SigningKey};
use twinboot::secret::Guard;

use crate::arguments::{Keygen, Signing};
use crate::failure::{Failure, Outcome};
use crate::show::say;

/// Makes a key.
pub(super) fn generate(wanted: &Keygen) -> Outcome {
    let file = |suffix: &str| {
        let mut name = wanted.name.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (private, public) = (file(".key"), file(".pem"));
    if let Some(there) = [&private, &public].into_iter().find(|it| it.exists()) {
        return Err(Failure::usage(format!("{} is there already", there.display()))
            .remedy("give the key another name: what was signed with a lost key cannot be signed again"));
    }
    let (key, pem) = SigningKey::generate()
        .map_err(|error| Failure::failed(format!("the system has no randomness to give: {error}")))?;
    keep(&private, pem.as_bytes(), 0o600)?;
    keep(&public, key.public().to_pem().as_bytes(), 0o644)?;
    say(&format!("{}: {}", private.display(), key.public().id()))?;
    say(&format!("{}: its public key", public.display()))
}

/// A file that is there already is left alone.
fn keep(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    let wrong = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(wrong)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(wrong)
}

/// Reads a private key.
pub(super) fn private(path: &Path) -> Outcome<SigningKey> {
    let text = Guard::default()
        .read(path, "a private key")
        .map_err(|why| Failure::usage(format!("--key: {why}")))?;
    SigningKey::parse(&text).map_err(|why| {
        Failure::usage(format!("--key: {}: {why}", path.display()))
            .remedy("`twinboot-fleet bundle keygen` makes one, or openssl genpkey -algorithm ed25519")
    })
}

/// Reads the public key that `option` names.
pub(super) fn public(path: &Path, option: &str) -> Outcome<PublicKey> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("{option}: {}: {error}", path.display())))?;
    PublicKey::parse(&text).map_err(|why| Failure::usage(format!("{option}: {}: {why}", path.display())))
}

/// Reads the id of a key: of a file with a public key, or as it stands.
pub(super) fn id(text: &str, option: &str) -> Outcome<KeyId> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(public(Path::new(text), option)?.id()),
    }
}

/// Adds the signatures that are asked for. Returns whether the envelope is to be written: not if only what would be
/// signed was asked for, which has been written then.
pub(super) fn sign(envelope: &mut Envelope, wanted: &Signing) -> Outcome<bool> {
    if let Some(path) = &wanted.to_sign {
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .and_then(|mut file| file.write_all(&envelope.signed_bytes()))
            .map_err(|error| Failure::usage(format!("--to-sign: {}: {error}", path.display())))?;
        say(&format!("{}: to be signed, as it is (openssl pkeyutl -sign -rawin)", path.display()))?;
        return Ok(false);
    }
    for path in &wanted.key {
        private(path)?.seal(envelope);
    }
    if let (Some(path), Some(by)) = (&wanted.signature, &wanted.public) {
        let wrong = |why: String| Failure::usage(format!("--signature: {}: {why}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let len = bytes.len();
        let bytes: [u8; 64] = bytes.try_into().map_err(|_| {
            wrong(format!("it has {len} bytes"))
                .remedy("an Ed25519 signature has 64, as openssl writes them: no base64, no hex")
        })?;
        let key = public(by, "--public")?;
        if !key.verifies(&envelope.signed_bytes(), &bytes) {
            return Err(wrong(format!("it does not hold for the key {}", by.display()))
                .remedy("sign the file that --to-sign writes, whole and with plain Ed25519, and change nothing after that"));
        }
        envelope.signatures.retain(|it| it.key != key.id());
        envelope.signatures.push(Signature { key: key.id(), bytes });
    }
    if envelope.signatures.len() > Envelope::MAX_SIGNATURES {
        return Err(Failure::usage(format!("these are more than {} signatures", Envelope::MAX_SIGNATURES))
            .remedy("make it anew, and sign with fewer keys"));
    }
    Ok(true)
}
