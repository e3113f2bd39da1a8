//! Small files that survive a power cut: the one place that makes them.
//!
//! [`Generations`] keeps the newest two versions of a payload in one file whose space was allocated when it was
//! made, so a full disk cannot stop a save. A save overwrites the older version and flushes; the newer one is not
//! touched, so whatever is torn, one whole version is left. Neither renaming nor directories are involved after the
//! file exists.
//!
//! ```text
//!  offset 0                    capacity                    2 × capacity
//!  │ head │ payload …          │ head │ payload …          │
//!  head: "twinboot" │ sequence u64 │ length u32 │ CRC-32 of sequence, length and payload u32   (little endian)
//! ```
//!
//! Used by `store` (the record) and by `image` (the download's checkpoint). It knows nothing of what is inside. Large
//! files that an operator makes are [`Draft`]s.

mod draft;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use draft::{Draft, spool};
use rustix::io::Errno;

const MAGIC: &[u8; 8] = b"twinboot";
const HEAD: usize = 24;
/// No generation has this number: nobody ever saved so often, and it could not be counted on from.
const END: u64 = u64::MAX;

/// Two alternating versions of a payload in one file.
#[derive(Debug)]
pub struct Generations {
    file: File,
    path: PathBuf,
    capacity: usize,
    /// The newest whole generation: which half, and its sequence number. A save goes to the other half, and only a
    /// save that was flushed changes this: a failed one is repeated over the same half. After a renewal that failed it is
    /// the one before the newest.
    newest: Option<(u64, u64)>,
}

/// What a file of generations holds.
#[derive(Debug, Eq, PartialEq)]
pub enum Loaded {
    /// Nothing was ever saved, or it was cleared.
    Empty,
    /// The newest whole payload.
    Found {
        /// The payload.
        payload: Vec<u8>,
        /// The other generation is damaged, in these words: the payload may be one version old.
        damaged: Option<String>,
    },
    /// Something was saved, and neither generation is whole.
    Damaged(String),
}

