#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::client::{self, Client};
use super::proto::{self, Response};
use super::server::{Error, Server, Settings, Wiring};
use crate::model::{Artifact, Granted, Install, Location, Origin, Request, Sha256, Terms};

/// A daemon in a thread of its own, whose engine answers every request with its name.
struct Daemon {
    directory: tempfile::TempDir,
    status: watch::Sender<Value>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { socket: directory.path().join("s"), group: "no-such-group".into() };
        let (status, receiver) = watch::channel(json!({"phase": "idle"}));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (up, is_up) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            block_on(async {
                let server = Server::bind(&settings).await.unwrap();
                up.send(()).unwrap();
                let (calls, mut engine) = mpsc::channel::<super::server::Call>(1);
                let (keeper, mut reloads) = mpsc::channel::<super::server::Call>(1);
                let wiring = Wiring { engine: calls, keeper, status: receiver };
                let reload = async {
                    while let Some((request, _, reply)) = reloads.recv().await {
                        assert_eq!(request, Request::Reload);
                        let _ = reply.send(Ok(Granted::Done("reloaded".into())));
                    }
                };
                let answer = async {
                    while let Some((request, peer, reply)) = engine.recv().await {
                        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
                        // An engine that drops the reply is one that is going down.
                        if request != Request::Reboot {
                            let _ = reply.send(Ok(Granted::Done(format!("{request:?}"))));
                        }
                    }
                };
                tokio::select! {
                    _ = server.serve(wiring, std::future::pending()) => {}
                    () = reload => {}
                    () = answer => {}
                    _ = stopped => {}
                }
            });
        });
        is_up.recv().unwrap();
        Self { directory, status, stop: Some(stop), thread: Some(thread) }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    fn raw(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        BufReader::new(stream)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        let result = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || result.is_ok(), "the daemon panicked");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn code(line: &str) -> String {
    let response: Response = serde_json::from_str(line).expect(line);
    response.error.unwrap().code
}

