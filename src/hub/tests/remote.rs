//! Links that another process makes: as good as one's own where it is honest, and no danger where it is not.

use std::future::Future;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::super::credential::Keeper;
use super::super::keyfile::KeyFile;
use super::super::provisioning::{Enrolment, Provisioning};
use super::super::remote::{Answer, Ask};
use super::*;
use crate::secret::Guard;
use crate::wire::{self, Frames, Kind, PROTOCOL, Setup, Side};

/// A network side, for as long as it lives; and where its device side keeps what it is to keep.
struct Apart {
    directory: TempDir,
    task: JoinHandle<()>,
}

impl Apart {
    /// One that makes links as it should, for whoever `access` says.
    fn honest(access: impl Fn() -> Access + Clone + Send + 'static) -> Self {
        Self::new(move |stream| {
            let access = access.clone();
            async move {
                let Ok((mut frames, _)) = wire::accept(stream).await else { return };
                let (_, ask) = frames.receive(&[Kind::Open]).await.unwrap();
                // The device side may hang up at any moment.
                let _ = relay(frames, &ask, Ok((access(), quick()))).await;
            }
        })
    }

    /// One that says hello as it should, and then does this with what it is asked.
    fn liar<F: Future<Output = ()> + Send + 'static>(
        act: impl Fn(Frames, Ask) -> F + Clone + Send + 'static,
    ) -> Self {
        Self::new(move |stream| {
            let act = act.clone();
            async move {
                let Ok((mut frames, _)) = wire::accept(stream).await else { return };
                let ask = frames.expect(Kind::Open).await.unwrap();
                act(frames, ask).await;
            }
        })
    }

    fn new<F: Future<Output = ()> + Send + 'static>(act: impl Fn(UnixStream) -> F + Send + 'static) -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("net.sock")).unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
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

    /// A device whose network side this is.
    fn device(&self) -> Device {
        let setup = Setup { config: String::new(), floor: Timestamp(0) };
        let remote = Remote::new(Side::new(self.socket(), setup), Shelf::open(self.directory.path()));
        let (hub, port) = channels();
        let session = Session::remote(port, remote, quick(), || Timestamp(1_800_000_000_000));
        Device { hub, clock: Arc::default(), task: tokio::spawn(session.run()) }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn honest(server: &Server) -> Apart {
    let text = format!("HostName=localhost:{};DeviceId=dev1;SharedAccessKey={KEY}", server.port());
    let trust = Trust::fixed(server.trust.clone());
    Apart::honest(move || Access::new(Source::Fixed(text.parse().unwrap()), trust.clone(), None))
}

#[tokio::test]
async fn a_session_over_the_network_side_is_one_like_any_other() {
    let server = Server::start().await;
    let apart = honest(&server);
    let mut device = apart.device();
    let mut peer = server.accept().await;
    let connect = peer.greet().await;
    assert!(connect.password.ends_with("&se=1800003600"), "by the device side's clock: {}", connect.password);
    peer.give_twin(json!({"firmware": firmware("2.0.0"), "$version": 1}), json!({})).await;
    device.connected().await;
    assert_eq!(device.desired().await, "2.0.0");
    // Longer than a frame, there and back.
    let big: Vec<_> = (0..30).map(|n| format!("{n}{}", "x".repeat(3000))).collect();
    device.report(1, json!({ "a": big[..9] }));
    assert_eq!(peer.confirm().await, json!({ "a": big[..9] }));
    assert_eq!(device.delivered().await, 1);
    peer.call("reboot", "7", &json!(big).to_string()).await;
    device.call().await.send(MethodReply::unknown_method());
    peer.expect("$iothub/methods/res/404/?$rid=7").await;
    drop(peer);
    assert_eq!(device.lost().await, Lost::Closed, "the hub's doing, and said so");
    let mut peer = server.accept().await;
    peer.expect_connect().await;
    peer.write(&[0x20, 2, 0, 5]).await;
    assert_eq!(device.lost().await, Lost::Refused(5));
    let peer = server.serve(json!({}), json!({})).await;
    device.connected().await;
    device.hub.commands.shut_down().await;
    assert_eq!(peer.end().await.last(), Some(&0xe0), "it says goodbye");
}

#[tokio::test]
async fn what_came_before_the_link_was_ready_is_passed_on() {
    let server = Server::start().await;
    let apart = honest(&server);
    let mut device = apart.device();
    let mut peer = server.accept().await;
    peer.expect_connect().await;
    peer.write(&[0x20, 2, 0, 0]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(peer.expect_subscribe().await.0);
    }
    peer.grant(ids[0], 0).await;
    peer.grant(ids[1], 0).await;
    peer.call("reboot", "1", "null").await;
    peer.grant(ids[2], 0).await;
    peer.give_twin(json!({}), json!({})).await;
    device.call().await.send(MethodReply::unknown_method());
    peer.expect("$iothub/methods/res/404/?$rid=1").await;
}

#[tokio::test]
async fn a_network_side_that_dies_is_told_and_its_successor_found() {
    let server = Server::start().await;
    let first = honest(&server);
    let mut device = first.device();
    let _peer = server.serve(json!({}), json!({})).await;
    device.connected().await;
    first.task.abort();
    let lost = device.lost().await;
    assert!(matches!(&lost, Lost::Apart(words) if words == "it ended"), "{lost:?}");
    let lost = device.lost().await;
    assert!(
        lost.to_string().contains("twinboot-net.service") && lost.to_string().contains("net.sock"),
        "{lost}"
    );
    let next = honest(&server);
    std::fs::rename(next.socket(), first.socket()).unwrap();
    let _peer = server.serve(json!({}), json!({})).await;
    device.connected().await;
}

/// Whatever it says, it is a connection that failed, and the next one is made.
#[tokio::test]
async fn a_network_side_that_lies_costs_a_connection() {
    let introduction = r#""introduction":{"hub":"h","device":"d","way":"","warnings":[]}"#;
    let memory = r#""memory":{"way":null,"assigned":null,"refusals":0,"failures":0}"#;
    let opened = format!(r#"{{"outcome":{{"Ok":null}},{introduction},{memory}}}"#);
    let cases: Vec<Vec<(Kind, Vec<u8>)>> = vec![
        vec![],
        vec![(Kind::Opened, b"null".to_vec())],
        vec![(Kind::Opened, format!(r#"{{"outcome":{{"Err":"Nonsense"}},{introduction},{memory}}}"#).into())],
        vec![(Kind::Answer, opened.clone().into())],
        vec![(Kind::Bytes, vec![0x30; 100])],
        vec![(Kind::Opened, opened.clone().into()), (Kind::Lost, b"{}".to_vec())],
        vec![(Kind::Opened, opened.clone().into()), (Kind::Opened, opened.clone().into())],
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let said = Arc::new(case);
        let apart = Apart::liar(move |mut frames, _| {
            let said = said.clone();
            async move {
                for (kind, body) in said.iter() {
                    let _ = frames.send(*kind, body).await;
                }
                let _ = frames.finish().await;
            }
        });
        let mut device = apart.device();
        for _ in 0..2 {
            let lost = device.lost().await;
            assert!(matches!(lost, Lost::Apart(_)), "{number}: {lost:?}");
        }
    }
    // Numbers that no hub says, and no clock can count to: how a failed attempt ends, and what is to be remembered.
    let most = u32::MAX;
    let memory = memory.replace('0', &most.to_string());
    for (number, why) in [
        r#"{"Refused":255}"#.to_owned(),
        format!(r#"{{"Contested":{{"device":"d","times":{most}}}}}"#),
        format!(
            r#"{{"Provisioning":{{"detail":"x","retry_after":{{"secs":{},"nanos":999999999}}}}}}"#,
            u64::MAX
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let said = format!(r#"{{"outcome":{{"Err":{why}}},{introduction},{memory}}}"#);
        let lost = lost_when_told(said).await;
        assert_eq!(serde_json::to_string(&lost).unwrap(), why, "{number}");
    }
    // And how long a link lives. Whatever it says, it is one: what comes on it is read.
    for (seconds, nanos) in [(0, 0), (0, 1), (1, 0), (u64::MAX, 0), (u64::MAX, 999_999_999), (1 << 62, 0)] {
        let lives = format!(r#"{{"secs":{seconds},"nanos":{nanos}}}"#);
        let said = format!(r#"{{"outcome":{{"Ok":{lives}}},{introduction},{memory}}}"#);
        let lost = lost_when_told(said).await;
        assert!(matches!(lost, Lost::Malformed(_)), "{lives}: {lost:?}");
    }
    let too_long = format!(r#"{{"secs":{},"nanos":{most}}}"#, u64::MAX);
    let said = format!(r#"{{"outcome":{{"Ok":{too_long}}},{introduction},{memory}}}"#);
    assert!(matches!(lost_when_told(said).await, Lost::Apart(_)));
    // What may not be on an MQTT connection is the hub's fault, as far as one can tell.
    assert!(matches!(lost_when_told(opened).await, Lost::Malformed(_)));
}

/// What becomes of a link of which a device is told this, and which then carries what may not be on one.
async fn lost_when_told(opened: String) -> Lost {
    let apart = Apart::liar(move |mut frames, _| {
        let said = opened.clone();
        async move {
            frames.send(Kind::Opened, said.as_bytes()).await.unwrap();
            // The device side may have gone by now.
            let _ = frames.send(Kind::Bytes, b"\xf0\0").await;
            frames.gone().await;
        }
    });
    apart.device().lost().await
}

/// It has the keys as they were when it began, and a download may keep it for hours. Once in a while it has to begin anew,
/// and no more often: the download is broken off by it.
#[tokio::test]
async fn a_network_side_whose_credentials_are_refused_is_had_to_leave_once() {
    let words = || "x".to_owned();
    for (why, leaves) in [
        (Lost::Refused(5), 1),
        (Lost::Refused(3), 0),
        (Lost::Proxy { detail: words(), refused: true }, 1),
        (Lost::Proxy { detail: words(), refused: false }, 0),
        (Lost::Credential(words()), 1),
        (Lost::Unprovisioned { wanted: words() }, 1),
        (Lost::Provisioning { detail: words(), retry_after: None }, 1),
        (Lost::Closed, 0),
        (Lost::Unreachable { host: words(), detail: words() }, 0),
    ] {
        let (asking, left) = <(Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let (counted, said) = (left.clone(), why.clone());
        let apart = Apart::new(move |stream| {
            let (asking, left, said) = (asking.clone(), counted.clone(), said.clone());
            async move {
                let Ok((mut frames, _)) = wire::accept(stream).await else { return };
                let Ok((kind, body)) = frames.receive(&[Kind::Open, Kind::Leave]).await else { return };
                if kind == Kind::Leave {
                    // Whoever hangs up first has it end by itself, and then another one be started to be told this.
                    assert_eq!(asking.load(Ordering::Relaxed), 1);
                    left.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                let ask: Ask = serde_json::from_slice(&body).unwrap();
                let introduction = Introduction::default();
                asking.fetch_add(1, Ordering::Relaxed);
                let answer = Answer { outcome: Err(said), introduction, memory: ask.memory };
                let _ = frames.say(Kind::Opened, &answer).await;
                frames.gone().await;
                asking.fetch_sub(1, Ordering::Relaxed);
            }
        });
        let mut device = apart.device();
        for _ in 0..5 {
            assert_eq!(device.lost().await, why);
        }
        assert_eq!(left.load(Ordering::Relaxed), leaves, "{why:?}");
    }
}

#[tokio::test]
async fn another_program_is_told_by_its_version() {
    let apart = Apart::new(|stream| async move {
        let mut frames = Frames::new(stream);
        let hello = format!(r#"{{"protocol":{},"version":"9.9.9"}}"#, PROTOCOL + 1);
        let _ = frames.send(Kind::Hello, hello.as_bytes()).await;
        let _ = frames.receive(&[Kind::Hello]).await;
    });
    let lost = apart.device().lost().await.to_string();
    let other = format!("twinboot 9.9.9 (protocol {}), this is", PROTOCOL + 1);
    assert!(lost.contains(&other), "{lost}");
}

#[tokio::test]
async fn what_it_says_of_us_is_cut_to_what_can_be() {
    let apart = Apart::liar(|mut frames, ask| async move {
        let assigned = json!({"hub": "https://h", "device": "d", "asked": "00".repeat(32)});
        let mut memory = serde_json::to_value(&ask.memory).unwrap();
        memory["assigned"] = assigned;
        let answer = json!({
            "outcome": {"Err": {"Refused": 5}},
            "introduction": {
                "hub": "h\n".repeat(2000), "device": "a b", "way": "\u{1b}[31m",
                "warnings": vec!["w\r\n"; 100],
            },
            "memory": memory,
        });
        let _ = frames.say(Kind::Opened, &answer).await;
        frames.gone().await;
    });
    let mut device = apart.device();
    let HubEvent::Introduced(told) = device.event().await else { panic!() };
    assert_eq!((told.hub.len(), told.device.as_str(), told.way.as_str()), (512, "", "[31m"));
    assert_eq!(told.warnings, ["w"; 16]);
    assert_eq!(device.lost().await, Lost::Refused(5));
    assert_eq!(Shelf::open(apart.directory.path()).memory(), Memory::default(), "and nothing of it is kept");
}

#[tokio::test]
async fn what_is_to_be_remembered_goes_back_and_forth_and_is_kept_here() {
    let cloud = ways::Cloud::start().await;
    let (enrolment, key) = (cloud.enrolment(), cloud.key_file());
    let trust = Trust::fixed(cloud.server.trust.clone());
    let honest = move || {
        let keeper: Box<dyn Keeper> = Box::new(KeyFile::of_device(key.clone(), Guard::default()));
        let provisioning = Provisioning::new(Enrolment { ..enrolment.clone() }, keeper);
        Access::new(Source::Provisioned(Box::new(provisioning)), trust.clone(), None)
    };
    let apart = Apart::honest(honest.clone());
    let mut device = apart.device();
    cloud.assign("dev-7").await;
    let mut peer = cloud.server.accept().await;
    assert_eq!(peer.greet().await.client, "dev-7");
    peer.give_twin(json!({}), json!({})).await;
    device.connected().await;
    drop(peer);
    // The next link is another one, of a network side that remembers nothing, and goes straight to the hub.
    assert_eq!(cloud.server.accept().await.greet().await.client, "dev-7");
    // As does that of a device side that was started anew, with another network side.
    device.task.abort();
    let other = Apart::honest(honest);
    for entry in std::fs::read_dir(apart.directory.path()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), other.directory.path().join(entry.file_name())).unwrap();
        }
    }
    let _device = other.device();
    assert_eq!(cloud.server.accept().await.greet().await.client, "dev-7");
}

#[test]
fn what_is_said_on_the_wire_is_what_is_documented() {
    let answer = Answer {
        outcome: Err(Lost::Silent("a ping".into())),
        introduction: Introduction::default(),
        memory: Memory::default(),
    };
    let text = serde_json::to_string(&answer).unwrap();
    let again: Answer = serde_json::from_str(&text).unwrap();
    assert_eq!(again.outcome, answer.outcome);
    assert!(
        serde_json::from_str::<Ask>(r#"{"now":1,"memory":{"refusals":0,"failures":0},"more":1}"#).is_err()
    );
}
