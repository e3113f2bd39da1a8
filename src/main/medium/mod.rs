//! Which bundle of a medium is to be installed: `twinboot install --from-medium`.
//!
//! A stick may be anybody's. Nothing on it is executed, no directory below the top is entered, no link is followed and no
//! device is opened; of each file that is named like a bundle the head is read, at most 128 KiB, and it is believed once
//! its signatures hold. What this device has committed to and seen revoked is asked of the daemon, as only that may read
//! it, and a bundle that the daemon would refuse hides no older one that it would take. What is chosen is then named to the
//! daemon with its digest, and judged there all over again, to every byte. So this is a proposal, and needs no privilege.

use std::cmp::Reverse;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde_json::Value;
use twinboot::bundle::{self, Device, HEAD_FIXED, Opened, RootKeys, Trust};
use twinboot::cli::Chosen;
use twinboot::config::Config;
use twinboot::host::Host;
use twinboot::hub;
use twinboot::model::{Artifact, Location};

use crate::settings;

/// A stick with more names at its top than this is not looked through.
const MAX_NAMES: usize = 4096;
/// The most bundles that are opened; each costs a signature or two.
const MAX_BUNDLES: usize = 64;

/// A bundle that is for this device.
struct Candidate {
    name: OsString,
    opened: Opened,
}

