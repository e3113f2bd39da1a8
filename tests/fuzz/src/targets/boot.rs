//! What bootloaders leave and read: environments, their places, and file systems that are not mounted.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;

use twinboot::boot::grub::block::{Block, SIZE};
use twinboot::boot::tryboot::autoboot::{Autoboot, LEN};
use twinboot::boot::tryboot::fat::{ReadAt, root_names};
use twinboot::boot::uboot::{config, env};

use super::{KIB, MIB, Target, texts};
use crate::kit::{Input, planted, text};

pub const UBOOT: Target = Target {
    name: "uboot",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (flags, flag, value) = (input.byte(), input.byte(), text(input.until(0)));
        let layout = if flags & 1 == 0 { env::Layout::Single } else { env::Layout::Redundant };
        let data = input.rest();
        // With the checksum that belongs to it; a wrong one is refused.
        let image = |crc: u32| {
            let flag = (layout == env::Layout::Redundant).then_some(flag);
            crc.to_ne_bytes().into_iter().chain(flag).chain(data.iter().copied()).collect::<Vec<_>>()
        };
        let crc = crc32fast::hash(data);
        assert!(env::decode(layout, &image(crc ^ 1)).is_err());
        let Ok(decoded) = env::decode(layout, &image(crc)) else { return assert!(data.len() < 2) };
        let mut before = decoded.env;
        for entry in before.entries() {
            let name = text(entry.split(|byte| *byte == b'=').next().unwrap_or_default());
            if before.get(name) != last(data, name) {
                panic!("{name:?} is {:?} to U-Boot, {:?} here", last(data, name), before.get(name));
            }
        }
        let size = layout.header() + data.len();
        let Ok(written) = env::encode(layout, size, flag, &before) else {
            // Full to the last byte, without the end that we always write.
            let has_end = data.starts_with(&[0]) || data.windows(2).any(|it| it == [0, 0]);
            return assert!(!has_end, "what was read fits");
        };
        let again = env::decode(layout, &written).expect("we wrote it");
        assert_eq!(
            (again.env.entries().collect::<Vec<_>>(), written.len()),
            (before.entries().collect(), size)
        );
        // A value of ours, and nobody else's is touched.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        let others = |env: &env::Env| {
            let is_other = |entry: &&[u8]| last(&[entry, &b"\0"[..]].concat(), "slot").is_none();
            env.entries()
                .filter(is_other)
                .filter(|it| !names(it, "slot"))
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        };
        let strangers = others(&before);
        before.set("slot", &value);
        assert_eq!(before.get("slot"), Some(value.as_bytes()).filter(|it| !it.is_empty()));
        assert_eq!(others(&before), strangers);
    },
    longest: KIB,
    memory: 64 * KIB,
    seeds: || {
        let data = b"bootcmd=run boot\0slot=a\0upgrade_available=1\0bootcount=2\0\0\0\0\0";
        let twice = b"slot=a\0 slot=b\0#slot=c\0bootlimit\0\0";
        vec![
            [&b"\0\0b\0"[..], data].concat(),
            [&b"\x01\x07\0"[..], data].concat(),
            [&b"\x01\x01\0"[..], twice].concat(),
        ]
    },
    words: &[
        b"slot=",
        b"\x00",
        b"=",
        b"#",
        b" ",
        b"\t",
        b"bootcount=",
        b"upgrade_available=",
        b"BOOT_ORDER=",
    ],
};

/// Whether an entry says anything of this variable.
fn names(entry: &[u8], name: &str) -> bool {
    let entry = entry.trim_ascii_start();
    entry == name.as_bytes() || entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
}

/// A variable as U-Boot's `himport_r` finds it, written down once more.
fn last<'a>(data: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut found = None;
    for entry in data.split(|byte| *byte == 0) {
        if entry.is_empty() {
            break;
        }
        let begin = entry.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(entry.len());
        let entry = &entry[begin..];
        let (left, right) = match entry.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&entry[..equals], Some(&entry[equals + 1..]).filter(|value| !value.is_empty())),
            None => (entry, None),
        };
        let counts = !(planted() && found.is_some());
        if left == name.as_bytes()
            && !entry.starts_with(b"#")
            && counts
            && !(left.is_empty() && right.is_some())
        {
            found = right;
        }
    }
    found
}

