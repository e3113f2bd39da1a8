//! The device's side over a real TLS connection: admission, sessions, twins, methods, violations, faults.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::time::Duration;

use hub_emulator::{Emulator, EventKind, Fault, FaultKind, Options, sign};
use serde_json::{Value, json};
use support::*;

#[test]
fn a_device_reads_reports_and_is_told() {
    let emulator = start();
    emulator.create_device("dev", json!({"secret": "tags are the service's"})).unwrap();
    let mut device = Device::ready(&emulator, "dev");
    assert_eq!(device.twin(), json!({"desired": {"$version": 1}, "reported": {"$version": 1}}));
    let (topic, body) = device.report(&json!({"a": {"b": 1, "c": 2}}));
    assert_eq!((topic.as_str(), body.len()), ("$iothub/twin/res/204/?$rid=r-1&$version=2", 0));
    emulator.patch_twin("dev", json!({"properties": {"desired": {"x": 1, "y": null}}})).unwrap();
    let (topic, body) = device.json();
    assert_eq!(topic, "$iothub/twin/PATCH/properties/desired/?$version=2");
    assert_eq!(body, json!({"x": 1, "y": null, "$version": 2}));
    emulator.set_desired("dev", json!({"z": 1})).unwrap();
    assert_eq!(device.json().1, json!({"z": 1, "$version": 3}));
    assert_eq!(device.twin()["desired"], json!({"z": 1, "$version": 3}));
    assert_eq!(emulator.twin("dev")["properties"]["reported"]["a"], json!({"b": 1, "c": 2}));
    assert_eq!(emulator.twin("dev")["connectionState"], "Connected");
}

#[test]
fn refused_reports_say_why_and_change_nothing() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut device = Device::ready(&emulator, "dev");
    let before = device.twin();
    let long = json!({"a": "x".repeat(5000)});
    for (query, payload, status) in [
        ("$rid=1", long.to_string(), 400),
        ("$rid=1", "not json".to_owned(), 400),
        ("$rid=1", "[1]".to_owned(), 400),
        ("$rid=1&$version=9", "{}".to_owned(), 412),
    ] {
        device.publish(&format!("$iothub/twin/PATCH/properties/reported/?{query}"), payload.as_bytes());
        let (topic, body) = device.json();
        assert_eq!(topic, format!("$iothub/twin/res/{status}/?$rid=1"));
        assert_eq!(body["errorCode"].as_u64().unwrap() / 1000, status);
    }
    assert_eq!(device.twin(), before);
    device.publish("$iothub/twin/PATCH/properties/reported/?$rid=1&$version=1", b"{}");
    assert_eq!(device.message().0, "$iothub/twin/res/204/?$rid=1&$version=2");
}

#[test]
fn only_the_right_token_gets_in() {
    let emulator = start();
    let own = emulator.create_device("dev", Value::Null).unwrap();
    emulator.create_device("other", Value::Null).unwrap();
    let key = part(&own, "SharedAccessKey");
    let policy = |name: &str| emulator.policy_connection_string(name).unwrap();
    let (connecting, serving) = (policy("device"), policy("service"));
    let good = dialect(&emulator, "dev");
    let token = |resource: &str, key: &str, expiry: u64, name| Dialect {
        password: Some(sign(resource, key, expiry, name).unwrap()),
        ..good.clone()
    };
    let later = now() + 600;
    let by = |host: &str| format!("{host}/dev/?api-version=2021-04-12");
    for (code, dialect) in [
        (0, good.clone()),
        (0, token("localhost", part(&connecting, "SharedAccessKey"), later, Some("device"))),
        (0, token("LOCALHOST/devices/dev", key, now() - 200, None)),
        (0, Dialect { username: "localhost/dev/api-version=2016-11-14".to_owned(), ..good.clone() }),
        (0, Dialect { username: by("127.0.0.1"), ..token("127.0.0.1/devices/dev", key, later, None) }),
        (5, Dialect { username: by("elsewhere"), ..token("elsewhere/devices/dev", key, later, None) }),
        (5, token("localhost/devices/dev", key, now() - 400, None)),
        (5, token("localhost/devices/other", key, later, None)),
        (5, token("elsewhere/devices/dev", key, later, None)),
        (5, token("localhost", part(&serving, "SharedAccessKey"), later, Some("service"))),
        (5, Dialect { password: dialect(&emulator, "other").password, ..good.clone() }),
        (5, Dialect { password: Some("secret".to_owned()), ..good.clone() }),
        (5, Dialect { password: None, ..good.clone() }),
        (5, Dialect { username: "localhost/other/?api-version=2021-04-12".to_owned(), ..good.clone() }),
        (5, Dialect { username: "localhost/dev".to_owned(), ..good.clone() }),
    ] {
        let (mut device, connack) = Device::try_connect(&emulator, "dev", &dialect);
        assert_eq!(connack[1], code, "{} {:?}", dialect.username, dialect.password);
        assert!(code == 0 || device.is_closed());
    }
    let unknown = Device::try_connect(&emulator, "nobody", &dialect(&emulator, "nobody")).1;
    assert_eq!(unknown[1], 5);
    owner(&emulator).send("PUT", "/devices/dev", &[("If-Match", "\"*\"")], json!({"status": "disabled"}));
    assert_eq!(Device::try_connect(&emulator, "dev", &good).1[1], 5);
}

