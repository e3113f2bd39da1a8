//! The bootloader: what it is about to boot, whether it goes back, and whether it reads what we write.

use twinboot::boot::{Aspect, BootView, Bootloader, Observation, Verdict};
use twinboot::cli::doctor::Check;
use twinboot::host::Host;
use twinboot::model::Slot;

use super::machine::word;

/// The word on the kernel's command line that hands the canary back.
const WORD: &str = "twinboot.canary";

/// Looks at it all; writes the canary first, if `canary` says so.
pub(super) fn examine(
    bootloader: &mut dyn Bootloader,
    booted: Option<Slot>,
    (command_line, host): (&str, &Host),
    canary: bool,
) -> Vec<Check> {
    // That its variables can be read at all, and what is damaged, is found with the configuration.
    let Ok(view) = bootloader.view() else { return Vec::new() };
    let mut found = vec![agreement(&view, booted)];
    found.extend(bootloader.examine().unwrap_or_default().into_iter().map(observed));
    // As much of the boot's id as makes it that of no other.
    let token = host.boot_id().map(|id| id.0.chars().filter(|c| *c != '-').take(12).collect::<String>());
    let token = token.unwrap_or_default();
    if let Some(variable) = bootloader.canary() {
        if canary && let Err(error) = variable.write(&token) {
            let what = format!("it was not written: {}", error.reason().detail);
            found.push(Check::fail("canary", what, "see the lines about the bootloader"));
        }
        let value = variable.read().ok().flatten();
        found.push(answer(value.as_deref(), &token, command_line));
    } else if canary {
        let what = "this bootloader has no variables that it could hand on";
        found.push(Check::warn("canary", what, "leave out --canary"));
    }
    found
}

/// Where the lowest rollback index that is taken is kept, of a device that takes signed bundles: without a copy of it beside
/// the state directory, whoever empties that can have an old system installed. `told` is what the daemon goes by, if it
/// was asked.
pub(super) fn floor(view: &BootView, has_place: bool, told: Option<u64>) -> Check {
    const NAME: &str = "floor";
    match (view.floor, has_place) {
        (Some(floor), _) => Check::ok(
            NAME,
            format!(
                "bundles below the rollback index {floor} are refused; the bootloader's variables say so, too"
            ),
        ),
        (None, true) => match told {
            Some(0) => {
                Check::ok(NAME, "no signed bundle has been committed yet: any rollback index is taken")
            }
            Some(floor) => {
                let what = format!(
                    "bundles below the rollback index {floor} are refused, and the bootloader's variables do not say so: \
                     it would be forgotten with the state directory"
                );
                let remedy = "see that its variables have room, may be written and hold no damaged twinboot_floor; the \
                              next signed bundle that is committed writes it";
                Check::warn(NAME, what, remedy)
            }
            None => Check::ok(
                NAME,
                "the bootloader's variables name no lowest rollback index; the service does not tell whether there is one",
            ),
        },
        (None, false) => Check::ok(
            NAME,
            "the lowest rollback index is kept in the state directory alone: this bootloader has no place for it",
        ),
    }
}

/// GRUB's block has no lock, and Debian's package writes it at every boot, by emptying the file first.
pub(super) fn others(writes_at_boot: bool) -> Check {
    const NAME: &str = "lock";
    if writes_at_boot {
        let what =
            "grub-common.service writes the environment block at every boot, by emptying the file first";
        return Check::warn(NAME, what, "systemctl mask grub-common.service, here and in each image");
    }
    Check::ok(NAME, "no service of the system writes the environment block at boot")
}

/// What boots by default should be what runs.
pub(super) fn agreement(view: &BootView, booted: Option<Slot>) -> Check {
    const NAME: &str = "default";
    if let Some(trial) = view.trial {
        let what = format!("slot {trial} is on trial, or is tried at the next boot");
        return Check::warn(NAME, what, "ask again when the update is over: twinboot status --watch");
    }
    match booted {
        Some(booted) if booted != view.default => {
            let what = format!(
                "the bootloader's variables say that slot {} boots, but slot {booted} runs: it goes by others, or could \
                 not start that slot",
                view.default
            );
            let remedy = "compare the variables with those at the loader's own prompt; correct where they are looked for";
            Check::fail(NAME, what, remedy)
        }
        Some(_) => Check::ok(NAME, format!("slot {} runs, and boots by default", view.default)),
        None => Check::ok(NAME, format!("slot {} boots by default", view.default)),
    }
}

/// Whether the loader has handed on what was written.
pub(super) fn answer(value: Option<&str>, this_boot: &str, command_line: &str) -> Check {
    const NAME: &str = "canary";
    let Some(value) = value else {
        let what = "nothing has proved yet that the bootloader reads the variables which twinboot writes";
        return Check::warn(NAME, what, "twinboot doctor --canary, reboot, twinboot doctor");
    };
    match word(command_line, WORD) {
        Some(word) if word == value => {
            Check::ok(NAME, "the bootloader has handed on what twinboot wrote, so it reads what is written")
        }
        _ if value == this_boot => {
            Check::warn(NAME, "it is written; the bootloader has not run since", "reboot, and ask again")
        }
        Some(word) => {
            let what = format!(
                "the bootloader hands on {word:?}, but {value:?} was written: it does not read what twinboot writes"
            );
            Check::fail(
                NAME,
                what,
                "correct where the variables are looked for: device, offset, size, copies",
            )
        }
        None => {
            let what =
                format!("the boot script does not hand it on: {WORD} is not on the kernel's command line");
            let remedy =
                format!("let it add {WORD}=${{twinboot_canary}} to the kernel's arguments, and reboot");
            Check::warn(NAME, what, remedy)
        }
    }
}

fn observed(observation: Observation) -> Check {
    let Observation { aspect, verdict, what, remedy } = observation;
    let name = match aspect {
        Aspect::Copies => "copies",
        Aspect::Lock => "lock",
        Aspect::Restart => "restart",
        Aspect::Fallback => "fallback",
        Aspect::Counter => "counter",
    };
    match verdict {
        Verdict::Good => Check::ok(name, what),
        Verdict::Doubtful => Check::warn(name, what, remedy),
        Verdict::Bad => Check::fail(name, what, remedy),
    }
}
