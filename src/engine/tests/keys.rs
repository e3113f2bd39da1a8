//! Root keys that cannot be used: nothing is begun for which they would be needed, and nothing is lost.

use super::*;
use crate::model::Failure;

const WHY: &str = "root.pem is no key: copy it anew";

impl Device {
    /// Its root keys cannot be used any more.
    fn break_keys(&mut self) {
        let roots = Err(Failure::KeysUnusable.because(WHY));
        self.signing = Some(Signing { roots, product: None, compatible: Vec::new() });
    }

    /// Nothing has to be signed, so that nothing is in the way any more.
    fn mend_keys(&mut self) {
        self.signing = None;
    }
}

fn waits(status: &Value) -> bool {
    status["gate"].as_str().is_some_and(|gate| gate == format!("waiting, since {WHY}"))
}

/// Ending it would settle the wish, and beginning it would give up the way back.
#[tokio::test(start_paused = true)]
async fn a_wish_waits_for_root_keys_with_the_way_back_and_goes_on_by_itself() {
    let mut device = Device::new();
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let mut daemon = device.reboot(daemon).await;
    daemon.until_ended().await;
    device.break_keys();
    let mut daemon = device.reload(daemon).await;
    let (other, writes) = (fs::read(device.path("a")).unwrap(), device.rom.writes());
    daemon.wish(device.desired("v3")).await;
    let status = daemon.until(waits).await;
    assert_eq!((&status["phase"], &status["last"]["version"]), (&json!("accepted"), &json!("v2")));
    daemon
        .reported(|it| it["firmware"]["fwUpdateSubstatus"].as_str().is_some_and(|it| it.contains(WHY)))
        .await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    let record = device.store.record().unwrap();
    assert_eq!((record.previous, device.job().unwrap().phase), (Some(Slot::A), Phase::Accepted));
    assert_eq!((fs::read(device.path("a")).unwrap(), device.rom.writes()), (other, writes));
    // A restart changes nothing.
    daemon.stop().await;
    let mut daemon = device.start();
    daemon.until(waits).await;
    device.mend_keys();
    let daemon = device.reload(daemon).await;
    let mut daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!((&status["last"]["version"], &status["last"]["outcome"]), (&json!("v3"), &json!("succeeded")));
    assert_eq!(status["gate"], Value::Null);
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_download_that_was_begun_rests_until_there_are_root_keys() {
    let mut device = Device::new();
    device.break_keys();
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until(waits).await;
    daemon.stop().await;
    let mut record = device.store.record().unwrap();
    let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
    job.phase = Phase::Downloading;
    let steps_left = job.steps_left;
    device.store.save(&record).unwrap();
    let mut daemon = device.start();
    let status = daemon.until(|it| it["phase"] == "downloading" && waits(it)).await;
    assert_eq!(status["last"], Value::Null);
    daemon
        .reported(|it| it["firmware"]["fwUpdateSubstatus"].as_str().is_some_and(|it| it.contains(WHY)))
        .await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    // However often it is started: waiting costs nothing.
    for _ in 0..5 {
        daemon.stop().await;
        daemon = device.start();
        daemon.until(waits).await;
    }
    let job = device.job().unwrap();
    assert_eq!((job.phase, job.steps_left), (Phase::Downloading, steps_left));
    device.mend_keys();
    let daemon = device.reload(daemon).await;
    let mut daemon = device.reboot(daemon).await;
    assert_eq!(daemon.until_ended().await["last"]["outcome"], "succeeded");
    daemon.stop().await;
}

/// Who is there to ask is told at once, and what waits can be cancelled.
#[tokio::test(start_paused = true)]
async fn without_root_keys_a_bundle_is_refused_at_the_door() {
    let mut device = Device::new();
    device.break_keys();
    let mut daemon = device.start();
    let refusal = daemon.ask(device.request("v2.twb")).await.unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.words.contains(WHY)), ("bundle.keys-unusable", true));
    assert_eq!(daemon.until_phase("idle").await["last"], Value::Null);
    daemon.wish(device.desired("v3.twb")).await;
    daemon.until(waits).await;
    assert!(daemon.ask(Request::Cancel).await.is_ok());
    let status = daemon.until_ended().await;
    assert_eq!((&status["last"]["code"], &status["gate"]), (&json!("request.cancelled"), &Value::Null));
    daemon.stop().await;
}

/// It is this device's own, and no key judges it.
#[tokio::test(start_paused = true)]
async fn a_factory_image_needs_no_root_keys() {
    let mut device = Device::new();
    device.factory = Factory { image: Some(device.image("factory")), program: false };
    device.break_keys();
    let daemon = device.start();
    assert!(daemon.ask(Request::FactoryReset).await.is_ok());
    // The trial would wait for the keys in its turn.
    device.rebooting().await;
    assert_eq!(device.rom.state().trial, Some(Slot::B));
    daemon.stop().await;
}
