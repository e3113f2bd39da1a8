//! Scheduled jobs over REST, with devices that answer, are away, or come in late.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod support;

use std::time::{Duration, Instant};

use hub_emulator::{Emulator, Options};
use serde_json::{Value, json};
use support::*;

fn code(answer: &Answer) -> u64 {
    let inner = answer.json()["Message"].as_str().unwrap().to_owned();
    serde_json::from_str::<Value>(&inner).unwrap()["errorCode"].as_u64().unwrap()
}

fn method(condition: &str, more: Value) -> Value {
    let mut call = json!({"methodName": "go", "payload": {"n": 1}, "responseTimeoutInSeconds": 30});
    call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"type": "scheduleDeviceMethod", "cloudToDeviceMethod": call, "queryCondition": condition})
}

/// The job once it is in this state.
fn until(service: &Service<'_>, id: &str, status: &str) -> Value {
    let deadline = Instant::now() + PATIENCE * 4;
    loop {
        let job = service.get(&format!("/jobs/v2/{id}")).json();
        if job["status"] == status {
            return job;
        }
        assert!(Instant::now() < deadline, "waiting for {status}: {job}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Takes the next call of a method and answers it.
fn answer(device: &mut Device, status: u16) {
    let (topic, payload) = device.json();
    assert_eq!(payload, json!({"n": 1}));
    let rid = topic.split("$rid=").nth(1).unwrap();
    device.publish(&format!("$iothub/methods/res/{status}/?$rid={rid}"), br#"{"done": true}"#);
}

fn children(service: &Service<'_>, id: &str) -> Value {
    service.query(&format!("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{id}'"))
}

#[test]
fn a_method_job_over_six_devices_is_a_parent_and_six_children() {
    let emulator = start();
    let ids = ["d1", "d2", "d3", "d4", "d5", "d6"];
    for id in ids {
        emulator.create_device(id, json!({"fleet": 1})).unwrap();
    }
    let service = owner(&emulator);
    let mut devices: Vec<Device> = ids.iter().map(|id| Device::ready(&emulator, id)).collect();
    let created = service.put("/jobs/v2/six", method("tags.fleet = 1", json!({})));
    assert_eq!((created.status, &created.json()["status"]), (200, &json!("queued")));
    let (last, others) = devices.split_last_mut().unwrap();
    others.iter_mut().for_each(|device| answer(device, 200));
    let completed = |count: u64| {
        let text = "SELECT * FROM devices.jobs WHERE devices.jobs.status = 'completed'";
        assert_eq!(service.query(text).as_array().unwrap().len() as u64, count);
    };
    completed(5);
    let job = service.get("/jobs/v2/six").json();
    assert_eq!((&job["status"], &job["deviceJobStatistics"]["runningCount"]), (&json!("running"), &json!(1)));
    answer(last, 200);
    let job = until(&service, "six", "completed");
    assert_eq!(job["statusMessage"], "6 devices: 6 succeeded");
    let rows = children(&service, "six");
    assert_eq!(rows.as_array().unwrap().len(), 6);
    let outcome = json!({"deviceMethodResponse": {"status": 200, "payload": {"done": true}}});
    for row in rows.as_array().unwrap() {
        assert_eq!((&row["status"], &row["outcome"]), (&json!("completed"), &outcome));
        assert!(row["startTimeUtc"].as_str() <= row["endTimeUtc"].as_str());
    }
    completed(6);
}

#[test]
fn devices_that_are_away_are_waited_for_as_long_as_the_call_says() {
    let emulator = start();
    for id in ["away", "late"] {
        emulator.create_device(id, Value::Null).unwrap();
    }
    let service = owner(&emulator);
    service.put("/jobs/v2/now", method("deviceId = 'away'", json!({})));
    let job = until(&service, "now", "failed");
    assert_eq!(job["failureReason"], "1 of 1 devices failed");
    assert_eq!(children(&service, "now")[0]["error"]["code"], "DeviceNotOnline");
    service.put("/jobs/v2/wait", method("deviceId = 'late'", json!({"connectTimeoutInSeconds": 60})));
    until(&service, "wait", "running");
    let mut late = Device::ready(&emulator, "late");
    answer(&mut late, 202);
    until(&service, "wait", "completed");
    assert_eq!(children(&service, "wait")[0]["outcome"]["deviceMethodResponse"]["status"], 202);
}

#[test]
fn a_start_time_a_time_limit_and_a_cancel_are_heeded() {
    let emulator = start();
    emulator.create_device("d", Value::Null).unwrap();
    let service = owner(&emulator);
    let mut device = Device::ready(&emulator, "d");
    let twin = json!({
        "type": "scheduleUpdateTwin",
        "updateTwin": {"etag": "*", "properties": {"desired": {"x": 1}}},
        "queryCondition": "deviceId IN ['d', 'e']",
        // In whole seconds: it is more than one away, in which to see that it waits.
        "startTime": iso(2),
    });
    service.put("/jobs/v2/soon", twin);
    until(&service, "soon", "scheduled");
    assert_eq!(children(&service, "soon"), json!([]));
    assert_eq!(device.json().1, json!({"x": 1, "$version": 2}));
    until(&service, "soon", "completed");

    let mut short = method("*", json!({}));
    short["maxExecutionTimeInSeconds"] = json!(1);
    service.put("/jobs/v2/short", short);
    let job = until(&service, "short", "failed");
    assert!(job["failureReason"].as_str().unwrap().contains("within 1 s"), "{job}");
    assert_eq!(children(&service, "short")[0]["error"]["code"], "GatewayTimeout");

    service.put("/jobs/v2/long", method("*", json!({})));
    until(&service, "long", "running");
    let cancelled = service.send("POST", "/jobs/v2/long/cancel", &[], Value::Null);
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    assert_eq!(children(&service, "long")[0]["status"], "canceled");
    let none = service.send("POST", "/jobs/v2/none/cancel", &[], Value::Null);
    assert_eq!((none.status, code(&none)), (404, 404_002));
    assert_eq!(service.get("/jobs/v2/none").json()["status"], "unknown");
    assert_eq!(service.put("/jobs/v2/long", method("*", json!({}))).status, 409);
}

/// So many seconds from now.
fn iso(seconds: u64) -> String {
    // Good for the years that count the same days after 1970 as this does.
    let at = now() + seconds;
    let (days, rest) = (at / 86_400, at % 86_400);
    let (mut year, mut left) = (1970, days);
    // Till 2100, which is long enough for a test.
    let long = |year: u64| year.is_multiple_of(4);
    while left >= 365 + u64::from(long(year)) {
        left -= 365 + u64::from(long(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(long(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", month + 1, left + 1)
}

#[test]
fn jobs_are_listed_in_pages() {
    let emulator = start();
    let service = owner(&emulator);
    for number in 0..5 {
        let id = format!("/jobs/v2/j{number}");
        let twin = json!({"type": "scheduleUpdateTwin", "updateTwin": {"etag": "*"}, "queryCondition": "*"});
        assert_eq!(service.put(&id, if number == 4 { method("*", json!({})) } else { twin }).status, 200);
    }
    let page = |continuation: &str| {
        let headers = [("x-ms-max-item-count", "3"), ("x-ms-continuation", continuation)];
        service.send("GET", "/jobs/v2/query", &headers, Value::Null)
    };
    let first = page("");
    assert_eq!(first.header("x-ms-item-type"), Some("JobResponse"));
    assert_eq!(first.json().as_array().unwrap().len(), 3);
    let second = page(first.header("x-ms-continuation").unwrap());
    assert_eq!((second.json()[1]["jobId"].as_str(), second.header("x-ms-continuation")), (Some("j4"), None));
    for (path, code) in [("/jobs", 200), ("/jobs/one", 404)] {
        assert_eq!(service.get(path).status, code, "{path}");
    }
    let refused = service.send("POST", "/jobs/create", &[], json!({"type": "export"}));
    assert_eq!(refused.status, 501);
}

#[test]
fn jobs_that_wait_or_run_go_on_after_a_restart_of_the_emulator() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { state: Some(directory.path().to_owned()), ..Options::default() };
    let emulator = Emulator::start(options.clone()).unwrap();
    emulator.create_device("d", Value::Null).unwrap();
    let service = owner(&emulator);
    let mut device = Device::ready(&emulator, "d");
    service.put("/jobs/v2/called", method("deviceId = 'd'", json!({})));
    assert_eq!(device.json().1, json!({"n": 1}));
    let later = json!({
        "type": "scheduleUpdateTwin",
        "updateTwin": {"etag": "*", "tags": {"x": 1}},
        "queryCondition": "*",
        "startTime": iso(2),
    });
    service.put("/jobs/v2/later", later);
    until(&service, "later", "scheduled");
    drop(device);
    drop(emulator);

    let emulator = Emulator::start(options).unwrap();
    let service = owner(&emulator);
    // The hub never calls a device twice for one job.
    let called = until(&service, "called", "failed");
    assert_eq!(called["deviceJobStatistics"]["failedCount"], 1);
    assert_eq!(children(&service, "called")[0]["error"]["code"], "ServerError");
    assert_eq!(Device::ready(&emulator, "d").drain(), []);
    let later = until(&service, "later", "completed");
    assert_eq!(later["statusMessage"], "1 devices: 1 succeeded");
    assert_eq!(emulator.twin("d")["tags"], json!({"x": 1}));
}

#[test]
fn options_limit_how_many_jobs_run_and_how_fast() {
    let options = Options { job_limit: Some(1), job_rate: Some(10.0), ..Options::default() };
    let emulator = Emulator::start(options).unwrap();
    for number in 0..6 {
        emulator.create_device(&format!("d{number}"), Value::Null).unwrap();
    }
    let service = owner(&emulator);
    let twin = json!({
        "type": "scheduleUpdateTwin",
        "updateTwin": {"etag": "*", "tags": {"x": 1}},
        "queryCondition": "*",
    });
    let began = Instant::now();
    service.put("/jobs/v2/one", twin.clone());
    let two = service.put("/jobs/v2/two", twin);
    assert_eq!((two.status, code(&two), two.header("retry-after")), (429, 429_004, Some("1")));
    until(&service, "one", "completed");
    // Six devices at ten per second, the first one at once.
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
}
