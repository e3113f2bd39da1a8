//! What GRUB's script tells of the way back: `grub.cfg`, if it lies beside the block.
//!
//! Pure: the script's text in, observations out. It reads words and runs nothing, so it can only say what a script never
//! mentions. Called by [`Grub`](super::Grub).

use super::meaning::{TRIAL, TRIES};
use crate::boot::{Aspect, Observation};

const REMEDY: &str = "use the grub.cfg that comes with twinboot (packaging/boot/grub), or RAUC's";

/// All that can be said of the script, `None` if it is not there.
pub(super) fn script(text: Option<&str>, tries: u32) -> Vec<Observation> {
    let Some(text) = text else {
        let what = "there is no grub.cfg beside the environment block: what GRUB does with a trial cannot be told from here";
        return vec![Observation::doubtful(Aspect::Fallback, what, REMEDY)];
    };
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words: Vec<_> =
        lines.flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))).collect();
    let has = |word: &str| words.contains(&word);
    let mut found = Vec::new();
    let is_followed =
        has("load_env") && has("save_env") && has("ORDER") && words.iter().any(|word| word.ends_with("_TRY"));
    found.push(if !is_followed {
        let what = "grub.cfg does not go by ORDER and the slots' TRY, or does not save them: a trial would never be taken, \
                    or never end";
        Observation::bad(Aspect::Fallback, what, REMEDY)
    } else if has(TRIAL) && has(TRIES) {
        Observation::good(Aspect::Fallback, format!("grub.cfg boots a trial {tries} times at most, and goes back"))
    } else {
        Observation::good(Aspect::Fallback, "grub.cfg boots a trial once, as RAUC's does, and goes back")
    });
    if is_followed && tries > 1 && !(has(TRIAL) && has(TRIES)) {
        let what = format!("grub.cfg gives a trial one boot, and not {tries}");
        found.push(Observation::doubtful(
            Aspect::Counter,
            what,
            "set [boot] tries to 1, or take twinboot's grub.cfg",
        ));
    }
    found.push(if has("reboot") {
        Observation::good(Aspect::Restart, "grub.cfg reboots if nothing starts")
    } else {
        let what =
            "grub.cfg never reboots: if nothing can be loaded, the device may stay at GRUB's menu for ever";
        Observation::doubtful(Aspect::Restart, what, "let grub.cfg end in \"reboot\"")
    });
    found
}

#[cfg(test)]
#[path = "examine_tests.rs"]
mod tests;
