//! The loaders' words, and the sections below `[boot]` of those other than U-Boot: how each names the slots, with the
//! defaults of the shipped file.

use std::path::PathBuf;
use std::time::Duration;

use super::sections::{Loader, minutes};
use super::value::Words;
use crate::model::PerSlot;

impl Words for Loader {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("uboot", Self::Uboot),
        ("grub", Self::Grub),
        ("tryboot", Self::Tryboot),
        ("systemd_boot", Self::SystemdBoot),
        ("efi", Self::Efi),
        ("script", Self::Script),
    ];
}

/// `[boot.grub]`: GRUB's environment block.
#[derive(Clone, Debug, PartialEq)]
pub struct Grub {
    /// The file.
    pub environment: PathBuf,
    /// Each slot's name in `ORDER`, `<name>_OK` and `<name>_TRY`.
    pub names: PerSlot<String>,
}

impl Default for Grub {
    fn default() -> Self {
        Self { environment: "/boot/grub/grubenv".into(), names: PerSlot { a: "A".into(), b: "B".into() } }
    }
}

/// `[boot.tryboot]`: Raspberry Pi's own bootloader.
#[derive(Clone, Debug, PartialEq)]
pub struct Tryboot {
    /// The file that chooses the partition.
    pub autoboot: PathBuf,
    /// The number of each slot's boot partition.
    pub partitions: PerSlot<u32>,
}

impl Default for Tryboot {
    fn default() -> Self {
        Self { autoboot: "/boot/autoboot/autoboot.txt".into(), partitions: PerSlot { a: 2, b: 3 } }
    }
}

/// `[boot.systemd_boot]`: systemd-boot.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemdBoot {
    /// The id of each slot's entry, which is its file's name.
    pub entries: PerSlot<String>,
}

impl Default for SystemdBoot {
    fn default() -> Self {
        Self { entries: PerSlot { a: "slot-a.conf".into(), b: "slot-b.conf".into() } }
    }
}

/// `[boot.efi]`: the firmware's own boot manager.
#[derive(Clone, Debug, PartialEq)]
pub struct Efi {
    /// The four hexadecimal digits of each slot's variable `Boot####`.
    pub entries: PerSlot<String>,
}

impl Default for Efi {
    fn default() -> Self {
        Self { entries: PerSlot { a: "0001".into(), b: "0002".into() } }
    }
}

/// `[boot.script]`: a program of the board's, with the verbs of RAUC's custom bootloader backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// The program.
    pub program: PathBuf,
    /// How long it may take for one verb.
    pub timeout: Duration,
    /// What it calls each slot.
    pub names: PerSlot<String>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            program: "/etc/twinboot/bootloader".into(),
            timeout: minutes(1),
            names: PerSlot { a: "A".into(), b: "B".into() },
        }
    }
}
