#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(20);
const MAX: u64 = u64::MAX;

fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

fn outbox() -> Outbox {
    Outbox::new(&Settings::default())
}

fn want(outbox: &mut Outbox, generation: u64, full: Value, urgent: bool) {
    let report = Report { generation, full: object(full), minimal: None, urgent };
    outbox.want(Arc::new(report), if urgent { generation } else { 0 });
}

/// The hub is asked what it holds, and says so.
fn learn(outbox: &mut Outbox, reported: Object) {
    outbox.asked();
    outbox.learn(reported);
}

fn next(outbox: &mut Outbox, now: Instant, rid: &str) -> Option<Next> {
    outbox.next(now, INTERVAL, false, ANSWER, || rid.to_owned())
}

fn sent(rid: &str, patch: Value) -> Option<Next> {
    Some(Next::Send { rid: rid.to_owned(), patch })
}

#[test]
fn one_patch_at_a_time_the_newest_wins_and_only_its_own_answer_counts() {
    let (mut outbox, now) = (outbox(), Instant::now());
    want(&mut outbox, 1, json!({"firmware": {"s": "a", "n": 1}}), true);
    assert_eq!(next(&mut outbox, now, "1"), None, "what the hub holds is not known yet");
    learn(&mut outbox, object(json!({"firmware": {"s": "x", "old": 1}, "stranger": 1})));
    assert_eq!(next(&mut outbox, now, "1"), sent("1", json!({"firmware": {"s": "a", "n": 1, "old": null}})));
    want(&mut outbox, 2, json!({"firmware": {"s": "b", "n": 1}}), true);
    want(&mut outbox, 3, json!({"firmware": {"s": "c", "n": 1}}), true);
    assert_eq!(next(&mut outbox, now, "2"), None, "one at a time");
    assert_eq!(outbox.answer("9", 204, now, 0), Answered::NotOurs);
    assert_eq!(outbox.answer("1", 204, now, 0), Answered::Delivered(1));
    assert_eq!(outbox.answer("1", 204, now, 0), Answered::NotOurs, "twice");
    assert_eq!(next(&mut outbox, now, "2"), sent("2", json!({"firmware": {"s": "c"}})));
    assert_eq!(outbox.answer("2", 204, now, 0), Answered::Delivered(3));
    assert!(outbox.is_settled(3) && next(&mut outbox, now, "3").is_none());
}

#[test]
fn what_is_not_urgent_waits_for_the_interval_and_urgency_is_not_lost_by_coalescing() {
    let (mut outbox, now) = (outbox(), Instant::now());
    learn(&mut outbox, Object::new());
    want(&mut outbox, 1, json!({"a": 1}), false);
    assert!(next(&mut outbox, now, "1").is_some(), "nothing was sent before");
    outbox.answer("1", 204, now, 0);
    want(&mut outbox, 2, json!({"a": 2}), false);
    assert_eq!(next(&mut outbox, now, "2"), None);
    assert_eq!(outbox.due(now, INTERVAL, false), Some(now + INTERVAL));
    assert_eq!(outbox.due(now, INTERVAL, true), Some(now), "a flush does not wait");
    outbox.want(
        Arc::new(Report { generation: 4, full: object(json!({"a": 4})), minimal: None, urgent: false }),
        3, // never seen here
    );
    assert_eq!(next(&mut outbox, now, "2"), sent("2", json!({"a": 4})));
    outbox.answer("2", 204, now, 0);
    want(&mut outbox, 5, json!({"a": 5}), false);
    assert_eq!(next(&mut outbox, now + INTERVAL / 2, "3"), None, "urgency is used up");
    assert!(next(&mut outbox, now + INTERVAL, "3").is_some());
}

#[test]
fn after_a_new_connection_equal_state_costs_nothing_and_is_not_told_twice() {
    let (mut outbox, now) = (outbox(), Instant::now());
    learn(&mut outbox, Object::new());
    want(&mut outbox, 1, json!({"a": 1}), true);
    next(&mut outbox, now, "1");
    outbox.lost();
    assert_eq!(next(&mut outbox, now, "2"), None);
    learn(&mut outbox, object(json!({"a": 1})));
    assert_eq!(
        next(&mut outbox, now, "2"),
        Some(Next::Delivered(1)),
        "the answer was lost, the patch was not"
    );
    assert_eq!(next(&mut outbox, now, "2"), None);
    outbox.lost();
    learn(&mut outbox, object(json!({"a": 1})));
    assert_eq!(next(&mut outbox, now, "2"), None);
    assert!(outbox.is_settled(1));
    outbox.lost();
    learn(&mut outbox, Object::new());
    assert_eq!(
        outbox.next(now, INTERVAL, true, ANSWER, || "3".to_owned()),
        sent("3", json!({"a": 1})),
        "the hub forgot: all of it again"
    );
}

#[test]
fn no_answer_puts_what_the_hub_holds_in_doubt() {
    let (mut outbox, now) = (outbox(), Instant::now());
    learn(&mut outbox, object(json!({"a": 1})));
    want(&mut outbox, 1, json!({"a": 2}), true);
    next(&mut outbox, now, "1");
    want(&mut outbox, 2, json!({"a": 1}), true);
    assert_eq!(outbox.due(now, INTERVAL, false), Some(now + ANSWER));
    assert!(!outbox.is_overdue(now + ANSWER - Duration::from_millis(1), 0));
    assert!(outbox.is_overdue(now + ANSWER, 0));
    let later = now + ANSWER;
    assert_eq!(next(&mut outbox, later, "2"), None, "a difference to the old base would be empty and wrong");
    assert_eq!(outbox.answer("1", 204, later, 0), Answered::NotOurs, "too late to count");
    learn(&mut outbox, object(json!({"a": 2})));
    assert_eq!(next(&mut outbox, later, "2"), sent("2", json!({"a": 1})));
}

