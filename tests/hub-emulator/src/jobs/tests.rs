#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use super::*;
use crate::events::Events;
use crate::faults::Faults;
use crate::policies::Policies;

fn hub() -> Hub {
    let events: Arc<Events> = Arc::default();
    let mut hub = Hub::new(Policies::new(None, 0), Arc::clone(&events), Faults::new(events), true);
    for id in ["a", "b", "c"] {
        hub.put_identity(id, &json!({}), None).unwrap();
        hub.update_twin(
            id,
            &json!({"tags": {"kind": if id == "c" { "heater" } else { "chiller" }}}),
            false,
            None,
        )
        .unwrap();
    }
    hub
}

fn twin_job(condition: &str) -> Value {
    json!({
        "type": "scheduleUpdateTwin",
        "updateTwin": {"etag": "*", "tags": {"seen": true}, "properties": {"desired": {"x": 1}}},
        "queryCondition": condition,
        "maxExecutionTimeInSeconds": 60,
    })
}

fn method_job(condition: &str) -> Value {
    let call = json!({"methodName": "go", "payload": {"n": 1}, "responseTimeoutInSeconds": 5});
    json!({"type": "scheduleDeviceMethod", "cloudToDeviceMethod": call, "queryCondition": condition})
}

fn now() -> u64 {
    clock::millis_now()
}

/// Begins with every device of the job; those whose answer is waited for.
fn go_round(hub: &mut Hub, id: &str) -> Vec<String> {
    let devices = hub.pending_parts(id);
    devices
        .into_iter()
        .filter(|device| matches!(hub.begin_part(id, device), progress::Part::Call(_)))
        .collect()
}

fn status(hub: &Hub, id: &str) -> String {
    hub.job(id)["status"].as_str().unwrap().to_owned()
}

