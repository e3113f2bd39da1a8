//! What a fleet's course looks like: on a terminal a table that is drawn anew, elsewhere a line for each change.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::Instant;

use hub_emulator::fleet::{Member, Standing};
use rustix::termios::tcgetwinsize;

/// Where nobody can tell how high the terminal is.
const HEIGHT: usize = 24;

pub(super) struct Display {
    is_live: bool,
    begun: Instant,
    /// Lines of the table as it stands on the terminal.
    drawn: usize,
    table: Vec<String>,
    /// What was last told of each device, where there is no table.
    told: BTreeMap<String, String>,
}

impl Display {
    pub(super) fn new() -> Display {
        let (is_live, begun) = (stdout().is_terminal(), Instant::now());
        Display { is_live, begun, drawn: 0, table: Vec::new(), told: BTreeMap::new() }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, text: &str) {
        self.erase();
        println!("{text}");
        self.draw();
    }

    /// How all are doing; `changed` are the numbers of those of which something changed.
    pub(super) fn show(&mut self, members: &[Member], changed: &[usize]) {
        if changed.is_empty() {
            return;
        }
        if self.is_live {
            self.erase();
            self.table = table(members, room());
            self.draw();
            return;
        }
        for member in changed.iter().filter_map(|at| members.get(*at)) {
            // How far it is would be a line for every percent.
            let words = words(member.standing(), false);
            if self.told.insert(member.id().to_owned(), words.clone()).as_ref() != Some(&words) {
                println!("{:7.1} s  {}  {words}", self.begun.elapsed().as_secs_f64(), member.id());
            }
        }
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            print!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn draw(&mut self) {
        for line in &self.table {
            println!("{line}");
        }
        self.drawn = self.table.len();
        // What cannot be shown is lost.
        let _ = stdout().flush();
    }
}

/// Lines that a table may have.
fn room() -> usize {
    let rows = tcgetwinsize(stdout()).map_or(HEIGHT, |size| usize::from(size.ws_row));
    rows.saturating_sub(3).max(4)
}

/// A summary, and a line for each device; if there is no room for all, for those that are busy.
fn table(members: &[Member], room: usize) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for member in members {
        let standing = member.standing();
        let place = if standing.connected { "" } else { ", away" };
        *counts.entry(format!("{} {}{place}", standing.version, standing.phase)).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(what, count)| format!("{count} × {what}")).collect();
    let mut lines = vec![format!("── {} devices: {}", members.len(), counts.join("; "))];
    let all = members.len() < room;
    let shown = members.iter().filter(|member| all || !member.standing().is_idle());
    lines.extend(
        shown.take(room - 1).map(|member| format!("{}  {}", member.id(), words(member.standing(), true))),
    );
    lines
}

fn words(standing: &Standing, how_far: bool) -> String {
    let mut version = standing.version.clone();
    if !standing.pending.is_empty() && standing.pending != version {
        version.push_str(&format!(" → {}", standing.pending));
    }
    let mut phase = standing.phase.clone();
    if let Some(percent) = standing.percent.filter(|_| how_far && phase != "idle") {
        phase.push_str(&format!(" {percent} %"));
    }
    let place = if standing.connected { "connected" } else { "away" };
    let last = if standing.last.is_empty() { String::new() } else { format!("  (last: {})", standing.last) };
    format!("{version:<16} {phase:<18} {place:<9}{last}")
}
