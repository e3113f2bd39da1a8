//! What back ends read, in the order in which they can read it.

use std::sync::mpsc::Receiver;

use hub_emulator::{Event, EventKind};
use serde_json::{Map, Value};

use super::support::{Checked, Recipe};
use super::{Bench, LIMIT, MIB, V2};

/// Every state the object `firmware` was in for whoever watches the twin, one after the other.
fn told(events: &Receiver<Event>) -> Vec<Map<String, Value>> {
    let mut firmware = Map::new();
    let mut all = Vec::new();
    for event in events.try_iter() {
        let EventKind::Reported { patch, .. } = event.kind else { continue };
        let Some(members) = patch["firmware"].as_object() else { continue };
        for (name, value) in members {
            firmware.insert(name.clone(), value.clone());
        }
        all.push(firmware.clone());
    }
    all
}

/// The status words, each once in a row.
fn words(told: &[Map<String, Value>]) -> Vec<&str> {
    let mut words: Vec<_> =
        told.iter().filter_map(|firmware| firmware.get("fwUpdateStatus")?.as_str()).collect();
    words.dedup();
    words
}

#[test]
fn a_good_update_is_told_step_by_step() -> Checked {
    let bench = Bench::off("")?;
    let events = bench.cloud.emulator.events();
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    bench.update("2.0.0", &V2)?;
    let told = told(&events);
    println!("{told:#?}");
    // Quick steps may be told as one.
    let words = words(&told);
    assert_eq!((words.first(), words.last()), (Some(&"current"), Some(&"current")), "{words:?}");
    let order = ["current", "downloading", "verifying", "applying", "rebooting"];
    let places: Vec<_> =
        words[..words.len() - 1].iter().map(|word| order.iter().position(|known| known == word)).collect();
    assert!(places.is_sorted() && !places.contains(&None), "{words:?}");
    assert!(words.contains(&"downloading") && words.contains(&"rebooting"), "{words:?}");
    // Until it is kept, the new version is pending and not current.
    for firmware in &told {
        if firmware["currentFwVersion"] == "2.0.0" {
            assert_eq!(firmware["fwUpdateStatus"], "current", "{firmware:?}");
            assert_eq!(firmware["pendingFwVersion"], "", "{firmware:?}");
        }
    }
    Ok(())
}

/// The hub ends every connection soon after it was made, as it does when another device with this identity comes.
#[test]
fn p129_a_second_device_with_this_identity_is_named() -> Checked {
    let bench = Bench::new()?;
    let from = bench.device.now();
    for _ in 0..3 {
        bench.reconnects_idle()?;
    }
    bench.device.wait_status("a warning", from, LIMIT, |status| {
        let warnings = status["warnings"].as_array();
        warnings
            .is_some_and(|all| all.iter().any(|it| it.as_str().unwrap_or("").contains("duplicate identity")))
    })?;
    bench.says("does another device connect as 'gateway'?", from)
}

#[test]
fn p100_a_rollback_is_an_error_first_and_told_as_done_by_the_old_system() -> Checked {
    let bench = Bench::off("")?;
    let events = bench.cloud.emulator.events();
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    let image = bench.publish("2.0.0", &Recipe::unhealthy("2.0.0", MIB).make());
    bench.cloud.desire(image.desired())?;
    bench.fails("rolledback", "health.failed")?;
    let told = told(&events);
    let words = words(&told);
    assert_eq!(words[words.len() - 2..], ["error", "rolledback"], "{words:?}");
    // Whoever counts devices by version never counted it: it was not kept.
    assert!(told.iter().all(|firmware| firmware["currentFwVersion"] == "1.0.0"), "{told:#?}");
    Ok(())
}