/// A durable file could not be made, read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Generations {
    /// Opens `name` in `directory`, or makes it with room for payloads of up to `capacity` bytes less 24.
    ///
    /// # Errors
    /// If the file cannot be opened for writing, or made. A symbolic link in its place is never followed. A file that
    /// others could read or write, or that belongs to somebody else, is made ours alone where the file system has modes,
    /// and that is told: what is in it has to prove itself anyway, and a device that comes back from a restored backup
    /// shall go on.
    pub fn open(directory: &Path, name: &str, capacity: usize) -> Result<Self, Error> {
        let path = directory.join(name);
        let fail = |action| {
            let path = path.clone();
            move |source| Error { action, path, source }
        };
        let file = match open_existing(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(directory, name, capacity).map_err(fail("creating"))?;
                open_existing(&path).map_err(fail("opening"))?
            }
            Err(error) => return Err(fail("opening")(error)),
        };
        if let Some(warning) = guard(&file, &path) {
            tracing::warn!("{warning}");
        }
        if file.metadata().map_err(fail("reading"))?.len() < 2 * capacity as u64 {
            // Cut short by something else than us. Make it whole again; what is left of it counts as damaged.
            allocate(&file, capacity).map_err(fail("extending"))?;
            file.sync_all().map_err(fail("flushing"))?;
        }
        let mut generations = Self { file, path, capacity, newest: None };
        generations.load();
        Ok(generations)
    }

    /// Reads the newest whole generation of a file that cannot be written; `None` if it cannot be read either.
    pub fn read_only(path: &Path, capacity: usize) -> Option<Loaded> {
        let file = File::open(path).ok()?;
        Some(Self { file, path: path.to_owned(), capacity, newest: None }.load())
    }

    /// Reads the newest whole generation.
    pub fn load(&mut self) -> Loaded {
        let halves = [self.read(0), self.read(1)];
        let whole = |half: &Half| match half {
            Half::Whole { sequence, .. } => Some(*sequence),
            Half::Blank | Half::Damaged(_) => None,
        };
        self.newest =
            (0..2).filter_map(|i| Some((i as u64, whole(&halves[i])?))).max_by_key(|(_, sequence)| *sequence);
        let [a, b] = halves;
        let (newer, other) = if self.newest.is_some_and(|(half, _)| half == 1) { (b, a) } else { (a, b) };
        match (newer, other) {
            (Half::Whole { payload, .. }, _) if payload.is_empty() => Loaded::Empty,
            (Half::Whole { payload, .. }, Half::Damaged(why)) => {
                Loaded::Found { payload, damaged: Some(why) }
            }
            (Half::Whole { payload, .. }, Half::Blank | Half::Whole { .. }) => {
                Loaded::Found { payload, damaged: None }
            }
            (Half::Damaged(why), _) | (Half::Blank, Half::Damaged(why)) => Loaded::Damaged(why),
            (Half::Blank, Half::Blank | Half::Whole { .. }) => Loaded::Empty,
        }
    }

    /// Makes `payload` the newest generation. When this returns it survives a power cut.
    ///
    /// # Errors
    /// If it is too long, or the write or the flush failed: then the newest generation is what it was, and saving
    /// again writes everything anew (a flush that failed once proves nothing when it succeeds later).
    pub fn save(&mut self, payload: &[u8]) -> Result<(), Error> {
        let fail = |action| {
            let path = self.path.clone();
            move |source| Error { action, path, source }
        };
        let room = self.capacity.saturating_sub(HEAD);
        if payload.len() > room {
            let text = format!("{} bytes where {room} fit", payload.len());
            return Err(fail("writing")(io::Error::new(io::ErrorKind::FileTooLarge, text)));
        }
        let (half, sequence) = self.newest.map_or((0, 1), |(half, sequence)| (1 - half, sequence + 1));
        if sequence == END {
            return Err(fail("writing")(io::Error::other(
                "its generations are counted to the end; remove it",
            )));
        }
        let bytes = encode(sequence, payload);
        self.file.write_all_at(&bytes, half * self.capacity as u64).map_err(fail("writing"))?;
        self.file.sync_data().map_err(fail("flushing"))?;
        self.newest = Some((half, sequence));
        Ok(())
    }

    /// Writes the newest generation once more, over itself, and flushes. What was read may be in memory alone: after a
    /// flush that failed, another handle of the file knows nothing of that. With the same bytes nothing can be torn.
    ///
    /// # Errors
    /// If it cannot be read, written or flushed. Then the next save goes over it, too, and not over the other generation,
    /// which may be the only one on the disk.
    pub fn renew(&mut self) -> Result<(), Error> {
        let Some((half, sequence)) = self.newest else { return Ok(()) };
        let payload = match self.read(half) {
            Half::Whole { payload, .. } => payload,
            Half::Blank | Half::Damaged(_) => {
                let source = io::Error::other("its newest generation cannot be read any more");
                return Err(Error { action: "reading", path: self.path.clone(), source });
            }
        };
        let Some(before) = sequence.checked_sub(1) else { return Ok(()) };
        self.newest = Some((1 - half, before));
        self.save(&payload)
    }

    /// Forgets the payload, as durably as `save` keeps one.
    ///
    /// # Errors
    /// As for `save`.
    pub fn clear(&mut self) -> Result<(), Error> {
        match self.newest {
            Some(_) => self.save(&[]),
            None => Ok(()),
        }
    }

    fn read(&self, half: u64) -> Half {
        let mut bytes = vec![0; self.capacity];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], half * self.capacity as u64 + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Half::Damaged(format!("generation {half}: {error}")),
            }
        }
        match decode(&bytes[..filled]) {
            Half::Damaged(why) => Half::Damaged(format!("generation {half}: {why}")),
            whole @ (Half::Blank | Half::Whole { .. }) => whole,
        }
    }
}

