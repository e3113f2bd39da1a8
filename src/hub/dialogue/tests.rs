#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::hub::{Desired, Hub, Report, Slot, channels};

mod tuned;

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const SECOND: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(3600);

/// A dialogue with time in hand and no network.
struct Bench {
    dialogue: Dialogue,
    now: Instant,
    hub: Hub,
    port: Port,
}

impl Bench {
    fn new() -> Self {
        let (hub, port) = channels();
        // The worst of luck: every wait is as long as it can be.
        let dialogue = Dialogue::new(Settings::default(), &port, || u64::MAX);
        Self { dialogue, now: Instant::now(), hub, port }
    }

    /// One with a link and this twin.
    fn connected(desired: Value, reported: Value) -> Self {
        let mut bench = Self::new();
        bench.connect(desired, reported);
        bench
    }

    fn connect(&mut self, desired: Value, reported: Value) {
        self.dialogue.connected(self.now, Some(LIFETIME));
        let rid = self.expect("$iothub/twin/GET/?$rid=").0;
        self.answer(200, &rid, json!({ "desired": desired, "reported": reported }));
    }

    fn receive(&mut self, topic: &str, payload: &[u8]) {
        let payload = payload.to_vec().into();
        let packet = Received::Message { topic: topic.to_owned(), payload, id: None };
        self.dialogue.received(packet, self.now).unwrap();
    }

    fn answer(&mut self, status: u16, rid: &str, body: Value) {
        self.receive(&format!("$iothub/twin/res/{status}/?$rid={rid}"), body.to_string().as_bytes());
    }

    fn desire(&mut self, version: u64, mut patch: Value) {
        patch["$version"] = json!(version);
        let topic = format!("$iothub/twin/PATCH/properties/desired/?$version={version}");
        self.receive(&topic, patch.to_string().as_bytes());
    }

    fn call(&mut self, name: &str, rid: &str, payload: &str) {
        self.receive(&format!("$iothub/methods/POST/{name}/?$rid={rid}"), payload.as_bytes());
    }

    fn sent(&mut self) -> Vec<(String, String, Option<u16>)> {
        let text = |sent| {
            let name = format!("{sent:?}");
            let Sent::Message { topic, payload, id } = sent else { return (name, String::new(), None) };
            (topic, String::from_utf8(payload).unwrap(), id)
        };
        self.dialogue.take_sends(self.now).into_iter().map(text).collect()
    }

    /// Exactly one message was sent, on a topic that begins like this: the rest of the topic and the payload.
    fn expect(&mut self, start: &str) -> (String, String) {
        let [(topic, payload, _)] = self.sent().try_into().unwrap();
        (topic.strip_prefix(start).expect(&topic).to_owned(), payload)
    }

    fn pass(&mut self, time: Duration) -> Result<(), Lost> {
        self.now += time;
        self.dialogue.tick(self.now)
    }

    fn events(&mut self) -> Vec<HubEvent> {
        std::iter::from_fn(|| self.dialogue.events.pop()).collect()
    }

    fn report(&mut self, generation: u64, full: Value) {
        let Value::Object(full) = full else { panic!() };
        let report = Report { generation, full, minimal: None, urgent: true };
        let slot = Slot { report: Some(report.into()), urgent_to: generation, pace: None };
        self.dialogue.want(slot, self.now);
    }
}

fn firmware(version: &str) -> Value {
    json!({"fwVersion": version, "fwPackageURI": "https://h/fw", "fwPackageCheckValue": DIGEST})
}

/// What the desired events among `events` say: the version, "absent" or "invalid".
fn desired(events: &[HubEvent]) -> Vec<String> {
    let word = |event: &HubEvent| match event {
        HubEvent::Desired(parsed) => Some(match &parsed.desired {
            Desired::Absent => "absent".to_owned(),
            Desired::Wish(install) => install.artifact.version.as_ref().unwrap().to_string(),
            Desired::Invalid { .. } => "invalid".to_owned(),
        }),
        HubEvent::Connected
        | HubEvent::Introduced(_)
        | HubEvent::Uncontested
        | HubEvent::Tuned(_)
        | HubEvent::Ignored(_)
        | HubEvent::Lost { .. }
        | HubEvent::Method { .. }
        | HubEvent::ReportDelivered(_)
        | HubEvent::ReportRefused { .. } => None,
    };
    events.iter().filter_map(word).collect()
}

