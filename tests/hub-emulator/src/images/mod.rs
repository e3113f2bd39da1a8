//! The image server's files and its log. Not HTTP (`serve`) and not the sending (`body`). Filled by tests, the demo
//! and `--images`.

mod body;
mod serve;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::faults::{Fault, FaultKind, Faults};

pub(crate) use serve::{Body, full, serve};

/// The image server. Cheap to clone; all clones are the same server.
#[derive(Clone, Debug)]
pub struct Images {
    inner: Arc<Mutex<Inner>>,
    faults: Faults,
    /// `https://localhost:8443`, without a slash at its end.
    base: String,
}

#[derive(Debug, Default)]
struct Inner {
    images: BTreeMap<String, Image>,
    directory: Option<PathBuf>,
    /// How many times an image was turned into another one by [`FaultKind::ChangeAfter`].
    changes: BTreeMap<String, u8>,
    log: Vec<Request>,
}

/// An image that the server has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
    /// Its length in bytes.
    pub length: u64,
    /// The SHA-256 of its bytes in hexadecimal digits; none of a file, which would have to be read for it.
    pub sha256: Option<String>,
}

/// One request that the image server answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Name of the image.
    pub name: String,
    /// `GET` or `HEAD`.
    pub method: String,
    /// The Range header as received.
    pub range: Option<String>,
    /// HTTP status of the answer.
    pub status: u16,
    /// Offset in the file of the first byte of the body.
    pub start: u64,
    /// Bytes of body handed to the connection so far. What a client has really received may be less by the buffers
    /// in between.
    pub bytes: u64,
    /// The whole body was handed over.
    pub complete: bool,
}

impl Images {
    pub(crate) fn new(faults: Faults, base: String) -> Images {
        Images { inner: Arc::default(), faults, base }
    }

    /// Serves these bytes as `/images/{name}`, in place of what was there. Returns the address.
    pub fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) -> String {
        let bytes: Vec<u8> = bytes.into();
        let hash = Sha256::digest(&bytes);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let (etag, sha256) = (hash[..24].to_owned(), Some(hash));
        let content = Content::Memory(Bytes::from(bytes));
        self.insert(name, Image { content, etag, sha256, modified: SystemTime::now(), mask: 0 })
    }

    /// Serves a file, which must not change while it is served. Returns the address.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn put_file(&self, name: &str, path: &Path) -> io::Result<String> {
        let image = Image::open(path)?;
        Ok(self.insert(name, image))
    }

    /// Serves the files below a directory that have not been `put` under the same name.
    pub fn serve_directory(&self, directory: &Path) {
        self.lock().directory = Some(directory.to_owned());
    }

    /// Forgets an image: 404 from now on.
    pub fn remove(&self, name: &str) {
        self.lock().images.remove(name);
    }

    /// The address of an image, whether it exists or not.
    pub fn url(&self, name: &str) -> String {
        format!("{}/images/{name}", self.base)
    }

    /// Switches a fault on for one image. See [`Faults`] for more.
    pub fn fault(&self, name: &str, kind: FaultKind) {
        self.faults.set(Fault::always(name, kind));
    }

    /// Switches a fault on for the next request of one image.
    pub fn fault_once(&self, name: &str, kind: FaultKind) {
        self.faults.set(Fault::once(name, kind));
    }

    /// The images that were `put`, with what a desired property says of them.
    pub fn list(&self) -> Vec<Listed> {
        let inner = self.lock();
        let listed = inner.images.iter().map(|(name, image)| Listed {
            name: name.clone(),
            url: self.url(name),
            length: image.length(),
            sha256: image.sha256.clone(),
        });
        listed.collect()
    }

    /// Every request so far, oldest first.
    pub fn log(&self) -> Vec<Request> {
        self.lock().log.clone()
    }

    /// Forgets the log.
    pub fn clear_log(&self) {
        self.lock().log.clear();
    }

    /// Bytes of body sent for an image in all requests.
    pub fn bytes_sent(&self, name: &str) -> u64 {
        self.lock().log.iter().filter(|request| request.name == name).map(|request| request.bytes).sum()
    }

    fn insert(&self, name: &str, image: Image) -> String {
        let mut inner = self.lock();
        inner.changes.remove(name);
        inner.images.insert(name.to_owned(), image);
        drop(inner);
        self.url(name)
    }

    fn find(&self, name: &str) -> Option<Image> {
        let inner = self.lock();
        let mut image = match (inner.images.get(name), &inner.directory) {
            (Some(image), _) => image.clone(),
            (None, Some(directory)) => Image::open(&below(directory, name)?).ok()?,
            (None, None) => return None,
        };
        image.mask = inner.changes.get(name).copied().unwrap_or(0);
        Some(image)
    }

    /// Turns an image into another one of the same length; the mask of its new content.
    fn change(&self, name: &str) -> u8 {
        let mut inner = self.lock();
        let mask = inner.changes.entry(name.to_owned()).or_default();
        *mask = mask.wrapping_add(1).max(1);
        *mask
    }

    fn log_request(&self, request: Request) -> usize {
        let mut inner = self.lock();
        inner.log.push(request);
        inner.log.len() - 1
    }

    /// Changes an entry of the log, unless the log was cleared meanwhile.
    fn log_progress(&self, index: usize, bytes: u64, complete: bool) {
        if let Some(request) = self.lock().log.get_mut(index) {
            request.bytes = bytes;
            request.complete = complete;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A path below the directory; none if the name tries to leave it.
fn below(directory: &Path, name: &str) -> Option<PathBuf> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.split('/').all(plain).then(|| directory.join(name))
}

#[derive(Clone, Debug)]
struct Image {
    content: Content,
    etag: String,
    sha256: Option<String>,
    modified: SystemTime,
    /// Every byte is served with this mixed in; 0 is the file as it was put.
    mask: u8,
}

#[derive(Clone, Debug)]
enum Content {
    Memory(Bytes),
    File(Arc<File>, u64),
}

impl Image {
    fn open(path: &Path) -> io::Result<Image> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let modified = metadata.modified()?;
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let etag = format!("{:x}-{:x}", metadata.len(), since.as_nanos());
        let content = Content::File(Arc::new(file), metadata.len());
        Ok(Image { content, etag, sha256: None, modified, mask: 0 })
    }

    fn length(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_, length) => *length,
        }
    }

    /// The ETag with its quotes. Strong: another content has another one.
    fn quoted_etag(&self) -> String {
        match self.mask {
            0 => format!("\"{}\"", self.etag),
            mask => format!("\"{}-{mask}\"", self.etag),
        }
    }

    /// So many bytes from an offset; fewer only if a file has shrunk.
    fn read(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let mut bytes = match &self.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
                bytes.slice(start..start.saturating_add(length).min(bytes.len()))
            }
            Content::File(file, _) => {
                let mut buffer = vec![0; length];
                let read = file.read_at(&mut buffer, start)?;
                buffer.truncate(read);
                Bytes::from(buffer)
            }
        };
        if self.mask != 0 {
            bytes = bytes.iter().map(|byte| byte ^ self.mask).collect();
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_directory() {
        let directory = Path::new("/srv");
        assert_eq!(below(directory, "a/b.img"), Some(PathBuf::from("/srv/a/b.img")));
        for name in ["../etc/passwd", "a/../../b", "/etc/passwd", "", "a//b", "."] {
            assert_eq!(below(directory, name), None, "{name}");
        }
    }
}
