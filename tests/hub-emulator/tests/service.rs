//! The service's REST API over HTTPS, as SDKs and the tutorials use it.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::time::Duration;

use hub_emulator::{Emulator, Options};
use serde_json::{Value, json};
use support::*;

/// The code inside the text inside the body.
fn code(answer: &Answer) -> u64 {
    let inner = answer.json()["Message"].as_str().unwrap().to_owned();
    serde_json::from_str::<Value>(&inner).unwrap()["errorCode"].as_u64().unwrap()
}

#[test]
fn devices_are_created_read_changed_listed_and_deleted() {
    let emulator = start();
    let service = owner(&emulator);
    let created = service.put("/devices/a%23b", json!({"deviceId": "a#b"}));
    assert_eq!(created.status, 200);
    assert_eq!(created.header("etag"), Some("\"MQ==\""));
    let device = service.get("/devices/a%23b").json();
    assert_eq!(device, created.json());
    assert_eq!(device["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap().len(), 44);
    let again = service.put("/devices/a%23b", json!({}));
    assert_eq!((again.status, code(&again)), (409, 409_001));
    assert_eq!(again.header("iothub-errorcode"), Some("DeviceAlreadyExists"));
    let stale = service.send("PUT", "/devices/a%23b", &[("If-Match", "\"Zm9v\"")], json!({}));
    assert_eq!((stale.status, code(&stale)), (412, 412_001));
    let changed =
        service.send("PUT", "/devices/a%23b", &[("If-Match", "\"MQ==\"")], json!({"status": "disabled"}));
    assert_eq!(changed.json()["status"], "disabled");
    service.put("/devices/c", json!({}));
    assert_eq!(service.get("/devices/").json().as_array().unwrap().len(), 2);
    let statistics = service.get("/statistics/devices").json();
    assert_eq!(statistics, json!({"totalDeviceCount": 2, "enabledDeviceCount": 1, "disabledDeviceCount": 1}));
    assert_eq!(service.send("DELETE", "/devices/c", &[("If-Match", "\"*\"")], Value::Null).status, 204);
    let gone = service.get("/devices/c");
    assert_eq!((gone.status, code(&gone)), (404, 404_001));
    assert_eq!(service.get("/trees").status, 404);
}

#[test]
fn every_door_of_the_service_wants_a_token_with_the_right() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let bare = http(&emulator, "GET", "/devices/dev", &[], b"");
    assert_eq!((bare.status, code(&bare)), (401, 401_003));
    let with = |policy| Service { emulator: &emulator, policy };
    assert_eq!(with("registryRead").get("/devices/dev").status, 200);
    assert_eq!(with("registryRead").put("/devices/new", json!({})).status, 401);
    assert_eq!(with("registryReadWrite").get("/twins/dev").status, 401);
    assert_eq!(with("service").get("/twins/dev").status, 200);
    assert_eq!(with("service").get("/devices/dev").status, 401);
    let query = json!({"query": "SELECT * FROM devices"});
    assert_eq!(with("service").send("POST", "/devices/query", &[], query.clone()).status, 401);
    assert_eq!(with("registryRead").send("POST", "/devices/query", &[], query).status, 200);
    assert_eq!(with("registryRead").get("/jobs/v2/none").status, 200);
    assert_eq!(with("registryRead").put("/jobs/v2/one", json!({})).status, 401);
    assert_eq!(with("registryReadWrite").put("/jobs/v2/one", json!({})).status, 400);
}

#[test]
fn twins_are_merged_replaced_and_guarded_by_etags() {
    let emulator = start();
    emulator.create_device("dev", json!({"a": 1})).unwrap();
    let service = owner(&emulator);
    let first = service.get("/twins/dev");
    let etag = first.header("etag").unwrap().to_owned();
    let body = json!({"tags": {"b": {"c": 2}}, "properties": {"desired": {"x": {"y": 1}}}});
    let merged = service.send("PATCH", "/twins/dev", &[("If-Match", &etag)], body.clone()).json();
    assert_eq!(merged["tags"], json!({"a": 1, "b": {"c": 2}}));
    assert_eq!(merged["properties"]["desired"]["$version"], 2);
    assert_eq!(merged["properties"]["desired"]["$metadata"]["x"]["y"]["$lastUpdatedVersion"], 2);
    assert_eq!(service.send("PATCH", "/twins/dev", &[("If-Match", &etag)], body).status, 412);
    // An SDK user sends back what was read, system keys and all.
    let mut whole = merged.clone();
    whole["tags"] = json!({"only": true});
    let replaced = service.put("/twins/dev", whole).json();
    assert_eq!(replaced["tags"], json!({"only": true}));
    assert_eq!(replaced["properties"]["desired"]["x"], json!({"y": 1}));
    let broken = service.send("PATCH", "/twins/dev", &[], json!({"tags": {"bad.key": 1}, "properties": {}}));
    assert_eq!(broken.status, 400);
    assert_eq!(service.get("/twins/dev").json()["tags"], json!({"only": true}));
    assert_eq!(service.send("PATCH", "/twins/none", &[], json!({})).status, 404);
}

#[test]
fn methods_on_absent_devices_and_with_bad_times_are_refused() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let service = owner(&emulator);
    let call = |body| service.send("POST", "/twins/dev/methods", &[], body);
    let offline = call(json!({"methodName": "go", "payload": null}));
    assert_eq!((offline.status, code(&offline)), (404, 404_103));
    assert_eq!(offline.header("iothub-errorcode"), Some("DeviceNotOnline"));
    for body in [
        json!({"payload": 1}),
        json!({"methodName": "go", "responseTimeoutInSeconds": 4}),
        json!({"methodName": "go", "connectTimeoutInSeconds": 301}),
    ] {
        assert_eq!(call(body.clone()).status, 400, "{body}");
    }
}

