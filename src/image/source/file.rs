//! A file on this device: a package on a stick, or one that somebody copied here.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::super::{Error, Fetch};
use super::{Start, Validator};

/// How much is read at a time.
const PIECE: usize = 64 << 10;

/// A local source.
pub(in crate::image) struct LocalFile<'a> {
    fetch: Fetch<'a>,
    path: PathBuf,
    file: File,
    offset: u64,
    total: u64,
    validator: Validator,
    /// The file is not the one that was begun.
    changed: bool,
}

impl<'a> LocalFile<'a> {
    pub(super) fn open(fetch: &Fetch<'a>, path: &Path, start: Start) -> Result<Self, Error> {
        let error = |source| Error::File { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        if !metadata.is_file() {
            return Err(error(io::Error::other("not a regular file")));
        }
        let total = metadata.len();
        if let Some(wanted) = fetch.artifact.size
            && wanted != total
        {
            return Err(Error::Size { found: total.to_string(), wanted });
        }
        let stamp = format!("{}:{}:{}.{:09}", metadata.ino(), total, metadata.mtime(), metadata.mtime_nsec());
        let validator = Validator { etag: Some(stamp), last_modified: None };
        let changed = start.offset > 0 && start.validator != validator;
        let offset = if changed { 0 } else { start.offset };
        file.seek(SeekFrom::Start(offset)).map_err(error)?;
        fetch.progress.note(|now| now.total = Some(total));
        Ok(Self { fetch: *fetch, path: path.to_owned(), file, offset, total, validator, changed })
    }

    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.fetch.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if std::mem::take(&mut self.changed) {
            return Err(Error::StartOver(format!("{} changed", self.path.display())));
        }
        if self.offset >= self.total {
            return Ok(None);
        }
        let mut piece = vec![0; (self.total - self.offset).min(PIECE as u64) as usize];
        match self.file.read(&mut piece) {
            Ok(0) => Err(Error::Size { found: self.offset.to_string(), wanted: self.total }),
            Ok(count) => {
                piece.truncate(count);
                self.offset += count as u64;
                self.fetch.progress.note(|now| now.fetched += count as u64);
                Ok(Some(Bytes::from(piece)))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(Bytes::new())),
            Err(source) => Err(Error::File { path: self.path.clone(), source }),
        }
    }

    pub(super) fn seek(&mut self, from: u64) -> Result<(), Error> {
        self.offset = from;
        let sought = self.file.seek(SeekFrom::Start(from));
        sought.map(|_| ()).map_err(|source| Error::File { path: self.path.clone(), source })
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn rewind(&mut self) -> Result<(), Error> {
        self.offset = 0;
        let sought = self.file.seek(SeekFrom::Start(0));
        sought.map(|_| ()).map_err(|source| Error::File { path: self.path.clone(), source })
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn validator(&self) -> &Validator {
        &self.validator
    }
}
