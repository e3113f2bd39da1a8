//! Where the record lives: on storage that both slots share, that survives power cuts and has room.
//!
//! Pure but for [`room`]: texts of the kernel's and of `/etc/fstab` in, findings out.

use std::path::{Path, PathBuf};

use twinboot::cli::doctor::Check;

/// The word for all of this.
const NAME: &str = "state";

/// Below this many bytes nothing can be saved reliably: two generations of the record, and of a download's position.
const LEAST: u64 = 256 << 10;
/// Below this a log or two would fill it.
const LITTLE: u64 = 2 << 20;

/// A line of `mountinfo`, as far as it matters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Mount {
    /// `major:minor`.
    device: String,
    point: PathBuf,
    kind: String,
    source: String,
}

/// The mounts of `mountinfo` (proc(5)), in the order of mounting.
pub(super) fn mounts(mountinfo: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let device = fields.nth(2)?.to_owned();
        let point = PathBuf::from(unescape(fields.nth(1)?));
        let mut fields = after.split(' ');
        Some(Mount { device, point, kind: fields.next()?.to_owned(), source: unescape(fields.next()?) })
    };
    mountinfo.lines().filter_map(line).collect()
}

/// The mount that `path` lies in: the deepest, and of several at one place the last.
pub(super) fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let depth = |mount: &&Mount| mount.point.components().count();
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(depth)
}

/// Blanks in names are written `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// What is wrong with the place itself, and what to do: nothing that is written there could be found again by the other
/// system, or after a reboot.
pub(super) fn misplaced(
    directory: &Path,
    mounts: &[Mount],
    slots: &[(String, String)],
) -> Option<(String, &'static str)> {
    let shown = directory.display();
    let shared = "mount a small partition there that both slots share, from /etc/fstab";
    let mount = holding(mounts, directory)?;
    if ["tmpfs", "ramfs", "zram"].contains(&mount.kind.as_str()) {
        return Some((format!("{shown} is in memory ({}): every reboot forgets it", mount.kind), shared));
    }
    if let Some((slot, _)) = slots.iter().find(|(_, device)| *device == mount.device) {
        return Some((format!("{shown} lies in slot {slot}, so each slot has its own"), shared));
    }
    if mount.point == Path::new("/") {
        return Some((format!("{shown} lies in the root file system, so each slot has its own"), shared));
    }
    None
}

/// Kinds that check themselves when they are mounted.
const SELF_CHECKING: [&str; 7] = ["btrfs", "xfs", "f2fs", "ubifs", "jffs2", "zfs", "bcachefs"];

/// That it is there after each boot, and is checked after a power cut.
pub(super) fn mounting(
    directory: &Path,
    mounts: &[Mount],
    fstab: &str,
    has_unit: impl Fn(&str) -> bool,
) -> Check {
    let Some(mount) = holding(mounts, directory).filter(|mount| mount.point != Path::new("/")) else {
        let what = format!("what {} is mounted from is not known", directory.display());
        return Check::warn(NAME, what, "look at it with findmnt");
    };
    // The same file system may be mounted elsewhere, and bound to here.
    let points = mounts.iter().filter(|other| other.device == mount.device).map(|other| &other.point);
    let points: Vec<_> = points.collect();
    let lines = fstab.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let lines = lines.filter(|fields| fields.len() >= 4 && !fields[0].starts_with('#'));
    let named: Vec<_> = lines
        .filter(|fields| points.iter().any(|point| **point == Path::new(&unescape(fields[1]))))
        .collect();
    let at = mount.point.display();
    let good = || {
        Check::ok(
            NAME,
            format!(
                "{} is on {} ({}), which outlives updates",
                directory.display(),
                mount.source,
                mount.kind
            ),
        )
    };
    if named.is_empty() {
        if has_unit(&unit_of(&mount.point)) {
            return good();
        }
        let remedy = format!(
            "give {at} a line in /etc/fstab of each image, such as: PARTLABEL=data {at} ext4 defaults 0 2"
        );
        return Check::warn(NAME, format!("nothing in /etc/fstab mounts {at} after the next boot"), remedy);
    }
    let is_checked = named.iter().any(|fields| fields.get(5).is_some_and(|pass| *pass != "0"));
    if is_checked || SELF_CHECKING.contains(&mount.kind.as_str()) {
        return good();
    }
    let what = format!("{at} ({}) is never checked: what a power cut breaks in it stays broken", mount.kind);
    Check::warn(
        NAME,
        what,
        format!("let the last number of its line in /etc/fstab be 2, and install fsck.{}", mount.kind),
    )
}

/// The name of the unit that mounts at `point`, as systemd-escape(1) makes it.
fn unit_of(point: &Path) -> String {
    let path = point.to_string_lossy();
    let mut name = String::new();
    for (index, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            byte if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => name.push(byte.into()),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name + ".mount"
}

/// Bytes and files that may still be written to the file system of `directory`; `None` if nobody can tell.
pub(super) fn room(directory: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(directory).ok()?;
    // File systems without a fixed number of files tell none at all.
    let files = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    Some((found.f_bavail.saturating_mul(found.f_frsize), files))
}

/// Whether programs of the integrator's, of systemd's and of whoever looks after the board have where to put things. Of ours
/// nothing is put there.
pub(super) fn scratch(directory: &Path, room: Option<(u64, u64)>) -> Check {
    const NAME: &str = "temporary";
    let shown = directory.display();
    match room {
        None => Check::warn(NAME, format!("how much room there is in {shown} is not known"), "df says more"),
        Some((bytes, files)) if bytes < LITTLE || files < 16 => {
            let what = format!(
                "{shown} is full ({} KiB, {files} files left): hooks and health checks may fail for want of room",
                bytes >> 10
            );
            Check::warn(NAME, what, "empty it, or give it more room (tmp.mount)")
        }
        Some((bytes, _)) => Check::ok(NAME, format!("{} MiB are left in {shown}", bytes >> 20)),
    }
}

/// Whether that is enough.
pub(super) fn space(directory: &Path, room: Option<(u64, u64)>) -> Check {
    const NAME: &str = "space";
    let shown = directory.display();
    let remedy = "make room there, or make the partition larger: a few MiB that nothing else fills";
    match room {
        None => Check::warn(NAME, format!("how much room there is in {shown} is not known"), "df says more"),
        Some((bytes, files)) if bytes < LEAST || files < 16 => {
            let what =
                format!("{shown} is full ({} KiB, {files} files left): nothing would be begun", bytes >> 10);
            Check::fail(NAME, what, remedy)
        }
        Some((bytes, _)) if bytes < LITTLE => {
            Check::warn(NAME, format!("only {} KiB are left in {shown}", bytes >> 10), remedy)
        }
        Some((bytes, _)) => Check::ok(NAME, format!("{} MiB are left in {shown}", bytes >> 20)),
    }
}
