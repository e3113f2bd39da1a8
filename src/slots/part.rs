//! One partition of a target slot, open for writing: past the page cache, exclusively, and only if nobody uses it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::model::Slot;

use super::{Error, Found, Identity, identity, probe};

/// Offsets, lengths and addresses of direct I/O are multiples of this: no block device asks for more.
const ALIGN: usize = 4096;
/// Most bytes moved by one system call: as many as one write of an image has.
const CHUNK: usize = 256 << 10;
/// How long whoever holds the device is waited for, and how often it is tried meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// A partition that is being written. The device stays exclusively ours until this is dropped: nobody can mount it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    file: File,
    /// The same device again, past the page cache. `None` for files on file systems that cannot.
    direct: Option<File>,
    /// How the device is told to forget a range, which reads as zeros afterwards. `None` if zeros are to be written.
    punch: Option<Punch>,
}

/// Makes so many bytes at an offset read as zeros, without writing them.
type Punch = fn(&File, u64, u64) -> Result<(), Errno>;

impl Part {
    /// Opens it for writing.
    pub(super) fn open(slot: Slot, found: Found) -> Result<Self, Error> {
        if let Identity::Block(number) = found.identity {
            refuse_in_use(slot, &found.path, number, Path::new("/"))?;
        }
        let file = open_exclusive(slot, &found)?;
        let open_error = |source| Error::Open { slot, path: found.path.clone(), source };
        let size = (&file).seek(SeekFrom::End(0)).map_err(open_error)?;
        let direct = match open_direct(&file) {
            Ok(direct) => Some(direct),
            // Only a file system may lack it; a device whose bytes cannot be checked is no target.
            Err(_) if matches!(found.identity, Identity::File { .. }) => None,
            Err(source) => return Err(open_error(source)),
        };
        tracing::debug!(%slot, path = %found.path.display(), size, direct = direct.is_some(), "target open");
        Ok(Self { path: found.path, size, file, direct, punch: Some(punch) })
    }

    /// Writes all of `data` at `offset`. Not durable before [`Part::flush`].
    pub(super) fn write_at(&self, offset: u64, data: &[u8], bounce: &mut Bounce) -> io::Result<()> {
        let whole = data.len() - data.len() % ALIGN;
        let (aligned, rest) = match &self.direct {
            Some(_) if offset.is_multiple_of(ALIGN as u64) => data.split_at(whole),
            Some(_) | None => data.split_at(0),
        };
        if let Some(direct) = &self.direct {
            for (piece, at) in aligned.chunks(CHUNK).zip((offset..).step_by(CHUNK)) {
                let buffer = &mut bounce.slice()[..piece.len()];
                buffer.copy_from_slice(piece);
                direct.write_all_at(buffer, at)?;
            }
        }
        self.file.write_all_at(rest, offset + aligned.len() as u64)
    }

    /// Makes `len` bytes at `offset` read as zeros, by telling the device to forget them where it can.
    pub(super) fn zero(&mut self, offset: u64, len: u64, bounce: &mut Bounce) -> io::Result<()> {
        if let Some(punch) = self.punch.filter(|_| len > 0) {
            match punch(&self.file, offset, len) {
                Ok(()) => return Ok(()),
                // Some do not know how, and some say that they do and fail, for ever. Whether the device is broken is
                // seen when the zeros are written.
                Err(error) => {
                    tracing::debug!(%error, "the device does not forget ranges, so zeros are written");
                    self.punch = None;
                }
            }
        }
        let zeros = vec![0; CHUNK];
        let mut done = 0;
        while done < len {
            let piece = (len - done).min(CHUNK as u64);
            self.write_at(offset + done, &zeros[..piece as usize], bounce)?;
            done += piece;
        }
        Ok(())
    }

    /// From now on zeros are written, whatever the device can do.
    pub(super) fn write_zeros(&mut self) {
        self.punch = None;
    }

    /// Makes everything written so far durable (`fdatasync`, which also empties the device's own cache).
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// From now on it cannot be flushed.
    #[cfg(test)]
    pub(super) fn break_flush(&mut self) -> io::Result<()> {
        // The kernel flushes no pipe.
        self.file = File::from(std::os::fd::OwnedFd::from(io::pipe()?.0));
        Ok(())
    }

