//! What the variables themselves tell of the way back: U-Boot's scripts are variables, so much of what a board does with
//! a system that does not start can be read before it has to do it.
//!
//! Pure: an [`Env`] in, observations out. It reads words and runs nothing, so it can only say what a script never
//! mentions. What a script loads by `source` is not seen, and then nothing is held against it. Called by
//! [`UBoot`](super::UBoot).

use std::collections::BTreeSet;

use super::dialect::Dialect;
use super::env::Env;
use crate::boot::{Aspect, Observation};

/// All that can be said of the scripts.
pub(super) fn scripts(env: &Env, dialect: &Dialect) -> Vec<Observation> {
    let mut found = Vec::new();
    let Some(start) = Script::of(env, "bootcmd") else {
        let what = "the environment has no bootcmd: either U-Boot keeps only some variables (CONFIG_ENV_WRITEABLE_LIST), \
                    or this is not the environment that it boots with";
        let remedy = "compare printenv at U-Boot's prompt with fw_printenv; if they differ, correct /etc/fw_env.config; \
                      an environment that fw_setenv made up is replaced by saveenv in U-Boot";
        found.push(Observation::doubtful(Aspect::Restart, what, remedy));
        return found;
    };
    found.push(restart(env, &start));
    match dialect {
        Dialect::UpgradeAvailable { slot_variable, .. } => {
            found.push(fallback(env, slot_variable, &start));
            found.push(counter(env, slot_variable, &start));
        }
        Dialect::BootOrder { .. } => found.push(order(&start)),
    }
    found
}

/// A system that cannot be loaded must lead to another boot.
fn restart(env: &Env, start: &Script) -> Observation {
    let delay = env.get("bootdelay").map(String::from_utf8_lossy);
    if delay.as_deref().is_some_and(|delay| delay.trim() == "-1") {
        let what = "bootdelay is -1: U-Boot stops at its prompt, and nothing is booted at all";
        return Observation::bad(Aspect::Restart, what, "fw_setenv bootdelay 0");
    }
    if start.has("reset") {
        return Observation::good(Aspect::Restart, "bootcmd resets if nothing starts");
    }
    let what = "bootcmd names no reset: a system that cannot be loaded may leave the board at U-Boot's prompt for ever";
    Observation::doubtful(Aspect::Restart, what, "let bootcmd end in \"; reset\"")
}

