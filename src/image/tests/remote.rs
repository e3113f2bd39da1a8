//! Requests that another process makes, and what becomes of a download whose network side is not to be trusted.
//!
//! `TWINBOOT_SIDES=two` has every other test of this directory go this way as well.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::http::bench;
use super::server::{Identity, Script};
use super::*;
use crate::model::Timestamp;
use crate::wire::{self, Frames, Kind, Setup, Side};

/// A network side, for as long as it lives.
pub(super) struct Apart {
    directory: TempDir,
    task: JoinHandle<()>,
}

impl Apart {
    /// One that serves as it should.
    pub(super) fn honest(runtime: &Handle, direct: Direct) -> Self {
        Self::new(runtime, move |stream| {
            let direct = direct.clone();
            async move {
                let Ok((mut frames, _)) = wire::accept(stream).await else { return };
                let (_, asked) = frames.receive(&[Kind::Get]).await.unwrap();
                // The device side may hang up at any moment.
                let _ = serve(frames, &asked, Ok(direct)).await;
            }
        })
    }

    /// One that does this with every connection.
    fn new<F: Future<Output = ()> + Send + 'static>(
        runtime: &Handle,
        act: impl Fn(UnixStream) -> F + Send + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("net.sock");
        let bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        bound.set_nonblocking(true).unwrap();
        let task = runtime.spawn(async move {
            let listener = UnixListener::from_std(bound).unwrap();
            // Those that are being served die with it.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(act(stream));
            }
        });
        Self { directory, task }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("net.sock")
    }

    pub(super) fn net(&self, runtime: Handle) -> Net {
        let setup = Setup { config: String::new(), floor: Timestamp(0) };
        Net::remote(Side::new(self.socket(), setup), runtime)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The same bench with a network side, which has to be kept.
fn apart(mut bench: Bench) -> (Bench, Apart) {
    let apart = Apart::honest(&bench.server.runtime(), bench.direct.clone());
    bench.net = apart.net(bench.server.runtime());
    (bench, apart)
}

/// The same bench with a network side that says hello as it should, and then does this.
fn liar<F: Future<Output = ()> + Send + 'static>(
    bench: &mut Bench,
    act: impl Fn(Frames, u32) -> F + Clone + Send + 'static,
) -> Apart {
    let times = Arc::new(AtomicU32::new(0));
    let runtime = bench.server.runtime();
    let apart = Apart::new(&runtime, move |stream| {
        let (act, time) = (act.clone(), times.fetch_add(1, Ordering::Relaxed));
        async move {
            let (mut frames, _) = wire::accept(stream).await.unwrap();
            frames.receive(&[Kind::Get]).await.unwrap();
            act(frames, time).await;
        }
    });
    bench.net = apart.net(runtime);
    apart
}

#[test]
fn a_download_through_the_network_side_is_one_like_any_other() {
    let (bench, image) = bench();
    let (bench, _apart) = apart(bench);
    for len in [0, 1, 500_000, 7] {
        bench.server.then(Script::Cut(len));
    }
    let seen = bench.succeeds(&image);
    assert_eq!((seen.fetched_twice, seen.fetched), (0, image.len() as u64));
    let log = bench.server.log();
    assert_eq!(log.len(), 5);
    assert_eq!((log[4].range(), log[4].header("if-range")), (Some(500_008), Some("\"one\"")));
}

#[test]
fn what_is_wrong_is_told_in_kind_and_words() {
    let (here, _) = bench();
    let (there, _apart) = apart(bench().0);
    for script in [Script::Status(404, ""), Script::Status(503, "retry-after: 0"), Script::Cut(0)] {
        let told = [&here, &there].map(|bench| {
            for _ in 0..20 {
                bench.server.then(script.clone());
            }
            let (failure, words) = bench.fails();
            (failure, words.replace(&bench.server.port().to_string(), "PORT"))
        });
        assert_eq!(told[0], told[1]);
    }
    let (mut stranger, _) = bench();
    let nobody = crate::tls::Trust::fixed(bench().0.server.tls());
    stranger.direct = Direct::new(nobody, None, stranger.settings.connect_timeout);
    let (stranger, _apart) = apart(stranger);
    let (failure, words) = stranger.fails();
    assert_eq!(failure, Failure::DownloadTls);
    assert!(words.contains("invalid peer certificate"), "{words}");
}

