//! What outlives the emulator: a restart with a state directory is to clients a lost connection and no more.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;

use hub_emulator::{Emulator, Options};
use rustls::version::TLS13;
use serde_json::{Value, json};
use support::pki::Holder;
use support::*;

/// A directory that goes with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("hub-emulator-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn kept(directory: &Directory, before: Option<&Emulator>) -> Options {
    Options {
        state: Some(directory.0.clone()),
        mqtt_port: before.map_or(0, Emulator::mqtt_port),
        https_port: before.map_or(0, Emulator::https_port),
        ..Options::default()
    }
}

/// Ends it and starts it again on the same ports.
fn restarted(directory: &Directory, emulator: Emulator) -> Emulator {
    let options = kept(directory, Some(&emulator));
    drop(emulator);
    Emulator::start(options).unwrap()
}

#[test]
fn sessions_messages_and_twins_go_on_where_they_were() {
    let directory = Directory::new("sessions");
    let emulator = Emulator::start(kept(&directory, None)).unwrap();
    let text = emulator.create_device("dev", json!({"kind": "a"})).unwrap();
    let good = dialect(&emulator, "dev");
    let mut device = Device::ready(&emulator, "dev");
    device.subscribe("devices/dev/messages/devicebound/#", 1);
    device.report(&json!({"a": {"b": 1}}));
    device.publish("devices/dev/messages/events/", b"1");
    emulator.send_message("dev", &json!({"body": "in flight"})).unwrap();
    device.unacknowledged();
    emulator.patch_twin("dev", json!({"properties": {"desired": {"c": 2}}})).unwrap();
    // A session of CleanSession=1 ends with its connection.
    emulator.create_device("fleeting", Value::Null).unwrap();
    let clean = Dialect { clean: true, ..dialect(&emulator, "fleeting") };
    let (mut fleeting, _) = Device::try_connect(&emulator, "fleeting", &clean);
    fleeting.subscribe(TWIN, 1);
    let (before, ca) = (emulator.twin("dev"), emulator.ca_pem().to_owned());
    let service = emulator.service_connection_string();

    let emulator = restarted(&directory, emulator);
    // The second client goes by the certificate of the first start.
    assert_eq!(emulator.ca_pem(), ca);
    assert_eq!(emulator.service_connection_string(), service);
    assert_eq!(emulator.device_connection_string("dev").unwrap(), text);
    let after = emulator.twin("dev");
    assert_eq!(after["connectionState"], "Disconnected");
    for member in ["etag", "deviceEtag", "version", "tags", "properties"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    emulator.send_message("dev", &json!({"body": "while away"})).unwrap();
    let (mut device, connack) = Device::try_connect(&emulator, "dev", &good);
    assert_eq!(connack, [1, 0], "the session is there");
    let (_, payload, packet, again) = device.unacknowledged();
    assert_eq!((payload.as_slice(), again), (&b"in flight"[..], true));
    device.acknowledge(packet);
    assert_eq!(device.unacknowledged().1, b"while away");
    // Nothing was subscribed on this connection.
    assert_eq!(device.twin()["desired"], json!({"c": 2, "$version": 2}));
    emulator.patch_twin("dev", json!({"properties": {"desired": {"c": 3}}})).unwrap();
    assert_eq!(device.json().1, json!({"c": 3, "$version": 3}));
    assert!(emulator.wait_for(|hub| hub.subscribed("dev", METHODS), PATIENCE));
    assert_eq!(emulator.telemetry("dev").len(), 1);
    let (_, connack) = Device::try_connect(&emulator, "fleeting", &dialect(&emulator, "fleeting"));
    assert_eq!(connack, [0, 0]);
}

#[test]
fn the_service_side_goes_on_where_it_was() {
    let directory = Directory::new("service");
    let emulator = Emulator::start(kept(&directory, None)).unwrap();
    emulator.create_device("dev", json!({"kind": "a"})).unwrap();
    let root = Holder::self_signed("root", true);
    emulator.add_ca(&root.pem).unwrap();
    emulator.create_x509_device("by-ca", &[], Value::Null).unwrap();
    let content = json!({"deviceContent": {"properties.desired.x": 1}});
    let configuration =
        json!({"id": "c", "content": content, "targetCondition": "tags.kind = 'a'", "priority": 1});
    emulator.create_configuration(configuration).unwrap();
    let module = json!({"deviceId": "dev", "moduleId": "m"});
    assert_eq!(owner(&emulator).put("/devices/dev/modules/m", module).status, 200);
    let group = emulator.create_enrollment_group(json!({"enrollmentGroupId": "factory"})).unwrap();
    let job = json!({
        "jobId": "j", "type": "scheduleUpdateTwin", "queryCondition": "deviceId IN ['dev']",
        "updateTwin": {"etag": "*", "tags": {"by": "job"}}, "startTime": "2099-01-01T00:00:00Z",
    });
    assert_eq!(owner(&emulator).put("/jobs/v2/j", job).status, 200);
    let configured = emulator.configuration("c");

    let emulator = restarted(&directory, emulator);
    assert_eq!(emulator.configuration("c"), configured);
    assert_eq!(emulator.twin("dev")["configurations"], json!({"c": {"status": "Applied"}}));
    assert_eq!(owner(&emulator).get("/devices/dev/modules/m").status, 200);
    assert_eq!(emulator.provisioning()["enrollmentGroups"][0], group);
    assert_eq!(owner(&emulator).get("/jobs/v2/j").json()["status"], "scheduled");
    let tls = root.sign("by-ca", false).dial(&emulator, emulator.mqtt_port(), &TLS13);
    let username = "localhost/by-ca/?api-version=2021-04-12".to_owned();
    let dialect = Dialect { clean: true, keep_alive: 60, username, password: None };
    assert_eq!(Device::over(Box::new(tls), "by-ca", &dialect).1, [0, 0]);
    // Deleting the configuration takes its setting away as ever.
    emulator.delete_configuration("c").unwrap();
    assert_eq!(emulator.twin("dev")["properties"]["desired"].get("x"), None);
}

#[test]
fn a_change_is_kept_soon_and_not_only_at_the_end() {
    let directory = Directory::new("soon");
    let emulator = Emulator::start(kept(&directory, None)).unwrap();
    let text = emulator.create_device("dev", Value::Null).unwrap();
    let file = directory.0.join("hub-emulator.json");
    let key = part(&text, "SharedAccessKey").to_owned();
    let deadline = std::time::Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&file).unwrap().contains(&key) {
        assert!(std::time::Instant::now() < deadline, "the key is not in the file");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // Keys are for their owner's eyes.
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // As if it had been killed: what was written so far is what is found.
    let copy = Directory::new("soon-copy");
    std::fs::create_dir(&copy.0).unwrap();
    std::fs::copy(&file, copy.0.join("hub-emulator.json")).unwrap();
    let twin = Emulator::start(kept(&copy, None)).unwrap();
    assert_eq!(twin.device_connection_string("dev").unwrap(), text);
    let options = Options { owner_key: Some("AAAAAAAAAAAAAAAAAAAAAA==".to_owned()), ..kept(&copy, None) };
    drop(twin);
    let given = Emulator::start(options).unwrap();
    assert!(given.service_connection_string().ends_with("SharedAccessKey=AAAAAAAAAAAAAAAAAAAAAA=="));
}
