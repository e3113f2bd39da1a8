//! The integrator's hooks in whole updates: what the cloud and an operator see of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Checked, Slot};
use super::{Bench, LIMIT, V1, V2};

impl Bench {
    /// Puts a hook on the device, a script that runs in the device's directory and notes each of its runs in `ran`.
    fn hook(&self, name: &str, lines: &str) -> Checked {
        let (root, path) = (self.device.path(""), self.device.path("hooks.d").join(name));
        let directory = path.parent().unwrap_or(&root);
        fs::create_dir_all(directory)?;
        fs::write(&path, format!("#!/bin/sh\ncd '{}'\necho {name} >> ran\n{lines}\n", root.display()))?;
        for path in [&path, directory, &self.device.path("hooks.d"), &root] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// How often a hook ran.
    fn runs_of(&self, name: &str) -> usize {
        let ran = fs::read_to_string(self.device.path("ran")).unwrap_or_default();
        ran.lines().filter(|line| *line == name).count()
    }

    /// Waits until a hook has begun so often.
    fn waits_for_run(&self, name: &str, run: usize) -> Checked {
        let until = Instant::now() + LIMIT;
        while self.runs_of(name) < run {
            assert!(Instant::now() < until, "{name} was not run {run} times\n{}", self.device.tail());
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

#[test]
fn an_update_waits_until_the_hook_allows_it() -> Checked {
    let bench = Bench::new()?;
    bench.hook("pre-arm/10-idle", "test $(wc -l < ran) -ge 3 || { echo 'the oven is hot'; exit 75; }")?;
    bench.hook("post-commit/10-migrate", "test \"$TWINBOOT_VERSION $TWINBOOT_SLOT\" = '2.0.0 b'")?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    let reported = bench.reports("waiting for the hook", |firmware| {
        let words = firmware["fwUpdateSubstatus"].as_str().unwrap_or_default();
        words.contains("waiting for hook pre-arm/10-idle: the oven is hot")
    })?;
    assert_eq!(reported["firmware"]["fwUpdateStatus"], "verifying");
    bench.runs("2.0.0")?;
    assert_eq!((bench.runs_of("pre-arm/10-idle"), bench.runs_of("post-commit/10-migrate")), (3, 1));
    assert_eq!(bench.device.status()?["warnings"], json!([]));
    bench.settled(Slot::B, &V2)
}

#[test]
fn a_hook_that_fails_before_arming_fails_the_update_and_can_be_mended() -> Checked {
    let bench = Bench::new()?;
    bench.hook("pre-arm/10-stop", "echo 'the application does not stop' >&2; exit 3")?;
    bench.hook("post-rollback/10-start", "test $TWINBOOT_FAILURE = hook.failed")?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    let reported = bench.fails("error", "hook.failed")?;
    let words = reported["firmware"]["fwUpdateSubstatus"].as_str().unwrap_or_default();
    assert!(words.contains("pre-arm/10-stop ended with exit status: 3: the application does not"), "{words}");
    assert_eq!((bench.device.boots(), bench.device.default()), (1, Some(Slot::A)));
    // That it failed is told at once, and the way back is made then.
    bench.waits_for_run("post-rollback/10-start", 1)?;
    assert_eq!(bench.runs_of("pre-arm/10-stop"), 1);
    bench.reconnects_idle()?;
    bench.hook("pre-arm/10-stop", "exit 0")?;
    assert_eq!(bench.device.command(&["retry"])?.0, Some(0));
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn a_new_system_whose_post_boot_hook_fails_is_rolled_back() -> Checked {
    let bench = Bench::new()?;
    bench.hook("post-boot/10-migrate", "echo 'cannot read the settings'; exit 1")?;
    bench.hook("post-rollback/10-start", "test \"$TWINBOOT_BOOTED $TWINBOOT_FAILURE\" = 'a hook.failed'")?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    bench.fails("rolledback", "hook.failed")?;
    bench.settled(Slot::A, &V1)?;
    assert_eq!((bench.runs_of("post-boot/10-migrate"), bench.runs_of("post-rollback/10-start")), (1, 1));
    assert_eq!(bench.device.status()?["warnings"], json!([]));
    bench.reconnects_idle()
}

#[test]
fn a_hook_that_a_power_cut_ended_is_run_again() -> Checked {
    let bench = Bench::new()?;
    // Half a minute at most: nobody ends it when the power is only played to fail.
    let slow = "n=0; while [ ! -e go ] && [ $n -lt 300 ]; do n=$((n + 1)); sleep 0.1; done";
    bench.hook("pre-arm/10-slow", slow)?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    for run in 1..=3 {
        bench.waits_for_run("pre-arm/10-slow", run)?;
        let status = bench.device.status()?;
        assert_eq!((&status["phase"], &status["trial"]), (&json!("staged"), &Value::Null));
        if run < 3 {
            bench.device.power_cycle()?;
        }
    }
    assert_eq!((bench.device.boots(), bench.device.default()), (3, Some(Slot::A)));
    fs::write(bench.device.path("go"), "")?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}
