//! A small fleet: real daemons at one emulator, as `hub-emulator fleet` starts them by the dozen.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use hub_emulator::device::Checked;
use hub_emulator::fleet::{Fleet, FleetOptions, RemoteHub, samples};
use hub_emulator::{Emulator, Options};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_twinboot");
/// Far longer than it takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Looks at the fleet until all are as wanted.
fn until(fleet: &mut Fleet, what: &str, wanted: impl Fn(&hub_emulator::fleet::Standing) -> bool) {
    let begun = Instant::now();
    loop {
        fleet.look();
        if fleet.members().iter().all(|member| wanted(member.standing())) {
            return;
        }
        let now: Vec<_> = fleet.members().iter().map(|member| member.standing()).collect();
        assert!(begun.elapsed() < LIMIT, "waited for {what}: {now:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_fleet_is_registered_updated_rebooted_and_leaves_nothing_behind() -> Checked {
    let emulator = Emulator::start(Options::default())?;
    let service = emulator.service_connection_string();
    let service = service.replacen("localhost", &format!("localhost:{}", emulator.https_port()), 1);
    let hub = RemoteHub::new(&service, emulator.ca_pem())?;
    let samples = samples();
    let mut fleet = Fleet::new(FleetOptions {
        program: Path::new(PROGRAM).to_owned(),
        factory: samples[0].bytes.clone(),
        ca: emulator.ca_pem().to_owned(),
        config: String::new(),
        slot_size: 4 << 20,
        reset: Duration::ZERO,
    })?;
    for id in ["one", "two", "three"] {
        let connection = hub.register(id, &json!({"devicetype": "chiller"}))?;
        // Somebody who comes a second time gets the same.
        assert_eq!(hub.register(id, &json!({"devicetype": "chiller"}))?, connection);
        fleet.add(id, &connection)?;
    }
    until(&mut fleet, "the first version", |standing| standing.version == "1.0.0" && standing.is_idle());
    assert_eq!(emulator.twin("two")["tags"], json!({"devicetype": "chiller"}));
    let memory = fleet.members()[0].memory().unwrap();
    assert!(0 < memory.share && memory.share <= memory.resident, "{memory:?}");

    let good = &samples[1];
    let url = emulator.images().put(good.name, good.bytes.clone());
    let sha256 = emulator.images().list()[0].sha256.clone().unwrap();
    emulator.create_configuration(json!({
        "id": "all",
        "priority": 1,
        "targetCondition": "tags.devicetype = 'chiller'",
        "content": {"deviceContent": {"properties.desired.firmware":
            {"fwVersion": good.version, "fwPackageURI": url, "fwPackageCheckValue": sha256}}},
    }))?;
    until(&mut fleet, "the update", |standing| standing.last == "2.0.0 succeeded" && standing.is_idle());
    assert!(fleet.members().iter().all(|member| member.standing().version == "2.0.0"));

    let boots = fleet.members()[1].standing().boots;
    let (status, _) = emulator.invoke_method("two", "reboot", json!(null), Duration::from_secs(30))?;
    assert_eq!(status, 200);
    fleet.look();
    until(&mut fleet, "the reboot", |standing| standing.is_idle() && standing.version == "2.0.0");
    let begun = Instant::now();
    while fleet.members()[1].standing().boots == boots {
        assert!(begun.elapsed() < LIMIT, "it did not reboot");
        fleet.look();
        std::thread::sleep(Duration::from_millis(20));
    }
    until(&mut fleet, "the device that came back", |standing| standing.is_idle());

    let (directory, process) = (fleet.directory().to_owned(), fleet.members()[0].device().process().unwrap());
    drop(fleet);
    assert!(!directory.exists());
    assert!(!Path::new(&format!("/proc/{process}/exe")).exists());
    Ok(())
}
