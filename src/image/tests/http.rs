//! What servers and networks do.

use std::net::TcpListener;
use std::time::Instant;

use super::server::{Act, Script};
use super::*;

pub(super) const SIZE: u64 = 4 << 20;

/// A raw image of a megabyte and a bit.
pub(super) fn bench() -> (Bench, Vec<u8>) {
    let image = image(1_100_003);
    (Bench::new(&image, SIZE), image)
}

pub(super) fn acts(text: &str) -> Script {
    Script::Acts(vec![Act::Send(text.as_bytes().to_vec())])
}

/// An answer with this status line and head lines, and the whole file.
pub(super) fn with_head(image: &[u8], head: &str) -> Script {
    Script::Acts(vec![Act::Send([head.as_bytes(), b"\r\n\r\n", image].concat())])
}

#[test]
fn a_good_server_is_asked_once_and_plainly() {
    let (bench, image) = bench();
    let seen = bench.succeeds(&image);
    assert_eq!((seen.connections, seen.fetched_twice, seen.trouble), (1, 0, None));
    assert_eq!((seen.position, seen.total), (image.len() as u64, Some(image.len() as u64)));
    let request = &bench.server.log()[0];
    assert_eq!(request.path, "/fw.bin?sig=SECRET");
    for absent in ["accept-encoding", "range", "referer", "cookie", "authorization"] {
        assert_eq!(request.header(absent), None, "{absent}");
    }
}

#[test]
fn p053_a_cut_connection_is_continued_where_it_ended() {
    let (bench, image) = bench();
    for len in [0, 1, 500_000, 7, 1] {
        bench.server.then(Script::Cut(len));
    }
    let seen = bench.succeeds(&image);
    assert_eq!(seen.fetched_twice, 0);
    assert_eq!(seen.fetched, image.len() as u64, "every byte once");
    let log = bench.server.log();
    assert_eq!(log.len(), 6);
    assert_eq!(log[2].range(), Some(1));
    assert_eq!(log[5].range(), Some(500_009));
    assert_eq!(log[5].header("if-range"), Some("\"one\""));
}

#[test]
fn p053_it_goes_on_wherever_and_however_the_connection_ends() {
    let image = image(1_100_003);
    for at in [0, 1, image.len() / 2, image.len() - 1] {
        for script in [Script::Cut(at), Script::Reset(at)] {
            let bench = Bench::new(&image, SIZE);
            bench.server.then(script.clone());
            let seen = bench.succeeds(&image);
            assert_eq!((seen.connections, seen.fetched_twice), (2, 0), "{script:?}");
            assert_eq!(seen.fetched, image.len() as u64, "{script:?}");
            let from = bench.server.log()[1].range().unwrap_or(0);
            assert!(from <= at, "{script:?}: {from}");
            // A reset may take back what was on its way; an end does not.
            assert!(from == at || matches!(script, Script::Reset(_)), "{script:?}: {from}");
        }
    }
}

#[test]
fn a_link_that_drops_again_and_again_is_fine_as_long_as_it_gets_further() {
    let (bench, image) = bench();
    for _ in 0..40 {
        bench.server.then(Script::Cut(20_000));
    }
    assert_eq!(bench.succeeds(&image).fetched_twice, 0);
}

#[test]
fn a_server_that_never_gets_further_is_given_up() {
    let (bench, _) = bench();
    for _ in 0..40 {
        bench.server.then(Script::Cut(0));
    }
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::DownloadUnreachable);
    assert!(detail.contains("4 connections"), "{detail}");
    assert_eq!(bench.server.requests(), 4);
}

#[test]
fn p055_a_server_without_ranges_starts_over_and_is_given_up_where_it_always_ends() {
    let (mut bench, image) = bench();
    // Long enough to be looked at meanwhile.
    bench.settings.idle_timeout = Duration::from_secs(2);
    let head = "HTTP/1.1 200 OK\r\netag: \"one\"\r\ncontent-length: 1100003\r\n\r\n";
    let begins = vec![Act::Send([head.as_bytes(), &image[..100_000]].concat()), Act::Stall];
    bench.server.then(Script::Cut(900_000)).then(Script::Acts(begins)).then(Script::Good);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| bench.succeeds(&image));
        // Nobody is told that there is more than there is.
        bench.wait_for(&worker, "the progress goes back", || {
            bench.server.requests() == 2 && bench.progress.snapshot().position == 100_000
        });
        assert_eq!(worker.join().unwrap().fetched_twice, 900_000);
    });
    let (bench, image) = self::bench();
    bench.server.then(Script::Cut(900_000)).then(Script::Whole(usize::MAX));
    assert_eq!(bench.succeeds(&image).fetched_twice, 900_000);
    let (bench, _) = self::bench();
    for _ in 0..40 {
        bench.server.then(Script::Whole(900_000));
    }
    assert_eq!(bench.fails().0, Failure::DownloadUnreachable);
    assert!(bench.server.requests() <= 6, "{}", bench.server.requests());
}

