//! The image server: ranges, validators and every fault of it.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::time::Instant;

use hub_emulator::{Emulator, EventKind, Fault, FaultKind};
use support::*;

fn content() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n % 251) as u8).collect()
}

fn with_image() -> Emulator {
    let emulator = start();
    let url = emulator.images().put("fw.img", content());
    assert_eq!(url, format!("https://localhost:{}/images/fw.img", emulator.https_port()));
    emulator
}

fn get(emulator: &Emulator, headers: &[(&str, &str)]) -> Answer {
    http(emulator, "GET", "/images/fw.img", headers, b"")
}

#[test]
fn whole_files_ranges_and_heads_are_served() {
    let emulator = with_image();
    let whole = get(&emulator, &[]);
    assert_eq!((whole.status, &whole.body), (200, &content()));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let etag = whole.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"'));
    let modified = whole.header("last-modified").unwrap().to_owned();
    let part = get(&emulator, &[("Range", "bytes=100000-100009")]);
    assert_eq!((part.status, &part.body[..]), (206, &content()[100_000..100_010]));
    assert_eq!(part.header("content-range"), Some("bytes 100000-100009/300000"));
    for known in [&etag, &modified] {
        let rest = get(&emulator, &[("Range", "bytes=299990-"), ("If-Range", known)]);
        assert_eq!((rest.status, rest.body.len()), (206, 10));
    }
    let stale = get(&emulator, &[("Range", "bytes=299990-"), ("If-Range", "\"other\"")]);
    assert_eq!((stale.status, stale.body.len()), (200, 300_000));
    let beyond = get(&emulator, &[("Range", "bytes=300000-")]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */300000")));
    let head = http(&emulator, "HEAD", "/images/fw.img", &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("300000"), 0));
    assert_eq!(http(&emulator, "POST", "/images/fw.img", &[], b"x").status, 405);
    assert_eq!(http(&emulator, "GET", "/images/none", &[], b"").status, 404);
    let log = emulator.images().log();
    let seen: Vec<_> =
        log.iter().map(|entry| (entry.status, entry.start, entry.bytes, entry.complete)).collect();
    assert_eq!(seen[..3], [(200, 0, 300_000, true), (206, 100_000, 10, true), (206, 299_990, 10, true)]);
    assert_eq!(emulator.images().bytes_sent("fw.img"), 600_030);
}

