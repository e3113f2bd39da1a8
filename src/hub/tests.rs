//! The session over real sockets and TLS, against a hub that the test plays packet by packet.

#![allow(clippy::unwrap_used)]

mod chaos;
mod cloud;
mod desk;
pub(crate) mod dice;
mod hostile;
mod player;
mod remote;
mod server;
mod soak;
mod ways;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use server::{Connect, Peer, Server};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::model::{Request, Timestamp, Vouching};
use crate::tls::Trust;

const LAX: Vouching = Vouching { signed: false, undigested: true };

const KEY: &str = "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=";
const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const LONG: Duration = Duration::from_secs(60);
const HANGS: Duration = Duration::from_secs(10);

/// A running session and the engine's end of it.
struct Device {
    hub: Hub,
    clock: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

fn quick() -> Settings {
    let moment = [Duration::from_millis(1), Duration::from_millis(5)];
    Settings {
        backoff: moment,
        slow_backoff: moment,
        contested_wait: Duration::from_millis(20),
        attempts_an_hour: u32::MAX,
        report_interval: Duration::ZERO,
        ..Settings::default()
    }
}

impl Device {
    fn start(server: &Server, settings: Settings) -> Self {
        let text = format!("HostName=localhost:{};DeviceId=dev1;SharedAccessKey={KEY}", server.port());
        let (hub, port) = channels();
        let clock = Arc::new(AtomicU64::new(1_800_000_000_000));
        let hands = clock.clone();
        let trust = Trust::fixed(server.trust.clone());
        let access = Access::new(Source::Fixed(text.parse().unwrap()), trust, None);
        let session = Session::new(port, access, settings, move || Timestamp(hands.load(Ordering::Relaxed)));
        Self { hub, clock, task: tokio::spawn(session.run()) }
    }

    async fn event(&mut self) -> HubEvent {
        timeout(HANGS, self.hub.events.recv()).await.expect("an event").unwrap()
    }

    /// The next thing said about the connection.
    async fn lost(&mut self) -> Lost {
        loop {
            if let HubEvent::Lost { why, .. } = self.event().await {
                return why;
            }
        }
    }

    async fn connected(&mut self) {
        while !matches!(self.event().await, HubEvent::Connected) {}
    }

    /// The version in the next wish, or "absent", or "invalid".
    async fn desired(&mut self) -> String {
        loop {
            if let HubEvent::Desired(parsed) = self.event().await {
                return match parsed.desired {
                    Desired::Absent => "absent".to_owned(),
                    Desired::Wish(install) => install.artifact.version.unwrap().to_string(),
                    Desired::Invalid { .. } => "invalid".to_owned(),
                };
            }
        }
    }

    /// The next method call's replier.
    async fn call(&mut self) -> Replier {
        loop {
            if let HubEvent::Method { reply, .. } = self.event().await {
                return reply;
            }
        }
    }

    async fn delivered(&mut self) -> u64 {
        loop {
            if let HubEvent::ReportDelivered(generation) = self.event().await {
                return generation;
            }
        }
    }

    fn report(&self, generation: u64, full: Value) {
        let Value::Object(full) = full else { panic!() };
        self.hub.commands.report(Report { generation, full, minimal: None, urgent: true });
    }
}

fn firmware(version: &str) -> Value {
    json!({"fwVersion": version, "fwPackageURI": "https://h/fw", "fwPackageCheckValue": DIGEST})
}

#[tokio::test]
async fn it_greets_subscribes_waits_for_every_grant_and_only_then_asks_for_the_twin() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let mut peer = server.accept().await;
    let connect = peer.expect_connect().await;
    assert_eq!((connect.flags, connect.keep_alive, connect.client.as_str()), (0xc2, 240, "dev1"));
    let kind = concat!("twinboot%2F", env!("CARGO_PKG_VERSION"));
    assert_eq!(connect.username, format!("localhost/dev1/?api-version=2021-04-12&DeviceClientType={kind}"));
    assert!(connect.password.starts_with("SharedAccessSignature sr=localhost%2Fdevices%2Fdev1&sig="));
    assert!(connect.password.ends_with("&se=1800003600"), "{}", connect.password);
    peer.write(&[0x20, 2, 0, 0]).await;
    let mut filters = Vec::new();
    for _ in 0..3 {
        filters.push(peer.expect_subscribe().await);
    }
    let names: Vec<_> = filters.iter().map(|(_, filter)| filter.as_str()).collect();
    assert_eq!(
        names,
        ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"]
    );
    peer.grant(filters[2].0, 1).await;
    peer.grant(filters[0].0, 0).await;
    peer.call("stranger", "1", "null").await;
    peer.hears_nothing().await;
    peer.grant(filters[1].0, 1).await;
    peer.give_twin(json!({"firmware": firmware("2"), "$version": 3}), json!({})).await;
    assert!(
        peer.expect("$iothub/methods/res/404/?$rid=1").await.1.contains("Unknown method"),
        "it came early"
    );
    device.connected().await;
    assert_eq!(device.desired().await, "2");
}

