//! Packets and payloads that are malformed, too large, too deep, repeated or old.

use serde_json::json;

use super::super::server::Server;
use super::super::{Device, quick};
use crate::hub::{HubEvent, Lost, MethodReply};

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

/// Bytes that are no MQTT end the connection, cost no memory, and the next one is as good as ever.
#[tokio::test]
async fn p131_malformed_packets() {
    if !is_alone("hostile::packets::p131_malformed_packets") {
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
    peer.desire(1, json!({ "filler": filler, "firmware": super::super::firmware("2") })).await;
    while device.desired().await != "2" {}
}

/// Runs this test again, alone in a process of its own, as memory is counted there. `false` if that was it.
pub(in crate::hub::tests) fn is_alone(name: &str) -> bool {
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
pub(in crate::hub::tests) fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// What a notification may not be: nothing of it is believed, the twin is asked for, and the connection stays.
#[tokio::test]
async fn p009_notifications_that_cannot_be_read() {
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let mut peer =
        server.serve(json!({"firmware": super::super::firmware("1"), "$version": 1}), json!({})).await;
    assert_eq!(device.desired().await, "1");
    let topic = "$iothub/twin/PATCH/properties/desired/?$version=2";
    for (round, payload) in
        [&b""[..], b"{", b"nonsense", b"\xff\xfe", b"[]", b"null", br#"{"firmware":{"fwVersion":"#]
            .into_iter()
            .enumerate()
    {
        peer.publish(0x30, topic, None, payload).await;
        let version = (round + 2).to_string();
        peer.give_twin(json!({"firmware": super::super::firmware(&version), "$version": 2}), json!({})).await;
        assert_eq!(device.desired().await, version, "{payload:?}");
    }
}

/// Nested so deep, and so large, that a reader could be tempted to recurse or to hoard.
#[tokio::test]
async fn p010_p011_deep_and_large_wishes() {
    if !is_alone("hostile::packets::p010_p011_deep_and_large_wishes") {
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
        let mut firmware = super::super::firmware("9");
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

async fn patch(peer: &mut super::super::server::Peer, version: u64, firmware: &str) {
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
        peer.desire(5, json!({"firmware": super::super::firmware("5")})).await;
    }
    for older in [1, 2, 3, 4] {
        peer.desire(older, json!({"firmware": super::super::firmware("1")})).await;
    }
    peer.desire(6, json!({"firmware": super::super::firmware("6")})).await;
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
