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

/// JSON on a line, as [`harmless`] as it can be.
pub(crate) fn as_text(value: &Value) -> String {
    harmless(&value.to_string())
}

/// JSON text in which nothing moves a cursor: the library escapes the control characters below the blank, and there are some
/// above. They stand in texts only, where such an escape means the same.
pub(crate) fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '\u{7f}'..='\u{9f}') {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_control_character_of_a_device_reaches_a_terminal_in_json() {
        let value = json!({"a": "\u{9b}2J\u{7f}\u{1b}ü\u{a0}"});
        let text = as_text(&value);
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value));
    }
}