#[tokio::test]
async fn notifications_pass_the_gate_over_the_wire_and_at_least_once_is_acknowledged() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let mut peer = server.serve(json!({"firmware": firmware("2"), "$version": 3}), json!({})).await;
    assert_eq!(device.desired().await, "2");
    peer.desire(2, json!({"firmware": firmware("1")})).await;
    let topic = "$iothub/twin/PATCH/properties/desired/?$version=4";
    let patch = json!({"firmware": firmware("4"), "$version": 4}).to_string();
    for first in [0x32, 0x3a, 0x3a] {
        peer.publish(first, topic, Some(300), patch.as_bytes()).await;
        assert_eq!(peer.read().await, (0x40, vec![1, 44]), "every copy is acknowledged");
    }
    assert_eq!(device.desired().await, "4");
    peer.desire(9, json!({"firmware": firmware("9")})).await;
    peer.give_twin(json!({"firmware": firmware("10"), "$version": 9}), json!({})).await;
    assert_eq!(device.desired().await, "10");
}

#[tokio::test]
async fn a_report_counts_once_its_own_request_is_answered() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    device.report(1, json!({"firmware": {"s": "a"}}));
    let mut peer = server.serve(json!({}), json!({"firmware": {"s": "z", "old": 1}})).await;
    let (rid, patch) = peer.expect("$iothub/twin/PATCH/properties/reported/?$rid=").await;
    assert_eq!(patch, r#"{"firmware":{"old":null,"s":"a"}}"#);
    device.report(2, json!({"firmware": {"s": "b"}}));
    device.report(3, json!({"firmware": {"s": "c"}}));
    peer.answer(204, "unheard-of&$version=4", Value::Null).await;
    peer.hears_nothing().await;
    peer.answer(204, &format!("{rid}&$version=4"), Value::Null).await;
    assert_eq!(device.delivered().await, 1);
    assert_eq!(peer.confirm().await, json!({"firmware": {"s": "c"}}), "the newest alone");
    assert_eq!(device.delivered().await, 3);
}

#[tokio::test]
async fn a_patch_whose_answer_is_lost_is_sent_again() {
    let server = Server::start().await;
    let settings = Settings { answer_timeout: Duration::from_millis(100), ..quick() };
    let mut device = Device::start(&server, settings);
    let mut peer = server.serve(json!({}), json!({})).await;
    device.report(1, json!({"a": 1}));
    peer.expect("$iothub/twin/PATCH/properties/reported/?$rid=").await;
    peer.give_twin(json!({}), json!({})).await;
    assert_eq!(peer.confirm().await, json!({"a": 1}));
    assert_eq!(device.delivered().await, 1);
}

#[tokio::test]
async fn after_a_reconnect_the_hub_gets_what_it_lacks_and_nothing_else() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let mut peer = server.serve(json!({}), json!({})).await;
    device.report(1, json!({"a": {"x": 1, "y": 2}, "b": 3}));
    peer.confirm().await;
    assert_eq!(device.delivered().await, 1);
    drop(peer);
    let lost = device.lost().await;
    assert!(matches!(lost, Lost::Closed | Lost::Broken(_)), "{lost:?}");
    let mut peer = server.serve(json!({}), json!({"a": {"x": 1}})).await;
    assert_eq!(peer.confirm().await, json!({"a": {"y": 2}, "b": 3}), "the hub was restored from a backup");
    drop(peer);
    let mut peer = server.serve(json!({}), json!({"a": {"x": 1, "y": 2}, "b": 3})).await;
    peer.hears_nothing().await;
}

async fn run_until(peer: &mut Peer, steps: u32) {
    let mut rid = String::new();
    for step in 0..steps {
        match step {
            0 => drop(peer.expect_connect().await),
            1 => peer.write(&[0x20, 2, 0, 0]).await,
            2..=4 => {
                let (id, _) = peer.expect_subscribe().await;
                peer.grant(id, 1).await;
            }
            5 => rid = peer.expect("$iothub/twin/GET/?$rid=").await.0,
            6 => peer.answer(200, &rid, json!({"desired": {}, "reported": {}})).await,
            7 => rid = peer.expect("$iothub/twin/PATCH/properties/reported/?$rid=").await.0,
            _ => unreachable!("step {step} after {rid}"),
        }
    }
}

