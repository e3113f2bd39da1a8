//! Disks with something on them, as a device has them: a file system for the state, and disks without one.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::disks::{Disks, Loop, make_ext4};
use super::keep::{Place, make_state};

/// What disks there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Their sizes in bytes.
    pub(super) disks: &'static [u64],
    /// The first has an ext4 with blocks of this size.
    pub(super) ext4: Option<usize>,
    /// Whether the others are block devices where they are written, and not files that are the same.
    pub(super) are_blocks: bool,
}

/// They are there.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) layout: Layout,
    // Gone before the disks that they are of.
    loops: Vec<Loop>,
    pub(super) disks: Disks,
}

impl Bench {
    /// For what is to be written: disks as a factory makes them.
    pub(super) fn new(layout: Layout) -> io::Result<Self> {
        let disks = Disks::new(layout.disks)?;
        let is_loop = |disk: usize| layout.are_blocks || (disk == 0 && layout.ext4.is_some());
        let made =
            (0..layout.disks.len()).filter(|disk| is_loop(*disk)).map(|disk| Loop::new(&disks.file(disk)));
        let loops = made.collect::<io::Result<Vec<_>>>()?;
        let bench = Self { layout, loops, disks };
        fs::create_dir(bench.mountpoint())?;
        if let Some(block) = layout.ext4 {
            make_ext4(bench.loops[0].path(), block)?;
            bench.mounted(|place| make_state(&place.root))??;
        }
        Ok(bench)
    }

    /// For what is to be read: what a cut left is put there by [`Disks::fill`].
    pub(super) fn to_read(layout: Layout) -> io::Result<Self> {
        let disks = Disks::new(layout.disks)?;
        let loops = if layout.ext4.is_some() { vec![Loop::new(&disks.file(0))?] } else { Vec::new() };
        let bench = Self { layout: Layout { are_blocks: false, ..layout }, loops, disks };
        fs::create_dir(bench.mountpoint())?;
        Ok(bench)
    }

    fn mountpoint(&self) -> PathBuf {
        self.disks.beside().join("root")
    }

    /// Does something with what is on the disks. The error is that of a file system that cannot be mounted.
    pub(super) fn mounted<R>(&self, work: impl FnOnce(&Place) -> R) -> io::Result<R> {
        let devices = (0..self.layout.disks.len()).map(|disk| match self.layout.are_blocks {
            true => self.loops[disk].path().to_owned(),
            false => self.disks.file(disk),
        });
        let (root, beside) = (self.mountpoint(), self.disks.beside().to_owned());
        let place = Place { root: root.clone(), devices: devices.collect(), beside };
        let _mounted = match self.layout.ext4 {
            Some(_) => Some(self.disks.mount(&self.loops[0], &root)?),
            None => None,
        };
        Ok(work(&place))
    }

    /// Puts there what a cut left.
    pub(super) fn fill(&self, images: &[Vec<u8>]) -> io::Result<()> {
        for (disk, image) in images.iter().enumerate() {
            self.disks.fill(disk, image)?;
        }
        self.loops.iter().try_for_each(|device| self.disks.forget(device))
    }
}
