//! The provisioning service: over MQTT, through a WebSocket, over HTTPS.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hub_emulator::{Emulator, EventKind, Fault, FaultKind, sign};
use rustls::version::TLS12;
use serde_json::{Value, json};
use sha2::Sha256;
use support::pki::Holder;
use support::websocket::WebSocket;
use support::*;

const REPLIES: &str = "$dps/registrations/res/#";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=one";
const SCOPE: &str = "0ne00000001";

/// As the vendor's clients connect: no `?` in the user name.
fn claim(id: &str, password: Option<String>) -> Dialect {
    let username = format!("{SCOPE}/registrations/{id}/api-version=2019-03-31&ClientVersion=test%2F1");
    Dialect { clean: true, keep_alive: 60, username, password }
}

fn token(id: &str, key: &str) -> Option<String> {
    sign(&format!("{SCOPE}/registrations/{id}"), key, now() + 600, Some("registration"))
}

fn key_of(enrollment: &Value) -> String {
    enrollment["attestation"]["symmetricKey"]["primaryKey"].as_str().unwrap().to_owned()
}

/// HMAC-SHA256, the key and the result in base64; written here again, not to trust the emulator's own.
fn hmac(key: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(key).unwrap()).unwrap();
    mac.update(message.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn connected(stream: Box<dyn Stream>, id: &str, dialect: &Dialect) -> Device {
    let (mut client, connack) = Device::over(stream, id, dialect);
    assert_eq!(connack, [0, 0]);
    assert_eq!(client.subscribe(REPLIES, 1), [1]);
    client
}

/// Asks and polls to the end; the last answer's topic and body, and how many polls were told to come again.
fn register(client: &mut Device, id: &str) -> (String, Value, usize) {
    client.publish(REGISTER, json!({"registrationId": id, "payload": null}).to_string().as_bytes());
    let (mut topic, mut body) = client.json();
    let mut again = 0;
    while topic.starts_with("$dps/registrations/res/202/?$rid=") {
        assert!(topic.ends_with("&retry-after=1"), "{topic}");
        assert_eq!(body["status"], "assigning");
        let operation = body["operationId"].as_str().unwrap().to_owned();
        let ask = format!(
            "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=r{again}&operationId={operation}"
        );
        client.publish(&ask, b" ");
        (topic, body) = client.json();
        again += 1;
    }
    (topic, body, again - usize::from(again > 0))
}

fn plain(emulator: &Emulator) -> Box<dyn Stream> {
    Box::new(dial(emulator, emulator.mqtt_port()))
}

#[test]
fn a_device_is_registered_by_its_key_and_then_comes_in_as_told() {
    let emulator = start();
    emulator.configure_provisioning(&json!({"polls": 2})).unwrap();
    let twin = json!({"tags": {"line": 4}, "properties": {"desired": {"rate": 9}}});
    let body =
        json!({"registrationId": "reg-1", "deviceId": "dev-1", "initialTwin": twin, "payload": {"a": 1}});
    let key = key_of(&emulator.create_enrollment(body).unwrap());
    let events = emulator.events();
    let mut client = connected(plain(&emulator), "reg-1", &claim("reg-1", token("reg-1", &key)));
    let (topic, body, polls) = register(&mut client, "reg-1");
    assert_eq!((topic.as_str(), polls), ("$dps/registrations/res/200/?$rid=r2", 2));
    let host = format!("localhost:{}", emulator.mqtt_port());
    let state = &body["registrationState"];
    assert_eq!((&body["status"], &state["status"]), (&json!("assigned"), &json!("assigned")));
    assert_eq!((&state["assignedHub"], &state["deviceId"]), (&json!(host), &json!("dev-1")));
    assert_eq!((&state["registrationId"], &state["payload"]), (&json!("reg-1"), &json!({"a": 1})));
    assert_eq!(state["substatus"], "initialAssignment");
    assert_eq!(emulator.twin("dev-1")["tags"], json!({"line": 4}));
    assert_eq!(emulator.twin("dev-1")["properties"]["desired"]["rate"], 9);
    // As the client would go on: the host as it was given.
    let own = Dialect {
        username: format!("{host}/dev-1/?api-version=2021-04-12"),
        password: sign(&format!("{host}/devices/dev-1"), &key, now() + 60, None),
        ..claim("reg-1", None)
    };
    assert_eq!(Device::try_connect(&emulator, "dev-1", &own).1[1], 0);
    let registered = events.iter().find_map(|event| match event.kind {
        EventKind::Registered { registration, device, status } => Some((registration, device, status)),
        _ => None,
    });
    assert_eq!(registered.unwrap(), ("reg-1".to_owned(), "dev-1".to_owned(), "assigned".to_owned()));
}

#[test]
fn a_groups_devices_come_with_keys_derived_from_its_own() {
    let emulator = start();
    let group = emulator.create_enrollment_group(json!({"enrollmentGroupId": "factory"})).unwrap();
    let key = hmac(&key_of(&group), "sn-1");
    // The raw resource and no policy, as Node and Python do it.
    let expiry = now() + 600;
    let resource = format!("{SCOPE}/registrations/sn-1");
    let signature = hmac(&key, &format!("{resource}\n{expiry}"))
        .replace('+', "%2B")
        .replace('=', "%3D")
        .replace('/', "%2F");
    let raw = format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}");
    let mut client = connected(plain(&emulator), "sn-1", &claim("sn-1", Some(raw)));
    let (_, body, polls) = register(&mut client, "sn-1");
    assert_eq!((&body["registrationState"]["deviceId"], polls), (&json!("sn-1"), 1));
    let own = emulator.device_connection_string("sn-1").unwrap();
    assert_eq!(part(&own, "SharedAccessKey"), key);
    // Another device's key, and the group's own, open nothing.
    for wrong in [hmac(&key_of(&group), "sn-2"), key_of(&group)] {
        let mut client = connected(plain(&emulator), "sn-1", &claim("sn-1", token("sn-1", &wrong)));
        let (topic, body, _) = register(&mut client, "sn-1");
        assert_eq!(topic, "$dps/registrations/res/401/?$rid=one");
        assert_eq!((&body["errorCode"], &body["message"]), (&json!(401_002), &json!("Unauthorized")));
    }
}

