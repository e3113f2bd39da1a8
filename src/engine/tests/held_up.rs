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

/// There is nothing else to do in a system that must not stay. What runs there by default after its own end would be kept,
/// and what is wished for next be written over the good one.
#[tokio::test(start_paused = true)]
async fn the_reboot_back_is_asked_for_until_the_machine_goes() {
    let mut device = Device::new();
    device.hook("post-boot/10-no", "exit 1");
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.rebooting().await;
    daemon.stop().await;
    device.power_cycle();
    device.refuse_reboots();
    let mut daemon = device.start();
    let status = daemon.until(|status| !status["blocked"].is_null()).await;
    assert_eq!(
        (&status["phase"], &status["blocked"]["failure"]),
        (&json!("returning"), &json!("boot.refused"))
    );
    let (steps_left, asked) = (device.job().unwrap().steps_left, device.rom.calls().len());
    tokio::time::sleep(Duration::from_secs(6 * 3600)).await;
    let job = device.job().unwrap();
    assert!(matches!(job.phase, Phase::Returning { .. }) && job.steps_left == steps_left, "{job:?}");
    // Each time the bootloader is looked at afterwards.
    let asked = device.rom.calls().len() - asked;
    assert!((60..90).contains(&asked), "asked {asked} times: every five minutes at last");
    fs::remove_dir(device.path("reboot-requested")).unwrap();
    // By itself time would not go on any more once the request is taken.
    for _ in 0..100 {
        if device.path("reboot-requested").exists() {
            break;
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        pass_a_moment().await;
    }
    let mut daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!((&status["last"]["outcome"], &status["blocked"]), (&json!("rolled-back"), &Value::Null));
    assert_eq!((device.booted, device.rom.state().default), (Slot::A, Slot::A));
    daemon.stop().await;
}

/// Somebody reboots a machine that waits for the night.
#[tokio::test(start_paused = true)]
async fn what_was_armed_before_a_restart_is_no_trial_until_its_gate_is_open() {
    let mut device = Device::new();
    device.rules.consent = true;
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until_phase("staged").await;
    daemon.stop().await;
    let mut record = device.store.record().unwrap();
    let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
    (job.phase, job.armed) = (Phase::Applying, true);
    device.store.clone().save(&record).unwrap();
    device.rom.set_trial(Slot::B);
    let mut daemon = device.start();
    daemon.until_phase("staged").await;
    assert_eq!((device.rom.state().default, device.rom.state().trial), (Slot::A, None));
    daemon.stop().await;
    device.power_cycle();
    assert_eq!(device.booted, Slot::A);
    let daemon = device.start();
    assert!(daemon.ask(Request::Apply).await.is_ok());
    let mut daemon = device.reboot(daemon).await;
    assert_eq!(daemon.until_ended().await["last"]["outcome"], "succeeded");
    daemon.stop().await;
}

/// A stick that stays in is found at each boot.
#[tokio::test(start_paused = true)]
async fn what_was_found_and_is_not_begun_is_not_told_as_begun() {
    let device = Device::new();
    let install = device.desired("v2").on(Terms { unattended: true, ..Terms::default() });
    let record = Record { condemned: vec![install.intent.clone()], ..Record::default() };
    device.store.clone().save(&record).unwrap();
    let daemon = device.start();
    let answer = daemon.ask(Request::Install(Box::new(Install { origin: Origin::Local, ..install }))).await;
    let Ok(Granted::Done(words)) = &answer else { panic!("{answer:?}") };
    assert!(words.starts_with("Not begun: this update was rolled back on this device before"), "{words}");
    assert_eq!(device.store.record().unwrap().state, State::Idle);
    daemon.stop().await;
}