#[test]
fn an_expired_token_ends_the_connection() {
    let emulator = start();
    let text = emulator.create_device("dev", Value::Null).unwrap();
    let key = part(&text, "SharedAccessKey");
    let password = sign("localhost/devices/dev", key, now() + 2, None);
    let brief = Dialect { password, ..dialect(&emulator, "dev") };
    let (mut device, connack) = Device::try_connect(&emulator, "dev", &brief);
    assert_eq!(connack[1], 0);
    assert!(device.is_closed());
    assert!(emulator.wait_for(|hub| !hub.device_connected("dev"), PATIENCE));
}

#[test]
fn silence_beyond_one_and_a_half_keep_alives_ends_the_connection() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let quick = Dialect { keep_alive: 1, ..dialect(&emulator, "dev") };
    let events = emulator.events();
    let (mut device, _) = Device::try_connect(&emulator, "dev", &quick);
    assert!(device.is_closed());
    let why = events.iter().find_map(|event| match event.kind {
        EventKind::Disconnected { why, .. } => Some(why),
        _ => None,
    });
    assert!(why.unwrap().contains("keep-alive"));
}

#[test]
fn a_stored_session_keeps_its_subscriptions_and_a_clean_one_does_not() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let lasting = dialect(&emulator, "dev");
    let (mut device, connack) = Device::try_connect(&emulator, "dev", &lasting);
    assert_eq!(connack, [0, 0]);
    device.subscribe(DESIRED, 1);
    device.send(0xE0, &[]);
    assert!(emulator.wait_for(|hub| !hub.device_connected("dev"), PATIENCE));
    // What is set while it is away is not kept for it.
    emulator.set_desired("dev", json!({"missed": 1})).unwrap();
    let (mut device, connack) = Device::try_connect(&emulator, "dev", &lasting);
    assert_eq!(connack, [1, 0]);
    emulator.set_desired("dev", json!({"seen": 1})).unwrap();
    assert_eq!(device.json().1, json!({"seen": 1, "$version": 3}));
    let clean = Dialect { clean: true, ..lasting.clone() };
    let (mut device, connack) = Device::try_connect(&emulator, "dev", &clean);
    assert_eq!(connack, [0, 0]);
    emulator.set_desired("dev", json!({"unseen": 1})).unwrap();
    assert_eq!(device.drain(), []);
    device.subscribe(DESIRED, 1);
    drop(device);
    assert!(emulator.wait_for(|hub| !hub.device_connected("dev"), PATIENCE));
    assert_eq!(Device::try_connect(&emulator, "dev", &lasting).1, [0, 0]);
}

#[test]
fn a_newer_connection_evicts_the_older() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut older = Device::ready(&emulator, "dev");
    let mut newer = Device::connect(&emulator, "dev");
    assert!(older.is_closed());
    assert!(emulator.device_connected("dev"));
    assert_eq!(newer.twin()["reported"]["$version"], 1);
}

