//! Tests of both forms of `fw_env.config`.
#![allow(clippy::unwrap_used)]

use super::*;

fn read(text: &str) -> Result<EnvConfig, String> {
    parse(Path::new("/etc/fw_env.config"), text).map_err(|error| error.to_string())
}

fn place(line: usize, path: &str, offset: i64, size: u64) -> Place {
    Place {
        named_by: format!("/etc/fw_env.config:{line}"),
        path: path.into(),
        offset,
        size,
        erase_size: None,
        erase_blocks: None,
        handle_locks: true,
    }
}

#[test]
fn two_copies_and_comments() {
    let config =
        read("# U-Boot\n\n/dev/mmcblk0\t0xc0000 0x20000 # first\n /dev/mmcblk0 -0x20000 20000\n").unwrap();
    let wanted = [
        place(3, "/dev/mmcblk0", 0xc0000, 0x20000),
        // The size is hexadecimal even without 0x: so say both tools.
        place(4, "/dev/mmcblk0", -0x20000, 0x20000),
    ];
    assert_eq!(config.copies, wanted);
    assert_eq!(config.copies[1].label(), "/etc/fw_env.config:4: /dev/mmcblk0 at -0x20000");
}

#[test]
fn offsets_are_c_numbers() {
    let offset = |text: &str| read(&format!("/e {text} 0x4000")).map(|config| config.copies[0].offset);
    assert_eq!(
        [offset("4096"), offset("0x1000"), offset("010000"), offset("0")].map(Result::unwrap),
        [4096, 4096, 4096, 0]
    );
    for bad in ["0x", "--1", "12k", "08", "0x8000000000000000"] {
        assert!(offset(bad).unwrap_err().contains("offset"), "{bad}");
    }
}

#[test]
fn flash_columns() {
    let config = read("/dev/mtd0 0x4000 0x4000 0x20000 2 1").unwrap();
    let copy = &config.copies[0];
    assert_eq!((copy.erase_size, copy.erase_blocks, copy.handle_locks), (Some(0x20000), Some(2), false));
}

#[test]
fn what_cannot_be_right_is_refused_with_line_and_remedy() {
    for (text, wanted) in [
        ("", "/etc/fw_env.config:1: no device is named; name one copy"),
        ("# nothing\n", ":1: no device is named"),
        ("/e 0 0x4000\n/f 0 0x4000\n/g 0 0x4000", ":3: a third copy is named; U-Boot knows two"),
        ("/e 0", ":1: the size is missing; write \"device offset size"),
        ("/e", ":1: the offset is missing"),
        ("\n/e x 0x4000", ":2: the offset \"x\" is no number"),
        ("/e 0 0x40g0", ":1: the size \"0x40g0\" is no number"),
        ("/e 0 0", ":1: the size 0x0 cannot be right; use U-Boot's CONFIG_ENV_SIZE"),
        ("/e 0 0x10000000", ":1: the size 0x10000000 cannot be right"),
        ("/e 0 0x4000\n/f 0 0x8000", ":2: the size 0x8000 differs from 0x4000 in line 1"),
        ("/e 0 0x4000\n/e 0 0x4000", ":2: this copy overlaps the one in line 1"),
        ("/e 0x3fff 0x4000\n/e 0 0x4000", ":2: this copy overlaps"),
        ("/e -0x4000 0x4000\n/e -0x7fff 0x4000", ":2: this copy overlaps"),
        ("/dev/mtd0 0 0x4000 0x10000 2\n/dev/mtd0 0x10000 0x4000 0x10000 2", ":2: this copy overlaps"),
        ("/dev/ubi0_0 0 0x4000", "is an UBI volume, which is not supported"),
        ("/dev/mtd0:env 0 0x4000", "is an UBI volume"),
        ("env.bin 0 0x4000", "env.bin is not an absolute path"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(wanted), "{text:?} gives {error:?}");
    }
    for fine in
        ["/e 0 0x4000\n/e 0x4000 0x4000", "/e -0x4000 0x4000\n/e 0 0x4000", "/e 0 0x4000\n/f 0 0x4000"]
    {
        assert_eq!(read(fine).unwrap().copies.len(), 2, "{fine}");
    }
}

const YAML: &str = "\
# comment
uboot:
  size : 0x4000
  lockfile: '/run/lock/env.lock'   # why not
  devices:
    - path: /dev/mmcblk0
      offset: 0x10000
    - path: \"/dev/mtd3\"
      offset: -16384
      sectorsize: 0x20000
      disablelock: yes
  writelist:
    - slot:sw
    - upgrade_available:dw
other:
  size: 4096
  devices:
  - path: /dev/x
";

#[test]
fn yaml_gives_the_first_name_space() {
    let config = read(YAML).unwrap();
    let mut flash = place(8, "/dev/mtd3", -16384, 0x4000);
    (flash.erase_size, flash.handle_locks) = (Some(0x20000), false);
    assert_eq!(config.copies, [place(6, "/dev/mmcblk0", 0x10000, 0x4000), flash]);
    assert_eq!(config.lock_file.as_deref(), Some(Path::new("/run/lock/env.lock")));
    assert_eq!(config.writable.unwrap(), ["slot", "upgrade_available"]);
}

#[test]
fn yaml_is_read_strictly() {
    for (from, to, wanted) in [
        ("  size : 0x4000\n", "", ":2: size is missing"),
        ("size : 0x4000", "size : big", ":3: \"big\" is no number"),
        (
            "size : 0x4000",
            "sizes: 0x4000",
            ":3: \"sizes\" does not belong here; the keys here are size, lockfile",
        ),
        (
            "path: /dev/mmcblk0",
            "name: /dev/mmcblk0",
            ":6: \"name\" does not belong here; the keys of a device",
        ),
        ("path: /dev/mmcblk0", "offset: 0", ":6: path is missing"),
        ("  devices:\n", "  devices: [/dev/x]\n", ":5: this value is not understood"),
        ("    - path: /dev/mmcblk0", "\t- path: /dev/mmcblk0", ":6: a tab indents this line"),
        ("      offset: 0x10000", "     offset: 0x10000", ":7: the indentation fits nothing above"),
        ("lockfile: '/run", "lockfile: 'run", ":4: the lock file is no absolute path"),
        ("  - path: /dev/x", "  - path:/dev/x", ":18: "),
        (
            "  devices:\n    - path: /dev/mmcblk0",
            "  - path: /dev/mmcblk0",
            ":5: this item belongs to no list",
        ),
        ("size: 4096", "size: 4096\n  more", "a colon and a blank are missing"),
    ] {
        assert!(YAML.contains(from), "{from}");
        let error = read(&YAML.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(wanted), "{to:?} gives {error:?}");
    }
}

#[test]
fn yaml_is_checked_like_the_classic_form() {
    let error = read("u:\n  size: 0x4000\n  devices:\n").unwrap_err();
    assert!(error.contains("no device is named"), "{error}");
    let twice = "u:\n  size: 0x4000\n  devices:\n    - path: /e\n    - path: /e\n      offset: 1\n";
    assert!(read(twice).unwrap_err().contains(":5: this copy overlaps the one in line 4"));
}
