//! Processes that die and power that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::disk::Fault;
use super::server::Script;
use super::*;

/// Runs until operation `operation` of the disk, then cuts the power. `true` if it finished before.
fn run_until(bench: &Bench, operation: u64, seed: u64) -> bool {
    bench.disk.fault(bench.disk.operations() + operation, Fault::Die);
    let done = catch_unwind(AssertUnwindSafe(|| bench.write().unwrap())).is_ok();
    bench.disk.power_cut(seed);
    done
}

/// How many bytes one cut may cost: those since the last checkpoint, the piece that the HTTP library handed out last
/// (up to 400 KiB), and the block the decoder was in. (The server sees more, for it also counts what lay in the
/// buffers of both kernels.)
fn allowed(bench: &Bench) -> u64 {
    bench.settings.checkpoint_every + (640 << 10)
}

#[test]
fn p079_a_power_cut_at_any_write_loses_little_and_never_spoils_the_image() {
    let image = image(8_000_000);
    for (name, packed) in [("raw", image.clone()), ("gzip", gzip(&image)), ("zstd", zstd(&image))] {
        let clean = Bench::new(&packed, 9 << 20);
        clean.succeeds(&image);
        let operations = clean.disk.operations();
        let mut cuts = 0;
        for seed in 0..6 {
            let bench = Bench::new(&packed, 9 << 20);
            // Several cuts in one download, each some way further.
            let mut random = seed * 7 + 3;
            loop {
                random = random * 5 % 97;
                if run_until(&bench, random % (operations / 2) + 1, seed) {
                    break;
                }
                cuts += 1;
            }
            let again = bench.succeeds(&image).fetched - packed.len() as u64;
            assert!(again <= cuts * allowed(&bench), "{name}: {again} bytes again after {cuts} cuts");
        }
        assert!(cuts >= 6, "{name}: only {cuts} cuts");
    }
}

/// What is not durable yet must not be vouched for.
#[test]
fn p079_a_power_cut_within_a_flush_comes_before_its_checkpoint() {
    let image = image(8_000_000);
    for packed in [image.clone(), gzip(&image), zstd(&image)] {
        for flush in [0, 1, 2] {
            let bench = Bench::new(&packed, 9 << 20);
            bench.disk.flush_fault(flush, Fault::Die);
            assert!(catch_unwind(AssertUnwindSafe(|| bench.write())).is_err(), "flush {flush} is none");
            bench.disk.power_cut(flush);
            bench.succeeds(&image);
        }
    }
}

#[test]
fn after_a_cut_the_rest_is_asked_for_and_no_more() {
    let image = image(8_000_000);
    for packed in [image.clone(), gzip(&image), zstd(&image)] {
        let mut bench = Bench::new(&packed, 9 << 20);
        bench.server.then(Script::StallAfter(packed.len() * 3 / 4));
        bench.settings.idle_timeout = Duration::from_secs(3600);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| bench.write());
            let most = packed.len() as u64 * 3 / 4;
            bench.wait_for(&worker, "it is fetched", || bench.progress.snapshot().fetched >= most);
            bench.cancel.cancel();
            assert!(matches!(worker.join().unwrap(), Err(Error::Cancelled)));
        });
        bench.disk.power_cut(5);
        (bench.cancel, bench.progress) = (Cancel::default(), Progress::default());
        let seen = bench.succeeds(&image);
        let from = bench.server.log()[1].range().unwrap();
        assert_eq!(seen.resumed_at, from as u64);
        // A stop that was asked for keeps everything up to the last block.
        assert!(packed.len() * 3 / 4 - from <= 300 << 10, "{from} of {}", packed.len());
        assert_eq!(bench.server.log()[1].header("if-range"), Some("\"one\""));
    }
}

/// What is read back to go on is copied into what follows: the slot and all digests would agree on the wrong bytes.
#[test]
fn what_is_read_wrongly_once_to_go_on_does_not_end_as_another_image() {
    let image = image(8_000_000);
    let packed = zstd(&image);
    let bench = Bench::new(&packed, 9 << 20);
    bench.server.then(Script::Cut(packed.len() / 2)).then(Script::Status(403, ""));
    assert_eq!(bench.fails().0, Failure::DownloadHttpStatus);
    let before = bench.progress.snapshot().fetched;
    bench.disk.misread(1);
    // More than may be without getting further, if where the old beginning ended still counted.
    bench.server.then(Script::Good);
    for _ in 0..6 {
        bench.server.then(Script::Cut(5000));
    }
    let seen = bench.succeeds(&image);
    let log = bench.server.log();
    let from = log[2].range().unwrap();
    assert_eq!(log[3].range(), None, "from the beginning");
    assert_eq!(seen.fetched - before, (packed.len() - from + packed.len()) as u64, "once more, and no more");
}

