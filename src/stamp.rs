//! Whether files are still the ones that were read: keys, certificates and authorities are exchanged under a running
//! daemon, and are looked at again before every connection.
//!
//! Not a watcher: nothing waits for a change. Whoever read a file keeps its stamp and compares.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What some files looked like at one moment: identity, length, and the times of the last change of contents, owner
/// or mode. A file that is not there has a stamp too.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stamp(Vec<Option<[i128; 5]>>);

impl Stamp {
    /// The stamp of `files`, now. Take it before reading them: a change in between is then noticed the next time.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Self {
        Self(files.into_iter().map(stamp).collect())
    }
}

fn stamp(file: &Path) -> Option<[i128; 5]> {
    let it = fs::metadata(file).ok()?;
    let time = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Some([
        i128::from(it.dev()),
        i128::from(it.ino()),
        i128::from(it.len()),
        time(it.mtime(), it.mtime_nsec()),
        // The mode and the owner: a file that was refused for them may be good now.
        time(it.ctime(), it.ctime_nsec()),
    ])
}

/// What was last read well from some files, and is read again when they change. Files are exchanged by hand and one
/// after the other, so what cannot be used leaves what was good.
#[derive(Debug)]
pub struct Kept<T> {
    files: Vec<PathBuf>,
    seen: Stamp,
    good: Option<T>,
    problem: Option<String>,
}

impl<T> Kept<T> {
    /// Nothing read yet from `files`.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self { files, seen: Stamp::default(), good: None, problem: None }
    }

    /// The files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What the files say now, by `read`; or what they said last, if that is good and this is not.
    ///
    /// # Errors
    /// That of `read`, if nothing was ever good.
    pub fn now<E: Display>(&mut self, read: impl FnOnce(&[PathBuf]) -> Result<T, E>) -> Result<&T, E> {
        let stamp = Stamp::of(self.files.iter().map(PathBuf::as_path));
        if self.good.is_none() || self.seen != stamp {
            self.seen = stamp;
            match read(&self.files) {
                Ok(value) => (self.good, self.problem) = (Some(value), None),
                Err(error) if self.good.is_none() => return Err(error),
                Err(error) => self.problem = Some(format!("{error}; going on with what was read before")),
            }
        }
        Ok(self.good.as_ref().expect("read above, or before"))
    }

    /// What was last read well, if anything was.
    pub fn good(&self) -> Option<&T> {
        self.good.as_ref()
    }

    /// What is wrong with the files as they are, if something older is used in their place.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_happens_to_a_file_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("key"), directory.path().join("other"));
        let now = || Stamp::of([&*file, &*other]);
        let mut seen = vec![now()];
        fs::write(&file, "one").unwrap();
        seen.push(now());
        assert_eq!(now(), now());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        seen.push(now());
        fs::write(&other, "two").unwrap();
        seen.push(now());
        fs::rename(&other, &file).unwrap();
        seen.push(now());
        for (index, stamp) in seen.iter().enumerate() {
            assert!(!seen[..index].contains(stamp), "{index}");
        }
    }
    #[test]
    fn what_was_good_stays_until_something_good_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("number");
        let mut kept: Kept<u8> = Kept::new(vec![file.clone()]);
        let read = |files: &[PathBuf]| fs::read_to_string(&files[0]).unwrap_or_default().parse::<u8>();
        assert!(kept.now(read).is_err() && kept.now(read).is_err(), "told every time");
        fs::write(&file, "7").unwrap();
        assert_eq!((kept.now(read).copied(), kept.problem()), (Ok(7), None));
        assert_eq!(kept.now(|_| -> Result<u8, String> { panic!("read again") }), Ok(&7));
        fs::write(&file, "77777").unwrap();
        assert_eq!(kept.now(read), Ok(&7));
        assert!(kept.problem().is_some_and(|it| it.contains("what was read before")));
        fs::remove_file(&file).unwrap();
        assert_eq!((kept.now(read).copied(), kept.good()), (Ok(7), Some(&7)));
        fs::write(&file, "8").unwrap();
        assert_eq!((kept.now(read).copied(), kept.problem()), (Ok(8), None));
    }
}
