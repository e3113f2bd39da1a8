//! How a call can fail.

/// A failure of one call, or of those after it on the same file, too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) stays: bool,
}

/// What it fails with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Eio,
    Enospc,
    Erofs,
    Eintr,
    /// Half of what was to be written is, and that is said.
    Short,
    /// A flush says that all is well, and nothing of it reaches the disk.
    Lost,
}

impl Fault {
    /// What only a lying disk does: what is read back is the defence, and the record is not read back.
    pub(super) const LOST: Self = Self { kind: Kind::Lost, stays: false };

    /// Each, once and for good. A call that is interrupted for ever is none that a kernel makes.
    pub(super) const ALL: [Self; 8] = [
        Self { kind: Kind::Eio, stays: false },
        Self { kind: Kind::Enospc, stays: false },
        Self { kind: Kind::Erofs, stays: false },
        Self { kind: Kind::Eintr, stays: false },
        Self { kind: Kind::Short, stays: false },
        Self { kind: Kind::Eio, stays: true },
        Self { kind: Kind::Enospc, stays: true },
        Self { kind: Kind::Erofs, stays: true },
    ];

    /// As the box understands it.
    pub(super) fn number(self) -> String {
        match self.kind {
            Kind::Eio => 5.to_string(),
            Kind::Enospc => 28.to_string(),
            Kind::Erofs => 30.to_string(),
            Kind::Eintr => 4.to_string(),
            Kind::Short => "short".into(),
            Kind::Lost => "lost".into(),
        }
    }

    /// As `CRASH` has it.
    pub(super) fn name(self) -> String {
        let name = match self.kind {
            Kind::Eio => "EIO",
            Kind::Enospc => "ENOSPC",
            Kind::Erofs => "EROFS",
            Kind::Eintr => "EINTR",
            Kind::Short => "SHORT",
            Kind::Lost => "LOST",
        };
        if self.stays { format!("{name}+") } else { name.to_owned() }
    }

    /// The fault of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::LOST]).find(|fault| fault.name() == name)
    }
}
