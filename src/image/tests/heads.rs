//! Heads of answers that are no heads: too long, too many, malformed, without an end.

use std::time::Instant;

use super::http::acts;
use super::server::{Act, Script};
use super::*;

/// More than the largest head that is read, and what the kernels hold.
const ENOUGH: u64 = 8 << 20;

impl Bench {
    /// Every connection is answered by this script. It fails in time, writes nothing, and takes no more than it must.
    fn withstands(&self, what: &str, script: &Script) -> (Failure, String) {
        for _ in 0..self.settings.attempts {
            self.server.then(script.clone());
        }
        let began = Instant::now();
        let (failure, detail) = self.fails();
        assert_eq!(self.disk.operations(), 0, "{what}");
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: {:?}", began.elapsed());
        let each = self.server.sent() / u64::from(self.settings.attempts);
        assert!(each < ENOUGH, "{what}: {each} bytes of a head were taken");
        (failure, detail)
    }
}

/// A bench with short limits for the head of an answer.
fn bench() -> (Bench, Vec<u8>) {
    let (mut bench, image) = super::http::bench();
    bench.settings.connect_timeout = Duration::from_millis(500);
    bench.settings.attempts = 2;
    (bench, image)
}

#[test]
fn p063_headers_that_are_too_many_too_long_or_malformed_are_no_answer() {
    let many: String = (0..1000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(1 << 20));
    for (what, lines) in [
        ("1000 lines", many.as_str()),
        ("a line of a megabyte", &long),
        ("a NUL", "x: a\0b\r\n"),
        ("a NUL in a name", "x\0y: a\r\n"),
        ("a name of nothing", ": a\r\n"),
        ("a blank before the colon", "x : a\r\n"),
        ("a line without a colon", "x\r\n"),
        ("a carriage return alone", "x: a\rb\r\n"),
    ] {
        let (bench, image) = bench();
        let head = format!("HTTP/1.1 200 OK\r\n{lines}content-length: {}\r\n\r\n", image.len());
        let script = Script::Acts(vec![Act::Send([head.as_bytes(), &image].concat())]);
        let (failure, detail) = bench.withstands(what, &script);
        assert_eq!(failure, Failure::DownloadHttpAnswer, "{what}: {detail}");
        assert!(!detail.contains('\0') && detail.len() <= 256, "{what}");
    }
    // A line end of one byte, and a line that goes on in the next: the one is common, the other obsolete. Neither is
    // taken for something that it is not.
    for lines in ["x: a\n", "x: a\r\n b\r\n"] {
        let (bench, image) = bench();
        let head = format!("HTTP/1.1 200 OK\r\n{lines}content-length: {}\r\n\r\n", image.len());
        bench.server.then(Script::Acts(vec![Act::Send([head.as_bytes(), &image].concat())]));
        bench.succeeds(&image);
    }
    // Without an end.
    let (bench, _) = bench();
    let endless = Script::Acts(vec![
        Act::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Act::Endless(
            b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".to_vec(),
        ),
    ]);
    assert_eq!(bench.withstands("endless", &endless).0, Failure::DownloadHttpAnswer);
}

#[test]
fn p064_what_is_no_answer_in_http_1_1_is_none() {
    for (what, text) in [
        ("a body without a head", "this is the file"),
        ("a page without a head", "<html>\r\n\r\n"),
        ("another protocol", "220 mail.example.com ESMTP\r\n\r\n"),
        ("no status", "HTTP/1.1\r\n\r\n"),
        ("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"),
        ("a status of letters", "HTTP/1.1 abc OK\r\n\r\n"),
        ("version 9", "HTTP/9.9 200 OK\r\n\r\n"),
        ("bytes", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n"),
    ] {
        let (bench, _) = bench();
        let (failure, detail) = bench.withstands(what, &acts(text));
        assert_eq!(failure, Failure::DownloadHttpAnswer, "{what}: {detail}");
    }
    // A thousand words that an answer will come, and then it does.
    for word in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"] {
        let (bench, image) = bench();
        let head = format!("{}HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", word.repeat(1000), image.len());
        bench.server.then(Script::Acts(vec![Act::Send([head.as_bytes(), &image].concat())]));
        bench.succeeds(&image);
    }
    // And if it never comes, the time for it is over some day.
    let (mut bench, _) = super::http::bench();
    bench.settings.connect_timeout = Duration::from_millis(300);
    bench.settings.attempts = 2;
    for _ in 0..2 {
        bench.server.then(Script::Acts(vec![Act::Endless(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(40))]));
    }
    let began = Instant::now();
    assert_eq!(bench.fails().0, Failure::DownloadUnreachable);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(bench.disk.operations(), 0);
}
