//! `twinboot doctor`: whether this board can be trusted with an update, line by line. Nothing is looked at here; what
//! was found is given to it, and it says so.

use std::path::Path;

use serde_json::{Value, json};

use super::Exit;
use super::output::{clean, say};
use crate::config::Config;

/// How `twinboot doctor` is to be run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Consultation {
    /// Write the variable by which the bootloader shows, after the next reboot, that it reads what we write.
    pub canary: bool,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// How it is.
    pub level: Level,
    /// What was looked at, one word. It is shown to programs, so it never changes its meaning.
    pub name: &'static str,
    /// What was found.
    pub what: String,
    /// What to do about it; empty if nothing has to be done.
    pub remedy: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could; or it was not seen.
    Warn,
    /// An update would not come, or one that goes wrong would not be undone.
    Fail,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Check {
    /// `name` is as it should be.
    pub fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, name, what: what.into(), remedy: String::new() }
    }

    /// `name` could be better: `what`, and the `remedy`.
    pub fn warn(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, name, what: what.into(), remedy: remedy.into() }
    }

    /// With `name` as it is an update is not safe, or does not come: `what`, and the `remedy`.
    pub fn fail(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(name, what, remedy) }
    }
}

/// How often each level was found.
struct Count {
    ok: usize,
    warn: usize,
    fail: usize,
}

impl Count {
    fn of(checks: &[Check]) -> Self {
        let count = |level| checks.iter().filter(|check| check.level == level).count();
        Self { ok: count(Level::Ok), warn: count(Level::Warn), fail: count(Level::Fail) }
    }

    fn worst(&self) -> Level {
        match self {
            Self { fail: 1.., .. } => Level::Fail,
            Self { warn: 1.., .. } => Level::Warn,
            Self { .. } => Level::Ok,
        }
    }
}

/// Has the board looked over, and prints what is found.
pub(super) fn show(
    path: &Path,
    how: Consultation,
    (json, strict): (bool, bool),
    examine: impl FnOnce(&Config, Consultation) -> Vec<Check>,
) -> Exit {
    let checks = match Config::load(path) {
        Ok(config) => examine(&config, how),
        Err(error) => error.problems().iter().map(|problem| unusable(&problem.to_string())).collect(),
    };
    let count = Count::of(&checks);
    say(&if json { format!("{:#}", document(&checks, &count)) } else { block(&checks, &count) });
    let wrong = if strict { Level::Warn } else { Level::Fail };
    if count.worst() >= wrong { Exit::Failed } else { Exit::Done }
}

/// Without a configuration there is nothing to look at.
fn unusable(problem: &str) -> Check {
    Check::fail("configuration", problem, "correct it; then twinboot check-config, and ask again")
}

/// For people: a line for each thing that was looked at, and how to go on.
fn block(checks: &[Check], count: &Count) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Check { level, name, what, remedy } in checks {
        lines.push(format!("{:<4}  {name:<width$}  {}", level.word(), clean(what)));
        if !remedy.is_empty() {
            lines.push(format!("{:<4}  {:width$}  -> {}", "", "", clean(remedy)));
        }
    }
    let Count { ok, warn, fail } = count;
    let verdict = match count.worst() {
        Level::Ok => "this board can be trusted with an update, as far as can be told without one",
        Level::Warn => "this board can be updated; put right what is warned of before it is out of reach",
        Level::Fail => "do not trust this board with an update yet",
    };
    lines.push(format!("{ok} ok, {warn} warn, {fail} fail: {verdict}"));
    lines.join("\n")
}

/// For programs.
fn document(checks: &[Check], count: &Count) -> Value {
    let checks = checks.iter().map(|Check { level, name, what, remedy }| {
        let remedy = if remedy.is_empty() { Value::Null } else { json!(remedy) };
        json!({ "level": level.word(), "check": name, "what": what, "remedy": remedy })
    });
    let checks: Vec<_> = checks.collect();
    let Count { ok, warn, fail } = count;
    json!({ "verdict": count.worst().word(), "ok": ok, "warn": warn, "fail": fail, "checks": checks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check::ok("slots", "slot a runs"),
            Check::warn("watchdog", "there is\nnone", "buy one"),
            Check::fail("panic", "never reboots", "panic=10"),
        ]
    }

    #[test]
    fn a_line_for_each_and_a_remedy_below() {
        let checks = checks();
        assert_eq!(
            block(&checks, &Count::of(&checks)),
            "ok    slots     slot a runs\n\
             warn  watchdog  there is none\n\
             \x20               -> buy one\n\
             fail  panic     never reboots\n\
             \x20               -> panic=10\n\
             1 ok, 1 warn, 1 fail: do not trust this board with an update yet"
        );
        let document = document(&checks, &Count::of(&checks));
        assert_eq!(document["verdict"], "fail");
        assert_eq!(document["checks"][1]["check"], "watchdog");
        assert_eq!(document["checks"][0]["remedy"], Value::Null);
    }

    #[test]
    fn the_exit_status_is_that_of_the_worst() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("twinboot.toml");
        let exit = |found: usize, strict| {
            show(&path, Consultation::default(), (false, strict), |_, _| {
                checks().into_iter().take(found).collect()
            })
        };
        std::fs::write(&path, "").expect("written");
        assert_eq!((exit(1, false), exit(2, false), exit(3, false)), (Exit::Done, Exit::Done, Exit::Failed));
        assert_eq!((exit(1, true), exit(2, true), exit(3, true)), (Exit::Done, Exit::Failed, Exit::Failed));
        std::fs::write(&path, "nonsense").expect("written");
        assert_eq!(exit(0, false), Exit::Failed, "nothing could be looked at");
    }
}
