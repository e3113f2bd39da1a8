//! The daemon's status as the command line sees it: JSON of which any member may be missing, since a daemon of another
//! version may be answering.

use serde_json::Value;

use super::output::clean;

/// A status to look things up in.
#[derive(Clone, Copy)]
pub(super) struct View<'a>(pub(super) &'a Value);

impl View<'_> {
    /// The text at a JSON pointer such as `/update/version`; numbers too.
    pub(super) fn text(self, pointer: &str) -> Option<String> {
        let value = self.0.pointer(pointer)?;
        value.as_str().map(clean).or_else(|| value.as_u64().map(|n| n.to_string()))
    }

    /// The number at a JSON pointer; a fraction is cut off.
    pub(super) fn number(self, pointer: &str) -> Option<u64> {
        let value = self.0.pointer(pointer)?;
        // Rates and percentages may come as fractions. A float turns into the nearest integer there is.
        value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64))
    }

    pub(super) fn flag(self, pointer: &str) -> Option<bool> {
        self.0.pointer(pointer)?.as_bool()
    }

    pub(super) fn phase(self) -> String {
        self.text("/phase").unwrap_or_else(|| "unknown".into())
    }

    pub(super) fn is_idle(self) -> bool {
        self.phase() == "idle"
    }

    /// Whether the daemon waits for something that is missing, and does nothing else.
    pub(super) fn waits(self) -> bool {
        self.phase() == "waiting"
    }

    pub(super) fn warnings(self) -> Vec<String> {
        let warnings = self.0.pointer("/warnings").and_then(Value::as_array);
        warnings.into_iter().flatten().filter_map(Value::as_str).map(clean).collect()
    }

    /// Of a hundred, from the daemon's own word or from the bytes.
    pub(super) fn percent(self) -> Option<u64> {
        let from_bytes = || {
            let total = self.number("/progress/total").filter(|total| *total > 0)?;
            let fetched = self.number("/progress/fetched")?.min(total);
            Some((u128::from(fetched) * 100 / u128::from(total)) as u64)
        };
        self.number("/progress/percent").or_else(from_bytes).map(|percent| percent.min(100))
    }

    /// The last update and how it ended, in words.
    pub(super) fn last(self) -> Option<String> {
        let outcome = self.text("/last/outcome")?;
        let was_stopped = self.text("/last/code").is_some_and(|code| code == "request.cancelled");
        let outcome = match outcome.as_str() {
            "failed" if was_stopped => "was cancelled, nothing was changed",
            "succeeded" => "succeeded",
            "up-to-date" => "was running already",
            "failed" => "failed, nothing was changed",
            "rolled-back" => "was rolled back",
            other => other,
        };
        let version = self.text("/last/version").unwrap_or_else(|| "update".into());
        let ended = self.text("/last/ended").map(|time| format!(" at {time}")).unwrap_or_default();
        let why = match (self.text("/last/detail"), self.text("/last/code")) {
            (Some(detail), Some(code)) => format!(": {detail} ({code})"),
            (Some(why), None) | (None, Some(why)) => format!(": {why}"),
            (None, None) => String::new(),
        };
        Some(format!("{version} {outcome}{ended}{why}"))
    }

    /// Whether the last update ended well; none at all is well too.
    pub(super) fn ended_well(self) -> bool {
        matches!(self.text("/last/outcome").as_deref(), None | Some("succeeded" | "up-to-date"))
    }

    /// What is fetched, of how much, how fast and how long still; empty if nothing is known.
    pub(super) fn amounts(self) -> String {
        let mut parts = Vec::new();
        let (fetched, total) = (self.number("/progress/fetched"), self.number("/progress/total"));
        match (fetched, total) {
            (Some(fetched), Some(total)) => parts.push(format!("{} of {}", bytes(fetched), bytes(total))),
            (Some(fetched), None) => parts.push(bytes(fetched)),
            (None, _) => {}
        }
        let rate = self.number("/progress/rate").filter(|rate| *rate > 0);
        if let Some(rate) = rate {
            parts.push(format!("{}/s", bytes(rate)));
            // Of a bundle they are bytes of the image, most of which nobody has to fetch.
            let is_bundle = self.number("/progress/plan/fetch").is_some();
            if let (Some(fetched), Some(total), false) = (fetched, total, is_bundle) {
                parts.push(format!("{} left", time(total.saturating_sub(fetched) / rate)));
            }
        }
        if let Some(twice) = self.number("/progress/fetched_twice").filter(|twice| *twice > 0) {
            parts.push(format!("{} fetched twice", bytes(twice)));
        }
        parts.join(", ")
    }
}

/// A number of bytes with three digits or so.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = n as f64;
    while scaled >= 1024.0 && unit < UNITS.len() - 1 {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

/// Seconds as `m:ss` or `h:mm:ss`.
pub(super) fn time(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 { format!("{minutes}:{seconds:02}") } else { format!("{hours}:{minutes:02}:{seconds:02}") }
}
