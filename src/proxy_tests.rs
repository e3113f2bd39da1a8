//! A proxy played byte by byte.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio::io::duplex;

use super::*;

fn proxy(credentials: Option<&Path>, exceptions: &[&str]) -> Proxy {
    let exceptions = exceptions.iter().map(|text| text.parse().unwrap()).collect();
    let address = "http://proxy.example:3128".parse().unwrap();
    Proxy::new(address, credentials.map(Path::to_owned), Guard::default(), exceptions)
}

fn file(directory: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = directory.path().join("proxy-credentials");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// What is asked of a proxy that gives `answer`, and what becomes of it.
async fn ask(proxy: &Proxy, host: &str, answer: &[u8]) -> (String, Result<(), Error>, Vec<u8>) {
    let (mut ours, mut theirs) = duplex(64 * 1024);
    theirs.write_all(answer).await.unwrap();
    let result = proxy.tunnel(&mut ours, host, 8883).await;
    let mut request = vec![0; 4096];
    let length = theirs.read(&mut request).await.unwrap();
    drop(theirs);
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).await.unwrap();
    (String::from_utf8(request[..length].to_vec()).unwrap(), result, rest)
}

#[tokio::test]
async fn a_tunnel_is_asked_for_and_what_follows_is_left_alone() {
    let answer = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n\x16\x03\x03";
    let (request, result, rest) = ask(&proxy(None, &[]), "hub.example", answer).await;
    result.unwrap();
    assert_eq!(request, "CONNECT hub.example:8883 HTTP/1.1\r\nHost: hub.example:8883\r\n\r\n");
    assert_eq!(rest, b"\x16\x03\x03");
    let (request, result, _) = ask(&proxy(None, &[]), "fd00::1", b"HTTP/1.0 200 OK\r\n\r\n").await;
    result.unwrap();
    assert!(request.starts_with("CONNECT [fd00::1]:8883 HTTP/1.1\r\n"), "{request}");
}

/// RFC 7617's own example.
#[tokio::test]
async fn user_and_password_are_sent_and_read_anew() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = proxy(Some(&file(&directory, "Aladdin:open sesame\n")), &[]);
    let ok = b"HTTP/1.1 200 OK\r\n\r\n";
    let (request, result, _) = ask(&proxy, "h", ok).await;
    result.unwrap();
    assert!(request.contains("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), "{request}");
    file(&directory, "a:b");
    assert!(ask(&proxy, "h", ok).await.0.contains("Basic YTpi\r\n"));
}

#[tokio::test]
async fn refusals_name_the_remedy_and_never_the_password() {
    let directory = tempfile::tempdir().unwrap();
    let with = proxy(Some(&file(&directory, "user:hunter2")), &[]);
    let without = proxy(None, &[]);
    for (proxy, answer, needles) in [
        (&without, &b"HTTP/1.1 407 Authenticate\r\n\r\n"[..], ["proxy.credentials_file", "0600"]),
        (&with, b"HTTP/1.1 407 Authenticate\r\n\r\n", ["proxy.credentials_file", "does not take"]),
        (&with, b"HTTP/1.1 403 Forbidden\r\n\r\n", ["403 for h:8883", "websocket"]),
        (&with, b"HTTP/1.1 502 Bad gateway\r\n\r\n", ["502", "does not reach"]),
        (&with, b"SSH-2.0-OpenSSH\r\n", ["proxy.example:3128", "proxy.url"]),
        (&with, b"HTTP/1.1 x\r\n\r\n", ["proxy.example:3128", "proxy.url"]),
    ] {
        let error = ask(proxy, "h", answer).await.1.unwrap_err().to_string();
        assert!(needles.iter().all(|needle| error.contains(needle)), "{error}");
        assert!(!error.contains("hunter2") && !format!("{proxy:?}").contains("hunter2"), "{error}");
    }
    let endless = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(4000)].concat();
    assert!(matches!(ask(&with, "h", &endless).await.1, Err(Error::NoProxy(_))));
}

#[tokio::test]
async fn credentials_are_guarded_and_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory, "user:hunter2");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = proxy(Some(&path), &[]).authorization().unwrap_err().to_string();
    assert!(error.contains("chmod 600") && !error.contains("hunter2"), "{error}");
    for text in ["", "hunter2", ":hunter2", "user:hunt\ner2", "user:hunt\u{0}er2"] {
        let error = proxy(Some(&file(&directory, text)), &[]).authorization().unwrap_err().to_string();
        assert!(error.contains("user:password") && !error.contains("hunt"), "{error}");
    }
    assert!(proxy(Some(&file(&directory, "user:")), &[]).authorization().unwrap().is_some());
}

#[test]
fn addresses_are_plain() {
    let read = |text: &str| text.parse::<Address>().map(|it| (it.host.clone(), it.port, it.to_string()));
    assert_eq!(read("http://p:1/"), Ok(("p".into(), 1, "http://p:1".into())));
    assert_eq!(read("http://[::1]:3128"), Ok(("::1".into(), 3128, "http://[::1]:3128".into())));
    for text in [
        "p:1",
        "https://p:1",
        "http://p",
        "http://p:0",
        "http://p:x",
        "http://:1",
        "http://p/x:1",
        "http://[x]:1",
    ] {
        assert!(read(text).unwrap_err().contains("http://name:port"), "{text}");
    }
    assert!(read("http://u:hunter2@p:1").unwrap_err().contains("proxy.credentials_file"));
}

#[test]
fn exceptions_are_names_with_all_below_them_addresses_and_ranges() {
    let proxy = proxy(
        None,
        &[
            "example.com",
            ".Local",
            "*.corp",
            "rooted.example.",
            "10.0.0.0/8",
            "192.0.2.7",
            "fd00::/8",
            "0.0.0.0/32",
        ],
    );
    for host in [
        "example.com",
        "a.Example.com",
        "x.local",
        "a.corp",
        "a.rooted.example",
        "10.255.0.1",
        "192.0.2.7",
        "fd12::1",
        "[fd12::1]",
        "0.0.0.0",
    ] {
        assert!(!proxy.serves(host), "{host}");
    }
    for host in [
        "notexample.com",
        "example.com.evil",
        "11.0.0.1",
        "192.0.2.8",
        "fe80::1",
        "10.example.org",
        "0.0.0.1",
    ] {
        assert!(proxy.serves(host), "{host}");
    }
    for text in [
        "",
        "10.0.0.0/33",
        "10.0.0.0/x",
        "a b",
        "https://x",
        "fd00::/129",
        "*..corp",
        "..corp",
        "a..corp",
        "corp..",
        ".",
        "*.",
    ] {
        assert!(text.parse::<Exception>().is_err(), "{text}");
    }
    let all: Exception = "0.0.0.0/0".parse().unwrap();
    assert!(all.covers("255.1.2.3") && !all.covers("name"));
}