/// `altbootcmd` is what goes back; or `bootcmd` itself, on a U-Boot that cannot count.
fn fallback(env: &Env, slot_variable: &str, start: &Script) -> Observation {
    let bad = |what: String| {
        let remedy = format!(
            "let altbootcmd change {slot_variable} to the other slot, set upgrade_available and bootcount to 0, saveenv, \
             and run bootcmd"
        );
        Observation::bad(Aspect::Fallback, what, remedy)
    };
    let Some(back) = Script::of(env, "altbootcmd") else {
        let missing = missing_to_count(start, slot_variable);
        if missing.is_empty() {
            let what = "bootcmd itself goes back to the other slot once a trial is over, and saves that";
            return Observation::good(Aspect::Fallback, what);
        }
        return bad(format!(
            "there is no altbootcmd: U-Boot stops at its prompt once a trial is over, unless bootcmd counts and goes back \
             by itself; and that {}",
            missing.join(", ")
        ));
    };
    if back.commands == ["run bootcmd"] || back.text == start.text {
        return bad("altbootcmd does what bootcmd does: a trial that is over would go on".to_owned());
    }
    if back.loads_more() {
        let what = "altbootcmd hands over to a script that is loaded, which is not looked into";
        return Observation::good(Aspect::Fallback, what);
    }
    let missing: Vec<_> = [
        (!back.mentions(slot_variable)).then(|| format!("never changes {slot_variable}")),
        (!back.mentions("upgrade_available")).then(|| "leaves upgrade_available as it is".to_owned()),
        (!back.saves()).then(|| "saves nothing".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if missing.is_empty() {
        return Observation::good(Aspect::Fallback, "altbootcmd goes back to the other slot and saves that");
    }
    bad(format!("altbootcmd {}: it does not go back for good", missing.join(", ")))
}

/// What a `bootcmd` lacks that does by itself what U-Boot's boot counter and `altbootcmd` are for. That it mentions a
/// variable is not enough, as any may that tells which slot it boots.
fn missing_to_count(start: &Script, slot_variable: &str) -> Vec<String> {
    let changed = [slot_variable, "upgrade_available", "bootcount"];
    let changed =
        changed.into_iter().filter(|name| !start.sets(name)).map(|name| format!("never sets {name}"));
    let compared = (!start.mentions("bootlimit")).then(|| "does not ask for bootlimit".to_owned());
    let saved = (!start.saves()).then(|| "saves nothing".to_owned());
    changed.chain(compared).chain(saved).collect()
}

/// That U-Boot was built to count can only be seen by what it leaves behind, unless a script counts in its place.
fn counter(env: &Env, slot_variable: &str, start: &Script) -> Observation {
    if env.get("altbootcmd").is_none() && missing_to_count(start, slot_variable).is_empty() {
        return Observation::good(Aspect::Counter, "bootcmd counts the boots of a trial itself");
    }
    if ["bootcount", "bootlimit"].iter().any(|name| env.get(name).is_some()) {
        return Observation::good(Aspect::Counter, "U-Boot's boot counter is set up");
    }
    let what = "nothing shows that U-Boot counts boots: neither bootcount nor bootlimit was ever set";
    let remedy = "build U-Boot with CONFIG_BOOTCOUNT_LIMIT and CONFIG_BOOTCOUNT_ENV; an image that does not boot, tried on \
                  the bench, proves it";
    Observation::doubtful(Aspect::Counter, what, remedy)
}

/// RAUC's variables are counted down by the boot script.
fn order(start: &Script) -> Observation {
    if start.loads_more() {
        let what = "bootcmd hands over to a script that is loaded, which is not looked into";
        return Observation::good(Aspect::Fallback, what);
    }
    let is_order = start.mentions("BOOT_ORDER") && start.saves();
    if is_order {
        return Observation::good(Aspect::Fallback, "bootcmd follows BOOT_ORDER and saves what it counts");
    }
    let what = "bootcmd does not follow BOOT_ORDER, or does not save what it counts: a trial would never end";
    Observation::bad(
        Aspect::Fallback,
        what,
        "use RAUC's boot script, or packaging/boot/uboot/boot-order.cmd of twinboot",
    )
}

/// A variable that is run, with all that it runs.
#[derive(Debug, Eq, PartialEq)]
struct Script {
    text: String,
    commands: Vec<String>,
}

impl Script {
    /// `None` if there is no such variable.
    fn of(env: &Env, name: &str) -> Option<Self> {
        let own = text(env, name)?;
        let commands = commands(&own);
        let (mut seen, mut all) = (BTreeSet::from([name.to_owned()]), own);
        let mut next = runs(&commands);
        while let Some(name) = next.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let further = text(env, &name).unwrap_or_default();
            next.extend(runs(&self::commands(&further)));
            all = format!("{all}\n{further}");
        }
        Some(Self { text: all, commands })
    }

    /// Whether `command` (with its first argument, if it has a blank) is called anywhere.
    fn has(&self, command: &str) -> bool {
        commands(&self.text).iter().any(|it| {
            it.strip_prefix(command)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        })
    }

    /// Whether a word of this name is anywhere.
    fn mentions(&self, name: &str) -> bool {
        self.text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))).any(|word| word == name)
    }

    /// Whether it gives this variable a value.
    fn sets(&self, name: &str) -> bool {
        ["setenv", "env set", "setexpr"].iter().any(|command| self.has(&format!("{command} {name}")))
    }

    fn saves(&self) -> bool {
        self.has("saveenv") || self.has("env save")
    }

    /// Whether what it does is not all in the environment.
    fn loads_more(&self) -> bool {
        ["source", "autoscr", "bootflow", "env import"].iter().any(|command| self.has(command))
    }
}

fn text(env: &Env, name: &str) -> Option<String> {
    env.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
}

/// The variables that commands run.
fn runs(commands: &[String]) -> Vec<String> {
    let run = commands.iter().filter_map(|command| command.strip_prefix("run "));
    run.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The simple commands of a script of U-Boot's shell, whatever is around them. Quotes are not looked at: `setenv x 'a; b'`
/// is taken for three commands, which finds too much rather than too little.
fn commands(text: &str) -> Vec<String> {
    let words = ["if", "then", "elif", "else", "while", "until", "do", "!"];
    let pieces = text.split([';', '\n', '&', '|']);
    let mut commands = Vec::new();
    for piece in pieces {
        let mut piece = piece.trim_start().trim_end();
        while let Some(rest) = words
            .iter()
            .find_map(|word| piece.strip_prefix(word).filter(|rest| rest.starts_with(char::is_whitespace)))
        {
            piece = rest.trim_start();
        }
        if !piece.is_empty() {
            commands.push(piece.to_owned());
        }
    }
    commands
}

#[cfg(test)]
#[path = "examine_tests.rs"]
mod tests;