#[tokio::test]
async fn two_devices_with_one_identity_are_told_by_name() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    for _ in 0..2 {
        drop(server.serve(json!({}), json!({})).await);
        let lost = device.lost().await;
        assert!(matches!(lost, Lost::Closed | Lost::Broken(_)), "{lost:?}");
    }
    drop(server.serve(json!({}), json!({})).await);
    assert_eq!(device.lost().await, Lost::Contested { device: "dev1".into(), times: 3 });
    server.serve(json!({}), json!({})).await;
}

#[tokio::test]
async fn a_refused_token_is_replaced_by_a_fresh_one_and_never_final() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    for (round, code) in [5, 4, 3, 2, 1, 5, 5].into_iter().enumerate() {
        let mut peer = server.accept().await;
        let password = peer.expect_connect().await.password;
        assert!(password.ends_with(&format!("&se={}", 1_800_003_600 + round as u64)), "{password}");
        device.clock.fetch_add(1000, Ordering::Relaxed);
        peer.write(&[0x20, 2, 0, code]).await;
        assert_eq!(device.lost().await, Lost::Refused(code));
    }
    let _peer = server.serve(json!({}), json!({})).await;
    device.connected().await;
}

#[tokio::test]
async fn p134_a_clock_that_starts_in_1970_counts_from_the_floor() {
    let server = Server::start().await;
    let device = Device::start(&server, quick());
    device.clock.store(5000, Ordering::Relaxed);
    let mut peer = server.accept().await;
    let password = peer.expect_connect().await.password;
    assert!(password.ends_with("&se=1795222800"), "2026-11-21 and an hour: {password}");
}

#[tokio::test]
async fn a_hub_that_answers_no_ping_is_left_for_a_new_connection() {
    let server = Server::start().await;
    let moment = Duration::from_millis(50);
    let settings = Settings { keep_alive: moment, ping_timeout: moment, ..quick() };
    let mut device = Device::start(&server, settings);
    let mut peer = server.serve(json!({}), json!({})).await;
    for _ in 0..3 {
        assert_eq!(peer.read().await, (0xc0, vec![]));
        peer.write(&[0xd0, 0]).await;
    }
    assert_eq!(peer.read().await, (0xc0, vec![]));
    assert_eq!(device.lost().await, Lost::Silent("a ping".into()));
    server.serve(json!({}), json!({})).await;
}

#[tokio::test]
async fn every_answer_has_its_limit() {
    let server = Server::start().await;
    let moment = Duration::from_millis(50);
    let settings = Settings { greeting_timeout: moment, answer_timeout: moment, ..quick() };
    let mut device = Device::start(&server, settings);
    for (steps, what) in [(1, "the greeting"), (4, "a subscription"), (6, "a request for the twin")] {
        let mut peer = server.accept().await;
        run_until(&mut peer, steps).await;
        assert_eq!(device.lost().await, Lost::Silent(what.into()));
        drop(peer);
    }
}