pub const FW_ENV: Target = Target {
    name: "fw-env",
    run: |bytes| {
        let Ok(parsed) = config::parse(Path::new("/etc/fw_env.config"), text(bytes)) else { return };
        let copies = &parsed.copies;
        assert!((1..=2).contains(&copies.len()), "{}", copies.len());
        for place in copies {
            assert!(place.path.is_absolute() && (16..=16 << 20).contains(&place.size), "{place:?}");
            assert!(place.named_by.starts_with("/etc/fw_env.config:") && !place.label().is_empty());
            assert!(!planted() || place.offset >= 0, "{place:?}");
        }
        if let [one, two] = copies.as_slice() {
            assert_eq!(one.size, two.size);
            let (from, to) = (i128::from(one.offset), i128::from(two.offset));
            let is_same = one.path == two.path && (from < 0) == (to < 0);
            assert!(!is_same || from.abs_diff(to) >= u128::from(one.size), "{one:?} overlaps {two:?}");
        }
    },
    longest: KIB,
    memory: 32 * KIB,
    seeds: || {
        texts([
            "# a comment\n/dev/mmcblk0  0xc0000  0x20000\n/dev/mmcblk0  0xe0000  0x20000\n",
            "/dev/mtd1 0x0000 0x4000 0x4000 2 1\n",
            "uboot:\n  size: 0x4000\n  lockfile: /run/lock/x\n  devices:\n    - path: /dev/mmcblk0\n      offset: 0xc0000\n    - path: /dev/mmcblk0\n      offset: 0xe0000\n  writelist:\n    - slot:sw\n",
        ])
    },
    words: &[
        b"/dev/mtd0",
        b"/dev/",
        b"0x",
        b"0X",
        b"-",
        b"size: ",
        b"lockfile: ",
        b"devices:\n",
        b"    - path: ",
        b"      offset: ",
        b"sectorsize: ",
        b"disablelock: yes",
        b"writelist:\n",
        b"#",
        b"---\n",
    ],
};

/// What GRUB's `load_env` makes of a block: byte by byte as in its `lib/envblk.c`, without a thought about lines.
fn grub_loads(bytes: &[u8]) -> BTreeMap<&[u8], &[u8]> {
    let (mut found, mut at) = (BTreeMap::new(), HEAD.len());
    let end = |mut at: usize| {
        while at < bytes.len() && bytes[at] != b'\n' {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        at
    };
    while at < bytes.len() {
        if bytes[at] == b'#' {
            at = end(at) + 1;
            continue;
        }
        let Some(equals) = bytes[at..].iter().position(|byte| *byte == b'=').map(|found| at + found) else {
            break;
        };
        let stop = end(equals + 1);
        if stop >= bytes.len() {
            break;
        }
        found.insert(&bytes[at..equals], &bytes[equals + 1..stop]);
        at = stop + 1;
    }
    found
}

const HEAD: &[u8] = b"# GRUB Environment Block\n";
/// GRUB makes a block's two halves new one after the other.
const HALF: usize = SIZE / 2;

pub const GRUB: Target = Target {
    name: "grub",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let value = char::from(b'0' + input.byte() % 10).to_string();
        let mut block = [HEAD, input.take(SIZE - HEAD.len())].concat();
        block.resize(SIZE, b'#');
        let ours = ["ORDER", "A_OK", "A_TRY"].map(str::to_owned);
        let _ = Block::salvage(&block).encode(&ours);
        let Ok(read) = Block::decode(&block) else { return };
        let loaded = grub_loads(&block);
        for (name, value) in &loaded {
            let Ok(name) = str::from_utf8(name) else { continue };
            assert_eq!(read.get(name), Some(*value), "{name:?}");
        }
        let mut wanted = read.clone();
        wanted.set("A_TRY", &value);
        let Ok(steps) = read.steps(&block, &wanted, &ours) else { return };
        let written = steps.last().expect("there is one at least");
        assert!(steps.iter().all(|step| step.len() == SIZE && step.starts_with(HEAD)));
        assert!(!planted() || steps.len() == 1, "it is laid out so already");
        let new = grub_loads(written);
        // A line that GRUB reads over ends of lines hides what follows, also from itself.
        let is_plain = block[HEAD.len()..].split(|byte| *byte == b'\n').all(|line| {
            line.is_empty() || line.starts_with(b"#") || (line.contains(&b'=') && !line.contains(&b'\\'))
        });
        if !is_plain || block[HEAD.len()..].windows(2).any(|it| it == b"\n\n") || block[HEAD.len()] == b'\n' {
            return;
        }
        assert_eq!(new.get(&b"A_TRY"[..]).copied(), Some(value.as_bytes()));
        let others = |found: &BTreeMap<&[u8], &[u8]>| {
            let is_other = |name: &[u8]| name != b"A_TRY";
            found
                .iter()
                .filter(|(name, _)| is_other(name))
                .map(|(a, b)| (a.to_vec(), b.to_vec()))
                .collect::<Vec<_>>()
        };
        assert_eq!(others(&new), others(&loaded), "what is not asked for stays");
        let of = |found: &BTreeMap<&[u8], &[u8]>| {
            ours.each_ref().map(|name| found.get(name.as_bytes()).map(|it| it.to_vec()))
        };
        let (old, new, mut before) = (of(&loaded), of(&new), &block);
        for step in &steps {
            assert!(before[..HALF] == step[..HALF] || before[HALF..] == step[HALF..], "one sector at a time");
            let seen = of(&grub_loads(step));
            assert!(seen == old || seen == new, "neither old nor new: {seen:?}");
            before = step;
        }
    },
    longest: SIZE,
    memory: 128 * KIB,
    seeds: || {
        let filler: String = (0..19).map(|n| format!("variable_{n:02}=some value or other\n")).collect();
        let ours = "ORDER=A B\nA_OK=1\nA_TRY=0\n";
        [format!("1{ours}x=1\n"), format!("2{filler}{ours}"), format!("3#comment\ny=\\\\\n{ours}{filler}")]
            .map(String::into_bytes)
            .to_vec()
    },
    words: &[b"ORDER=", b"A_OK=", b"A_TRY=", b"=", b"\n", b"#", b"\\", b"\\\n"],
};

