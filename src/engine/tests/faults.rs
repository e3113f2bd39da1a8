//! Slots that spoil, and bootloaders that cannot be told or lose what they were told.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::boot::Bootloader as _;
use crate::boot::fake::Fault;
use crate::model::Sha256;

impl Device {
    /// From now on one bit of slot B is another one when it is about to be read back, so many times.
    fn spoils_before_reading_back(&self, times: u32) -> Arc<AtomicU32> {
        let (slot, spoilt) = (self.path("b"), Arc::new(AtomicU32::new(0)));
        let counted = spoilt.clone();
        self.store.on_save(move |record| {
            let is_next = record.state.job().is_some_and(|job| job.phase == Phase::Verifying);
            if is_next && counted.load(Ordering::Relaxed) < times {
                counted.fetch_add(1, Ordering::Relaxed);
                let file = fs::OpenOptions::new().read(true).write(true).open(&slot).unwrap();
                let mut byte = [0];
                file.read_exact_at(&mut byte, 33_333).unwrap();
                file.write_all_at(&[byte[0] ^ 4], 33_333).unwrap();
            }
        });
        spoilt
    }

    /// Waits for the reboot that was asked for while works pause: time passes for them.
    async fn rebooting_in_time(&self) {
        let request = self.path("reboot-requested");
        for _ in 0..10_000 {
            if request.exists() {
                fs::remove_file(&request).unwrap();
                return;
            }
            pass_a_moment().await;
        }
        panic!("no reboot was asked for");
    }
}

/// A little of the real time, and more of the test's.
pub(super) async fn pass_a_moment() {
    tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
    tokio::time::advance(Duration::from_millis(100)).await;
}

impl Daemon {
    /// Waits for an end while works pause.
    async fn ends_in_time(&mut self) -> Value {
        for _ in 0..10_000 {
            let status = self.status.borrow().clone();
            if status["phase"] == "idle" && !status["last"].is_null() {
                return status;
            }
            pass_a_moment().await;
        }
        panic!("still {:#}", *self.status.borrow());
    }
}

/// Once, that is bad luck, and all of it is written again. Twice, it is the flash.
#[tokio::test(start_paused = true)]
async fn p076_a_bit_that_changes_before_it_is_read_back_is_found() {
    let mut device = Device::new();
    let spoilt = device.spoils_before_reading_back(1);
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["outcome"], "succeeded", "{status:#}");
    assert_eq!(spoilt.load(Ordering::Relaxed), 1);
    assert_eq!(fs::read(device.path("b")).unwrap()[..50_000], fs::read(device.path("v2")).unwrap());
    daemon.stop().await;

    let device = Device::new();
    let spoilt = device.spoils_before_reading_back(u32::MAX);
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "verify.readback-mismatch", "{status:#}");
    assert_eq!(spoilt.load(Ordering::Relaxed), 2, "written again once");
    assert_eq!((device.rom.state().trial, device.rom.state().default), (None, Slot::A), "and never armed");
    assert!(!device.path("reboot-requested").exists());
    daemon.stop().await;
}

/// A device may say that it forgot a range, and still have it: what is written anew is written, zeros as well.
#[tokio::test(start_paused = true)]
async fn p076_what_is_written_anew_is_not_left_to_the_device_to_forget() {
    let device = Device::new();
    let spoilt = device.spoils_before_reading_back(1);
    let install = device.desired("v2");
    let zeros = [&fs::read(device.path("v2")).unwrap()[..], &[0; 512 << 10], b"the end"].concat();
    fs::write(device.path("v2"), &zeros).unwrap();
    let daemon = device.start();
    daemon.wish(install).await;
    device.rebooting().await;
    assert_eq!(spoilt.load(Ordering::Relaxed), 1);
    assert!(fs::read(device.path("b")).unwrap().starts_with(&zeros));
    let slot = fs::metadata(device.path("b")).unwrap();
    assert!(slot.blocks() * 512 >= slot.len(), "{} of {} bytes", slot.blocks() * 512, slot.len());
    daemon.stop().await;
}

/// Somebody made the other slot the default since we started. What boots by default is no target, whatever the record says.
#[tokio::test(start_paused = true)]
async fn p113_a_slot_that_was_made_the_default_by_hand_is_not_armed() {
    let mut device = Device::new();
    device.store.save(&Record { previous: Some(Slot::B), ..Record::default() }).unwrap();
    let mut daemon = device.start();
    daemon.until_phase("idle").await;
    device.rom.commit(Slot::B, None).unwrap();
    daemon.ask(Request::Rollback).await.unwrap();
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "target.busy", "{status:#}");
    assert!(!device.path("reboot-requested").exists());
    daemon.stop().await;
}

/// What could not be armed is not booted: the update ends, and may be asked for again.
#[tokio::test(start_paused = true)]
async fn p094_a_loader_that_cannot_be_told_fails_the_update_and_arms_nothing() {
    let mut device = Device::new();
    for write in 1..=3 {
        device.rom.fail_write(write, Fault::Lost);
    }
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let status = daemon.ends_in_time().await;
    assert_eq!(status["last"]["code"], "boot.unwritable", "{status:#}");
    assert_eq!((device.rom.state().trial, device.rom.state().default), (None, Slot::A));
    assert!(!device.path("reboot-requested").exists(), "there is nothing to boot");
    assert!(daemon.ask(Request::Retry).await.is_ok());
    device.rebooting_in_time().await;
    daemon.stop().await;
    device.power_cycle();
    daemon = device.start();
    assert_eq!(daemon.until_ended().await["last"]["outcome"], "succeeded");
    daemon.stop().await;
}

