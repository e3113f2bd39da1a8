//! Which programs may be run.
//!
//! They run as root, so nobody else may have a say in what they are: the directory, what it is in, and each program
//! belong to root and can be written by nobody else.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A program's name with its path, or why it is not run.
pub type Found = (String, Result<PathBuf, String>);

/// What package managers and editors put beside a file of the same name.
const LEFT_BEHIND: [&str; 8] =
    ["~", ".dpkg-old", ".dpkg-new", ".dpkg-dist", ".dpkg-tmp", ".rpmsave", ".rpmnew", ".rpmorig"];

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;
const ANYONE_EXECUTES: u32 = 0o111;

/// The programs in `directory` by the order of their names; none if there is no such directory. Files that begin with
/// a dot, those that editors and package managers leave behind, and directories are passed over.
///
/// # Errors
/// If the directory cannot be read, or could be another user's work; with the remedy.
pub fn list(directory: &Path) -> Result<Vec<Found>, String> {
    listed(directory, program)
}

/// The files in `directory` by which root decides something, such as keys: the same rules but that nothing is executed.
///
/// # Errors
/// As for [`list`].
pub fn list_data(directory: &Path) -> Result<Vec<Found>, String> {
    listed(directory, |path, directory, us| Some(data(path, directory, us)?.map(drop)))
}

/// Judges a file of a directory on behalf of a user; `None` passes it over.
type Judge = fn(&Path, &Path, u32) -> Option<Result<(), String>>;

fn listed(directory: &Path, judge: Judge) -> Result<Vec<Found>, String> {
    let unreadable = |error: io::Error| format!("{} cannot be read: {error}", directory.display());
    let real = match directory.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return absent(directory).map(|()| Vec::new());
        }
        Err(error) => return Err(unreadable(error)),
    };
    let us = rustix::process::geteuid().as_raw();
    surroundings(directory, &real, us)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(&real).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || LEFT_BEHIND.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        if let Some(result) = judge(&path, &real, us) {
            found.push((path, name, result));
        }
    }
    found.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    Ok(found.into_iter().map(|(path, name, result)| (name, result.map(|()| path))).collect())
}

/// Whether there is nothing at all of that name. A link that leads nowhere, as to a disk that is not mounted, is not as good as
/// none: what somebody put there is only not to be seen.
fn absent(directory: &Path) -> Result<(), String> {
    // Without a slash at its end, which would have the link itself be followed.
    match directory.components().collect::<PathBuf>().symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) | Err(_) => Err(format!(
            "{} is a link to what is not there: mount or make what it leads to, or remove the link",
            directory.display()
        )),
    }
}

/// Whether the one program `path`, an absolute name, may be run.
///
/// # Errors
/// If it is not there, is no program, or could be another user's work; with the remedy.
pub fn is_trusted(path: &Path) -> Result<(), String> {
    let directory = path.parent().ok_or_else(|| format!("{} is no program", path.display()))?;
    let unreadable = |error: io::Error| format!("{} cannot be read: {error}", directory.display());
    let real = directory.canonicalize().map_err(unreadable)?;
    let us = rustix::process::geteuid().as_raw();
    surroundings(directory, &real, us)?;
    program(path, &real, us).unwrap_or_else(|| Err(format!("{} is a directory", path.display())))
}

