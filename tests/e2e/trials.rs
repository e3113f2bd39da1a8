//! A new system on trial: cut short, forgotten, or out of reach.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use hub_emulator::{Fault, FaultKind};
use serde_json::Value;

use super::support::{Checked, Happening, Recipe, Slot};
use super::{Bench, LIMIT, MIB, V1, V2, V3};

impl Bench {
    /// A health check without a verdict until there is a file of this name.
    pub(super) fn holds_trials_until(&self, name: &str) -> Checked {
        let (check, file) = (self.device.path("health.d/20-hold"), self.device.path(name));
        fs::write(&check, format!("#!/bin/sh\ntest -e '{}' || exit 75\n", file.display()))?;
        fs::set_permissions(&check, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Waits for a status, told after place `from` of the journal, by which slot B is being judged.
    pub(super) fn waits_on_trial(&self, from: usize) -> Checked {
        let on_trial = |status: &Value| status["phase"] == "confirming" && status["booted"] == "b";
        self.device.wait_status("slot b on trial", from, LIMIT, on_trial)?;
        Ok(())
    }
}

#[test]
fn p099_a_system_that_does_not_boot_is_given_up_by_the_loader() -> Checked {
    let bench = Bench::new()?;
    let dead = Recipe::unbootable("2.0.0", MIB).make();
    let image = bench.publish("2.0.0", &dead);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.fails("rolledback", "boot.fallback")?;
    bench.settled(Slot::A, &V1)?;
    let hangs =
        bench.device.since(from).iter().filter(|entry| entry.what == Happening::Hung(Slot::B)).count();
    assert_eq!(hangs, 3, "boot.tries");
    bench.reconnects_idle()
}

#[test]
fn p104_a_trial_that_is_cut_short_is_not_an_unhealthy_one() -> Checked {
    let bench = Bench::new()?;
    bench.holds_trials_until("go")?;
    let image = bench.publish("2.0.0", &V2);
    let mut from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    // More often than the loader counts: it falls back once, and the trial is armed again.
    for _ in 0..5 {
        bench.waits_on_trial(from)?;
        from = bench.device.now();
        bench.device.power_cycle()?;
    }
    bench.waits_on_trial(from)?;
    fs::write(bench.device.path("go"), "")?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn p083_a_trial_that_nobody_remembers_is_ended() -> Checked {
    let bench = Bench::new()?;
    bench.holds_trials_until("never")?;
    let image = bench.publish("2.0.0", &V2);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.waits_on_trial(from)?;
    bench.device.power_cut();
    fs::remove_dir_all(bench.device.path("state"))?;
    fs::create_dir(bench.device.path("state"))?;
    bench.cloud.desire(Value::Null)?;
    bench.device.power_on()?;
    assert_eq!(bench.device.booted(), Some(Slot::B), "the loader knows of the trial");
    bench.fails("rolledback", "state.record-lost")?;
    bench.settled(Slot::A, &V1)?;
    bench.reconnects_idle()
}

#[test]
fn p100_p101_a_system_that_does_not_reach_the_hub_is_not_kept() -> Checked {
    let bench = Bench::with("[health]\ndeadline = \"4s\"\n")?;
    let image = bench.publish("2.0.0", &V2);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.device.wait("the reboot", from, LIMIT, |it| (*it == Happening::RebootRequested).then_some(()))?;
    bench.cloud.emulator.faults().set(Fault::always("gateway", FaultKind::RefuseConnect));
    bench.device.wait("the old system", from, LIMIT, |it| {
        matches!(it, Happening::Booted(Slot::A, _)).then_some(())
    })?;
    bench.cloud.emulator.faults().clear();
    bench.fails("rolledback", "health.hub-unreachable")?;
    bench.settled(Slot::A, &V1)
}

#[test]
fn a_trial_can_be_confirmed_by_hand() -> Checked {
    let bench = Bench::new()?;
    bench.holds_trials_until("never")?;
    assert_eq!(bench.device.command(&["confirm"])?.0, Some(1), "there is no trial yet");
    let image = bench.publish("2.0.0", &V2);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.waits_on_trial(from)?;
    assert_eq!(bench.device.command(&["confirm"])?.0, Some(0));
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn a_newer_wish_waits_for_the_trial_and_nothing_cancels_it() -> Checked {
    let bench = Bench::new()?;
    bench.holds_trials_until("go")?;
    let image = bench.publish("2.0.0", &V2);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.waits_on_trial(from)?;
    let newer = bench.publish("3.0.0", &V3);
    bench.cloud.desire(newer.desired())?;
    assert_eq!(bench.cloud.call("cancel", Value::Null)?.0, 409);
    assert_eq!(bench.cloud.call("reboot", Value::Null)?.0, 409, "it would cost the trial");
    assert_eq!(bench.cloud.requests(&newer), []);
    assert_eq!((bench.device.booted(), bench.device.default()), (Some(Slot::B), Some(Slot::A)));
    fs::write(bench.device.path("go"), "")?;
    bench.runs("3.0.0")?;
    bench.settled(Slot::A, &V3)?;
    assert_eq!(bench.device.slot_bytes(Slot::B, V2.len())?, *V2);
    bench.reconnects_idle()
}

#[test]
fn p104_a_trial_that_never_comes_to_a_verdict_is_given_up() -> Checked {
    let bench = Bench::new()?;
    bench.holds_trials_until("never")?;
    let image = bench.publish("2.0.0", &V2);
    let mut from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    // Armed once, and three times more; each arming is worth three boots, and the fourth falls back.
    for _ in 0..4 * 3 {
        bench.waits_on_trial(from)?;
        from = bench.device.now();
        bench.device.power_cycle()?;
    }
    bench.fails("rolledback", "boot.interrupted")?;
    bench.settled(Slot::A, &V1)?;
    bench.reconnects_idle()
}
