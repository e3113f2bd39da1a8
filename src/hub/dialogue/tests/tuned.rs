//! Settings, how often the session speaks, and telemetry.

use super::*;
use crate::hub::Pace;
use crate::model::Tuning;

/// What the events say, in order: "tuned N" with the number of complaints, "desired".
fn told(events: &[HubEvent]) -> Vec<String> {
    let word = |event: &HubEvent| match event {
        HubEvent::Tuned(tuned) => Some(format!("tuned {}", tuned.complaints().len())),
        HubEvent::Desired(_) => Some("desired".to_owned()),
        HubEvent::Connected
        | HubEvent::Introduced(_)
        | HubEvent::Uncontested
        | HubEvent::Ignored(_)
        | HubEvent::Lost { .. }
        | HubEvent::Method { .. }
        | HubEvent::ReportDelivered(_)
        | HubEvent::ReportRefused { .. } => None,
    };
    events.iter().filter_map(word).collect()
}

fn rid(bench: &mut Bench) -> String {
    bench.expect("$iothub/twin/GET/?$rid=").0
}

fn pong(bench: &mut Bench) {
    bench.dialogue.received(Received::Pong, bench.now).unwrap();
}

fn pace(bench: &mut Bench, report_every: u64, poll_every: u64) {
    let seconds = Duration::from_secs;
    let pace = Pace { report_every: seconds(report_every), poll_every: seconds(poll_every) };
    bench.dialogue.want(Slot { pace: Some(pace), ..Slot::default() }, bench.now);
}

#[test]
fn settings_are_told_before_the_wish_of_the_same_twin_and_only_when_they_changed() {
    let twin = |version: u64, window: &str| {
        let desired = json!({"firmware": firmware("2"), "twinboot": {"window": window}, "$version": version});
        json!({"desired": desired, "reported": {}})
    };
    let mut bench = Bench::connected(twin(3, "02:00-03:00")["desired"].take(), json!({}));
    assert_eq!(told(&bench.events()), ["tuned 0", "desired"]);
    bench.desire(4, json!({"firmware": firmware("2"), "twinboot": {"window": 5}, "$version": 4}));
    assert_eq!(told(&bench.events()), ["tuned 1"], "the wish is the same");
    bench.desire(5, json!({"firmware": firmware("2"), "twinboot": null, "$version": 5}));
    assert_eq!(told(&bench.events()), ["tuned 0"], "they are gone");
    bench.desire(6, json!({"firmware": firmware("3"), "$version": 6}));
    assert_eq!(told(&bench.events()), ["desired"], "without settings there is nothing to acknowledge anew");
}

#[test]
fn a_change_of_one_setting_that_could_be_a_replacement_asks_for_the_whole() {
    let settings = json!({"window": "02:00-03:00", "logLevel": "debug"});
    let mut bench = Bench::connected(json!({"twinboot": settings, "$version": 3}), json!({}));
    bench.events();
    bench.desire(4, json!({"twinboot": {"window": "none"}, "$version": 4}));
    assert!(told(&bench.events()).is_empty());
    let rid = rid(&mut bench);
    let desired = json!({"twinboot": {"window": "none"}, "$version": 4});
    bench.answer(200, &rid, json!({"desired": desired, "reported": {}}));
    let events = bench.events();
    let HubEvent::Tuned(tuned) = &events[0] else { panic!("{events:?}") };
    let tuning = tuned.tuning(&Tuning::default());
    assert!(tuning.window.is_some() && tuning.log_level.is_none(), "{tuning:?}");
}

#[test]
fn a_twin_that_cannot_be_read_leaves_the_settings_alone() {
    let mut bench = Bench::connected(json!({"twinboot": {"logLevel": "debug"}, "$version": 3}), json!({}));
    bench.events();
    bench.desire(9, json!({"x": 1, "$version": 9}));
    let rid = rid(&mut bench);
    bench.answer(200, &rid, json!([]));
    assert_eq!(told(&bench.events()), ["desired"]);
}

