//! Messages both ways, and modules.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use hub_emulator::{Code, EventKind, Fault, FaultKind, sign};
use serde_json::{Value, json};
use support::*;

fn devicebound(id: &str) -> String {
    format!("devices/{id}/messages/devicebound/#")
}

#[test]
fn a_message_waits_for_its_device_until_it_is_acknowledged() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let body = json!({
        "body": "hello", "messageId": "m 1", "contentType": "text/plain",
        "properties": {"empty": "", "null": null, "k y": "v&=/"},
    });
    assert_eq!(emulator.send_message("dev", &body).unwrap(), 1);
    assert_eq!(emulator.twin("dev")["cloudToDeviceMessageCount"], 1);
    let mut device = Device::connect(&emulator, "dev");
    assert!(device.drain().is_empty(), "it has not subscribed");
    assert_eq!(device.subscribe(&devicebound("dev"), 1), [1]);
    let (topic, payload, packet, again) = device.unacknowledged();
    let bag = "%24.to=%2Fdevices%2Fdev%2Fmessages%2Fdevicebound&%24.mid=m%201&%24.ct=text%2Fplain&empty=&k%20y=v%26%3D%2F&null";
    assert_eq!(topic, format!("devices/dev/messages/devicebound/{bag}"));
    assert_eq!((payload.as_slice(), again), (&b"hello"[..], false));
    // Subscribing again brings it no second time; a new connection does, before it has subscribed.
    device.subscribe(&devicebound("dev"), 1);
    assert!(device.drain().is_empty());
    let (mut device, connack) = Device::try_connect(&emulator, "dev", &dialect(&emulator, "dev"));
    assert_eq!(connack, [1, 0]);
    let (same, _, second, again) = device.unacknowledged();
    assert_eq!((same, second, again), (topic, packet, true));
    let events = emulator.events();
    device.acknowledge(second);
    device.drain();
    assert_eq!(emulator.waiting_messages("dev"), json!([]));
    let completed = events.iter().find_map(|event| match event.kind {
        EventKind::MessageCompleted { device, id } => Some((device, id)),
        _ => None,
    });
    assert_eq!(completed.unwrap(), ("dev".to_owned(), "m 1".to_owned()));
    // At once when it listens; JSON when it is no text.
    emulator.send_message("dev", &json!({"body": {"a": 1}})).unwrap();
    assert_eq!(device.unacknowledged().1, br#"{"a":1}"#);
}

#[test]
fn messages_expire_are_purged_and_do_not_pile_up() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    emulator.send_message("dev", &json!({"body": "late", "ttlSeconds": 0})).unwrap();
    assert_eq!(emulator.twin("dev")["cloudToDeviceMessageCount"], 0);
    for number in 1..=50 {
        assert_eq!(emulator.send_message("dev", &json!({"body": number})).unwrap(), number);
    }
    assert_eq!(emulator.send_message("dev", &json!({})).unwrap_err().code, Code::QueueFull);
    let purged = owner(&emulator).send("DELETE", "/devices/dev/commands", &[], Value::Null);
    assert_eq!(purged.json()["totalMessagesPurged"], 50);
    let large = json!({"body": "x".repeat(65 * 1024)});
    assert_eq!(emulator.send_message("dev", &large).unwrap_err().code, Code::MessageTooLarge);
    assert_eq!(emulator.send_message("nobody", &json!({})).unwrap_err().code, Code::DeviceNotFound);
    // One that is never acknowledged is given up after ten deliveries.
    emulator.send_message("dev", &json!({"body": "never"})).unwrap();
    let mut device = Device::connect(&emulator, "dev");
    device.subscribe(&devicebound("dev"), 1);
    for _ in 1..10 {
        device.unacknowledged();
        device = Device::connect(&emulator, "dev");
    }
    device.unacknowledged();
    let mut device = Device::connect(&emulator, "dev");
    assert!(device.drain().is_empty());
    assert_eq!(emulator.waiting_messages("dev"), json!([]));
}

#[test]
fn at_qos_0_nobody_acknowledges_and_a_duplicate_comes_twice() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut device = Device::connect(&emulator, "dev");
    assert_eq!(device.subscribe(&devicebound("dev"), 0), [0]);
    emulator.send_message("dev", &json!({"body": "once"})).unwrap();
    assert_eq!(device.message().1, b"once");
    assert_eq!(emulator.waiting_messages("dev"), json!([]));
    emulator.faults().set(Fault::once("dev", FaultKind::DuplicateC2d));
    emulator.send_message("dev", &json!({"body": "twice"})).unwrap();
    assert_eq!((device.message().1, device.message().1), (b"twice".to_vec(), b"twice".to_vec()));
}

