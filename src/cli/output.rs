//! The only place that prints. A reader that has gone (`twinboot status | head -1`) is no reason to panic, as
//! `println!` would.

use std::io::{self, Write as _};

/// Prints a line, or several.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Prints what went wrong, and what to do about it, if anything.
pub fn complain(text: &str, remedy: &str) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "twinboot: {}", text.replace('\n', "\ntwinboot: "));
    if !remedy.is_empty() {
        let _ = writeln!(stderr, "twinboot: {remedy}");
    }
}

/// Text of the daemon's on one line: what a server or a health check wrote must not move the cursor.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
