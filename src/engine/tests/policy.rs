//! Waiting, tuning, and the factory reset, on the simulated device.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;
use crate::model::{Consent, Hours, Terms, Tuning, Window, Zone};
use crate::store::StateStore as _;
use crate::update::{Event, Plan};

/// Two hours from `minutes` after now on, in UTC: at 90 it is not now, at -60 it is.
pub(super) fn window(minutes: i64) -> Window {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let minute = |after: i64| (now / 60 + after).rem_euclid(1440) as u16;
    Window { from: minute(minutes), to: minute(minutes + 120) }
}

fn gate(status: &Value) -> &str {
    status["gate"].as_str().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn who_consented_is_told_and_kept() {
    let mut device = Device::new();
    device.rules.consent = true;
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until(|status| gate(status) == "waiting for consent (twinboot apply, method firmwareApply)").await;
    // In the window, but nobody agreed: both are asked for.
    daemon.ask(Request::Apply).await.unwrap();
    let device_job = device.job().unwrap();
    assert!(matches!(device_job.consent, Some(Consent { by: Origin::Local, at: Some(_) })));
    let status = daemon.until(|status| status["update"]["consent"]["by"] == "local").await;
    assert!(status["update"]["consent"]["at"].is_string(), "{status:#}");
    device.reboot(daemon).await.until_ended().await;
    assert_eq!(device.store.record().unwrap().last.unwrap().outcome, Outcome::Succeeded);
}

/// Held for long and restarted often, it costs nothing, and what is told stays.
#[tokio::test(start_paused = true)]
async fn a_held_update_waits_through_restarts_until_it_is_applied() {
    let mut device = Device::new();
    let mut daemon = device.start();
    let held = Terms { hold: true, ..Terms::default() };
    daemon.wish(device.desired("v2").on(held)).await;
    daemon.until(|status| gate(status).starts_with("ready, waiting to be applied")).await;
    let steps_left = device.job().unwrap().steps_left;
    for _ in 0..5 {
        daemon.stop().await;
        daemon = device.start();
        daemon.wish(device.desired("v2").on(held)).await;
        daemon.until(|status| gate(status).starts_with("ready, waiting to be applied")).await;
    }
    assert_eq!(device.job().unwrap().steps_left, steps_left);
    daemon.ask(Request::Apply).await.unwrap();
    device.reboot(daemon).await.until_ended().await;
    assert_eq!(device.booted, Slot::B);
}

#[tokio::test(start_paused = true)]
async fn a_date_that_has_come_opens_every_gate() {
    let mut device = Device::new();
    (device.rules.consent, device.rules.window, device.rules.zone) = (true, Some(window(90)), Zone::Utc);
    let daemon = device.start();
    let terms =
        Terms { hold: true, consent: true, force_by: Some(Timestamp(1_767_225_600_000)), ..Terms::default() };
    daemon.wish(device.desired("v2").on(terms)).await;
    device.reboot(daemon).await.until_ended().await;
    assert_eq!(device.booted, Slot::B);
}

#[tokio::test(start_paused = true)]
async fn the_hub_moves_the_window_while_an_update_waits_for_it() {
    let mut device = Device::new();
    (device.rules.window, device.rules.zone) = (Some(window(90)), "Europe/Berlin".parse().unwrap());
    // Without a database that knows the zone the window is in UTC, and the operator is told.
    let database = device.path("usr/share/zoneinfo");
    fs::create_dir_all(&database).unwrap();
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let text = format!("waiting for the maintenance window {} UTC", window(90));
    let status = daemon.until(|status| gate(status) == text).await;
    let warning = status["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.starts_with("the maintenance window is in UTC, not Europe/Berlin time: "), "{warning}");
    daemon.stop().await;
    // What the hub made of the rules holds after a restart without it.
    let mut record = device.store.record().unwrap();
    let tuning = Tuning { zone: Some(Zone::Utc), ..Tuning::default() };
    record.step(&facts(), None, Event::Tuned(tuning)).unwrap();
    device.store.save(&record).unwrap();
    daemon = device.start();
    let status = daemon.until(|status| gate(status) == text).await;
    assert_eq!(status["warnings"], serde_json::json!([]));
    daemon.stop().await;
    let tuning = Tuning { window: Some(Hours::Any), ..Tuning::default() };
    record.step(&facts(), None, Event::Tuned(tuning)).unwrap();
    device.store.save(&record).unwrap();
    let daemon = device.start();
    device.reboot(daemon).await.until_ended().await;
    assert_eq!(device.booted, Slot::B);
}

#[tokio::test(start_paused = true)]
async fn tuned_rules_reach_those_who_follow_them() {
    let mut device = Device::new();
    device.rules.progress_every = Duration::from_secs(30);
    let mut record = Record::default();
    let tuning = Tuning { poll_every: Some(Duration::from_secs(60)), ..Tuning::default() };
    record.step(&facts(), None, Event::Tuned(tuning)).unwrap();
    device.store.save(&record).unwrap();
    let daemon = device.start();
    let pace = daemon.port.reports.borrow().pace.unwrap();
    assert_eq!(pace.poll_every, Duration::from_secs(60));
    assert_eq!(pace.report_every, Duration::from_secs(30), "as configured");
    daemon.stop().await;
}

/// A device whose record was recovered says so, until its next start.
#[tokio::test(start_paused = true)]
async fn a_recovered_record_is_a_warning() {
    let device = Device::new();
    device.store.lose("checksum of both copies");
    let mut daemon = device.start();
    let status = daemon.until(|status| status["phase"] == "idle").await;
    assert_eq!(status["warnings"][0], "record of updates recovered: checksum of both copies");
    daemon.stop().await;
}

fn facts() -> Facts {
    Facts {
        boot: BootId("1".into()),
        booted: Slot::A,
        default: Some(Slot::A),
        trial: None,
        version: None,
        booted_at: None,
        floor: None,
        overdue: None,
        factory: Factory::default(),
    }
}

/// Declares an image and a program of these lines.
fn declare(device: &mut Device, image: bool, lines: &str) {
    device.factory.image = image.then(|| device.image("factory"));
    device.factory.program = true;
    // Written by another process: had this one the file open while a neighbouring test forks, it could not be run.
    let path = device.path("reset");
    let script = format!("#!/bin/sh\ncd {}\n{lines}\n", device.directory.path().display());
    let status = Command::new("/bin/sh")
        .args(["-c", "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&path)
        .arg(script)
        .status();
    assert!(status.unwrap().success());
    fs::set_permissions(device.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_factory_reset_installs_then_runs_then_reboots_once() {
    let mut device = Device::new();
    declare(&mut device, true, "echo \"$TWINBOOT_SLOT\" >> ran");
    let mut daemon = device.start();
    daemon.ask(Request::FactoryReset).await.unwrap();
    daemon = device.reboot(daemon).await;
    assert!(!device.path("ran").exists(), "not before its system is committed");
    daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!((device.boots, device.booted, device.rom.state().default), (3, Slot::B, Slot::B));
    assert_eq!(status["last"]["factory_reset"], true, "{status:#}");
    assert_eq!(status["last"]["outcome"], "succeeded");
    assert_eq!(fs::read_to_string(device.path("ran")).unwrap(), "b\n", "once, in the new system");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!device.path("reboot-requested").exists());
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_was_cut_short_is_run_again_and_one_that_fails_is_told() {
    let mut device = Device::new();
    // The first run never ends by itself.
    declare(&mut device, false, "echo x >> ran; test \"$(cat ran | wc -l)\" -gt 1 || exec sleep 600");
    let mut daemon = device.start();
    daemon.ask(Request::FactoryReset).await.unwrap();
    daemon.until_phase("resetting").await;
    let begun = || fs::read_to_string(device.path("ran")).is_ok_and(|text| !text.is_empty());
    for _ in 0..10_000 {
        if begun() {
            break;
        }
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
    }
    assert!(begun(), "the program was not run");
    assert!(daemon.ask(Request::Cancel).await.is_err(), "too late to cancel");
    daemon.stop().await;
    daemon = device.start();
    daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!((device.boots, device.booted, &status["last"]["outcome"]), (2, Slot::A, &"succeeded".into()));
    assert_eq!(fs::read_to_string(device.path("ran")).unwrap(), "x\nx\n");
    daemon.stop().await;
    declare(&mut device, false, "echo the disk is broken; exit 3");
    daemon = device.start();
    daemon.ask(Request::FactoryReset).await.unwrap();
    let status = daemon.until(|status| status["last"]["outcome"] == "failed").await;
    assert_eq!(status["last"]["code"], "factory-reset.failed");
    let detail = status["last"]["detail"].as_str().unwrap();
    assert!(detail.ends_with("ended with exit status: 3: the disk is broken"), "{detail}");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!device.path("reboot-requested").exists());
    daemon.stop().await;
}

/// Data is not given up for a system that may be gone after the next boot.
#[tokio::test(start_paused = true)]
async fn a_program_does_not_run_in_a_system_that_is_not_committed() {
    let mut device = Device::new();
    declare(&mut device, false, "echo x >> ran");
    // As if somebody changed the bootloader behind our back, right before the work.
    let daemon = device.start();
    daemon.stop().await;
    let mut record = Record::default();
    let now = Facts { factory: device.factory.clone(), ..facts() };
    record.step(&now, None, Event::FactoryReset(Origin::Local)).unwrap();
    record.step(&now, None, Event::Proceed).unwrap();
    assert!(matches!(record.state.job().unwrap().plan, Plan::FactoryReset(_)));
    device.store.save(&record).unwrap();
    device.rom.set_trial(Slot::B);
    let mut daemon = device.start();
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "factory-reset.failed", "{status:#}");
    assert!(!device.path("ran").exists());
    daemon.stop().await;
}

/// The facts are those of the start: what somebody does to the bootloader after that is found by the last look at it.
#[tokio::test(start_paused = true)]
async fn a_program_does_not_run_once_another_slot_is_armed() {
    let mut device = Device::new();
    declare(&mut device, false, "echo x >> ran");
    let mut daemon = device.start();
    daemon.until_phase("idle").await;
    device.rom.set_trial(Slot::B);
    daemon.ask(Request::FactoryReset).await.unwrap();
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "factory-reset.failed", "{status:#}");
    assert!(!device.path("ran").exists());
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_declaration_a_factory_reset_is_refused() {
    let device = Device::new();
    let daemon = device.start();
    let refusal = daemon.ask(Request::FactoryReset).await.unwrap_err();
    assert_eq!(refusal.code, "request.no-factory-reset");
    assert!(refusal.words.contains("[factory_reset]"), "{}", refusal.words);
    daemon.stop().await;
}

/// Only the reboot that begins a trial is told to the firmware: any other goes to the default.
#[tokio::test(start_paused = true)]
async fn the_reboot_into_a_trial_says_what_the_loader_needs() {
    let mut device = Device::new();
    device.rom.set_reboot_argument("0 tryboot");
    let request = device.path("reboot-requested");
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.reboot_requested().await;
    daemon.stop().await;
    assert_eq!(std::fs::read_to_string(&request).unwrap(), "0 tryboot");
    std::fs::remove_file(&request).unwrap();
    device.power_cycle();
    daemon = device.start();
    daemon.until_ended().await;
    assert_eq!(device.booted, Slot::B);
    daemon.ask(Request::Reboot).await.unwrap();
    device.reboot_requested().await;
    daemon.stop().await;
    assert_eq!(std::fs::read_to_string(&request).unwrap(), "");
}
