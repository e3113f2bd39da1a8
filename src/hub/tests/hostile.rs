//! Hubs that are hostile, broken, or somebody else: cases P122 to P133 of the catalogue of failures, and those of P001 to
//! P026 that only a hub like this can bring about, each by its number.
//! Where hours matter they pass in virtual time, against the hub of [`super::cloud`].

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cloud::{Cloud, Reaction, Weather};
use super::desk::{Desk, Said};
use super::server::Server;
use super::{Device, quick};
use crate::hub::{HubEvent, Lost, MethodReply, Report, Settings};

const HOUR: Duration = Duration::from_secs(3600);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The hub cuts, orderly and by reset, after each packet either way. Whatever was cut off is done again, in order:
/// subscriptions, grants, twin; and nothing is lost or done twice.
#[tokio::test]
async fn p122_a_hub_that_cuts_after_each_packet() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    device.report(1, json!({"a": 1}));
    let mut called = 0;
    for (step, reset) in (0..STEPS).flat_map(|step| [(step, false), (step, true)]) {
        let peer = cut_after(&server, &mut device, step, &mut called).await;
        if reset {
            peer.reset();
        } else {
            drop(peer);
        }
        let lost = device.lost().await;
        assert!(
            matches!(lost, Lost::Closed | Lost::Broken(_) | Lost::Contested { .. } | Lost::Tls { .. }),
            "step {step}: {lost:?}"
        );
    }
    let mut peer = server.serve(json!({"firmware": super::firmware("7"), "$version": 1}), json!({})).await;
    assert_eq!(peer.confirm().await, json!({"a": 1}), "the twin was restored without it");
    assert_eq!(device.desired().await, "7");
    assert_eq!(called, 2 * u32::from(STEPS - 10), "every call reached the engine once");
}

/// Packets of a whole conversation, with what comes before them.
const STEPS: u8 = 16;