#[test]
fn the_twin_is_asked_for_now_and_then_if_that_is_wanted() {
    let mut bench = Bench::connected(json!({"$version": 1}), json!({}));
    bench.sent();
    let minute = Duration::from_secs(60);
    bench.pass(minute).unwrap();
    assert!(bench.sent().is_empty(), "never, unless it was asked for");
    pace(&mut bench, 10, 600);
    assert!(bench.dialogue.deadline(bench.now) <= bench.now + Duration::from_secs(600));
    for _ in 0..2 {
        for _ in 0..20 {
            bench.pass(minute / 2).unwrap();
            let topics: Vec<_> = bench.sent().into_iter().map(|(topic, ..)| topic).collect();
            if let Some(rid) = topics.iter().find_map(|topic| topic.strip_prefix("$iothub/twin/GET/?$rid=")) {
                bench.answer(200, rid, json!({"desired": {"$version": 1}, "reported": {}}));
                break;
            }
            // A ping, perhaps.
            pong(&mut bench);
        }
        let due = bench.dialogue.deadline(bench.now);
        assert!(due > bench.now, "answered, and due again later");
    }
    pace(&mut bench, 10, 0);
    for _ in 0..100 {
        bench.pass(minute / 2).unwrap();
        assert!(bench.sent().iter().all(|(topic, ..)| !topic.contains("GET")));
        pong(&mut bench);
    }
}

#[test]
fn reports_keep_the_pace_they_are_told() {
    let mut bench = Bench::connected(json!({"$version": 1}), json!({}));
    bench.sent();
    pace(&mut bench, 60, 0);
    bench.report(1, json!({"a": 1}));
    let (rid, _) = bench.expect("$iothub/twin/PATCH/properties/reported/?$rid=");
    bench.answer(204, &rid, json!(null));
    let Value::Object(full) = json!({"a": 2}) else { panic!() };
    let report = Report { generation: 2, full, minimal: None, urgent: false };
    let slot = Slot { report: Some(report.into()), urgent_to: 1, pace: None };
    bench.dialogue.want(slot, bench.now);
    bench.pass(Duration::from_secs(30)).unwrap();
    assert!(bench.sent().is_empty(), "not within the minute");
    bench.pass(Duration::from_secs(31)).unwrap();
    bench.expect("$iothub/twin/PATCH/properties/reported/?$rid=");
}

#[test]
fn events_go_out_as_json_telemetry_and_wait_for_a_link_only_for_a_while() {
    let mut bench = Bench::connected(json!({"$version": 1}), json!({}));
    bench.dialogue.device = "dev 1".to_owned();
    bench.sent();
    let topic =
        "devices/dev 1/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8&type=twinboot.lifecycle";
    bench.dialogue.telemetry(b"{}".to_vec(), bench.now);
    assert_eq!(bench.sent(), [(topic.to_owned(), "{}".to_owned(), None)]);
    bench.dialogue.disconnected();
    bench.dialogue.telemetry(b"{\"old\":1}".to_vec(), bench.now);
    bench.now += Duration::from_secs(601);
    bench.dialogue.telemetry(b"{\"new\":1}".to_vec(), bench.now);
    assert!(bench.sent().is_empty());
    bench.connect(json!({"$version": 1}), json!({}));
    let sent = bench.sent();
    assert_eq!(sent, [(topic.to_owned(), "{\"new\":1}".to_owned(), None)], "old news is dropped");
}

#[test]
fn messages_are_taken_acknowledged_and_ignored() {
    let mut bench = Bench::new();
    bench.dialogue.settings.take_messages = true;
    bench.dialogue.device = "dev1".to_owned();
    bench.dialogue.connected(bench.now, Some(LIFETIME));
    let rid = rid(&mut bench);
    bench.answer(200, &rid, json!({"desired": {"$version": 1}, "reported": {}}));
    let sends = bench.dialogue.take_sends(bench.now);
    let [Sent::Subscribe { filter, .. }] = &sends[..] else { panic!("{sends:?}") };
    assert_eq!(filter, "devices/dev1/messages/devicebound/#");
    bench.events();
    for id in 1..=50 {
        let topic = "devices/dev1/messages/devicebound/%24.mid=1".to_owned();
        let packet = Received::Message { topic, payload: (&b"{"[..]).into(), id: Some(id) };
        bench.dialogue.received(packet, bench.now).unwrap();
    }
    assert_eq!(bench.sent().len(), 50, "each is acknowledged");
    let events = bench.events();
    assert!(matches!(events[..], [HubEvent::Ignored(50)]), "{events:?}");
}