/// What is told is told in frames, and those are not as long as what a server may say.
#[test]
fn what_is_told_at_length_is_told_all_the_same() {
    let names: Vec<_> = (0..400).map(|number| format!("host-{number}.devices.example.com")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let stranger = Bench::with_server(&image(1000), Identity::of(&names));
    let (stranger, _apart) = apart(stranger);
    let (failure, words) = stranger.fails();
    assert_eq!(failure, Failure::DownloadTls, "{words}");
    assert!(words.contains("not valid for name") && words.len() < 2000, "{words}");
    assert_eq!(stranger.progress.snapshot().connections, stranger.settings.attempts);

    let (bench, image) = bench();
    let (bench, _apart) = apart(bench);
    bench.server.without_etag();
    let long = "x".repeat(10_000);
    let lines = ["etag", "last-modified", "retry-after", "content-type", "date"];
    bench.server.always_say(&lines.map(|name| format!("{name}: {long}\r\n")).concat());
    assert_eq!(bench.succeeds(&image).connections, 1);
}

#[test]
fn a_network_side_that_dies_costs_a_connection() {
    let (mut bench, image) = bench();
    bench.server.then(Script::StallAfter(400_000));
    let runtime = bench.server.runtime();
    let dying = Apart::honest(&runtime, bench.direct.clone());
    bench.net = dying.net(runtime.clone());
    let (progress, direct, socket) = (bench.progress.clone(), bench.direct.clone(), dying.socket());
    let doom = std::thread::spawn(move || {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while progress.snapshot().fetched < 400_000 {
            assert!(std::time::Instant::now() < deadline, "the download stands still");
            std::thread::sleep(Duration::from_millis(1));
        }
        dying.task.abort();
        // The next one takes its place.
        let next = Apart::honest(&runtime, direct);
        std::fs::rename(next.socket(), &socket).unwrap();
        (dying, next)
    });
    let seen = bench.succeeds(&image);
    drop(doom.join().unwrap());
    assert_eq!(seen.fetched, image.len() as u64);
    assert_eq!(bench.server.log()[1].range(), Some(400_000));
}

/// The network side has the proxy's password as it was when it began, and the link to the hub may keep it for ever.
#[test]
fn a_network_side_whose_password_the_proxy_does_not_take_is_had_to_leave() {
    let (mut bench, image) = bench();
    let (runtime, direct, left) = (bench.server.runtime(), bench.direct.clone(), Arc::new(AtomicU32::new(0)));
    let counted = left.clone();
    let apart = Apart::new(&runtime, move |stream| {
        let (direct, left) = (direct.clone(), counted.clone());
        async move {
            let Ok((mut frames, _)) = wire::accept(stream).await else { return };
            let Ok((kind, asked)) = frames.receive(&[Kind::Get, Kind::Leave]).await else { return };
            if kind == Kind::Leave {
                left.fetch_add(1, Ordering::Relaxed);
            } else if left.load(Ordering::Relaxed) > 0 {
                let _ = serve(frames, &asked, Ok(direct)).await;
            } else {
                frames
                    .send(Kind::Failed, br#"{"Proxy":"the proxy wants another password (407)"}"#)
                    .await
                    .unwrap();
                frames.gone().await;
            }
        }
    });
    bench.net = apart.net(runtime);
    let seen = bench.succeeds(&image);
    assert_eq!((seen.connections, left.load(Ordering::Relaxed)), (2, 1));
}

/// Whatever it says, it is an attempt that failed; and once it is honest, the download goes on.
#[test]
fn a_network_side_that_lies_delays_and_nothing_else() {
    let (mut bench, image) = bench();
    let (whole, total) = (image.clone(), image.len());
    let _apart = liar(&mut bench, move |mut frames, time| {
        let image = whole.clone();
        async move {
            let good = format!(r#"{{"status":200,"headers":[],"length":{total}}}"#);
            let heads = [
                "",
                "null",
                r#"{"status":200}"#,
                r#"{"status":99,"headers":[],"length":null}"#,
                r#"{"status":200,"headers":[["set-cookie","x"]],"length":null}"#,
                r#"{"status":200,"headers":[["etag","a\nb"]],"length":null}"#,
                r#"{"status":200,"headers":[],"length":-1}"#,
            ];
            match (heads.get(time as usize), time) {
                (Some(head), _) => drop(frames.send(Kind::Answer, head.as_bytes()).await),
                (None, 7) => drop(frames.send(Kind::Lost, b"{}").await),
                (None, 8) => drop(frames.send(Kind::Failed, b"{}").await),
                (None, 9) => {
                    frames.send(Kind::Answer, good.as_bytes()).await.unwrap();
                    drop(frames.send(Kind::Opened, b"{}").await);
                }
                (None, 10) => {
                    // Nothing at all after the head.
                    frames.send(Kind::Answer, good.as_bytes()).await.unwrap();
                }
                (None, _) => {
                    frames.send(Kind::Answer, good.as_bytes()).await.unwrap();
                    for piece in image.chunks(60_000) {
                        if frames.send(Kind::Bytes, piece).await.is_err() {
                            return;
                        }
                    }
                    let _ = frames.send(Kind::End, b"").await;
                }
            }
        }
    });
    bench.settings.attempts = 20;
    let seen = bench.succeeds(&image);
    assert_eq!(seen.connections, 12);
}

#[test]
fn other_bytes_than_those_that_are_wanted_are_not_taken_for_the_image() {
    let (mut bench, image) = bench();
    let total = image.len();
    let _apart = liar(&mut bench, move |mut frames, _| async move {
        let head = format!(r#"{{"status":200,"headers":[],"length":{total}}}"#);
        frames.send(Kind::Answer, head.as_bytes()).await.unwrap();
        // For ever, and not what was announced.
        while frames.send(Kind::Bytes, &[7; 50_000]).await.is_ok() {}
    });
    let (failure, words) = bench.fails();
    assert_eq!(failure, Failure::DownloadSizeMismatch, "{words}");
}

#[test]
fn a_network_side_that_is_silent_or_not_there_is_told() {
    let (mut bench, _) = bench();
    bench.settings.idle_timeout = Duration::from_millis(50);
    bench.settings.connect_timeout = Duration::from_millis(50);
    bench.settings.attempts = 2;
    let silent = liar(&mut bench, |mut frames, _| async move { frames.gone().await });
    let (failure, words) = bench.fails();
    assert_eq!(failure, Failure::DownloadUnreachable);
    assert!(words.contains("was silent"), "{words}");
    std::fs::remove_file(silent.socket()).unwrap();
    let (failure, words) = bench.fails();
    assert_eq!(failure, Failure::DownloadUnreachable);
    assert!(words.contains("twinboot-net.service") && words.contains("net.sock"), "{words}");
}

/// One after the other, and at the latest in the fifth round: other things go on on this machine.
#[test]
#[ignore = "deep: fetches 256 MiB and more"]
fn deep_the_way_through_the_network_side_is_not_the_bottleneck() {
    const LEN: usize = 128 << 20;
    let image = image(LEN);
    let rate = |is_apart: bool| {
        let bench = Bench::new(&image, LEN as u64);
        let (bench, _apart) = if is_apart { Some(apart(bench)).unzip() } else { (Some(bench), None) };
        let began = std::time::Instant::now();
        bench.unwrap().write().unwrap();
        (LEN as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64()) as u64
    };
    let mut rounds = (0..5).map(|_| (rate(false), rate(true)));
    let is_fair = |(here, there): (u64, u64)| {
        println!("{here} MiB/s by one process, {there} MiB/s through the network side");
        there * 2 > here
    };
    assert!(rounds.any(is_fair), "the network side halves the rate, and more, in each round");
}