#[test]
fn certificates_register_alone_and_in_groups() {
    let emulator = start();
    let own = Holder::self_signed("solo", false);
    let x509 = json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": own.pem}}}});
    emulator.create_enrollment(json!({"registrationId": "solo", "attestation": x509})).unwrap();
    let root = Holder::self_signed("factory root", true);
    let x509 =
        json!({"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": root.pem}}}});
    emulator.create_enrollment_group(json!({"enrollmentGroupId": "factory", "attestation": x509})).unwrap();
    let member = root.sign("middle", true).sign("member", false);
    for (holder, id) in [(&own, "solo"), (&member, "member")] {
        let tls = holder.dial(&emulator, emulator.mqtt_port(), &TLS12);
        let mut client = connected(Box::new(tls), id, &claim(id, None));
        let (_, body, _) = register(&mut client, id);
        assert_eq!(body["registrationState"]["deviceId"], id, "{body}");
        // The hub knows the device by the certificate it registered with.
        let tls = holder.dial(&emulator, emulator.mqtt_port(), &TLS12);
        let username = format!("localhost/{id}/?api-version=2021-04-12");
        let dialect = Dialect { username, ..claim(id, None) };
        assert_eq!(Device::over(Box::new(tls), id, &dialect).1[1], 0);
    }
    // The name in the certificate must be the registration id; a certificate of one's own making is none.
    for (holder, id) in
        [(&member, "another"), (&own, "member"), (&Holder::self_signed("member", false), "member")]
    {
        let tls = holder.dial(&emulator, emulator.mqtt_port(), &TLS12);
        let mut client = connected(Box::new(tls), id, &claim(id, None));
        assert_eq!(register(&mut client, id).1["errorCode"], 401_002, "{id}");
    }
    // Neither token nor certificate.
    let (mut client, connack) = Device::over(plain(&emulator), "solo", &claim("solo", None));
    assert_eq!(connack[1], 5);
    assert!(client.is_closed());
}

