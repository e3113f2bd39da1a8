//! One device of a fleet, and how it is doing: what its journal and its own status tell.

use std::fs;
use std::sync::mpsc::Receiver;

use serde_json::Value;

use crate::device::{Entry, Happening, SimDevice};

/// How many lines of a daemon are kept.
const LINES: usize = 100;

/// A device with its name.
#[derive(Debug)]
pub struct Member {
    id: String,
    device: SimDevice,
    news: Receiver<Entry>,
    standing: Standing,
    lines: Vec<String>,
}

/// How a device is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The version that runs; empty without power.
    pub version: String,
    /// The version that an update is about to bring, or empty.
    pub pending: String,
    /// What its daemon is busy with, in the daemon's own word; before that, what the machine does.
    pub phase: String,
    /// How far, if that is known.
    pub percent: Option<u64>,
    /// Whether the daemon is connected to the hub.
    pub connected: bool,
    /// How the last update ended, if one did: the daemon's words for it.
    pub last: String,
    /// How many times the machine came up.
    pub boots: u32,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident, what is shared with others included.
    pub resident: u64,
    /// Its share: pages that several have are divided among them.
    pub share: u64,
}

impl Member {
    pub(super) fn new(id: &str, device: SimDevice) -> Member {
        let news = device.listen();
        Member { id: id.to_owned(), device, news, standing: Standing::default(), lines: Vec::new() }
    }

    /// The device's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The device itself, to pull its plug.
    pub fn device(&self) -> &SimDevice {
        &self.device
    }

    /// How it was doing when the fleet was last looked at.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What its daemon said since this was last asked for. The latest lines: nobody may ever ask.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// The memory of its daemon; none while there is none.
    pub fn memory(&self) -> Option<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.device.process()?)).ok()?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Memory { resident: field("Rss:")?, share: field("Pss:")? })
    }

    /// Takes note of the news; whether anything changed.
    pub(super) fn look(&mut self) -> bool {
        let before = self.standing.clone();
        for entry in self.news.try_iter() {
            if let Happening::Said(line) = &entry.what {
                self.lines.push(line.clone());
                if self.lines.len() > LINES {
                    self.lines.remove(0);
                }
            }
            self.standing.note(&entry.what);
        }
        before != self.standing
    }
}

impl Standing {
    /// Whether it is connected and has nothing to do.
    pub fn is_idle(&self) -> bool {
        self.connected && self.phase == "idle"
    }

    fn note(&mut self, happening: &Happening) {
        match happening {
            Happening::PowerOn => self.machine("booting"),
            Happening::Hung(_) => self.machine("does not boot"),
            Happening::RebootRequested => self.machine("rebooting"),
            Happening::PowerCut => self.machine("without power"),
            Happening::Stopped(_) => self.connected = false,
            Happening::Booted(_, version) => {
                self.machine("booted");
                self.version.clone_from(version);
                self.boots += 1;
            }
            Happening::Broken(why) => self.machine(&format!("broken: {why}")),
            Happening::Status(status) => self.status(status),
            Happening::Loader(_) | Happening::Said(_) => {}
        }
    }

    /// The daemon does not speak.
    fn machine(&mut self, phase: &str) {
        phase.clone_into(&mut self.phase);
        self.connected = false;
        self.percent = None;
    }

    fn status(&mut self, status: &Value) {
        let word = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        word("/phase").clone_into(&mut self.phase);
        word("/version/pending").clone_into(&mut self.pending);
        if !word("/version/running").is_empty() {
            word("/version/running").clone_into(&mut self.version);
        }
        self.percent = status.pointer("/progress/percent").and_then(Value::as_u64);
        self.connected = status.pointer("/hub/connected").and_then(Value::as_bool).unwrap_or(false);
        let ended = [word("/last/version"), word("/last/outcome"), word("/last/code")];
        self.last = ended.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    }
}
