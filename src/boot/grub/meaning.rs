//! What the variables mean: RAUC's, and two of ours.
//!
//! Pure: a [`Block`] in, a [`BootView`] or a list of values out. Called by [`Grub`](super::Grub). The other half is
//! GRUB's script, `packaging/boot/grub/grub.cfg`.
//!
//! RAUC's script for GRUB takes the first slot of `ORDER` whose `x_OK` is 1 and whose `x_TRY` is 0, and sets `x_TRY` to
//! 1 at every boot. As with U-Boot's `BOOT_ORDER`, these do not tell a trial from a default, so a variable of ours is
//! written beside them: [`TRIAL`], the slot on trial. With it, the script that comes with twinboot counts the boots of
//! a trial and no others, up to what [`TRIES`] says, and writes nothing in ordinary life.
//!
//! | state | `ORDER` | of `s`: `OK`, `TRY` | of the other: `OK`, `TRY` | `twinboot_trial` |
//! | --- | --- | --- | --- | --- |
//! | `s` is the default, the other bootable | `s o` | 1, 0 | 1, 0 | `-` |
//! | `s` is the default and nothing else boots | `s o` | 1, 0 | 0, 0 | `-` |
//! | `s` is on trial | `s o` | 1, boots taken | 1, 0 | `s` |
//! | the trial of `s` failed, the loader fell back | `s o` | 1, boots taken | 1, 1 | `s` |
//!
//! When a trial is over, both scripts mark the slot that they go back to as tried. That is what tells the last two rows
//! from each other: the last boot of a trial, whose boots are all taken, is no fall-back.
//!
//! RAUC's own script gives a trial one boot, and with it every boot of the default is marked, too, so that a second one
//! without `commit` between them goes to the other slot. `commit` of the slot that is the default already takes the
//! mark away: call it once in every boot of the default.
//!
//! Each value has one length whatever it says, since [`block`](super::block) wants nothing to move; so `ORDER` always
//! names both slots, and no trial is a dash. The lowest rollback index, `twinboot_floor`, stands behind them with 20
//! digits from the first commit of a signed bundle on.

use super::block::Block;
use crate::boot::BootView;
use crate::boot::floor::FLOOR;
use crate::model::{PerSlot, Slot};

/// Our own variable: the letter of the slot on trial, or a dash.
pub const TRIAL: &str = "twinboot_trial";
/// Our own variable: how many boots a trial may take, one digit.
pub const TRIES: &str = "twinboot_tries";
/// What GRUB's script can count to: it knows no arithmetic.
const MOST_TRIES: u32 = 9;
/// Longer names would leave no room in the first sector.
const LONGEST_NAME: usize = 32;

/// The names of the slots, and how many boots a trial may take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Meaning {
    pub(super) names: PerSlot<String>,
    pub(super) tries: u32,
}

/// A variable and the value it is to have.
pub(super) type Wanted = (String, String);

