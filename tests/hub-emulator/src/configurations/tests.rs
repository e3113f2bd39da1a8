#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use super::*;
use crate::events::Events;
use crate::faults::Faults;
use crate::policies::Policies;

fn hub() -> Hub {
    let events: Arc<Events> = Arc::default();
    let mut hub = Hub::new(Policies::new(None, 0), Arc::clone(&events), Faults::new(events), true);
    for id in ["a", "b", "c"] {
        hub.put_identity(id, &json!({}), None).unwrap();
        let kind = if id == "c" { "heater" } else { "chiller" };
        hub.update_twin(id, &json!({"tags": {"kind": kind}}), false, None).unwrap();
    }
    hub
}

fn configuration(condition: &str, priority: u64, content: Value) -> Value {
    json!({
        "targetCondition": condition,
        "priority": priority,
        "content": {"deviceContent": content},
        "metrics": {"queries": {
            "current": "SELECT deviceId FROM devices WHERE properties.reported.status='current'",
            "counted": "SELECT COUNT() AS n FROM devices",
        }},
    })
}

fn put(hub: &mut Hub, id: &str, condition: &str, priority: u64, content: Value) {
    hub.put_configuration(id, &configuration(condition, priority, content), None).unwrap();
}

fn counts(hub: &Hub, id: &str) -> (u64, u64) {
    let document = hub.configuration(id);
    let count = |name: &str| document["systemMetrics"]["results"][name].as_u64().unwrap();
    (count("targetedCount"), count("appliedCount"))
}

fn status(hub: &Hub, device: &str, id: &str) -> Value {
    hub.twin(device)["configurations"][id]["status"].clone()
}

