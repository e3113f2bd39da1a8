//! Tests on file systems made by hand, and by others' tools.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use super::*;

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let found = self.get(start..start + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}

/// A FAT16 file system with 5000 clusters of one sector and these names (`CONFIG  TXT`) in its root directory, which
/// has room for 32. The data is left out.
pub(crate) fn fat16(names: &[&str]) -> Vec<u8> {
    let mut image = vec![0; (1 + 2 * 20 + 2) * 512];
    image[11..13].copy_from_slice(&512_u16.to_le_bytes());
    image[13] = 1;
    image[14..16].copy_from_slice(&1_u16.to_le_bytes());
    image[16] = 2;
    image[17..19].copy_from_slice(&32_u16.to_le_bytes());
    image[19..21].copy_from_slice(&5043_u16.to_le_bytes());
    image[22..24].copy_from_slice(&20_u16.to_le_bytes());
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let root = (1 + 2 * 20) * 512;
    for (name, at) in names.iter().zip((root..).step_by(ENTRY)) {
        image[at..at + 11].copy_from_slice(name.as_bytes());
        image[at + 11] = 0x20;
    }
    image
}

/// A FAT32 file system whose root directory is a chain of the clusters `chain`, one sector each.
fn fat32(chain: &[u32], names: &[&str]) -> Vec<u8> {
    const FAT_SECTORS: u32 = 600;
    let mut image = vec![0; (32 + 600 + 200) * 512];
    image[11..13].copy_from_slice(&512_u16.to_le_bytes());
    image[13] = 1;
    image[14..16].copy_from_slice(&32_u16.to_le_bytes());
    image[16] = 1;
    image[32..36].copy_from_slice(&(32 + FAT_SECTORS + 70_000).to_le_bytes());
    image[36..40].copy_from_slice(&FAT_SECTORS.to_le_bytes());
    image[44..48].copy_from_slice(&chain[0].to_le_bytes());
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut names = names.iter();
    for (index, cluster) in chain.iter().enumerate() {
        let next = chain.get(index + 1).copied().unwrap_or(0x0fff_ffff);
        let at = 32 * 512 + *cluster as usize * 4;
        // The upper four bits are reserved, and may be anything.
        image[at..at + 4].copy_from_slice(&(next | 0xf000_0000).to_le_bytes());
        let start = (32 + 600 + *cluster as usize - 2) * 512;
        for at in (start..start + 512).step_by(ENTRY) {
            let Some(name) = names.next() else { break };
            image[at..at + 11].copy_from_slice(name.as_bytes());
            image[at + 11] = 0x20;
        }
    }
    image
}

#[test]
fn the_names_are_those_of_files_and_directories() {
    let mut image = fat16(&["CONFIG  TXT", "GONE    TXT", "BOOT       ", "LABEL      ", "start   elf"]);
    let root = 41 * 512;
    image[root + ENTRY] = DELETED;
    image[root + 2 * ENTRY + 11] = 0x10;
    image[root + 3 * ENTRY + 11] = VOLUME;
    assert_eq!(root_names(&image).unwrap(), ["CONFIG.TXT", "BOOT", "START.ELF"]);
    assert_eq!(root_names(&fat16(&["A       B  "; 32])).unwrap().len(), 32);
    assert_eq!(root_names(&fat16(&[])).unwrap(), Vec::<String>::new());
}

#[test]
fn a_chain_is_followed_to_its_end() {
    let names = ["A          "; 20];
    assert_eq!(root_names(&fat32(&[2, 9, 5], &names)).unwrap().len(), 20);
    let mut all = vec!["A          "; 40];
    all.push("RECOVERYBIN");
    assert_eq!(root_names(&fat32(&[2, 9, 5], &all)).unwrap().last().unwrap(), "RECOVERY.BIN");
}

#[test]
fn what_is_damaged_is_an_error_and_ends() {
    let chain = &["A          "; 64];
    let mut endless = fat32(&[2, 9], chain);
    endless[32 * 512 + 9 * 4] = 2;
    endless[32 * 512 + 9 * 4 + 1..][..3].fill(0);
    assert!(root_names(&endless).is_err(), "a loop");
    assert!(root_names(&fat32(&[2, 9, 5], chain)[..325_120].to_vec()).is_err(), "the end is missing");
    let image = fat16(&["CONFIG  TXT"]);
    for (at, value) in [(510, 0), (11, 3), (13, 0), (13, 3), (16, 0), (16, 9), (19, 0)] {
        let mut image = image.clone();
        image[at] = value;
        image[20] = if at == 19 { 0 } else { image[20] };
        assert!(root_names(&image).is_err(), "{at}");
    }
    for len in [0, 100, 511, 512, 20_000] {
        assert!(root_names(&image[..len].to_vec()).is_err(), "{len}");
    }
    let mut noise = image;
    for (index, byte) in noise.iter_mut().enumerate() {
        *byte = (index * 7 % 251) as u8;
    }
    assert!(root_names(&noise).is_err());
}

#[test]
#[ignore = "peers: needs mformat and mcopy"]
fn peers_what_mtools_made_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    };
    for (kilobytes, kind) in [(1440, ""), (40_000, ""), (80_000, "-F")] {
        let image = directory.path().join(format!("{kilobytes}.img"));
        let image = image.to_str().unwrap();
        let sectors = (kilobytes * 2).to_string();
        std::fs::File::create(image).unwrap().set_len(kilobytes * 1024).unwrap();
        let format = ["-i", image, "-T", &sectors, "-h", "16", "-s", "32", kind, "::"];
        run("mformat", &format.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>());
        let mut wanted = Vec::new();
        for name in ["config.txt", "A long name that is none of ours.dtb", "recovery.bin", "kernel8.img"] {
            let file = directory.path().join(name);
            std::fs::write(&file, "x").unwrap();
            run("mcopy", &["-i", image, file.to_str().unwrap(), "::"]);
            if !name.contains(' ') {
                wanted.push(name.to_ascii_uppercase());
            }
        }
        let names = root_names(&std::fs::File::open(image).unwrap()).unwrap();
        assert!(wanted.iter().all(|name| names.contains(name)), "{kilobytes}: {names:?}");
        assert_eq!(names.len(), 4);
    }
}
