//! The emulator's own doors: what a browser page and scripts use. And the faults that are thrown through them.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::Duration;

use hub_emulator::{Emulator, Fault, FaultKind};
use serde_json::{Value, json};

use support::*;

fn ask(emulator: &Emulator, method: &str, path: &str, body: &str) -> Answer {
    http(emulator, method, path, &[], body.as_bytes())
}

fn with_device() -> (Emulator, Device) {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let device = Device::ready(&emulator, "dev");
    (emulator, device)
}

#[test]
fn they_show_the_state_and_throw_the_switches() {
    let (emulator, mut device) = with_device();
    let ask = |method: &str, path: &str, body: &str| ask(&emulator, method, path, body);
    let state = ask("GET", "/emulator/state", "").json();
    assert_eq!(state["devices"]["dev"]["connected"], true);
    assert_eq!(state["devices"]["dev"]["subscriptions"].as_array().unwrap().len(), 3);
    let two = r#"[{"fault": "loseTwin", "target": "dev", "times": 1}, {"fault": "refuseAuth"}]"#;
    let on = ask("POST", "/emulator/faults", two).json();
    assert_eq!(on.as_array().unwrap().len(), 2);
    device.publish("$iothub/twin/GET/?$rid=1", b"");
    assert_eq!(device.drain(), []);
    let number = on[1]["id"].as_u64().unwrap();
    let left = json!([{"id": number, "fault": "refuseAuth", "target": "*", "fired": 0}]);
    assert_eq!(ask("GET", "/emulator/faults", "").json(), left);
    for wrong in [r#"{"fault": "meteor"}"#, r#"{"fault": "mute", "time": 1}"#, r#"[{"fault": "dropAfter"}]"#]
    {
        assert_eq!(ask("POST", "/emulator/faults", wrong).status, 400, "{wrong}");
        assert_eq!(ask("PUT", "/emulator/faults", wrong).status, 400, "{wrong}");
    }
    assert_eq!(ask("GET", "/emulator/faults", "").json(), left);
    let put = ask("PUT", "/emulator/faults", r#"{"fault": "delayTwin", "millis": 1, "seconds": 900}"#).json();
    assert_eq!(
        (put.as_array().unwrap().len(), &put[0]["millis"], &put[0]["seconds"]),
        (1, &json!(1), &json!(900))
    );
    let path = format!("/emulator/faults/{}", put[0]["id"]);
    assert_eq!((ask("DELETE", &path, "").status, ask("DELETE", &path, "").status), (204, 404));
    assert_eq!(ask("DELETE", "/emulator/faults", "").status, 204);
    assert_eq!(ask("GET", "/emulator/faults", "").json(), json!([]));
    let table = ask("GET", "/emulator/faults/table", "").json();
    assert!(table.as_array().unwrap().iter().any(|row| row["name"] == "mute" && row["aim"] == "device"));
    assert_eq!(ask("POST", "/emulator/devices/dev/drop", "").json(), json!({"dropped": true}));
    assert!(device.is_closed());
    assert_eq!(ask("POST", "/emulator/devices/none/drop", "").status, 404);
}

#[test]
fn what_they_show_has_no_secrets_in_it() {
    let (emulator, mut device) = with_device();
    let connection = emulator.device_connection_string("dev").unwrap();
    let key = part(&connection, "SharedAccessKey");
    let patch = r#"{"properties": {"desired": {"firmware": {"fwPackageURI": "https://me:pw@blob.test/fw?sig=secret"}}}}"#;
    let patched = ask(&emulator, "PATCH", "/emulator/devices/dev/twin", patch);
    let (_, told) = device.json();
    assert_eq!(told["firmware"]["fwPackageURI"], "https://me:pw@blob.test/fw?sig=secret");
    let mut seen = String::from_utf8(patched.body).unwrap();
    for path in ["/emulator/view", "/emulator/devices/dev"] {
        seen.push_str(&String::from_utf8(ask(&emulator, "GET", path, "").body).unwrap());
    }
    let mut events = Listening::new(&emulator);
    seen.push_str(&events.until(|event| event["text"].as_str().unwrap().contains("desired v2")).to_string());
    assert_eq!(seen.matches("https://…@blob.test/fw?…").count(), 3);
    for secret in [key, "secret", "me:pw"] {
        assert!(!seen.contains(secret), "{secret}");
    }
}

#[test]
fn a_view_that_is_known_is_not_sent_again() {
    let (emulator, mut device) = with_device();
    let first = ask(&emulator, "GET", "/emulator/view", "");
    assert_eq!(first.json()["devices"][0]["connected"], true);
    let tag = first.header("etag").unwrap().to_owned();
    let again = || http(&emulator, "GET", "/emulator/view", &[("If-None-Match", &tag)], b"");
    assert_eq!((again().status, again().body.len()), (304, 0));
    device.report(&json!({"firmware": {"currentFwVersion": "1.2.3", "fwUpdateStatus": "current"}}));
    let changed = again();
    assert_eq!((changed.status, &changed.json()["devices"][0]["version"]), (200, &json!("1.2.3")));
}

#[test]
fn the_page_comes_with_a_policy_and_pages_from_elsewhere_get_nothing() {
    let emulator = start();
    let page = ask(&emulator, "GET", "/", "");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        page.header("content-security-policy").unwrap().starts_with("default-src 'none'; style-src 'sha256-")
    );
    assert!(String::from_utf8(page.body).unwrap().starts_with("<!doctype html>"));
    for path in ["/", "/emulator/state", "/emulator/events", "/emulator"] {
        let origin = [("Origin", "https://evil.example")];
        assert_eq!(http(&emulator, "GET", path, &origin, b"").status, 403, "{path}");
    }
    let fault = br#"{"fault": "refuseAuth"}"#;
    assert_eq!(
        http(&emulator, "POST", "/emulator/faults", &[("Sec-Fetch-Site", "cross-site")], fault).status,
        403
    );
    assert_eq!(emulator.faults().list(), []);
}

#[test]
fn events_come_as_they_happen_and_from_where_one_was() {
    let (emulator, mut device) = with_device();
    let mut events = Listening::new(&emulator);
    let early = events.until(|event| event["text"] == "dev  connected (new session)");
    assert_eq!(early["device"], "dev");
    device.report(&json!({"x": 1}));
    events.until(|event| event["text"].as_str().unwrap().starts_with("dev  reported v2"));
    drop(events);
    emulator.set_desired("dev", json!({"y": 1})).unwrap();
    let last = Listening::from(&emulator, 0).last;
    let mut later = Listening::from(&emulator, last - 1);
    let first = later.until(|_| true);
    assert!(first["text"].as_str().unwrap().starts_with("dev  desired v2"), "{first}");
}

/// Server-Sent Events, read line by line.
struct Listening {
    lines: BufReader<Tls>,
    /// The number of the last event that was told.
    last: u64,
    events: std::collections::VecDeque<Value>,
}

impl Listening {
    fn new(emulator: &Emulator) -> Self {
        Self::from(emulator, 0)
    }

    fn from(emulator: &Emulator, last: u64) -> Self {
        let mut tls = dial(emulator, emulator.https_port());
        write!(tls, "GET /emulator/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last}\r\n\r\n")
            .unwrap();
        let mut listening = Self { lines: BufReader::new(tls), last, events: Default::default() };
        listening.message();
        listening
    }

    fn message(&mut self) {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream ended");
            if let Some(data) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data).unwrap();
                self.last = data["last"].as_u64().unwrap();
                self.events.extend(data["events"].as_array().unwrap().iter().cloned());
                return;
            }
        }
    }

    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            while let Some(event) = self.events.pop_front() {
                if wanted(&event) {
                    return event;
                }
            }
            self.message();
        }
    }
}

