use proptest::prelude::*;

use super::*;

fn all() -> Value {
    json!({
        "window": "02:00-04:30", "timeZone": "Europe/Berlin", "consentRequired": true, "rateLimit": 65536,
        "progressInterval": 5, "pollInterval": 3600, "logLevel": "debug", "consent": "2.0.0",
    })
}

fn acknowledged(tuned: &Tuned, before: &Tuning) -> Value {
    tuned.acknowledged(&Rules::default().tuned(&tuned.tuning(before)), Consented::Found)
}

#[test]
fn every_setting_is_taken_and_acknowledged() {
    let tuned = read(Some(&all()), 7);
    let tuning = tuned.tuning(&Tuning::default());
    assert_eq!(
        tuning,
        Tuning {
            window: "02:00-04:30".parse().ok(),
            zone: "Europe/Berlin".parse().ok(),
            consent: Some(true),
            rate_limit: Some(65536),
            progress_every: Some(Duration::from_secs(5)),
            poll_every: Some(Duration::from_secs(3600)),
            log_level: Some(LogLevel::Debug),
        }
    );
    assert_eq!(tuned.consent(), Some("2.0.0"));
    assert!(tuned.complaints().is_empty());
    let document = acknowledged(&tuned, &Tuning::default());
    for (name, value) in all().as_object().unwrap() {
        let words = if name == "consent" { "given" } else { "in force" };
        let wanted = json!({"value": value, "ac": 200, "av": 7, "ad": words});
        assert_eq!(document[name], wanted, "{name}");
    }
    assert_eq!(document.as_object().unwrap().len(), 8);
    let awaited = tuned.acknowledged(&Rules::default(), Consented::Awaited);
    assert_eq!(awaited["consent"]["ac"], 202);
}

#[test]
fn a_bad_value_is_400_and_what_was_in_force_stays() {
    let before = read(Some(&all()), 1).tuning(&Tuning::default());
    for (name, bad) in [
        ("window", json!("25:00-26:00")),
        ("window", json!(2)),
        ("window", json!("")),
        ("timeZone", json!("Middle Earth")),
        ("timeZone", json!(1)),
        ("consentRequired", json!("true")),
        ("rateLimit", json!(-1)),
        ("rateLimit", json!(1.5)),
        ("rateLimit", json!("64KiB")),
        ("rateLimit", json!(1023)),
        ("rateLimit", json!(u64::MAX)),
        ("progressInterval", json!(0)),
        ("progressInterval", json!(86_401)),
        ("pollInterval", json!(9)),
        ("pollInterval", json!("1h")),
        ("logLevel", json!("loud")),
        ("logLevel", json!(["info"])),
        ("consent", json!(2)),
        ("consent", json!("")),
        ("consent", json!("x".repeat(129))),
    ] {
        let mut desired = all();
        desired[name] = bad.clone();
        let tuned = read(Some(&desired), 8);
        assert_eq!(tuned.tuning(&before), before, "{name} {bad}");
        let document = acknowledged(&tuned, &before);
        assert_eq!((&document[name]["ac"], &document[name]["av"]), (&json!(400), &json!(8)), "{name} {bad}");
        assert!(document[name]["ad"].as_str().unwrap().starts_with("must "), "{document:#}");
        let value = if name == "consent" { json!("") } else { all()[name].clone() };
        assert_eq!(document[name]["value"], value, "the one in force");
        assert_eq!(tuned.complaints().len(), 1);
        // The others go on as if nothing had been wrong.
        let other = if name == "logLevel" { "window" } else { "logLevel" };
        assert_eq!(document[other]["ac"], 200);
    }
    // The remedy is one that would be taken.
    for (name, remedy) in [
        ("progressInterval", "must be a whole number of seconds from 1 to 86400"),
        ("pollInterval", "must be 0 or a whole number of seconds from 10 to 604800"),
    ] {
        let tuned = read(Some(&json!({ name: 9_999_999 })), 2);
        let document = acknowledged(&tuned, &Tuning::default());
        assert!(document[name]["ad"].as_str().unwrap().starts_with(remedy), "{document:#}");
    }
    let fresh = read(Some(&json!({"window": 5})), 2);
    assert_eq!(fresh.tuning(&Tuning::default()), Tuning::default());
    assert_eq!(acknowledged(&fresh, &Tuning::default())["window"]["value"], "none");
}

#[test]
fn zero_is_no_limit_and_never_and_none_is_no_window() {
    let desired = json!({"rateLimit": 0, "pollInterval": 0, "window": "none", "timeZone": "local"});
    let tuned = read(Some(&desired), 1);
    let tuning = tuned.tuning(&Tuning::default());
    assert_eq!((tuning.rate_limit, tuning.poll_every), (Some(0), Some(Duration::ZERO)));
    assert_eq!(tuning.window, Some(Hours::Any), "the hub's none outdoes the configuration's window");
    let document = acknowledged(&tuned, &Tuning::default());
    for (name, value) in desired.as_object().unwrap() {
        assert_eq!((&document[name]["value"], &document[name]["ac"]), (value, &json!(200)));
    }
}

#[test]
fn what_is_not_there_is_as_configured_and_not_acknowledged() {
    let before = read(Some(&all()), 1).tuning(&Tuning::default());
    for nothing in [None, Some(&Value::Null), Some(&json!({})), Some(&json!({"window": null}))] {
        let tuned = read(nothing, 2);
        assert_eq!(tuned.tuning(&before), Tuning::default());
        assert_eq!(acknowledged(&tuned, &before), Value::Null, "deleted from the report, too");
        assert_eq!(tuned.consent(), None);
    }
}

#[test]
fn what_is_unknown_is_404_and_nonsense_changes_nothing() {
    let tuned = read(Some(&json!({"colour": "red", "logLevel": "warn", "old": null})), 3);
    let document = acknowledged(&tuned, &Tuning::default());
    assert_eq!((&document["colour"]["ac"], &document["logLevel"]["ac"]), (&json!(404), &json!(200)));
    assert_eq!(document.as_object().unwrap().len(), 2);
    let before = read(Some(&all()), 1).tuning(&Tuning::default());
    for nonsense in [json!("x"), json!(1), json!([]), json!(true)] {
        let tuned = read(Some(&nonsense), 4);
        assert_eq!((tuned.tuning(&before), tuned.complaints().len()), (before.clone(), 1));
        assert_eq!(acknowledged(&tuned, &before), Value::Null);
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "\\PC{0,40}", n in any::<i64>(), field in 0..8usize) {
        for value in [json!(text), json!(n), json!([text]), json!({ "a": n })] {
            let tuned = read(Some(&json!({ NAMES[field]: value })), 1);
            let _ = acknowledged(&tuned, &Tuning::default());
        }
    }
}

#[test]
fn a_time_zone_that_the_device_does_not_have_is_400() {
    let mut tuned = read(Some(&json!({"timeZone": "Middle/Earth"})), 3);
    tuned.check_zone(|_| true);
    assert!(tuned.complaints().is_empty());
    tuned.check_zone(|_| false);
    assert_eq!(tuned.complaints().len(), 1);
    let document = acknowledged(&tuned, &Tuning::default());
    assert_eq!(document["timeZone"]["ac"], 400);
    assert_eq!(document["timeZone"]["value"], "local", "what was in force stays");
}