pub const AUTOBOOT: Target = Target {
    name: "autoboot",
    run: |bytes| {
        let Ok(file) = Autoboot::parse(bytes) else { return };
        assert!(file.default > 0 && file.tryboot > 0);
        let Ok(written) = file.encode() else { return };
        assert_eq!(written.len(), LEN);
        assert_eq!(Autoboot::parse(&written).as_ref(), Ok(&file), "{}", String::from_utf8_lossy(&written));
        assert!(!planted() || written == bytes, "there is one spelling");
        // Of two that differ in a digit, one byte differs: one sector, whatever becomes of it.
        if let (Ok(two), Ok(three)) = (file.with(2, 3).encode(), file.with(2, 2).encode()) {
            assert_eq!(two.iter().zip(&three).filter(|(a, b)| a != b).count(), 1);
        }
    },
    longest: LEN + 16,
    memory: 16 * KIB,
    seeds: || {
        texts([
            "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n",
            "boot_partition=2\nother=1\n",
            "# comment\n[ALL]\r\nboot_partition = 12\r\n",
        ])
    },
    words: &[b"[all]\n", b"[tryboot]\n", b"[none]\n", b"tryboot_a_b=1\n", b"boot_partition=", b"=", b"\r\n"],
};

/// A disk that is only there where something was written.
struct Disk<'a>(&'a [u8]);

impl ReadAt for Disk<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| ErrorKind::UnexpectedEof)?;
        let end =
            start.checked_add(buffer.len()).filter(|end| *end <= 1 << 20).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.fill(0);
        let there = self.0.get(start..end.min(self.0.len())).unwrap_or_default();
        buffer[..there.len()].copy_from_slice(there);
        Ok(())
    }
}

pub const FAT: Target = Target {
    name: "fat",
    run: |bytes| {
        let Ok(names) = root_names(&Disk(bytes)) else { return };
        assert!(names.len() <= (2 << 20) / 32, "{} names", names.len());
        for name in &names {
            assert!(name.chars().count() <= 12 && !(planted() && name.contains('\u{fffd}')), "{name:?}");
        }
    },
    longest: 4 * KIB,
    memory: 4 * MIB,
    seeds: || {
        let mut small = vec![0; 2048];
        small[11..17].copy_from_slice(&[0, 2, 1, 1, 0, 1]);
        small[17..23].copy_from_slice(&[16, 0, 0xb3, 0x13, 0, 1]);
        small[510..512].copy_from_slice(&[0x55, 0xaa]);
        let mut large = small.clone();
        large[17..24].copy_from_slice(&[0; 7]);
        large[32..48].copy_from_slice(&[0, 0x20, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
        // Clusters of a sector: the allocation table is the second one, and its cluster 2 the third.
        large[512 + 8..512 + 12].copy_from_slice(&[3, 0, 0, 0]);
        for image in [&mut small, &mut large] {
            image[1024..1024 + 12].copy_from_slice(b"CONFIG  TXT ");
            image[1056..1056 + 12].copy_from_slice(b"KERNEL8 IMG ");
        }
        vec![small, large]
    },
    words: &[b"\x55\xaa", b"\x00\x02", b"\x00\x10", b"\xff\xff\xff\x0f", b"\xe5", b"TXT"],
};
