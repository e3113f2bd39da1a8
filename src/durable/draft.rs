//! Whole files: what is written under another name, and gets its own once it is complete and flushed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD};

use super::Error;

/// Where the kernel shows the files that a process has open.
const DESCRIPTORS: &str = "/proc/self/fd";

/// A file that is being written. Until it is [kept](Draft::keep), what had its name is as it was; dropped before that,
/// nothing is left of it. It has no name at all meanwhile where the file system knows such files, so that nothing is left of
/// a process that is killed, either, unless that is in the one moment between two names. Only for files of the operator's: on a device [`Generations`](super::Generations) are used.
#[derive(Debug)]
pub struct Draft {
    file: File,
    temporary: PathBuf,
    /// It has the temporary name already.
    is_named: bool,
    path: PathBuf,
}

impl Draft {
    /// Begins a file with these permissions, beside the one whose name it will get.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(path: &Path, mode: u32) -> Result<Self, Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(mode);
        // By way of /proc it gets its name.
        let unnamed = Path::new(DESCRIPTORS).is_dir().then(|| unnamed(&options, path)).and_then(Result::ok);
        let is_named = unnamed.is_none();
        let file = unnamed.map_or_else(|| options.create_new(true).open(&temporary), Ok);
        let fail = |source| Error { action: "creating", path: path.to_owned(), source };
        Ok(Self { file: file.map_err(fail)?, temporary, is_named, path: path.to_owned() })
    }

    /// Where its contents go.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name, in place of what has it now.
    ///
    /// # Errors
    /// If it cannot be flushed or named; then nothing is left of it.
    pub fn keep(mut self) -> Result<(), Error> {
        let named = self
            .file
            .sync_all()
            .and_then(|()| self.name())
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .and_then(|()| File::open(directory(&self.path))?.sync_all());
        named.map_err(|source| Error { action: "writing", path: self.path.clone(), source })
    }

    /// Gives it its temporary name, since a name that is there can be taken by renaming alone.
    fn name(&mut self) -> io::Result<()> {
        if !self.is_named {
            // Ours by its number, and left by a process that was killed.
            let _ = fs::remove_file(&self.temporary);
            let unnamed = format!("{DESCRIPTORS}/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, unnamed, CWD, &self.temporary, AtFlags::SYMLINK_FOLLOW)?;
            self.is_named = true;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It has its name by now, or nobody wants it.
        if self.is_named {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A file without a name, in the directory of `path`: gone when it is closed, however that happens.
///
/// # Errors
/// If it cannot be made.
pub fn spool(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let unnamed = unnamed(&options, path).or_else(|_| {
        // Not every file system knows files without names.
        let temporary = path.with_file_name(format!(".{}.spool", std::process::id()));
        let file = options.create_new(true).open(&temporary)?;
        fs::remove_file(&temporary)?;
        io::Result::Ok(file)
    });
    unnamed.map_err(|source| Error {
        action: "creating a temporary file beside",
        path: path.to_owned(),
        source,
    })
}

/// A file without a name, beside `path`. Not every file system knows such files.
fn unnamed(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let tmpfile = rustix::fs::OFlags::TMPFILE.bits() as i32;
    options.clone().custom_flags(tmpfile).open(directory(path))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_has_its_name_when_it_is_whole_and_leaves_nothing_when_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it");
        fs::write(&path, "old").unwrap();
        let mut draft = Draft::new(&path, 0o644).unwrap();
        draft.file().write_all(b"half").unwrap();
        // Killed now, nothing would be left.
        assert_eq!(names(directory.path()), ["it"]);
        drop(draft);
        assert_eq!((fs::read(&path).unwrap(), names(directory.path())), (b"old".to_vec(), vec!["it".into()]));
        let mut draft = Draft::new(&path, 0o644).unwrap();
        draft.file().write_all(b"new").unwrap();
        // By one that was killed in its last moment.
        fs::write(&draft.temporary, "stale").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        draft.keep().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(directory.path())), (b"new".to_vec(), vec!["it".into()]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o700, 0o600);
        let error = Draft::new(&directory.path().join("missing/it"), 0o644).unwrap_err();
        assert!(error.to_string().starts_with("creating /"), "{error}");
    }

    #[test]
    fn a_spool_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = spool(&directory.path().join("it")).unwrap();
        file.write_all(b"much").unwrap();
        assert_eq!(names(directory.path()), Vec::<String>::new());
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "much");
    }
}
