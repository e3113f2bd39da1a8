//! Golden documents: every phase and outcome in both dialects.
#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::model::*;
use crate::update::{Event, Facts, Gate, Record, Wait, Wish};

fn facts(boot: &str, booted: Slot, trial: Option<Slot>, version: &str) -> Facts {
    Facts {
        boot: BootId(boot.into()),
        booted,
        default: trial.map_or(Some(booted), |trial| Some(!trial)),
        trial,
        version: version.parse().ok(),
        booted_at: Some(Timestamp(9)),
        floor: None,
        overdue: None,
        factory: crate::model::Factory::default(),
    }
}

fn wish() -> Wish {
    let artifact = Artifact {
        version: "2.0".parse().ok(),
        location: Location::Url("https://h/fw".parse().unwrap()),
        sha256: Some(Sha256::of(b"")),
        size: None,
    };
    Wish::Install(Install::new(artifact, Origin::Desired, None))
}

/// Steps through `events` from a fresh record and tells (status, substatus, flat word) after each.
fn story(events: Vec<(Facts, Event)>) -> Vec<(String, String, String)> {
    let mut record = Record::default();
    let mut told = vec![];
    for (at, (now, event)) in events.into_iter().enumerate() {
        record.step(&now, Some(Timestamp(at as u64 * 1000)), event).unwrap();
        let status = Status::new(&record, &now, None);
        let document = document(&status, &[Dialect::Firmware, Dialect::Flat], false);
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let firmware = &document["firmware"];
        told.push((
            text(&firmware["fwUpdateStatus"]),
            text(&firmware["fwUpdateSubstatus"]),
            text(&document["firmwareStatus"]),
        ));
    }
    told
}

fn row(status: &str, substatus: &str, flat: &str) -> (String, String, String) {
    (status.into(), substatus.into(), flat.into())
}

#[test]
fn a_good_update_is_told_in_the_tutorials_order() {
    let old = || facts("1", Slot::A, None, "1.0");
    let new = || facts("2", Slot::B, Some(Slot::B), "2.0");
    let image = Image { sha256: Sha256::of(b""), len: 0 };
    let told = story(vec![
        (old(), Event::Started),
        (old(), Event::Desired(wish())),
        (old(), Event::Proceed),
        (old(), Event::Written { image, seal: None }),
        (old(), Event::Done),
        (old(), Event::Proceed),
        (old(), Event::Done),
        (new(), Event::Started),
        (new(), Event::Done),
        (new(), Event::Done),
    ]);
    assert_eq!(
        told,
        vec![
            row("current", "", "standBy"),
            row("current", "", "standBy"),
            row("downloading", "Start downloading", "downloading"),
            row("verifying", "Start verifying download", "downloading"),
            row("verifying", "Finished verifying download", "downloading"),
            row("applying", "Start applying image", "applying"),
            row("rebooting", "Start reboot", "applying"),
            row("rebooting", "Finished reboot, checking health", "applying"),
            row("rebooting", "Healthy, making it permanent", "applying"),
            row("current", "", "completed"),
        ]
    );
}

#[test]
fn rolled_back_is_told_only_from_the_old_system() {
    let old = || facts("1", Slot::A, None, "1.0");
    let new = || facts("2", Slot::B, Some(Slot::B), "2.0");
    let image = Image { sha256: Sha256::of(b""), len: 0 };
    let sick = Failure::Unhealthy.because("check 10-app: exit status 1");
    let told = story(vec![
        (old(), Event::Desired(wish())),
        (old(), Event::Proceed),
        (old(), Event::Written { image, seal: None }),
        (old(), Event::Done),
        (old(), Event::Proceed),
        (old(), Event::Done),
        (new(), Event::Started),
        (new(), Event::Failed(sick)),
        (new(), Event::Done),
        (facts("3", Slot::A, None, "1.0"), Event::Started),
        (facts("3", Slot::A, None, "1.0"), Event::Done),
    ]);
    let why = "check 10-app: exit status 1 (health.failed)";
    assert_eq!(
        told[7..],
        [
            row("error", why, "failed"),
            row("error", why, "failed"),
            row("error", why, "failed"),
            row("rolledback", &format!("Rolled back to: 1.0: {why}"), "rolledBack"),
        ]
    );
}