#[test]
fn the_twin_is_asked_for_and_only_its_own_answer_counts() {
    let mut bench = Bench::new();
    bench.dialogue.connected(bench.now, Some(LIFETIME));
    let rid = bench.expect("$iothub/twin/GET/?$rid=").0;
    bench.answer(200, "other", json!({"desired": {"firmware": firmware("9"), "$version": 1}}));
    assert!(bench.events().is_empty());
    bench.answer(200, &rid, json!({"desired": {"firmware": firmware("2"), "$version": 1}}));
    let events = bench.events();
    assert!(matches!(events[0], HubEvent::Connected));
    assert_eq!(desired(&events), ["2"]);
    bench.answer(200, &rid, json!({"desired": {"firmware": firmware("3"), "$version": 2}}));
    assert!(bench.events().is_empty(), "answered already");
}

#[test]
fn notifications_are_judged_by_version_and_told_when_they_change_something() {
    let mut bench = Bench::connected(json!({"firmware": firmware("2"), "$version": 5}), json!({}));
    bench.events();
    for stale in [1, 4, 5, 5] {
        bench.desire(stale, json!({"firmware": firmware("9")}));
    }
    assert!(bench.events().is_empty() && bench.sent().is_empty());
    bench.desire(6, json!({"firmware": firmware("3")}));
    assert_eq!(desired(&bench.events()), ["3"]);
    for _ in 0..100 {
        bench.desire(6, json!({"firmware": firmware("3")}));
    }
    bench.desire(7, json!({"firmware": firmware("3"), "other": 1}));
    assert!(bench.events().is_empty(), "firmware says what it said");
    bench.desire(8, json!({"firmware": null}));
    assert_eq!(desired(&bench.events()), ["absent"]);
    assert!(bench.sent().is_empty());
}

#[test]
fn a_gap_or_a_patch_that_does_not_say_all_asks_for_the_twin() {
    let mut bench = Bench::connected(json!({"firmware": firmware("2"), "$version": 5}), json!({}));
    bench.events();
    bench.desire(7, json!({"firmware": firmware("9")}));
    let rid = bench.expect("$iothub/twin/GET/?$rid=").0;
    assert!(bench.events().is_empty(), "not believed");
    bench.answer(200, &rid, json!({"desired": {"firmware": firmware("4"), "$version": 7}}));
    assert_eq!(desired(&bench.events()), ["4"]);
    bench.desire(8, json!({"firmware": {"fwPackageURI": "https://elsewhere/"}}));
    let rid = bench.expect("$iothub/twin/GET/?$rid=").0;
    bench.answer(200, &rid, json!({"desired": {"firmware": firmware("5"), "$version": 3}}));
    assert_eq!(desired(&bench.events()), ["5"], "a lower version of the whole is believed");
    bench.desire(4, json!({"firmware": firmware("6")}));
    assert_eq!(desired(&bench.events()), ["6"]);
}

#[test]
fn what_changes_while_the_twin_is_under_way_is_not_missed_and_not_asked_for_in_vain() {
    for (answered, asks_again) in [(5, true), (6, false)] {
        let mut bench = Bench::new();
        bench.dialogue.connected(bench.now, Some(LIFETIME));
        let rid = bench.expect("$iothub/twin/GET/?$rid=").0;
        bench.desire(6, json!({"firmware": firmware("3")}));
        assert!(bench.sent().is_empty(), "one request at a time");
        bench.answer(200, &rid, json!({"desired": {"firmware": firmware("2"), "$version": answered}}));
        assert_eq!(bench.sent().len(), usize::from(asks_again));
    }
}