impl Meaning {
    /// Whether the settings can be used. The error is a sentence with the remedy.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=MOST_TRIES).contains(&self.tries) {
            return Err(format!(
                "GRUB's script cannot count {} boots of a trial; set [boot] tries to 1 up to {MOST_TRIES}",
                self.tries
            ));
        }
        for name in [&self.names.a, &self.names.b] {
            let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_word || name.is_empty() || name.len() > LONGEST_NAME {
                return Err(format!(
                    "{name:?} cannot be the name of a slot; use up to {LONGEST_NAME} letters, digits and _"
                ));
            }
        }
        if self.names.a == self.names.b {
            return Err(format!("both slots have the name {:?}; give each its own", self.names.a));
        }
        Ok(())
    }

    /// All variables that are ever written, in the order in which they stand.
    pub(super) fn variables(&self) -> Vec<String> {
        let [a, b] = Slot::BOTH;
        let all = ["ORDER".to_owned(), self.ok(a), self.tried(a), self.ok(b), self.tried(b)];
        all.into_iter().chain([TRIAL, TRIES, FLOOR].map(str::to_owned)).collect()
    }

    /// What the variables say. The error is a sentence that names variable and value.
    pub(super) fn view(&self, block: &Block) -> Result<BootView, String> {
        self.read(block).map(|state| state.view())
    }

    /// `slot` on trial.
    pub(super) fn armed(&self, block: &Block, slot: Slot) -> Vec<Wanted> {
        self.all(block, slot, PerSlot { a: true, b: true }, Some(slot))
    }

    /// `slot` is the default; the other one stays bootable if it was, and becomes so if `slot` just passed its trial.
    pub(super) fn committed(&self, block: &Block, slot: Slot) -> Vec<Wanted> {
        // Without readable variables nothing is known of the other slot: it is not made bootable.
        let keeps_other = self.read(block).is_ok_and(|state| match state.trial() {
            Some(trial) => trial == slot,
            None => state.is_good(!slot) && state.armed != Some(!slot),
        });
        let mut ok = PerSlot { a: keeps_other, b: keeps_other };
        *ok.of_mut(slot) = true;
        self.all(block, slot, ok, None)
    }

    /// The lowest rollback index that is taken; `None` if nothing has to be written for that.
    pub(super) fn floor(block: &Block, floor: u64) -> Option<Wanted> {
        let is_needed = floor > 0 || block.get(FLOOR).is_some();
        is_needed.then(|| (FLOOR.to_owned(), format!("{floor:020}")))
    }

    /// `to` is the default and nothing else boots.
    pub(super) fn reverted(&self, block: &Block, to: Slot) -> Vec<Wanted> {
        let mut ok = PerSlot { a: false, b: false };
        *ok.of_mut(to) = true;
        self.all(block, to, ok, None)
    }

    /// The whole state: there is no other kind of write.
    fn all(&self, block: &Block, first: Slot, ok: PerSlot<bool>, trial: Option<Slot>) -> Vec<Wanted> {
        let mut wanted = vec![("ORDER".to_owned(), self.order(block, first))];
        for slot in Slot::BOTH {
            wanted.push((self.ok(slot), u8::from(*ok.of(slot)).to_string()));
            wanted.push((self.tried(slot), "0".to_owned()));
        }
        wanted.push((TRIAL.to_owned(), trial.map_or("-", |slot| slot.letter()).to_owned()));
        wanted.push((TRIES.to_owned(), self.tries.to_string()));
        wanted
    }

    fn ok(&self, slot: Slot) -> String {
        format!("{}_OK", self.names.of(slot))
    }

    fn tried(&self, slot: Slot) -> String {
        format!("{}_TRY", self.names.of(slot))
    }

    /// `ORDER` with this slot first, the other one next, and after them whatever else it names (such as a rescue
    /// system).
    fn order(&self, block: &Block, first: Slot) -> String {
        let present = block.get("ORDER").map(String::from_utf8_lossy).unwrap_or_default();
        let is_stranger = |name: &&str| {
            let is_word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            is_word && !name.is_empty() && *name != self.names.a && *name != self.names.b
        };
        let ours = [first, !first].map(|slot| self.names.of(slot).as_str());
        ours.into_iter().chain(present.split(' ').filter(is_stranger)).collect::<Vec<_>>().join(" ")
    }

    fn read(&self, block: &Block) -> Result<State, String> {
        const REMEDY: &str = "see packaging/boot/grub of twinboot for what must be there";
        let order = text(block, "ORDER")?.ok_or_else(|| format!("ORDER is not set; {REMEDY}"))?;
        let names: Vec<_> = order.split(' ').filter(|name| !name.is_empty()).collect();
        let slot_of = |name: &&str| Slot::BOTH.into_iter().find(|slot| self.names.of(*slot) == name);
        let first = names.first().and_then(slot_of).ok_or_else(|| {
            format!("ORDER is {order:?}, which begins with neither {:?} nor {:?}", self.names.a, self.names.b)
        })?;
        let has_other = names.iter().any(|name| slot_of(name) == Some(!first));
        let number = |name: String, most: u32| -> Result<u32, String> {
            let value = text(block, &name)?.ok_or_else(|| format!("{name} is not set; {REMEDY}"))?;
            number(&value, most)
                .ok_or_else(|| format!("{name} is {value:?}, which is no number up to {most}"))
        };
        let mut ok = PerSlot { a: false, b: false };
        let mut tried = PerSlot { a: 0, b: 0 };
        for slot in Slot::BOTH {
            // A slot that is out of the order boots never, whatever is said of it.
            if slot == first || has_other {
                *ok.of_mut(slot) = number(self.ok(slot), 1)? == 1;
                *tried.of_mut(slot) = number(self.tried(slot), MOST_TRIES)?;
            }
        }
        let armed = match text(block, TRIAL)?.as_deref() {
            None | Some("-") => None,
            Some(letter) => {
                Some(Slot::BOTH.into_iter().find(|slot| slot.letter() == letter).ok_or_else(|| {
                    format!("{TRIAL} is {letter:?}, which is neither a slot's letter nor a dash")
                })?)
            }
        };
        let limit = match text(block, TRIES)? {
            // RAUC's script, which knows no other number.
            None => 1,
            Some(value) => number_of_tries(&value)?,
        };
        Ok(State { first, ok, tried, armed, limit })
    }
}