/// Nobody installed version 1.0 here: it came from the factory.
#[test]
fn a_version_on_trial_is_pending_until_it_is_kept() {
    let old = || facts("1", Slot::A, None, "1.0");
    let new = |trial| facts("2", Slot::B, trial, "2.0");
    let image = Image { sha256: Sha256::of(b""), len: 0 };
    let mut record = Record::default();
    let mut told = |now: Facts, event| {
        record.step(&now, None, event).unwrap();
        let firmware = document(&Status::new(&record, &now, None), &[Dialect::Firmware], false);
        let text = |name: &str| firmware["firmware"][name].as_str().unwrap().to_owned();
        (text("currentFwVersion"), text("pendingFwVersion"))
    };
    let on_trial = ("1.0".to_owned(), "2.0".to_owned());
    told(old(), Event::Desired(wish()));
    for event in
        [Event::Proceed, Event::Written { image, seal: None }, Event::Done, Event::Proceed, Event::Done]
    {
        assert_eq!(told(old(), event), on_trial);
    }
    assert_eq!(told(new(Some(Slot::B)), Event::Started), on_trial);
    assert_eq!(told(new(Some(Slot::B)), Event::Done), on_trial);
    // The bootloader has been told, the record not yet.
    assert_eq!(told(new(None), Event::HubReached), on_trial);
    assert_eq!(told(new(None), Event::Done), ("2.0".into(), String::new()));
}

#[test]
fn the_whole_document_has_just_the_documented_members() {
    let now = facts("1", Slot::A, None, "1.0");
    let mut record = Record::default();
    record.step(&now, Some(Timestamp(0)), Event::Desired(wish())).unwrap();
    record.step(&now, Some(Timestamp(1000)), Event::Proceed).unwrap();
    record
        .step(&now, Some(Timestamp(2000)), Event::Failed(Failure::DownloadTls.because("bad name")))
        .unwrap();
    record.step(&now, Some(Timestamp(3000)), Event::Done).unwrap();
    let status = Status::new(&record, &now, None);
    let whole = json!({
        "firmware": {
            "currentFwVersion": "1.0",
            "pendingFwVersion": "",
            "fwUpdateStatus": "error",
            "fwUpdateSubstatus": "bad name (download.tls)",
            "fwUpdateCode": "download.tls",
            "lastFwUpdateStartTime": "1970-01-01T00:00:00.000Z",
            "lastFwUpdateEndTime": "1970-01-01T00:00:03.000Z",
        },
        "firmwareStatus": "failed",
        "firmwareStatusReason": "bad name (download.tls)",
        "logTime": "1970-01-01T00:00:00.000Z",
        "downloadComplete": null,
        "startedApplyingImage": null,
        "lastFirmwareUpdate": null,
        "rebootTime": null,
    });
    assert_eq!(document(&status, &[Dialect::Firmware, Dialect::Flat], false), whole);
    let brief = document(&status, &[Dialect::Firmware, Dialect::Flat], true);
    assert_eq!(brief["firmware"]["fwUpdateSubstatus"], "");
    assert_eq!(brief["firmware"]["fwUpdateCode"], "download.tls");
    assert_eq!(document(&status, &[], false), json!({ "rebootTime": null }));
}