#[test]
fn a_link_is_dropped_at_once_and_then_each_time() {
    let (emulator, mut device) = with_device();
    let number = emulator.throw(Fault::times("dev", FaultKind::DropLink { millis: 50 }, 2));
    assert!(device.is_closed());
    let mut again = Device::connect(&emulator, "dev");
    assert!(again.is_closed());
    assert!(!emulator.faults().remove(number), "it is used up");
    let mut last = Device::connect(&emulator, "dev");
    assert_eq!(last.twin()["desired"]["$version"], 1);
}

#[test]
fn a_token_expires_when_it_shall() {
    let (emulator, mut device) = with_device();
    let events = emulator.events();
    emulator.throw(Fault::times("dev", FaultKind::ExpireToken { millis: 50 }, 2));
    assert!(device.is_closed());
    assert!(Device::connect(&emulator, "dev").is_closed());
    assert!(emulator.wait_for(|hub| !hub.device_connected("dev"), PATIENCE));
    let reasons = events.try_iter().filter(|event| event.to_string().contains("its token expired")).count();
    assert_eq!(reasons, 2);
}

#[test]
fn a_mute_hub_answers_nothing_and_stays() {
    let (emulator, mut device) = with_device();
    emulator.throw(Fault::once("dev", FaultKind::Mute));
    device.publish0("$iothub/twin/GET/?$rid=1", b"");
    emulator.set_desired("dev", json!({"n": 1})).unwrap();
    assert!(emulator.device_connected("dev"));
    // Neither an answer nor the notification comes before the end.
    assert!(emulator.drop_device("dev"));
    assert!(device.is_closed());
    assert_eq!(Device::connect(&emulator, "dev").twin()["desired"]["n"], 1);
}