#[test]
fn outcomes_other_than_assignment_are_told_in_the_state() {
    let emulator = start();
    for (id, more, status) in [
        ("off", json!({"provisioningStatus": "disabled"}), "disabled"),
        ("bad", json!({"outcome": "failed"}), "failed"),
        ("late", json!({"outcome": "unassigned"}), "unassigned"),
        ("odd", json!({"initialTwin": {"tags": {"a.b": 1}}}), "failed"),
    ] {
        let mut body = more;
        body["registrationId"] = json!(id);
        let key = key_of(&emulator.create_enrollment(body).unwrap());
        let mut client = connected(plain(&emulator), id, &claim(id, token(id, &key)));
        let (topic, body, _) = register(&mut client, id);
        assert_eq!(topic, "$dps/registrations/res/200/?$rid=r1");
        let state = &body["registrationState"];
        assert_eq!((&body["status"], &state["status"]), (&json!(status), &json!(status)), "{id}");
        assert_eq!((state.get("assignedHub"), state.get("deviceId")), (None, None));
        assert_eq!(state.get("errorMessage").is_some(), status == "failed");
    }
}

#[test]
fn a_device_that_registers_again_stays_moves_or_starts_anew_by_the_policy() {
    let emulator = start();
    let enroll = |hub: &str, update: bool, migrate: bool| {
        let policy = json!({"updateHubAssignment": update, "migrateDeviceData": migrate});
        let body = json!({"registrationId": "dev", "iotHubHostName": hub, "reprovisionPolicy": policy});
        key_of(&emulator.create_enrollment(body).unwrap())
    };
    let key = enroll("one.example", true, true);
    let again = || {
        let mut client = connected(plain(&emulator), "dev", &claim("dev", token("dev", &key)));
        let state = register(&mut client, "dev").1["registrationState"].clone();
        (state["assignedHub"].as_str().unwrap().to_owned(), state["substatus"].as_str().unwrap().to_owned())
    };
    let told = |hub: &str, substatus: &str| (hub.to_owned(), substatus.to_owned());
    assert_eq!(again(), told("one.example", "initialAssignment"));
    emulator.patch_twin("dev", json!({"tags": {"kept": true}})).unwrap();
    assert_eq!(again(), told("one.example", "initialAssignment"));
    assert_eq!(enroll("two.example", false, false), key);
    assert_eq!(again(), told("one.example", "initialAssignment"));
    enroll("two.example", true, true);
    assert_eq!(again(), told("two.example", "deviceDataMigrated"));
    assert_eq!(emulator.twin("dev")["tags"]["kept"], true);
    enroll("three.example", true, false);
    assert_eq!(again(), told("three.example", "deviceDataReset"));
    assert_eq!(emulator.twin("dev")["tags"], json!({}));
    // A device that was deleted comes back.
    owner(&emulator).send("DELETE", "/devices/dev", &[], Value::Null);
    assert_eq!(again().0, "three.example");
    assert_eq!(emulator.twin("dev")["deviceId"], "dev");
    // One that was disabled stays so.
    owner(&emulator).send("PUT", "/devices/dev", &[("If-Match", "\"*\"")], json!({"status": "disabled"}));
    again();
    assert_eq!(emulator.twin("dev")["status"], "disabled");
}

