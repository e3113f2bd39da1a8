//! Images that say what they are, and what is in a slot, by its bytes.

use std::io::Read as _;

use super::super::*;
use crate::model::Terms;

/// How long an image is, in bytes, and its name, which it repeats.
const LEN: usize = 48_000;
const NAME: usize = 8;

/// What becomes of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// It is well.
    Well,
    /// It says that it is another version.
    Sick,
    /// It does not boot.
    Dead,
    /// It does not reach the hub before it is kept.
    Deaf,
}

/// One of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Image {
    pub kind: Kind,
    pub number: u32,
}

impl Image {
    pub(super) fn new(kind: Kind, number: u32) -> Self {
        Self { kind, number }
    }

    pub(super) fn name(self) -> String {
        let kind = match self.kind {
            Kind::Well => "well",
            Kind::Sick => "sick",
            Kind::Dead => "dead",
            Kind::Deaf => "deaf",
        };
        format!("{kind}{:04}", self.number)
    }

    /// What its system calls itself.
    pub(super) fn version(self) -> String {
        if self.kind == Kind::Sick { "another".into() } else { self.name() }
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.name().repeat(LEN / NAME).into_bytes()
    }

    /// A wish for it, on these terms. Its file is there from now on.
    pub(super) fn wish(self, device: &Device, origin: Origin, terms: Terms) -> Install {
        let path = device.path("images").join(self.name());
        fs::write(&path, self.bytes()).unwrap();
        let version = self.name().parse().ok();
        let artifact = Artifact { version, location: Location::File(path), sha256: None, size: None };
        Install::new(artifact, origin, None).on(terms)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(bytes.get(..NAME)?).ok()?;
        let number = name[4..].parse().ok()?;
        let kinds = [Kind::Well, Kind::Sick, Kind::Dead, Kind::Deaf];
        let image = kinds.into_iter().map(|kind| Self { kind, number }).find(|image| image.name() == name)?;
        (bytes == image.bytes()).then_some(image)
    }
}

/// What a slot holds, if that is whole.
pub(super) fn held(device: &Device, slot: Slot) -> Option<Image> {
    let mut bytes = vec![0; LEN];
    let name = if slot == Slot::A { "a" } else { "b" };
    fs::File::open(device.path(name)).unwrap().read_exact(&mut bytes).unwrap();
    Image::read(&bytes)
}
