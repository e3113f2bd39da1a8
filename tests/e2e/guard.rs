//! The guard over a trial, as systemd starts it: beside a daemon, or where there is none.

use std::fs;

use twinboot::store::overdue;

use super::support::{Checked, Happening, Slot};
use super::{Bench, LIMIT, V1, V2};

impl Bench {
    /// Puts version 2.0.0 on trial in slot B; whoever judges it never comes to a verdict. The place in the journal.
    fn is_on_trial(&self) -> Checked<usize> {
        self.holds_trials_until("never")?;
        let from = self.device.now();
        self.cloud.desire(self.publish("2.0.0", &V2).desired())?;
        self.waits_on_trial(from)?;
        Ok(from)
    }

    fn reboots(&self, from: usize) -> usize {
        let entries = self.device.since(from);
        entries.iter().filter(|entry| entry.what == Happening::RebootRequested).count()
    }
}

#[test]
fn p099_a_trial_without_a_daemon_is_ended_by_its_guard() -> Checked {
    let bench = Bench::with("[health]\ndeadline = \"1h\"\n")?;
    let mut from = bench.is_on_trial()?;
    let deadline = |text: &str| {
        fs::write(bench.device.path("conf.d/90-health.toml"), format!("[health]\ndeadline = {text:?}\n"))
    };
    // Three boots are the bootloader's limit.
    for next in [Slot::B, Slot::B, Slot::A] {
        bench.waits_on_trial(from)?;
        bench.device.stop_daemon()?;
        // The daemon would not be patient for so short a time.
        deadline("1s")?;
        from = bench.device.now();
        let (code, said) = bench.device.command(&["guard"])?;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("slot b is on trial and was not judged within"), "{said}");
        deadline("1h")?;
        bench.device.wait("the next boot", from, LIMIT, |it| {
            matches!(it, Happening::Booted(slot, _) if *slot == next).then_some(())
        })?;
    }
    // Not boot.interrupted, and not tried again: the guard left a word for the old system.
    bench.fails("rolledback", "health.timeout")?;
    assert_eq!(overdue::find(&bench.device.path("state")), None, "and it has had its effect");
    bench.settled(Slot::A, &V1)
}

#[test]
fn the_guard_waits_for_the_time_of_the_daemon_and_ends_with_the_trial() -> Checked {
    let bench = Bench::with("[health]\ndeadline = \"1h\"\n")?;
    let from = bench.is_on_trial()?;
    let reboots = bench.reboots(from);
    let result = std::thread::scope(|scope| {
        let guard = scope.spawn(|| bench.device.command(&["guard"]));
        assert_eq!(bench.device.command(&["confirm"])?.0, Some(0));
        bench.runs("2.0.0")?;
        guard.join().expect("it does not panic")
    });
    let (code, said) = result?;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(bench.reboots(from), reboots, "no more than the update's own");
    bench.settled(Slot::B, &V2)
}

/// Whatever is wrong with it: who cannot tell whether it is a trial does not reboot.
#[test]
fn without_a_trial_the_guard_never_reboots() -> Checked {
    let bench = Bench::with("[health]\ndeadline = \"1s\"\n")?;
    assert_eq!(bench.device.command(&["guard"])?, (Some(0), String::new()));
    fs::write(bench.device.path("conf.d/90-new.toml"), "nonsense")?;
    assert_eq!(bench.device.command(&["guard"])?, (Some(0), String::new()));
    for copy in [0, 1] {
        bench.device.environment().corrupt(copy)?;
    }
    let (code, said) = bench.device.command(&["guard"])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no guard over a trial: the bootloader cannot be asked"), "{said}");
    assert_eq!((bench.reboots(0), bench.device.boots()), (0, 1));
    assert_eq!(bench.device.slot_bytes(Slot::A, V1.len())?, *V1);
    Ok(())
}
