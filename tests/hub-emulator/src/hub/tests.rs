//! What the service may send: good documents with any part of them replaced by something odd.
#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::digital_twins;
use crate::error::Error;

fn hub() -> Hub {
    let events: Arc<Events> = Arc::default();
    let mut hub = Hub::new(Policies::new(None, 0), Arc::clone(&events), Faults::new(events), true);
    hub.put_identity("d", &json!({"capabilities": {"iotEdge": true}}), None).unwrap();
    hub.put_identity("d/m", &json!({}), None).unwrap();
    hub
}

/// The document with each of its parts in turn replaced by each of the odd values, or left out.
fn spoilt(document: &Value) -> Vec<Value> {
    let odd = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("/\u{0}ü"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"": {"$x": [null]}}),
    ];
    let mut all: Vec<Value> = odd.to_vec();
    let wrap = |make: &dyn Fn(Value) -> Value, inner: &Value| -> Vec<Value> {
        spoilt(inner).into_iter().map(make).collect()
    };
    match document {
        Value::Object(members) => {
            for (name, inner) in members {
                let mut without = members.clone();
                without.remove(name);
                all.push(Value::Object(without));
                let put = |value: Value| {
                    let mut next = members.clone();
                    next.insert(name.clone(), value);
                    Value::Object(next)
                };
                all.extend(wrap(&put, inner));
            }
        }
        Value::Array(items) => {
            for (at, inner) in items.iter().enumerate() {
                let put = |value: Value| {
                    let mut next = items.clone();
                    next[at] = value;
                    Value::Array(next)
                };
                all.extend(wrap(&put, inner));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    all
}

/// Sends every spoilt document; the hub must answer each and still know what it knew.
fn send(good: &Value, mut act: impl FnMut(&mut Hub, &Value) -> Result<(), Error>) {
    act(&mut hub(), good).unwrap();
    let all = spoilt(good);
    let mut refused = 0;
    for body in &all {
        let mut hub = hub();
        let before = hub.state();
        match act(&mut hub, body) {
            Ok(()) => {}
            Err(error) => {
                refused += 1;
                assert!((400..502).contains(&error.code.status()), "{body}: {error}");
                assert!(!error.message.is_empty());
                assert_eq!(hub.state(), before, "{body}: {error}");
            }
        }
        // It can still be shown, asked, and moved on.
        hub.evaluate_all();
        let everything = query::query("SELECT * FROM devices WHERE IS_DEFINED(deviceId)").unwrap();
        assert_eq!(hub.ask(&everything).len(), hub.devices.len());
    }
    assert!(refused > 0 && refused < all.len(), "{refused} of {}", all.len());
}

#[test]
fn odd_identities_and_twins_are_refused_or_harmless() {
    let authentication = json!({
        "type": "selfSigned",
        "symmetricKey": {"primaryKey": "", "secondaryKey": ""},
        "x509Thumbprint": {"primaryThumbprint": "ab".repeat(20), "secondaryThumbprint": null},
    });
    let device = json!({
        "deviceId": "new",
        "status": "enabled",
        "statusReason": "x",
        "authentication": authentication,
        "capabilities": {"iotEdge": true},
        "deviceScope": "x",
        "parentScopes": ["x"],
    });
    send(&device, |hub, body| hub.put_identity("new", body, None).map(drop));
    let twin = json!({"tags": {"a": {"b": 1}}, "properties": {"desired": {"c": ["d", {"e": null}]}}});
    for replace in [false, true] {
        send(&twin, |hub, body| hub.update_twin("d/m", body, replace, None).map(drop));
    }
    send(&json!([{"op": "add", "path": "/a/b", "value": 1}]), |hub, body| {
        hub.update_twin("d", &digital_twins::twin_patch(body)?, false, None)?;
        digital_twins::document(hub.device("d")?);
        Ok(())
    });
}

#[test]
fn odd_configurations_and_contents_are_refused_or_harmless() {
    let body = json!({
        "id": "c",
        "labels": {"a": "b"},
        "priority": 3,
        "targetCondition": "deviceId = 'd'",
        "content": {"deviceContent": {"properties.desired.x": {"y": 1}}},
        "metrics": {"queries": {"m": "SELECT COUNT() AS n FROM devices"}},
    });
    send(&body, |hub, body| hub.put_configuration("c", body, None).map(drop));
    send(&json!({"deviceContent": {"properties.desired.x": 1}}), |hub, body| hub.apply_content("d", body));
}

#[test]
fn odd_jobs_are_refused_or_harmless() {
    let call = json!({
        "methodName": "go",
        "payload": {},
        "responseTimeoutInSeconds": 30,
        "connectTimeoutInSeconds": 0,
    });
    let method = json!({
        "jobId": "j",
        "type": "scheduleDeviceMethod",
        "cloudToDeviceMethod": call,
        "queryCondition": "*",
        "startTime": "2026-01-01T00:00:00Z",
        "maxExecutionTimeInSeconds": 60,
    });
    send(&method, |hub, body| hub.put_job("j", body).map(drop));
    let twin = json!({
        "type": "scheduleUpdateTwin",
        "updateTwin": {"etag": "*", "tags": {"a": 1}, "properties": {"desired": {"b": 2}}},
        "queryCondition": "deviceId = 'd'",
    });
    send(&twin, |hub, body| hub.put_job("j", body).map(drop));
}

#[test]
fn odd_bulk_requests_are_refused_or_harmless() {
    let many = json!([{
        "id": "n",
        "importMode": "create",
        "tags": {"a": 1},
        "properties": {"desired": {"b": 2}},
        "status": "enabled",
    }]);
    for body in spoilt(&many) {
        let mut hub = hub();
        let Ok(result) = hub.bulk(&body) else { continue };
        let made = hub.devices.len() + hub.modules.len() - 2;
        let failed = result["errors"].as_array().unwrap().len();
        assert_eq!(result["isSuccessful"], failed == 0, "{body}");
        assert_eq!(made + failed, body.as_array().unwrap().len(), "{body}: {result}");
    }
}
