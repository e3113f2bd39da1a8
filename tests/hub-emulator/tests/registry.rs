//! The identity registry over REST: modules, certificates, many at once, and who is cut off by a change.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use serde_json::{Value, json};
use support::*;

fn code(answer: &Answer) -> u64 {
    let inner = answer.json()["Message"].as_str().unwrap().to_owned();
    serde_json::from_str::<Value>(&inner).unwrap()["errorCode"].as_u64().unwrap()
}

#[test]
fn modules_are_created_read_changed_listed_and_deleted() {
    let emulator = start();
    let service = owner(&emulator);
    let orphan = service.put("/devices/d/modules/m", json!({"deviceId": "d", "moduleId": "m"}));
    assert_eq!((orphan.status, code(&orphan)), (404, 404_001));
    service.put("/devices/d", json!({}));
    let created =
        service.put("/devices/d/modules/m", json!({"deviceId": "d", "moduleId": "m", "managedBy": "me"}));
    assert_eq!((created.status, created.header("etag")), (200, Some("\"MQ==\"")));
    assert_eq!(service.get("/devices/d/modules/m").json(), created.json());
    assert_eq!(service.get("/devices/d/modules").json(), json!([created.json()]));
    let again = service.put("/devices/d/modules/m", json!({}));
    assert_eq!((again.status, code(&again)), (409, 409_301));
    let changed =
        service.send("PUT", "/devices/d/modules/m", &[("If-Match", "\"*\"")], json!({"managedBy": "you"}));
    assert_eq!(changed.json()["managedBy"], "you");
    let twin =
        service.send("PATCH", "/twins/d/modules/m", &[], json!({"properties": {"desired": {"a": 1}}})).json();
    assert_eq!((&twin["moduleId"], &twin["properties"]["desired"]["a"]), (&json!("m"), &json!(1)));
    assert_eq!(service.get("/twins/d").json()["properties"]["desired"].get("a"), None);
    assert_eq!(
        service.query("SELECT * FROM devices.modules WHERE properties.desired.a = 1")[0]["moduleId"],
        "m"
    );
    let missing = service.get("/devices/d/modules/n");
    assert_eq!((missing.status, code(&missing)), (404, 404_010));
    assert_eq!(missing.header("iothub-errorcode"), Some("ModuleNotFound"));
    let stale = service.send("DELETE", "/devices/d/modules/m", &[("If-Match", "\"x\"")], Value::Null);
    assert_eq!(stale.status, 412);
    assert_eq!(service.send("DELETE", "/devices/d/modules/m", &[], Value::Null).status, 204);
    service.put("/devices/d/modules/n", json!({}));
    assert_eq!(service.send("DELETE", "/devices/d", &[], Value::Null).status, 204);
    // The module went with its device and is not there when the device comes back.
    service.put("/devices/d", json!({}));
    assert_eq!(service.get("/devices/d/modules").json(), json!([]));
    for number in 0..50 {
        assert_eq!(service.put(&format!("/devices/d/modules/m{number}"), json!({})).status, 200);
    }
    let many = service.put("/devices/d/modules/m50", json!({}));
    assert_eq!((many.status, code(&many)), (413, 413_003));
}