#[test]
fn a_desired_notification_comes_after_the_next_one() {
    let (emulator, mut device) = with_device();
    emulator.throw(Fault::once("dev", FaultKind::ReorderDesired));
    for n in [1, 2, 3] {
        emulator.patch_twin("dev", json!({"properties": {"desired": {"n": n}}})).unwrap();
    }
    let order: Vec<_> = (0..3).map(|_| device.json().1["n"].as_u64().unwrap()).collect();
    assert_eq!(order, [2, 1, 3]);
}

#[test]
fn calls_of_methods_fail_get_lost_and_come_late() {
    let (emulator, mut device) = with_device();
    let call =
        |patience: u64| emulator.invoke_method("dev", "go", Value::Null, Duration::from_millis(patience));
    emulator.throw(Fault::once("dev", FaultKind::FailMethod { status: 429 }));
    assert!(call(300).unwrap_err().to_string().starts_with("429001"));
    emulator.throw(Fault::once("dev", FaultKind::LoseMethodCall));
    assert!(call(300).unwrap_err().to_string().starts_with("504101"));
    assert_eq!(device.drain(), []);
    emulator.throw(Fault::once("dev", FaultKind::DelayMethodAnswer { millis: 400 }));
    let began = std::time::Instant::now();
    let answer = std::thread::scope(|scope| {
        let caller = scope.spawn(|| call(5000));
        let (topic, _) = device.message();
        let rid = topic.rsplit_once("$rid=").unwrap().1;
        device.publish(&format!("$iothub/methods/res/200/?$rid={rid}"), b"1");
        caller.join().unwrap()
    });
    assert_eq!(answer.unwrap(), (200, json!(1)));
    assert!(began.elapsed() >= Duration::from_millis(400));
}

#[test]
fn the_service_can_be_throttled_and_the_doors_stay_open() {
    let (emulator, _device) = with_device();
    let service = owner(&emulator);
    let fault = FaultKind::FailService { status: 429, retry_after: Some(7) };
    let number = emulator.throw(Fault::always("twins", fault));
    let refused = service.get("/twins/dev");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("7")));
    assert_eq!(refused.header("iothub-errorcode"), Some("ThrottlingException"));
    assert_eq!(service.get("/devices/dev").status, 200);
    emulator.throw(Fault::always("*", FaultKind::FailService { status: 503, retry_after: None }));
    assert_eq!(service.get("/devices/dev").status, 503);
    assert_eq!(ask(&emulator, "DELETE", &format!("/emulator/faults/{number}"), "").status, 204);
    assert_eq!(service.get("/twins/dev").status, 503);
    emulator.faults().clear();
    assert_eq!(service.get("/twins/dev").status, 200);
}