/// The older dialects tell the same update in their words, once each and in their order; and so does telemetry.
#[test]
fn a_whole_update_in_the_older_dialects_and_as_telemetry() -> Checked {
    let dialects = "dialects = [\"firmware\", \"flat\", \"iothub_dm\", \"lwm2m\"]";
    let bench = Bench::with(&format!("[report]\n{dialects}\ntelemetry = true\n"))?;
    let events = bench.cloud.emulator.events();
    bench.update("2.0.0", &V2)?;
    assert_eq!(bench.cloud.call("reboot", Value::Null)?.0, 200);
    let reported = bench.cloud.wait_reported("lastReboot", super::LIMIT, |reported| {
        reported["iothubDM"]["reboot"]["lastReboot"].is_string()
    })?;
    assert_eq!(reported["iothubDM"]["reboot"]["lastReboot"], reported["rebootTime"]);
    let update = &reported["iothubDM"]["firmwareUpdate"];
    let times = ["startedWaitingTime", "downloadCompleteTime", "startedApplyingImage", "lastFirmwareUpdate"];
    let times = times.map(|name| update[name].as_str().unwrap_or_default());
    assert!(times.is_sorted() && !times[0].is_empty(), "{update:#}");
    assert_eq!(reported["lwm2m"], serde_json::json!({"state": 0, "updateResult": 1, "pkgVersion": "2.0.0"}));
    let (mut words, mut states, mut telemetry) = (vec![], vec![], 0);
    // Nine for the update and two for the reboot; the first of a new boot wait for the connection. Reports and telemetry
    // go different ways, so the last may come in either order.
    while telemetry < 11 {
        let Ok(event) = events.recv_timeout(super::LIMIT) else { panic!("{telemetry} events: {words:?}") };
        if let EventKind::Reported { patch, .. } = &event.kind {
            words.extend(patch["iothubDM"]["firmwareUpdate"]["status"].as_str().map(str::to_owned));
            states.extend(patch["lwm2m"]["state"].as_u64());
        }
        if let EventKind::Telemetry { properties, .. } = &event.kind {
            let has = |name: &str, value: &str| properties.iter().any(|(n, v)| n == name && v == value);
            assert!(has("$.ct", "application/json") && has("$.ce", "utf-8"), "{properties:?}");
            assert!(has("type", "twinboot.lifecycle"), "{properties:?}");
            telemetry += 1;
        }
    }
    // What lasts no time may be told together with what follows.
    let all = ["waiting", "downloading", "downloadComplete", "applying", "applyComplete"];
    let places: Vec<_> = words.iter().map(|word| all.iter().position(|it| it == word).unwrap()).collect();
    assert!(places.is_sorted() && words.last().unwrap() == "applyComplete", "{words:?}");
    assert!(words.iter().any(|word| word == "applying"), "{words:?}");
    assert!(states.contains(&3) && states.last() == Some(&0), "{states:?}");
    Ok(())
}

/// Nobody on this device wants them, and fifty that wait would keep others from being sent.
#[test]
fn cloud_to_device_messages_are_taken_and_ignored_with_one_line() -> Checked {
    let bench = Bench::off("")?;
    let completed = bench.cloud.emulator.events();
    let message = |n: usize| serde_json::json!({"body": format!("hello {n}"), "properties": {"a": "b"}});
    for n in 0..50 {
        bench.cloud.emulator.send_message("gateway", &message(n))?;
    }
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    let is_completed = |event: &Event| matches!(event.kind, EventKind::MessageCompleted { .. });
    for n in 0..50 {
        while !is_completed(
            &completed
                .recv_timeout(super::LIMIT)
                .map_err(|_| super::support::Fault(format!("message {n}")))?,
        ) {}
    }
    bench.says("ignored: they mean nothing to twinboot", 0)?;
    bench.cloud.emulator.send_message("gateway", &message(50))?;
    while !is_completed(
        &completed.recv_timeout(super::LIMIT).map_err(|_| super::support::Fault("the last".to_owned()))?,
    ) {}
    // Its turn has passed when a later call is answered.
    assert_eq!(bench.cloud.call("getStatus", Value::Null)?.0, 200);
    let said = |entry: &hub_emulator::device::Entry| matches!(&entry.what, hub_emulator::device::Happening::Said(line) if line.contains("mean nothing to twinboot"));
    assert_eq!(bench.device.since(0).iter().filter(|entry| said(entry)).count(), 1);
    bench.is_untouched()
}
