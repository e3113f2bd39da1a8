//! What a partition may be called, in the configuration and on the kernel's command line: by its path, or by a tag.

use std::fs;
use std::path::{Path, PathBuf};

/// The path behind a name. A tag (`PARTUUID=`, `PARTLABEL=`, `UUID=`, `LABEL=`) is looked up among the links that udev has
/// made below `root`; where there is none, as without udev, what the kernel itself says of its partitions counts. Of a tag
/// that nobody knows it is the link that is missing.
pub(super) fn path(root: &Path, name: &str) -> PathBuf {
    let Some((tag, text)) = name.split_once('=') else { return name.into() };
    let lower = text.to_ascii_lowercase();
    // What the kernel calls it in `uevent`; file systems it does not look into.
    let (directory, text, kernel) = match tag {
        "PARTUUID" => ("by-partuuid", &*lower, Some("PARTUUID")),
        "PARTLABEL" => ("by-partlabel", text, Some("PARTNAME")),
        "UUID" => ("by-uuid", text, None),
        "LABEL" => ("by-label", text, None),
        _ => return name.into(),
    };
    let link = root.join("dev/disk").join(directory).join(encode(text));
    if link.exists() {
        return link;
    }
    kernel.and_then(|key| by_kernel(root, key, text)).unwrap_or(link)
}

/// The one device of which the kernel says `key=text`. If it says so of several, which one is meant is not guessed.
fn by_kernel(root: &Path, key: &str, text: &str) -> Option<PathBuf> {
    let mut found = None;
    for entry in fs::read_dir(root.join("sys/class/block")).ok()?.flatten() {
        let Ok(uevent) = fs::read_to_string(entry.path().join("uevent")) else { continue };
        let value = |key: &str| {
            let mut lines = uevent.lines().filter_map(|line| line.split_once('='));
            lines.find_map(|(name, value)| (name == key).then_some(value))
        };
        if value(key).is_some_and(|it| it == text)
            && found.replace(root.join("dev").join(value("DEVNAME")?)).is_some()
        {
            return None;
        }
    }
    found
}

/// udev's spelling of a name in a link: bytes that do not belong into a file name as `\x20`.
fn encode(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "#+-.:=@_".contains(c);
    let mut encoded = String::new();
    for c in name.chars() {
        if plain(c) {
            encoded.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                encoded.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }
    encoded
}