#[test]
fn subscriptions_beyond_the_known_and_the_fifth_are_refused() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut device = Device::connect(&emulator, "dev");
    assert_eq!(device.subscribe(TWIN, 2), [1]);
    assert_eq!(device.subscribe(DESIRED, 0), [0]);
    for filter in ["#", "$iothub/#", "devices/other/messages/devicebound/#"] {
        assert_eq!(device.subscribe(filter, 1), [0x80], "{filter}");
    }
    assert_eq!(device.subscribe("devices/dev/messages/devicebound/#", 1), [1]);
    assert!(emulator.wait_for(|hub| hub.subscribed("dev", TWIN) && !hub.subscribed("dev", "#"), PATIENCE));
    // UNSUBSCRIBE.
    device.send(0xA2, &[&[0, 99, 0, 18], TWIN.as_bytes()].concat());
    assert!(emulator.wait_for(|hub| !hub.subscribed("dev", TWIN), PATIENCE));
}

#[test]
fn violations_close_the_connection() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    for (first, body) in [
        // QoS 2, topics that are not, a second CONNECT, and garbage.
        (0x34, &b"\x00\x1Adevices/dev/messages/events\x00\x01"[..]),
        (0x30, b"\x00\x03a/b"),
        (0x30, b"\x00\x1Ddevices/other/messages/events"),
        (0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x03dev"),
        (0xF0, b""),
        (0x20, b"\x00\x00"),
    ] {
        let mut device = Device::connect(&emulator, "dev");
        device.send(first, body);
        assert!(device.is_closed(), "{first:x}");
    }
    let mut silent = dial(&emulator, emulator.mqtt_port());
    std::io::Write::write_all(&mut silent, b"\xC0\x00").unwrap();
    assert!(std::io::Read::read(&mut silent, &mut [0]).map_or(true, |read| read == 0));
}

#[test]
fn telemetry_is_counted_with_its_properties() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let events = emulator.events();
    let mut device = Device::connect(&emulator, "dev");
    device.publish("devices/dev/messages/events/%24.ct=application%2Fjson&level=high", b"{}");
    device.publish0("devices/dev/messages/events/", b"123");
    assert!(emulator.wait_for(|hub| hub.telemetry_count("dev") == 2, PATIENCE));
    let (properties, bytes) = events
        .iter()
        .find_map(|event| match event.kind {
            EventKind::Telemetry { properties, bytes, .. } => Some((properties, bytes)),
            _ => None,
        })
        .unwrap();
    assert_eq!(bytes, 2);
    assert_eq!(properties[0], ("$.ct".to_owned(), "application/json".to_owned()));
}

/// Calls a method from another thread while the device answers it in this one.
fn call(emulator: &Emulator, timeout: Duration, device: impl FnOnce()) -> Result<(i64, Value), String> {
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| emulator.invoke_method("dev", "go", json!({"n": 1}), timeout));
        device();
        caller.join().unwrap().map_err(|error| error.to_string())
    })
}

#[test]
fn methods_go_there_and_back() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut device = Device::ready(&emulator, "dev");
    let mut answer = |status: &str, body: &[u8]| {
        let (topic, payload) = device.json();
        let rid = topic.strip_prefix("$iothub/methods/POST/go/?$rid=").unwrap();
        assert_eq!(payload, json!({"n": 1}));
        device.publish(&format!("$iothub/methods/res/{status}/?$rid={rid}"), body);
    };
    assert_eq!(
        call(&emulator, PATIENCE, || answer("200", br#"{"ok":true}"#)),
        Ok((200, json!({"ok": true})))
    );
    assert_eq!(call(&emulator, PATIENCE, || answer("-4", b"")), Ok((-4, Value::Null)));
    let odd = call(&emulator, PATIENCE, || answer("200", b"not json"));
    assert!(odd.unwrap_err().starts_with("502"));
    emulator.faults().set(Fault::once("dev", FaultKind::LoseMethodAnswer));
    let lost = call(&emulator, Duration::from_millis(300), || answer("200", b"1"));
    assert!(lost.unwrap_err().starts_with("504101"));
    drop(device);
    assert!(emulator.wait_for(|hub| !hub.device_connected("dev"), PATIENCE));
    assert!(call(&emulator, PATIENCE, || ()).unwrap_err().starts_with("404103"));
}

#[test]
fn a_method_can_wait_for_a_device_that_is_away() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let body = json!({"methodName": "go", "payload": 7, "connectTimeoutInSeconds": 5, "responseTimeoutInSeconds": 5});
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| owner(&emulator).send("POST", "/twins/dev/methods", &[], body));
        let mut device = Device::ready(&emulator, "dev");
        let (topic, payload) = device.message();
        assert_eq!(payload, b"7");
        let rid = topic.rsplit_once("$rid=").unwrap().1;
        device.publish0(&format!("$iothub/methods/res/202/?$rid={rid}"), b"\"later\"");
        let answer = caller.join().unwrap();
        assert_eq!((answer.status, answer.json()), (200, json!({"status": 202, "payload": "later"})));
    });
}