#[test]
fn a_cancelled_update_is_no_error_and_an_insecure_address_has_the_tutorials_words() {
    let now = facts("1", Slot::A, None, "1.0");
    let mut record = Record::default();
    record.step(&now, None, Event::Desired(wish())).unwrap();
    record.step(&now, None, Event::Cancel).unwrap();
    let told = |record: &Record| {
        document(&Status::new(record, &now, None), &[Dialect::Firmware], false)["firmware"].clone()
    };
    assert_eq!(told(&record)["fwUpdateStatus"], "current");
    assert_eq!(told(&record)["fwUpdateSubstatus"], "Update to 2.0 cancelled");
    let reason = Failure::RequestInsecureUri.because("Insecure package URI");
    let wish = Wish::Invalid { id: UpdateId("x".into()), version: None, reason };
    record.step(&now, None, Event::Desired(wish)).unwrap();
    assert_eq!(told(&record)["fwUpdateStatus"], "error");
    assert_eq!(told(&record)["fwUpdateSubstatus"], "Insecure package URI");
}

/// Roll-outs halt on errors, and a change of mind is none: not for a moment.
#[test]
fn an_update_that_gives_way_is_no_error_while_it_does() {
    let now = facts("1", Slot::A, None, "1.0");
    let mut record = Record::default();
    record.step(&now, None, Event::Desired(wish())).unwrap();
    record.step(&now, None, Event::Proceed).unwrap();
    record.step(&now, None, Event::Cancel).unwrap();
    let word = |record: &Record, now: &Facts| {
        let document = document(&Status::new(record, now, None), &[Dialect::Firmware], false);
        document["firmware"]["fwUpdateStatus"].as_str().unwrap().to_owned()
    };
    assert_eq!(word(&record, &now), "current");
    // On trial nothing is "current" either.
    assert_eq!(word(&record, &facts("2", Slot::B, None, "2.0")), "rebooting");
}

#[test]
fn an_update_that_is_held_up_says_by_what() {
    let now = facts("1", Slot::A, None, "1.0");
    let mut record = Record::default();
    record.step(&now, None, Event::Desired(wish())).unwrap();
    record.step(&now, None, Event::Proceed).unwrap();
    let mut status = Status::new(&record, &now, None);
    status.blocked = Some(Failure::StateUnwritable.because("disk full"));
    let firmware = &document(&status, &[Dialect::Firmware], false)["firmware"];
    assert_eq!(firmware["fwUpdateStatus"], "downloading");
    assert_eq!(firmware["fwUpdateSubstatus"], "disk full (state.unwritable)");
    assert_eq!(firmware["fwUpdateCode"], "state.unwritable");
}

const ALL: [Dialect; 4] = [Dialect::Firmware, Dialect::Flat, Dialect::IothubDm, Dialect::Lwm2m];

/// One whole update in the older dialects: the object `iothubDM.firmwareUpdate` and LwM2M's two numbers after each step.
#[test]
fn a_good_update_is_told_in_the_older_dialects() {
    let old = || facts("1", Slot::A, None, "1.0");
    let new = || facts("2", Slot::B, Some(Slot::B), "2.0");
    let image = Image { sha256: Sha256::of(b""), len: 0 };
    let mut record = Record::default();
    let mut told = |at: u64, now: Facts, event| {
        record.step(&now, Some(Timestamp(at * 1000)), event).unwrap();
        let document = document(&Status::new(&record, &now, None), &ALL, false);
        let lwm2m = &document["lwm2m"];
        (
            document["iothubDM"].clone(),
            (lwm2m["state"].as_u64().unwrap(), lwm2m["updateResult"].as_u64().unwrap()),
        )
    };
    assert_eq!(told(0, old(), Event::Started), (json!(null), (0, 0)));
    let time = |at: u64| Timestamp(at * 1000).to_string();
    let mut wanted = json!({"status": "waiting", "startedWaitingTime": time(1)});
    let whole = |update: &serde_json::Value| json!({ "firmwareUpdate": update });
    assert_eq!(told(1, old(), Event::Desired(wish())), (whole(&wanted), (1, 0)));
    wanted["status"] = json!("downloading");
    assert_eq!(told(2, old(), Event::Proceed), (whole(&wanted), (1, 0)));
    wanted["status"] = json!("downloadComplete");
    wanted["downloadCompleteTime"] = json!(time(3));
    assert_eq!(told(3, old(), Event::Written { image, seal: None }), (whole(&wanted), (1, 0)));
    assert_eq!(told(4, old(), Event::Done), (whole(&wanted), (2, 0)));
    wanted["status"] = json!("applying");
    wanted["startedApplyingImage"] = json!(time(5));
    assert_eq!(told(5, old(), Event::Proceed), (whole(&wanted), (3, 0)));
    assert_eq!(told(6, old(), Event::Done), (whole(&wanted), (3, 0)));
    assert_eq!(told(7, new(), Event::Started), (whole(&wanted), (3, 0)));
    assert_eq!(told(8, new(), Event::Done), (whole(&wanted), (3, 0)), "not complete before it is kept");
    wanted["status"] = json!("applyComplete");
    wanted["lastFirmwareUpdate"] = json!(time(9));
    assert_eq!(told(9, new(), Event::Done), (whole(&wanted), (0, 1)));
}

