#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};

use super::*;

fn fleet() -> Vec<Value> {
    let device = |id: &str, kind: Value, status: &str, applied: &str, heat: Value| {
        json!({
            "deviceId": id,
            "tags": {"devicetype": kind, "site": {"floor": 3}},
            "properties": {"reported": {"firmware": {"fwUpdateStatus": status}, "heat": heat}, "desired": {}},
            "configurations": {"fw-28.5": {"status": applied}},
        })
    };
    vec![
        device("a", json!("chiller"), "current", "Applied", json!(10)),
        device("b", json!("chiller"), "downloading", "Applied", json!(20.5)),
        device("c", json!("heater"), "current", "Targeted", json!("hot")),
        json!({"deviceId": "d", "tags": {}, "properties": {"reported": {"heat": null}}}),
    ]
}

fn ids(filter: &str) -> String {
    let query = query(&format!("SELECT deviceId FROM devices WHERE {filter}")).unwrap();
    run(&query, fleet()).iter().map(|row| row["deviceId"].as_str().unwrap()).collect()
}

fn rows(text: &str) -> Value {
    Value::Array(run(&query(text).unwrap(), fleet()))
}

#[test]
fn conditions_of_every_kind_pick_the_right_devices() {
    for (filter, expected) in [
        ("tags.devicetype = 'chiller'", "ab"),
        ("tags.devicetype != 'chiller'", "c"),
        ("NOT tags.devicetype = 'chiller'", "c"),
        ("NOT (tags.devicetype = 'chiller' OR deviceId='d')", "c"),
        ("deviceId = 'd' OR tags.devicetype = 'heater'", "cd"),
        (
            "configurations.[[fw-28.5]].status='Applied' AND properties.reported.firmware.fwUpdateStatus='current'",
            "a",
        ),
        (
            "configurations.[[fw-28.5]].status='Applied' AND ( properties.reported.firmware.fwUpdateStatus='downloading' \
             OR properties.reported.firmware.fwUpdateStatus='verifying')",
            "b",
        ),
        ("deviceId IN ['a', 'd', 'x']", "ad"),
        ("deviceId NIN ['a', 'd']", "bc"),
        ("IS_DEFINED(properties.reported.heat)", "abcd"),
        ("is_defined(tags.devicetype) and not is_defined(tags.nothing)", "abc"),
        ("IS_NULL(properties.reported.heat)", "d"),
        ("properties.reported.heat > 10", "b"),
        ("properties.reported.heat >= 10 and properties.reported.heat < 20.5", "a"),
        ("properties.reported.heat + 2 * 5 = 20", "a"),
        ("properties.reported.heat = 'hot'", "c"),
        ("STARTSWITH(tags.devicetype, 'chi') AND ENDSWITH(deviceId, 'b')", "b"),
        ("CONTAINS(tags.devicetype, 'ea')", "c"),
        ("devices.tags.site.floor <> 4", "abc"),
        ("tags.site.floor <= -3", ""),
        ("properties.reported.heat >= 1e1 AND properties.reported.heat < 2.05E+1", "a"),
        ("properties.reported.heat = 0.1e2", "a"),
        ("tags.site.floor * (2 - 1) % 2 = 1", "abc"),
        ("tags.site.floor / 0 = 1", ""),
        ("-tags.site.floor = -3", "abc"),
        ("NOT IS_DEFINED(tags.nothing) AND deviceId IN ['b']", "b"),
        ("IS_OBJECT(tags.site) AND NOT IS_PRIMITIVE(tags.site)", "abc"),
        ("IS_PRIMITIVE(tags.devicetype) AND IS_STRING(tags.devicetype)", "abc"),
        ("IS_NUMBER(properties.reported.heat)", "ab"),
        ("IS_BOOL(tags.site) OR IS_ARRAY(tags.site)", ""),
        ("tags.[[devicetype]] = 'heater'", "c"),
        ("deviceId = \"a\"", "a"),
        // AND binds tighter than OR.
        ("deviceId='a' OR deviceId='b' AND deviceId='c'", "a"),
    ] {
        assert_eq!(ids(filter), expected, "{filter}");
    }
}

#[test]
fn columns_counts_and_groups_have_their_names() {
    assert_eq!(rows("SELECT COUNT() AS n FROM devices"), json!([{"n": 4}]));
    assert_eq!(rows("SELECT COUNT() AS n FROM devices WHERE deviceId='none'"), json!([{"n": 0}]));
    assert_eq!(
        rows(
            "SELECT TOP 1 deviceId, tags.devicetype AS kind, tags.none FROM devices AS d WHERE d.deviceId = 'c'"
        ),
        json!([{"deviceId": "c", "kind": "heater"}])
    );
    assert_eq!(
        rows(
            "SELECT tags.devicetype AS kind, COUNT() AS n, MAX(properties.reported.heat) AS hottest FROM devices \
             GROUP BY tags.devicetype"
        ),
        json!([{"kind": "chiller", "n": 2, "hottest": 20.5}, {"kind": "heater", "n": 1}, {"n": 1}])
    );
    assert_eq!(rows("select * from devices where deviceId = 'd'")[0]["deviceId"], "d");
    let jobs = query("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'x'").unwrap();
    assert_eq!(jobs.source, Source::Jobs);
    assert!(eval::matches(&jobs.filter.unwrap(), &json!({"jobId": "x"})));
}

