//! The root keys of this device, from a directory of files: public keys as OpenSSL writes them, one in each `*.pem`.
//!
//! Whoever can put a file there decides what runs here, so the rules are those for programs: files and directory are
//! root's and can be written by nobody else. There is no such thing as a key that is left out: a file that cannot be used
//! is a fault, and so are fewer keys than must sign. A device that went on without them would ask for less than it was
//! told to, and with the last key gone for nothing at all.
//!
//! Not here: what a key is ([`PublicKey`]) and what it vouches for ([`crate::bundle`]).

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::bundle::{KeyId, PublicKey, RootKeys};
use crate::program;

/// The longest file of a key, in bytes; one as OpenSSL writes it has 113.
const MAX_FILE: u64 = 4096;
/// The most keys, as many as a bundle may carry signatures.
const MAX_KEYS: usize = 16;

/// The root keys, and where each is from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Keyring {
    roots: RootKeys,
    files: Vec<(KeyId, PathBuf)>,
    passed_over: Vec<PathBuf>,
}

/// Why a directory of keys cannot be used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fault {
    /// What is wrong; names the file.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl Keyring {
    /// Reads the keys in `directory`, of which `threshold` must sign. A directory that is not there has none, if it may be
    /// absent: one that somebody named must be there, or a disk that is not mounted would take all keys away. For the same
    /// reason a link must lead somewhere: where there is one, somebody meant keys to be there.
    ///
    /// # Errors
    /// Everything that is wrong, each with what to do.
    pub fn load(directory: &Path, threshold: u32, may_be_absent: bool) -> Result<Self, Vec<Fault>> {
        let shown = directory.display();
        let is_missing =
            |looked: io::Result<Metadata>| looked.is_err_and(|it| it.kind() == ErrorKind::NotFound);
        // Without a slash at its end, which would have the link itself be followed.
        let is_absent = is_missing(directory.components().collect::<PathBuf>().symlink_metadata());
        if !is_absent && is_missing(directory.metadata()) {
            let what = format!("{shown} is a link to what is not there");
            return Err(vec![Fault::new(what, "mount or make what it leads to, or remove the link")]);
        }
        if is_absent && !may_be_absent {
            let what = format!("{shown}, which trust.keys names, is not there");
            return Err(vec![Fault::new(what, "make it, mount it, or take trust.keys out")]);
        }
        let found = program::list_data(directory)
            .map_err(|what| vec![Fault::new(what, "it and what is above it are root's alone")])?;
        let (mut faults, mut keys, mut keyring) = (Vec::new(), Vec::<PublicKey>::new(), Self::default());
        for (name, path) in found {
            if !name.ends_with(".pem") {
                if !name.starts_with("README") {
                    keyring.passed_over.push(directory.join(name));
                }
                continue;
            }
            let path = match path {
                Ok(path) => path,
                Err(what) => {
                    faults.push(Fault::new(what, "a key that others can exchange is none"));
                    continue;
                }
            };
            match read(&path) {
                Ok(key) => {
                    let id = key.id();
                    if let Some((_, first)) = keyring.files.iter().find(|(other, _)| *other == id) {
                        let what = format!("{} is the same key as {}", path.display(), first.display());
                        faults.push(Fault::new(what, "remove one of them: they count as one"));
                    }
                    keyring.files.push((id, path));
                    keys.push(key);
                }
                Err(fault) => faults.push(fault),
            }
        }
        let needed = usize::try_from(threshold).unwrap_or(usize::MAX);
        keyring.roots = RootKeys::new(needed, keys);
        let count = keyring.roots.keys().len();
        // With a threshold of one, no key at all is how a device says that it takes unsigned images.
        if faults.is_empty() && count < needed && (count, needed) != (0, 1) {
            let what = format!("{needed} root keys must sign (trust.threshold), and {shown} has {count}");
            faults.push(Fault::new(what, "add the missing keys, or lower trust.threshold"));
        }
        if count > MAX_KEYS {
            let what = format!("{shown} has {count} keys, and a bundle has at most {MAX_KEYS} signatures");
            faults.push(Fault::new(what, "remove those that nobody signs with"));
        }
        if faults.is_empty() { Ok(keyring) } else { Err(faults) }
    }

    /// The keys, none of which is left out.
    pub fn roots(&self) -> &RootKeys {
        &self.roots
    }

    /// The file of each key, in the order of their names.
    pub fn files(&self) -> &[(KeyId, PathBuf)] {
        &self.files
    }

    /// Files that lie there and are not read, as their names do not end in `.pem`.
    pub fn passed_over(&self) -> &[PathBuf] {
        &self.passed_over
    }
}

fn read(path: &Path) -> Result<PublicKey, Fault> {
    let shown = path.display();
    let mut text = String::new();
    let length = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text));
    let what = match length {
        Ok(length) if length as u64 > MAX_FILE => format!("{shown} is too long for a key"),
        // What follows would say no more than that it is no public key.
        Ok(_) if text.contains("PRIVATE KEY") => {
            let remedy = format!(
                "take it off this device at once; what belongs here: openssl pkey -in {shown} -pubout"
            );
            return Err(Fault::new(format!("{shown} holds a private key"), remedy));
        }
        Ok(_) => match PublicKey::parse(&text) {
            Ok(key) => return Ok(key),
            Err(error) => format!("{shown}: {error}"),
        },
        Err(error) => format!("{shown} cannot be read: {error}"),
    };
    Err(Fault::new(
        what,
        "copy it anew (removed, it is a key less: with none left unsigned images are taken)",
    ))
}

#[cfg(test)]
mod tests;