#[test]
fn what_is_complete_is_not_fetched_again() {
    let image = image(300_000);
    let bench = Bench::new(&zstd(&image), 1 << 20);
    bench.succeeds(&image);
    bench.succeeds(&image);
    assert_eq!(bench.server.requests(), 1);
}

/// The same address may lead to something else by then.
#[test]
fn without_a_digest_another_update_fetches_it_again() {
    let image = image(300_000);
    let mut bench = Bench::new(&zstd(&image), 1 << 20);
    bench.artifact.sha256 = None;
    bench.succeeds(&image);
    bench.succeeds(&image);
    assert_eq!(bench.server.requests(), 1);
    bench.update = "two".into();
    bench.succeeds(&image);
    assert_eq!(bench.server.requests(), 2);
}

#[test]
fn a_checkpoint_is_good_for_its_own_job_alone() {
    let image = image(3_000_000);
    let stopped = || {
        let bench = Bench::new(&image, 4 << 20);
        assert!(!run_until(&bench, 3, 1));
        bench
    };
    let second_range = |bench: &Bench| bench.server.log()[1].range();
    let mut bench = stopped();
    // A new token is the same file.
    bench.artifact.location = Location::Url(bench.server.url("/fw.bin?sig=SECRET2").parse().unwrap());
    bench.succeeds(&image);
    assert!(second_range(&bench).is_some());
    let mut bench = stopped();
    bench.artifact.location = Location::Url(bench.server.url("/other.bin").parse().unwrap());
    bench.succeeds(&image);
    assert_eq!(second_range(&bench), None, "another path");
    let bench = stopped();
    let fetch = Fetch { slot: Slot::A, ..bench.fetch() };
    write(&fetch, &mut bench.disk.open(), &mut bench.checkpoint()).unwrap();
    assert_eq!(second_range(&bench), None, "another slot");
}

/// The second of three updates begins, and leaves nothing to go on from: the third, which is the first again, must not
/// believe that its image is still there.
#[test]
fn a_checkpoint_ends_before_what_it_vouches_for_is_overwritten() {
    let (old, new) = (image(3_000_000), image(3_000_003).iter().map(|byte| byte ^ 0x55).collect::<Vec<_>>());
    // One block: there is nowhere to go on from.
    let mut packed = Vec::new();
    std::io::Read::read_to_end(&mut liblzma::read::XzEncoder::new(&new[..], 0), &mut packed).unwrap();
    for is_whole in [true, false] {
        let mut bench = Bench::new(&old, 4 << 20);
        if is_whole {
            bench.succeeds(&old);
        } else {
            bench.server.then(Script::Cut(old.len() / 2)).then(Script::Status(403, ""));
            assert_eq!(bench.fails().0, Failure::DownloadHttpStatus);
        }
        let first = bench.artifact.clone();
        bench.artifact.location = Location::Url(bench.server.url("/other.xz").parse().unwrap());
        (bench.artifact.sha256, bench.artifact.size) = (Some(Sha256::of(&packed)), None);
        bench.update = "two".into();
        // While nothing comes of it, what is there stays good.
        let kept = bench.checkpoint().load();
        bench.server.then(Script::Status(403, ""));
        assert_eq!(bench.fails().0, Failure::DownloadHttpStatus);
        assert_eq!(bench.checkpoint().load(), kept);
        bench.server.replace(packed.clone(), "\"two\"");
        let before = bench.disk.durable();
        assert!(!run_until(&bench, 2, 3));
        assert!(bench.disk.durable() != before, "some of it has arrived");
        (bench.artifact, bench.update) = (first, "three".into());
        bench.server.replace(old.clone(), "\"one\"");
        bench.succeeds(&old);
    }
}

