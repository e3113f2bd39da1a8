//! The machine's own files, real or of a simulated machine: what the doctor reads, and nothing it writes.

use std::fs;
use std::path::{Path, PathBuf};

/// A machine, by the directory that stands for it.
pub(super) struct Machine {
    root: PathBuf,
}

/// Where units are, the first before the others.
const UNITS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

impl Machine {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where something of this machine's is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A file's text; `None` if there is none, or it cannot be read.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        fs::read(self.root.join(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether a file is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.root.join(name).exists()
    }

    /// What a directory holds, in the order of names; nothing if there is none.
    pub(super) fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(directory)).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Whether systemd starts `unit` by itself. A link that leads nowhere here counts, since it is read in another place.
    pub(super) fn is_enabled(&self, unit: &str) -> bool {
        let masked = self.root.join(UNITS[0]).join(unit);
        if fs::read_link(masked).is_ok_and(|to| to == Path::new("/dev/null")) {
            return false;
        }
        UNITS.iter().any(|directory| {
            let wants = self.names(directory);
            let wants = wants.iter().filter(|name| name.ends_with(".wants") || name.ends_with(".requires"));
            wants
                .into_iter()
                .any(|name| self.root.join(directory).join(name).join(unit).symlink_metadata().is_ok())
        })
    }

    /// Whether there is a unit of this name at all.
    pub(super) fn has_unit(&self, unit: &str) -> bool {
        UNITS.iter().any(|directory| self.has(&format!("{directory}/{unit}")))
    }

    /// The last value of `key` in the manager's configuration (systemd-system.conf(5)); `None` if nobody sets it.
    pub(super) fn manager_setting(&self, key: &str) -> Option<String> {
        // Drop-ins are read in the order of their names, whatever directory they are in, after the file itself.
        let mut drop_ins = Vec::new();
        for directory in
            ["usr/lib/systemd/system.conf.d", "run/systemd/system.conf.d", "etc/systemd/system.conf.d"]
        {
            let names = self.names(directory).into_iter().filter(|name| name.ends_with(".conf"));
            drop_ins.extend(names.map(|name| (name.clone(), format!("{directory}/{name}"))));
        }
        drop_ins.sort_by(|one, other| one.0.cmp(&other.0));
        let files = std::iter::once("etc/systemd/system.conf".to_owned());
        let texts =
            files.chain(drop_ins.into_iter().map(|(_, file)| file)).filter_map(|file| self.text(&file));
        let mut found = None;
        for text in texts {
            let set = text.lines().filter_map(|line| line.trim().split_once('='));
            let mut values = set.filter(|(name, _)| name.trim_end() == key).map(|(_, value)| value.trim());
            if let Some(value) = values.next_back() {
                found = Some(value.to_owned());
            }
        }
        found
    }

    /// The words of the kernel's command line.
    pub(super) fn command_line(&self) -> String {
        self.text("proc/cmdline").unwrap_or_default()
    }
}

/// The last value of `name=` on a command line: the one that counts.
pub(super) fn word<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    let words = command_line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
    words.filter(|(found, _)| *found == name).map(|(_, value)| value).next_back()
}