/// The word to the firmware that begins a trial went missing on the way: the old system is up, and nothing was tried.
#[tokio::test(start_paused = true)]
async fn p098_a_reboot_whose_flag_was_lost_is_told_and_keeps_nothing() {
    let mut device = Device::new();
    device.rom.set_reboot_argument("0 tryboot");
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.rebooting().await;
    daemon.stop().await;
    // The loader takes no boot off the trial, for it was never asked for one.
    device.boots += 1;
    daemon = device.start();
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "boot.fallback", "{status:#}");
    assert_ne!(status["last"]["outcome"], "succeeded");
    assert_eq!((device.rom.state().trial, device.rom.state().default), (None, Slot::A));
    daemon.stop().await;
}

/// A system that was kept stays, whatever becomes of the hub.
#[tokio::test(start_paused = true)]
async fn p110_a_hub_that_is_gone_for_hours_after_the_commit_changes_nothing() {
    let mut device = Device::new();
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.rebooting().await;
    daemon.stop().await;
    device.power_cycle();
    daemon = device.start();
    daemon.until_ended().await;
    daemon.tell(HubEvent::Connected).await;
    let why = hub::Lost::Silent("a ping".into());
    daemon.tell(HubEvent::Lost { why, retry_in: Duration::from_secs(60) }).await;
    let writes = device.rom.writes();
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    assert!(!device.path("reboot-requested").exists());
    assert_eq!(
        (device.rom.writes(), device.rom.state().trial, device.rom.state().default),
        (writes, None, Slot::B)
    );
    // Neither does a restart, and the report waits for whoever takes it.
    daemon.stop().await;
    device.power_cycle();
    daemon = device.start();
    assert_eq!(device.booted, Slot::B);
    let reported = daemon.reported(|reported| reported["firmware"]["fwUpdateStatus"] == "current").await;
    assert_eq!(reported["firmware"]["currentFwVersion"], "v2");
    daemon.stop().await;
}

/// What means nothing to the loader has no trial in it: the next update writes it anew.
#[tokio::test(start_paused = true)]
async fn a_damaged_environment_is_made_anew_by_the_next_update() {
    let mut device = Device::new();
    device.rom.damage();
    let mut daemon = device.start();
    daemon.until(|status| status["warnings"].to_string().contains("is damaged")).await;
    daemon.wish(device.desired("v2")).await;
    daemon = device.reboot(daemon).await;
    assert_eq!(daemon.until_ended().await["last"]["outcome"], "succeeded");
    assert_eq!((device.booted, device.rom.state().default), (Slot::B, Slot::B));
    daemon.stop().await;
}

/// Nothing runs from an empty slot, so nothing there can have begun a trial: there is nothing to go back to. Where there
/// is a system in it, a trial that nobody remembers is undone.
#[tokio::test(start_paused = true)]
async fn p113_a_trial_set_by_hand_is_not_undone_into_an_empty_slot() {
    let mut device = Device::new();
    device.rom.set_trial(Slot::A);
    assert_eq!(device.rom.state().default, Slot::B);
    let mut daemon = device.start();
    let status = daemon.until(|status| status["warnings"].to_string().contains("is empty")).await;
    assert!(status["warnings"].to_string().contains("slot A on trial"), "{status:#}");
    assert_eq!((device.rom.state().default, device.rom.state().trial), (Slot::A, None));
    assert!(!device.rom.is_bootable(Slot::B), "nor does the loader fall back to it");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!device.path("reboot-requested").exists());
    daemon.wish(device.desired("v2")).await;
    daemon = device.reboot(daemon).await;
    assert_eq!(daemon.until_ended().await["last"]["outcome"], "succeeded");
    daemon.stop().await;

    // Nor into one with the half of an update in it.
    let device = Device::new();
    fs::write(device.path("b"), "a system".repeat(100_000)).unwrap();
    let mut daemon = device.start();
    let other = Artifact { sha256: Some(Sha256::of(b"another image")), ..device.image("v2") };
    daemon.wish(Install::new(other, Origin::Desired, None)).await;
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "download.digest-mismatch", "{status:#}");
    daemon.stop().await;
    device.rom.set_trial(Slot::A);
    let mut daemon = device.start();
    daemon.until(|status| status["warnings"].to_string().contains("half an update")).await;
    assert_eq!((device.rom.state().default, device.rom.state().trial), (Slot::A, None));
    assert!(!device.rom.is_bootable(Slot::B));
    daemon.stop().await;

    let mut device = Device::new();
    fs::write(device.path("b"), "a system".repeat(100_000)).unwrap();
    device.rom.set_trial(Slot::A);
    let daemon = device.start();
    let mut daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "state.record-lost", "{status:#}");
    assert_eq!(
        (device.booted, device.rom.state().default, device.rom.state().trial),
        (Slot::B, Slot::B, None)
    );
    daemon.stop().await;
}