#[test]
fn p056_wrong_parts_are_never_put_together() {
    for wrong in [
        "content-range: bytes 500001-1100002/1100003",
        "content-range: bytes 500000-1100002/1100004",
        "content-range: bytes 500000-1100002/*",
        "content-range: bytes 500000-400000/1100003",
        "content-range: bytes -1-5/1100003",
        "content-range: nonsense",
        "x: y",
    ] {
        let (bench, image) = bench();
        let part = with_head(&image[500_000..], &format!("HTTP/1.1 206 x\r\netag: \"one\"\r\n{wrong}"));
        bench.server.then(Script::Cut(500_000)).then(part.clone());
        bench.succeeds(&image);
        assert_eq!(bench.server.log()[2].range(), None, "from the beginning, without a range: {wrong}");
        let (bench, _) = self::bench();
        bench.server.then(Script::Cut(500_000)).then(part.clone()).then(Script::Cut(500_000)).then(part);
        let (failure, _) = bench.fails();
        let expected = [Failure::DownloadHttpAnswer, Failure::DownloadContentChanged];
        assert!(expected.contains(&failure), "{wrong}: {failure}");
    }
}

#[test]
fn p057_a_refused_range_starts_over_once() {
    let (bench, image) = bench();
    let refuse = || Script::Status(416, "");
    bench.server.then(Script::Cut(500_000)).then(refuse());
    bench.succeeds(&image);
    let (bench, _) = self::bench();
    bench.server.then(Script::Cut(500_000)).then(refuse()).then(Script::Cut(500_000)).then(refuse());
    assert_eq!(bench.fails().0, Failure::DownloadHttpAnswer);
}

#[test]
fn p058_a_file_that_changes_is_begun_again_once() {
    let (mut bench, old) = bench();
    let new: Vec<u8> = old.iter().map(|byte| byte ^ 0x55).collect();
    bench.artifact.sha256 = Some(Sha256::of(&new));
    bench.server.then(Script::Cut(500_000)).replace_after(1, new.clone(), "\"two\"");
    bench.succeeds(&new);
    // The server says so with a part that does not fit, twice.
    let (bench, image) = self::bench();
    let other = with_head(
        &image[500_000..],
        "HTTP/1.1 206 x\r\netag: \"other\"\r\ncontent-range: bytes 500000-1100002/1100003",
    );
    bench.server.then(Script::Cut(500_000)).then(other.clone()).then(Script::Cut(500_000)).then(other);
    assert_eq!(bench.fails().0, Failure::DownloadContentChanged);
}

/// A strong entity tag is one of the bytes; the time is one of the copy that a server has.
#[test]
fn p058_another_time_of_the_same_file_is_none_of_another_file() {
    let (bench, image) = bench();
    bench.server.always_say("last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    let part = |from: usize, until: usize| {
        let head = "HTTP/1.1 206 x\r\netag: \"one\"\r\nlast-modified: Mon, 07 Nov 1994 08:49:37 GMT";
        with_head(&image[from..until], &format!("{head}\r\ncontent-range: bytes {from}-1100002/1100003"))
    };
    bench.server.then(Script::Cut(500_000)).then(part(500_000, 800_000)).then(part(800_000, 1_100_003));
    let seen = bench.succeeds(&image);
    assert_eq!((seen.connections, seen.fetched_twice), (3, 0));
}

/// How far the old file had come says nothing of the new one.
#[test]
fn p058_a_file_that_changes_late_is_fetched_over_a_bad_line_all_the_same() {
    let (mut bench, old) = bench();
    let new: Vec<u8> = old.iter().map(|byte| byte ^ 0x55).collect();
    bench.artifact.sha256 = Some(Sha256::of(&new));
    bench.server.replace_after(1, new.clone(), "\"two\"");
    bench.server.then(Script::Cut(900_000));
    // More often than connections may get no further.
    for _ in 0..8 {
        bench.server.then(Script::Cut(50_000));
    }
    let seen = bench.succeeds(&new);
    assert_eq!((seen.connections, seen.fetched_twice), (10, 900_000));
    // What gets no further still ends it.
    let (mut bench, _) = self::bench();
    bench.artifact.sha256 = Some(Sha256::of(&new));
    bench.server.replace_after(1, new, "\"two\"");
    bench.server.then(Script::Cut(900_000));
    for _ in 0..40 {
        bench.server.then(Script::Cut(0));
    }
    assert_eq!(bench.fails().0, Failure::DownloadUnreachable);
    assert_eq!(bench.server.requests(), 5);
}