    /// Reads from the device itself, not from memory. Returns how many bytes: fewer only at the end.
    pub(super) fn read_back(&self, offset: u64, buffer: &mut [u8], bounce: &mut Bounce) -> io::Result<usize> {
        let Some(direct) = &self.direct else {
            // A file on a file system without direct I/O: at least do not look at our own dirty pages.
            self.file.sync_data()?;
            rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)?;
            return read_full(&self.file, offset, buffer);
        };
        read_direct(direct, offset, buffer, bounce)
    }
}

/// On a block device this is a request for zeros that the kernel only grants where the device guarantees them; it never
/// falls back to writing by itself.
fn punch(file: &File, offset: u64, len: u64) -> Result<(), Errno> {
    rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
}

/// A buffer at an address that direct I/O accepts: the aligned part of a slightly larger one.
#[derive(Debug)]
pub(super) struct Bounce(Vec<u8>);

impl Bounce {
    pub(super) fn new() -> Self {
        Self(vec![0; CHUNK + ALIGN])
    }

    fn slice(&mut self) -> &mut [u8] {
        let start = self.0.as_ptr().align_offset(ALIGN);
        &mut self.0[start..start + CHUNK]
    }
}

/// Reads past the page cache from `file`, which was opened for that, at any offset. Fewer bytes only at the end.
pub(super) fn read_direct(
    file: &File,
    offset: u64,
    buffer: &mut [u8],
    bounce: &mut Bounce,
) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        let skip = (at % ALIGN as u64) as usize;
        let want = (skip + buffer.len() - done).next_multiple_of(ALIGN).min(CHUNK);
        let got = file.read_at(&mut bounce.slice()[..want], at - skip as u64)?;
        let useful = got.saturating_sub(skip).min(buffer.len() - done);
        if useful == 0 {
            break;
        }
        buffer[done..done + useful].copy_from_slice(&bounce.slice()[skip..skip + useful]);
        done += useful;
    }
    Ok(done)
}

pub(super) fn read_full(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Looks for users of block device `number` in the kernel's books below `root`. The exclusive open is the lock;
/// this is for a message that says *who*, and for what an exclusive open does not see.
pub(super) fn refuse_in_use(slot: Slot, path: &Path, number: u64, root: &Path) -> Result<(), Error> {
    let busy = |by| Error::Busy { slot, path: path.to_owned(), by };
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let file = root.join("proc/self/mountinfo");
    let mountinfo = std::fs::read(&file).map_err(|source| Error::Facts { path: file, source })?;
    let mountinfo = String::from_utf8_lossy(&mountinfo);
    if let Some(mount) = probe::mounts(&mountinfo).find(|m| (m.major, m.minor) == (major, minor)) {
        return Err(busy(format!("mounted at {}", mount.point)));
    }
    let books = root.join(format!("sys/dev/block/{major}:{minor}"));
    let holders = std::fs::read_dir(books.join("holders")).into_iter().flatten().flatten();
    let names: Vec<_> = holders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    if !names.is_empty() {
        return Err(busy(format!("held by {}", names.join(", "))));
    }
    if std::fs::read_to_string(books.join("ro")).is_ok_and(|ro| ro.trim() == "1") {
        return Err(Error::ReadOnly { slot, path: path.to_owned() });
    }
    Ok(())
}

/// Opens what was found and nothing else: the path may have been replaced since it was looked at. Who holds it may be
/// about to let go: udev looks into a device after every writer, and a program that this process starts shares all its
/// open files until it is executed, also the slot that was closed a moment ago.
fn open_exclusive(slot: Slot, found: &Found) -> Result<File, Error> {
    let begun = Instant::now();
    loop {
        match try_open_exclusive(slot, found) {
            Err(Error::Busy { .. }) if begun.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            opened => return opened,
        }
    }
}

fn try_open_exclusive(slot: Slot, found: &Found) -> Result<File, Error> {
    let path = || found.path.clone();
    let is_device = matches!(found.identity, Identity::Block(_));
    // On a block device O_EXCL (without O_CREAT) is Linux' lock against mounts and other exclusive users.
    let exclusive = if is_device { OFlags::EXCL } else { OFlags::empty() };
    let flags = (OFlags::NOFOLLOW | exclusive).bits() as i32;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&found.path);
    let file = opened.map_err(|source| match Errno::from_io_error(&source) {
        Some(Errno::BUSY) => Error::Busy { slot, path: path(), by: "another program or driver".into() },
        Some(Errno::ROFS) => Error::ReadOnly { slot, path: path() },
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => Error::Missing { slot, path: path(), source },
        Some(_) | None => Error::Open { slot, path: path(), source },
    })?;
    let metadata = file.metadata().map_err(|source| Error::Open { slot, path: path(), source })?;
    if identity(&metadata) != Some(found.identity) {
        return Err(Error::NotADevice { slot, path: path() });
    }
    if !is_device {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Busy { slot, path: path(), by: "another program".into() });
            }
            Err(TryLockError::Error(source)) => return Err(Error::Open { slot, path: path(), source }),
        }
        // A file's mode does not stop root from writing it; a simulated read-only slot is one without write bits.
        if metadata.mode() & 0o222 == 0 {
            return Err(Error::ReadOnly { slot, path: path() });
        }
    }
    Ok(file)
}

