//! What the variables mean: two dialects, each as a table of "this state is these values".
//!
//! Pure: an [`Env`] in, a [`BootView`] or a list of values out. Not here: reading and writing. Called by
//! [`UBoot`](super::UBoot).
//!
//! # `UpgradeAvailable`: U-Boot's own boot counter
//! With `CONFIG_BOOTCOUNT_ENV`, U-Boot counts boots in `bootcount` while `upgrade_available` is not 0, and runs
//! `altbootcmd` instead of `bootcmd` once `bootcount` exceeds `bootlimit`. The count goes up before it is compared, so
//! with a count of 0 and a limit of `tries`, just `tries` boots are taken. A limit of 0 would mean none, so
//! `tries` is 1 at least. `altbootcmd`, which belongs to the board, must turn the slot variable over and clear
//! `upgrade_available`. In ordinary life the loader writes nothing.
//!
//! | state | slot variable | `upgrade_available` | `bootcount` | `bootlimit` |
//! | --- | --- | --- | --- | --- |
//! | `s` is the default | `s` | 0 or unset | 0 | any |
//! | `s` is on trial, the other is the default | `s` | 1 | boots taken | `tries` |
//!
//! Mender's variables are these with `mender_boot_part`, a partition number; its hexadecimal twin
//! `mender_boot_part_hex` is kept in step.
//!
//! # `BootOrder`: RAUC's variables
//! The boot script takes the first slot of `BOOT_ORDER` whose `BOOT_<name>_LEFT` (hexadecimal) is above 0 and takes
//! one off, at every boot. If none is left, it sets all to 3 and resets. These variables do not tell a trial from a
//! default: `BOOT_ORDER="B A"` is both "B on trial" and "B committed", and RAUC leaves it to somebody else to know.
//! If only our record knew, a lost record would turn a trial into a default that nobody ever judged. So one
//! variable of ours, [`TRIAL`], is written in the same write: the slot on trial and the count that the other slot
//! got. The loader need not know it.
//!
//! | state | `BOOT_ORDER` | `LEFT` of `s` | `LEFT` of the other | `twinboot_trial` |
//! | --- | --- | --- | --- | --- |
//! | `s` is the default, the other bootable | `s o` | up to `tries` | above 0 | unset |
//! | `s` is the default and nothing else boots | `s` | up to `tries` | 0 | unset |
//! | `s` is on trial | `s o` | `tries` less boots taken | `tries` | `s:tries` |
//! | the trial of `s` failed, the loader fell back | `s o` | 0 | below `tries` | `s:tries` |
//!
//! The last two rows differ by the other slot's count: it is full until that slot is booted. So the last boot of a
//! trial, whose own count is 0 already, is not taken for a fall-back. And should somebody put another slot first
//! (`rauc status mark-active other`), there is no trial any more, whatever our variable says.
//!
//! Since the script counts *every* boot down, somebody must fill the count of the default up again, or three power
//! cuts use it up. That is `commit` of a slot that is the default already: it fills its count up, and leaves the
//! other slot what it is. Call it once in every boot of the default.

use super::env::Env;
use crate::boot::BootView;
use crate::model::{PerSlot, Slot};

/// Our own variable in the `BootOrder` dialect: the letter of the slot on trial, a colon, and in hexadecimal the
/// count that the other slot got when the trial began. Unset when no slot is on trial.
pub const TRIAL: &str = "twinboot_trial";

/// Which variables the loader's scripts use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// U-Boot's boot counter and a variable that names the slot.
    UpgradeAvailable {
        /// The variable that names the slot to boot, such as `slot` or `mender_boot_part`.
        slot_variable: String,
        /// Its value for each slot.
        values: PerSlot<String>,
    },
    /// RAUC's `BOOT_ORDER` and `BOOT_<name>_LEFT`.
    BootOrder {
        /// The name of each slot in these variables.
        names: PerSlot<String>,
    },
}

/// A variable and the value it is to have; empty means unset.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) value: String,
    /// Whether the loader takes a missing variable for this value.
    is_implied: bool,
}

