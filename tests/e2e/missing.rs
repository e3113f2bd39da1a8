//! What may be missing: the daemon runs all the same, says what and what to do, and begins by itself when it is there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::support::{Checked, Happening, Slot};
use super::{Bench, LIMIT, V1, V2};

impl Bench {
    /// Waits until the status is that of a daemon that waits.
    fn waits(&self, for_what: &str) -> Checked {
        self.device.wait_status("a daemon that waits", 0, LIMIT, |status| {
            status["phase"] == "waiting"
                && status["waiting"]["what"].as_str().is_some_and(|what| what.contains(for_what))
        })?;
        Ok(())
    }
}

#[test]
fn a_broken_configuration_is_waited_for() -> Checked {
    let bench = Bench::off("[policy]\nconsnet = true\n")?;
    bench.device.power_on()?;
    bench.waits("50-test.toml:2: unknown key")?;
    let (code, said) = bench.device.command(&["status"])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("waiting   ") && said.contains("remedy    correct it"), "{said}");
    let (code, said) = bench.device.command(&["cancel"])?;
    assert_eq!(code, Some(1));
    assert!(said.contains("unknown key") && said.contains("control.waiting"), "{said}");
    let (code, said) = bench.device.command(&["reload"])?;
    assert_eq!(code, Some(1));
    assert!(said.contains("unknown key") && said.contains("reload.refused"), "{said}");
    fs::write(bench.device.path("conf.d/50-test.toml"), "")?;
    // By itself, without a word of anybody.
    bench.runs("1.0.0")?;
    assert_eq!(bench.device.command(&["status"])?.0, Some(0));
    let told = |what: &Happening| matches!(what, Happening::Said(line) if line.contains("waiting: "));
    let told = bench.device.since(0).iter().filter(|entry| told(&entry.what)).count();
    assert_eq!((told, bench.device.boots()), (1, 1), "one line, one process\n{}", bench.device.tail());
    bench.update("2.0.0", &V2)?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn no_configuration_and_no_slots_are_waited_for() -> Checked {
    let bench = Bench::off("")?;
    let (main, kept) = (bench.device.path("twinboot.toml"), bench.device.path("kept.toml"));
    fs::rename(&main, &kept)?;
    // What is left of the configuration says where to meet.
    let socket = format!("[control]\nsocket = \"{}\"\n", bench.device.path("control.sock").display());
    fs::write(bench.device.path("conf.d/50-test.toml"), socket)?;
    bench.device.power_on()?;
    bench.waits("twinboot.toml: cannot be read: No such file")?;
    let text = fs::read_to_string(&kept)?;
    fs::write(&main, text.replace("/slot-", "/nothing-"))?;
    assert_eq!(bench.device.command(&["reload"])?.0, Some(1));
    bench.waits("no A/B slot is booted")?;
    fs::write(&main, text)?;
    assert_eq!(bench.device.command(&["reload"])?.0, Some(0));
    bench.runs("1.0.0")?;
    bench.device.stop_daemon()?;
    bench.settled(Slot::A, &V1)
}

#[test]
fn a_daemon_that_waits_stops_when_it_is_told_to() -> Checked {
    let bench = Bench::off("nonsense")?;
    bench.device.power_on()?;
    bench.waits("50-test.toml")?;
    let took = bench.device.stop_daemon()?;
    assert!(took.as_secs() < 5, "{took:?}");
    assert!(!bench.device.path("control.sock").exists());
    Ok(())
}

#[test]
fn what_much_can_be_done_without_is_told_and_taken_when_it_is_there() -> Checked {
    let bench = Bench::off("")?;
    let hidden = ["fw_env.config", "connection-string", "slot-b"];
    for name in hidden {
        fs::rename(bench.device.path(name), bench.device.path(&format!("kept-{name}")))?;
    }
    bench.device.power_on()?;
    let warned = |status: &serde_json::Value, of: &str| {
        let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
        warnings.iter().any(|warning| warning.as_str().is_some_and(|text| text.contains(of)))
    };
    let all = ["fw_env.config", "connection string", "slot b cannot be written"];
    bench.device.wait_status("all three", 0, LIMIT, |status| all.iter().all(|it| warned(status, it)))?;
    for name in hidden {
        fs::rename(bench.device.path(&format!("kept-{name}")), bench.device.path(name))?;
    }
    bench.runs("1.0.0")?;
    bench.device.wait_status("no warning", bench.device.now().saturating_sub(1), LIMIT, |status| {
        status["warnings"] == json!([])
    })?;
    bench.update("2.0.0", &V2)?;
    bench.settled(Slot::B, &V2)
}

