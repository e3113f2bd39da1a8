//! MTD character devices: the `ioctl`s of `include/uapi/mtd/mtd-abi.h`, and nothing else.
//!
//! The only file of the crate with unsafe code: the kernel has no other door to erase flash. Called by `device`
//! through [`Flash`]. Everything with a decision in it is in `flash`.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::flash::{Flash, FlashKind, Geometry};

/// `struct mtd_info_user`.
#[repr(C)]
#[derive(Default)]
struct MtdInfo {
    kind: u8,
    flags: u32,
    size: u32,
    erase_size: u32,
    write_size: u32,
    oob_size: u32,
    padding: u64,
}

/// `struct erase_info_user`.
#[repr(C)]
struct EraseInfo {
    start: u32,
    length: u32,
}

mod call {
    //! The raw calls. Each takes a pointer to just the structure that the kernel's header names for its number.
    use super::{EraseInfo, MtdInfo};

    nix::ioctl_read!(info, b'M', 1, MtdInfo);
    nix::ioctl_write_ptr!(erase, b'M', 2, EraseInfo);
    nix::ioctl_write_ptr!(lock, b'M', 5, EraseInfo);
    nix::ioctl_write_ptr!(unlock, b'M', 6, EraseInfo);
    nix::ioctl_write_ptr!(is_bad, b'M', 11, i64);
    // Declared as reading, though the kernel reads from it as well: hence a mutable pointer.
    nix::ioctl_read!(is_locked, b'M', 23, EraseInfo);
}

/// An open MTD device.
pub(super) struct Mtd(File);

impl Mtd {
    pub(super) fn open(path: &Path, write: bool) -> io::Result<Self> {
        Ok(Self(OpenOptions::new().read(true).write(write).open(path)?))
    }
}

/// The old calls count in 32 bits; a device beyond 4 GiB must not wrap to its beginning.
fn range(start: u64, len: u64) -> io::Result<EraseInfo> {
    let narrow = |number: u64| u32::try_from(number).map_err(io::Error::other);
    Ok(EraseInfo { start: narrow(start)?, length: narrow(len)? })
}

impl Flash for Mtd {
    fn geometry(&mut self) -> io::Result<Geometry> {
        let mut info = MtdInfo::default();
        // SAFETY: `info` is a live, exclusively borrowed `struct mtd_info_user` with the kernel's layout (repr(C), the
        // same fields), and MEMGETINFO writes just that structure.
        unsafe { call::info(self.0.as_raw_fd(), &raw mut info) }?;
        let kind = match info.kind {
            3 => FlashKind::Nor,
            4 | 8 => FlashKind::Nand,
            6 => FlashKind::DataFlash,
            other => return Err(io::Error::other(format!("MTD type {other} is not supported"))),
        };
        let (size, erase_size) = (info.size.into(), info.erase_size.into());
        Ok(Geometry { kind, size, erase_size, write_size: info.write_size.into() })
    }

    fn is_bad(&mut self, start: u64) -> io::Result<bool> {
        let start = i64::try_from(start).map_err(io::Error::other)?;
        // SAFETY: MEMGETBADBLOCK reads one `loff_t`, which is an i64, from the live local it is pointed to.
        let answer = unsafe { call::is_bad(self.0.as_raw_fd(), &raw const start) }?;
        Ok(answer > 0)
    }

    fn is_locked(&mut self, start: u64, len: u64) -> io::Result<bool> {
        let mut range = range(start, len)?;
        // SAFETY: MEMISLOCKED reads one `struct erase_info_user` from the live, exclusively borrowed local; it writes
        // none, and could write no more than that structure.
        let answer = unsafe { call::is_locked(self.0.as_raw_fd(), &raw mut range) }?;
        Ok(answer > 0)
    }

    fn set_locked(&mut self, start: u64, len: u64, locked: bool) -> io::Result<()> {
        let range = range(start, len)?;
        let fd = self.0.as_raw_fd();
        // SAFETY: MEMLOCK and MEMUNLOCK read one `struct erase_info_user` from the live local they are pointed to.
        unsafe {
            if locked { call::lock(fd, &raw const range) } else { call::unlock(fd, &raw const range) }
        }?;
        Ok(())
    }

    fn erase(&mut self, start: u64, len: u64) -> io::Result<()> {
        let range = range(start, len)?;
        // SAFETY: MEMERASE reads one `struct erase_info_user` from the live local it is pointed to, and returns when the
        // range is erased.
        unsafe { call::erase(self.0.as_raw_fd(), &raw const range) }?;
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8], start: u64) -> io::Result<()> {
        self.0.read_exact_at(bytes, start)
    }

    fn write(&mut self, bytes: &[u8], start: u64) -> io::Result<()> {
        // No sync: character devices of MTD write through.
        self.0.write_all_at(bytes, start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_size() {
        assert_eq!((size_of::<MtdInfo>(), size_of::<EraseInfo>()), (32, 8));
    }

    #[test]
    fn ranges_do_not_wrap() {
        assert!(range(1 << 32, 1).is_err());
    }
}
