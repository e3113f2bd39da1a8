//! The registration id of a device that takes it from the machine: for images that are the same on every device.
//!
//! Not a secret and no proof: that is the key or the certificate. Only what is asked for by name is looked at.

use std::fs;
use std::path::Path;

use super::provisioning::is_registration_id;

/// Longest file that is looked at, in bytes: these hold a word.
const MAX_FILE: u64 = 4096;

/// What may be asked for, and where it is found below the root directory.
const SOURCES: [(&str, &[&str]); 3] = [
    // Of the board, the same for both slots.
    ("@serial", &["proc/device-tree/serial-number", "sys/class/dmi/id/product_serial"]),
    ("@hostname", &["proc/sys/kernel/hostname"]),
    ("@machine-id", &["etc/machine-id"]),
];

/// Whether `text` is a registration id, or asks for one that [`resolve`] knows to find.
pub fn is_known(text: &str) -> bool {
    is_registration_id(text) || SOURCES.iter().any(|(name, _)| *name == text)
}

/// The registration id that `text` says or asks for, in the machine below `root`.
///
/// # Errors
/// In words, if there is none, or what there is cannot be one.
pub fn resolve(text: &str, root: &Path) -> Result<String, String> {
    let Some((name, files)) = SOURCES.iter().find(|(name, _)| *name == text) else {
        return Ok(text.to_owned());
    };
    let read = |file: &&&str| {
        let path = root.join(file);
        // Some of these files claim a length of zero.
        let is_small = path.metadata().is_ok_and(|it| it.len() <= MAX_FILE);
        let text = is_small.then(|| fs::read_to_string(path).ok())??;
        let word = text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned();
        (!word.is_empty()).then_some(word)
    };
    let found = files.iter().find_map(|file| read(&file));
    let found =
        found.ok_or_else(|| format!("provisioning.registration_id is {name}, and the machine tells none"))?;
    if is_registration_id(&found) {
        Ok(found)
    } else {
        Err(format!("{found:?}, which the machine tells for {name}, cannot be a registration id"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_taken_from_the_machine_only_if_asked_for_by_name() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(resolve("hostname", root.path()).unwrap(), "hostname");
        assert!(resolve("@serial", root.path()).unwrap_err().contains("tells none"));
        file("sys/class/dmi/id/product_serial", "DMI-7\n");
        assert_eq!(resolve("@serial", root.path()).unwrap(), "DMI-7");
        file("proc/device-tree/serial-number", "1000000012345678\0");
        assert_eq!(resolve("@serial", root.path()).unwrap(), "1000000012345678");
        file("proc/sys/kernel/hostname", "my host\n");
        assert!(resolve("@hostname", root.path()).unwrap_err().contains("cannot be"));
        file("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        assert_eq!(resolve("@machine-id", root.path()).unwrap().len(), 32);
    }

    #[test]
    fn ids_are_what_the_service_allows() {
        for good in ["dev-1", "a", "A.b_c:d-", "@serial", "@hostname", "@machine-id"] {
            assert!(is_known(good), "{good}");
        }
        for bad in ["", "a b", "a.", "a_", "a/b", "@mac", "ä", &"a".repeat(129)] {
            assert!(!is_known(bad), "{bad}");
        }
    }
}