#[test]
fn quotes_inside_a_text_are_doubled_or_escaped() {
    for (text, expected) in [
        (r"tags.name = 'O\'Hara'", "O'Hara"),
        (r#"tags.name = "O'Hara""#, "O'Hara"),
        (r"tags.name = 'a\\b'", r"a\b"),
        (r"tags.name = 'C:\dir'", r"C:\dir"),
    ] {
        let condition = Condition::parse(text).unwrap();
        assert!(condition.picks(&json!({"tags": {"name": expected}})), "{text}");
    }
    let condition = Condition::parse("tags.name = 'O''Hara'").unwrap();
    assert!(condition.picks(&json!({"tags": {"name": "O'Hara"}})));
}

#[test]
fn what_is_no_query_is_refused_with_a_reason() {
    for (text, word) in [
        ("", "SELECT"),
        ("SELECT * FROM things", "things"),
        ("SELECT * FROM devices WHERE", "name"),
        ("SELECT * FROM devices WHERE tags.a = 'x", "closed"),
        ("SELECT * FROM devices WHERE (tags.a = 1", "')'"),
        ("SELECT * FROM devices WHERE tags.a = 1 tags", "ended"),
        ("SELECT * FROM devices WHERE SHOUT(tags.a)", "SHOUT"),
        ("SELECT SUM() FROM devices", "COUNT"),
        ("SELECT * FROM devices GROUP BY tags.a", "GROUP BY"),
        ("SELECT deviceId, COUNT() AS n FROM devices", "GROUP BY"),
        ("SELECT deviceId FROM devices.jobs", "SELECT *"),
        ("SELECT COUNT() AS n FROM devices.jobs", "SELECT *"),
        ("SELECT TOP x deviceId FROM devices", "TOP"),
        ("SELECT * FROM devices WHERE deviceId IN", "'['"),
        ("SELECT * FROM devices WHERE CONTAINS(deviceId)", "arguments"),
        ("SELECT * FROM devices WHERE tags.1a = 2", "[[quoted]]"),
        ("SELECT * FROM devices ORDER BY deviceId", "ORDER"),
        ("SELECT DISTINCT tags.a FROM devices", "DISTINCT"),
        ("SELECT * FROM devices WHERE tags.a LIKE 'x'", "LIKE"),
        ("SELECT * FROM devices WHERE tags.a = 'x' 'y'", "'y'"),
        ("SELECT * FROM devices WHERE tags.a = 1.2.3", "number"),
        ("SELECT * FROM devices WHERE tags.[[a = 1", "closed"),
        ("SELECT * FROM devices WHERE a ; b", "';'"),
    ] {
        let error = query(text).unwrap_err();
        assert!(error.message.contains(word), "{text}: {error}");
    }
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(Condition::parse(&deep).unwrap_err().message.contains("deep"));
}

/// A small generator, so that a failure can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

#[test]
fn no_text_however_mangled_does_harm() {
    let sound = [
        "SELECT TOP 3 deviceId, tags.a AS b, COUNT() FROM devices AS d WHERE d.tags.[[x-y]] IN ['a', 'b''c'] GROUP BY tags.a",
        r"SELECT * FROM devices.modules WHERE NOT (a.b <> 1.5e3 AND -c >= 2 OR CONTAINS(d, 'ü\'')) AND IS_NULL(e)",
        "SELECT AVG(properties.reported.heat) AS mean FROM devices WHERE properties.reported.heat / 0 % 3 != 7",
        "SELECT * FROM devices.jobs WHERE devices.jobs.status = 'failed' AND devices.jobs.jobId NIN [1, true, null]",
    ];
    let bits = [
        "'", "[[", "]]", "(", ")", "[", "]", ",", ".", "=", " NOT ", " AND ", "*", "-", "9e", "ü", "\\",
        "\"", "", "\u{0}",
    ];
    let seed = 2020;
    let mut dice = Dice(seed);
    let mut understood = 0;
    for round in 0..20_000 {
        let mut text: Vec<char> = sound[dice.below(sound.len())].chars().collect();
        for _ in 0..=dice.below(4) {
            let (from, length) = (dice.below(text.len()), dice.below(6));
            let to = (from + length).min(text.len());
            text.splice(from..to, bits[dice.below(bits.len())].chars());
        }
        let text: String = text.into_iter().collect();
        if let Ok(query) = query(&text) {
            understood += 1;
            // What was understood can be asked, and written down and read again.
            let rows = run(&query, fleet());
            let again: Query = serde_json::from_str(&serde_json::to_string(&query).unwrap()).unwrap();
            assert_eq!(run(&again, fleet()), rows, "seed {seed}, round {round}: {text}");
        }
    }
    assert!((500..15_000).contains(&understood), "{understood}");
}
