//! The integrator's hooks on the simulated device: real programs, asked where they belong.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;
use crate::model::Terms;

impl Device {
    /// Written by another process: had this one the file open for writing while a neighbouring test forks, running
    /// it would fail with "text file busy". Each notes that it ran.
    pub(super) fn hook(&self, name: &str, script: &str) {
        let path = self.path("hooks.d").join(name);
        let directory = path.parent().unwrap();
        fs::create_dir_all(directory).unwrap();
        for directory in [directory, &self.path("hooks.d"), self.directory.path()] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let text = format!("#!/bin/sh\necho {name} >> {}\n{script}\n", self.path("ran").display());
        let written = Command::new("/bin/sh")
            .args(["-c", "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\""])
            .args([path.as_os_str(), text.as_ref()])
            .status();
        assert!(written.unwrap().success());
    }

    /// Which hooks ran since this was asked last.
    fn ran(&self) -> String {
        let ran = fs::read_to_string(self.path("ran")).unwrap_or_default();
        let _ = fs::remove_file(self.path("ran"));
        ran.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn gate(status: &Value) -> &str {
    status["gate"].as_str().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn each_stage_is_asked_once_and_in_its_place() {
    let mut device = Device::new();
    let arguments = "\"$TWINBOOT_STAGE $TWINBOOT_PLAN $TWINBOOT_VERSION $TWINBOOT_SLOT $TWINBOOT_BOOTED\"";
    for (stage, wanted) in [
        ("pre-download", "pre-download update v2 b a"),
        ("pre-arm", "pre-arm update v2 b a"),
        ("post-boot", "post-boot update v2 b b"),
        ("post-commit", "post-commit update v2 b b"),
        ("post-rollback", "never"),
    ] {
        let seen = format!("echo {arguments} >&2; test {arguments} = '{wanted}'");
        device.hook(&format!("{stage}/10-told"), &seen);
    }
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.rebooting().await;
    assert_eq!(device.ran(), "pre-download/10-told pre-arm/10-told");
    daemon.stop().await;
    device.power_cycle();
    let mut daemon = device.start();
    let status = daemon.until_ended().await;
    assert_eq!((status["last"]["outcome"].as_str(), &status["warnings"]), (Some("succeeded"), &json!([])));
    assert_eq!(device.ran(), "post-boot/10-told post-commit/10-told");
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn not_now_is_asked_again_and_told_meanwhile() {
    let mut device = Device::new();
    let count = device.path("count").display().to_string();
    device.hook(
        "pre-arm/20-busy",
        &format!("echo x >> {count}; test $(wc -l < {count}) = 3 || {{ echo oven at 180; exit 75; }}"),
    );
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let status = daemon.until(|status| gate(status).contains("hook")).await;
    assert_eq!(gate(&status), "waiting for hook pre-arm/20-busy: oven at 180");
    assert_eq!(status["phase"], "staged");
    let steps_left = device.job().unwrap().steps_left;
    assert_eq!(device.ran(), "pre-arm/20-busy");
    // Every half a minute, and not in between.
    for (pause, ran) in [(28, ""), (4, "pre-arm/20-busy"), (26, "")] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        assert_eq!(device.ran(), ran);
    }
    daemon.until_phase("rebooting").await;
    assert_eq!(device.ran(), "pre-arm/20-busy");
    device.rebooting().await;
    assert_eq!(device.job().unwrap().steps_left, steps_left - 2, "waiting costs nothing");
    daemon.stop().await;
    device.power_cycle();
    let mut daemon = device.start();
    assert_eq!(daemon.until_ended().await["last"]["outcome"], "succeeded");
    daemon.stop().await;
}

/// They are told like progress: how often the hub hears of them is the operator's to say, and not the program's.
#[tokio::test(start_paused = true)]
async fn other_words_of_a_hook_that_is_still_waited_for_are_not_urgent() {
    let device = Device::new();
    let count = device.path("count").display().to_string();
    device.hook("pre-arm/20-busy", &format!("echo x >> {count}; echo load $(wc -l < {count}); exit 75"));
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let mut told = Vec::new();
    for words in ["load 1", "load 2", "load 3"] {
        daemon.reported(|document| document.to_string().contains(words)).await;
        let slot = daemon.port.reports.borrow();
        told.push((slot.report.as_ref().unwrap().generation, slot.urgent_to));
    }
    let [(first, urgent), later @ ..] = &told[..] else { panic!() };
    assert_eq!(first, urgent, "that it waits for a hook is news");
    assert!(later.iter().all(|(generation, to)| generation > first && to == urgent), "{told:?}");
    assert!(daemon.ask(Request::Cancel).await.is_ok());
    daemon.until_ended().await;
    daemon.reported(|document| document.to_string().contains("request.cancelled")).await;
    let slot = daemon.port.reports.borrow().clone();
    assert_eq!(slot.report.unwrap().generation, slot.urgent_to);
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_hook_can_be_cancelled_or_overtaken() {
    let mut device = Device::new();
    device.hook("pre-arm/10-never", "exit 75");
    device.hook("post-rollback/10-undo", "test $TWINBOOT_FAILURE = request.cancelled");
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until(|status| gate(status).contains("10-never")).await;
    assert!(daemon.ask(Request::Cancel).await.is_ok());
    let status = daemon.until_ended().await;
    assert_eq!((status["last"]["code"].as_str(), gate(&status)), (Some("request.cancelled"), ""));
    assert_eq!(device.ran(), "pre-arm/10-never post-rollback/10-undo");
    assert_eq!(status["warnings"], json!([]));
    daemon.wish(device.desired("v3")).await;
    daemon.until(|status| gate(status).contains("10-never")).await;
    device.hook("pre-arm/10-never", "exit 0");
    daemon.wish(device.desired("v4")).await;
    let mut daemon = device.reboot(daemon).await;
    assert_eq!(daemon.until_ended().await["version"]["running"], "v4");
    daemon.stop().await;
}

/// A cancel does not wait for a hook that takes its time.
#[tokio::test(start_paused = true)]
async fn a_hook_that_runs_is_killed_by_a_cancel() {
    let device = Device::new();
    device.hook("pre-download/10-slow", "exec sleep 60");
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    // Only looked at: whoever takes the note away between its being made and its being written waits for ever.
    let begun = std::time::Instant::now();
    while !fs::read_to_string(device.path("ran")).is_ok_and(|ran| ran.ends_with('\n')) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the hook was not run");
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
    }
    assert_eq!(daemon.until_phase("accepted").await["gate"], Value::Null);
    assert!(daemon.ask(Request::Cancel).await.is_ok());
    assert_eq!(daemon.until_ended().await["last"]["code"], "request.cancelled");
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_at_a_gate_fails_the_update_there() {
    for (stage, ran, written) in [
        ("pre-download", "pre-download/10-no", false),
        ("pre-arm", "pre-arm/10-no post-rollback/10-undo", true),
    ] {
        let device = Device::new();
        device.hook(&format!("{stage}/10-no"), "echo not on battery; exit 1");
        device.hook("post-rollback/10-undo", "test $TWINBOOT_FAILURE = hook.failed");
        let mut daemon = device.start();
        daemon.wish(device.desired("v2")).await;
        let status = daemon.until_ended().await;
        assert_eq!(status["last"]["outcome"], "failed");
        assert_eq!(status["last"]["code"], "hook.failed");
        let detail = status["last"]["detail"].as_str().unwrap();
        assert_eq!(detail, format!("hook {stage}/10-no ended with exit status: 1: not on battery"));
        assert_eq!((device.ran().as_str(), &status["warnings"]), (ran, &json!([])));
        let slot = fs::read(device.path("b")).unwrap();
        assert_eq!(slot.iter().any(|byte| *byte != 0), written);
        assert_eq!((device.rom.state().default, device.rom.state().trial), (Slot::A, None));
        // It is not tried again by itself.
        daemon.wish(device.desired("v2")).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(device.ran(), "");
        daemon.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_are_not_asked_while_policy_says_no() {
    let mut device = Device::new();
    device.rules.consent = true;
    device.hook("pre-arm/10-idle", "exit 0");
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until(|status| gate(status).contains("consent")).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    // After a restart the image is read back anew, and then it waits at the same gate: once is enough.
    daemon.stop().await;
    let daemon = device.start();
    assert!(daemon.ask(Request::Apply).await.is_ok());
    device.rebooting().await;
    assert_eq!(device.ran(), "pre-arm/10-idle");
    daemon.stop().await;
}

impl Device {
    /// Waits until a hook of `stage` runs, which goes on until [`Device::path`] `go` is there.
    async fn runs(&self) {
        while !fs::read_to_string(self.path("ran")).is_ok_and(|ran| ran.ends_with('\n')) {
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
        }
    }
}

/// The application is stopped by then: it must not stay so until the next night.
#[tokio::test(start_paused = true)]
async fn a_window_that_closes_while_hooks_run_does_not_put_off_what_they_made_ready() {
    let device = Device::new();
    let go = device.path("go");
    device.hook("pre-arm/90-stop", &format!("while ! test -e {}; do sleep 0.01; done", go.display()));
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.runs().await;
    let closed = policy::window(90);
    daemon.tune(json!({ "window": closed.to_string(), "timeZone": "UTC" }), 1).await;
    while device.store.record().unwrap().tuning.window.is_none() {
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
    }
    fs::write(go, "").unwrap();
    device.rebooting().await;
    assert_eq!(device.ran(), "pre-arm/90-stop");
    daemon.stop().await;
}

/// Who takes the consent back is there, and means it.
#[tokio::test(start_paused = true)]
async fn consent_that_is_taken_back_while_hooks_run_is_waited_for() {
    let device = Device::new();
    let go = device.path("go");
    device.hook("pre-arm/90-stop", &format!("while ! test -e {}; do sleep 0.01; done", go.display()));
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.runs().await;
    let held = device.desired("v2").on(Terms { hold: true, ..Terms::default() });
    daemon.ask(Request::Install(Box::new(held))).await.unwrap();
    fs::write(go, "").unwrap();
    daemon.until(|status| gate(status).starts_with("ready, waiting to be applied")).await;
    assert_eq!(device.rom.state().trial, None);
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_post_boot_hook_rolls_the_trial_back() {
    let mut device = Device::new();
    device.hook("post-boot/10-migrate", "echo cannot read the old database; exit 4");
    device.hook("post-rollback/10-undo", "test \"$TWINBOOT_BOOTED $TWINBOOT_SLOT\" = 'a b'");
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let daemon = device.reboot(daemon).await;
    let mut daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!((&status["last"]["outcome"], device.booted), (&json!("rolled-back"), Slot::A));
    assert_eq!(status["last"]["code"], "hook.failed");
    assert_eq!(device.ran(), "post-boot/10-migrate post-rollback/10-undo");
    assert_eq!(status["warnings"], json!([]));
    daemon.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_post_commit_hook_is_shown_until_the_next_update() {
    let mut device = Device::new();
    device.hook("post-commit/10-migrate", "echo disk full; exit 1");
    device.hook("post-commit/20-later", "exit 75");
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let mut daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!((&status["last"]["outcome"], device.rom.state().default), (&json!("succeeded"), Slot::B));
    let warnings = [
        "hook post-commit/10-migrate ended with exit status: 1: disk full",
        "hook post-commit/20-later: not now (nothing waits for it any more)",
    ];
    assert_eq!(status["warnings"], json!(warnings));
    device.hook("pre-download/10-no", "exit 1");
    daemon.wish(device.desired("v3")).await;
    daemon.until(|status| status["last"]["version"] == "v3" && status["warnings"] == json!([])).await;
    daemon.stop().await;
}

/// By the real clock: the test's stands still while the new system is being judged.
#[tokio::test]
async fn a_new_system_that_is_not_ready_is_asked_again() {
    let mut device = Device::new();
    device.ask_again = Duration::from_millis(100);
    let ready = device.path("ready").display().to_string();
    device.hook("post-boot/10-wait", &format!("test -e {ready} || exit 75"));
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    let mut daemon = device.reboot(daemon).await;
    let mut asked = 0;
    while asked < 3 {
        daemon.until_phase("confirming").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        asked += device.ran().split_whitespace().count();
    }
    fs::write(device.path("ready"), "").unwrap();
    assert_eq!(daemon.until_ended().await["last"]["outcome"], "succeeded");
    daemon.stop().await;
}

/// By the real clock, since the test's would stand still. Asked again, a hook that takes its time is waited for asleep.
#[tokio::test]
async fn the_engine_sleeps_while_a_hook_is_asked_again() {
    let mut device = Device::new();
    device.ask_again = Duration::from_millis(50);
    let (first, second) = (device.path("first"), device.path("second"));
    let (one, two) = (first.display(), second.display());
    let script = format!("test -e {one} || {{ : > {one}; exit 75; }}; : > {two}; sleep 2; exit 75");
    device.hook("pre-arm/10-slow", &script);
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    for _ in 0..60_000 {
        if second.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(second.exists(), "the hook was not asked again");
    let before = pauses();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let pauses = pauses() - before;
    assert!(pauses < 100, "{pauses} pauses in a second");
    daemon.stop().await;
}

/// By the real clock, as well. A hook that said "not now" is asked again when the record can be saved, and not before.
#[tokio::test]
async fn the_engine_sleeps_while_nothing_can_be_saved_and_a_hook_said_no() {
    let mut device = Device::new();
    device.ask_again = Duration::from_millis(50);
    let (pid, go) = (device.path("pid"), device.path("go"));
    let script = "echo $$ > PID.new; mv PID.new PID; while ! test -e GO; do sleep 0.01; done; exit 75";
    let script = script.replace("PID", &pid.display().to_string()).replace("GO", &go.display().to_string());
    device.hook("pre-arm/10-busy", &script);
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    while !pid.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    device.store.refuse(true);
    daemon.tune(json!({"progressInterval": 7}), 1).await;
    daemon.until(|status| !status["blocked"].is_null()).await;
    let hook = PathBuf::from("/proc").join(fs::read_to_string(&pid).unwrap().trim());
    fs::write(go, "").unwrap();
    while hook.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = pauses();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pauses = pauses() - before;
    assert!(pauses < 200, "{pauses} pauses in two seconds");
    device.store.refuse(false);
    assert!(daemon.ask(Request::Apply).await.is_ok());
    daemon.until(|status| gate(status).contains("10-busy")).await;
    daemon.stop().await;
}

/// The machine was asleep from its boot on: its hooks had no time, and are not to blame.
#[tokio::test(start_paused = true)]
async fn p136_after_a_suspend_the_hooks_of_a_trial_have_their_time() {
    let mut device = Device::new();
    let clocks = Clocks::new(std::time::SystemTime::now());
    device.clocks = Some(clocks.clone());
    device.hook("post-boot/10-migrate", "exit 0");
    let daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.rebooting().await;
    daemon.stop().await;
    device.power_cycle();
    clocks.boot(std::time::SystemTime::now());
    clocks.suspend(Duration::from_secs(3 * 3600));
    let mut daemon = device.start();
    assert_eq!(daemon.until_ended().await["last"]["outcome"], "succeeded");
    assert_eq!(device.ran(), "post-boot/10-migrate");
    daemon.stop().await;
}

/// How often this thread, which the engine runs on, went to sleep.
fn pauses() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}
