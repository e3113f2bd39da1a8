//! `[slots]`: of which partitions each slot is made, and what they may be called.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::Config;
use super::value::{Value, array, list, quote, text, unlike};
use crate::model::PerSlot;

/// More partitions than any board has for one system.
const MOST: usize = 8;

/// The spellings of a partition that are no path, as on the kernel's command line.
const TAGS: [&str; 4] = ["PARTUUID=", "PARTLABEL=", "UUID=", "LABEL="];

/// The two slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Slots {
    /// Of what each is made.
    pub devices: PerSlot<Parts>,
}

impl Default for Slots {
    fn default() -> Self {
        let label = |name| Parts(vec![Path::new("/dev/disk/by-partlabel").join(name)]);
        Self { devices: PerSlot { a: label("rootfs-a"), b: label("rootfs-b") } }
    }
}

/// The partitions of a slot, in the order in which an image fills them; the last is the root file system. Each is a device
/// or, in a simulation, a plain file.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts(pub Vec<PathBuf>);

impl Value for Parts {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        const WANTED: &str = "a partition, or a list of the partitions of a slot";
        self.0 = match value {
            DeValue::Array(_) => list(value, "partitions", |it| text(it, WANTED).map(PathBuf::from))?,
            DeValue::String(_) => vec![text(value, WANTED)?.into()],
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => return Err(unlike(WANTED, value)),
        };
        Ok(())
    }

    fn print(&self) -> Option<String> {
        let name = |path: &PathBuf| quote(&path.to_string_lossy());
        Some(match &self.0[..] {
            [one] => name(one),
            many => array(many.iter().map(name)),
        })
    }
}

/// What is wrong with the slots, by key.
pub(super) fn problems(config: &Config) -> Vec<(&'static str, String)> {
    let PerSlot { a, b } = &config.slots.devices;
    let mut problems = Vec::new();
    for (key, Parts(parts)) in [("slots.a", a), ("slots.b", b)] {
        if parts.is_empty() || parts.len() > MOST {
            problems.push((key, format!("must be from 1 to {MOST} partitions, found {}", parts.len())));
        }
        for name in parts.iter().filter(|name| !name.is_absolute() && !is_tag(name)) {
            let wanted =
                "must be an absolute file name, or a partition by PARTUUID=, PARTLABEL=, UUID= or LABEL=";
            problems.push((key, format!("{wanted}, found {:?}", name.display())));
        }
        for (at, name) in parts.iter().enumerate() {
            if parts[..at].contains(name) {
                problems.push((key, format!("names {:?} twice", name.display())));
            }
        }
    }
    if let Some(both) = b.0.iter().find(|name| a.0.contains(name)) {
        problems.push(("slots.b", format!("must differ from slots.a: both name {:?}", both.display())));
    } else if a.0.len() != b.0.len() {
        let (ours, theirs) = (b.0.len(), a.0.len());
        problems
            .push(("slots.b", format!("must have as many partitions as slots.a, {theirs}, found {ours}")));
    }
    problems
}

fn is_tag(name: &Path) -> bool {
    let name = name.to_string_lossy();
    TAGS.iter().any(|tag| name.strip_prefix(tag).is_some_and(|rest| !rest.is_empty()))
}