/// How long an update took and what it went through is not held against the next one for the same file.
#[test]
fn a_checkpoint_is_good_for_another_update_and_its_troubles_are_not() {
    let old = image(3_000_000);
    let new: Vec<u8> = old.iter().map(|byte| byte ^ 0x33).collect();
    for (good, bad, failure) in [
        ("\"spent_s\":0,", "\"spent_s\":99999999,", Failure::DownloadUnreachable),
        ("\"changes\":0,", "\"changes\":1,", Failure::DownloadContentChanged),
    ] {
        for update in ["one", "two"] {
            let mut bench = Bench::new(&old, 4 << 20);
            let is_change = failure == Failure::DownloadContentChanged;
            if is_change {
                bench.artifact.sha256 = None;
            }
            bench.server.then(Script::Cut(old.len() / 2)).then(Script::Status(403, ""));
            assert_eq!(bench.fails().0, Failure::DownloadHttpStatus);
            let crate::durable::Loaded::Found { payload, .. } = bench.checkpoint().load() else {
                panic!("no checkpoint")
            };
            let text = String::from_utf8(payload).unwrap().replace(good, bad);
            assert!(text.contains(bad), "{text}");
            bench.checkpoint().save(text.as_bytes()).unwrap();
            bench.update = update.into();
            if is_change {
                bench.server.replace(new.clone(), "\"two\"");
            }
            bench.server.then(Script::Cut(100_000));
            match update {
                "one" => assert_eq!(bench.fails().0, failure, "of the same update"),
                _ => drop(bench.succeeds(if is_change { &new } else { &old })),
            }
            assert!(bench.server.log()[2].range().is_some(), "it goes on where it was");
        }
    }
}

#[test]
fn a_checkpoint_of_nonsense_is_none() {
    let image = image(300_000);
    let bench = Bench::new(&zstd(&image), 1 << 20);
    for nonsense in [&b""[..], b"{}", b"\xff\xfe", b"null"] {
        bench.checkpoint().save(nonsense).unwrap();
        bench.succeeds(&image);
        bench.checkpoint().clear().unwrap();
    }
}

#[test]
fn a_checkpoint_that_no_decoder_can_be_built_from_is_none() {
    let image = image(3_000_000);
    let packed = zstd(&image);
    for (good, bad) in [("\"window\":", "\"window\":9"), ("\"repeats\":[", "\"repeats\":[4000000000,")] {
        let bench = Bench::new(&packed, 4 << 20);
        bench.server.then(Script::Cut(packed.len() / 2)).then(Script::Status(403, ""));
        assert_eq!(bench.fails().0, Failure::DownloadHttpStatus);
        let crate::durable::Loaded::Found { payload, .. } = bench.checkpoint().load() else {
            panic!("no checkpoint")
        };
        let mut text = String::from_utf8(payload).unwrap().replace(good, bad);
        if bad.contains("repeats") {
            // Still three of them.
            let end = text.find("],\"lost\"").unwrap();
            let comma = text[..end].rfind(',').unwrap();
            text.replace_range(comma..end, "");
        }
        assert!(text.contains(bad));
        bench.checkpoint().save(text.as_bytes()).unwrap();
        bench.succeeds(&image);
        assert_eq!(bench.server.log()[2].range(), None);
    }
}

#[test]
fn a_file_that_changed_meanwhile_is_begun_again_after_a_cut_too() {
    let old = image(3_000_000);
    let new: Vec<u8> = old.iter().map(|byte| byte ^ 0x33).collect();
    let mut bench = Bench::new(&old, 4 << 20);
    (bench.artifact.sha256, bench.artifact.size) = (None, None);
    assert!(!run_until(&bench, 3, 1));
    bench.server.replace(new.clone(), "\"two\"");
    bench.succeeds(&new);
    assert!(bench.server.log()[1].range().is_some(), "it was asked for the rest, under a condition");
    // The same on a local file.
    let path = bench.state.path().join("package");
    std::fs::write(&path, &old).unwrap();
    bench.checkpoint().clear().unwrap();
    bench.artifact.location = Location::File(path.clone());
    assert!(!run_until(&bench, 3, 1));
    std::fs::write(&path, &new).unwrap();
    bench.succeeds(&new);
}

#[test]
fn a_state_directory_that_fails_does_not_stop_the_download() {
    let image = image(1_000_000);
    let bench = Bench::new(&image, 2 << 20);
    let mut tiny = Generations::open(bench.state.path(), "tiny", 16).unwrap();
    write(&bench.fetch(), &mut bench.disk.open(), &mut tiny).unwrap();
    assert!(bench.disk.durable()[..image.len()] == *image);
}
