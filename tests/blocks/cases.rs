//! All cases.

use super::bench::Layout;
use super::case::{Case, Written, take_turns};
use super::keep::{Keeper, Payloads, Records, Words};
use super::loaders::{Kind, Loader};
use super::slot;
use super::story;

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;

/// The state directory and what bootloaders read, all on one file system: each flush of one has the journal of all in it.
const fn on_ext4(name: &'static str, disks: &'static [u64], block: usize) -> Case {
    let layout = Layout { disks, ext4: Some(block), are_blocks: true };
    let write = |_: &Case, bench: &_, dice: &mut _| -> Result<Written, String> {
        let loader = |kind| Box::new(Loader(kind)) as Box<dyn Keeper>;
        let keepers = vec![
            Box::new(Records::default()) as Box<dyn Keeper>,
            Box::new(Payloads::checkpoint()),
            Box::new(Payloads::trust()),
            Box::new(Words),
            loader(Kind::UBootFiles),
            loader(Kind::GrubFile),
            loader(Kind::TrybootFile),
        ];
        take_turns(bench, keepers, 1000, None, dice)
    };
    Case { name, layout, write, cuts: 2000 }
}

/// A bootloader's variables without a file system, on disks that lose a write now and then, if so.
macro_rules! bare {
    ($name:literal, $disks:expr, $are_blocks:literal, $kind:expr, $loses:expr, $cuts:literal) => {
        Case {
            name: $name,
            layout: Layout { disks: $disks, ext4: None, are_blocks: $are_blocks },
            write: |_, bench, dice| take_turns(bench, vec![Box::new(Loader($kind))], 300, $loses, dice),
            cuts: $cuts,
        }
    };
}

/// What a campaign looks into.
pub(super) static CASES: [Case; 10] = [
    on_ext4("state-4k", &[12 * MIB], 4096),
    on_ext4("state-1k", &[6 * MIB], 1024),
    Case {
        name: "slot",
        layout: slot::LAYOUT,
        write: |_, bench, dice| slot::write_images(bench, 12, true, dice),
        cuts: 1000,
    },
    Case { name: "story", layout: story::LAYOUT, write: |_, bench, _| story::tell(bench), cuts: 1000 },
    bare!("uboot", &[64 * KIB], true, Kind::UBootDisk, None, 6000),
    bare!("uboot-lossy", &[64 * KIB], true, Kind::UBootDisk, Some(4), 4000),
    bare!("uboot-two-disks", &[64 * KIB, 64 * KIB], true, Kind::UBootDisks, None, 6000),
    bare!("uboot-single", &[64 * KIB], true, Kind::UBootSingle, None, 3000),
    bare!("grub", &[KIB], false, Kind::GrubDisk, None, 2000),
    bare!("tryboot", &[512], false, Kind::TrybootDisk, None, 1000),
];
