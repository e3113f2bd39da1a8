//! Connections that are cut, by whatever and however often, and that are not to cost anything.

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::cloud::{Cloud, Reaction};
use super::super::desk::{Desk, Said};
use super::super::server::Server;
use super::super::{Device, quick};
use super::{HOUR, seconds};
use crate::hub::{Lost, MethodReply};

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
    let mut peer =
        server.serve(json!({"firmware": super::super::firmware("7"), "$version": 1}), json!({})).await;
    assert_eq!(peer.confirm().await, json!({"a": 1}), "the twin was restored without it");
    assert_eq!(device.desired().await, "7");
    assert_eq!(called, 2 * u32::from(STEPS - 10), "every call reached the engine once");
}

/// Packets of a whole conversation, with what comes before them.
const STEPS: u8 = 16;

/// Talks until this packet.
async fn cut_after(
    server: &Server,
    device: &mut Device,
    last: u8,
    called: &mut u32,
) -> super::super::server::Peer {
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
            13 => peer.desire(2, json!({"firmware": super::super::firmware("2")})).await,
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