/// Sends bytes and reads what comes back until the other side hangs up.
fn exchange(daemon: &Daemon, bytes: &[u8]) -> String {
    let mut stream = daemon.raw();
    // It may hang up in the middle of too much.
    let _ = stream.get_ref().write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn requests_survive_the_wire() {
    let file = Artifact {
        version: "2.8.5".parse().ok(),
        location: Location::File("/tmp/i".into()),
        sha256: Some(Sha256::of(b"x")),
        size: Some(5),
    };
    let url = Artifact {
        location: Location::Url("https://h/x?sig=SECRET".parse().unwrap()),
        version: None,
        sha256: None,
        size: None,
    };
    let install = |artifact| Install::new(artifact, Origin::Local, None);
    let request = |install| Request::Install(Box::new(install));
    assert!(!format!("{:?}", install(url.clone())).contains("SECRET"));
    let hold = Terms { hold: true, ..Terms::default() };
    for request in [
        Request::Apply,
        Request::Cancel,
        Request::Confirm,
        Request::FactoryReset,
        request(install(file)),
        request(install(url.clone())),
        request(install(url).on(hold)),
        Request::ReadProperties(Vec::new()),
        Request::ReadProperties(vec!["uptime".into()]),
        Request::WriteProperties([("limit".to_owned(), json!(4.5))].into()),
        Request::Reboot,
        Request::Retry,
        Request::Rollback,
        Request::Status,
        Request::Watch,
    ] {
        let line = proto::to_line(&request);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(proto::parse(&line), Ok(request));
    }
    assert_eq!(proto::parse(br#"{"request":"status"}"#), Ok(Request::Status));
}

#[test]
fn what_is_not_a_request_is_refused_with_a_reason() {
    for (line, code, words) in [
        ("", "request.invalid", "EOF"),
        ("[]", "request.invalid", ""),
        ("null", "request.invalid", ""),
        ("{\"request\":\"explode\"}", "request.invalid", "unknown variant"),
        ("{\"request\":\"status\",\"x\":1}", "request.invalid", "unknown field"),
        ("{\"request\":\"cancel\",\"size\":1}", "request.invalid", "only install"),
        ("{\"request\":\"apply\",\"hold\":true}", "request.invalid", "only install"),
        ("{\"request\":\"status\",\"names\":[]}", "request.invalid", "only read-properties"),
        ("{\"request\":\"status\",\"values\":{}}", "request.invalid", "only write-properties"),
        ("{\"request\":\"write-properties\",\"values\":{}}", "request.invalid", "needs values"),
        ("{\"request\":\"read-properties\",\"names\":\"x\"}", "request.invalid", "invalid type"),
        ("{\"request\":\"install\"}", "request.invalid", "either url or file"),
        ("{\"request\":\"install\",\"url\":\"https://h/\",\"file\":\"/x\"}", "request.invalid", "either"),
        ("{\"request\":\"install\",\"file\":\"x\"}", "request.invalid", "absolute"),
        ("{\"request\":\"install\",\"url\":\"http://h/\"}", "request.insecure-uri", "Insecure package URI"),
        ("{\"request\":\"install\",\"url\":\"https://h/\",\"sha256\":\"ab\"}", "request.invalid", "64 hex"),
        ("{\"request\":\"install\",\"url\":\"https://h/\",\"size\":-1}", "request.invalid", "invalid value"),
    ] {
        let reason = proto::parse(line.as_bytes()).expect_err(line);
        assert_eq!(reason.failure.code(), code, "{line}");
        assert!(reason.detail.contains(words), "{reason}");
    }
}

#[test]
fn status_and_requests_are_answered() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let status = client.ask(&Request::Status).unwrap();
    assert_eq!(status, Response::status(json!({"phase": "idle"})));
    assert_eq!(client.ask(&Request::Cancel).unwrap(), Response::done("Cancel"));
    let fault = client.ask(&Request::Reboot).unwrap().error.unwrap();
    assert_eq!(fault.code, "control.stopping");
    daemon.status.send(json!({"phase": "downloading"})).unwrap();
    assert_eq!(client.ask(&Request::Status).unwrap().status.unwrap()["phase"], "downloading");
}

#[test]
fn a_watcher_hears_every_change_until_the_daemon_goes() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    assert_eq!(client.ask(&Request::Watch).unwrap().status.unwrap()["phase"], "idle");
    for n in 0..3 {
        daemon.status.send(json!({ "n": n })).unwrap();
        assert_eq!(client.next_change().unwrap().status.unwrap()["n"], n);
    }
    drop(daemon);
    assert!(matches!(client.next_change(), Err(client::Error::Lost(_))));
}

#[test]
fn p114_junk_and_floods_are_answered_and_dropped_and_the_daemon_goes_on() {
    let daemon = Daemon::start();
    for junk in [b"\n".as_slice(), b"\0\xff\xfe\n", b"GET / HTTP/1.1\r\n\r\n", b"{\"request\":\n"] {
        assert_eq!(code(&exchange(&daemon, junk)), "request.invalid");
    }
    let nested = [vec![b'['; 4000], b"\n".to_vec()].concat();
    assert_eq!(code(&exchange(&daemon, &nested)), "request.invalid");
    let flood = exchange(&daemon, &vec![b'x'; 1 << 20]);
    // Its answer may be lost in the flood that is still on its way; what counts is that it is over.
    assert!(flood.is_empty() || code(&flood) == "control.too-long", "{flood}");
    let long = [vec![b' '; 8 * 1024 + 1], b"\n".to_vec()].concat();
    assert_eq!(code(&exchange(&daemon, &long)), "control.too-long");
    assert!(daemon.client().ask(&Request::Status).unwrap().ok);
}

#[test]
fn the_longest_address_fits_into_a_request() {
    let daemon = Daemon::start();
    let url = format!("https://h/{}", "x".repeat(4086));
    let location = Location::Url(url.parse().unwrap());
    let artifact = Artifact {
        version: "9".repeat(64).parse().ok(),
        location,
        sha256: Some(Sha256::of(b"")),
        size: Some(u64::MAX),
    };
    assert!(
        daemon
            .client()
            .ask(&Request::Install(Box::new(Install::new(artifact, Origin::Local, None))))
            .unwrap()
            .ok
    );
}

#[test]
fn p114_half_a_request_is_given_up_after_five_seconds() {
    let daemon = Daemon::start();
    let began = Instant::now();
    let mut silent = daemon.raw();
    assert_eq!(code(&exchange(&daemon, b"{\"request\":")), "control.too-slow");
    assert!(began.elapsed() >= Duration::from_secs(5));
    let mut answer = String::new();
    silent.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "", "one that never asks is just dropped");
    assert!(began.elapsed() < Duration::from_secs(25));
}