#[test]
fn the_door_for_messages_is_the_service_clients_amqp() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let path = "/emulator/devices/dev/messages";
    let body = br#"{"bodyBase64": "AAEC", "messageId": "one"}"#;
    let sent = http(&emulator, "POST", path, &[], body);
    assert_eq!((sent.status, sent.json()), (200, json!({"messageId": "one", "pending": 1})));
    assert_eq!(http(&emulator, "GET", path, &[], b"").json()[0]["bodyBase64"], "AAEC");
    for wrong in [&br#"{"bodyBase64": "?"}"#[..], br#"{"ttlSeconds": -1}"#] {
        assert_eq!(http(&emulator, "POST", path, &[], wrong).status, 400);
    }
    assert_eq!(http(&emulator, "DELETE", path, &[], b"").json(), json!({"purged": 1}));
}

#[test]
fn the_latest_telemetry_can_be_read() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut device = Device::connect(&emulator, "dev");
    let topic = "devices/dev/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8&level=a%26b";
    device.publish(topic, br#"{"t": 21.5}"#);
    device.publish("devices/dev/messages/events/", b"no json");
    device.publish("devices/dev/messages/events/", b"\xFF");
    let read = emulator.telemetry("dev");
    assert_eq!(read[0]["properties"], json!({"$.ct": "application/json", "$.ce": "utf-8", "level": "a&b"}));
    assert_eq!(
        (&read[0]["body"], &read[1]["body"], &read[2]["body"]),
        (&json!({"t": 21.5}), &json!("no json"), &json!("/w=="))
    );
    for number in 0..30 {
        device.publish("devices/dev/messages/events/", number.to_string().as_bytes());
    }
    let read = emulator.telemetry("dev");
    assert_eq!((read.len(), &read[0]["body"], &read[19]["body"]), (20, &json!(10), &json!(29)));
    assert_eq!(emulator.state()["devices"]["dev"]["telemetry"], 33);
    assert_eq!(emulator.state()["devices"]["dev"]["received"][19]["bytes"], 2);
}

#[test]
fn a_module_is_an_identity_of_its_own() {
    let emulator = start();
    let device = emulator.create_device("dev", Value::Null).unwrap();
    let body = json!({"deviceId": "dev", "moduleId": "mod", "authentication": {"type": "sas"}});
    let made = owner(&emulator).put("/devices/dev/modules/mod", body).json();
    let key = made["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let dialect = Dialect {
        username: "localhost/dev/mod/?api-version=2021-04-12&model-id=dtmi%3Aa%3Bb%3B1".to_owned(),
        password: sign("localhost/devices/dev/modules/mod", key, now() + 60, None),
        ..dialect(&emulator, "dev")
    };
    let with = |password| Dialect { password, ..dialect.clone() };
    let devices = part(&device, "SharedAccessKey");
    for wrong in [
        with(sign("localhost/devices/dev/modules/mod", devices, now() + 60, None)),
        with(sign("localhost/devices/dev/modules/other", key, now() + 60, None)),
    ] {
        assert_eq!(Device::try_connect(&emulator, "dev/mod", &wrong).1[1], 5);
    }
    let (mut module, connack) = Device::try_connect(&emulator, "dev/mod", &dialect);
    assert_eq!(connack, [0, 0]);
    // The device is beside it, not instead of it.
    let _device = Device::connect(&emulator, "dev");
    assert_eq!(module.subscribe("devices/dev/modules/mod/inputs/#", 1), [1]);
    assert_eq!(module.subscribe("devices/dev/messages/devicebound/#", 1), [0x80]);
    for filter in [TWIN, DESIRED, METHODS] {
        assert_eq!(module.subscribe(filter, 1), [1]);
    }
    assert_eq!(module.twin()["desired"]["$version"], 1);
    module.report(&json!({"a": 1}));
    assert_eq!(emulator.twin("dev/mod")["properties"]["reported"]["a"], 1);
    assert_eq!(emulator.twin("dev/mod")["modelId"], "dtmi:a;b;1");
    assert_eq!(emulator.twin("dev")["properties"]["reported"].get("a"), None);
    let patch = json!({"properties": {"desired": {"b": 2}}});
    owner(&emulator).send("PATCH", "/twins/dev/modules/mod", &[], patch);
    assert_eq!(module.json().1["b"], 2);
    module.publish("devices/dev/modules/mod/messages/events/", b"1");
    assert_eq!(emulator.telemetry("dev/mod").len(), 1);
    module.publish0("devices/dev/messages/events/", b"1");
    assert!(module.is_closed());
}