#[test]
fn the_targeted_get_the_content_and_metrics_follow_what_they_report() {
    let mut hub = hub();
    put(&mut hub, "fw", "tags.kind = 'chiller'", 10, json!({"properties.desired.firmware": {"v": "2"}}));
    assert_eq!(hub.desired("a"), json!({"firmware": {"v": "2"}}));
    assert_eq!(hub.desired("c"), json!({}));
    assert_eq!(counts(&hub, "fw"), (2, 2));
    assert_eq!(hub.configuration("fw")["metrics"]["results"], json!({"current": 0, "counted": 3}));
    hub.report("b", br#"{"status": "current"}"#, None).unwrap();
    assert_eq!(hub.configuration("fw")["metrics"]["results"]["current"], 1);
}

#[test]
fn the_higher_priority_wins_a_path_and_the_next_best_comes_back() {
    let mut hub = hub();
    put(&mut hub, "low", "*", 1, json!({"properties.desired.x": {"from": "low", "only": 1}}));
    put(&mut hub, "high", "deviceId = 'a'", 5, json!({"properties.desired.x.from": "high"}));
    assert_eq!(hub.desired("a"), json!({"x": {"from": "high"}}));
    assert_eq!((status(&hub, "a", "low"), status(&hub, "a", "high")), (json!("Targeted"), json!("Applied")));
    assert_eq!(counts(&hub, "low"), (3, 2));
    hub.delete_configuration("high", None).unwrap();
    assert_eq!(hub.desired("a"), json!({"x": {"from": "low", "only": 1}}));
    assert_eq!(status(&hub, "a", "high"), Value::Null);
    hub.delete_configuration("low", None).unwrap();
    assert_eq!(hub.desired("a"), json!({}));
}

#[test]
fn the_newer_wins_a_tie() {
    let mut hub = hub();
    put(&mut hub, "zz-older", "*", 1, json!({"properties.desired.x": 1}));
    put(&mut hub, "aa-newer", "*", 1, json!({"properties.desired.x": 2}));
    assert_eq!(hub.desired("a"), json!({"x": 2}));
}

#[test]
fn a_device_that_stops_matching_loses_the_settings_and_keeps_its_own() {
    let mut hub = hub();
    hub.update_twin("a", &json!({"properties": {"desired": {"own": 1}}}), false, None).unwrap();
    put(&mut hub, "fw", "tags.kind = 'chiller'", 1, json!({"properties.desired.deep.x": {"y": 1}}));
    assert_eq!(hub.desired("a"), json!({"own": 1, "deep": {"x": {"y": 1}}}));
    hub.update_twin("a", &json!({"tags": {"kind": null}}), false, None).unwrap();
    assert_eq!(hub.desired("a"), json!({"own": 1, "deep": {}}));
    assert_eq!(counts(&hub, "fw"), (1, 1));
}

#[test]
fn evaluation_without_a_difference_disturbs_nobody() {
    let mut hub = hub();
    put(&mut hub, "fw", "*", 1, json!({"properties.desired.x": 1}));
    let before = hub.twin("a");
    hub.evaluate_all();
    assert_eq!(hub.twin("a"), before);
    // An operator's patch holds.
    hub.update_twin("a", &json!({"properties": {"desired": {"x": 7}}}), false, None).unwrap();
    hub.evaluate_all();
    assert_eq!(hub.desired("a")["x"], 7);
}

#[test]
fn putting_twice_changing_content_and_nonsense_are_refused() {
    let mut hub = hub();
    let body = configuration("*", 1, json!({"properties.desired.x": 1}));
    hub.put_configuration("fw", &body, None).unwrap();
    assert_eq!(hub.put_configuration("fw", &body, None).unwrap_err().code, Code::ConfigurationAlreadyExists);
    assert_eq!(
        hub.put_configuration("fw", &body, Some("\"Mg==\"")).unwrap_err().code,
        Code::PreconditionFailed
    );
    // The raw ETag is what the Python SDK sends.
    assert_eq!(hub.put_configuration("fw", &body, Some("MQ==")).unwrap()["etag"], "Mg==");
    let other = configuration("*", 1, json!({"properties.desired.x": 2}));
    assert_eq!(hub.put_configuration("fw", &other, Some("*")).unwrap_err().code, Code::ImmutableContent);
    assert_eq!(hub.delete_configuration("none", None).unwrap_err().code, Code::ConfigurationNotFound);
    let many: Map<String, Value> =
        (0..6).map(|n| (format!("m{n}"), json!("SELECT * FROM devices"))).collect();
    let empty = json!({"deviceContent": {}});
    for (id, body, code) in [
        ("Upper", configuration("*", 1, json!({})), Code::ArgumentInvalid),
        ("a", configuration("tags.x ==", 1, json!({})), Code::InvalidTargetCondition),
        ("a", configuration("FROM devices.modules", 1, json!({})), Code::InvalidTargetCondition),
        ("a", configuration("*", 1, json!({"properties.reported.x": 1})), Code::InvalidContent),
        ("a", json!({"targetCondition": "*"}), Code::InvalidContent),
        ("a", json!({"content": {"modulesContent": {"$edgeAgent": {}}}}), Code::NotImplemented),
        ("a", json!({"content": empty, "metrics": {"queries": {"m": "SELECT"}}}), Code::InvalidMetric),
        ("a", json!({"content": empty, "metrics": {"queries": many}}), Code::InvalidMetric),
    ] {
        assert_eq!(hub.put_configuration(id, &body, None).unwrap_err().code, code, "{id} {body}");
    }
    hub.limits.configurations = 1;
    let full = hub.put_configuration("one-more", &body, None).unwrap_err();
    assert_eq!(full.code, Code::TooManyConfigurations);
}

#[test]
fn modules_have_configurations_of_their_own() {
    let mut hub = hub();
    hub.put_identity("a/m", &json!({}), None).unwrap();
    hub.update_twin("a/m", &json!({"tags": {"kind": "camera"}}), false, None).unwrap();
    let body = json!({
        "targetCondition": "FROM devices.modules WHERE devices.modules.tags.kind = 'camera'",
        "content": {"moduleContent": {"properties.desired.zoom": 2}},
    });
    hub.put_configuration("zoom", &body, None).unwrap();
    put(&mut hub, "all", "*", 1, json!({"properties.desired.x": 1}));
    assert_eq!(hub.desired("a/m"), json!({"zoom": 2}));
    assert_eq!(hub.desired("a"), json!({"x": 1}));
    assert_eq!((counts(&hub, "zoom"), counts(&hub, "all")), ((1, 1), (3, 3)));
    let document = hub.configuration("zoom");
    assert_eq!(document["content"], json!({"moduleContent": {"properties.desired.zoom": 2}}));
    let texts = document["systemMetrics"]["queries"].as_object().unwrap();
    for (name, text) in texts {
        let query = query::query(text.as_str().unwrap()).unwrap();
        assert_eq!(hub.ask(&query).len(), 1, "{name}: {text}");
    }
    let everybody = hub.configuration("all")["systemMetrics"]["queries"]["targetedCount"].clone();
    assert_eq!(hub.ask(&query::query(everybody.as_str().unwrap()).unwrap()).len(), 3);
}

#[test]
fn a_configuration_survives_being_written_down() {
    let mut hub = hub();
    put(&mut hub, "fw", "tags.kind = 'chiller'", 7, json!({"properties.desired.x": 1}));
    let before = hub.configuration("fw");
    let text = serde_json::to_string(&hub.configurations).unwrap();
    hub.configurations = serde_json::from_str(&text).unwrap();
    assert_eq!(hub.configuration("fw"), before);
    hub.update_twin("c", &json!({"tags": {"kind": "chiller"}}), false, None).unwrap();
    assert_eq!(hub.desired("c"), json!({"x": 1}));
}

#[test]
fn content_too_large_for_a_device_leaves_it_targeted() {
    let mut hub = hub();
    let filler: Map<String, Value> = (0..8).map(|n| (format!("k{n}"), json!("x".repeat(4000)))).collect();
    hub.update_twin("a", &json!({"properties": {"desired": filler}}), false, None).unwrap();
    put(&mut hub, "big", "*", 1, json!({"properties.desired.more": "y".repeat(4000)}));
    assert_eq!(counts(&hub, "big"), (3, 2));
    assert_eq!(status(&hub, "a", "big"), "Targeted");
}

#[test]
fn content_is_applied_once_to_a_device_and_to_the_modules_of_a_gateway() {
    let mut hub = hub();
    hub.update_twin("a", &json!({"properties": {"desired": {"own": 1, "x": 0}}}), false, None).unwrap();
    hub.apply_content("a", &json!({"deviceContent": {"properties.desired.x": 2}})).unwrap();
    assert_eq!(hub.desired("a"), json!({"own": 1, "x": 2}));
    let modules = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.0"}},
        "filter": {"properties.desired.rate": 3},
    }});
    assert_eq!(hub.apply_content("a", &modules).unwrap_err().code, Code::InvalidOperation);
    hub.put_identity("edge", &json!({"capabilities": {"iotEdge": true}}), None).unwrap();
    hub.put_identity("edge/filter", &json!({}), None).unwrap();
    hub.apply_content("edge", &modules).unwrap();
    assert_eq!(hub.desired("edge/$edgeAgent"), json!({"schemaVersion": "1.0"}));
    assert_eq!(hub.desired("edge/filter"), json!({"rate": 3}));
    for (id, content, code) in [
        ("none", json!({"deviceContent": {}}), Code::DeviceNotFound),
        ("a", json!({}), Code::InvalidContent),
        ("a", json!({"deviceContent": {"tags.x": 1}}), Code::InvalidContent),
        ("edge", json!({"modulesContent": {"filter": 5}}), Code::InvalidContent),
    ] {
        assert_eq!(hub.apply_content(id, &content).unwrap_err().code, code, "{content}");
    }
}