impl Wanted {
    pub(super) fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        Self { name, is_implied: value.is_empty(), value }
    }

    /// A decimal 0, which is what U-Boot makes of a variable that is not there.
    fn zero(name: &str) -> Self {
        Self::number(name, 0)
    }

    /// A decimal number, 0 for a variable that is not there.
    pub(super) fn number(name: &str, value: u64) -> Self {
        Self { name: name.to_owned(), value: value.to_string(), is_implied: value == 0 }
    }

    pub(super) fn is_in_effect(&self, env: &Env) -> bool {
        env.get(&self.name).map_or(self.is_implied, |value| value == self.value.as_bytes())
    }
}

const MENDER_PART: &str = "mender_boot_part";
const MENDER_PART_HEX: &str = "mender_boot_part_hex";

impl Dialect {
    /// Whether the names and values can be used. The error is a sentence with the remedy.
    pub(super) fn check(&self, tries: u32) -> Result<(), String> {
        if tries == 0 {
            return Err("a trial needs at least one boot; set [boot] tries to 1 or more".to_owned());
        }
        let (what, words) = match self {
            Self::UpgradeAvailable { slot_variable, values } => {
                let reserved = ["upgrade_available", "bootcount", "bootlimit", "altbootcmd", "bootcmd"];
                if !is_word(slot_variable) || reserved.contains(&slot_variable.as_str()) {
                    return Err(format!(
                        "{slot_variable:?} cannot be the slot variable; choose another name"
                    ));
                }
                let is_number = |value: &String| value.parse::<u32>().is_ok();
                if slot_variable == MENDER_PART && !(is_number(&values.a) && is_number(&values.b)) {
                    return Err(format!(
                        "the values of {MENDER_PART} are partition numbers, such as 2 and 3"
                    ));
                }
                ("value", values)
            }
            Self::BootOrder { names } => ("name", names),
        };
        for word in [&words.a, &words.b] {
            if !is_word(word) {
                return Err(format!("{word:?} cannot be the {what} of a slot; use letters, digits, _ - . /"));
            }
        }
        if words.a == words.b {
            return Err(format!("both slots have the {what} {:?}; give each its own", words.a));
        }
        Ok(())
    }

    /// All variables that are ever written.
    pub(super) fn variables(&self) -> Vec<String> {
        let mut all: Vec<_> = match self {
            Self::UpgradeAvailable { slot_variable, .. } => {
                [slot_variable, "upgrade_available", "bootcount", "bootlimit"].map(str::to_owned).into()
            }
            Self::BootOrder { names } => {
                vec!["BOOT_ORDER".to_owned(), left(&names.a), left(&names.b), TRIAL.to_owned()]
            }
        };
        if all[0] == MENDER_PART {
            all.push(MENDER_PART_HEX.to_owned());
        }
        all
    }

    /// What the variables say. The error is a sentence that names variable and value.
    pub(super) fn view(&self, env: &Env, tries: u32) -> Result<BootView, String> {
        match self {
            Self::UpgradeAvailable { slot_variable, values } => counter_view(env, slot_variable, values),
            Self::BootOrder { names } => Order::read(env, names).map(|order| order.view(tries)),
        }
    }

    /// `slot` on trial.
    pub(super) fn armed(&self, env: &Env, slot: Slot, tries: u32) -> Vec<Wanted> {
        match self {
            Self::UpgradeAvailable { slot_variable, values } => {
                let mut wanted = slot_values(slot_variable, values.of(slot));
                wanted.push(Wanted::new("upgrade_available", "1"));
                wanted.push(Wanted::zero("bootcount"));
                wanted.push(Wanted::new("bootlimit", tries.to_string()));
                wanted
            }
            Self::BootOrder { names } => vec![
                Wanted::new("BOOT_ORDER", order(env, names, &[slot, !slot])),
                Wanted::new(left(names.of(slot)), format!("{tries:x}")),
                Wanted::new(left(names.of(!slot)), format!("{tries:x}")),
                Wanted::new(TRIAL, format!("{}:{tries:x}", slot.letter())),
            ],
        }
    }

