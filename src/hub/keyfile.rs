//! A symmetric key alone in a file: what the provisioning service knows a device, or a group of devices, by.
//!
//! The connection string brings its own key: see [`super::identity`].

use std::path::PathBuf;
use std::sync::Arc;

use super::credential::{Credential, Keeper, Key};
use crate::secret::Guard;
use crate::stamp::Kept;

/// A file that holds a key in base64 and nothing else, read again when it changes.
#[derive(Debug)]
pub struct KeyFile {
    kept: Kept<Arc<Key>>,
    guard: Guard,
    group_member: Option<String>,
}

impl KeyFile {
    /// The device's own key.
    pub fn of_device(path: PathBuf, guard: Guard) -> Self {
        Self { kept: Kept::new(vec![path]), guard, group_member: None }
    }

    /// The key that a group of devices shares, of which that of the device `registration` is derived.
    pub fn of_group(path: PathBuf, guard: Guard, registration: String) -> Self {
        Self { group_member: Some(registration), ..Self::of_device(path, guard) }
    }
}

impl Keeper for KeyFile {
    fn credential(&mut self) -> Result<Credential, String> {
        let (guard, member) = (&self.guard, &self.group_member);
        let key = self.kept.now(|files| {
            let text = guard.read(&files[0], "a key").map_err(|error| error.to_string())?;
            let key: Key = text
                .trim()
                .parse()
                .map_err(|wanted| format!("{} must hold a key: {wanted}", files[0].display()))?;
            Ok::<_, String>(Arc::new(
                member.as_ref().map_or_else(|| key.clone(), |member| key.derive(member)),
            ))
        })?;
        Ok(Credential::Key(key.clone()))
    }

    fn warnings(&self) -> Vec<String> {
        let group = self.group_member.as_ref().map(|_| {
            "the enrolment group's key is on this device: whoever takes it from one device can pose as any of the \
             fleet. Derive the device's own key in the factory, and use provisioning.attestation = \"symmetric_key\""
                .to_owned()
        });
        self.kept.problem().map(str::to_owned).into_iter().chain(group).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    const KEY: &str = "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=";

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn signed(keeper: &mut KeyFile) -> Result<[u8; 32], String> {
        match keeper.credential()? {
            Credential::Key(signer) => signer.sign(b"text"),
            Credential::Certificate(_) => panic!(),
        }
    }

    #[test]
    fn a_key_is_read_guarded_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let mut keeper = KeyFile::of_device(path.clone(), Guard::default());
        assert!(signed(&mut keeper).unwrap_err().contains("No such file"));
        write(&path, &format!("{KEY}\n"), 0o644);
        let error = signed(&mut keeper).unwrap_err();
        assert!(error.contains("chmod 600") && !error.contains(&KEY[..6]), "{error}");
        write(&path, "pasted half", 0o600);
        let error = signed(&mut keeper).unwrap_err();
        assert!(error.contains("base64") && !error.contains("pasted"), "{error}");
        write(&path, &format!("{KEY}\n"), 0o600);
        let first = signed(&mut keeper).unwrap();
        assert_eq!(keeper.warnings(), [""; 0]);
        write(&path, "half of the ne", 0o600);
        assert_eq!(signed(&mut keeper).unwrap(), first);
        assert!(keeper.warnings()[0].contains("read before"), "{:?}", keeper.warnings());
        write(&path, &KEY.replace("z0", "Z0"), 0o600);
        assert_ne!(signed(&mut keeper).unwrap(), first);
        assert_eq!(keeper.warnings(), [""; 0]);
    }

    #[test]
    fn a_groups_key_is_not_the_devices_and_is_warned_of() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write(&path, KEY, 0o600);
        let mut group = KeyFile::of_group(path.clone(), Guard::default(), "dev1".to_owned());
        let expected = KEY.parse::<Key>().unwrap().derive("dev1");
        assert_eq!(
            signed(&mut group).unwrap(),
            super::super::credential::Signer::sign(&expected, b"text").unwrap()
        );
        assert!(
            group.warnings()[0].contains("whole fleet") || group.warnings()[0].contains("any of the fleet")
        );
    }
}