#[test]
fn a_bulk_request_does_each_by_itself_and_tells_what_failed() {
    let emulator = start();
    let service = owner(&emulator);
    let bulk = |operations: Value| service.send("POST", "/devices", &[], operations);
    let created = bulk(json!([
        {"id": "a", "importMode": "create", "status": "enabled", "tags": {"x": 1}, "properties": {"desired": {"y": 2}}},
        {"id": "b", "importMode": "create", "status": "disabled", "authentication": {"type": "certificateAuthority"}},
        {"id": "a", "moduleId": "m", "importMode": "create"},
    ]));
    assert_eq!((created.status, &created.json()["isSuccessful"]), (200, &json!(true)));
    let twin = service.get("/twins/a").json();
    assert_eq!((&twin["tags"], &twin["properties"]["desired"]["y"]), (&json!({"x": 1}), &json!(2)));
    assert_eq!(service.get("/devices/b").json()["authentication"]["type"], "certificateAuthority");
    assert_eq!(service.get("/devices/a/modules/m").status, 200);

    let mixed = bulk(json!([
        {"id": "a", "importMode": "create"},
        {"id": "c", "importMode": "createOrUpdate"},
        {"id": "b", "importMode": "updateIfMatchETag", "eTag": "stale", "status": "enabled"},
        {"id": "none", "importMode": "delete"},
        {"id": "a", "moduleId": "m", "importMode": "updateTwin", "tags": {"bad.key": 1}},
        {"id": "d", "importMode": "create", "tags": {"bad.key": 1}},
        {"id": "e", "importMode": "sing"},
    ]));
    assert_eq!((mixed.status, mixed.header("iothub-errorcode")), (400, Some("BulkRegistryOperationFailure")));
    let codes: Vec<(String, String)> = mixed.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| {
            (error["deviceId"].as_str().unwrap().into(), error["errorCode"].as_str().unwrap().into())
        })
        .collect();
    let expected = [
        ("a", "DeviceAlreadyExists"),
        ("b", "PreconditionFailed"),
        ("none", "DeviceNotFound"),
        ("a", "ArgumentInvalid"),
        ("d", "ArgumentInvalid"),
        ("e", "ArgumentInvalid"),
    ];
    assert_eq!(codes, expected.map(|(id, code)| (id.to_owned(), code.to_owned())));
    assert_eq!(service.get("/devices/c").status, 200);
    assert_eq!(service.get("/devices/d").status, 404);

    let etag = service.get("/devices/b").json()["etag"].clone();
    let twin_etag = service.get("/twins/c").json()["etag"].clone();
    let rest = bulk(json!([
        {"id": "b", "importMode": "UpdateIfMatchETag", "eTag": etag, "status": "enabled"},
        {"id": "c", "importMode": "updateTwinIfMatchETag", "twinETag": twin_etag, "tags": {"z": 3}},
        {"id": "a", "moduleId": "m", "importMode": "delete"},
        {"id": "a", "importMode": "deleteIfMatchETag", "eTag": service.get("/devices/a").json()["etag"]},
    ]));
    assert_eq!(rest.json(), json!({"isSuccessful": true, "errors": [], "warnings": []}));
    assert_eq!(service.get("/devices/b").json()["status"], "enabled");
    assert_eq!(service.get("/twins/c").json()["tags"], json!({"z": 3}));
    assert_eq!(service.get("/devices/a").status, 404);

    let twice = bulk(json!([{"id": "x", "importMode": "create"}, {"id": "x", "importMode": "delete"}]));
    assert_eq!((twice.status, code(&twice)), (400, 400_011));
    let many: Vec<Value> = (0..101).map(|n| json!({"id": format!("n{n}"), "importMode": "create"})).collect();
    let many = bulk(json!(many));
    assert_eq!((many.status, code(&many)), (413, 413_002));
    assert_eq!(bulk(json!({"id": "x"})).status, 400);
}

#[test]
fn disabling_or_deleting_a_device_cuts_it_off() {
    let emulator = start();
    let service = owner(&emulator);
    service.put("/devices/d", json!({}));
    let mut device = Device::connect(&emulator, "d");
    assert_eq!(service.get("/devices/d").json()["connectionState"], "Connected");
    let disabled = json!({"status": "disabled", "statusReason": "sold"});
    let disabled = service.send("PUT", "/devices/d", &[("If-Match", "\"*\"")], disabled).json();
    assert_eq!(
        (&disabled["statusReason"], &disabled["connectionState"]),
        (&json!("sold"), &json!("Disconnected"))
    );
    assert_ne!(disabled["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    assert!(device.is_closed());
    let (_, connack) = Device::try_connect(&emulator, "d", &dialect(&emulator, "d"));
    assert_eq!(connack[1], 5);
    service.send("PUT", "/devices/d", &[("If-Match", "*")], json!({"status": "enabled"}));
    let mut device = Device::connect(&emulator, "d");
    service.send("DELETE", "/devices/d", &[], Value::Null);
    assert!(device.is_closed());
    // A device of the same name is another one.
    let generation = |answer: Answer| answer.json()["generationId"].clone();
    let first = generation(service.put("/devices/d", json!({})));
    service.send("DELETE", "/devices/d", &[], Value::Null);
    assert_ne!(generation(service.put("/devices/d", json!({}))), first);
}

#[test]
fn lists_are_limited_and_a_queue_can_be_purged() {
    let emulator = start();
    let service = owner(&emulator);
    for id in ["a", "b", "c"] {
        service.put(&format!("/devices/{id}"), json!({}));
    }
    let top = |path: &str| {
        let text = emulator.service_connection_string();
        let key = part(&text, "SharedAccessKey");
        let token = hub_emulator::sign("localhost", key, now() + 60, Some("iothubowner")).unwrap();
        http(&emulator, "GET", path, &[("Authorization", &token)], b"")
    };
    for path in ["/devices?top=2&api-version=x", "/devices/?api-version=x&top=2"] {
        assert_eq!(top(path).json().as_array().unwrap().len(), 2, "{path}");
    }
    assert_eq!(top("/devices?top=0").status, 400);
    let purged = service.send("DELETE", "/devices/a/commands", &[], Value::Null);
    assert_eq!(purged.json(), json!({"deviceId": "a", "moduleId": null, "totalMessagesPurged": 0}));
    assert_eq!(service.send("DELETE", "/devices/x/commands", &[], Value::Null).status, 404);
}
