//! Real file systems: what e2fsprogs makes of two trees of files that differ a little.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

/// A tree of files with some text and some noise each; `version` decides what a few of them hold, and which there are.
fn tree(root: &Path, version: u64) {
    for number in 0..400_u64 {
        let name = format!("usr/lib/d{}/f{number}", number % 17);
        let is_changed = number % 40 == 7 && version > 1;
        let is_there = match version {
            1 => number != 33,
            _ => number != 34,
        };
        if !is_there {
            continue;
        }
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut bytes =
            format!("file {number} of version {}\n", if is_changed { version } else { 1 }).into_bytes();
        let words = 200 + (number * 7919) % 9000;
        for word in 0..words {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // A part of a changed file is another one.
            let noise = if is_changed && word > words / 2 { random ^ version } else { random };
            bytes.extend(noise.to_le_bytes());
            bytes.extend(b" and more ");
        }
        fs::write(path, bytes).unwrap();
    }
}

fn mke2fs(root: &Path, image: &Path) -> Vec<u8> {
    let made = Command::new("mke2fs")
        .env("E2FSPROGS_FAKE_TIME", "1700000000")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-O", "^has_journal"])
        .args(["-U", "6a1f2c8e-0000-4000-8000-000000000001"])
        .args(["-E", "hash_seed=6a1f2c8e-0000-4000-8000-000000000002", "-d"])
        .args([root, image])
        .arg("96M")
        .status()
        .unwrap();
    assert!(made.success());
    fs::read(image).unwrap()
}

#[test]
#[ignore = "peers: needs mke2fs"]
fn peers_a_pair_of_ext4_images_is_fetched_as_what_differs() {
    let directory = tempfile::tempdir().unwrap();
    let make = |version| {
        let root = directory.path().join(format!("v{version}"));
        tree(&root, version);
        mke2fs(&root, &directory.path().join(format!("v{version}.ext4")))
    };
    let (old, new) = (make(1), make(2));
    let changed = differing(&old, &new);
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let bench = rig_by(&Maker { chunking, ..Maker::new() }, &old, &new);
        bench.disk.fill(&old);
        let seen = bench.succeeds(&new);
        let file = bench.server.file();
        let parts = sections(&file);
        println!(
            "{chunking:?}: {} of {} bytes fetched ({} of them before the bodies), {} of {} bytes written, {} requests",
            seen.fetched,
            file.len(),
            parts.bodies,
            seen.written,
            new.len(),
            bench.server.requests()
        );
        assert_eq!(seen.written, changed, "what differs and nothing else");
        assert!(seen.fetched < file.len() as u64 / 5);
        // And back, from what was written.
        let back = rig_by(&Maker { chunking, ..Maker::new() }, &new, &old);
        back.disk.fill(&old);
        assert_eq!((back.succeeds(&old).written, back.disk.operations()), (0, 0));
    }
}