    /// `slot` is the default; the other one stays bootable if it was, and becomes so if `slot` just passed its trial.
    pub(super) fn committed(&self, env: &Env, slot: Slot, tries: u32) -> Vec<Wanted> {
        let names = match self {
            Self::UpgradeAvailable { slot_variable, values } => {
                return settled(slot_variable, values.of(slot));
            }
            Self::BootOrder { names } => names,
        };
        let full = format!("{tries:x}");
        let filled = Wanted::new(left(names.of(slot)), &full);
        let no_trial = Wanted::new(TRIAL, "");
        // Without readable variables nothing is known of the other slot: it is not made bootable.
        let known = Order::read(env, names).ok();
        if known.as_ref().is_some_and(|order| order.trial() == Some(slot)) {
            let other = Wanted::new(left(names.of(!slot)), full);
            return vec![
                Wanted::new("BOOT_ORDER", order(env, names, &[slot, !slot])),
                filled,
                other,
                no_trial,
            ];
        }
        let keeps_other = known.is_some_and(|order| order.left(!slot) > 0);
        let slots: &[Slot] = if keeps_other { &[slot, !slot] } else { &[slot] };
        vec![Wanted::new("BOOT_ORDER", order(env, names, slots)), filled, no_trial]
    }

    /// `to` is the default and nothing else boots.
    pub(super) fn reverted(&self, env: &Env, to: Slot, tries: u32) -> Vec<Wanted> {
        match self {
            Self::UpgradeAvailable { slot_variable, values } => settled(slot_variable, values.of(to)),
            Self::BootOrder { names } => vec![
                Wanted::new("BOOT_ORDER", order(env, names, &[to])),
                Wanted::new(left(names.of(to)), format!("{tries:x}")),
                Wanted::new(left(names.of(!to)), "0"),
                Wanted::new(TRIAL, ""),
            ],
        }
    }
}

/// Words that mean nothing to U-Boot's shell and nothing to the environment's format.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
}

fn slot_values(variable: &str, value: &str) -> Vec<Wanted> {
    let mut wanted = vec![Wanted::new(variable, value)];
    if let (MENDER_PART, Ok(number)) = (variable, value.parse::<u32>()) {
        wanted.push(Wanted::new(MENDER_PART_HEX, format!("{number:x}")));
    }
    wanted
}

fn settled(variable: &str, value: &str) -> Vec<Wanted> {
    let mut wanted = slot_values(variable, value);
    wanted.push(Wanted::zero("upgrade_available"));
    wanted.push(Wanted::zero("bootcount"));
    wanted
}

fn counter_view(env: &Env, variable: &str, values: &PerSlot<String>) -> Result<BootView, String> {
    let value = text(env, variable)?.ok_or_else(|| {
        format!("{variable} is not set; set it to {:?} or {:?}, whichever slot boots", values.a, values.b)
    })?;
    let slot = Slot::BOTH.into_iter().find(|slot| *values.of(*slot) == value).ok_or_else(|| {
        format!("{variable} is {value:?}, which is neither {:?} nor {:?}", values.a, values.b)
    })?;
    let mut warnings = Vec::new();
    if number(env, "upgrade_available", 10)?.unwrap_or(0) == 0 {
        return Ok(BootView { default: slot, trial: None, tries_left: None, floor: None, warnings });
    }
    let limit = number(env, "bootlimit", 10)?.filter(|limit| *limit > 0);
    let count = number(env, "bootcount", 10)?.unwrap_or(0);
    if limit.is_none() {
        warnings.push("a trial is armed and bootlimit is not set: U-Boot never falls back".to_owned());
    }
    let tries_left = limit.map(|limit| limit.saturating_sub(count));
    Ok(BootView { default: !slot, trial: Some(slot), tries_left, floor: None, warnings })
}

/// `BOOT_<name>_LEFT`.
fn left(name: &str) -> String {
    format!("BOOT_{name}_LEFT")
}

/// `BOOT_ORDER` with just these slots first, and after them whatever else it names (such as a rescue system).
fn order(env: &Env, names: &PerSlot<String>, slots: &[Slot]) -> String {
    let present = env.get("BOOT_ORDER").map(String::from_utf8_lossy).unwrap_or_default();
    let strangers =
        present.split(' ').filter(|name| !name.is_empty() && *name != names.a && *name != names.b);
    let ours = slots.iter().map(|slot| names.of(*slot).as_str());
    ours.chain(strangers).collect::<Vec<_>>().join(" ")
}

/// RAUC's variables as they stand.
struct Order {
    first: Slot,
    has_other: bool,
    left: PerSlot<u32>,
    /// Our variable: the slot on trial, and the count the other one got.
    armed: Option<(Slot, u32)>,
}

