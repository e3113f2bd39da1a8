//! What happened, in few words. The cloud's side is told by the emulator's events and by the metrics of the
//! configuration; the device's side by its journal, its control socket and its bootloader.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::thread;

use hub_emulator::{Event, EventKind};
use serde_json::Value;

use crate::screen::{Bar, Pen, Side, Tone};
use crate::support::{Cloud, Entry, Happening};

/// The configuration whose metrics are shown; none at first.
pub(crate) type Shown = Arc<Mutex<String>>;

/// Follows the cloud in a thread of its own.
pub(crate) fn follow_cloud(cloud: &Arc<Cloud>, shown: &Shown, pen: Pen) {
    let events = cloud.emulator.events();
    // Not the cloud itself: it must end when the demo lets go of it.
    let (cloud, shown) = (Arc::downgrade(cloud), Arc::clone(shown));
    thread::spawn(move || {
        let mut told = CloudStory::default();
        for Event { kind, .. } in events {
            if let Some((text, tone)) = told.words(&kind) {
                pen.row(Side::Cloud, &text, tone);
            }
            let Some(cloud) = cloud.upgrade() else { return };
            let id = shown.lock().unwrap().clone();
            let metrics = metrics(&cloud.emulator.configuration(&id));
            if !metrics.is_empty() && metrics != told.metrics {
                pen.row(Side::Cloud, &format!("metrics: {metrics}"), Tone::Quiet);
                told.metrics = metrics;
            }
        }
    });
}