/// The device behind `file` once more, for I/O past the page cache. Through the open descriptor, so that it is
/// certainly the same device.
fn open_direct(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let direct =
        OpenOptions::new().read(true).write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path)?;
    // Some file systems accept the flag and refuse the I/O.
    let mut bounce = Bounce::new();
    direct.read_at(&mut bounce.slice()[..ALIGN], 0)?;
    Ok(direct)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::*;

    /// A partition full of ones, in a file.
    fn part(directory: &Path) -> Part {
        let path = directory.join("b");
        std::fs::write(&path, vec![1; 3 * CHUNK]).unwrap();
        let identity = identity(&std::fs::metadata(&path).unwrap()).unwrap();
        Part::open(Slot::B, Found { path, identity }).unwrap()
    }

    /// Makes zeros of a range that is aligned and one that is not, and looks at all of it.
    fn zeroes(part: &mut Part) {
        let mut bounce = Bounce::new();
        for (offset, len) in [(ALIGN as u64, CHUNK as u64 + 5), (2 * CHUNK as u64 + 7, 99)] {
            part.zero(offset, len, &mut bounce).unwrap();
        }
        part.flush().unwrap();
        let mut wanted = vec![1; 3 * CHUNK];
        wanted[ALIGN..ALIGN + CHUNK + 5].fill(0);
        wanted[2 * CHUNK + 7..2 * CHUNK + 7 + 99].fill(0);
        let mut found = vec![9; wanted.len()];
        assert_eq!(part.read_back(0, &mut found, &mut bounce).unwrap(), wanted.len());
        assert!(found == wanted);
    }

    /// eMMC chips are known that say that they forget ranges, and answer EIO when they are to.
    #[test]
    fn a_device_that_fails_to_forget_a_range_is_written_to() {
        static FAILS_WITH: AtomicI32 = AtomicI32::new(0);
        let directory = tempfile::tempdir().unwrap();
        for error in [Errno::IO, Errno::OPNOTSUPP, Errno::NOSPC, Errno::PERM] {
            FAILS_WITH.store(error.raw_os_error(), Ordering::Relaxed);
            let mut part = part(directory.path());
            // Fails once: whoever asks again is told that all is well, and finds ones.
            part.punch = Some(|_, _, _| match FAILS_WITH.swap(0, Ordering::Relaxed) {
                0 => Ok(()),
                error => Err(Errno::from_raw_os_error(error)),
            });
            zeroes(&mut part);
            assert_eq!(FAILS_WITH.load(Ordering::Relaxed), 0, "it was asked");
        }
    }

    #[test]
    fn where_zeros_are_to_be_written_nobody_is_asked_to_forget() {
        let directory = tempfile::tempdir().unwrap();
        let mut part = part(directory.path());
        part.punch = Some(|_, _, _| panic!("it was asked"));
        part.write_zeros();
        zeroes(&mut part);
    }
}
