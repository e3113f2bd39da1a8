//! The six kinds of job on six devices with real daemons: the picture of seven jobs, a parent and its children.

use hub_emulator::device::Recipe;
use serde_json::{Value, json};

use super::tool::{Desk, Park};

const IDS: [&str; 6] = ["gw-1", "gw-2", "gw-3", "gw-4", "gw-5", "gw-6"];

/// The parent's reason, after its children were looked at: one for each device, all of them well.
fn family(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let head = lines.iter().position(|line| line.starts_with("JOB ")).unwrap();
    let children = &lines[head + 2..];
    assert_eq!(children.len(), IDS.len(), "{text}");
    for (id, child) in IDS.iter().zip(children) {
        assert!(child.contains(&format!("  {id}  ")) && child.contains("  succeeded  "), "{id}: {text}");
    }
    lines[head + 1].split_once("  completed  ").unwrap().1.rsplit_once("  ").unwrap().1.to_owned()
}

#[test]
fn six_kinds_of_job_on_six_devices_give_seven_jobs_each() {
    let mut park = Park::new(&IDS);
    let image = park.publish(&Recipe::good("2.0.0", 1 << 17));
    let image: Vec<&str> = image.iter().map(String::as_str).collect();
    let everybody = ["--where", "tags.devicetype = 'gateway'", "--yes"];
    for (kind, more) in [
        ("update", image.as_slice()),
        ("reboot", &[]),
        ("factory-reset", &[]),
        ("configure", &["--set", "rateLimit=1000000"]),
        ("read-property", &["--name", "hostname"]),
        ("write-property", &["--set", "site=south"]),
    ] {
        let targets = if kind == "update" { [&IDS[..], &["--yes"]].concat() } else { everybody.to_vec() };
        let id = format!("the-{kind}");
        let text = park.desk.good(&[&["job", kind, "--id", &id][..], &targets, more].concat());
        assert_eq!(family(&text), "6 devices: 6 succeeded", "{kind}");
        assert_eq!(family(&park.desk.good(&["job", "show", &id])), "6 devices: 6 succeeded");
        park.desk.good(&[&["watch"][..], &IDS, &["--timeout", "1m"]].concat());
        park.idle();
    }
    let versions = park.desk.lines(&["devices", "--columns", "id,firmware", "--json"]);
    assert!(versions.iter().all(|row| row["firmware"] == "2.0.0"), "{versions:?}");
    assert!(park.boots().iter().all(|boots| *boots >= 4), "an update, a reboot and a reset");
    for id in IDS {
        let limit = &park.desk.hub.twin(id)["properties"]["reported"]["twinboot"]["rateLimit"]["value"];
        assert_eq!(*limit, 1_000_000, "{id}");
    }
    // History, by when they started, and by filter.
    let list = park.desk.lines(&["job", "list", "--json"]);
    let starts: Vec<_> = list.iter().map(|job| job["startTime"].as_str().unwrap()).collect();
    assert!(list.len() == 6 && starts.is_sorted(), "{list:#?}");
    let twins = park.desk.lines(&["job", "list", "--kind", "twin", "--status", "completed", "--json"]);
    assert_eq!((twins.len(), &twins[0]["jobId"]), (1, &json!("the-configure")));
    assert_eq!(park.desk.lines(&["job", "list", "--device", "gw-3", "--json"]).len(), 6);
    let whole = park.desk.lines(&["job", "show", "the-read-property", "--json"]);
    assert_eq!((whole.len(), &whole[0]["reason"]), (7, &json!("6 devices: 6 succeeded")));
    assert!(whole[1]["outcome"]["deviceMethodResponse"]["payload"]["hostname"].is_string(), "{whole:#?}");
}

#[test]
fn a_job_tells_who_could_not_and_who_would_not() {
    let park = Park::new(&["there"]);
    park.desk.hub.create_device("away", json!({})).unwrap();
    let ran = park.desk.run(&["job", "write-property", "there", "away", "--set", "uptime=5", "--id", "bad"]);
    assert_eq!(ran.status, 1, "{ran:#?}");
    assert!(ran.out.contains("2 devices: 2 failed") && ran.out.contains("refused (409): "), "{}", ran.out);
    let ran = park.desk.run(&["watch", "bad"]);
    assert_eq!(ran.status, 1, "{ran:#?}");
    let ran = park.desk.run(&["job", "reboot", "--where", "tags.site = 'nowhere'", "--id", "none", "--yes"]);
    assert!(ran.status == 1 && ran.out.contains("0 devices"), "{ran:?}");
    let ran = park.desk.run(&["job", "reboot", "there", "--id", "bad"]);
    assert!(ran.status == 1 && ran.err.contains("JobAlreadyExists"), "{ran:?}");
}

#[test]
fn a_job_waits_for_its_time_and_can_be_cancelled() {
    let desk = Desk::new();
    desk.hub.create_device("one", json!({})).unwrap();
    let asked = desk.run(&["job", "reboot", "--where", "deviceId = 'one'"]);
    assert!(asked.status == 2 && asked.err.contains("--yes"), "{asked:?}");
    let later = ["job", "reboot", "one", "--at", "2099-01-01T02:00Z", "--id", "later", "--no-watch"];
    assert_eq!(desk.good(&later), "later\n");
    let shown = desk.lines(&["job", "show", "later", "--json"]);
    assert_eq!(
        (&shown[0]["status"], &shown[0]["startTime"]),
        (&json!("scheduled"), &json!("2099-01-01T02:00:00.000Z"))
    );
    assert_eq!(desk.good(&["job", "cancel", "later"]), "later: cancelled\n");
    assert_eq!(desk.run(&["job", "show", "later"]).status, 1);
    let ran = desk.run(&["job", "show", "none"]);
    assert!(ran.status == 1 && ran.err.contains("there is no job none"), "{ran:?}");
    let ran = desk.run(&["job", "show", "a' OR 'b"]);
    assert_eq!(ran.status, 2, "{ran:?}");
}

#[test]
fn identities_come_and_go_and_keys_are_not_shown_around() {
    let desk = Desk::new();
    assert_eq!(desk.good(&["identity", "create", "new", "--tag", "site=berlin"]), "new: created\n");
    assert_eq!(desk.hub.twin("new")["tags"], json!({"site": "berlin"}));
    let ran = desk.run(&["identity", "create", "new"]);
    assert!(ran.status == 1 && ran.err.contains("409 DeviceAlreadyExists"), "{ran:?}");
    let string = desk.hub.device_connection_string("new").unwrap();
    assert_eq!(desk.good(&["identity", "show-connection-string", "new"]), format!("{string}\n"));
    assert_eq!(desk.good(&["identity", "show-connection-string", "new", "--to", "kept"]), "");
    assert_eq!(std::fs::read_to_string(desk.path("kept")).unwrap(), format!("{string}\n"));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(desk.path("kept")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let ran = desk.run(&["identity", "show-connection-string", "new", "--to", "kept"]);
    assert!(ran.status == 2 && ran.err.contains("--to: kept: File exists"), "{ran:?}");
    let ran = desk.run(&["identity", "delete", "new"]);
    assert!(ran.status == 2 && ran.err.contains("--yes"), "{ran:?}");
    desk.good(&["identity", "delete", "new", "--yes"]);
    assert_eq!(desk.hub.twin("new"), Value::Null);
}
