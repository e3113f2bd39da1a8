//! The two slots: of one size, not in use, and not tied to one place by what is in them.

use std::path::Path;

use twinboot::cli::doctor::Check;
use twinboot::model::{PerSlot, Slot};
use twinboot::slots::{PartView, SlotMap};

/// That there are two, and which one runs. What is not so is found with the configuration.
pub(super) fn map(slots: &SlotMap, root: &Path) -> (Option<Slot>, Option<Check>) {
    let Ok(booted) = slots.booted(root) else { return (None, None) };
    if Slot::BOTH.iter().any(|slot| slots.check(*slot).is_err()) {
        return (Some(booted), None);
    }
    let parts = |slot| {
        let names = slots.look(slot).into_iter().map(|part| part.name.display().to_string());
        names.collect::<Vec<_>>().join(" and ")
    };
    let what =
        format!("slot a is {}, slot b is {}; {} runs", parts(Slot::A), parts(Slot::B), booted.letter());
    (Some(booted), Some(Check::ok("slots", what)))
}

/// Bytes of a slot, all its partitions together; why not, if that cannot be told.
pub(super) fn size(parts: &[PartView]) -> Result<u64, String> {
    parts.iter().map(|part| part.found.as_ref().map(|(_, size)| *size).map_err(Clone::clone)).sum()
}

/// An image that fits one must fit the other.
pub(super) fn sizes(sizes: PerSlot<Result<u64, String>>) -> Check {
    const NAME: &str = "sizes";
    match (sizes.a, sizes.b) {
        (Ok(a), Ok(b)) if a == b => Check::ok(NAME, format!("both slots have {a} bytes")),
        (Ok(a), Ok(b)) => {
            let what =
                format!("slot a has {a} bytes, slot b has {b}: an image that fits one may not fit the other");
            Check::warn(NAME, what, "make them equal, or make no image larger than the smaller one")
        }
        (Err(why), _) | (_, Err(why)) => Check::warn(NAME, format!("not looked at: {why}"), "use sudo"),
    }
}

/// Nothing in a slot may name a slot: the same image goes to both. `names` are the slots' devices, by all their names.
pub(super) fn table(fstab: &str, names: &PerSlot<Vec<String>>) -> Check {
    const NAME: &str = "fstab";
    let lines = fstab.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    for fields in lines.filter(|fields| fields.len() >= 2 && !fields[0].starts_with('#')) {
        let tied = Slot::BOTH.into_iter().find(|slot| names.of(*slot).iter().any(|name| name == fields[0]));
        if let Some(slot) = tied {
            let what = format!(
                "/etc/fstab names {}, which is slot {}: the same image also runs from the other one",
                fields[0],
                slot.letter()
            );
            let remedy = "leave the root file system to the kernel's command line (root=), and the other slot unmounted";
            return Check::warn(NAME, what, remedy);
        }
    }
    Check::ok(NAME, "/etc/fstab names neither slot")
}

/// Names of a partition as fstab(5) may have them.
pub(super) fn names(part: &PartView) -> Vec<String> {
    let path = &part.name;
    let mut names = vec![path.display().to_string()];
    names.extend(part.found.iter().map(|(real, _)| real.display().to_string()));
    let tag = |directory: &str, tag: &str| {
        let name = path.strip_prefix(Path::new("/dev/disk").join(directory)).ok()?;
        Some(format!("{tag}={}", name.display()))
    };
    for (directory, word) in [
        ("by-partlabel", "PARTLABEL"),
        ("by-partuuid", "PARTUUID"),
        ("by-label", "LABEL"),
        ("by-uuid", "UUID"),
    ] {
        names.extend(tag(directory, word));
        // The other way about, if it is named by a tag.
        let text = path.to_string_lossy();
        let label = text.strip_prefix(word).and_then(|rest| rest.strip_prefix('='));
        names.extend(label.map(|label| format!("/dev/disk/{directory}/{label}")));
    }
    names
}