/// Whoever can write the directory, or rename one above it, chooses the programs.
fn surroundings(directory: &Path, real: &Path, us: u32) -> Result<(), String> {
    let metadata = |path: &Path| {
        fs::metadata(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
    };
    distrust(real, &metadata(real)?, us).map_or(Ok(()), Err)?;
    // Only root has something to lose to the owner of a directory further up: a simulation's may be anywhere.
    let above = real.ancestors().chain(directory.ancestors()).skip(1).filter(|_| us == 0);
    for path in above.filter(|path| !path.as_os_str().is_empty()) {
        let metadata = metadata(path)?;
        // In a sticky directory (such as /tmp) only the owner can rename what is in it.
        if metadata.mode() & STICKY == 0 {
            distrust(path, &metadata, us).map_or(Ok(()), Err)?;
        }
    }
    Ok(())
}

/// Whether `path` may be run; `None` if it is a directory.
fn program(path: &Path, directory: &Path, us: u32) -> Option<Result<(), String>> {
    let is_executable = |metadata: Metadata| {
        let is_so = metadata.mode() & ANYONE_EXECUTES != 0;
        let why = || format!("{} cannot be executed: chmod 755 it, or remove it", path.display());
        if is_so { Ok(()) } else { Err(why()) }
    };
    Some(data(path, directory, us)?.and_then(is_executable))
}

/// Whether `path` can only be the work of root or ourselves; `None` if it is a directory.
fn data(path: &Path, directory: &Path, us: u32) -> Option<Result<Metadata, String>> {
    let shown = path.display();
    let examined = path.canonicalize().and_then(|real| Ok((fs::metadata(&real)?, real)));
    let (metadata, real) = match examined {
        Ok(examined) => examined,
        Err(error) => return Some(Err(format!("{shown} cannot be read: {error}"))),
    };
    if !real.starts_with(directory) {
        return Some(Err(format!("{shown} leads to {}: put the program itself there", real.display())));
    }
    if metadata.is_dir() {
        return None;
    }
    if !metadata.is_file() {
        return Some(Err(format!("{shown} is no regular file: remove it")));
    }
    if let Some(why) = distrust(&real, &metadata, us) {
        return Some(Err(why));
    }
    Some(Ok(metadata))
}

fn distrust(path: &Path, metadata: &Metadata, us: u32) -> Option<String> {
    let why = who_else(metadata.uid(), metadata.mode(), us)?;
    Some(format!("{} {why}", path.display()))
}

/// Why a file of this owner and mode could be another user's work; `us` is our own user id.
fn who_else(owner: u32, mode: u32, us: u32) -> Option<String> {
    if owner != 0 && owner != us {
        return Some(format!("belongs to user {owner}: chown root:root"));
    }
    let writable = mode & GROUP_OR_OTHERS_WRITE != 0;
    writable.then(|| format!("can be written by others (mode {:o}): chmod go-w", mode & 0o7777))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_root_and_we_ourselves_may_have_written_it() {
        for (owner, mode, us, fine) in [
            (0, 0o755, 0, true),
            (0, 0o500, 0, true),
            (0, 0o755, 1000, true),
            (1000, 0o755, 1000, true),
            (1000, 0o755, 0, false),
            (1000, 0o755, 1001, false),
            (0, 0o775, 0, false),
            (0, 0o757, 0, false),
            (1000, 0o770, 1000, false),
        ] {
            assert_eq!(who_else(owner, mode, us).is_none(), fine, "{owner} {mode:o} {us}");
        }
        assert_eq!(
            who_else(0, 0o100775, 0).as_deref(),
            Some("can be written by others (mode 775): chmod go-w")
        );
    }

    #[test]
    fn only_a_directory_that_is_not_there_has_no_programs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("health.d");
        assert_eq!(list(&path), Ok(Vec::new()));
        std::os::unix::fs::symlink(directory.path().join("not-mounted"), &path).unwrap();
        for path in [path.clone(), path.join("")] {
            assert!(list(&path).unwrap_err().contains("is a link to what is not there"));
        }
    }

    #[test]
    fn one_program_is_judged_like_those_of_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(directory.path(), 0o755);
        let path = directory.path().join("reset");
        assert!(is_trusted(&path).unwrap_err().contains("cannot be read"));
        fs::write(&path, "#!/bin/sh\n").unwrap();
        mode(&path, 0o644);
        assert!(is_trusted(&path).unwrap_err().contains("cannot be executed"));
        mode(&path, 0o777);
        assert!(is_trusted(&path).unwrap_err().contains("can be written by others"));
        mode(&path, 0o755);
        assert_eq!(is_trusted(&path), Ok(()));
        mode(directory.path(), 0o777);
        assert!(is_trusted(&path).unwrap_err().contains("can be written by others"));
        assert!(is_trusted(Path::new("/")).is_err());
    }
}