#[test]
fn refusals_and_violations() {
    let emulator = start();
    let key = key_of(&emulator.create_enrollment(json!({"registrationId": "dev"})).unwrap());
    let good = claim("dev", token("dev", &key));
    // At the door: what is expired, or for something else, or from another scope's service.
    let expired = sign(&format!("{SCOPE}/registrations/dev"), &key, now() - 4000, None);
    for password in [expired, token("other", &key), sign("localhost/devices/dev", &key, now() + 60, None)] {
        assert_eq!(Device::try_connect(&emulator, "dev", &claim("dev", password)).1[1], 5);
    }
    let scope = "0ne99999999";
    let elsewhere = Dialect {
        username: good.username.replace(SCOPE, scope),
        password: sign(&format!("{scope}/registrations/dev"), &key, now() + 60, None),
        ..good.clone()
    };
    let mut client = connected(plain(&emulator), "dev", &elsewhere);
    assert_eq!(register(&mut client, "dev").0, "$dps/registrations/res/404/?$rid=one");

    let mut client = connected(plain(&emulator), "dev", &good);
    assert_eq!(client.subscribe("$iothub/twin/res/#", 0), [0x80]);
    client.publish(REGISTER, br#"{"registrationId": "other"}"#);
    assert_eq!(client.json().0, "$dps/registrations/res/400/?$rid=one");
    client.publish(REGISTER, b"no json");
    assert_eq!(client.json().1["errorCode"], 400_004);
    client.publish("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=x&operationId=5.none", b" ");
    let (topic, body) = client.json();
    assert_eq!((topic.as_str(), &body["errorCode"]), ("$dps/registrations/res/404/?$rid=x", &json!(404_203)));
    for (first, topic) in
        [(0x30, "$dps/registrations/POST/?$rid=1"), (0x34, REGISTER), (0x30, "devices/dev/messages/events/")]
    {
        let mut client = connected(plain(&emulator), "dev", &good);
        let id: &[u8] = if first == 0x34 { &[0, 9] } else { &[] };
        let length = u16::try_from(topic.len()).unwrap().to_be_bytes();
        client.send(first, &[&length[..], topic.as_bytes(), id, b"{}"].concat());
        assert!(client.is_closed(), "{topic}");
    }
}

#[test]
fn a_throttled_service_says_when_to_come_again() {
    let emulator = start();
    let key = key_of(&emulator.create_enrollment(json!({"registrationId": "dev"})).unwrap());
    emulator
        .faults()
        .set(Fault::once("dev", FaultKind::FailRegistration { status: 429, retry_after: Some(3) }));
    let mut client = connected(plain(&emulator), "dev", &claim("dev", token("dev", &key)));
    let (topic, body, _) = register(&mut client, "dev");
    assert_eq!(
        (topic.as_str(), &body["errorCode"]),
        ("$dps/registrations/res/429/?$rid=one&retry-after=3", &json!(429_001))
    );
    assert_eq!(register(&mut client, "dev").1["status"], "assigned");
}

#[test]
fn through_a_websocket_the_way_back_is_the_same_port() {
    let emulator = start();
    let key = key_of(&emulator.create_enrollment(json!({"registrationId": "dev"})).unwrap());
    let socket = WebSocket::open(&emulator);
    let mut client = connected(Box::new(socket), "dev", &claim("dev", token("dev", &key)));
    let state = register(&mut client, "dev").1["registrationState"].clone();
    assert_eq!(state["assignedHub"], format!("localhost:{}", emulator.https_port()));
    emulator.configure_provisioning(&json!({"assignedHub": "my.hub"})).unwrap();
    let mut client = connected(plain(&emulator), "dev", &claim("dev", token("dev", &key)));
    assert_eq!(register(&mut client, "dev").1["registrationState"]["assignedHub"], "my.hub");
}

#[test]
fn over_https_it_is_the_same_service() {
    let emulator = start();
    let body = json!({"attestation": {"type": "symmetricKey"}, "deviceId": "named"}).to_string();
    let made = http(&emulator, "PUT", "/emulator/enrollments/dev", &[], body.as_bytes());
    assert_eq!(made.status, 200);
    let authorization = token("dev", &key_of(&made.json())).unwrap();
    let send = |method: &str, path: &str, authorization: &str, body: &[u8]| {
        let path = format!("/{SCOPE}/registrations/{path}?api-version=2019-03-31");
        http(&emulator, method, &path, &[("Authorization", authorization)], body)
    };
    assert_eq!(send("POST", "dev", &authorization, b"{}").status, 404);
    let first = send("PUT", "dev/register", &authorization, br#"{"registrationId": "dev"}"#);
    assert_eq!((first.status, first.header("retry-after")), (202, Some("1")));
    let operation = format!("dev/operations/{}", first.json()["operationId"].as_str().unwrap());
    assert_eq!(send("GET", &operation, &authorization, b"").status, 202);
    let last = send("GET", &operation, &authorization, b"");
    assert_eq!((last.status, &last.json()["registrationState"]["deviceId"]), (200, &json!("named")));
    assert_eq!(send("POST", "dev", &authorization, b"{}").json()["status"], "assigned");
    assert_eq!(send("GET", &operation, &token("dev", "AAAAAAAAAAAAAAAAAAAAAA==").unwrap(), b"").status, 401);
    let all = http(&emulator, "GET", "/emulator/provisioning", &[], b"").json();
    assert_eq!((&all["idScope"], &all["registrations"][0]["deviceId"]), (&json!(SCOPE), &json!("named")));
    assert_eq!(http(&emulator, "DELETE", "/emulator/enrollments/dev", &[], b"").status, 204);
    assert_eq!(send("GET", &operation, &authorization, b"").status, 401);
    assert_eq!(emulator.twin("named")["deviceId"], "named");
}
