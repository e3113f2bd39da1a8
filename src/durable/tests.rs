#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]
use super::*;

const CAPACITY: usize = 4096;

fn found(payload: &[u8]) -> Loaded {
    Loaded::Found { payload: payload.to_vec(), damaged: None }
}

fn open(directory: &tempfile::TempDir) -> Generations {
    Generations::open(directory.path(), "record", CAPACITY).unwrap()
}

#[test]
fn the_newest_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(open(&directory).load(), Loaded::Empty);
    for round in 0..5_u8 {
        open(&directory).save(&[round; 100]).unwrap();
        assert_eq!(open(&directory).load(), found(&[round; 100]));
    }
    let mut generations = open(&directory);
    generations.clear().unwrap();
    assert_eq!(generations.load(), Loaded::Empty);
    assert_eq!(open(&directory).load(), Loaded::Empty);
}

/// A torn save: any prefix of it, in any unit, leaves the old or the new payload.
#[test]
fn p082_every_torn_save_leaves_the_old_or_the_new() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).save(b"first").unwrap();
    open(&directory).save(b"second, a little longer").unwrap();
    let path = directory.path().join("record");
    let before = fs::read(&path).unwrap();
    open(&directory).save(b"third").unwrap();
    let after = fs::read(&path).unwrap();
    for cut in 0..CAPACITY {
        let mut torn = before.clone();
        torn[..cut].copy_from_slice(&after[..cut]);
        fs::write(&path, &torn).unwrap();
        let Loaded::Found { payload, .. } = open(&directory).load() else { panic!("lost at {cut}") };
        assert!(payload == b"second, a little longer" || payload == b"third", "at {cut}");
        open(&directory).save(b"healed").unwrap();
        assert!(matches!(open(&directory).load(), Loaded::Found { payload, .. } if payload == b"healed"));
    }
}

/// Any single damaged byte of the newest generation costs one generation at most, and is told.
#[test]
fn p082_damage_costs_one_generation() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).save(b"older").unwrap();
    open(&directory).save(b"newer").unwrap();
    let path = directory.path().join("record");
    let whole = fs::read(&path).unwrap();
    for at in CAPACITY..CAPACITY + HEAD + b"newer".len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        match open(&directory).load() {
            Loaded::Found { payload, damaged: Some(why) } => {
                assert_eq!(payload, b"older");
                assert!(why.starts_with("generation 1: "), "{why}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
}

#[test]
fn p081_garbage_is_damage_and_the_next_save_heals_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record");
    for garbage in [vec![0xff; 2 * CAPACITY], vec![b'x'; 10], b"twinboot".repeat(2000)] {
        fs::write(&path, &garbage).unwrap();
        let mut generations = open(&directory);
        assert!(matches!(generations.load(), Loaded::Damaged(_)), "{} bytes", garbage.len());
        generations.save(b"healed").unwrap();
        assert!(matches!(open(&directory).load(), Loaded::Found { payload, .. } if payload == b"healed"));
    }
}

/// Whole, and yet nobody can have written it: there is no number after it, so that saving used to panic.
#[test]
fn p081_the_last_number_there_is_counts_as_damage() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).save(b"older").unwrap();
    let path = directory.path().join("record");
    let mut bytes = fs::read(&path).unwrap();
    for (sequence, is_found) in [(u64::MAX, false), (u64::MAX - 1, true)] {
        let last = encode(sequence, b"the last");
        bytes[CAPACITY..CAPACITY + last.len()].copy_from_slice(&last);
        fs::write(&path, &bytes).unwrap();
        let mut generations = open(&directory);
        match generations.load() {
            Loaded::Found { payload, damaged: None } if is_found => assert_eq!(payload, b"the last"),
            Loaded::Found { payload, damaged: Some(why) } if !is_found => {
                assert_eq!(
                    (payload.as_slice(), why.as_str()),
                    (&b"older"[..], "generation 1: sequence out of range")
                );
            }
            other => panic!("{sequence}: {other:?}"),
        }
        if is_found {
            // What could not be read again is not written, and that is said.
            generations.save(b"lost").unwrap_err();
            assert_eq!(open(&directory).load(), found(b"the last"));
        } else {
            generations.save(b"healed").unwrap();
            assert_eq!(open(&directory).load(), found(b"healed"));
        }
    }
}

/// Every truncation of the file, whichever half is the newer one: what it still holds whole is found, and it is whole
/// again after the next save.
#[test]
fn p082_a_file_cut_at_any_byte_keeps_the_generation_that_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record");
    open(&directory).save(b"older").unwrap();
    open(&directory).save(b"newer").unwrap();
    let whole = fs::read(&path).unwrap();
    let ends = [0, CAPACITY].map(|half| half + HEAD + b"older".len());
    for len in (0..ends[0] + 2).chain(CAPACITY - 1..ends[1] + 2) {
        fs::write(&path, &whole[..len]).unwrap();
        let loaded = open(&directory).load();
        let found = match &loaded {
            Loaded::Found { payload, .. } => Some(payload.as_slice()),
            Loaded::Empty | Loaded::Damaged(_) => None,
        };
        let wanted: Option<&[u8]> = match len {
            len if len >= ends[1] => Some(b"newer"),
            len if len >= ends[0] => Some(b"older"),
            _ => None,
        };
        assert_eq!(found, wanted, "cut to {len} bytes: {loaded:?}");
        open(&directory).save(b"healed").unwrap();
        assert!(matches!(open(&directory).load(), Loaded::Found { payload, .. } if payload == b"healed"));
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn p087_a_file_that_others_could_read_or_write_is_made_ours_alone_and_kept() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    open(&directory).save(b"kept").unwrap();
    assert_eq!(mode(), 0o600);
    for open_to in [0o666, 0o640, 0o604, 0o602, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open_to)).unwrap();
        assert_eq!(open(&directory).load(), found(b"kept"), "{open_to:o}");
        assert_eq!(mode(), 0o600, "{open_to:o}");
    }
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12_345), Some(12_345)).unwrap();
        assert_eq!(open(&directory).load(), found(b"kept"));
        assert_eq!((fs::metadata(&path).unwrap().uid(), mode()), (0, 0o600));
    }
    // A link to nothing is neither followed nor replaced.
    let nowhere = directory.path().join("nowhere");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&nowhere, &path).unwrap();
    assert!(Generations::open(directory.path(), "record", CAPACITY).is_err());
    assert!(!nowhere.exists() && fs::symlink_metadata(&path).unwrap().is_symlink());
}