/// The metrics of a configuration that count anything.
pub(crate) fn metrics(configuration: &Value) -> String {
    let mut counts = Vec::new();
    for (group, name) in [("systemMetrics", "targetedCount"), ("systemMetrics", "appliedCount")] {
        let word = name.trim_end_matches("Count");
        counts.push((word, configuration[group]["results"][name].as_u64().unwrap_or(0)));
    }
    for name in ["current", "applying", "rebooting", "error", "rolledback"] {
        counts.push((name, configuration["metrics"]["results"][name].as_u64().unwrap_or(0)));
    }
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    counts.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

#[derive(Default)]
struct CloudStory {
    status: String,
    metrics: String,
}

impl CloudStory {
    // Of all that an emulator can tell, now and later, this is worth a line.
    #[allow(clippy::wildcard_enum_match_arm)]
    fn words(&mut self, event: &EventKind) -> Option<(String, Tone)> {
        Some(match event {
            EventKind::Connected { .. } => ("connected".into(), Tone::Plain),
            EventKind::Refused { why, .. } | EventKind::ReportRefused { why, .. } => {
                (format!("refused: {why}"), Tone::Bad)
            }
            EventKind::Disconnected { .. } => ("disconnected".into(), Tone::Quiet),
            EventKind::Configuration { id, what } => (format!("configuration {id} {what}"), Tone::Plain),
            EventKind::ConfigurationStatus { id, status, .. } if status == "Applied" => {
                (format!("configuration {id} applied"), Tone::Plain)
            }
            EventKind::Desired { patch, .. } => {
                (format!("desired: firmware {}", patch["firmware"]["fwVersion"].as_str()?), Tone::Plain)
            }
            EventKind::Reported { patch, .. } => return self.reported(&patch["firmware"]),
            EventKind::ImageRequested { path, range, status } => {
                let from = range.as_deref().and_then(|range| range.strip_prefix("bytes=")).unwrap_or("0-");
                let from = from.trim_end_matches('-').parse::<u64>().unwrap_or(0);
                let from = if from == 0 { String::new() } else { format!(" from byte {from}") };
                (format!("GET {path}{from}: {status}"), Tone::Plain)
            }
            EventKind::ImageSent { bytes, complete: false, .. } => {
                (format!("connection lost after {}", mib(*bytes)), Tone::Rough)
            }
            EventKind::ImageSent { bytes, complete: true, .. } => {
                (format!("sent {}", mib(*bytes)), Tone::Quiet)
            }
            EventKind::FaultFired { fault, .. } if fault == "dropAfter" => {
                ("this connection will be dropped".into(), Tone::Rough)
            }
            EventKind::MethodCalled { method, .. } => (format!("method {method}"), Tone::Quiet),
            _ => return None,
        })
    }

    /// A status is worth a line when the word changes, or when it says why.
    fn reported(&mut self, firmware: &Value) -> Option<(String, Tone)> {
        let word = firmware["fwUpdateStatus"].as_str().map_or(self.status.clone(), str::to_owned);
        let detail = firmware["fwUpdateSubstatus"].as_str().unwrap_or("");
        let (tone, detail) = match word.as_str() {
            "current" => (Tone::Good, detail),
            "error" => (Tone::Bad, firmware["fwUpdateCode"].as_str().unwrap_or(detail)),
            "rolledback" => (Tone::Bad, detail),
            _ => (Tone::Plain, ""),
        };
        if word == self.status && (detail.is_empty() || tone == Tone::Plain) {
            return None;
        }
        self.status.clone_from(&word);
        let version =
            firmware["currentFwVersion"].as_str().map(|version| format!(" {version}")).unwrap_or_default();
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        Some((format!("reported: {word}{version}{detail}"), tone))
    }
}

/// Follows the device in a thread of its own.
pub(crate) fn follow_device(entries: Receiver<Entry>, pen: Pen) {
    thread::spawn(move || {
        let mut reason = String::new();
        for Entry { what, .. } in entries {
            if let Happening::Status(status) = &what {
                if let Some(bar) = bar(status) {
                    pen.bar(Some(bar));
                }
            } else if let Some((text, tone)) = device_words(&what) {
                // A reason is told once, and not again with every phase of undoing.
                let text = match text.split_once(": ") {
                    Some((phase, why)) if why == reason => phase.to_owned(),
                    Some(("rolling-back", why)) => {
                        reason = why.to_owned();
                        text
                    }
                    _ => text,
                };
                if matches!(what, Happening::PowerCut | Happening::Said(_)) {
                    pen.bar(None);
                }
                pen.row(Side::Device, &text, tone);
            }
        }
    });
}

fn bar(status: &Value) -> Option<Bar> {
    let progress = &status["progress"];
    let number = |name: &str| progress[name].as_u64();
    (status["phase"] == "downloading").then_some(())?;
    Some(Bar { done: number("fetched")?, total: number("total")?, rate: number("rate")? })
}

fn device_words(happening: &Happening) -> Option<(String, Tone)> {
    Some(match happening {
        Happening::PowerOn => ("power on".into(), Tone::Plain),
        Happening::Loader(note) => (format!("U-Boot: {note}"), Tone::Plain),
        Happening::Hung(slot) => {
            (format!("slot {} does not boot, the machine resets", slot.letter()), Tone::Bad)
        }
        Happening::Booted(slot, version) => {
            (format!("slot {} runs, version {version}", slot.letter()), Tone::Good)
        }
        Happening::Said(line) => return said(line),
        Happening::Status(_) => return None,
        Happening::RebootRequested => ("the machine reboots".into(), Tone::Plain),
        Happening::Stopped(_) => return None,
        Happening::PowerCut => ("POWER CUT".into(), Tone::Rough),
        Happening::Broken(why) => (why.clone(), Tone::Bad),
    })
}

/// The daemon's own line, shortened: without its time, and without what the column says anyway.
fn said(line: &str) -> Option<(String, Tone)> {
    let text = line.split_once(' ').map_or(line, |(_, text)| text);
    let tone = match text.split(": ").next() {
        Some("debug") => return None,
        Some("error") => Tone::Bad,
        Some("warning") => Tone::Rough,
        _ => Tone::Plain,
    };
    for silent in ["configuration read", "connected to the hub", "stopping", "reboot asked for"] {
        if text.starts_with(silent) {
            return None;
        }
    }
    // "update to 2.0.0 (13b595a8ede3ccc0): downloading -> verifying"
    let (level, text) = match text.split_once(": ") {
        Some((level @ ("error" | "warning"), rest)) => (format!("{level}: "), rest),
        _ => (String::new(), text),
    };
    let Some(rest) = text.strip_prefix("update to ") else { return Some((format!("{level}{text}"), tone)) };
    let (version, rest) = rest.split_once(' ')?;
    let rest = rest.split_once(')').map_or(rest, |(_, rest)| rest).trim_start_matches([':', ' ']);
    if let Some((_, phase)) = rest.split_once(" -> ") {
        return Some((phase.to_owned(), if tone == Tone::Plain { Tone::Quiet } else { tone }));
    }
    let tone = if rest == "succeeded" { Tone::Good } else { tone };
    Some((format!("{level}{version} {rest}"), tone))
}

/// Bytes for people.
pub(crate) fn mib(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}