#[test]
fn without_validators_only_a_digest_lets_parts_be_joined() {
    let (bench, image) = bench();
    bench.server.without_etag();
    bench.server.then(Script::Cut(500_000));
    assert_eq!(bench.succeeds(&image).fetched_twice, 0);
    // Nobody vouches for the whole: from the beginning.
    let (mut bench, image) = self::bench();
    bench.artifact.sha256 = None;
    bench.server.without_etag();
    bench.server.then(Script::Cut(500_000));
    assert_eq!(bench.succeeds(&image).fetched_twice, 500_000);
    // Parts of two versions: noticed by the digest, and tried once more in one go.
    let (bench, image) = self::bench();
    bench.server.without_etag();
    let other = with_head(
        &vec![7; 600_003],
        "HTTP/1.1 206 x\r\ncontent-range: bytes 500000-1100002/1100003\r\ncontent-length: 600003",
    );
    bench.server.then(Script::Cut(500_000)).then(other);
    bench.succeeds(&image);
}

#[test]
fn p054_an_endless_body_stops_at_the_slots_end() {
    let mut bench = Bench::new(b"x", 1 << 20);
    (bench.artifact.size, bench.artifact.sha256) = (None, None);
    bench.server.then(with_head(&vec![1; 3 << 20], "HTTP/1.1 200 OK"));
    assert_eq!(bench.fails().0, Failure::TargetTooSmall);
}

/// Where the length is known, nothing beyond it is written, however much there is.
#[test]
fn p054_an_endless_body_stops_at_the_length_that_was_announced() {
    let (bench, image) = bench();
    let piece = [format!("{:x}\r\n", 16 << 10).as_bytes(), &[1; 16 << 10], b"\r\n"].concat();
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    bench.server.then(Script::Acts(vec![Act::Send(head), Act::Endless(piece)]));
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::DownloadSizeMismatch);
    assert!(detail.contains(&format!("more than {}", image.len())), "{detail}");
    assert!(bench.disk.written() <= image.len() as u64, "{} bytes", bench.disk.written());
    assert_eq!(bench.server.requests(), 1, "what is too long is not asked for again");
    assert!(bench.server.sent() < 16 << 20, "{} bytes were taken", bench.server.sent());
}

/// Frames that unpack to nothing, before a good image: without an end, it would never come.
#[test]
fn p054_what_unpacks_to_nothing_stops_where_no_image_for_the_slot_is_so_long() {
    let image = image(300_000);
    let nothing = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 1, 0][..], &vec![0; 1 << 16]].concat();
    let padded = |times: usize| [nothing.repeat(times), zstd(&image)].concat();
    let bench_of = |file: &[u8]| {
        let mut bench = Bench::new(file, 1 << 20);
        bench.artifact.size = None;
        bench
    };
    bench_of(&padded(16)).succeeds(&image);
    // The server says how long it is, or does not.
    let file = padded(64);
    let bench = bench_of(&file);
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::TargetTooSmall);
    assert!(detail.contains(&file.len().to_string()) && detail.contains("1048576"), "{detail}");
    assert!(bench.progress.snapshot().fetched < 1 << 20, "{:?}", bench.progress.snapshot());
    let bench = bench_of(&file);
    bench.server.then(with_head(&file, "HTTP/1.1 200 OK"));
    assert_eq!(bench.fails().0, Failure::TargetTooSmall);
    assert!(bench.progress.snapshot().fetched < 3 << 20, "{:?}", bench.progress.snapshot());
    assert_eq!((bench.server.requests(), bench.disk.operations()), (1, 0));
    // Whoever asked for it said that it is so long.
    let mut bench = bench_of(&file);
    bench.artifact.size = Some(file.len() as u64);
    bench.succeeds(&image);
}

#[test]
fn p059_a_silent_server_is_left_for_a_new_connection() {
    let (bench, image) = bench();
    bench.server.then(Script::Acts(vec![Act::Stall])).then(Script::StallAfter(500_000));
    let began = Instant::now();
    // The head of an answer may take as long as connecting and being silent together.
    let mut bench = bench;
    bench.settings.connect_timeout = Duration::from_millis(500);
    let seen = bench.succeeds(&image);
    assert_eq!((seen.connections, seen.fetched_twice), (3, 0));
    // As these settings say, and not as it ships: that would take longer for the first head alone.
    let shipped = Settings::default();
    assert!(began.elapsed() < shipped.connect_timeout + shipped.idle_timeout);
}

