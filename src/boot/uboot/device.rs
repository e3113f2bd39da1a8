//! One copy on a device: block device, regular file or MTD character device.
//!
//! Not here: which copy counts (`copies`), erase blocks (`flash`). Called by `copies` through [`Medium`].
//!
//! Reading bypasses the page cache ([`uncached`]), because after a failed write the cache holds what never reached the
//! device. Writing is one positioned write of the whole copy and one `fdatasync` whose result counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;

use tracing::debug;

use super::config::Place;
use super::copies::Medium;
use super::env::Scheme;
use super::flash;
use super::mtd::Mtd;
use crate::boot::uncached;

/// The kernel's number for MTD character devices.
const MTD_MAJOR: u32 = 90;

/// A copy as the configuration names it. Nothing stays open between calls: the file system that holds it may come
/// and go.
pub(super) struct DeviceCopy {
    place: Place,
    /// `/sys/class/block`, elsewhere in tests.
    sysfs: PathBuf,
}

/// What kind of thing the path leads to.
enum Kind {
    /// A block device or a regular file.
    Plain,
    Flash,
}

impl DeviceCopy {
    pub(super) fn new(place: Place) -> Self {
        Self { place, sysfs: "/sys/class/block".into() }
    }

    fn kind(&self) -> io::Result<Kind> {
        let metadata = fs::metadata(&self.place.path)?;
        let kind = metadata.file_type();
        if kind.is_block_device() || kind.is_file() {
            return Ok(Kind::Plain);
        }
        if kind.is_char_device() && rustix::fs::major(metadata.rdev()) == MTD_MAJOR {
            return Ok(Kind::Flash);
        }
        Err(io::Error::other("is neither a block device, a file nor an MTD device"))
    }

    fn size(&self) -> io::Result<usize> {
        usize::try_from(self.place.size).map_err(io::Error::other)
    }

    /// Where the copy starts; negative offsets count from the end.
    fn start(&self, mut file: &File) -> io::Result<u64> {
        if let Ok(offset) = u64::try_from(self.place.offset) {
            return Ok(offset);
        }
        let end = file.seek(SeekFrom::End(0))?;
        let start = end.checked_add_signed(self.place.offset);
        start.ok_or_else(|| io::Error::other(format!("the device has only {end} bytes")))
    }

    fn read_plain(&self) -> io::Result<Vec<u8>> {
        uncached::read(&self.place.path, |file| Ok((self.start(file)?, self.size()?)))
    }

    fn write_plain(&self, image: &[u8]) -> io::Result<()> {
        let _writable = ForcedReadOnly::lift(&self.place, &self.sysfs)?;
        let file = OpenOptions::new().write(true).open(&self.place.path)?;
        file.write_all_at(image, self.start(&file)?)?;
        file.sync_data()
    }
}

impl Medium for DeviceCopy {
    fn scheme(&mut self) -> io::Result<Scheme> {
        match self.kind()? {
            Kind::Plain => Ok(Scheme::Incremental),
            Kind::Flash => flash::scheme(&mut Mtd::open(&self.place.path, false)?),
        }
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        match self.kind()? {
            Kind::Plain => self.read_plain(),
            Kind::Flash => flash::read(&mut Mtd::open(&self.place.path, false)?, &self.place),
        }
    }

    fn write(&mut self, image: &[u8]) -> io::Result<()> {
        debug!(path = %self.place.path.display(), offset = self.place.offset, len = image.len(), "writing");
        match self.kind()? {
            Kind::Plain => self.write_plain(image),
            Kind::Flash => flash::write(&mut Mtd::open(&self.place.path, true)?, &self.place, image),
        }
    }

    fn clear_flag(&mut self) -> io::Result<()> {
        match self.kind()? {
            Kind::Plain => Err(io::Error::other("only flash has boolean flags")),
            Kind::Flash => flash::clear_flag(&mut Mtd::open(&self.place.path, true)?, &self.place),
        }
    }
}

/// The boot partitions of an eMMC (`mmcblk0boot0`) are read-only until the kernel is told otherwise; libubootenv
/// does the same around its writes. Put back when dropped.
struct ForcedReadOnly(Option<PathBuf>);

impl ForcedReadOnly {
    fn lift(place: &Place, sysfs: &std::path::Path) -> io::Result<Self> {
        let device = fs::canonicalize(&place.path)?;
        let name = device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_boot_partition = name
            .strip_prefix("mmcblk")
            .and_then(|rest| rest.split_once("boot"))
            .is_some_and(|(disk, part)| {
                let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                number(disk) && number(part)
            });
        let switch = sysfs.join(&name).join("force_ro");
        if !is_boot_partition || fs::read(&switch).ok().is_none_or(|state| state.first() != Some(&b'1')) {
            return Ok(Self(None));
        }
        fs::write(&switch, "0")?;
        Ok(Self(Some(switch)))
    }
}

impl Drop for ForcedReadOnly {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.as_ref().map(|switch| fs::write(switch, "1")) {
            debug!(%error, "cannot make the boot partition read-only again");
        }
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