#[test]
fn p114_a_crowd_is_turned_away_and_the_daemon_stays_reachable() {
    let daemon = Daemon::start();
    // We are root or the daemon's own user here, so ours is the larger limit.
    let crowd: Vec<_> = (0..12).map(|_| daemon.raw()).collect();
    let mut refused = 0;
    for _ in 0..88 {
        let mut line = String::new();
        daemon.raw().read_line(&mut line).unwrap();
        assert_eq!(code(&line), "control.busy");
        refused += 1;
    }
    assert_eq!(refused, 88);
    drop(crowd);
    let began = Instant::now();
    while daemon.client().ask(&Request::Status).map_or(true, |response| !response.ok) {
        assert!(began.elapsed() < Duration::from_secs(20), "still busy");
    }
}

#[test]
fn a_watcher_that_does_not_read_is_dropped() {
    let daemon = Daemon::start();
    daemon.status.send(json!({ "big": "x".repeat(1 << 20) })).unwrap();
    let stream = daemon.raw();
    stream.get_ref().write_all(&proto::to_line(&Request::Watch)).unwrap();
    // Without this our own writing would wait for the one who does not read it.
    stream.get_ref().set_nonblocking(true).unwrap();
    let began = Instant::now();
    let hung_up = || {
        let result = stream.get_ref().write_all(b" ");
        result.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    while !hung_up() {
        assert!(began.elapsed() < Duration::from_secs(25), "still connected");
        assert!(daemon.client().ask(&Request::Cancel).unwrap().ok);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn bind(path: &Path, group: &str) -> Result<Server, Error> {
    let settings = Settings { socket: path.to_owned(), group: group.into() };
    block_on(Server::bind(&settings))
}

#[test]
fn p114_the_socket_is_for_root_and_the_group_and_goes_with_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/s");
    let us = rustix::process::getegid().as_raw();
    let group = nix::unistd::Group::from_gid(us.into()).unwrap().unwrap().name;
    let server = bind(&path, &group).unwrap();
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (0o660, us));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no other name is left");
    drop(server);
    assert!(!path.exists());
}

#[test]
fn p115_what_is_in_the_way_is_never_followed_or_destroyed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "precious").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink(at("file"), at("symlink")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    for name in ["file", "directory", "symlink", "dangling"] {
        assert!(matches!(bind(&at(name), "x"), Err(Error::InTheWay { .. })), "{name}");
    }
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");
    assert!(fs::symlink_metadata(at("symlink")).unwrap().is_symlink() && !at("nowhere").exists());

    // A socket whose daemon is gone is replaced, one with a daemon behind it is not.
    drop(UnixListener::bind(at("s")).unwrap());
    let server = bind(&at("s"), "x").unwrap();
    assert!(matches!(bind(&at("s"), "x"), Err(Error::InUse { .. })));
    drop(server);

    // One that took our name meanwhile is not removed with us.
    let server = bind(&at("s"), "x").unwrap();
    fs::remove_file(at("s")).unwrap();
    let _other = UnixListener::bind(at("s")).unwrap();
    drop(server);
    assert!(at("s").exists());
}

#[test]
fn p115_a_directory_that_others_can_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = bind(&directory.path().join("s"), "x").unwrap_err();
    assert!(matches!(error, Error::UnsafeDirectory { .. }), "{error}");
    let error = bind(&directory.path().join("a/b/s"), "x").unwrap_err();
    assert!(matches!(error, Error::Directory { .. }), "{error}");
}

#[test]
fn an_absent_daemon_is_an_error_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let error = Client::connect(&directory.path().join("s")).unwrap_err();
    assert!(error.remedy().contains("systemctl status twinboot"));
    let path = directory.path().join("garbled");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"hello\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let error = Client::connect(&path).unwrap().ask(&Request::Status).unwrap_err();
    assert!(matches!(error, client::Error::Garbled(_)), "{error}");
    thread.join().unwrap();
}