#[tokio::test]
async fn a_refused_subscription_is_a_lost_connection() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    for refused in 0..3 {
        let mut peer = server.accept().await;
        run_until(&mut peer, 2).await;
        let mut filters = Vec::new();
        for _ in 0..3 {
            filters.push(peer.expect_subscribe().await);
        }
        for (index, (id, _)) in filters.iter().enumerate() {
            peer.grant(*id, if index == refused { 0x80 } else { 1 }).await;
        }
        let lost = device.lost().await;
        assert!(matches!(&lost, Lost::Unsubscribed(filter) if *filter == filters[refused].1), "{lost:?}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_in_an_orderly_way_that_is_told_to_nobody() {
    let server = Server::start().await;
    let settings = Settings { token_lifetime: Duration::from_millis(500), ..quick() };
    let mut device = Device::start(&server, settings);
    let mut peer = server.accept().await;
    let first = peer.greet().await.password;
    peer.give_twin(json!({}), json!({})).await;
    device.connected().await;
    device.clock.fetch_add(5000, Ordering::Relaxed);
    device.report(1, json!({"a": 1}));
    peer.confirm().await;
    assert_eq!(peer.end().await, [0xe0], "DISCONNECT");
    let mut peer = server.accept().await;
    assert_ne!(peer.greet().await.password, first);
    peer.give_twin(json!({}), json!({"a": 1})).await;
    device.report(2, json!({"a": 2}));
    assert_eq!(peer.confirm().await, json!({"a": 2}));
    let mut said = Vec::new();
    while !matches!(said.last(), Some(HubEvent::ReportDelivered(2))) {
        said.push(device.event().await);
    }
    assert!(
        said.iter().all(|event| !matches!(event, HubEvent::Lost { .. } | HubEvent::Connected)),
        "{said:?}"
    );
}

#[tokio::test]
async fn methods_are_answered_whatever_their_payloads_look_like() {
    let server = Server::start().await;
    let mut device = Device::start(&server, Settings { vouching: LAX, ..quick() });
    let mut peer = server.serve(json!({}), json!({})).await;
    peer.call("nonsense", "9", "{}").await;
    assert_eq!(
        peer.expect("$iothub/methods/res/404/?$rid=9").await.1,
        r#"{"Response":"Unknown method","code":"request.unknown-method"}"#
    );
    let twice = json!(json!({"fwPackageUri": "https://h/fw"}).to_string()).to_string();
    peer.call("firmwareUpdate", "a1", &twice).await;
    let reply = loop {
        match device.event().await {
            HubEvent::Method { call, reply } => {
                assert!(matches!(call.request, Ok(Request::Install(_))), "{call:?}");
                break reply;
            }
            HubEvent::Connected
            | HubEvent::Introduced(_)
            | HubEvent::Uncontested
            | HubEvent::Tuned(_)
            | HubEvent::Ignored(_)
            | HubEvent::Desired(_) => {}
            other @ (HubEvent::Lost { .. }
            | HubEvent::ReportDelivered(_)
            | HubEvent::ReportRefused { .. }) => panic!("{other:?}"),
        }
    };
    reply.send(MethodReply::ok("Firmware update started"));
    let (topic, payload, id) = peer.expect_message().await;
    assert_eq!(topic, "$iothub/methods/res/200/?$rid=a1");
    assert_eq!(payload, r#"{"Response":"Firmware update started"}"#);
    assert!(id.is_some(), "it asks to be acknowledged");
}

#[tokio::test]
async fn a_flush_is_over_when_all_has_arrived_and_shutting_down_is_orderly() {
    let server = Server::start().await;
    let device = Device::start(&server, Settings { report_interval: LONG, ..quick() });
    let mut peer = server.serve(json!({}), json!({})).await;
    device.report(1, json!({"a": 1}));
    peer.confirm().await;
    let Value::Object(full) = json!({"a": 2}) else { panic!() };
    device.hub.commands.report(Report { generation: 2, full, minimal: None, urgent: false });
    peer.hears_nothing().await;
    assert!(!device.hub.commands.flush(Duration::from_millis(1)).await, "there is a limit");
    let (flushed, patch) = tokio::join!(device.hub.commands.flush(HANGS), peer.confirm());
    assert!(flushed && patch == json!({"a": 2}), "and it does not wait for the interval");
    device.hub.commands.shut_down().await;
    assert_eq!(peer.end().await, [0xe0], "DISCONNECT");
    timeout(HANGS, device.task).await.expect("the task ends").unwrap();
}

#[tokio::test]
async fn when_the_engine_has_gone_the_session_ends() {
    let server = Server::start().await;
    let device = Device::start(&server, quick());
    let peer = server.serve(json!({}), json!({})).await;
    drop(device.hub);
    assert_eq!(peer.end().await, [0xe0]);
    timeout(HANGS, device.task).await.expect("the task ends").unwrap();
}

#[tokio::test]
async fn an_engine_that_does_not_listen_stops_neither_pings_nor_answers() {
    let server = Server::start().await;
    let device = Device::start(&server, Settings { keep_alive: Duration::from_millis(200), ..quick() });
    let mut peer = server.serve(json!({"$version": 1}), json!({})).await;
    for version in 2..100 {
        let firmware = firmware(&version.to_string());
        peer.desire(version, json!({ "firmware": firmware })).await;
    }
    peer.call("nonsense", "9", "").await;
    peer.expect("$iothub/methods/res/404/?$rid=9").await;
    assert_eq!(peer.read().await, (0xc0, vec![]));
    drop(device);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (server, other) = (Server::start().await, Server::start().await);
    let text = format!("HostName=localhost:{};DeviceId=dev1;SharedAccessKey={KEY}", server.port());
    let (hub, port) = channels();
    let trust = Trust::fixed(other.trust.clone());
    let access = Access::new(Source::Fixed(text.parse().unwrap()), trust, None);
    let session = Session::new(port, access, quick(), || Timestamp(0));
    let mut device = Device { hub, clock: Arc::default(), task: tokio::spawn(session.run()) };
    server.accept_refusal().await;
    assert!(matches!(device.lost().await, Lost::Tls { .. }));
}
