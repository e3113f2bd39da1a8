//! Which programs judge, and which must not be run.
//!
//! They run as root, so nobody else may have a say in what they are: the directory, what it is in, and each program
//! belong to root and can be written by nobody else. What breaks this rule is not run and not passed over either: it
//! fails, with the remedy. A check that was silently left out would confirm what it was there to stop.

#[cfg(test)]
mod tests;

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program::Program;
use super::{Answer, Check, Verdict};
use crate::model::Failure;

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of programs. It need not exist.
    pub directory: PathBuf,
    /// How long one program may take for one answer.
    pub timeout: Duration,
    /// `TWINBOOT_…` variables: with a fixed `PATH`, all of a program's environment.
    pub environment: Vec<(String, String)>,
}

/// The checks of the directory, in the order of their names. Files that begin with a dot, those that editors and
/// package managers leave behind, and directories are none.
pub fn programs(settings: &Settings) -> Vec<Box<dyn Check>> {
    let directory = &settings.directory;
    match list(directory) {
        Ok(checks) => {
            checks.into_iter().map(|(name, found)| check(settings, name, found)).collect::<Vec<_>>()
        }
        Err(why) => vec![check(settings, directory.display().to_string(), Err(why))],
    }
}

/// A program's name with its path, or why it is not run.
type Found = (String, Result<PathBuf, String>);

/// What package managers and editors put beside a file of the same name.
const LEFT_BEHIND: [&str; 8] =
    ["~", ".dpkg-old", ".dpkg-new", ".dpkg-dist", ".dpkg-tmp", ".rpmsave", ".rpmnew", ".rpmorig"];

const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;
const ANYONE_EXECUTES: u32 = 0o111;

fn check(settings: &Settings, name: String, found: Result<PathBuf, String>) -> Box<dyn Check> {
    match found {
        Ok(path) => Box::new(Program::new(name, path, settings.timeout, settings.environment.clone())),
        Err(why) => Box::new(Untrusted { name, why }),
    }
}

fn list(directory: &Path) -> Result<Vec<Found>, String> {
    let unreadable = |error: io::Error| format!("{} cannot be read: {error}", directory.display());
    let real = match directory.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
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
        if let Some(result) = program(&path, &real, us) {
            found.push((path, name, result));
        }
    }
    found.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    Ok(found.into_iter().map(|(path, name, result)| (name, result.map(|()| path))).collect())
}

/// Whether the one program `path` may be run, by the rules for those in the directory. It may be a link to another
/// place that is as safe.
pub(super) fn trust(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let real = path.canonicalize().map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let us = rustix::process::geteuid().as_raw();
    let directory = real.parent().unwrap_or(Path::new("/"));
    surroundings(path.parent().unwrap_or(Path::new("/")), directory, us)?;
    program(&real, directory, us).unwrap_or_else(|| Err(format!("{shown} is a directory")))
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
    if metadata.mode() & ANYONE_EXECUTES == 0 {
        return Some(Err(format!("{shown} cannot be executed: chmod 755 it, or remove it")));
    }
    Some(Ok(()))
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

/// Stands for what must not be run.
struct Untrusted {
    name: String,
    why: String,
}

impl Check for Untrusted {
    fn name(&self) -> &str {
        &self.name
    }

    fn run(&mut self, _: Duration) -> Answer<'_> {
        let reason = Failure::Unhealthy.because(format!("health check not run: {}", self.why));
        Box::pin(std::future::ready(Verdict::Fail(reason)))
    }
}