/// The bundle in `directory` with the highest rollback index, and of those the newest, that is for this device and whole.
/// `status` is the daemon's.
pub(crate) fn choose(config: &Config, directory: &Path, status: &Value) -> Result<Chosen, String> {
    let keyring = settings::keyring(config).map_err(|faults| {
        let faults = faults.iter().map(|it| format!("{}: {}", it.what, it.remedy));
        faults.collect::<Vec<_>>().join("\n")
    })?;
    if keyring.roots().is_empty() {
        let keys = config.trust.keys.display();
        return Err(format!("there is no root key in {keys}, so no bundle can be judged"));
    }
    let directory =
        std::path::absolute(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let now = Host::new(config.simulator.root.clone()).wall_clock().filter(|now| *now >= hub::CLOCK_FLOOR);
    let device = Device {
        product: config.trust.product.as_deref(),
        compatible: &config.trust.compatible,
        floor: status["floor"].as_u64().unwrap_or(0),
        now,
        twinboot: env!("CARGO_PKG_VERSION"),
    };
    look(&directory, keyring.roots(), known(status), &device)
}

/// What the daemon remembers of those whom it trusts. Of what a daemon of another version does not tell, nothing is known.
fn known(status: &Value) -> Trust {
    let member = |name: &str| status["trust"][name].clone();
    Trust {
        epoch: member("epoch").as_u64().unwrap_or(0),
        delegation: serde_json::from_value(member("delegation")).unwrap_or_default(),
        revoked: serde_json::from_value(member("revoked")).unwrap_or_default(),
    }
}

fn look(directory: &Path, roots: &RootKeys, mut trust: Trust, device: &Device<'_>) -> Result<Chosen, String> {
    let unreadable = |error: io::Error| format!("{} cannot be read: {error}", directory.display());
    let mut names = Vec::new();
    for (at, entry) in fs::read_dir(directory).map_err(unreadable)?.enumerate() {
        if at == MAX_NAMES {
            return Err(format!("{} has more than {MAX_NAMES} names at its top", directory.display()));
        }
        let name = entry.map_err(unreadable)?.file_name();
        if Location::File(directory.join(&name)).is_bundle() {
            names.push(name);
        }
    }
    names.sort();
    let mut told = Vec::new();
    let mut candidates = Vec::new();
    if names.len() > MAX_BUNDLES {
        names.truncate(MAX_BUNDLES);
        told.push(format!("only {MAX_BUNDLES} bundles are looked at"));
    }
    let heads: Vec<_> = names.into_iter().map(|name| (read(directory, &name), name)).collect();
    // First what the root keys say in any of those that could be installed: one may revoke who signed another. What they say
    // in others the daemon does not get to know by this, so it would take what is refused here.
    for head in heads.iter().filter_map(|(head, _)| head.as_ref().ok()) {
        if let Ok(opened) = open(head, roots, &trust, device) {
            trust = opened.trust;
        }
    }
    for (head, name) in heads {
        match head.and_then(|head| open(&head, roots, &trust, device)) {
            Ok(opened) => candidates.push(Candidate { name, opened }),
            Err(why) => told.push(format!("{}: passed over: {}", shown(&name), printable(&why))),
        }
    }
    // The first of the best: names decide between copies.
    candidates.sort_by_key(|it| Reverse((it.opened.manifest.rollback_index, it.opened.manifest.created)));
    let mut candidates = candidates.into_iter();
    let Some(Candidate { name, opened }) = candidates.next() else {
        told.insert(0, format!("there is no bundle for this device at the top of {}", directory.display()));
        return Err(told.join("\n"));
    };
    told.extend(candidates.map(|it| format!("{}: passed over: {}", shown(&it.name), "there is a newer one")));
    let Opened { manifest, head_len, id, notes, .. } = opened;
    told.extend(notes.iter().map(|note| printable(note)));
    let (version, index) = (&manifest.version, manifest.rollback_index);
    told.push(format!("{}: version {version}, rollback index {index}: this is the one", shown(&name)));
    let artifact = Artifact {
        version: Some(manifest.version.clone()),
        location: Location::File(directory.join(name)),
        sha256: Some(id),
        size: Some(manifest.layout(head_len).total),
    };
    Ok(Chosen { artifact, told })
}

/// The head of a file, and the length of all of it.
struct Head {
    bytes: Vec<u8>,
    file_len: u64,
}

/// Reads the head of a file.
fn read(directory: &Path, name: &OsStr) -> Result<Head, String> {
    // It goes into commands, journals and reports.
    let is_odd = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"._-+~".contains(byte);
    let bytes = name.as_encoded_bytes();
    if bytes.starts_with(b".") || bytes.starts_with(b"-") || bytes.iter().any(is_odd) {
        return Err("a name of letters, digits and ._-+~ is needed, which begins with none of .-".into());
    }
    // Not blocked by a pipe, nor led elsewhere by a link; and only then asked what it is.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory.join(name), flags, Mode::empty()).map_err(|error| {
        if error == rustix::io::Errno::LOOP { "it is a link".to_owned() } else { error.to_string() }
    })?;
    let mut file = File::from(file);
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no regular file".into());
    }
    let mut head = vec![0; HEAD_FIXED];
    let mut read = |into: &mut [u8]| {
        let cut = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
        file.read_exact(into).map_err(|error| {
            if cut(&error) { "it is cut off within its head".to_owned() } else { error.to_string() }
        })
    };
    read(&mut head)?;
    let len = bundle::head_len(&head).map_err(|refusal| refusal.to_string())?;
    // Two envelopes at most: the length was judged.
    head.resize(usize::try_from(len).unwrap_or(HEAD_FIXED), 0);
    read(&mut head[HEAD_FIXED..])?;
    Ok(Head { bytes: head, file_len: metadata.len() })
}

/// Judges the head of a file.
fn open(head: &Head, roots: &RootKeys, trust: &Trust, device: &Device<'_>) -> Result<Opened, String> {
    let opened = bundle::open(&head.bytes, roots, trust, device).map_err(|refusal| refusal.to_string())?;
    let total = opened.manifest.layout(opened.head_len).total;
    if head.file_len != total {
        return Err(format!("it is {} bytes long, and has to be {total}: copy it anew", head.file_len));
    }
    Ok(opened)
}

fn shown(name: &OsStr) -> String {
    name.to_string_lossy().chars().take(64).flat_map(char::escape_debug).collect()
}

/// What a file says must not forge lines of the journal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests;