fn children(hub: &Hub) -> Vec<(String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    hub.job_rows().iter().map(|row| (text(row, "deviceId"), text(row, "status"))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn a_twin_job_changes_those_it_picks_and_completes_with_a_count() {
    let mut hub = hub();
    let created = hub.put_job("j", &twin_job("tags.kind = 'chiller'")).unwrap();
    assert_eq!((&created["status"], &created["type"]), (&json!("queued"), &json!("scheduleUpdateTwin")));
    assert_eq!(hub.step_jobs(now()), ["j"]);
    assert_eq!(status(&hub, "j"), "running");
    assert_eq!(hub.job("j")["deviceJobStatistics"]["pendingCount"], 2);
    assert!(go_round(&mut hub, "j").is_empty());
    let job = hub.job("j");
    assert_eq!(
        (&job["status"], &job["statusMessage"]),
        (&json!("completed"), &json!("2 devices: 2 succeeded"))
    );
    assert_eq!(
        job["deviceJobStatistics"],
        json!({"deviceCount": 2, "failedCount": 0, "succeededCount": 2, "runningCount": 0, "pendingCount": 0})
    );
    assert!(job["endTime"].is_string());
    assert_eq!(hub.twin("a")["tags"]["seen"], true);
    assert_eq!(hub.desired("b")["x"], 1);
    assert_eq!(hub.twin("c")["tags"], json!({"kind": "heater"}));
    assert_eq!(children(&hub), pairs(&[("a", "completed"), ("b", "completed")]));
    let row = &hub.job_rows()[0];
    assert_eq!(row["outcome"], json!({"deviceMethodResponse": null}));
    assert_eq!((&row["jobId"], &row["jobType"]), (&json!("j"), &json!("scheduleUpdateTwin")));
}

#[test]
fn an_etag_that_is_not_the_twins_fails_its_device_and_so_the_job() {
    let mut hub = hub();
    let mut body = twin_job("deviceId IN ['a', 'b']");
    body["updateTwin"]["etag"] = hub.twin("a")["etag"].clone();
    hub.update_twin("b", &json!({"tags": {"more": 1}}), false, None).unwrap();
    hub.put_job("j", &body).unwrap();
    hub.step_jobs(now());
    go_round(&mut hub, "j");
    assert_eq!(children(&hub), pairs(&[("a", "completed"), ("b", "failed")]));
    assert_eq!(hub.job_rows()[1]["error"]["code"], "PreconditionFailed");
    let job = hub.job("j");
    assert_eq!((&job["status"], &job["failureReason"]), (&json!("failed"), &json!("1 of 2 devices failed")));
    assert_eq!(job["statusMessage"], "2 devices: 1 succeeded, 1 failed");
}

#[test]
fn a_method_job_ends_when_its_last_device_has_answered() {
    let mut hub = hub();
    hub.put_job("j", &method_job("*")).unwrap();
    hub.step_jobs(now());
    assert_eq!(go_round(&mut hub, "j"), ["a", "b", "c"]);
    hub.end_part("j", "a", Ok(Some((200, json!("done")))));
    hub.end_part("j", "b", Ok(Some((500, Value::Null))));
    assert_eq!(status(&hub, "j"), "running");
    assert_eq!(hub.job("j")["deviceJobStatistics"]["runningCount"], 1);
    hub.end_part("j", "c", Ok(Some((200, json!("done")))));
    assert_eq!(status(&hub, "j"), "completed");
    let rows = hub.job_rows();
    assert_eq!(rows[0]["outcome"], json!({"deviceMethodResponse": {"status": 200, "payload": "done"}}));
    assert_eq!(rows[1]["outcome"]["deviceMethodResponse"]["status"], 500);
    // What comes after the end changes nothing.
    hub.end_part("j", "c", Err(Error::invalid("late")));
    assert_eq!(hub.job_rows(), rows);
}

#[test]
fn a_job_waits_for_its_time_and_can_be_cancelled_before_and_during() {
    let mut hub = hub();
    let mut later = method_job("*");
    let at = now() + 60_000;
    later["startTime"] = json!(clock::iso_millis(at));
    hub.put_job("later", &later).unwrap();
    assert!(hub.step_jobs(now()).is_empty());
    assert_eq!(status(&hub, "later"), "scheduled");
    assert!(!hub.jobs_wait(now()));
    assert_eq!(hub.next_job_moment(), Some(at));
    assert_eq!(hub.cancel_job("later").unwrap()["status"], "cancelled");
    assert!(hub.step_jobs(at + 1).is_empty());
    assert_eq!(hub.job_rows(), Vec::<Value>::new());

    hub.put_job("j", &method_job("*")).unwrap();
    hub.step_jobs(now());
    go_round(&mut hub, "j");
    hub.end_part("j", "a", Ok(Some((200, Value::Null))));
    assert_eq!(hub.cancel_job("j").unwrap()["statusMessage"], "3 devices: 1 succeeded, 2 canceled");
    assert_eq!(children(&hub), pairs(&[("a", "completed"), ("b", "canceled"), ("c", "canceled")]));
    hub.end_part("j", "b", Ok(Some((200, Value::Null))));
    assert_eq!(children(&hub)[1].1, "canceled");
    assert!(matches!(hub.begin_part("j", "c"), progress::Part::Nothing));
    // Again is no harm; a job that has ended otherwise is.
    assert!(hub.cancel_job("j").is_ok());
    hub.put_job("done", &twin_job("deviceId = 'none'")).unwrap();
    hub.step_jobs(now());
    assert_eq!(hub.job("done")["statusMessage"], "0 devices");
    assert_eq!(hub.cancel_job("done").unwrap_err().code, Code::JobPrecondition);
    assert_eq!(hub.cancel_job("none").unwrap_err().code, Code::JobNotFound);
}

#[test]
fn the_time_limit_counts_from_the_beginning_and_fails_what_is_not_done() {
    let mut hub = hub();
    let mut body = method_job("deviceId IN ['a', 'b']");
    body["maxExecutionTimeInSeconds"] = json!(7);
    hub.put_job("j", &body).unwrap();
    let began = now();
    hub.step_jobs(began);
    go_round(&mut hub, "j");
    hub.end_part("j", "a", Ok(Some((200, Value::Null))));
    assert_eq!(hub.next_job_moment(), Some(began + 7000));
    hub.step_jobs(began + 6999);
    assert_eq!(status(&hub, "j"), "running");
    hub.step_jobs(began + 7000);
    assert_eq!(status(&hub, "j"), "failed");
    assert!(hub.job("j")["failureReason"].as_str().unwrap().contains("7 s"));
    assert_eq!(children(&hub), pairs(&[("a", "completed"), ("b", "failed")]));
    assert_eq!(hub.next_job_moment(), None);
}

#[test]
fn a_limit_of_jobs_refuses_new_ones_and_makes_due_ones_wait() {
    let mut hub = hub();
    hub.limits.jobs = Some(1);
    let mut later = twin_job("*");
    later["startTime"] = json!(clock::iso_millis(now() + 1000));
    hub.put_job("later", &later).unwrap();
    hub.step_jobs(now());
    hub.put_job("j", &method_job("*")).unwrap();
    let refused = hub.put_job("k", &method_job("*")).unwrap_err();
    assert_eq!((refused.code, refused.retry_after), (Code::TooManyJobs, Some(1)));
    hub.step_jobs(now());
    hub.step_jobs(now() + 1001);
    assert_eq!((status(&hub, "j").as_str(), status(&hub, "later").as_str()), ("running", "enqueued"));
    hub.cancel_job("j").unwrap();
    assert!(hub.jobs_wait(now()));
    assert_eq!(hub.step_jobs(now()), ["later"]);
}

#[test]
fn what_is_no_job_is_refused_with_a_reason() {
    let mut hub = hub();
    hub.put_job("there", &twin_job("*")).unwrap();
    assert_eq!(hub.put_job("there", &twin_job("*")).unwrap_err().code, Code::JobAlreadyExists);
    let with = |name: &str, value: Value| {
        let mut body = twin_job("*");
        body[name] = value;
        body
    };
    for (id, body, word) in [
        ("a/b", twin_job("*"), "id"),
        ("j", with("jobId", json!("k")), "jobId"),
        ("j", with("type", json!("scheduleDirectMethod")), "scheduleDeviceMethod"),
        ("j", with("updateTwin", json!({"tags": {}})), "etag"),
        ("j", with("updateTwin", json!({"etag": "*", "tags": {"a.b": 1}})), "key"),
        ("j", with("updateTwin", Value::Null), "updateTwin"),
        ("j", with("queryCondition", json!("SELECT * FROM devices")), "query"),
        ("j", with("queryCondition", Value::Null), "queryCondition"),
        ("j", with("startTime", json!("soon")), "startTime"),
        ("j", with("startTime", json!("")), "startTime"),
        ("j", with("maxExecutionTimeInSeconds", json!("1")), "maxExecution"),
        ("j", json!({"type": "scheduleDeviceMethod", "queryCondition": "*"}), "cloudToDeviceMethod"),
        (
            "j",
            json!({"type": "scheduleDeviceMethod", "queryCondition": "*", "cloudToDeviceMethod": {"methodName": "a/b"}}),
            "name",
        ),
    ] {
        let error = hub.put_job(id, &body).unwrap_err();
        assert_eq!(error.code, Code::ArgumentInvalid, "{body}");
        assert!(error.message.contains(word), "{error}");
    }
}

#[test]
fn a_job_goes_on_after_being_written_down_but_no_call_is_made_twice() {
    let mut hub = hub();
    hub.put_job("j", &method_job("*")).unwrap();
    hub.step_jobs(now());
    assert!(matches!(hub.begin_part("j", "a"), progress::Part::Call(_)));
    let text = serde_json::to_string(&hub.jobs).unwrap();
    let mut again = self::hub();
    again.jobs = serde_json::from_str(&text).unwrap();
    assert_eq!(again.job("j"), hub.job("j"));
    assert!(again.jobs_wait(now()));
    assert_eq!(again.step_jobs(now()), ["j"]);
    assert_eq!(children(&again), pairs(&[("a", "failed"), ("b", "pending"), ("c", "pending")]));
    assert_eq!(go_round(&mut again, "j"), ["b", "c"]);
}

#[test]
fn a_job_can_be_about_modules() {
    let mut hub = hub();
    hub.put_identity("a/m", &json!({}), None).unwrap();
    hub.put_identity("b/m", &json!({}), None).unwrap();
    hub.put_job("j", &twin_job("FROM devices.modules WHERE devices.modules.deviceId = 'a'")).unwrap();
    hub.step_jobs(now());
    go_round(&mut hub, "j");
    assert_eq!(hub.twin("a/m")["tags"]["seen"], true);
    assert_eq!((&hub.twin("b/m")["tags"], &hub.twin("a")["tags"]["seen"]), (&json!({}), &Value::Null));
    let row = &hub.job_rows()[0];
    assert_eq!(
        (&row["deviceId"], &row["moduleId"], &row["status"]),
        (&json!("a"), &json!("m"), &json!("completed"))
    );
}

#[test]
fn jobs_are_listed_by_type_and_status_and_an_unknown_one_is_unknown() {
    let mut hub = hub();
    hub.put_job("one", &twin_job("*")).unwrap();
    hub.put_job("two", &method_job("*")).unwrap();
    hub.cancel_job("one").unwrap();
    let ids = |kind: Option<&str>, status: Option<&str>| -> Vec<String> {
        hub.job_list(kind, status).iter().map(|job| job["jobId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(None, None), ["one", "two"]);
    assert_eq!(ids(Some("scheduleDeviceMethod"), None), ["two"]);
    assert_eq!(ids(None, Some("cancelled")), ["one"]);
    assert_eq!(ids(Some("scheduleUpdateTwin"), Some("queued")), Vec::<String>::new());
    assert_eq!(hub.job("none"), json!({"jobId": "none", "type": "unknown", "status": "unknown"}));
}
