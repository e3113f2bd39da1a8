//! What is printed, and how: the only place that prints. A reader that has gone (`… | head -1`) ends the command
//! quietly.

mod bar;
mod board;
mod table;

use std::io::{self, Write as _};

use serde_json::Value;

pub(crate) use bar::Bar;
pub(crate) use board::{Board, Line, Picture};
pub(crate) use table::Table;

use crate::failure::Outcome;

/// Prints a line, or several.
///
/// # Errors
/// If nobody reads any more.
pub(crate) fn say(text: &str) -> Outcome {
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

/// Prints what went wrong, and what to do about it, if anything.
pub(crate) fn complain(text: &str, remedy: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "twinboot-fleet: {text}");
    if !remedy.is_empty() {
        let _ = writeln!(stderr, "twinboot-fleet: {remedy}");
    }
}

/// Text of a device's or a server's on one line: what they wrote must not move the cursor.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A value as it stands in a cell: text without its quotes, nothing for what is not there.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => clean(&value.to_string()),
    }
}

/// A number of bytes as people read it, in units of 1000.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["kB", "MB", "GB", "TB"];
    let scaled = units.iter().scan(count as f64, |left, unit| {
        *left /= 1000.0;
        Some((*left, unit))
    });
    match scaled.take_while(|(left, _)| *left >= 0.99995).last() {
        None => format!("{count} B"),
        Some((left, unit)) if left < 10.0 => format!("{left:.2} {unit}"),
        Some((left, unit)) => format!("{left:.1} {unit}"),
    }
}