#[test]
fn failures_in_the_older_dialects_say_which_half_failed_and_why() {
    let old = || facts("1", Slot::A, None, "1.0");
    let image = || Image { sha256: Sha256::of(b""), len: 0 };
    let told = |events: Vec<(Facts, Event)>| {
        let mut record = Record::default();
        let mut now = old();
        for (facts, event) in events {
            record.step(&facts, Some(Timestamp(1000)), event).unwrap();
            now = facts;
        }
        let document = document(&Status::new(&record, &now, None), &ALL, false);
        let update = &document["iothubDM"]["firmwareUpdate"];
        let result = document["lwm2m"]["updateResult"].as_u64().unwrap();
        (update["status"].clone(), update["error"].clone(), result, update["lastFirmwareUpdate"].clone())
    };
    let why = Failure::DownloadDigestMismatch.because("not the bytes");
    let error = json!({"code": "download.digest-mismatch", "message": "not the bytes"});
    let begun = || vec![(old(), Event::Desired(wish())), (old(), Event::Proceed)];
    let undone = |why| vec![(old(), Event::Failed(why)), (old(), Event::Done)];
    let events = [begun(), undone(why)].concat();
    assert_eq!(told(events), (json!("downloadFailed"), error, 5, json!(null)));
    let why = Failure::BootUnwritable.because("locked");
    let written = vec![
        (old(), Event::Written { image: image(), seal: None }),
        (old(), Event::Done),
        (old(), Event::Proceed),
    ];
    let events = [begun(), written, undone(why)].concat();
    assert_eq!(
        told(events),
        (json!("applyFailed"), json!({"code": "boot.unwritable", "message": "locked"}), 8, json!(null))
    );
    let events = [begun(), vec![(old(), Event::Cancel), (old(), Event::Done)]].concat();
    let (status, error, result, _) = told(events);
    assert_eq!((status, &error["code"], result), (json!("downloadFailed"), &json!("request.cancelled"), 10));
}

#[test]
fn a_reboot_is_told_in_the_older_dialect_after_it() {
    let mut record = Record::default();
    let (before, after) = (facts("1", Slot::A, None, "1.0"), facts("2", Slot::A, None, "1.0"));
    record.step(&before, None, Event::Reboot).unwrap();
    let told = |record: &Record, now: &Facts| {
        document(&Status::new(record, now, None), &[Dialect::IothubDm], false)["iothubDM"].clone()
    };
    assert_eq!(told(&record, &before), json!(null), "it has not happened");
    record.step(&after, None, Event::Started).unwrap();
    assert_eq!(told(&record, &after), json!({"reboot": {"lastReboot": "1970-01-01T00:00:00.009Z"}}));
}

#[test]
fn an_older_dialect_can_be_brief() {
    let now = facts("1", Slot::A, None, "1.0");
    let mut record = Record::default();
    record
        .step(&now, None, Event::Declined(UpdateId("x".into()), Failure::RequestInvalid.because("long")))
        .unwrap();
    let brief = document(&Status::new(&record, &now, None), &[Dialect::IothubDm], true);
    let error = json!({"code": "request.invalid", "message": ""});
    assert_eq!(brief["iothubDM"]["firmwareUpdate"]["error"], error);
}

