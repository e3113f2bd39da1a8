//! How much one update may fetch, and how fast, also when that changes meanwhile.

use std::time::Instant;

use super::http::{bench, with_head};
use super::server::Script;
use super::*;

#[test]
fn what_is_known_to_be_too_much_is_not_begun() {
    let (mut bench, image) = bench();
    bench.settings.data_cap = image.len() as u64 - 1;
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::DataCap);
    assert_eq!(detail, "1100003 are to be fetched, download.data_cap allows 1100002 in all");
    assert_eq!(bench.server.requests(), 0, "nobody is asked");
    // The server knows what the request did not tell.
    bench.artifact.size = None;
    assert_eq!(bench.fails(), (failure, detail));
    assert_eq!((bench.server.requests(), bench.progress.snapshot().fetched), (1, 0), "no byte is taken");
    bench.settings.data_cap += 1;
    bench.succeeds(&image);
}

#[test]
fn what_is_all_there_costs_nothing() {
    let (mut bench, image) = bench();
    bench.settings.data_cap = image.len() as u64;
    bench.succeeds(&image);
    let requests = bench.server.requests();
    bench.succeeds(&image);
    assert_eq!(bench.server.requests(), requests, "it is there: nobody is asked");
}

#[test]
fn a_file_of_unknown_length_ends_at_the_cap() {
    let (mut bench, image) = bench();
    (bench.artifact.size, bench.settings.data_cap) = (None, 500_000);
    bench.server.then(with_head(&image, "HTTP/1.1 200 OK"));
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::DataCap);
    assert!(detail.ends_with("bytes were fetched, download.data_cap allows 500000 in all"), "{detail}");
    let fetched = bench.progress.snapshot().fetched;
    assert!((500_000..700_000).contains(&fetched), "{fetched}");
}

#[test]
fn what_is_fetched_again_counts() {
    let (mut bench, image) = bench();
    bench.settings.data_cap = 1_500_000;
    bench.server.then(Script::Cut(600_000)).then(Script::Whole(image.len()));
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::DataCap);
    assert!(detail.starts_with("600000 bytes were fetched already, 1100003 are to be fetched"), "{detail}");
}

/// What an earlier process fetched of the same update counts, with or without a place to go on from.
#[test]
fn a_restart_does_not_begin_anew() {
    let raw = image(1_100_003);
    let mut packed = Vec::new();
    // One block: there is nowhere to go on from.
    std::io::Read::read_to_end(&mut liblzma::read::XzEncoder::new(&raw[..], 0), &mut packed).unwrap();
    for file in [raw.clone(), packed] {
        let (half, len) = (file.len() / 2, file.len() as u64);
        let stopped = |cap: u64| {
            let mut bench = Bench::new(&file, 4 << 20);
            bench.settings.data_cap = cap;
            bench.server.then(Script::Cut(half)).then(Script::Status(403, ""));
            assert_eq!(bench.fails().0, Failure::DownloadHttpStatus);
            // The server cannot go on either.
            bench.server.then(Script::Whole(file.len()));
            bench
        };
        let bench = stopped(len + len / 4);
        let (failure, detail) = bench.fails();
        assert_eq!(failure, Failure::DataCap, "{detail}");
        assert!(detail.starts_with(&format!("{half} bytes were fetched already, ")), "{detail}");
        // Read back, and found to be wrong: all of it is fetched again, and that counts, too.
        let bench = stopped(len + len / 4);
        discard(&mut bench.checkpoint());
        assert_eq!(bench.fails().0, Failure::DataCap);
        // Enough for both halves, or another update: fine.
        stopped(2 * len).succeeds(&raw);
        let mut bench = stopped(len + len / 4);
        bench.update = "two".into();
        bench.succeeds(&raw);
    }
}

/// Without a cap nothing of the kind is written down or asked for.
#[test]
fn no_cap_is_no_cap() {
    let (bench, image) = bench();
    bench.server.then(Script::Cut(600_000)).then(Script::Whole(600_000)).then(Script::Whole(600_000));
    assert!(bench.succeeds(&image).fetched_twice > 0);
}

#[test]
fn the_rate_can_be_changed_while_it_holds_back() {
    let (bench, image) = bench();
    // At this rate it would take a quarter of an hour.
    bench.rate.set(1_000);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| bench.write());
        while bench.progress.snapshot().fetched == 0 {
            assert!(began.elapsed() < Duration::from_secs(30), "nothing came");
            std::thread::yield_now();
        }
        bench.rate.set(500_000_000);
        worker.join().unwrap().unwrap();
    });
    bench.succeeds(&image);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}