/// One half of the file.
enum Half {
    Blank,
    Whole { sequence: u64, payload: Vec<u8> },
    Damaged(String),
}

fn checksum(sequence: u64, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&sequence.to_le_bytes());
    crc.update(&(payload.len() as u32).to_le_bytes());
    crc.update(payload);
    crc.finalize()
}

fn encode(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&sequence.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&checksum(sequence, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn decode(bytes: &[u8]) -> Half {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return Half::Damaged("cut short".into()) };
    if head.iter().all(|byte| *byte == 0) {
        return Half::Blank;
    }
    let number = |range: std::ops::Range<usize>| {
        head[range].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (sequence, len, crc) = (number(8..16), number(16..20), number(20..24));
    if head[..8] != *MAGIC {
        return Half::Damaged("not ours".into());
    }
    if sequence == END {
        return Half::Damaged("sequence out of range".into());
    }
    let Some(payload) = usize::try_from(len).ok().and_then(|len| rest.get(..len)) else {
        return Half::Damaged("length out of range".into());
    };
    if u64::from(checksum(sequence, payload)) != crc {
        return Half::Damaged("checksum differs".into());
    }
    Half::Whole { sequence, payload: payload.to_vec() }
}

fn open_existing(path: &Path) -> io::Result<File> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let file = OpenOptions::new().read(true).write(true).custom_flags(no_follow).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
    }
    Ok(file)
}

/// Makes the file ours alone again, should it have become anybody else's. What is in it may be a storage token. What to
/// tell of it: where that cannot be done, such as on a file system without modes, once in this process.
fn guard(file: &File, path: &Path) -> Option<String> {
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let metadata = file.metadata().ok()?;
    let us = rustix::process::geteuid();
    let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
    let is_foreign = owner != us.as_raw();
    if mode & 0o077 == 0 && !is_foreign {
        return None;
    }
    let (shown, us_id) = (path.display(), us.as_raw());
    let repaired = if is_foreign { rustix::fs::fchown(file, Some(us), None) } else { Ok(()) }
        .and_then(|()| rustix::fs::fchmod(file, rustix::fs::Mode::from_raw_mode(0o600)));
    let why = match repaired {
        // A file system without modes may agree and keep its own.
        Ok(()) if file.metadata().is_ok_and(|now| now.mode() & 0o077 != 0 || now.uid() != us_id) => {
            "its file system keeps its own".to_owned()
        }
        Ok(()) => {
            return Some(format!(
                "{shown} was open to others (mode {mode:04o}, user {owner}) and is not any more"
            ));
        }
        Err(error) => error.to_string(),
    };
    let is_first = TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    is_first.then(|| {
        format!(
            "{shown} is open to others (mode {mode:04o}, user {owner}), and cannot be closed to them: {why}. Run 'chown \
             {us_id} {shown}; chmod 600 {shown}', or where the file system has no modes, such as vfat, mount it with \
             uid={us_id},umask=077"
        )
    })
}

/// Makes the file whole before it gets its name, and the name durable.
fn create(directory: &Path, name: &str, capacity: usize) -> io::Result<()> {
    let temporary = directory.join(format!(".{name}.new"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    allocate(&file, capacity)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// Room for both generations, there for good.
fn allocate(file: &File, capacity: usize) -> io::Result<()> {
    let len = 2 * capacity as u64;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        // UBIFS and JFFS2 among others, which is what gateways with raw flash have.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(file, len),
        Err(errno) => Err(errno.into()),
    }
}

/// Lengthens the file to `len` by writing zeros behind what it holds.
fn fill(file: &File, len: u64) -> io::Result<()> {
    let mut at = file.metadata()?.len();
    while at < len {
        let piece = [0; 4096];
        let count = (len - at).min(piece.len() as u64);
        file.write_all_at(&piece[..count as usize], at)?;
        at += count;
    }
    Ok(())
}
