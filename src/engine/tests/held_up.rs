//! What holds an update up on its way: a machine that would not reboot, a record that cannot be kept, a clock that was
//! not set.

use super::faults::pass_a_moment;
use super::*;
use crate::model::{Ended, IntentId, Terms, Times, UpdateId};
use crate::store::StateStore as _;
use crate::update::{Record, Undated};

impl Device {
    /// Nobody takes the request to reboot.
    fn refuse_reboots(&self) {
        fs::create_dir(self.path("reboot-requested")).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reboot_that_is_refused_is_told_and_given_up_in_the_end() {
    let device = Device::new();
    device.refuse_reboots();
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let status = daemon.until(|status| !status["blocked"].is_null()).await;
    assert_eq!(
        (&status["phase"], &status["blocked"]["failure"]),
        (&json!("rebooting"), &json!("boot.refused"))
    );
    let reported = daemon.reported(|document| document["firmware"]["fwUpdateCode"] == "boot.refused").await;
    assert_eq!(reported["firmware"]["fwUpdateStatus"], "rebooting");
    let status = daemon.until_ended().await;
    let last = &status["last"];
    assert_eq!((&last["outcome"], &last["code"]), (&json!("failed"), &json!("boot.refused")), "{status:#}");
    assert_eq!((device.rom.state().default, device.rom.state().trial), (Slot::A, None));
    assert!(device.store.record().unwrap().condemned.is_empty());
    assert!(status["blocked"].is_null());
    daemon.stop().await;
}

/// What waited when the engine before it was left has not changed since, and yet nothing can be begun.
#[tokio::test(start_paused = true)]
async fn an_engine_that_finds_its_record_on_a_broken_disk_says_so() {
    let mut device = Device::new();
    device.rules.consent = true;
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until_phase("staged").await;
    daemon = device.reload(daemon).await;
    while device.job().unwrap().verified {
        pass_a_moment().await;
    }
    let before = device.job();
    device.store.refuse(true);
    daemon = device.reload(daemon).await;
    let status = daemon.until(|status| !status["blocked"].is_null()).await;
    assert_eq!((&status["blocked"]["failure"], device.job()), (&json!("state.unwritable"), before));
    assert!(daemon.ask(Request::Apply).await.is_ok());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(device.rom.state().trial, None, "nothing new is begun");
    device.store.refuse(false);
    device.reboot(daemon).await.until_ended().await;
    assert_eq!(device.booted, Slot::B);
}

/// A machine without a battery behind its clock came back, and ended an update, before the network told it the time.
#[tokio::test(start_paused = true)]
async fn what_happened_before_the_clock_was_set_is_dated() {
    let device = Device::new();
    let ended = Ended {
        id: UpdateId("u".into()),
        intent: IntentId("i".into()),
        origin: Origin::Desired,
        version: None,
        target: Some(Slot::B),
        outcome: Outcome::Succeeded,
        times: Times { accepted: Some(Timestamp(1_790_000_000_000)), ..Times::default() },
    };
    let undated = Undated { reboot: true, end: true };
    let record = Record { last: Some(ended), undated, ..Record::default() };
    device.store.clone().save(&record).unwrap();
    let mut daemon = device.start();
    daemon.tell(HubEvent::Connected).await;
    let is_dated = |document: &Value| {
        document["rebootTime"].is_string() && document["firmware"]["lastFwUpdateEndTime"] != ""
    };
    daemon.reported(is_dated).await;
    let record = device.store.record().unwrap();
    assert!(record.undated.is_nothing() && record.reboot_time.is_some(), "{record:?}");
    daemon.stop().await;
}

/// What ended is told although the hub's next wish had its end in the same step.
#[tokio::test(start_paused = true)]
async fn each_end_is_told_by_telemetry() {
    let mut device = Device::new();
    device.telemetry = true;
    device.hook("post-boot/10-no", "exit 1");
    let daemon = device.start();
    daemon.ask(device.request("v2")).await.unwrap();
    let daemon = device.reboot(daemon).await;
    device.reboot_requested().await;
    let reason = crate::model::Failure::RequestInsecureUri.because("Insecure package URI");
    let desired = Desired::Invalid { reason, version: None, id: UpdateId("bad".into()) };
    daemon.tell(HubEvent::Desired(Parsed { desired, unknown: vec![] })).await;
    while device.store.record().unwrap().wanted.is_none() {
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
    }
    let mut daemon = device.reboot(daemon).await;
    daemon.until_ended().await;
    let mut ends = Vec::new();
    while let Ok(command) = daemon.port.commands.try_recv() {
        if let hub::HubCommand::Telemetry(event) = command {
            let event: Value = serde_json::from_slice(&event).unwrap();
            if event["event"] == "ended" {
                ends.push(format!("{} {}", event["outcome"], event["code"]));
            }
        }
    }
    assert_eq!(ends, ["\"rolled-back\" \"hook.failed\"", "\"failed\" \"request.insecure-uri\""]);
    daemon.stop().await;
}

/// One device is held, and then left out: it does not switch over by the terms that the hub had.
#[tokio::test(start_paused = true)]
async fn what_somebody_held_and_cancelled_does_not_begin_again() {
    let device = Device::new();
    device.hook("pre-download/10-never", "exit 75");
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until(|status| status["gate"].as_str().is_some_and(|gate| gate.contains("10-never"))).await;
    let held = device.desired("v2").on(Terms { hold: true, ..Terms::default() });
    let held = Install { origin: Origin::Local, ..held };
    daemon.ask(Request::Install(Box::new(held))).await.unwrap();
    daemon.ask(Request::Cancel).await.unwrap();
    daemon.wish(device.desired("v2")).await;
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "request.cancelled");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(device.store.record().unwrap().state, State::Idle);
    daemon.stop().await;
}