/// Talks until this packet.
async fn cut_after(server: &Server, device: &mut Device, last: u8, called: &mut u32) -> super::server::Peer {
    let mut peer = server.accept().await;
    let (mut rid, mut reply) = (String::new(), None);
    for step in 0..=last {
        match step {
            // TCP and TLS only.
            0 => {}
            1 => drop(peer.expect_connect().await),
            2 => peer.write(&[0x20, 2, 0, 0]).await,
            3..=5 => {
                let (id, filter) = peer.expect_subscribe().await;
                assert!(filter.starts_with("$iothub/"), "{filter}");
                peer.grant(id, 1).await;
            }
            6 => rid = peer.expect("$iothub/twin/GET/?$rid=").await.0,
            7 => peer.answer(200, &rid, json!({"desired": {"$version": 1}, "reported": {}})).await,
            8 => rid = peer.expect("$iothub/twin/PATCH/properties/reported/?$rid=").await.0,
            9 => peer.answer(204, &format!("{rid}&$version=2"), Value::Null).await,
            10 => {
                peer.call("reboot", "1", "").await;
                reply = Some(device.call().await);
                *called += 1;
            }
            11 => reply.take().unwrap().send(MethodReply::ok("yes")),
            12 => drop(peer.expect("$iothub/methods/res/200/?$rid=1").await),
            13 => peer.desire(2, json!({"firmware": super::firmware("2")})).await,
            14 => {
                let topic = "$iothub/twin/PATCH/properties/desired/?$version=3";
                peer.publish(0x32, topic, Some(9), br#"{"firmware":null,"$version":3}"#).await;
            }
            _ => {
                let packet = peer.read().await;
                assert_eq!(packet, (0x40, vec![0, 9]), "PUBACK");
            }
        }
    }
    peer
}

/// Refusals are never final and at most twenty an hour; the rest is tried more often, and within the cap.
#[tokio::test(start_paused = true)]
async fn p123_refusals_garbage_and_late_answers_to_the_greeting() {
    for (weather, most) in [
        (Weather::Says(1), 20),
        (Weather::Says(2), 20),
        (Weather::Says(3), 60),
        (Weather::Says(4), 20),
        (Weather::Says(5), 20),
        (Weather::Says(6), 60),
        (Weather::Says(255), 60),
        (Weather::Late(seconds(20)), 60),
        (Weather::Silent, 60),
        (Weather::Refused, 60),
    ] {
        let cloud = Cloud::new();
        cloud.state().weather = weather;
        let desk = Desk::new(&cloud, "dev1");
        sleep(HOUR).await;
        let attempts = desk.attempts();
        assert!((5..=most).contains(&attempts), "{weather:?}: {attempts} attempts in an hour");
        let named = desk.news().into_iter().all(|said| match weather {
            Weather::Says(code @ 1..=5) => said == Said::Lost(Lost::Refused(code)),
            Weather::Says(_) => matches!(said, Said::Lost(Lost::Malformed(_))),
            Weather::Late(_) | Weather::Silent => said == Said::Lost(Lost::Silent("the greeting".into())),
            Weather::Refused => matches!(said, Said::Lost(Lost::Unreachable { .. })),
            Weather::Fine | Weather::Deaf(_) => false,
        });
        assert!(named, "{weather:?}");
        cloud.state().weather = Weather::Fine;
        desk.connected(640).await;
    }
}

/// It is never connected and deaf: without every grant there is no connection.
#[tokio::test(start_paused = true)]
async fn p124_a_subscription_that_is_refused() {
    for filter in 0..3 {
        let cloud = Cloud::new();
        cloud.state().weather = Weather::Deaf(filter);
        let desk = Desk::new(&cloud, "dev1");
        desk.desire(7);
        sleep(HOUR).await;
        assert!(desk.news().iter().all(|said| matches!(said, Said::Lost(Lost::Unsubscribed(_)))));
        assert!((5..=60).contains(&desk.attempts()));
        cloud.state().weather = Weather::Fine;
        desk.told(310, 7).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p125_a_twin_that_is_not_given() {
    for (reaction, most) in [
        (Reaction::Fails(429), 20),
        (Reaction::Fails(403), 20),
        (Reaction::Fails(500), 60),
        (Reaction::Fails(400), 60),
        (Reaction::Silence, 60),
        (Reaction::OtherRid, 60),
        (Reaction::Cut, 60),
    ] {
        let cloud = Cloud::new();
        cloud.state().gets = reaction;
        let desk = Desk::new(&cloud, "dev1");
        desk.desire(3);
        desk.report(1, true);
        sleep(HOUR).await;
        let asked = cloud.state().devices["dev1"].asked;
        assert!((5..=most).contains(&asked), "{reaction:?}: asked {asked} times in an hour");
        assert!(desk.attempts() <= 60);
        let news = desk.news();
        assert!(!news.iter().any(|said| matches!(said, Said::Desired(_) | Said::Connected)), "{news:?}");
        cloud.state().gets = Reaction::Normal;
        desk.told(640, 3).await;
        desk.delivered(60, 1).await;
    }
    let cloud = Cloud::new();
    cloud.state().gets = Reaction::Twice;
    let desk = Desk::new(&cloud, "dev1");
    desk.desire(3);
    sleep(HOUR / 2).await;
    assert_eq!(desk.news(), [Said::Connected, Said::Tuned, Said::Desired("3".into())], "told once");
}

/// The report is kept, smaller if it is refused; the hub is not pestered; and what it wants is heard meanwhile.
#[tokio::test(start_paused = true)]
async fn p126_a_report_that_is_not_taken() {
    for (reaction, most) in [
        (Reaction::Silence, 60),
        // Full and smaller, and once more after the renewal of the token.
        (Reaction::Fails(400), 3),
        (Reaction::Fails(413), 3),
        (Reaction::Fails(403), 20),
        (Reaction::Fails(429), 20),
        (Reaction::Fails(500), 60),
        (Reaction::Fails(503), 60),
        (Reaction::CutBefore, 60),
        (Reaction::OtherRid, 2),
    ] {
        let cloud = Cloud::new();
        cloud.state().patches = reaction;
        let desk = Desk::new(&cloud, "dev1");
        desk.connected(60).await;
        desk.report(1, true);
        sleep(HOUR / 2).await;
        desk.desire(5);
        let took = desk.told(700, 5).await;
        assert!(took < seconds(1) || reaction == Reaction::CutBefore, "{reaction:?}: {took:?}");
        sleep(HOUR / 2).await;
        let patches = desk.patches();
        assert!((1..=most).contains(&patches), "{reaction:?}: {patches} patches in an hour");
        cloud.state().patches = Reaction::Normal;
        if let Reaction::Fails(status @ (400 | 413)) = reaction {
            assert!(desk.news().contains(&Said::Refused(1, status)));
            desk.report(2, true);
            desk.delivered(310, 2).await;
            assert_eq!(desk.reported(), 2);
        } else {
            desk.delivered(640, 1).await;
            assert_eq!(desk.reported(), 1, "{reaction:?}");
        }
    }
}

#[tokio::test]
async fn p126_a_report_that_is_refused_arrives_in_its_smaller_form() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let mut peer = server.serve(json!({}), json!({})).await;
    let object = |value: Value| value.as_object().unwrap().clone();
    for (generation, status) in [(1, 413), (2, 400)] {
        let full = object(json!({"n": generation, "detail": "x".repeat(1000)}));
        let minimal = Some(object(json!({"n": generation, "detail": ""})));
        device.hub.commands.report(Report { generation, full, minimal, urgent: true });
        let (rid, patch) = peer.expect("$iothub/twin/PATCH/properties/reported/?$rid=").await;
        assert!(patch.len() > 1000);
        peer.answer(status, &rid, json!({"errorCode": u32::from(status) * 1000 + 1})).await;
        let smaller = peer.confirm().await;
        assert_eq!(smaller["n"], generation);
        assert_eq!(device.delivered().await, generation);
    }
}

/// At-least-once delivery: copies, packet ids that are used again, and acknowledgements that never come.
#[tokio::test]
async fn p127_copies_are_one_and_lost_acknowledgements_stop_nothing() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let mut peer = server.serve(json!({}), json!({})).await;
    for call in 0..20 {
        let topic = format!("$iothub/methods/POST/reboot/?$rid={call:x}");
        // The packet id is the same every time.
        for first in [0x32, 0x3a] {
            peer.publish(first, &topic, Some(7), b"null").await;
            assert_eq!(peer.read().await, (0x40, vec![0, 7]));
        }
        device.call().await.send(MethodReply::ok("yes"));
        // Its packet is never acknowledged.
        peer.expect(&format!("$iothub/methods/res/200/?$rid={call:x}")).await;
        peer.publish(0x3a, &topic, Some(7), b"null").await;
        assert_eq!(peer.read().await, (0x40, vec![0, 7]), "a copy after the answer");
    }
    device.report(1, json!({"a": 1}));
    peer.confirm().await;
    let mut rest = Vec::new();
    while !matches!(rest.last(), Some(HubEvent::ReportDelivered(1))) {
        rest.push(device.event().await);
    }
    assert!(!rest.iter().any(|event| matches!(event, HubEvent::Method { .. })), "{rest:?}");
}

/// Whatever it is doing when the line dies without a word.
#[tokio::test(start_paused = true)]
async fn p128_a_half_open_connection_is_noticed() {
    let limit = 240 * 3 / 2 + 10;
    for busy in [false, true] {
        for after in [0, 1, 100, 239, 241, 1000] {
            let cloud = Cloud::new();
            let desk = Desk::new(&cloud, "dev1");
            desk.connected(60).await;
            sleep(seconds(after)).await;
            desk.news();
            cloud.hang("dev1");
            if busy {
                desk.report(1, true);
            }
            let took = desk.until(limit, |said| matches!(said, Said::Lost(Lost::Silent(_)))).await;
            println!("noticed after {took:?}");
            desk.connected(10).await;
            if busy {
                desk.delivered(60, 1).await;
            }
        }
    }
}

/// Two devices with one identity for half a day: both name it, both slow down, and when one is switched off the other
/// one is told well again.
#[tokio::test(start_paused = true)]
async fn p129_a_second_device_with_this_identity() {
    let cloud = Cloud::new();
    let desks = [Desk::new(&cloud, "dev1"), Desk::new(&cloud, "dev1")];
    sleep(12 * HOUR).await;
    let attempts = cloud.state().attempts.clone();
    for pair in attempts.windows(10) {
        // The first evictions are not yet known for what they are.
        let settled = pair[0] - attempts[0] > seconds(60);
        assert!(!settled || pair[9] - pair[0] >= seconds(4 * 10), "{:?}", pair[9] - pair[0]);
    }
    let per_hour = attempts.len() as f64 / 12.0;
    println!("{} attempts of both, {per_hour:.0} an hour", attempts.len());
    for desk in &desks {
        let log = desk.log();
        let named: Vec<_> = log.iter().filter(|(_, said)| is_contested(said)).map(|(at, _)| *at).collect();
        assert!(!named.is_empty(), "{log:?}");
        let mine: Vec<_> = log.iter().filter(|(_, said)| matches!(said, Said::Connected)).collect();
        for pair in mine.windows(2).filter(|pair| pair[0].0 > named[0]) {
            assert!(pair[1].0 - pair[0].0 >= seconds(10), "one reconnect in ten seconds at most: {log:?}");
        }
    }
    let [stays, goes] = desks;
    goes.commands.shut_down().await;
    stays.news();
    stays.until(1300, |said| *said == Said::Uncontested).await;
    assert!(cloud.is_connected("dev1"));
}

fn is_contested(said: &Said) -> bool {
    matches!(said, Said::Lost(Lost::Contested { .. }))
}

/// For a day with tokens of an hour: right clocks never let one end; a clock that is late lets each end early, and is
/// back at once with a new one; one that is far behind is refused, slowly, until it is set.
#[tokio::test(start_paused = true)]
async fn p130_tokens_end() {
    let cloud = Cloud::new();
    let desk = Desk::new(&cloud, "dev1");
    let began = Instant::now();
    for round in 1..200 {
        sleep(seconds(430)).await;
        desk.desire(round);
        desk.told(5, round).await;
        desk.report(round, true);
        desk.delivered(5, round).await;
    }
    assert!(began.elapsed() > 23 * HOUR);
    assert_eq!(cloud.state().devices["dev1"].expired, 0, "renewed before the end");
    assert!(cloud.ups("dev1") >= 24, "and really renewed: {}", cloud.ups("dev1"));
    let bad = desk.news().into_iter().filter(|said| matches!(said, Said::Lost(_))).count();
    assert_eq!(bad, 0, "told to nobody");

    let late = Desk::with(&cloud, "late", Settings::default(), 3000);
    sleep(6 * HOUR).await;
    let expired = cloud.state().devices["late"].expired;
    assert!((30..=36).contains(&expired), "every ten minutes: {expired}");
    let log = late.log();
    let down = log.windows(2).filter_map(|pair| match (&pair[0].1, &pair[1].1) {
        (Said::Lost(_), Said::Connected) => Some(pair[1].0 - pair[0].0),
        _ => None,
    });
    assert!(down.max().unwrap() < seconds(60));

    let before = cloud.state().attempts.len();
    let lost = Desk::with(&cloud, "lost", Settings::default(), 7200);
    sleep(HOUR).await;
    assert!(lost.news().iter().all(|said| *said == Said::Lost(Lost::Refused(5))));
    let others = cloud.state().attempts.len() - before;
    assert!(others <= 20 + 10 + 2, "{others}");
}

/// Bytes that are no MQTT end the connection, cost no memory, and the next one is as good as ever.
#[tokio::test]
async fn p131_malformed_packets() {
    if !is_alone("hostile::p131_malformed_packets") {
        return;
    }
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let before = resident();
    for bytes in [
        &b"\x30\x81\xe0\x12"[..],   // one byte above the limit
        b"\x30\xff\xff\xff\x7f",    // 256 MiB
        b"\x30\xff\xff\xff\xff",    // a length of five bytes
        b"\x30\x03\0\x01\xff",      // a topic that is not UTF-8
        b"\x30\x03\0\x09t",         // a topic longer than its packet
        b"\x36\x07\0\x01t\0\x09xy", // quality of service 3
        b"\x34\x07\0\x01t\0\x09xy", // and 2
        b"\x32\x05\0\x01t\0\0",     // packet id 0
        b"\xd1\0",                  // reserved bits
        b"\x00\0",                  // an unknown type
        b"\xf0\0",                  // the other one
        b"\x82\x05\0\x01\0\x01t",   // what only devices say
        b"\x20\x02\0\0",            // a second answer to the greeting
        b"\x16\x03\x01\x02\0",      // TLS within TLS
        b"HTTP/1.1 200 OK\r\n\r\n", // another protocol
    ] {
        let mut peer = server.serve(json!({}), json!({})).await;
        device.connected().await;
        peer.write(bytes).await;
        let lost = device.lost().await;
        assert!(matches!(lost, Lost::Malformed(_)), "{bytes:?}: {lost:?}");
    }
    // The largest that is allowed, promised and never finished.
    for _ in 0..20 {
        let mut peer = server.serve(json!({}), json!({})).await;
        device.connected().await;
        peer.write(b"\x30\x80\xe0\x12").await;
        peer.write(&vec![0; 100 * 1024]).await;
        drop(peer);
        device.lost().await;
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes");
    let mut peer = server.serve(json!({}), json!({})).await;
    let filler = "x".repeat(250 * 1024);
    peer.desire(1, json!({ "filler": filler, "firmware": super::firmware("2") })).await;
    while device.desired().await != "2" {}
}

/// Runs this test again, alone in a process of its own, as memory is counted there. `false` if that was it.
pub(super) fn is_alone(name: &str) -> bool {
    const CHILD: &str = "TWINBOOT_TEST_IS_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let name = format!("hub::tests::{name}");
    child.args(["--exact", &name, "--include-ignored", "--nocapture"]).env(CHILD, "1");
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// Resident memory of this process that is its own, in bytes: pages of the program that are read in when they are first
/// run are no growth.
pub(super) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(start_paused = true)]
async fn p132_reports_of_a_long_absence_are_one() {
    let cloud = Cloud::new();
    let desk = Desk::new(&cloud, "dev1");
    desk.connected(60).await;
    desk.report(1, true);
    desk.delivered(60, 1).await;
    cloud.state().weather = Weather::Refused;
    cloud.drop_all();
    for generation in 2..=11 {
        desk.report(generation, true);
        sleep(seconds(30)).await;
    }
    let before = desk.patches();
    cloud.state().weather = Weather::Fine;
    desk.delivered(310, 11).await;
    assert_eq!(desk.reported(), 11);
    assert_eq!(desk.patches() - before, 1, "ten were queued, one is sent");
    let delivered: Vec<_> =
        desk.news().into_iter().filter(|said| matches!(said, Said::Delivered(_))).collect();
    assert_eq!(delivered, [Said::Delivered(1), Said::Delivered(11)]);
}

/// A thousand in a day, of all kinds. Between any two groups of ten, what the hub wants and what the device says must
/// have arrived.
#[tokio::test(start_paused = true)]
async fn p133_a_thousand_disconnects_in_a_day() {
    let cloud = Cloud::new();
    let desk = Desk::new(&cloud, "dev1");
    let began = Instant::now();
    for round in 1..=100 {
        for kind in 0..10 {
            match kind {
                0..=6 => cloud.drop_link("dev1"),
                7 => cloud.hang("dev1"),
                8 => cloud.state().gets = Reaction::Cut,
                _ => cloud.state().patches = Reaction::CutBefore,
            }
            if kind == 4 {
                desk.desire(round);
                desk.report(round, true);
            }
            sleep(seconds(80)).await;
            let mut state = cloud.state();
            (state.gets, state.patches) = (Reaction::Normal, Reaction::Normal);
        }
        desk.told(700, round).await;
        desk.delivered(700, round).await;
        assert_eq!(desk.reported(), round);
        desk.news();
    }
    assert!(began.elapsed() < 26 * HOUR, "{:?}", began.elapsed());
    let attempts = cloud.state().attempts.clone();
    println!("{} attempts in {:?}", attempts.len(), began.elapsed());
    for window in attempts.windows(61) {
        assert!(window[60] - window[0] >= HOUR);
    }
}

/// What a notification may not be: nothing of it is believed, the twin is asked for, and the connection stays.
#[tokio::test]
async fn p009_notifications_that_cannot_be_read() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let mut peer = server.serve(json!({"firmware": super::firmware("1"), "$version": 1}), json!({})).await;
    assert_eq!(device.desired().await, "1");
    let topic = "$iothub/twin/PATCH/properties/desired/?$version=2";
    for (round, payload) in
        [&b""[..], b"{", b"nonsense", b"\xff\xfe", b"[]", b"null", br#"{"firmware":{"fwVersion":"#]
            .into_iter()
            .enumerate()
    {
        peer.publish(0x30, topic, None, payload).await;
        let version = (round + 2).to_string();
        peer.give_twin(json!({"firmware": super::firmware(&version), "$version": 2}), json!({})).await;
        assert_eq!(device.desired().await, version, "{payload:?}");
    }
}

/// Nested so deep, and so large, that a reader could be tempted to recurse or to hoard.
#[tokio::test]
async fn p010_p011_deep_and_large_wishes() {
    if !is_alone("hostile::p010_p011_deep_and_large_wishes") {
        return;
    }
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let mut peer = server.serve(json!({"$version": 1}), json!({})).await;
    assert_eq!(device.desired().await, "absent");
    let before = resident();
    let mut version = 1;
    for depth in [11, 127, 128, 100_000] {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        // One is missing in between, so that the twin is asked for whatever this says.
        version += 2;
        if depth > 20_000 {
            // More than fits into a packet of a twin, and less than a hub could send.
            let deep = "[".repeat(200_000);
            patch(&mut peer, version, &deep).await;
        } else {
            patch(&mut peer, version, &deep).await;
        }
        let rid = peer.expect("$iothub/twin/GET/?$rid=").await.0;
        let firmware = if depth > 20_000 { "7".to_owned() } else { deep };
        let twin = format!(r#"{{"desired":{{"firmware":{firmware},"$version":{version}}},"reported":{{}}}}"#);
        peer.publish(0x30, &format!("$iothub/twin/res/200/?$rid={rid}"), None, twin.as_bytes()).await;
        assert_eq!(device.desired().await, "invalid", "depth {depth}");
    }
    for size in [33 * 1024, 250 * 1024] {
        version += 2;
        let mut firmware = super::firmware("9");
        firmware["filler"] = "x".repeat(size).into();
        peer.desire(version, json!({ "firmware": firmware })).await;
        peer.give_twin(json!({"firmware": firmware, "$version": version}), json!({})).await;
        assert_eq!(device.desired().await, "invalid", "{size} bytes");
    }
    peer.desire(version + 1, json!({"firmware": null})).await;
    assert_eq!(device.desired().await, "absent", "it is still the same connection");
    let grown = resident().saturating_sub(before);
    assert!(grown < 3 << 20, "{grown} bytes");
}

async fn patch(peer: &mut super::server::Peer, version: u64, firmware: &str) {
    let topic = format!("$iothub/twin/PATCH/properties/desired/?$version={version}");
    let payload = format!(r#"{{"firmware":{firmware},"$version":{version}}}"#);
    peer.publish(0x30, &topic, None, payload.as_bytes()).await;
}

#[tokio::test]
async fn p012_p013_the_same_again_and_older_ones_are_one() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let mut peer = server.serve(json!({"$version": 4}), json!({})).await;
    device.connected().await;
    for _ in 0..100 {
        peer.desire(5, json!({"firmware": super::firmware("5")})).await;
    }
    for older in [1, 2, 3, 4] {
        peer.desire(older, json!({"firmware": super::firmware("1")})).await;
    }
    peer.desire(6, json!({"firmware": super::firmware("6")})).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|version| version != "6") {
        told.push(device.desired().await);
    }
    assert_eq!(told, ["absent", "5", "6"]);
    peer.hears_nothing().await;
}

#[tokio::test]
async fn p024_names_are_taken_as_they_are() {
    let server = Server::start().await;
    let device = Device::start(&server, quick());
    let mut peer = server.serve(json!({}), json!({})).await;
    for name in ["a/b", "%2e%2e", "..%2freboot", "reboot%00", "%72eboot", "reboot/", "REBOOT", "unknown", "/"]
    {
        peer.call(name, "9f", "{}").await;
        let answer = peer.expect("$iothub/methods/res/404/?$rid=9f").await.1;
        assert!(answer.contains("Unknown method"), "{name}: {answer}");
    }
    drop(device);
}
