//! What servers say: redirects, refusals, and heads of answers that do not fit.

use std::net::TcpListener;
use std::time::Instant;

use super::http::{acts, with_head};
use super::server::{Act, Script};
use super::*;

#[test]
fn p043_p044_p045_p046_redirects_are_followed_over_https_alone() {
    for code in [301, 302, 303, 307, 308] {
        let (bench, image) = super::http::bench();
        let there =
            Box::leak(format!("location: https://localhost:{}/x\r\n", bench.server.port()).into_boxed_str());
        bench.server.then(Script::Status(code, there)).then(Script::Status(code, "location: /there\r\n"));
        bench.succeeds(&image);
        let log = bench.server.log();
        assert_eq!(log[2].path, "/there");
        assert!(log[1..].iter().all(|request| !request.head.contains("secret")), "the token went along");
    }
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    // To the same host without TLS: by its own port, and by another's.
    for code in [301, 302, 303, 307, 308] {
        for is_other in [true, false] {
            let (bench, _) = super::http::bench();
            let port = if is_other { plain.local_addr().unwrap().port() } else { bench.server.port() };
            bench
                .server
                .then(Script::Status(code, format!("location: http://127.0.0.1:{port}/fw\r\n").leak()));
            assert_eq!(bench.fails().0, Failure::DownloadRedirect, "{code}");
            assert_eq!((bench.server.requests(), bench.disk.operations()), (1, 0), "{code}");
        }
    }
    plain.set_nonblocking(true).unwrap();
    let http = format!("location: http://{}/fw\r\n", plain.local_addr().unwrap());
    for bad in [
        &http,
        "",
        "location: https://u:p@127.0.0.1/\r\n",
        "location: ftp://h/\r\n",
        "location: https://\r\n",
        "location: https://[::1/\r\n",
        "location: \u{e4}\r\n",
        "location: /fw.bin?sig=SECRET\r\n",
    ] {
        let (bench, _) = super::http::bench();
        bench.server.then(Script::Status(302, bad.to_owned().leak()));
        assert_eq!(bench.fails().0, Failure::DownloadRedirect, "{bad}");
        assert_eq!(bench.server.requests(), 1, "{bad}");
        assert_eq!(bench.disk.operations(), 0);
    }
    assert!(plain.accept().is_err(), "somebody connected without TLS");
}

#[test]
fn p043_p044_redirects_end() {
    let (bench, image) = super::http::bench();
    for hop in 0..5 {
        bench.server.then(Script::Status(302, format!("location: /hop{hop}\r\n").leak()));
    }
    bench.succeeds(&image);
    let (bench, _) = super::http::bench();
    for hop in 0..9 {
        bench.server.then(Script::Status(302, format!("location: /hop{hop}\r\n").leak()));
    }
    assert_eq!(bench.fails().0, Failure::DownloadRedirect);
    assert_eq!(bench.server.requests(), 6);
    let (bench, _) = super::http::bench();
    for _ in 0..4 {
        bench
            .server
            .then(Script::Status(302, "location: /a\r\n"))
            .then(Script::Status(302, "location: /b\r\n"));
    }
    assert!(bench.fails().1.contains("circle"));
}

#[test]
fn p047_a_refusal_is_final_and_asked_for_once() {
    for code in [400, 401, 403, 404, 410, 451] {
        let (bench, _) = super::http::bench();
        bench.server.then(Script::Status(code, ""));
        let (failure, detail) = bench.fails();
        assert_eq!(failure, Failure::DownloadHttpStatus);
        assert!(detail.contains(&code.to_string()), "{detail}");
        assert_eq!((bench.server.requests(), bench.disk.operations()), (1, 0));
    }
    for code in [204, 205, 304, 300] {
        let (bench, _) = super::http::bench();
        bench.server.then(Script::Status(code, ""));
        assert_eq!(bench.fails().0, Failure::DownloadHttpAnswer, "{code}");
    }
}