#[test]
fn queries_come_in_pages() {
    let emulator = start();
    for id in ["a", "b", "c", "d", "e"] {
        emulator.create_device(id, json!({"odd": "ace".contains(id)})).unwrap();
    }
    let service = owner(&emulator);
    let body = json!({"query": "SELECT deviceId FROM devices"});
    let page = |continuation: &str| {
        let headers = [("x-ms-max-item-count", "2"), ("x-ms-continuation", continuation)];
        service.send("POST", "/devices/query", &headers, body.clone())
    };
    let mut ids = Vec::new();
    let mut next = String::new();
    let mut pages = 0;
    loop {
        let answer = page(&next);
        assert_eq!(answer.header("x-ms-item-type"), Some("Raw"));
        ids.extend(answer.json().as_array().unwrap().clone());
        pages += 1;
        match answer.header("x-ms-continuation") {
            Some(more) => next = more.to_owned(),
            None => break,
        }
    }
    assert_eq!((pages, ids.len(), &ids[4]), (3, 5, &json!({"deviceId": "e"})));
    assert_eq!(service.query("SELECT COUNT() AS n FROM devices WHERE tags.odd = true"), json!([{"n": 3}]));
    let twins = service.send("POST", "/devices/query", &[], json!({"query": "SELECT * FROM devices"}));
    assert_eq!(twins.header("x-ms-item-type"), Some("Twin"));
    assert_eq!(service.send("POST", "/devices/query", &[], json!({"query": "DROP TABLE"})).status, 400);
}

fn tutorial() -> Value {
    let metric = |condition: &str| {
        json!(format!(
            "SELECT deviceId FROM devices WHERE configurations.[[firmware285]].status='Applied' AND {condition}"
        ))
    };
    let status = |word: &str| format!("properties.reported.firmware.fwUpdateStatus='{word}'");
    json!({
        "id": "firmware285",
        "schemaVersion": "1.0",
        "priority": 20,
        "targetCondition": "tags.devicetype = 'chiller'",
        "content": {"deviceContent": {"properties.desired.firmware": {"fwVersion": "2.8.5"}}},
        "metrics": {"queries": {
            "current": metric(&status("current")),
            "applying": metric(&format!(
                "( {} OR {} OR {})", status("downloading"), status("verifying"), status("applying")
            )),
            "rebooting": metric(&status("rebooting")),
        }},
    })
}

#[test]
fn the_tutorials_configuration_reaches_the_device_and_its_metrics_follow() {
    let emulator = start();
    emulator.create_device("dev", json!({"devicetype": "chiller"})).unwrap();
    emulator.create_device("else", Value::Null).unwrap();
    let service = owner(&emulator);
    let mut device = Device::ready(&emulator, "dev");
    let created = service.put("/configurations/firmware285", tutorial());
    assert_eq!(created.status, 200);
    assert_eq!(device.json().1, json!({"firmware": {"fwVersion": "2.8.5"}, "$version": 2}));
    let results = || {
        let document = service.get("/configurations/firmware285").json();
        (document["systemMetrics"]["results"].clone(), document["metrics"]["results"].clone())
    };
    assert_eq!(results().0, json!({"targetedCount": 1, "appliedCount": 1}));
    for (word, expected) in [
        ("verifying", json!({"current": 0, "applying": 1, "rebooting": 0})),
        ("rebooting", json!({"current": 0, "applying": 0, "rebooting": 1})),
        ("current", json!({"current": 1, "applying": 0, "rebooting": 0})),
    ] {
        device.report(&json!({"firmware": {"fwUpdateStatus": word}}));
        assert_eq!(results().1, expected, "{word}");
    }
    assert_eq!(service.put("/configurations/firmware285", tutorial()).status, 409);
    assert_eq!(service.get("/configurations").json().as_array().unwrap().len(), 1);
    let tests = service.send(
        "POST",
        "/configurations/testQueries",
        &[],
        json!({"targetCondition": "tags.", "customMetricQueries": {"m": "SELECT * FROM devices", "n": "x"}}),
    );
    assert!(tests.json()["targetConditionError"].is_string());
    assert_eq!(tests.json()["customMetricQueryErrors"].as_object().unwrap().len(), 1);
    assert_eq!(service.send("DELETE", "/configurations/firmware285", &[], Value::Null).status, 204);
    assert_eq!(device.json().1, json!({"firmware": null, "$version": 3}));
    assert_eq!(service.get("/configurations/firmware285").status, 404);
}

#[test]
fn a_hub_of_a_tier_refuses_what_is_too_much_and_says_when_to_come_again() {
    let options = Options { throttle: Some(hub_emulator::Tier::S1), ..Options::default() };
    let emulator = Emulator::start(options).unwrap();
    let service = owner(&emulator);
    let ask = || service.send("POST", "/devices/query", &[], json!({"query": "SELECT * FROM devices"}));
    let refused = (0..30).map(|_| ask()).find(|answer| answer.status != 200).unwrap();
    assert_eq!((refused.status, code(&refused)), (429, 429_001));
    assert_eq!(refused.header("iothub-errorcode"), Some("ThrottlingException"));
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&seconds), "{seconds}");
    assert_eq!(service.get("/devices/none").status, 404);
}

#[test]
fn with_a_period_devices_are_found_later() {
    let period = Duration::from_millis(200);
    let emulator = Emulator::start(Options { configuration_period: period, ..Options::default() }).unwrap();
    emulator.create_configuration(tutorial()).unwrap();
    emulator.create_device("dev", json!({"devicetype": "chiller"})).unwrap();
    assert!(emulator.wait_for(|hub| hub.desired("dev")["firmware"]["fwVersion"] == "2.8.5", PATIENCE));
}