#[test]
fn every_step_of_an_update_is_one_lifecycle_event() {
    let old = || facts("1", Slot::A, None, "1.0");
    let new = || facts("2", Slot::B, Some(Slot::B), "2.0");
    let image = Image { sha256: Sha256::of(b""), len: 0 };
    let mut record = Record::default();
    let mut events = vec![];
    for (now, event) in [
        (old(), Event::Desired(wish())),
        (old(), Event::HubReached),
        (old(), Event::Proceed),
        (old(), Event::Written { image, seal: None }),
        (old(), Event::Done),
        (old(), Event::Proceed),
        (old(), Event::Done),
        (new(), Event::Started),
        (new(), Event::Done),
        (new(), Event::Done),
    ] {
        let before = record.clone();
        record.step(&now, None, event).unwrap();
        events.extend(lifecycle(&before, &record, Some(Timestamp(0))));
    }
    let words: Vec<_> =
        events.iter().map(|event| event["to"].as_str().unwrap_or(event["event"].as_str().unwrap())).collect();
    let wanted = [
        "accepted",
        "downloading",
        "verifying",
        "staged",
        "applying",
        "rebooting",
        "confirming",
        "committing",
        "ended",
    ];
    assert_eq!(words, wanted);
    let Wish::Install(install) = wish() else { panic!() };
    let second = json!({
        "event": "transition", "update": install.id, "version": "2.0", "from": "accepted", "to": "downloading",
        "at": "1970-01-01T00:00:00.000Z",
    });
    assert_eq!(events[1], second);
    let last = json!({
        "event": "ended", "update": install.id, "version": "2.0", "outcome": "succeeded", "at": "1970-01-01T00:00:00.000Z",
    });
    assert_eq!(events[8], last);
    let before = record.clone();
    record.step(&facts("2", Slot::B, None, "2.0"), None, Event::Reboot).unwrap();
    assert_eq!(lifecycle(&before, &record, None), [json!({"event": "restarting"})]);
}

/// Who watches the twin of a device on a metered link sees what it is about to spend, and what it waits for.
#[test]
fn what_a_bundle_costs_is_told_before_and_while_it_is_fetched() {
    let now = facts("1", Slot::A, None, "1.0");
    let cost = Cost { fetch: 3_100_000, write: 12_000_000, full: 112_000_000 };
    let mut record = Record::default();
    for event in [Event::Desired(wish()), Event::Proceed] {
        record.step(&now, None, event).unwrap();
    }
    let substatus = |status: &Status| {
        document(status, &[Dialect::Firmware], false)["firmware"]["fwUpdateSubstatus"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let mut status = Status::new(&record, &now, None);
    let told = ", fetching 3.1 MB of 112 MB, writing 12.0 MB";
    status.progress = Some(Progress { plan: Some(cost), ..Progress::default() });
    assert_eq!(substatus(&status), format!("Start downloading{told}"));
    status.progress = Some(Progress { plan: Some(cost), percent: Some(40), ..Progress::default() });
    assert_eq!(substatus(&status), format!("40 %{told}"));
    let timed = Progress { plan: Some(cost), plan_seconds: Some(3725), ..Progress::default() };
    status.progress = Some(timed);
    let told = ", fetching 3.1 MB of 112 MB in some 1 h 2 min, writing 12.0 MB";
    assert_eq!(substatus(&status), format!("Start downloading{told}"));

    record.step(&now, None, Event::TooDear(cost)).unwrap();
    let gate = Gate { wait: Wait::Cost { cost, allowed: 1_000_000, rate: 0 }, until: None };
    let status = Status::new(&record, &now, Some(gate));
    assert_eq!(status.update.as_ref().unwrap().cost, Some(cost));
    assert_eq!(
        substatus(&status),
        "waiting for consent to fetch 3.1 MB of 112 MB, since download.data_cap allows 1.0 MB (twinboot apply, method \
         firmwareApply)"
    );
}