#[test]
fn p048_p049_a_server_in_trouble_is_asked_again_and_its_wish_to_wait_respected() {
    let (bench, image) = super::http::bench();
    for code in [500, 502, 503] {
        bench.server.then(Script::Status(code, ""));
    }
    assert_eq!(bench.succeeds(&image).connections, 4);
    for code in [500, 502, 503, 504] {
        let (bench, image) = super::http::bench();
        for _ in 0..3 {
            bench.server.then(Script::Status(code, ""));
        }
        assert_eq!(bench.succeeds(&image).connections, 4, "{code}");
    }
    assert_eq!(Settings::default().retry_after_limit, Duration::from_secs(3600));
    // What cannot be read is no wish: see `retry_after`.
    for (wish, least) in
        [("2", 50), ("7200", 50), ("-1", 0), ("soon", 0), ("Sun, 06 Nov 2094 08:49:37 GMT", 50)]
    {
        for code in [408, 425, 429, 503] {
            let (bench, image) = super::http::bench();
            bench.server.then(Script::Status(code, format!("retry-after: {wish}\r\n").leak()));
            let began = Instant::now();
            bench.succeeds(&image);
            assert!(began.elapsed() >= Duration::from_millis(least), "{wish}");
        }
    }
    let (bench, _) = super::http::bench();
    for _ in 0..9 {
        bench.server.then(Script::Status(503, ""));
    }
    assert_eq!(bench.fails().0, Failure::DownloadHttpStatus);
    assert_eq!(bench.server.requests(), 4);
}

#[test]
fn p052_p061_encodings_nobody_asked_for_and_login_pages_are_not_images() {
    for encoding in ["gzip", "br", "zstd"] {
        let (bench, _) = super::http::bench();
        bench.server.always_say(&format!("content-encoding: {encoding}\r\n"));
        assert_eq!(bench.fails().0, Failure::DownloadHttpAnswer);
        assert_eq!((bench.server.requests(), bench.disk.operations()), (1, 0));
    }
    let (mut bench, image) = super::http::bench();
    bench.artifact.size = None;
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 5\r\n\r\nlogin";
    bench.server.then(acts(page)).then(acts(page));
    bench.succeeds(&image);
}

#[test]
fn p051_a_wrong_length_is_noticed_before_the_first_write() {
    for wrong in [5, 1_100_002, 1_100_004] {
        let (mut bench, _) = super::http::bench();
        bench.artifact.size = Some(wrong);
        assert_eq!(bench.fails().0, Failure::DownloadSizeMismatch);
        assert_eq!(bench.disk.operations(), 0);
    }
    let (bench, image) = super::http::bench();
    let two = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 1100003";
    bench
        .server
        .then(with_head(&image, two))
        .then(with_head(&image, "HTTP/1.1 200 OK\r\ncontent-length: -1"));
    bench.succeeds(&image);
    // And always so: given up, and never written.
    for head in [
        two,
        "HTTP/1.1 200 OK\r\ncontent-length: -1",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999",
    ] {
        let (bench, image) = super::http::bench();
        for _ in 0..4 {
            bench.server.then(with_head(&image, head));
        }
        let (failure, detail) = bench.fails();
        assert_eq!((failure, bench.disk.operations()), (Failure::DownloadHttpAnswer, 0), "{head}: {detail}");
    }
}

#[test]
fn p050_p054_bodies_without_a_length_must_have_the_right_one() {
    let chunked = |body: &[u8], end: &str| {
        let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        Script::Acts(vec![Act::Send([head.as_bytes(), body, b"\r\n", end.as_bytes()].concat())])
    };
    let (bench, image) = super::http::bench();
    bench.server.then(chunked(&image, "0\r\n\r\n"));
    bench.succeeds(&image);
    // Cut, properly ended too early, and close-delimited: all are continued.
    for short in [
        chunked(&image[..500_000], ""),
        chunked(&image[..500_000], "0\r\n\r\n"),
        with_head(&image[..500_000], "HTTP/1.1 200 OK"),
    ] {
        let (bench, _) = super::http::bench();
        bench.server.then(short);
        bench.succeeds(&image);
        assert_eq!(bench.server.requests(), 2);
    }
    for long in [chunked(&[&image[..], b"!"].concat(), "0\r\n\r\n"), chunked(&image, "1\r\n!\r\n0\r\n\r\n")] {
        let (bench, _) = super::http::bench();
        bench.server.then(long);
        assert_eq!(bench.fails().0, Failure::DownloadSizeMismatch);
    }
    // Nobody knows the length, but the digest.
    let (mut bench, _) = super::http::bench();
    bench.artifact.size = None;
    bench.server.then(chunked(&image, "0\r\n\r\n"));
    bench.succeeds(&image);
}