impl Order {
    fn read(env: &Env, names: &PerSlot<String>) -> Result<Self, String> {
        let order = text(env, "BOOT_ORDER")?.ok_or("BOOT_ORDER is not set; let the boot script set it")?;
        let slot_of = |name: &str| Slot::BOTH.into_iter().find(|slot| names.of(*slot) == name);
        let mut entries = order.split(' ').filter(|name| !name.is_empty());
        let first = entries.next().and_then(slot_of).ok_or_else(|| {
            format!("BOOT_ORDER is {order:?}, which begins with neither {:?} nor {:?}", names.a, names.b)
        })?;
        let has_other = entries.any(|name| name == names.of(!first));
        let count = |slot: Slot| -> Result<u32, String> {
            // A slot that is out of the order boots never, whatever its count.
            if slot != first && !has_other {
                return Ok(0);
            }
            let name = left(names.of(slot));
            number(env, &name, 16)?.ok_or_else(|| format!("{name} is not set; let the boot script set it"))
        };
        let left = PerSlot { a: count(Slot::A)?, b: count(Slot::B)? };
        Ok(Self { first, has_other, left, armed: armed(env)? })
    }

    fn left(&self, slot: Slot) -> u32 {
        *self.left.of(slot)
    }

    /// The slot on trial, unless the loader fell back or somebody chose otherwise.
    fn trial(&self) -> Option<Slot> {
        let (slot, _) = self.armed?;
        (self.first == slot && !self.has_fallen_back()).then_some(slot)
    }

    /// Whether a trial used up its boots *and* the other slot was booted since: its count is no longer full.
    fn has_fallen_back(&self) -> bool {
        self.armed.is_some_and(|(slot, full)| {
            self.first == slot && self.has_other && self.left(slot) == 0 && self.left(!slot) < full
        })
    }

    fn view(&self, tries: u32) -> BootView {
        let mut warnings = Vec::new();
        if let Some(slot) = self.trial() {
            if self.left(!slot) == 0 {
                warnings.push(format!(
                    "slot {slot} is on trial and slot {} has no boots left to fall back to",
                    !slot
                ));
            }
            return BootView {
                default: !slot,
                trial: Some(slot),
                tries_left: Some(self.left(slot)),
                floor: None,
                warnings,
            };
        }
        let (first, other) = (self.first, self.left(!self.first));
        if self.armed.is_some_and(|(slot, _)| slot != first) {
            warnings.push(format!("{TRIAL} is set, but BOOT_ORDER puts slot {first} first: no trial"));
        }
        // A default whose boots are used up, too, gives way to the other slot, and then that one is what boots.
        let is_used_up = self.left(first) == 0 && (1..tries).contains(&other);
        let default = if self.has_fallen_back() || is_used_up { !first } else { first };
        BootView { default, trial: None, tries_left: None, floor: None, warnings }
    }
}

fn armed(env: &Env) -> Result<Option<(Slot, u32)>, String> {
    let Some(value) = text(env, TRIAL)? else {
        return Ok(None);
    };
    let parts = value.split_once(':').and_then(|(letter, full)| {
        let slot = Slot::BOTH.into_iter().find(|slot| slot.letter() == letter)?;
        Some((slot, u32::from_str_radix(full, 16).ok()?))
    });
    parts.map(Some).ok_or_else(|| format!("{TRIAL} is {value:?}, which is not ours; unset it"))
}

fn text(env: &Env, name: &str) -> Result<Option<String>, String> {
    let Some(value) = env.get(name) else {
        return Ok(None);
    };
    let lossy = String::from_utf8_lossy(value);
    String::from_utf8(value.to_vec()).map(Some).map_err(|_| format!("{name} is {lossy:?}, which is no text"))
}

fn number(env: &Env, name: &str, radix: u32) -> Result<Option<u32>, String> {
    let Some(value) = text(env, name)? else {
        return Ok(None);
    };
    let is_plain = value.chars().all(|digit| digit.is_digit(radix));
    let number = u32::from_str_radix(&value, radix).ok().filter(|_| is_plain);
    let kind = if radix == 16 { "hexadecimal" } else { "decimal" };
    number.map(Some).ok_or_else(|| format!("{name} is {value:?}, which is no {kind} number"))
}

#[cfg(test)]
#[path = "dialect_tests.rs"]
mod tests;
