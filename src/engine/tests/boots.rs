//! A loader that counts every boot hears of each good one, or it would leave a good system in the end.

use super::*;

/// Of `tries` boots each, the loader would not have seen the last of these.
const BOOTS: usize = 6;

#[tokio::test(start_paused = true)]
async fn reboots_that_are_asked_for_use_nothing_up() {
    let mut device = Device::new();
    device.rom.count_every_boot();
    let mut daemon = device.start();
    for _ in 0..BOOTS {
        assert!(daemon.ask(Request::Reboot).await.is_ok());
        daemon = device.reboot(daemon).await;
        daemon.until_phase("idle").await;
        assert_eq!(device.booted, Slot::A);
    }
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn reboots_while_an_update_waits_use_nothing_up() {
    let mut device = Device::new();
    device.rom.count_every_boot();
    device.hook("pre-download/10-never", "exit 75");
    let waits = |status: &Value| status["gate"].as_str().is_some_and(|gate| gate.contains("10-never"));
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    for _ in 0..BOOTS {
        daemon.until(waits).await;
        daemon.stop().await;
        device.power_cycle();
        assert_eq!(device.booted, Slot::A);
        daemon = device.start();
    }
    // And so does the new system, once it is kept.
    device.hook("pre-download/10-never", "exit 0");
    daemon = device.reboot(daemon).await;
    assert_eq!(daemon.until_ended().await["last"]["outcome"], "succeeded");
    for _ in 0..BOOTS {
        daemon.stop().await;
        device.power_cycle();
        assert_eq!(device.booted, Slot::B);
        daemon = device.start();
        daemon.until_phase("idle").await;
    }
    daemon.stop().await;
}