#[test]
fn after_a_reconnect_nothing_is_believed_before_the_whole_twin() {
    let mut bench = Bench::connected(json!({"firmware": firmware("2"), "$version": 5}), json!({}));
    bench.events();
    bench.dialogue.disconnected();
    bench.dialogue.connected(bench.now, None);
    let rid = bench.expect("$iothub/twin/GET/?$rid=").0;
    // The next version of a hub that was restored from a backup: it is not ours plus one.
    bench.desire(6, json!({"firmware": firmware("9")}));
    assert!(desired(&bench.events()).is_empty());
    bench.answer(200, &rid, json!({"desired": {"firmware": firmware("3"), "$version": 6}}));
    assert_eq!(desired(&bench.events()), ["3"]);
}

#[test]
fn a_hub_that_does_not_give_the_twin_is_asked_again_later_and_one_that_is_silent_is_left() {
    let mut bench = Bench::new();
    bench.dialogue.connected(bench.now, Some(LIFETIME));
    for (status, wait) in [(429, 30), (500, 1), (400, 2), (403, 60)] {
        let rid = bench.expect("$iothub/twin/GET/?$rid=").0;
        bench.answer(status, &rid, json!({"errorCode": 1}));
        bench.pass(SECOND * wait - SECOND / 100).unwrap();
        assert!(bench.sent().is_empty(), "not yet");
        bench.pass(SECOND / 50).unwrap();
    }
    assert!(bench.events().is_empty(), "not connected before the twin is known");
    assert_eq!(bench.sent().len(), 1);
    assert_eq!(bench.dialogue.deadline(bench.now), bench.now + 20 * SECOND);
    assert_eq!(bench.pass(20 * SECOND), Err(Lost::Silent("a request for the twin".into())));
}

