//! `twinboot doctor`: whether this board can be trusted with an update, before it gets one.
//!
//! What the configuration names is looked at as for `check-config` ([`inspect`]); here is what that does not know: the
//! machine around it, the way back, the hub. Each part judges texts and numbers, and is pure; this file gathers them
//! from the machine, real or simulated, and puts them in order. Nothing is changed but, on request, one variable of the
//! bootloader's.

mod certificate;
mod hub;
mod kernel;
mod loader;
mod machine;
mod slots;
mod storage;
#[cfg(test)]
mod tests;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use twinboot::cli::doctor::{Check, Consultation, Level};
use twinboot::config::{Config, Finding, Loader, Weight};
use twinboot::host::Host;
use twinboot::model::{PerSlot, Slot};
use twinboot::program;
use twinboot::slots::SlotMap;

use self::kernel::Watchdog;
use self::machine::Machine;
use crate::{inspect, settings};

/// What is looked at with the configuration, and what there is to say of it if nothing was found.
const INSPECTED: [(&str, &str); 6] = [
    ("configuration", "nobody but its owner can change it"),
    ("loader", "its variables can be read"),
    ("identity", "it is there, and closed to others"),
    ("authorities", "there are certificate authorities to trust"),
    ("programs", "what would be run cannot be changed by others"),
    ("control", "its group is there"),
];

/// Services that set the clock.
const TIME_SERVICES: [&str; 7] = [
    "systemd-timesyncd.service",
    "chrony.service",
    "chronyd.service",
    "ntp.service",
    "ntpd.service",
    "ntpsec.service",
    "openntpd.service",
];

/// All that can be said of this board, in the order in which it is best put right.
pub(crate) fn examine(config: &Config, how: Consultation) -> Vec<Check> {
    let host = Host::new(config.simulator.root.clone());
    let machine = Machine::new(settings::root(config));
    let command_line = machine.command_line();
    let slots = SlotMap::new(settings::slots(config));
    let (booted, map) = slots::map(&slots, &settings::root(config));
    let status = hub::status(&config.control.socket);
    let mut found = inspected(inspect::named(config));
    if map.is_some() {
        let size = |slot| slots::size(&slots.look(slot));
        found.push(slots::sizes(PerSlot { a: size(Slot::A), b: size(Slot::B) }));
    }
    found.extend(map);
    let fstab = machine.text("etc/fstab").unwrap_or_default();
    let names = |slot| slots.look(slot).iter().flat_map(slots::names).collect();
    let names = PerSlot { a: names(Slot::A), b: names(Slot::B) };
    found.push(slots::table(&fstab, &names));
    if let Ok(mut bootloader) = crate::loader::open(config) {
        let is_signed = settings::is_signed(&settings::keyring(config));
        let has_place = matches!(config.boot.loader, Loader::Uboot | Loader::Grub);
        let view = bootloader.view().ok().filter(|_| is_signed);
        let told = status.as_ref().ok().and_then(|status| status["floor"].as_u64());
        found.extend(view.map(|view| loader::floor(&view, has_place, told)));
        found.extend(loader::examine(bootloader.as_mut(), booted, (&command_line, &host), how.canary));
    }
    if config.boot.loader == Loader::Grub {
        found.push(loader::others(machine.is_enabled("grub-common.service")));
    }
    found.push(kernel::panic(&command_line, machine.text("proc/sys/kernel/panic").as_deref()));
    found.push(kernel::init(&command_line));
    let runtime = machine.manager_setting("RuntimeWatchdogSec");
    found.push(kernel::watchdog(&watchdogs(&machine), runtime.as_deref()));
    found.extend(state(config, &machine, &fstab));
    found.extend(scratch(&machine));
    found.push(clock(&machine, &host));
    found.extend(certificate::examine(config, host.wall_clock()));
    found.extend(units(&machine));
    found.push(health(config));
    found.push(version(&host));
    found.push(trust(config));
    found.push(hub::service(&status));
    found.extend(hub::hub(config, &host, &status));
    one_verdict_each(&mut found);
    found
}

/// What is wrong outdoes what else is well about the same thing.
fn one_verdict_each(found: &mut Vec<Check>) {
    let ills: Vec<_> =
        found.iter().filter(|check| check.level != Level::Ok).map(|check| check.name).collect();
    found.retain(|check| check.level != Level::Ok || !ills.contains(&check.name));
}

/// What `check-config` would say, and that it has nothing to say.
fn inspected(findings: Vec<Finding>) -> Vec<Check> {
    let mut found: Vec<_> = findings.into_iter().map(check).collect();
    for (name, what) in INSPECTED {
        if found.iter().all(|check| check.name != name) {
            found.push(Check::ok(name, what));
        }
    }
    found
}

fn check(Finding { weight, key, what, remedy }: Finding) -> Check {
    let name = match key.split_once('.').map_or(key, |(section, _)| section) {
        "trust" if ["trust.product", "trust.compatible"].contains(&key) => "product",
        "trust" => "keys",
        "slots" => "slots",
        "boot" => "loader",
        "hub" | "provisioning" => "identity",
        "tls" => "authorities",
        "proxy" => "proxy",
        "health" | "hooks" | "properties" | "factory_reset" => "programs",
        "state" => "state",
        "control" => "control",
        _ => "configuration",
    };
    let level = match weight {
        Weight::Error => Level::Fail,
        Weight::Warning | Weight::Unseen => Level::Warn,
        Weight::Note => Level::Ok,
    };
    let unseen = if weight == Weight::Unseen { "not looked at: " } else { "" };
    Check { level, name, what: format!("{unseen}{key}: {what}"), remedy }
}

