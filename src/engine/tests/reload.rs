//! An engine takes the place of another in the same process: nothing is lost, nothing is paid for, nothing is told twice.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// More often than a job has steps.
const OFTEN: u32 = crate::update::Job::STEPS as u32 + 50;

#[tokio::test(start_paused = true)]
async fn an_update_that_waits_is_reloaded_more_often_than_it_has_steps() {
    let mut device = Device::new();
    device.rules.consent = true;
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until_phase("staged").await;
    let before = device.job().unwrap();
    for _ in 0..OFTEN {
        daemon = device.reload(daemon).await;
        daemon.until_phase("staged").await;
    }
    let after = device.job().unwrap();
    assert_eq!((after.steps_left, after.verified), (before.steps_left, false));
    // What it was told to ask for, it asks for no more: every setting can be changed.
    device.rules.consent = false;
    daemon = device.reload(daemon).await;
    daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!((device.booted, status["last"]["outcome"].as_str()), (Slot::B, Some("succeeded")));
    daemon.stop().await;
}

/// The verdict of a health check that a reload cut short is asked for again, and the deadline stays what it was.
#[tokio::test(start_paused = true)]
async fn a_trial_is_reloaded_and_judged_once() {
    let mut device = Device::new();
    let (check, asked, well) = (device.path("health.d/10"), device.path("asked"), device.path("well"));
    fs::create_dir(device.path("health.d")).unwrap();
    let script = format!("#!/bin/sh\necho >> {}\ntest -e {} || exit 75\n", asked.display(), well.display());
    fs::write(&check, script).unwrap();
    for path in [check, device.path("health.d")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon = device.reboot(daemon).await;
    daemon.until_phase("confirming").await;
    let before = device.job().unwrap();
    for _ in 0..20 {
        daemon = device.reload(daemon).await;
        daemon.until_phase("confirming").await;
    }
    assert_eq!(device.job().unwrap(), before);
    fs::write(well, "").unwrap();
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["outcome"], "succeeded", "{status:#}");
    assert_eq!((device.rom.state().default, device.rom.state().trial), (Slot::B, None));
    daemon.stop().await;
}

/// What could not be saved is still known to the engine that comes after, and is saved as soon as that can be.
#[tokio::test(start_paused = true)]
async fn what_is_not_saved_is_not_lost() {
    let mut device = Device::new();
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.rebooting().await;
    daemon.stop().await;
    device.power_cycle();
    device.store.refuse(true);
    daemon = device.start();
    daemon.until_ended().await;
    assert!(device.job().is_some(), "the store still holds an update under way");
    daemon = device.reload(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["outcome"], "succeeded", "{status:#}");
    device.store.refuse(false);
    daemon = device.reload(daemon).await;
    daemon.until_ended().await;
    assert_eq!(device.store.record().unwrap().last.unwrap().outcome, Outcome::Succeeded);
    daemon.stop().await;
}

/// Where the slots are called otherwise, the update is not continued as if nothing had happened.
#[tokio::test(start_paused = true)]
async fn slots_that_change_their_names_are_a_start() {
    let mut device = Device::new();
    device.rules.consent = true;
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until_phase("staged").await;
    device.booted = Slot::B;
    daemon = device.reload(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "state.record-lost", "{status:#}");
    daemon.stop().await;
}

/// Whoever calls a method of a device that takes another configuration is answered, whenever that was, before the session
/// ends: the hub would let them wait for half a minute otherwise, and tell them nothing.
#[tokio::test(start_paused = true)]
async fn calls_are_answered_while_an_engine_is_left() {
    let device = Device::new();
    let mut daemon = device.start();
    daemon.tell(HubEvent::Connected).await;
    daemon.until(|status| status["hub"]["connected"] == true).await;
    let _ = daemon.reload.send(());
    let mut called = 0;
    let mut call = |port: &Port| {
        called += 1;
        let reply = port.replier(hub::CallId { link: 1, rid: called.to_string() });
        let call = hub::MethodCall { request: Ok(Request::Status), method: hub::Method::GetStatus };
        port.events.try_send(HubEvent::Method { call, reply }).unwrap();
    };
    for _ in 0..10 {
        call(&daemon.port);
    }
    let (mut answered, mut flush) = (Vec::new(), None);
    while answered.len() < 10 || flush.is_none() {
        match within(60, daemon.port.commands.recv()).await.unwrap() {
            hub::HubCommand::Reply { call, reply } => answered.push((call.rid, reply.status)),
            hub::HubCommand::Flush(done) => flush = Some(done),
            hub::HubCommand::Telemetry(_) => {}
            hub::HubCommand::Shutdown => panic!("only {answered:?} were answered"),
        }
    }
    // This one came while the others' answers were on their way.
    call(&daemon.port);
    let Some(hub::HubCommand::Reply { call, reply }) = within(1, daemon.port.commands.recv()).await else {
        panic!("it is not answered")
    };
    assert_eq!((call.rid.as_str(), reply.status), ("11", 500));
    flush.unwrap().send(()).unwrap();
    assert!(matches!(within(1, daemon.port.commands.recv()).await, Some(hub::HubCommand::Shutdown)));
    assert!(within(60, daemon.engine).await.unwrap().is_some());
}
