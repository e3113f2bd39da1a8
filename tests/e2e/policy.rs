//! When a device switches over, how much it may fetch, and the way back to how it was made: what an operator sees of
//! the gates, the data cap and the factory reset.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::support::{Checked, Recipe, Slot};
use super::{Bench, LIMIT, MIB, V1, V2};

/// Two hours that begin so many minutes after now, as the configuration has them, in UTC.
fn window(after: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 60;
    let time = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    format!("{}-{}", time(now + after), time(now + after + 120))
}

impl Bench {
    /// Waits until the substatus says that it waits for this.
    fn waits_for(&self, words: &str) -> Checked<Value> {
        self.reports(words, |it| it["fwUpdateSubstatus"].as_str().is_some_and(|text| text.contains(words)))
    }

    /// Waits for a status with this phase.
    fn is_in_phase(&self, phase: &str) -> Checked<Value> {
        let is_there = |status: &Value| status["phase"] == phase;
        self.device.wait_status(phase, 0, LIMIT, is_there)?;
        self.device.status()
    }

    /// Declares a factory reset: this image, if any, and a program of these lines that runs in the device's directory.
    fn declare(&self, image: Option<&[u8]>, lines: &str) -> Checked {
        let root = self.device.path("");
        let program = self.device.path("reset");
        fs::write(&program, format!("#!/bin/sh\ncd '{}'\n{lines}\n", root.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
        let mut section = format!("[factory_reset]\nprogram = '{}'\ntimeout = '30s'\n", program.display());
        if let Some(image) = image {
            let file = self.device.path("factory.img");
            fs::write(&file, image)?;
            section.push_str(&format!("image = '{}'\n", file.display()));
        }
        fs::write(self.device.path("conf.d/60-reset.toml"), section)?;
        Ok(())
    }
}

#[test]
fn an_update_waits_for_its_window_and_says_so() -> Checked {
    let hours = window(90);
    let bench = Bench::with(&format!("[policy]\nwindow = '{hours}'\ntimezone = 'UTC'\n"))?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    let reported = bench.waits_for(&format!("waiting for the maintenance window {hours} UTC"))?;
    assert_eq!(reported["firmware"]["fwUpdateStatus"], "verifying");
    assert_eq!((bench.device.boots(), bench.device.default()), (1, Some(Slot::A)));
    let (_, shown) = bench.device.command(&["status"])?;
    assert!(shown.contains(&format!("waiting for the maintenance window {hours} UTC")), "{shown}");
    // Restarts while it waits are free; then the integrator opens the window.
    for _ in 0..3 {
        let from = bench.device.now();
        bench.device.kill_daemon()?;
        bench.device.wait_status("waiting again", from, LIMIT, |status| {
            status["gate"].as_str().is_some_and(|gate| gate.contains("maintenance window"))
        })?;
    }
    bench.device.stop_daemon()?;
    let now = window(24 * 60 - 60);
    fs::write(
        bench.device.path("conf.d/50-test.toml"),
        format!("[policy]\nwindow = '{now}'\ntimezone = 'UTC'\n"),
    )?;
    bench.device.start_daemon()?;
    bench.runs("2.0.0")?;
    assert_eq!(bench.cloud.sent_twice(&image), 0);
    bench.settled(Slot::B, &V2)
}

#[test]
fn an_update_waits_for_consent_and_remembers_whose_it_was() -> Checked {
    let bench = Bench::with("[policy]\nconsent = true\n")?;
    let image = bench.publish("2.0.0", &V2);
    assert_eq!(bench.cloud.call("firmwareApply", Value::Null)?.0, 412, "nothing is staged");
    bench.cloud.desire(image.desired())?;
    bench.waits_for("waiting for consent (twinboot apply, method firmwareApply)")?;
    let (code, body) = bench.cloud.call("firmwareApply", Value::Null)?;
    assert_eq!(code, 202, "{body}");
    bench.runs("2.0.0")?;
    bench.says("was allowed to switch over by a direct method", 0)?;
    bench.settled(Slot::B, &V2)
}

/// The two-step of the device jobs: download, be told, apply.
#[test]
fn a_held_update_survives_power_cuts_and_is_applied_when_told() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    let arguments = json!({"fwPackageUri": image.url, "fwPackageCheckValue": image.sha256});
    assert_eq!(bench.cloud.call("firmwareDownload", arguments)?.0, 202);
    bench.waits_for("ready, waiting to be applied")?;
    let steps = bench.is_in_phase("staged")?["update"]["steps_left"].clone();
    for boots in 2..5 {
        let from = bench.device.now();
        bench.device.power_cycle()?;
        bench.device.wait_status("staged again", from, LIMIT, |status| status["phase"] == "staged")?;
        assert_eq!(bench.device.boots(), boots);
    }
    assert_eq!(bench.device.status()?["update"]["steps_left"], steps, "waiting is free");
    bench.settled(Slot::A, &V1)?;
    bench.cloud.wait_connected(true, LIMIT)?;
    assert_eq!(bench.cloud.call("firmwareApply", Value::Null)?.0, 202);
    bench.runs("2.0.0")?;
    assert_eq!(bench.cloud.sent_twice(&image), 0);
    bench.settled(Slot::B, &V2)
}

#[test]
fn what_costs_too_much_is_refused_before_its_first_byte() -> Checked {
    let bench = Bench::with("[download]\ndata_cap = '1MiB'\n")?;
    let image = bench.publish("2.0.0", &V2);
    let mut desired = image.desired();
    desired["fwSize"] = image.len.into();
    bench.cloud.desire(desired)?;
    let reported = bench.fails("error", "download.data-cap")?;
    let words = reported["firmware"]["fwUpdateSubstatus"].as_str().unwrap_or_default();
    assert!(words.contains(&image.len.to_string()) && words.contains("1048576"), "{words}");
    bench.is_untouched()?;
    // Not even a server that alone knows the size gets to send it.
    bench.cloud.desire(bench.publish("3.0.0", &V2).desired())?;
    bench.reports("the other one fails", |it| {
        it["fwUpdateCode"] == "download.data-cap"
            && it["fwUpdateStatus"] == "error"
            && it["lastFwUpdateStartTime"] != reported["firmware"]["lastFwUpdateStartTime"]
    })?;
    bench.settled(Slot::A, &V1)
}

#[test]
fn a_factory_reset_brings_back_the_image_and_then_the_data() -> Checked {
    let bench = Bench::off("")?;
    let factory = Recipe::good("0.9.0", MIB).make();
    bench.declare(Some(&factory), "echo \"$TWINBOOT_SLOT\" >> ran; rm -rf data; mkdir data")?;
    fs::create_dir(bench.device.path("data"))?;
    fs::write(bench.device.path("data/secret"), "of the last owner")?;
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    let (code, body) = bench.cloud.call("factoryReset", Value::Null)?;
    assert_eq!(code, 202, "{body}");
    bench.waits_for("Factory reset done")?;
    bench.runs("0.9.0")?;
    bench.settled(Slot::B, &factory)?;
    assert_eq!(bench.device.boots(), 3, "to try the image, and after the program");
    assert_eq!(fs::read_to_string(bench.device.path("ran"))?, "b\n", "once, in the factory's system");
    assert!(!bench.device.path("data/secret").exists());
    bench.says("the data was made as new", 0)?;
    bench.reconnects_idle()
}

/// A trial that fails costs no data, and a program that is cut short by the power begins anew.
#[test]
fn a_factory_reset_gives_up_data_only_for_a_system_that_stays() -> Checked {
    let bench = Bench::off("")?;
    bench.declare(Some(&Recipe::unhealthy("0.9.0", MIB).make()), "echo ran >> ran")?;
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    assert_eq!(bench.cloud.call("factoryReset", Value::Null)?.0, 202);
    bench.fails("rolledback", "health.failed")?;
    bench.settled(Slot::A, &V1)?;
    assert!(!bench.device.path("ran").exists(), "the data is as it was");
    // By the program alone, which the power cuts short the first time.
    bench.device.stop_daemon()?;
    bench.cloud.wait_connected(false, LIMIT)?;
    bench.declare(None, "echo x >> ran; test \"$(wc -l < ran)\" -gt 1 || exec sleep 1000")?;
    bench.device.start_daemon()?;
    bench.cloud.wait_connected(true, LIMIT)?;
    let boots = bench.device.boots();
    assert_eq!(bench.cloud.call("factoryReset", Value::Null)?.0, 202);
    let is_torn = || fs::read_to_string(bench.device.path("ran")).is_ok_and(|text| text == "x\n");
    let begun = std::time::Instant::now();
    while !is_torn() {
        assert!(begun.elapsed() < LIMIT, "the program was not begun");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bench.reports("what it is doing", |it| {
        it["fwUpdateStatus"] == "applying"
            && it["fwUpdateSubstatus"] == "Factory reset: making the data as new"
    })?;
    bench.device.power_cycle()?;
    bench.waits_for("Factory reset done")?;
    assert_eq!(fs::read_to_string(bench.device.path("ran"))?, "x\nx\n");
    assert_eq!(bench.device.boots(), boots + 2, "the power cut, and one reboot");
    bench.settled(Slot::A, &V1)?;
    bench.reconnects_idle()
}

#[test]
fn a_factory_reset_that_fails_or_was_not_declared_says_so() -> Checked {
    let bench = Bench::new()?;
    let (code, body) = bench.cloud.call("factoryReset", Value::Null)?;
    assert_eq!((code, &body["code"]), (501, &json!("request.no-factory-reset")), "{body}");
    bench.device.stop_daemon()?;
    bench.declare(None, "echo the partition is busy; exit 4")?;
    bench.device.start_daemon()?;
    bench.cloud.wait_connected(true, LIMIT)?;
    assert_eq!(bench.cloud.call("factoryReset", Value::Null)?.0, 202);
    bench.fails("error", "factory-reset.failed")?;
    bench.waits_for("ended with exit status: 4: the partition is busy")?;
    bench.is_untouched()
}

/// A date to force it by: told while it lies ahead, and stronger than window and consent once it has come.
#[test]
fn a_date_to_force_it_by_ends_the_waiting() -> Checked {
    let hours = window(90);
    let bench = Bench::with(&format!("[policy]\nwindow = '{hours}'\ntimezone = 'UTC'\nconsent = true\n"))?;
    let image = bench.publish("2.0.0", &V2);
    let mut desired = image.desired();
    desired["fwForceBy"] = json!("2099-12-01T00:00:00Z");
    bench.cloud.desire(desired.clone())?;
    bench.waits_for(
        "waiting for consent (twinboot apply, method firmwareApply), or until 2099-12-01T00:00:00Z",
    )?;
    assert_eq!(bench.cloud.call("firmwareApply", Value::Null)?.0, 202);
    let reported = bench.waits_for(&format!("maintenance window {hours} UTC, or until 2099-12-01"))?;
    desired["fwForceBy"] = json!("2026-06-01T00:00:00Z");
    bench.cloud.desire(desired)?;
    let after = bench.runs("2.0.0")?;
    assert_eq!(bench.cloud.sent_twice(&image), 0, "the same update on other terms is not begun anew");
    let start = |reported: &Value| reported["firmware"]["lastFwUpdateStartTime"].clone();
    assert_eq!(start(&after), start(&reported));
    bench.settled(Slot::B, &V2)
}

/// The hub opens the throttle of a download that would take hours.
#[test]
fn the_rate_limit_follows_the_twin_during_a_download() -> Checked {
    let bench = Bench::with("[download]\nrate_limit = 1000\n")?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    bench.is_in_phase("downloading")?;
    bench.cloud.wait_sent(&image, 1, LIMIT)?;
    let tune = |settings: Value| {
        let twin = json!({"properties": {"desired": {"twinboot": settings}}});
        bench.cloud.emulator.patch_twin(bench.cloud.id, twin)
    };
    tune(json!({"rateLimit": 0}))?;
    bench.runs("2.0.0")?;
    assert_eq!(bench.cloud.requests(&image).len(), 1, "on the same connection");
    bench.settled(Slot::B, &V2)
}