#[test]
fn a_twin_that_cannot_be_read_is_told_once_and_stops_nothing() {
    let mut bench = Bench::new();
    bench.report(1, json!({"a": 1}));
    bench.dialogue.connected(bench.now, Some(LIFETIME));
    let deep = format!("{{\"desired\":{}1{}}}", "{\"a\":".repeat(300), "}".repeat(300));
    let rid = bench.expect("$iothub/twin/GET/?$rid=").0;
    bench.receive(&format!("$iothub/twin/res/200/?$rid={rid}"), deep.as_bytes());
    assert_eq!(desired(&bench.events()), ["invalid"]);
    assert_eq!(bench.expect("$iothub/twin/PATCH/properties/reported/?$rid=").1, r#"{"a":1}"#);
    bench.desire(2, json!({"firmware": null}));
    let rid = bench.expect("$iothub/twin/GET/?$rid=").0;
    bench.receive(&format!("$iothub/twin/res/200/?$rid={rid}"), deep.as_bytes());
    assert!(bench.events().is_empty());
    bench.call("reboot", "1", "");
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn an_idle_link_is_pinged_and_a_silent_one_given_up() {
    let mut bench = Bench::connected(json!({}), json!({}));
    for _ in 0..3 {
        assert_eq!(bench.dialogue.deadline(bench.now), bench.now + 240 * SECOND);
        bench.pass(240 * SECOND).unwrap();
        assert_eq!(bench.sent()[0].0, "Ping");
        assert_eq!(bench.dialogue.deadline(bench.now), bench.now + 10 * SECOND);
        bench.dialogue.received(Received::Pong, bench.now).unwrap();
    }
    bench.pass(240 * SECOND).unwrap();
    bench.pass(9 * SECOND).unwrap();
    assert_eq!(bench.sent().len(), 1, "one ping");
    assert_eq!(bench.pass(SECOND), Err(Lost::Silent("a ping".into())));
}

#[test]
fn talking_into_a_dead_link_does_not_put_off_the_ping() {
    let mut bench = Bench::connected(json!({}), json!({}));
    bench.pass(239 * SECOND).unwrap();
    bench.report(1, json!({"a": 1}));
    assert_eq!(bench.sent().len(), 1);
    bench.pass(SECOND).unwrap();
    assert_eq!(bench.sent()[0].0, "Ping");
}

#[test]
fn a_patch_without_an_answer_leads_to_the_twin_and_to_the_difference_again() {
    let mut bench = Bench::connected(json!({}), json!({"a": 0}));
    bench.events();
    bench.report(1, json!({"a": 1, "b": 2}));
    bench.expect("$iothub/twin/PATCH/properties/reported/?$rid=");
    bench.pass(20 * SECOND).unwrap();
    let rid = bench.expect("$iothub/twin/GET/?$rid=").0;
    bench.answer(200, &rid, json!({"desired": {}, "reported": {"a": 1, "$version": 9}}));
    assert!(bench.sent().is_empty(), "not at once: it may never answer");
    bench.pass(SECOND).unwrap();
    let (rid, patch) = bench.expect("$iothub/twin/PATCH/properties/reported/?$rid=");
    assert_eq!(patch, r#"{"b":2}"#, "half of it had arrived");
    assert!(bench.events().is_empty());
    bench.answer(204, &format!("{rid}&$version=10"), Value::Null);
    assert!(matches!(bench.events()[..], [HubEvent::ReportDelivered(1)]));
}

/// Each takes its own time in the hub: a twin that was read before a patch may be told after the patch was taken.
#[test]
fn a_twin_that_was_read_before_a_patch_is_not_taken_for_what_came_of_it() {
    let reported = |status: &str| json!({"firmware": {"fwUpdateStatus": status}});
    let twin = |status: &str| json!({"desired": {"$version": 1}, "reported": reported(status)});
    // Who was first on the way out.
    for is_twin_first in [true, false] {
        let mut bench = Bench::connected(json!({"$version": 1}), reported("current"));
        bench.events();
        let mut requests = Vec::new();
        for is_twin in [is_twin_first, !is_twin_first] {
            if is_twin {
                bench.desire(9, json!({}));
                requests.push(bench.expect("$iothub/twin/GET/?$rid=").0);
            } else {
                bench.report(1, reported("downloading"));
                requests.push(bench.expect("$iothub/twin/PATCH/properties/reported/?$rid=").0);
            }
        }
        let [asked, patched] = if is_twin_first { [0, 1] } else { [1, 0] }.map(|at| requests[at].clone());
        bench.answer(204, &format!("{patched}&$version=3"), Value::Null);
        assert!(matches!(bench.events()[..], [HubEvent::ReportDelivered(1)]));
        bench.answer(200, &asked, twin("current"));
        // What the hub holds is asked for, and nothing is said on top of it before that is known.
        let asked = bench.expect("$iothub/twin/GET/?$rid=").0;
        bench.report(2, reported("current"));
        assert!(bench.sent().is_empty() && bench.events().is_empty());
        bench.answer(200, &asked, twin("downloading"));
        let (rid, patch) = bench.expect("$iothub/twin/PATCH/properties/reported/?$rid=");
        assert_eq!(patch, reported("current").to_string());
        bench.answer(204, &format!("{rid}&$version=4"), Value::Null);
        assert!(matches!(bench.events()[..], [HubEvent::ReportDelivered(2)]));
        assert!(bench.sent().is_empty(), "and that is all");
    }
}

#[test]
fn methods_are_handed_on_answered_once_and_only_on_their_own_link() {
    let mut bench = Bench::connected(json!({}), json!({}));
    bench.events();
    bench.call("rebootDevice", "7", "");
    bench.call("rebootDevice", "7", "");
    let HubEvent::Method { reply, .. } = bench.events().pop().unwrap() else { panic!() };
    assert!(bench.events().is_empty(), "delivered twice is once");
    reply.send(MethodReply::ok("yes"));
    let HubCommand::Reply { call, reply } = bench.port.commands.try_recv().unwrap() else { panic!() };
    assert!(bench.port.commands.try_recv().is_err(), "a reply is sent once");
    bench.dialogue.reply(&call, &reply);
    assert_eq!(bench.expect("$iothub/methods/res/200/?$rid=7").1, r#"{"Response":"yes"}"#);

    bench.dialogue.disconnected();
    bench.connect(json!({}), json!({}));
    bench.dialogue.reply(&call, &reply);
    assert!(bench.sent().is_empty(), "its caller is long gone");
}

#[test]
fn a_dropped_replier_says_so_and_strangers_get_404() {
    let mut bench = Bench::connected(json!({}), json!({}));
    bench.events();
    for name in ["Reboot", "%72eboot", "a/b", ""] {
        bench.call(name, "1", "{}");
        assert_eq!(
            bench.expect("$iothub/methods/res/404/?$rid=1").1,
            r#"{"Response":"Unknown method","code":"request.unknown-method"}"#
        );
    }
    assert!(bench.events().is_empty());
    bench.call("cancel", "2", "null");
    drop(bench.events());
    let HubCommand::Reply { call, reply } = bench.port.commands.try_recv().unwrap() else { panic!() };
    assert_eq!((call.rid.as_str(), reply.status), ("2", 500));
}

#[test]
fn a_flush_waits_for_answers_and_reports_to_arrive() {
    let mut bench = Bench::connected(json!({}), json!({}));
    let (done, mut flushed) = oneshot::channel();
    bench.call("cancel", "7", "");
    let HubEvent::Method { reply, .. } = bench.events().pop().unwrap() else { panic!() };
    reply.send(MethodReply::ok("yes"));
    let HubCommand::Reply { call, reply } = bench.port.commands.try_recv().unwrap() else { panic!() };
    bench.dialogue.reply(&call, &reply);
    bench.report(1, json!({"a": 1}));
    bench.dialogue.flush(done, bench.now);
    let [(_, _, id), (report, ..)] = bench.sent().try_into().unwrap();
    bench.dialogue.settle();
    assert!(flushed.try_recv().is_err());
    bench.dialogue.received(Received::PubAck(id.unwrap()), bench.now).unwrap();
    bench.dialogue.settle();
    assert!(flushed.try_recv().is_err(), "the report is still out");
    bench.answer(204, report.split_once("$rid=").unwrap().1, Value::Null);
    bench.dialogue.settle();
    assert!(flushed.try_recv().is_ok());
}

/// Or whoever called would wait in vain for a session that is ended behind the flush.
#[test]
fn a_flush_waits_for_calls_that_nobody_has_answered_yet() {
    let mut bench = Bench::connected(json!({}), json!({}));
    let (done, mut flushed) = oneshot::channel();
    bench.call("cancel", "7", "");
    bench.dialogue.flush(done, bench.now);
    bench.dialogue.settle();
    assert!(flushed.try_recv().is_err());
    drop(bench.events());
    let HubCommand::Reply { call, reply } = bench.port.commands.try_recv().unwrap() else { panic!() };
    bench.dialogue.reply(&call, &reply);
    let [(topic, _, id)] = bench.sent().try_into().unwrap();
    assert_eq!(topic, "$iothub/methods/res/500/?$rid=7");
    bench.dialogue.received(Received::PubAck(id.unwrap()), bench.now).unwrap();
    bench.dialogue.settle();
    assert!(flushed.try_recv().is_ok());
}

#[test]
fn a_flush_survives_a_lost_link() {
    let mut bench = Bench::connected(json!({}), json!({}));
    let (done, mut flushed) = oneshot::channel();
    bench.report(1, json!({"a": 1}));
    bench.dialogue.flush(done, bench.now);
    bench.sent();
    bench.dialogue.disconnected();
    bench.dialogue.settle();
    assert!(flushed.try_recv().is_err());
    bench.connect(json!({}), json!({"a": 1}));
    bench.dialogue.settle();
    assert!(flushed.try_recv().is_ok(), "it had arrived, as the twin shows");
}

#[test]
fn a_token_is_renewed_when_nothing_is_lost_by_it_and_in_any_case_in_time() {
    let mut bench = Bench::connected(json!({}), json!({}));
    let begun = bench.now;
    bench.now = begun + 2879 * SECOND;
    bench.dialogue.received(Received::Pong, bench.now).unwrap();
    assert!(!bench.dialogue.is_renewal_due(bench.now));
    bench.report(1, json!({"a": 1}));
    assert!(!bench.dialogue.is_renewal_due(begun + 2880 * SECOND), "a patch is under way");
    assert!(bench.dialogue.is_renewal_due(begun + 3240 * SECOND), "the token is nearly over");
    let rid = bench.expect("$iothub/twin/PATCH/properties/reported/?$rid=").0;
    bench.answer(204, &rid, Value::Null);
    assert!(bench.dialogue.is_renewal_due(begun + 2880 * SECOND));
}

#[test]
fn a_renewal_is_not_told_as_a_loss_and_the_wish_is_told_again() {
    let twin = || json!({"firmware": firmware("2"), "$version": 5});
    let mut bench = Bench::connected(twin(), json!({}));
    bench.events();
    bench.dialogue.disconnected();
    bench.connect(twin(), json!({}));
    let events = bench.events();
    assert_eq!(desired(&events), ["2"]);
    assert_eq!(events.len(), 1, "{events:?}");
    bench.dialogue.disconnected();
    bench.dialogue.tell_lost(Lost::Closed, SECOND);
    bench.connect(twin(), json!({}));
    assert!(matches!(bench.events()[..], [HubEvent::Connected, HubEvent::Desired(_)]));
    assert!(bench.hub.events.try_recv().is_err());
}

#[test]
fn that_nobody_contends_any_more_is_told_once_the_link_has_lasted() {
    let mut bench = Bench::new();
    bench.dialogue.tell_lost(Lost::Contested { device: "d".into(), times: 3 }, SECOND);
    bench.connect(json!({}), json!({}));
    bench.events();
    bench.dialogue.disconnected();
    bench.dialogue.tell_lost(Lost::Broken("x".into()), SECOND);
    bench.connect(json!({}), json!({}));
    bench.events();
    for _ in 0..2 {
        bench.pass(240 * SECOND).unwrap();
        bench.sent();
        bench.dialogue.received(Received::Pong, bench.now).unwrap();
    }
    assert!(bench.events().is_empty(), "not yet");
    assert_eq!(bench.dialogue.deadline(bench.now), bench.now + 120 * SECOND);
    bench.pass(120 * SECOND).unwrap();
    assert!(matches!(bench.events()[..], [HubEvent::Uncontested]));
    bench.pass(SECOND).unwrap();
    assert!(bench.events().is_empty(), "once");
}

/// With tokens of five minutes no single link lasts that long.
#[test]
fn that_nobody_contends_any_more_is_told_over_new_tokens() {
    let mut bench = Bench::new();
    bench.dialogue.tell_lost(Lost::Contested { device: "d".into(), times: 3 }, SECOND);
    bench.connect(json!({}), json!({}));
    for _ in 0..2 {
        bench.pass(239 * SECOND).unwrap();
        assert!(!bench.events().iter().any(|event| matches!(event, HubEvent::Uncontested)), "not yet");
        bench.dialogue.disconnected();
        bench.connect(json!({}), json!({}));
    }
    bench.events();
    bench.pass(122 * SECOND).unwrap();
    assert!(matches!(bench.events()[..], [HubEvent::Uncontested]));
}

#[test]
fn a_keep_alive_above_the_hubs_limit_is_cut_to_it() {
    let (_hub, port) = channels();
    let settings = Settings { keep_alive: 5000 * SECOND, ..Settings::default() };
    let mut dialogue = Dialogue::new(settings, &port, || 0);
    let now = Instant::now();
    dialogue.connected(now, None);
    assert!(dialogue.deadline(now) <= now + 1177 * SECOND);
    dialogue.tick(now + 10 * SECOND).unwrap();
    assert!(dialogue.take_sends(now).len() == 1, "the request for the twin");
}