#[test]
fn faults_befall_twin_requests_and_notifications() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut device = Device::ready(&emulator, "dev");
    let fault = |kind| emulator.faults().set(Fault::once("dev", kind));
    // Lost: done, but not answered.
    fault(FaultKind::LoseTwin);
    device.publish("$iothub/twin/PATCH/properties/reported/?$rid=1", br#"{"a":1}"#);
    assert_eq!(device.drain(), []);
    assert_eq!(emulator.twin("dev")["properties"]["reported"]["a"], 1);
    // Failed: answered, but not done.
    fault(FaultKind::FailTwin { status: 429 });
    let (topic, body) = device.report(&json!({"a": 2}));
    assert_eq!(topic, "$iothub/twin/res/429/?$rid=r-1");
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["errorCode"], 429_001);
    assert_eq!(emulator.twin("dev")["properties"]["reported"]["a"], 1);
    // Late: another request overtakes it.
    fault(FaultKind::DelayTwin { millis: 200 });
    device.publish("$iothub/twin/GET/?$rid=slow", b"");
    device.publish("$iothub/twin/GET/?$rid=fast", b"");
    assert!(device.message().0.ends_with("$rid=fast"));
    assert!(device.message().0.ends_with("$rid=slow"));
    fault(FaultKind::DuplicateDesired);
    emulator.set_desired("dev", json!({"n": 1})).unwrap();
    assert_eq!(device.message(), device.message());
    fault(FaultKind::LoseDesired);
    emulator.set_desired("dev", json!({"n": 2})).unwrap();
    assert_eq!(device.drain(), []);
    assert_eq!(emulator.faults().list(), []);
}

#[test]
fn faults_befall_connections() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let good = dialect(&emulator, "dev");
    let mut device = Device::ready(&emulator, "dev");
    assert!(emulator.drop_device("dev"));
    assert!(device.is_closed());
    assert!(!emulator.drop_device("dev"));
    for (kind, code) in [(FaultKind::RefuseAuth, 5), (FaultKind::RefuseConnect, 3)] {
        emulator.faults().set(Fault::once("*", kind));
        let (mut device, connack) = Device::try_connect(&emulator, "dev", &good);
        assert_eq!(connack, [0, code]);
        assert!(device.is_closed());
    }
    emulator.faults().set(Fault::once("dev", FaultKind::ForgetSession));
    assert_eq!(Device::try_connect(&emulator, "dev", &good).1, [0, 0]);
    assert_eq!(Device::try_connect(&emulator, "dev", &good).1, [1, 0]);
}

#[test]
fn both_versions_of_tls_are_spoken() {
    let emulator = start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut tls = dial_with(&emulator, emulator.mqtt_port(), &[version]);
        tls.conn.complete_io(&mut tls.sock).unwrap();
        assert_eq!(tls.conn.protocol_version(), Some(version.version));
    }
}

#[test]
fn dropping_the_emulator_frees_its_ports() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut device = Device::connect(&emulator, "dev");
    let (mqtt_port, https_port) = (emulator.mqtt_port(), emulator.https_port());
    drop(emulator);
    assert!(device.is_closed());
    drop(device);
    let again = Emulator::start(Options { mqtt_port, https_port, ..Options::default() });
    assert_eq!(again.unwrap().mqtt_port(), mqtt_port);
}
