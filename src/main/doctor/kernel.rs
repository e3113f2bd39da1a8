//! What makes a system that hangs or panics boot again: without it no bootloader ever gets to count.
//!
//! Pure: the kernel's words in, findings out.

use twinboot::cli::doctor::Check;

use super::machine::word;

/// A kernel that panics must reboot. `setting` is `kernel.panic` as it is now.
pub(super) fn panic(command_line: &str, setting: Option<&str>) -> Check {
    const NAME: &str = "panic";
    let remedy = "let the bootloader put panic=10 on the kernel's command line";
    // Below zero: at once.
    let is_set = |value: &str| value.trim().parse::<i64>().is_ok_and(|seconds| seconds != 0);
    match (word(command_line, "panic"), setting) {
        (Some(value), _) if is_set(value) => {
            Check::ok(NAME, format!("a kernel that panics reboots (panic={value})"))
        }
        (Some(_) | None, Some(value)) if is_set(value) => {
            let what = format!(
                "kernel.panic is {} now, but not by the command line: set by sysctl it comes too late for a kernel that \
                 finds no root file system",
                value.trim()
            );
            Check::warn(NAME, what, remedy)
        }
        (Some(_) | None, Some(_) | None) => {
            let what = "a kernel that panics stands still for ever: the bootloader never gets to go back";
            Check::fail(NAME, what, remedy)
        }
    }
}

/// A kernel that finds no init looks for a shell next, and that stays.
pub(super) fn init(command_line: &str) -> Check {
    const NAME: &str = "init";
    if word(command_line, "init").is_some_and(|path| path.starts_with('/')) {
        return Check::ok(NAME, "a system without an init panics, instead of waiting at a shell");
    }
    let what = "the kernel's command line names no init: if a new system has none, the kernel starts a shell and stays there";
    Check::warn(NAME, what, "let the bootloader put init=/sbin/init on the kernel's command line")
}

/// A hardware watchdog as the kernel tells it (`/sys/class/watchdog`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Watchdog {
    /// Its driver.
    pub(super) identity: String,
    /// Whether it runs; `None` where the kernel does not say.
    pub(super) is_active: Option<bool>,
    /// Seconds until it resets.
    pub(super) timeout: Option<u64>,
}

/// What the kernel calls a watchdog that needs a kernel which runs.
const SOFTWARE: &str = "Software Watchdog";

/// A system that hangs must be reset. `runtime` is systemd's `RuntimeWatchdogSec`.
pub(super) fn watchdog(found: &[Watchdog], runtime: Option<&str>) -> Check {
    const NAME: &str = "watchdog";
    let is_fed = runtime.is_some_and(|value| !["", "0", "off", "infinity"].contains(&value));
    let feed = "write RuntimeWatchdogSec=30s below [Manager] in /etc/systemd/system.conf.d/watchdog.conf of each image";
    let Some(hardware) = found.iter().find(|it| it.identity != SOFTWARE) else {
        let what = if found.is_empty() {
            "there is no watchdog: a system that hangs stays until somebody pulls the plug"
        } else {
            "there is only the kernel's own watchdog: a kernel that hangs stays until somebody pulls the plug"
        };
        return Check::warn(
            NAME,
            what,
            "enable the driver of the hardware's (Raspberry Pi: dtparam=watchdog=on)",
        );
    };
    let name = &hardware.identity;
    let limit = hardware.timeout.map(|seconds| format!(", {seconds} s")).unwrap_or_default();
    match (hardware.is_active, is_fed) {
        (Some(true), _) => Check::ok(NAME, format!("{name} runs{limit}")),
        (None, true) => Check::ok(NAME, format!("{name} is fed by systemd{limit}")),
        (Some(false), true) => {
            let what = format!("{name} does not run, although RuntimeWatchdogSec is set");
            Check::warn(NAME, what, "reboot; then journalctl -b says why systemd did not start it")
        }
        (Some(false) | None, false) => {
            Check::warn(NAME, format!("{name} is there, and nobody starts it"), feed)
        }
    }
}

/// The clock: tokens and certificates are of no use without one.
pub(super) fn clock(
    is_plausible: bool,
    has_battery: bool,
    is_synchronised: bool,
    services: &[&str],
) -> Check {
    const NAME: &str = "clock";
    let remedy = "enable a time service in each image, such as systemd-timesyncd, and open its way to the network (UDP 123)";
    if !is_plausible {
        let what = "the clock shows a time before this program was made: a hub refuses tokens of such a time";
        return Check::fail(NAME, what, remedy);
    }
    let battery = if has_battery { "a battery keeps it" } else { "no battery keeps it" };
    match (is_synchronised, services) {
        (true, _) => Check::ok(NAME, format!("it is synchronised; {battery}")),
        (false, [service, ..]) => Check::ok(NAME, format!("it is plausible, {service} sets it; {battery}")),
        (false, []) => Check::warn(NAME, format!("nothing sets the clock; {battery}"), remedy),
    }
}