/// As on vfat: what no mode can be given to is told once, with what can be done about it, and used all the same.
#[test]
fn p087_what_cannot_be_made_ours_alone_is_told_once() {
    let file = File::open("/proc/self/comm").unwrap();
    assert_eq!(rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o600)), Err(Errno::PERM));
    let [path, other] = ["/state/record", "/state/download"].map(Path::new);
    let warning = guard(&file, path).unwrap();
    for part in ["/state/record is open to others (mode 0644", "chmod 600 /state/record", "umask=077"] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    assert_eq!(guard(&file, path), None);
    assert!(guard(&file, other).is_some_and(|warning| warning.starts_with("/state/download ")));
    // What can be mended is told each time.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("record");
    fs::write(&path, b"").unwrap();
    for _ in 0..2 {
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let warning = guard(&File::open(&path).unwrap(), &path).unwrap();
        assert!(warning.ends_with("and is not any more"), "{warning}");
    }
    assert_eq!(guard(&File::open(&path).unwrap(), &path), None);
}

/// Where a file system cannot allocate, zeros are written, and nothing that is there is touched.
#[test]
fn a_file_is_filled_up_where_it_cannot_be_allocated() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).save(b"kept").unwrap();
    let path = directory.path().join("record");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(5000).unwrap();
    fill(&file, 2 * CAPACITY as u64).unwrap();
    fill(&file, 2 * CAPACITY as u64).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 * CAPACITY as u64);
    assert_eq!(open(&directory).load(), found(b"kept"));
}

/// The disk may have nothing of it, whatever a read shows: the generation before it must not be given up for the next one.
#[test]
fn what_could_not_be_flushed_is_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let mut generations = open(&directory);
    generations.save(b"first").unwrap();
    generations.save(b"second").unwrap();
    // Takes every write, and knows no flush.
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let file = std::mem::replace(&mut generations.file, null);
    assert!(generations.save(b"unflushed").is_err());
    generations.file = file;
    generations.save(b"third").unwrap();
    let bytes = fs::read(directory.path().join("record")).unwrap();
    assert!(bytes.windows(6).any(|part| part == b"second"), "the newest that is whole was overwritten");
    assert_eq!(open(&directory).load(), found(b"third"));
}

#[test]
fn p087_links_and_directories_are_not_followed_and_too_much_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    std::os::unix::fs::symlink(&elsewhere, directory.path().join("link")).unwrap();
    fs::create_dir(directory.path().join("folder")).unwrap();
    for name in ["link", "folder", "missing/record"] {
        let error = Generations::open(directory.path(), name, CAPACITY).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
    let mut generations = open(&directory);
    generations.save(b"kept").unwrap();
    assert!(generations.save(&vec![0; CAPACITY - HEAD + 1]).is_err());
    assert_eq!(generations.load(), found(b"kept"));
}

/// The bytes of one half of the file.
fn half(directory: &tempfile::TempDir, half: usize) -> Vec<u8> {
    fs::read(directory.path().join("record")).unwrap()[half * CAPACITY..][..CAPACITY].to_vec()
}

#[test]
fn a_renewal_changes_nothing_and_goes_over_the_newest_alone() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).renew().unwrap();
    assert_eq!(open(&directory).load(), Loaded::Empty);
    for payload in [&b"one"[..], b"two", b"three"] {
        open(&directory).save(payload).unwrap();
        let before = fs::read(directory.path().join("record")).unwrap();
        let mut generations = open(&directory);
        generations.file.set_modified(std::time::UNIX_EPOCH).unwrap();
        generations.renew().unwrap();
        let written = generations.file.metadata().unwrap().modified().unwrap();
        assert!(written > std::time::UNIX_EPOCH, "nothing was written");
        assert_eq!(fs::read(directory.path().join("record")).unwrap(), before);
        assert_eq!(generations.load(), found(payload));
    }
}

/// What could not be renewed may be nowhere but in memory: the other half is the one on the disk, and stays.
#[test]
fn after_a_renewal_that_failed_the_other_generation_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).save(b"one").unwrap();
    open(&directory).save(b"two").unwrap();
    let one = half(&directory, 0);
    let mut generations = open(&directory);
    let read_only = File::open(directory.path().join("record")).unwrap();
    let writable = std::mem::replace(&mut generations.file, read_only);
    generations.renew().unwrap_err();
    generations.file = writable;
    generations.save(b"three").unwrap();
    assert_eq!(half(&directory, 0), one);
    assert_eq!(open(&directory).load(), found(b"three"));
    // From then on they take turns again.
    generations.save(b"four").unwrap();
    assert_ne!(half(&directory, 0), one);
    assert_eq!(open(&directory).load(), found(b"four"));
}
