//! What the guard over a trial leaves behind, and the old system finds.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;
use crate::store::overdue;
use crate::update::Overdue;

/// A device whose new system is on trial, for its second boot, and never has a verdict; and which trial that is.
async fn on_trial() -> (Device, Overdue) {
    let mut device = Device::new();
    fs::create_dir(device.path("health.d")).unwrap();
    fs::set_permissions(device.path("health.d"), fs::Permissions::from_mode(0o755)).unwrap();
    // By another process: see `Device::hook`.
    let script = "printf '#!/bin/sh\\nexit 75\\n' > \"$0\" && chmod 755 \"$0\"";
    let written =
        Command::new("/bin/sh").arg("-c").arg(script).arg(device.path("health.d/10-never")).status();
    assert!(written.unwrap().success());
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let mut daemon = device.reboot(daemon).await;
    daemon.until_phase("confirming").await;
    daemon.stop().await;
    let job = device.job().unwrap();
    let (boot, why) = (BootId(device.boots.to_string()), "twinboot.service is failed".to_owned());
    let overdue = Overdue { update: job.id, trial: job.trials, slot: job.target, boot, why };
    (device, overdue)
}

/// The trial is over: the bootloader has gone back.
fn falls_back(device: &mut Device) {
    device.boots += 1;
    device.booted = device.rom.next_boot(|slot| slot == Slot::A);
    assert_eq!(device.booted, Slot::A);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_its_guard_ended_is_rolled_back_with_the_guards_reason() {
    let (mut device, overdue) = on_trial().await;
    overdue::leave(&device.path(""), &overdue).unwrap();
    falls_back(&mut device);
    let mut daemon = device.start();
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["outcome"], "rolled-back");
    assert_eq!(status["last"]["code"], "health.timeout");
    assert_eq!(status["last"]["detail"], "no verdict in time: twinboot.service is failed");
    daemon.stop().await;
    assert_eq!(overdue::find(&device.path("")), None, "it has had its effect");
}

/// A word that stayed from another trial, or is torn, is as good as none: the trial was cut short, and is repeated.
#[tokio::test(start_paused = true)]
async fn without_a_word_about_this_trial_it_was_cut_short_and_is_repeated() {
    for leave in [
        |_: &Device, _: Overdue| (),
        |device: &Device, overdue: Overdue| {
            overdue::leave(&device.path(""), &Overdue { trial: 7, ..overdue }).unwrap();
        },
        |device: &Device, overdue: Overdue| {
            overdue::leave(&device.path(""), &overdue).unwrap();
            let mut torn = fs::read(device.path("overdue")).unwrap();
            torn[40] ^= 1;
            fs::write(device.path("overdue"), torn).unwrap();
        },
    ] {
        let (mut device, overdue) = on_trial().await;
        leave(&device, overdue);
        falls_back(&mut device);
        let mut daemon = device.start();
        daemon.until_phase("rebooting").await;
        daemon.stop().await;
        assert_eq!((device.job().unwrap().trials, overdue::find(&device.path(""))), (2, None));
    }
}