#[test]
fn a_refused_document_shrinks_once_and_then_rests() {
    let (mut outbox, now) = (outbox(), Instant::now());
    learn(&mut outbox, Object::new());
    let report = Report {
        generation: 1,
        full: object(json!({"a": "long"})),
        minimal: Some(object(json!({"a": ""}))),
        urgent: true,
    };
    outbox.want(Arc::new(report), 1);
    next(&mut outbox, now, "1");
    assert_eq!(outbox.answer("1", 413, now, 0), Answered::Again { ask: false });
    assert_eq!(next(&mut outbox, now, "2"), sent("2", json!({"a": ""})));
    assert_eq!(outbox.answer("2", 400, now, MAX), Answered::Refused(1, 400));
    assert!(next(&mut outbox, now + ANSWER * 100, "3").is_none(), "not for ever");
    want(&mut outbox, 2, json!({"a": "b"}), true);
    assert_eq!(next(&mut outbox, now, "3"), None, "not at once either");
    assert!(next(&mut outbox, now + ANSWER, "3").is_some());
    assert_eq!(outbox.answer("3", 400, now, 0), Answered::Refused(2, 400), "there is no smaller form");
}

#[test]
fn a_smaller_form_that_is_taken_is_delivery() {
    let (mut outbox, now) = (outbox(), Instant::now());
    learn(&mut outbox, Object::new());
    let full = object(json!({"a": 1, "detail": "long"}));
    let report = Report { generation: 1, full, minimal: Some(object(json!({"a": 1}))), urgent: true };
    outbox.want(Arc::new(report), 1);
    next(&mut outbox, now, "1");
    outbox.answer("1", 400, now, 0);
    next(&mut outbox, now, "2");
    assert_eq!(outbox.answer("2", 204, now, 0), Answered::Delivered(1));
    assert_eq!(next(&mut outbox, now + ANSWER, "3"), None, "the full form is not tried again");
}

#[test]
fn throttling_and_faults_of_the_hub_wait_longer_and_longer() {
    for (status, ask, waits) in [
        (429, false, [30.0, 60.0, 120.0, 240.0]),
        (403, false, [30.0, 60.0, 120.0, 240.0]),
        (500, true, [1.0, 2.0, 4.0, 8.0]),
        (503, true, [1.0, 2.0, 4.0, 8.0]),
        (412, true, [1.0, 2.0, 4.0, 8.0]),
    ] {
        let (mut outbox, mut now) = (outbox(), Instant::now());
        want(&mut outbox, 1, json!({"a": 1}), true);
        learn(&mut outbox, Object::new());
        for wait in waits {
            assert!(next(&mut outbox, now, "1").is_some());
            assert_eq!(outbox.answer("1", status, now, MAX), Answered::Again { ask });
            assert_eq!(outbox.known.is_none(), ask, "in doubt after {status}");
            learn(&mut outbox, Object::new());
            assert_eq!(next(&mut outbox, now, "1"), None);
            let due = outbox.due(now, INTERVAL, true).unwrap();
            assert!(((due - now).as_secs_f64() - wait).abs() < 0.001, "{status}: {:?}", due - now);
            now = due;
        }
        next(&mut outbox, now, "1");
        outbox.answer("1", 204, now, MAX);
        want(&mut outbox, 2, json!({"a": 2}), true);
        next(&mut outbox, now, "1");
        outbox.answer("1", status, now, MAX);
        learn(&mut outbox, object(json!({"a": 1})));
        let due = outbox.due(now, INTERVAL, true).unwrap();
        assert!((due - now).as_secs_f64() <= waits[0], "a success begins anew");
    }
}

/// With the worst of luck, and every patch left without an answer.
#[test]
fn a_hub_that_never_answers_is_told_less_and_less_often() {
    let (mut outbox, mut now) = (outbox(), Instant::now());
    let begun = now;
    want(&mut outbox, 1, json!({"a": 1}), true);
    learn(&mut outbox, Object::new());
    let mut sent = Vec::new();
    while now - begun < Duration::from_secs(3600) {
        if next(&mut outbox, now, "1").is_some() {
            sent.push(now - begun);
        }
        now = outbox.due(now, INTERVAL, false).unwrap();
        if outbox.is_overdue(now, MAX) {
            learn(&mut outbox, Object::new());
        }
    }
    assert!(sent.len() < 20, "{sent:?}");
}

#[test]
fn a_document_that_breaks_the_hubs_limits_is_cut_before_it_is_sent() {
    let (mut outbox, now) = (outbox(), Instant::now());
    learn(&mut outbox, Object::new());
    let mut deep = json!(1);
    for _ in 0..50 {
        deep = json!({ "a": deep });
    }
    want(&mut outbox, 1, json!({"firmware": {"s": "error", "detail": "x".repeat(100_000), "d": deep}}), true);
    let Some(Next::Send { patch, .. }) = next(&mut outbox, now, "1") else { panic!() };
    assert_eq!(patch["firmware"]["s"], "error");
    assert!(patch.to_string().len() < 8000);
    outbox.answer("1", 204, now, 0);
    assert_eq!(next(&mut outbox, now, "2"), None, "and it is not taken for another one afterwards");
    assert!(outbox.is_settled(1));
}
