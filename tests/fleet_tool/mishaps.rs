//! What goes wrong between the tool and the hub: lines that break, answers that are lost, devices that are silent.

use std::process::Stdio;
use std::time::{Duration, Instant};

use hub_emulator::{EventKind, Fault};
use serde_json::{Value, json};

use super::line::Line;
use super::tool::{Desk, ran};

const IMAGE: [&str; 6] = [
    "--version-label",
    "2.0.0",
    "--uri",
    "https://example.com/2.squashfs",
    "--sha256",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

/// A hub with so many devices, named by a number.
fn desk(devices: usize) -> Desk {
    let desk = Desk::new();
    for at in 0..devices {
        desk.hub.create_device(&format!("gateway-{at:03}"), json!({"devicetype": "gateway"})).unwrap();
    }
    desk
}

/// The next answer to a request that changes something of this is lost, although it is carried out.
fn lose_an_answer(desk: &Desk, part: &str) {
    let fault = json!({"fault": "loseServiceAnswer", "target": part, "times": 1});
    desk.hub.throw(Fault::from_json(&fault).unwrap());
}

/// Whether the roll-out has begun: its devices are marked.
fn is_running(desk: &Desk) -> bool {
    desk.hub.configuration("gw-2")["labels"]["twinbootState"] == "running"
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not yet: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_was_done_and_never_answered_is_no_failure() {
    let desk = desk(3);
    let deploy = |id: &'static str| {
        let target = ["deploy", id, "--target", "tags.devicetype = 'gateway'", "--yes", "--no-watch"];
        [&target[..], &IMAGE].concat()
    };
    lose_an_answer(&desk, "configurations");
    desk.good(&deploy("gw-1"));
    lose_an_answer(&desk, "devices");
    assert_eq!(desk.good(&["identity", "create", "new"]), "new: created\n");
    lose_an_answer(&desk, "devices");
    assert_eq!(desk.good(&["identity", "delete", "new", "--yes"]), "new: deleted\n");
    assert_eq!(desk.hub.twin("new"), Value::Null);
    lose_an_answer(&desk, "jobs");
    desk.good(&["job", "reboot", "gateway-000", "--at", "2099-01-01T02:00Z", "--id", "later", "--no-watch"]);
    lose_an_answer(&desk, "twins");
    let etag = desk.hub.twin("gateway-000")["etag"].as_str().unwrap().to_owned();
    desk.good(&["twin", "set", "gateway-000", "tags.site=north", "--etag", &etag]);
    lose_an_answer(&desk, "configurations");
    desk.good(&["delete", "gw-1"]);
    assert_eq!(desk.hub.configuration("gw-1"), Value::Null);
    // What is there already, and is another's, is still in the way.
    let ran = desk.run(&["identity", "create", "gateway-000"]);
    assert!(ran.status == 1 && ran.err.contains("409"), "{ran:?}");
    lose_an_answer(&desk, "devices");
    let ran = desk.run(&["identity", "create", "gateway-000"]);
    assert!(ran.status == 1 && ran.err.contains("409"), "{ran:?}");
}

#[test]
fn a_broken_connection_to_one_device_is_that_ones_failure() {
    let desk = desk(3);
    lose_an_answer(&desk, "twins");
    // A method is never repeated: it may have been obeyed.
    let ran = desk.run(&["cancel", "gateway-000", "gateway-001", "gateway-002"]);
    assert_eq!(ran.status, 1, "{ran:#?}");
    assert_eq!(ran.err.matches("cannot be reached").count(), 1, "{ran:#?}");
    assert_eq!(ran.err.matches("DeviceNotOnline").count(), 2, "{ran:#?}");
}

#[test]
fn silent_devices_do_not_take_the_time_of_those_that_answer() {
    let desk = desk(40);
    let (hub, events) = (std::sync::Arc::clone(&desk.hub), desk.hub.events());
    let player = std::thread::spawn(move || {
        loop {
            let event = events.recv_timeout(Duration::from_secs(60)).unwrap();
            if let EventKind::Desired { device, version, .. } = event.kind
                && device == "gateway-039"
            {
                let said = json!({"value": 5000, "ac": 200, "av": version, "ad": ""});
                return hub.report(&device, &json!({"twinboot": {"rateLimit": said}})).unwrap();
            }
        }
    });
    let ran = desk.run(&[
        "configure",
        "--where",
        "tags.devicetype = 'gateway'",
        "--set",
        "rateLimit=5000",
        "--timeout",
        "2s",
    ]);
    player.join().unwrap();
    assert_eq!((ran.status, ran.out.as_str()), (4, "gateway-039  rateLimit: 5000\n"), "{ran:#?}");
    assert_eq!(ran.err.matches("has not answered in time").count(), 39, "{ran:#?}");
}

#[test]
fn a_roll_out_is_led_on_when_the_hub_is_back() {
    let desk = desk(10);
    let line = Line::to(desk.hub.https_port());
    let string = desk.connection_string("iothubowner");
    let string = string.replacen(&format!(":{}", desk.hub.https_port()), &format!(":{}", line.port()), 1);
    desk.secret("connection-string", &string);
    let deploy = ["deploy", "gw-2", "--target", "*", "--waves", "1,100%", "--every", "1s", "--yes"];
    let mut tool = desk.tool(&[&deploy[..], &IMAGE].concat());
    let child = tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let wave = || desk.hub.configuration("gw-2")["labels"]["twinbootWave"].clone();
    wait_until("the first wave", || is_running(&desk));
    // No connection comes about for a while, and after that the hub has a fault of its own.
    line.cut();
    wait_until("it has tried in vain", || line.refused() >= 2);
    let fault = json!({"fault": "failService", "status": 503, "retryAfter": 0, "target": "*", "times": 20});
    desk.hub.throw(Fault::from_json(&fault).unwrap());
    line.mend();
    let done = json!({"firmware": {"fwUpdateStatus": "current", "currentFwVersion": "2.0.0"}});
    for at in 0..10 {
        desk.hub.report(&format!("gateway-{at:03}"), &done).unwrap();
    }
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!((ran.status, wave()), (0, json!("2")), "{ran:#?}");
    assert!(ran.err.contains("trying on"), "{ran:#?}");
    assert_eq!(ran.out.lines().last(), Some("10 of 10 done: 10 done"), "{ran:#?}");
}

#[test]
fn a_roll_out_that_nobody_leads_any_more_is_told() {
    let desk = desk(10);
    let deploy = ["deploy", "gw-2", "--target", "*", "--waves", "1,100%", "--every", "1s", "--yes"];
    let mut tool = desk.tool(&[&deploy[..], &IMAGE].concat());
    let child = tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the first wave", || is_running(&desk));
    let fault = json!({"fault": "failService", "status": 401, "target": "*"});
    desk.hub.throw(Fault::from_json(&fault).unwrap());
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!(ran.status, 3, "{ran:#?}");
    assert!(ran.err.contains("gw-2 goes on, and nobody leads it"), "{ran:#?}");
}

#[test]
fn devices_are_followed_on_when_the_hub_is_back_and_one_that_is_deleted_has_failed() {
    let desk = desk(2);
    let update = ["update", "gateway-000", "gateway-001", "--by", "twin", "--every", "1s", "--yes"];
    let mut tool = desk.tool(&[&update[..], &IMAGE].concat());
    let child = tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let wish = |id: &str| desk.hub.twin(id)["properties"]["desired"]["firmware"]["fwVersion"].clone();
    wait_until("the wish", || wish("gateway-000") == "2.0.0" && wish("gateway-001") == "2.0.0");
    let fault =
        json!({"fault": "failService", "status": 503, "retryAfter": 0, "target": "twins", "times": 20});
    desk.hub.throw(Fault::from_json(&fault).unwrap());
    desk.good(&["identity", "delete", "gateway-001", "--yes"]);
    let done = json!({"firmware": {"fwUpdateStatus": "current", "currentFwVersion": "2.0.0"}});
    desk.hub.report("gateway-000", &done).unwrap();
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.err.matches("trying on").count()), (1, 1), "{ran:#?}");
    assert!(ran.out.contains("there is no such device any more"), "{ran:#?}");
    assert_eq!(ran.out.lines().last(), Some("1 of 2 done: 1 done, 1 failed"), "{ran:#?}");
}
