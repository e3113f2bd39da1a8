//! `cargo demo`: four updates of one device, live, as the cloud and as the device see them.
//!
//! The hub is the emulator, the device is a directory with two slots, and every device process is the real
//! `twinboot run`. Only the reboot is played: by a bootloader that chooses the slot from the environment on disk.
//!
//! With `--live` it is shown in two columns. Without, as in `cargo test`, the same scenes are played with a line for
//! each.
#![allow(clippy::unwrap_used)]

mod scenes;
mod screen;
mod story;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Instant;

use screen::{Look, Screen, Tone};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        // As the test harness would say it, for programs that ask.
        println!("demo: test");
        return ExitCode::SUCCESS;
    }
    if !is_wanted(&arguments) {
        return ExitCode::SUCCESS;
    }
    let is_live = arguments.iter().any(|argument| argument == "--live");
    let begin = Instant::now();
    let screen = Screen::start(Look::of_stdout(is_live));
    let verdicts = scenes::play(&screen, is_live);
    screen.heading("What came of it");
    for (number, (title, verdict)) in (1..).zip(&verdicts) {
        match verdict {
            Ok(sentence) => screen.verdict(Tone::Good, &format!("{number}  {title}\n{sentence}")),
            Err(fault) => screen.verdict(Tone::Bad, &format!("{number}  {title}\n{fault}")),
        }
    }
    let failed = verdicts.iter().filter(|(_, verdict)| verdict.is_err()).count();
    let played = verdicts.len();
    screen.plain(&format!(
        "{} of {played} scenes went well, in {:.0} s",
        played - failed,
        begin.elapsed().as_secs_f64()
    ));
    screen.end();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether `cargo test`'s arguments want this test: a filter by name, or only the ignored ones, may not.
fn is_wanted(arguments: &[String]) -> bool {
    let mut filters = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--ignored" => return false,
            "--skip" => {
                if rest.next().is_some_and(|name| "demo".contains(name.as_str())) {
                    return false;
                }
            }
            "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(rest.next()),
            option if option.starts_with('-') => {}
            filter => filters.push(filter),
        }
    }
    filters.is_empty() || filters.iter().any(|filter| "demo".contains(filter))
}
