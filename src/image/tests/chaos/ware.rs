//! What there is to fetch: an image as it is, packed, and as bundles.

use super::super::bundle::writer::{Maker, sections};
use super::super::bundle::{edit, rig_of};
use super::*;
use crate::bundle::Chunking;

/// The size of a slot.
pub(super) const SLOT: u64 = 2 << 20;

/// A file on a server, and what a slot holds when it is installed.
pub(super) struct Ware {
    pub(super) name: &'static str,
    pub(super) image: Vec<u8>,
    pub(super) file: Vec<u8>,
    /// Another version of the file.
    pub(super) other: Vec<u8>,
    /// Who makes it, if it is a bundle, and what a device runs before.
    made: Option<(Maker, Vec<u8>)>,
}

impl Ware {
    /// One of each kind.
    pub(super) fn all() -> Vec<Self> {
        let plain = |name, len, pack: fn(&[u8]) -> Vec<u8>| {
            let image = image(len);
            let (file, other) = (pack(&image), pack(&edit(&image, 3)));
            Self { name, image, file, other, made: None }
        };
        let bundle = |name, chunking| {
            let (maker, old) = (Maker { chunking, ..Maker::new() }, image(600_000));
            let image = edit(&old, 9);
            let (file, other) = (maker.make(&image), maker.make(&edit(&old, 4)));
            Self { name, image, file, other, made: Some((maker, old)) }
        };
        vec![
            plain("plain", 400_003, <[u8]>::to_vec),
            plain("gzip", 700_001, gzip),
            plain("zstd", 700_001, zstd),
            bundle("bundle", Chunking::Aligned),
            bundle("bundle of content", Chunking::Content),
        ]
    }

    pub(super) fn is_bundle(&self) -> bool {
        self.made.is_some()
    }

    /// A server that has it, and a device that wants it: this very one.
    pub(super) fn bench(&self) -> Bench {
        let Some((maker, old)) = &self.made else { return Bench::new(&self.file, SLOT) };
        let mut bench = rig_of(maker, &self.file, old, self.image.len());
        bench.artifact.sha256 = Some(Sha256::of(&self.file[..sections(&self.file).table]));
        bench.artifact.size = Some(self.file.len() as u64);
        bench
    }

    /// What the slot must hold.
    pub(super) fn wanted(&self) -> Image {
        Image { sha256: Sha256::of(&self.image), len: self.image.len() as u64 }
    }
}