#[test]
fn files_of_a_directory_are_served_and_nothing_outside_it() {
    let emulator = start();
    let directory = std::env::temp_dir().join(format!("hub-emulator-images-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("sub")).unwrap();
    std::fs::write(directory.join("sub/a.bin"), b"0123456789").unwrap();
    std::fs::write(directory.join("b.bin"), b"file").unwrap();
    emulator.images().serve_directory(&directory);
    let part = http(&emulator, "GET", "/images/sub/a.bin", &[("Range", "bytes=-3")], b"");
    assert_eq!((part.status, &part.body[..]), (206, &b"789"[..]));
    assert_eq!(http(&emulator, "GET", "/images/..%2Fb.bin", &[], b"").status, 404);
    assert_eq!(http(&emulator, "GET", "/images/sub", &[], b"").status, 404);
    emulator.images().put_file("named", &directory.join("b.bin")).unwrap();
    assert_eq!(http(&emulator, "GET", "/images/named", &[], b"").body, b"file");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_dropped_connection_gives_exactly_the_bytes_before_it() {
    let emulator = with_image();
    let events = emulator.events();
    for bytes in [0, 1, 70_000, 299_999, 300_000] {
        emulator.images().fault_once("fw.img", FaultKind::DropAfter { bytes });
        let cut = get(&emulator, &[]);
        assert_eq!((cut.status, cut.body.len() as u64), (200, bytes));
        assert_eq!(cut.body, content()[..cut.body.len()]);
        assert_eq!(cut.whole, bytes == 300_000);
    }
    let rest = get(&emulator, &[("Range", "bytes=70000-")]);
    assert_eq!((rest.status, &rest.body[..]), (206, &content()[70_000..]));
    let short = events.iter().find_map(|event| match event.kind {
        EventKind::ImageSent { bytes: 70_000, complete, .. } => Some(complete),
        _ => None,
    });
    assert_eq!(short, Some(false));
}

#[test]
fn a_change_in_mid_file_gives_new_bytes_and_a_new_etag() {
    let emulator = with_image();
    let etag = get(&emulator, &[]).header("etag").unwrap().to_owned();
    emulator.images().fault_once("fw.img", FaultKind::ChangeAfter { bytes: 1000 });
    let mixed = get(&emulator, &[]);
    assert_eq!(mixed.header("etag"), Some(etag.as_str()));
    assert_eq!(mixed.body[..1000], content()[..1000]);
    assert!(mixed.body[1000..].iter().zip(&content()[1000..]).all(|(new, old)| new != old));
    let resumed = get(&emulator, &[("Range", "bytes=1000-"), ("If-Range", &etag)]);
    assert_eq!(resumed.status, 200);
    assert_ne!(resumed.header("etag"), Some(etag.as_str()));
    assert_eq!(resumed.body[1000..], mixed.body[1000..]);
    emulator.images().put("fw.img", content());
    assert_eq!(get(&emulator, &[]).header("etag"), Some(etag.as_str()));
}

#[test]
fn a_slow_body_takes_its_time_and_a_stalled_one_for_ever() {
    let emulator = with_image();
    emulator.images().fault_once("fw.img", FaultKind::Slow { bytes_per_second: 1_000_000 });
    let started = Instant::now();
    assert_eq!(get(&emulator, &[]).body, content());
    assert!(started.elapsed().as_millis() >= 200);
    emulator.images().fault_once("fw.img", FaultKind::StallAfter { bytes: 5000 });
    let mut tls = dial(&emulator, emulator.https_port());
    let request = b"GET /images/fw.img HTTP/1.1\r\nHost: localhost\r\n\r\n";
    std::io::Write::write_all(&mut tls, request).unwrap();
    let images = emulator.images();
    let at_5000 = |entry: &hub_emulator::Request| entry.bytes == 5000 && !entry.complete;
    assert!(emulator.wait_for(|_| images.log().last().is_some_and(at_5000), PATIENCE));
}

#[test]
fn headers_go_wrong_on_request() {
    let emulator = with_image();
    let images = emulator.images();
    let range = [("Range", "bytes=1000-")];
    images.fault_once("fw.img", FaultKind::Truncate { bytes: 5000 });
    let truncated = get(&emulator, &[]);
    assert_eq!((truncated.status, truncated.body.len(), truncated.whole), (200, 5000, true));
    images.fault_once("fw.img", FaultKind::IgnoreRanges);
    let ignored = get(&emulator, &range);
    assert_eq!((ignored.status, ignored.body.len(), ignored.header("accept-ranges")), (200, 300_000, None));
    images.fault_once("fw.img", FaultKind::WrongContentRange);
    assert_eq!(get(&emulator, &range).header("content-range"), Some("bytes 1001-299999/300000"));
    images.fault_once("fw.img", FaultKind::NoValidators);
    let bare = get(&emulator, &[]);
    assert_eq!((bare.header("etag"), bare.header("last-modified")), (None, None));
    for status in [403, 404, 429, 503] {
        images.fault_once("fw.img", FaultKind::Status { status, retry_after: Some(7) });
        let refused = get(&emulator, &[]);
        assert_eq!((refused.status, refused.header("retry-after")), (status, Some("7")));
    }
    images.fault_once("fw.img", FaultKind::Redirect { location: "http://evil.example/".to_owned() });
    let elsewhere = get(&emulator, &[]);
    assert_eq!((elsewhere.status, elsewhere.header("location")), (302, Some("http://evil.example/")));
    emulator
        .faults()
        .set(Fault::always("/images/fw.img", FaultKind::Status { status: 500, retry_after: None }));
    assert_eq!((get(&emulator, &[]).status, get(&emulator, &[]).status), (500, 500));
    emulator.faults().clear();
    assert_eq!(get(&emulator, &[]).status, 200);
}
