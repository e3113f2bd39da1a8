//! A slot as the image chain sees it.

use crate::image;
use crate::model::{Failure, Image, Reason};
use crate::slots::{SeedDevice, TargetDevice};

/// A slot's device as the image chain's target.
pub(super) struct Device(pub(super) TargetDevice);

impl Device {
    /// Refuses an image that ends before the slot's root file system begins.
    pub(super) fn has_root(&self, image: &Image) -> Result<(), Reason> {
        let (begins, len, slot) = (self.0.root_begins(), image.len, self.0.slot());
        if len > begins {
            return Ok(());
        }
        Err(Failure::ImageUndecodable.because(format!(
            "the image has {len} bytes, and the root file system of slot {slot} begins at byte {begins}: it is to be all \
             partitions of [slots] one behind the other, each but the last padded to its whole size"
        )))
    }
}

impl image::Target for Device {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn parts(&self) -> Vec<u64> {
        self.0.parts()
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write_at(offset, data)
    }

    fn zero(&mut self, offset: u64, len: u64) -> std::io::Result<()> {
        self.0.zero(offset, len)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }

    fn read_back(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_back(offset, buffer)
    }
}

/// The running slot's device as the image chain may use it.
#[derive(Debug)]
pub(super) struct Seed(pub(super) SeedDevice);

impl image::Seed for Seed {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, buffer)
    }
}
