//! Tests of the file: in place, whole, and what GRUB could not save to.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;

use super::*;

fn file(bytes: &[u8]) -> (tempfile::TempDir, BlockFile) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grubenv");
    fs::write(&path, bytes).unwrap();
    (directory, BlockFile::new(path, "/proc".into()))
}

#[test]
fn it_is_overwritten_where_it_lies() {
    let (directory, mut place) = file(&[1; SIZE]);
    let link = directory.path().join("link");
    fs::hard_link(&place.path, &link).unwrap();
    place.write(&[2; SIZE]).unwrap();
    assert_eq!(place.read().unwrap(), [2; SIZE]);
    assert_eq!(fs::read(link).unwrap(), [2; SIZE], "the same file");
}

#[test]
fn a_link_is_followed_and_stays_one() {
    let (directory, place) = file(&[1; SIZE]);
    let link = directory.path().join("link");
    symlink(&place.path, &link).unwrap();
    BlockFile::new(link.clone(), "/proc".into()).write(&[2; SIZE]).unwrap();
    assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    assert_eq!(fs::read(place.path).unwrap(), [2; SIZE]);
}

#[test]
fn p095_a_short_file_is_filled_up() {
    for size in [0, 1, 512, 1023] {
        let (_directory, mut place) = file(&vec![1; size]);
        assert_eq!(place.read().unwrap().len(), size);
        place.write(&[2; SIZE]).unwrap();
        assert_eq!(place.read().unwrap(), [2; SIZE]);
    }
}

#[test]
fn p095_what_is_no_block_is_left_alone() {
    let (directory, mut place) = file(&[1; SIZE + 1]);
    let error = place.read().unwrap_err().to_string();
    assert!(error.starts_with("is 1025 bytes long, and GRUB's environment block has 1024"), "{error}");
    assert!(place.write(&[2; SIZE]).is_err());
    assert_eq!(fs::read(&place.path).unwrap(), [1; SIZE + 1]);
    let missing = directory.path().join("missing");
    for (path, wanted) in [(missing.as_path(), "No such file"), (directory.path(), "is no regular file")] {
        let mut place = BlockFile::new(path.into(), "/proc".into());
        assert!(place.read().unwrap_err().to_string().starts_with(wanted));
        assert!(place.write(&[2; SIZE]).is_err());
        assert!(place.obstacles().is_empty() || path.is_dir());
    }
    assert!(!missing.exists(), "most likely nothing is mounted there");
}

/// What the others say depends on where temporary files are.
fn told(place: &mut BlockFile) -> Vec<String> {
    let found = place.obstacles().into_iter().map(|it| it.what);
    found.filter(|it| !it.contains("it is on a file system") && !it.contains("fs, ")).collect()
}

#[test]
fn a_hole_is_told_until_it_is_filled() {
    let (_directory, mut place) = file(b"");
    // A file system's smallest unit is written whole: only a file that was never written to has one.
    File::options().write(true).open(&place.path).unwrap().set_len(SIZE as u64).unwrap();
    let found = told(&mut place);
    assert!(
        found.iter().any(|it| it.contains("it has a hole, for which there is no disk sector")),
        "{found:?}"
    );
    assert!(found[0].starts_with(&format!("GRUB cannot use {}: ", place.path.display())));
    place.write(&[2; SIZE]).unwrap();
    assert_eq!(told(&mut place), [""; 0]);
}

#[test]
fn volumes_of_several_disks_are_told() {
    let (directory, mut place) = file(&[1; SIZE]);
    let device = fs::metadata(&place.path).unwrap().dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    for (entry, wanted) in [("dm", "device mapper"), ("md", "software RAID")] {
        place.sysfs = directory.path().join(entry);
        fs::create_dir_all(place.sysfs.join(&device).join(entry)).unwrap();
        let found = told(&mut place);
        assert!(found.len() == 1 && found[0].contains(wanted), "{found:?}");
    }
}

#[test]
fn a_block_for_each_slot_is_told() {
    let (directory, mut place) = file(&[1; SIZE]);
    assert_eq!(told(&mut place), [""; 0]);
    place.root = directory.path().into();
    assert!(
        place.obstacles().iter().any(|it| it.is_certain && it.what.ends_with("one that both slots mount"))
    );
}

#[test]
fn a_file_in_memory_is_told() {
    // Linux has it everywhere.
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(SIZE as u64).unwrap();
    let found = BlockFile::new("/e".into(), "/proc".into()).obstacles_of(&file).unwrap();
    assert!(found[0].is_certain && found[0].what.contains("tmpfs, which is gone after a boot"), "{found:?}");
}
