//! Processes that die and power that fails, in the middle of a bundle.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::disk::Fault;
use super::super::server::Script;
use super::*;

/// Runs until operation `operation` of the disk, then cuts the power. `true` if it finished before.
fn run_until(bench: &Bench, operation: u64, seed: u64) -> bool {
    bench.disk.fault(bench.disk.operations() + operation, Fault::Die);
    let done = catch_unwind(AssertUnwindSafe(|| bench.write().unwrap())).is_ok();
    bench.disk.power_cut(seed);
    done
}

/// What one cut may cost: what was fetched since the last flush, head, table and bodies, and what the HTTP library had
/// handed out.
fn allowed(bench: &Bench) -> u64 {
    let file = bench.server.file();
    bench.settings.checkpoint_every + sections(&file).data as u64 + (400 << 10)
}

#[test]
fn a_power_cut_at_any_write_loses_little_and_never_spoils_the_image() {
    for chunking in [Chunking::Aligned, Chunking::Content] {
        let maker = Maker { chunking, ..Maker::new() };
        let old = image(8_000_000);
        // Much is missing, or a little.
        let mut much = image(8_000_000);
        much.chunks_mut(6000).for_each(|piece| piece[17] = piece[17].wrapping_add(1));
        for new in [much, edit(&old, 60)] {
            let clean = rig_by(&maker, &old, &new);
            let whole = clean.succeeds(&new).fetched;
            let operations = clean.disk.operations();
            let mut cuts = 0;
            for seed in 0..4 {
                let bench = rig_by(&maker, &old, &new);
                let mut random = seed * 7 + 3;
                let mut here = 0;
                loop {
                    random = random * 5 % 97;
                    if run_until(&bench, random % (operations / 2) + 1, seed) {
                        break;
                    }
                    here += 1;
                }
                let again = bench.succeeds(&new).fetched.saturating_sub(whole);
                assert!(
                    again <= here * allowed(&bench),
                    "{chunking:?}: {again} bytes again after {here} cuts"
                );
                cuts += here;
            }
            assert!(cuts >= 4, "only {cuts} cuts");
        }
    }
}

#[test]
fn a_power_cut_at_every_write_of_a_small_image() {
    let old = image(1_500_000);
    let new = edit(&old, 9);
    let maker = Maker::new();
    let clean = rig_by(&maker, &old, &new);
    clean.disk.fill(&old);
    clean.succeeds(&new);
    for operation in 0..clean.disk.operations() {
        for seed in 0..3 {
            let bench = rig_by(&maker, &old, &new);
            bench.disk.fill(&old);
            assert!(!run_until(&bench, operation, seed));
            bench.succeeds(&new);
        }
    }
}

/// Another bundle is begun, all of which is in the slot that runs, so nothing is fetched and no checkpoint is due.
#[test]
fn a_checkpoint_ends_before_what_it_vouches_for_is_overwritten() {
    let (first, other, maker) = (image(3_000_000), edit(&image(3_000_000), 60), Maker::new());
    let mut bench = rig_by(&maker, &other, &first);
    let file = bench.server.file();
    bench.artifact.sha256 = Some(Sha256::of(&file[..sections(&file).table]));
    bench.succeeds(&first);
    let artifact = bench.artifact.clone();
    bench.artifact.location = Location::Url(bench.server.url("/fw-3.twb").parse().unwrap());
    (bench.artifact.sha256, bench.update) = (None, "two".into());
    bench.server.replace(maker.make(&other), "\"two\"");
    let before = bench.disk.durable();
    assert!(!run_until(&bench, 20, 1));
    assert!(bench.disk.durable() != before, "some of it has arrived");
    (bench.artifact, bench.update) = (artifact, "three".into());
    bench.server.replace(file, "\"one\"");
    bench.succeeds(&first);
}

/// The power was away for longer than the bundle is good, or the key that signed it.
#[test]
fn what_is_complete_is_good_only_as_long_as_it_was_signed_for() {
    let new = image(1_000_000);
    let (sooner, later) = (Some(Timestamp(1000)), Some(Timestamp(2000)));
    for ends in [[sooner, None], [None, sooner], [sooner, later], [later, sooner]] {
        let mut bench = rig_by(&Maker { ends, ..Maker::new() }, &[], &new);
        // Of what time it is nothing is known at first.
        for (now, is_good) in [(None, true), (Some(Timestamp(999)), true), (sooner, false)] {
            bench.rig.as_mut().unwrap().now = now;
            let requests = bench.server.requests();
            if is_good {
                bench.succeeds(&new);
                assert!(now.is_none() || bench.server.requests() == requests, "it is there");
            } else {
                assert_eq!(bench.fails().0, Failure::BundleExpired, "{ends:?}");
            }
        }
    }
}

/// The state directory has lost all it knew; the slot itself knows.
#[test]
fn without_a_checkpoint_nothing_more_is_fetched_either() {
    let new = image(6_000_000);
    let bench = rig(&[], &new);
    let file = bench.server.file().len();
    bench.server.then(Script::Good);
    let requests = {
        let clean = rig(&[], &new);
        clean.succeeds(&new);
        clean.server.requests()
    };
    for _ in 0..requests - 2 {
        bench.server.then(Script::Good);
    }
    bench.server.then(Script::Cut(file * 3 / 4)).then(Script::Status(403, ""));
    assert_eq!(bench.fails().0, Failure::DownloadHttpStatus);
    let before = bench.progress.snapshot().fetched;
    bench.checkpoint().clear().unwrap();
    let seen = bench.succeeds(&new);
    assert!(seen.fetched - before < file as u64 / 2, "{} of {file} again", seen.fetched - before);
}

#[test]
fn a_stop_keeps_everything() {
    let new = image(6_000_000);
    let mut bench = rig(&[], &new);
    bench.rate.set(1_000_000);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| bench.write());
        let began = std::time::Instant::now();
        while bench.progress.snapshot().position < 2_000_000 {
            assert!(began.elapsed() < Duration::from_secs(60), "it stands still");
            std::thread::sleep(Duration::from_millis(1));
        }
        bench.cancel.cancel();
        assert!(matches!(worker.join().unwrap(), Err(Error::Cancelled)));
    });
    let before = bench.progress.snapshot().fetched;
    bench.disk.power_cut(3);
    (bench.cancel, bench.progress) = (Cancel::default(), Progress::default());
    bench.rate.set(0);
    let again = before + bench.succeeds(&new).fetched - bench.server.file().len() as u64;
    // What lay unused in the last piece, and the first sections once more.
    assert!(again <= sections(&bench.server.file()).data as u64 + (400 << 10), "{again}");
}

#[test]
fn a_device_that_fails_is_written_anew_or_given_up() {
    let new = image(6_000_000);
    for fault in [0, 1, 3] {
        let bench = rig(&[], &new);
        bench.disk.flush_fault(fault, Fault::LoseAll);
        bench.disk.flush_fault(fault + 1, Fault::LoseAll);
        bench.disk.fault(5, Fault::LoseAll);
        bench.succeeds(&new);
    }
    let bench = rig(&[], &new);
    for flush in 1..6 {
        bench.disk.flush_fault(flush, Fault::LoseAll);
    }
    assert_eq!(bench.fails().0, Failure::TargetIo);
    // What was lost is found missing, and fetched.
    bench.succeeds(&new);
}