fn watchdogs(machine: &Machine) -> Vec<Watchdog> {
    const DIRECTORY: &str = "sys/class/watchdog";
    let one = |name: String| {
        let read = |file: &str| {
            machine.text(&format!("{DIRECTORY}/{name}/{file}")).map(|text| text.trim().to_owned())
        };
        Watchdog {
            identity: read("identity").unwrap_or_else(|| name.clone()),
            is_active: read("state").map(|state| state == "active"),
            timeout: read("timeout").and_then(|text| text.parse().ok()),
        }
    };
    machine.names(DIRECTORY).into_iter().map(one).collect()
}

/// Where the record lives. That it is there, a directory and writable is found with the configuration.
fn state(config: &Config, machine: &Machine, fstab: &str) -> Vec<Check> {
    let Ok(directory) = config.state.directory.canonicalize() else { return Vec::new() };
    let place = match misplaced(config) {
        Some((what, remedy)) => Check::fail("state", what, remedy),
        None => storage::mounting(&directory, &mounts(machine), fstab, |unit| machine.has_unit(unit)),
    };
    vec![place, storage::space(&directory, storage::room(&directory))]
}

/// Why what is written there would not be found again, and what to do: also for `check-config`.
pub(crate) fn misplaced(config: &Config) -> Option<(String, &'static str)> {
    let directory = config.state.directory.canonicalize().ok()?;
    let machine = Machine::new(settings::root(config));
    storage::misplaced(&directory, &mounts(&machine), &slot_devices(config))
}

/// Where others put what they do not keep. It may be left out of a simulated machine.
fn scratch(machine: &Machine) -> Option<Check> {
    let directory = machine.path("tmp").canonicalize().ok()?;
    Some(storage::scratch(&directory, storage::room(&directory)))
}

fn mounts(machine: &Machine) -> Vec<storage::Mount> {
    storage::mounts(&machine.text("proc/self/mountinfo").unwrap_or_default())
}

/// Each partition of a slot that is a device: the letter of the slot, and the device's number.
fn slot_devices(config: &Config) -> Vec<(String, String)> {
    let slots = SlotMap::new(settings::slots(config));
    let number = |path: &Path| {
        let device = path.metadata().ok().map(|metadata| metadata.rdev()).filter(|device| *device != 0)?;
        Some(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
    };
    let devices = |slot: Slot| {
        let found = slots.look(slot).into_iter().filter_map(|part| part.found.ok());
        let numbers = found.filter_map(|(path, _)| number(&path));
        numbers.map(|number| (slot.letter().to_owned(), number)).collect::<Vec<_>>()
    };
    Slot::BOTH.into_iter().flat_map(devices).collect()
}

fn clock(machine: &Machine, host: &Host) -> Check {
    let services: Vec<_> = TIME_SERVICES.into_iter().filter(|unit| machine.is_enabled(unit)).collect();
    let is_synchronised = machine.has("run/systemd/timesync/synchronized");
    let has_battery = !machine.names("sys/class/rtc").is_empty();
    kernel::clock(host.wall_clock().is_some(), has_battery, is_synchronised, &services)
}

/// That the service begins with each boot, and that somebody sees to it if it does not.
fn units(machine: &Machine) -> [Check; 2] {
    let enabled = "twinboot.service begins with each boot";
    let lacking =
        "twinboot.service is not enabled: nobody would judge a new system, and it would go away again";
    let guarded = "a trial that nobody judges is given up";
    let unguarded =
        "twinboot-trial.timer is not enabled: a new system in which twinboot does not start is not given up";
    [("enabled", "twinboot.service", enabled, lacking), ("guard", "twinboot-trial.timer", guarded, unguarded)]
        .map(|(name, unit, good, bad)| {
            if machine.is_enabled(unit) {
                return Check::ok(name, good);
            }
            let remedy = format!("systemctl enable {unit}, here and in each image (systemctl --root=…)");
            Check::fail(name, bad, remedy)
        })
}

/// Somebody should judge a new system by what the gateway is there for.
fn health(config: &Config) -> Check {
    const NAME: &str = "health";
    let directory = &config.health.directory;
    match program::list(directory).map_or(0, |programs| programs.len()) {
        0 => {
            let what = format!("no program in {} judges a new system", directory.display());
            Check::warn(NAME, what, "put one there that knows whether the gateway does its work")
        }
        count => Check::ok(NAME, format!("{count} in {} judge a new system", directory.display())),
    }
}

fn version(host: &Host) -> Check {
    const NAME: &str = "version";
    match host.image_version() {
        Some(version) => Check::ok(NAME, format!("this system is version {version}")),
        None => {
            let what = "/etc/os-release has no IMAGE_VERSION: nobody would notice a wrong image";
            Check::warn(NAME, what, "write IMAGE_VERSION=… to /etc/os-release of each image")
        }
    }
}

fn trust(config: &Config) -> Check {
    const NAME: &str = "trust";
    if config.trust.allow_undigested {
        let what = "trust.allow_undigested is set: whoever answers for an address decides what runs here";
        return Check::warn(NAME, what, "take it out");
    }
    Check::ok(NAME, "no image is taken without a digest")
}