/// Nobody could ever judge it: a new system with a configuration that its twinboot does not understand.
#[test]
fn a_trial_that_cannot_be_judged_is_given_up() -> Checked {
    let bench = Bench::with("[health]\ndeadline = \"5s\"\n")?;
    bench.holds_trials_until("never")?;
    let from = bench.device.now();
    // It is read when the new system starts, not before.
    fs::write(bench.device.path("conf.d/90-new-system.toml"), "nonsense")?;
    bench.cloud.desire(bench.publish("2.0.0", &V2).desired())?;
    bench.device.wait("the old system", from, 3 * LIMIT, |it| {
        matches!(it, Happening::Booted(Slot::A, _)).then_some(())
    })?;
    let trials = bench.device.since(from);
    let trials = trials.iter().filter(|entry| matches!(entry.what, Happening::Booted(Slot::B, _))).count();
    assert_eq!(trials, 3, "boot.tries\n{}", bench.device.tail());
    // The old one cannot work either, and does not reboot for that.
    bench.device.wait_status("the old system waits", bench.device.now() - 1, LIMIT, |status| {
        status["phase"] == "waiting"
    })?;
    fs::remove_file(bench.device.path("conf.d/90-new-system.toml"))?;
    fs::set_permissions(bench.device.path("health.d/20-hold"), fs::Permissions::from_mode(0o644))?;
    // It left a word for the old one: neither the loader nor the power supply is to blame.
    bench.fails("rolledback", "health.timeout")?;
    bench.settled(Slot::A, &V1)
}

/// Every file that is named is looked at as the daemon would.
#[test]
fn check_config_looks_at_what_is_named() -> Checked {
    let bench = Bench::new()?;
    bench.device.stop_daemon()?;
    let (code, said) = bench.device.command(&["check-config"])?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("[slots]") && !said.contains("error: "), "{said}");
    let mode =
        |name: &str, mode| fs::set_permissions(bench.device.path(name), fs::Permissions::from_mode(mode));
    mode("connection-string", 0o644)?;
    mode("health.d/10-app", 0o777)?;
    mode("conf.d/50-test.toml", 0o666)?;
    fs::remove_file(bench.device.path("slot-b"))?;
    fs::remove_file(bench.device.path("fw_env.config"))?;
    fs::write(bench.device.path("ca.pem"), "no certificate")?;
    fs::remove_dir_all(bench.device.path("state"))?;
    fs::write(bench.device.path("state"), "in the way")?;
    let (code, said) = bench.device.command(&["check-config"])?;
    assert_eq!(code, Some(1), "{said}");
    for (line, remedy) in [
        ("error: slots.b: looking for slot B", "name this system's two root file systems"),
        ("error: boot.fw_env_config: reading", "as for fw_printenv"),
        ("error: hub.connection_string_file: ", "chmod 600"),
        ("error: tls.ca_files: ", "PEM files"),
        ("error: health.directory: not run: ", "chmod go-w"),
        ("error: state.directory: ", "remove it"),
        ("warning: the configuration: ", "chmod go-w"),
    ] {
        let at = said.find(line).unwrap_or_else(|| panic!("no {line:?} in {said}"));
        assert!(said[at..].contains(remedy), "no {remedy:?} after {line:?} in {said}");
    }
    assert!(said.find("error: ") < said.find("warning: "), "the worst first: {said}");
    let secret = bench.cloud.key()?;
    assert!(!said.contains(&secret));

    // Of one that is broken all is told at once, and not where it is told.
    fs::write(bench.device.path("conf.d/50-test.toml"), "[policy]\nconsnet = 1\n[slots]\na = 7\n")?;
    let (code, said) = bench.device.command(&["check-config"])?;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("50-test.toml:2: unknown key") && said.contains("50-test.toml:4: slots.a"),
        "{said}"
    );
    assert!(!said.contains("check-config"), "where else? {said}");
    Ok(())
}
