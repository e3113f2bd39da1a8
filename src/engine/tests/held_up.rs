//! What holds an update up on its way: a machine that would not reboot, a record that cannot be kept, a clock that was
//! not set.

use super::*;
use crate::model::{Ended, IntentId, Terms, Times, UpdateId};
use crate::store::StateStore as _;
use crate::update::{Record, Undated};

/// What waited when the engine before it was left has not changed since, and yet nothing can be begun.
#[tokio::test(start_paused = true)]
async fn an_engine_that_finds_its_record_on_a_broken_disk_says_so() {
    let mut device = Device::new();
    device.rules.consent = true;
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until_phase("staged").await;
    daemon = device.reload(daemon).await;
    daemon.until_phase("staged").await;
    device.store.refuse(true);
    daemon = device.reload(daemon).await;
    let status = daemon.until(|status| !status["blocked"].is_null()).await;
    assert_eq!(status["blocked"]["failure"], "state.unwritable");
    assert!(daemon.ask(Request::Apply).await.is_ok());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(device.rom.state().trial, None, "nothing new is begun");
    device.store.refuse(false);
    device.reboot(daemon).await.until_ended().await;
    assert_eq!(device.booted, Slot::B);
}

/// A hook that is to be asked again is not asked as long as nothing can be begun; and nobody spins until then.
/// A machine without a battery behind its clock came back, and ended an update, before the network told it the time.
/// What ended is told although the hub's next wish had its end in the same step.
/// One device is held, and then left out: it does not switch over by the terms that the hub had.
