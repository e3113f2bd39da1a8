//! A small file that a loader reads by its place: overwritten where it lies, in one write, and never made, truncated
//! or renamed, since that would be several writes to a file system whose directories survive no power cut.
//!
//! Not here: what is in it. Used by the adapters whose loader keeps its variables in such a file.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use tracing::debug;

use super::uncached;

/// Where a block of bytes is kept. Each call opens and closes what it needs.
pub(super) trait Block: Send {
    /// All bytes, from the device itself and not from the page cache; what is longer than it should be is cut off
    /// after one byte more.
    fn read(&mut self) -> io::Result<Vec<u8>>;

    /// Replaces all bytes by one write, and makes them durable.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// A file that is expected to have a certain length.
#[derive(Debug)]
pub(super) struct InPlace {
    path: PathBuf,
    len: usize,
}

impl InPlace {
    pub(super) fn new(path: PathBuf, len: usize) -> Self {
        Self { path, len }
    }
}

impl Block for InPlace {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let most = self.len as u64 + 1;
        uncached::read(&self.path, |file| {
            let len = file.metadata()?.len().min(most);
            Ok((0, usize::try_from(len).map_err(io::Error::other)?))
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != bytes.len() as u64 {
            return Err(io::Error::other(format!("is no file of {} bytes", bytes.len())));
        }
        debug!(path = %self.path.display(), len = bytes.len(), "overwriting");
        // The kernel takes a few hundred bytes whole or not at all.
        if file.write_at(bytes, 0)? != bytes.len() {
            return Err(io::Error::from(ErrorKind::WriteZero));
        }
        file.sync_data()
    }
}

/// Writes, and proves it by reading back; twice if need be. After an error the kernel forgets that the pages were
/// dirty, so whatever failed is written anew and never flushed anew. The error is a phrase.
pub(super) fn write_proved(block: &mut dyn Block, bytes: &[u8]) -> Result<(), String> {
    let mut failure = String::new();
    for attempt in 1..=2 {
        failure = match block.write(bytes).and_then(|()| block.read()) {
            Ok(found) if found == bytes => return Ok(()),
            Ok(_) => "it does not hold what was written".to_owned(),
            Err(error) => error.to_string(),
        };
        debug!(attempt, "overwriting failed: {failure}");
    }
    Err(failure)
}

#[cfg(test)]
#[path = "in_place_tests.rs"]
mod tests;