#[test]
fn p059_a_trickle_is_too_slow_and_a_pause_is_not() {
    let (mut bench, image) = bench();
    bench.settings.minimum_rate = 100_000;
    bench.settings.minimum_rate_window = Duration::from_millis(200);
    let head = "HTTP/1.1 200 OK\r\netag: \"one\"\r\ncontent-length: 1100003\r\n\r\n";
    let mut trickle = vec![Act::Send(head.into())];
    for byte in &image[..400] {
        trickle.extend([Act::Send(vec![*byte]), Act::Pause(Duration::from_millis(5))]);
    }
    for _ in 0..4 {
        bench.server.then(Script::Acts(trickle.clone()));
    }
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::DownloadTooSlow, "{detail}");
    let (mut bench, image) = self::bench();
    bench.settings.minimum_rate = 100_000;
    bench.settings.minimum_rate_window = Duration::from_millis(400);
    let pause = vec![
        Act::Send([head.as_bytes(), &image[..600_000]].concat()),
        Act::Pause(Duration::from_millis(250)),
        Act::Send(image[600_000..].to_vec()),
    ];
    bench.server.then(Script::Acts(pause));
    assert_eq!(bench.succeeds(&image).connections, 1);
    // As it ships: what trickles is left after two minutes, and what is silent after half of one.
    let shipped = Settings::default();
    assert!(shipped.minimum_rate_window.max(shipped.idle_timeout) <= Duration::from_secs(120));
    assert!(shipped.minimum_rate > 500);
}

#[test]
fn a_cancel_ends_every_wait_at_once() {
    /// What is seen of a download that has come to its wait.
    type Sign = fn(&Snapshot) -> bool;
    let (mut bench, _) = bench();
    bench.settings.idle_timeout = Duration::from_secs(3600);
    bench.settings.retry_after_limit = Duration::from_secs(3600);
    let cases: [(Script, Sign); 4] = [
        (Script::StallAfter(500_000), |seen| seen.fetched == 500_000),
        (Script::StallAfter(0), |seen| seen.total.is_some()),
        // Whoever asked waits for the answer from then on.
        (Script::Acts(vec![Act::Stall]), |_| true),
        (Script::Status(503, "retry-after: 3000\r\n"), |seen| seen.trouble.is_some()),
    ];
    for (script, has_come) in cases {
        (bench.cancel, bench.progress) = (Cancel::default(), Progress::default());
        bench.server.then(script.clone());
        let requests = bench.server.requests();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| bench.write());
            bench.wait_for(&worker, "it waits", || {
                bench.server.requests() > requests && has_come(&bench.progress.snapshot())
            });
            let began = Instant::now();
            bench.cancel.cancel();
            assert!(matches!(worker.join().unwrap(), Err(Error::Cancelled)), "{script:?}");
            // The waits are of an hour.
            assert!(began.elapsed() < PATIENCE, "{script:?}");
        });
    }
}

#[test]
fn p040_a_stranger_is_not_trusted_and_nothing_is_sent_to_it() {
    let (bench, _) = bench();
    let stranger = Server::start(b"evil".to_vec());
    let mut artifact = bench.artifact.clone();
    artifact.location = Location::Url(stranger.url("/fw?sig=SECRET").parse().unwrap());
    let bench = Bench { artifact, ..bench };
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::DownloadTls, "{detail}");
    assert_eq!(stranger.requests(), 0);
}

#[test]
fn nobody_there_is_unreachable() {
    let (mut bench, _) = bench();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bench.artifact.location = Location::Url(format!("https://{free}/fw?sig=SECRET").parse().unwrap());
    assert_eq!(bench.fails().0, Failure::DownloadUnreachable);
    bench.artifact.location = Location::Url("https://no-such-host.invalid/fw?sig=SECRET".parse().unwrap());
    assert_eq!(bench.fails().0, Failure::DownloadUnreachable);
}

#[test]
fn the_wrong_file_is_told_by_its_digest() {
    let (mut bench, _) = bench();
    bench.artifact.sha256 = Some(Sha256::of(b"another"));
    assert_eq!(bench.fails().0, Failure::DownloadDigestMismatch);
    assert_eq!(bench.server.requests(), 1);
    // And it does not lie in wait as a checkpoint.
    assert_eq!(bench.fails().0, Failure::DownloadDigestMismatch);
    assert_eq!(bench.server.log()[1].range(), None);
}

#[test]
fn the_time_limit_ends_it() {
    let (mut bench, _) = bench();
    bench.settings.time_limit = Duration::from_millis(100);
    bench.settings.attempts = 1_000_000;
    for _ in 0..1000 {
        bench.server.then(Script::Status(503, ""));
    }
    let (failure, detail) = bench.fails();
    assert_eq!(failure, Failure::DownloadHttpStatus);
    assert!(detail.contains("gave up"), "{detail}");
}

#[test]
fn the_rate_limit_holds_back() {
    let image = image(300_000);
    let bench = Bench::new(&image, SIZE);
    bench.rate.set(1_000_000);
    let began = Instant::now();
    bench.succeeds(&image);
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
}
