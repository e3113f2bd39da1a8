//! What the simulated board's bootloader does at power-on: U-Boot with its boot counter, and the scripts that a board
//! has for it (`bootcmd`, `altbootcmd`).

use std::io;

use super::env::Environment;

/// One of the two slots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Slot {
    /// The slot that the factory writes.
    A,
    /// The other slot.
    B,
}

impl Slot {
    /// `a` or `b`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn named(letter: &str) -> Self {
        if letter == "b" { Self::B } else { Self::A }
    }
}

/// What was decided, and why if it is worth a word.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decision {
    /// The slot that boots now.
    pub slot: Slot,
    /// Why, in words; empty if nothing is on trial.
    pub note: String,
}

/// One power-on: counts the boot if a trial is armed, falls back if it was one too many, and chooses.
///
/// Without any sound copy the variables compiled into the loader count; this board's boot slot A.
///
/// # Errors
/// If the environment cannot be written.
pub fn power_on(environment: &Environment) -> io::Result<Decision> {
    let Some(mut variables) = environment.load() else {
        let note = "no environment is sound: the compiled-in one boots slot a".to_owned();
        return Ok(Decision { slot: Slot::A, note });
    };
    let slot = Slot::named(variables.text("slot"));
    if variables.number("upgrade_available") == 0 {
        return Ok(Decision { slot, note: String::new() });
    }
    let (count, limit) = (variables.number("bootcount") + 1, variables.number("bootlimit"));
    variables.set("bootcount", &count.to_string());
    if limit == 0 || count <= limit {
        environment.save(&variables)?;
        let note = format!("trial boot {count} of {limit}: slot {}", slot.letter());
        return Ok(Decision { slot, note });
    }
    // altbootcmd: the other slot, and no trial any more.
    let back = slot.other();
    variables.set("slot", back.letter());
    variables.set("upgrade_available", "0");
    variables.set("bootcount", "0");
    environment.save(&variables)?;
    let note = format!("{limit} trial boots used up: back to slot {}", back.letter());
    Ok(Decision { slot: back, note })
}

/// The slot that boots when nothing is on trial, or when the trial fails; `None` if no environment is sound.
pub fn default(environment: &Environment) -> Option<Slot> {
    let variables = environment.load()?;
    let slot = Slot::named(variables.text("slot"));
    Some(if variables.number("upgrade_available") == 0 { slot } else { slot.other() })
}