/// The variables as they stand.
struct State {
    first: Slot,
    ok: PerSlot<bool>,
    tried: PerSlot<u32>,
    /// Our variable.
    armed: Option<Slot>,
    limit: u32,
}

impl State {
    /// What RAUC calls a good slot: it may boot and was not tried since.
    fn is_good(&self, slot: Slot) -> bool {
        *self.ok.of(slot) && *self.tried.of(slot) == 0
    }

    /// The slot on trial, unless the loader fell back or somebody chose otherwise.
    fn trial(&self) -> Option<Slot> {
        let slot = self.armed?;
        (self.first == slot && *self.ok.of(slot) && *self.tried.of(!slot) == 0).then_some(slot)
    }

    fn view(&self) -> BootView {
        let mut warnings = Vec::new();
        if let Some(slot) = self.trial() {
            if !self.ok.of(!slot) {
                let other = !slot;
                warnings.push(format!("slot {slot} is on trial and slot {other} may not boot: no way back"));
            }
            let tries_left = Some(self.limit.saturating_sub(*self.tried.of(slot)));
            return BootView { default: !slot, trial: Some(slot), tries_left, floor: None, warnings };
        }
        let (first, other) = (self.first, !self.first);
        let has_fallen_back = self.armed == Some(first) && *self.ok.of(first) && *self.ok.of(other);
        // By RAUC's script, which marks every boot: the first one was not well, and so the other one was booted.
        let is_passed_over = *self.tried.of(first) > 0 && *self.tried.of(other) > 0 && *self.ok.of(other);
        let default = match (*self.ok.of(first), *self.ok.of(other)) {
            (false, true) => other,
            _ if has_fallen_back || is_passed_over => other,
            (false, false) => {
                warnings.push("neither slot is marked as bootable: the loader has to guess".to_owned());
                first
            }
            (true, _) => first,
        };
        if self.armed.is_some_and(|slot| slot != first) {
            warnings.push(format!("{TRIAL} is set, but ORDER puts slot {first} first: no trial"));
        }
        BootView { default, trial: None, tries_left: None, floor: None, warnings }
    }
}

fn number_of_tries(value: &str) -> Result<u32, String> {
    number(value, MOST_TRIES)
        .filter(|tries| *tries > 0)
        .ok_or_else(|| format!("{TRIES} is {value:?}, which is no number from 1 to {MOST_TRIES}"))
}

fn text(block: &Block, name: &str) -> Result<Option<String>, String> {
    let Some(value) = block.get(name) else {
        return Ok(None);
    };
    let lossy = String::from_utf8_lossy(value);
    String::from_utf8(value.to_vec()).map(Some).map_err(|_| format!("{name} is {lossy:?}, which is no text"))
}

/// One digit up to `most`.
fn number(value: &str, most: u32) -> Option<u32> {
    let is_digit = value.len() == 1 && value.as_bytes()[0].is_ascii_digit();
    value.parse().ok().filter(|number| is_digit && *number <= most)
}

#[cfg(test)]
#[path = "meaning_tests.rs"]
mod tests;
