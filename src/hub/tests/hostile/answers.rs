//! What the hub does not grant, give or take.

use serde_json::{Value, json};
use tokio::time::sleep;

use super::super::cloud::{Cloud, Reaction, Weather};
use super::super::desk::{Desk, Said};
use super::super::server::Server;
use super::super::{Device, quick};
use super::{HOUR, seconds};
use crate::hub::{Lost, Report};

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
