//! How something under way is shown: a table redrawn in place on a terminal, plain lines anywhere else, or JSON.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{as_text, clean, say};
use crate::failure::Outcome;

const BAR: usize = 24;
/// Where a terminal does not tell its size.
const SIZE: (usize, usize) = (80, 24);
/// Devices in a table, at most.
const ROWS: usize = 20;

/// One device.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Line {
    /// Its id.
    pub(crate) device: String,
    /// In a word.
    pub(crate) status: String,
    /// The version that runs.
    pub(crate) firmware: String,
    /// Percent, or why.
    pub(crate) detail: String,
    /// Whether somebody should look at it.
    pub(crate) trouble: bool,
}

/// How far all are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Picture {
    /// Devices in all.
    pub(crate) total: u64,
    /// Ended well.
    pub(crate) done: u64,
    /// Ended otherwise.
    pub(crate) failed: u64,
    /// Ended otherwise before, as far as is known: whether they begin anew is to be seen.
    pub(crate) undecided: u64,
    /// By status, in words.
    pub(crate) counts: BTreeMap<String, u64>,
    /// Some or all of the devices.
    pub(crate) lines: Vec<Line>,
}

impl Picture {
    /// One more of this status.
    pub(crate) fn count(&mut self, status: &str) {
        *self.counts.entry(status.to_owned()).or_default() += 1;
    }

    fn words(&self) -> String {
        let counts: Vec<_> =
            self.counts.iter().map(|(status, count)| format!("{count} {}", clean(status))).collect();
        counts.join(", ")
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    Live { colour: bool },
    Plain,
    Json,
}

/// Where it is shown.
#[derive(Debug)]
pub(crate) struct Board {
    style: Style,
    begun: Instant,
    last: Picture,
    /// Lines of the last drawing, to be drawn over.
    drawn: usize,
    /// What was printed of each device, in the plain style.
    told: BTreeMap<String, String>,
}

impl Board {
    /// Standard output, in the style that suits it. `$NO_COLOR` is obeyed, as is a terminal that can do nothing.
    pub(crate) fn new(json: bool) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let style = match (json, io::stdout().is_terminal() && !dumb) {
            (true, _) => Style::Json,
            (false, true) => Style::Live { colour: !is_set("NO_COLOR") },
            (false, false) => Style::Plain,
        };
        Self { style, begun: Instant::now(), last: Picture::default(), drawn: 0, told: BTreeMap::new() }
    }

    /// Shows how it is, if that is worth it.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub(crate) fn show(&mut self, picture: &Picture) -> Outcome {
        match self.style {
            Style::Live { colour } => self.draw(picture, colour)?,
            Style::Plain => self.tell(picture)?,
            Style::Json if *picture != self.last => say(&as_text(&document(picture)))?,
            Style::Json => {}
        }
        self.last.clone_from(picture);
        Ok(())
    }

    /// Says something that stays.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub(crate) fn note(&mut self, text: &str) -> Outcome {
        self.drawn = 0;
        say(&if self.style == Style::Json { as_text(&json!({ "note": text })) } else { clean(text) })
    }

    /// Shows how it ended.
    ///
    /// # Errors
    /// If nobody reads any more.
    pub(crate) fn end(&mut self, picture: &Picture) -> Outcome {
        self.show(picture)?;
        if self.style != Style::Json {
            say(&format!("{} of {} done: {}", picture.done, picture.total, picture.words()))?;
        }
        Ok(())
    }

    /// Shows how it was when something went wrong: what that was is worth more than that nobody reads this.
    pub(crate) fn leave(&mut self, picture: &Picture) {
        if *picture != Picture::default() {
            let _ = self.end(picture);
        }
    }

    fn tell(&mut self, picture: &Picture) -> Outcome {
        for line in &picture.lines {
            // Percents alone are not worth a line.
            let detail = if line.detail.ends_with('%') { "" } else { line.detail.as_str() };
            let text = format!("{}  {}  {}  {detail}", line.device, line.status, line.firmware);
            let text = clean(text.trim_end()).to_owned();
            if self.told.get(&line.device) != Some(&text) {
                say(&text)?;
                self.told.insert(line.device.clone(), text);
            }
        }
        // Devices that are not shown any more are forgotten: there may be many of them over time.
        if self.told.len() > picture.lines.len() {
            self.told.retain(|device, _| picture.lines.iter().any(|line| line.device == *device));
        }
        let is_part = (picture.lines.len() as u64) < picture.total;
        if is_part
            && (picture.done, picture.failed, &picture.counts)
                != (self.last.done, self.last.failed, &self.last.counts)
        {
            say(&format!("{} of {}: {}", picture.done, picture.total, picture.words()))?;
        }
        Ok(())
    }

    fn draw(&mut self, picture: &Picture, colour: bool) -> Outcome {
        let size = rustix::termios::tcgetwinsize(io::stdout().as_fd()).ok();
        let (width, height) = size.map_or(SIZE, |size| (size.ws_col.into(), size.ws_row.into()));
        let (width, height) = if width == 0 || height == 0 { SIZE } else { (width, height) };
        let lines = drawing(picture, self.begun.elapsed(), (width, height), colour);
        let up = if self.drawn == 0 { String::new() } else { format!("\x1b[{}A", self.drawn) };
        self.drawn = lines.len();
        say(&format!("{up}\r\x1b[J{}", lines.join("\n")))
    }
}

fn document(picture: &Picture) -> serde_json::Value {
    let lines = picture.lines.iter().map(|line| {
        json!({
            "device": line.device, "status": line.status, "firmware": line.firmware, "detail": line.detail,
            "trouble": line.trouble,
        })
    });
    json!({
        "total": picture.total, "done": picture.done, "failed": picture.failed, "counts": picture.counts,
        "devices": lines.collect::<Vec<_>>(),
    })
}

/// A bar with totals and, below it, as many devices as fit: those in trouble first.
fn drawing(
    picture: &Picture,
    elapsed: Duration,
    (width, height): (usize, usize),
    colour: bool,
) -> Vec<String> {
    let ended = picture.done + picture.failed;
    let part = |of: u64| usize::try_from(of * BAR as u64 / picture.total.max(1)).unwrap_or(BAR);
    // More may have ended than were meant: counts come one after the other, and lag.
    let bad = part(picture.failed).max(usize::from(picture.failed > 0)).min(BAR);
    let good = part(picture.done).min(BAR - bad);
    let rest = BAR - good - bad;
    let paint = |text: &str, code: &str| {
        if colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    let bar =
        format!("{}{}{}", paint(&"#".repeat(good), "32"), paint(&"!".repeat(bad), "31"), "-".repeat(rest));
    let room = width.saturating_sub(1);
    // The bar's colours take no room on the screen.
    let after = format!(
        "  {} of {}  {}{}",
        picture.done,
        picture.total,
        picture.words(),
        pace(ended, picture.total, elapsed)
    );
    let mut lines = vec![format!("[{bar}]{}", cut(&after, room.saturating_sub(BAR + 2)))];
    let mut rows: Vec<&Line> = picture.lines.iter().collect();
    let rank = |line: &&Line| (!line.trouble, line.status == "done", line.status == "waiting");
    rows.sort_by_key(rank);
    rows.truncate(ROWS.min(height.saturating_sub(3)));
    let widest = rows.iter().map(|line| line.device.chars().count()).max().unwrap_or(0).min(40);
    for line in rows {
        let text =
            format!("{:<widest$}  {:<12}  {:<12}  {}", line.device, line.status, line.firmware, line.detail);
        let text = cut(&clean(&text), room);
        lines.push(if line.trouble { paint(&text, "31") } else { text });
    }
    lines
}

/// How long it took, and how much longer it will if it goes on like this.
fn pace(ended: u64, total: u64, elapsed: Duration) -> String {
    let clock = |seconds: u64| format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let seconds = elapsed.as_secs();
    let took = format!("  {}", clock(seconds));
    if ended == 0 || ended >= total || seconds == 0 {
        return took;
    }
    let left = (total - ended).saturating_mul(seconds) / ended;
    format!("{took}, {:.1} a minute, about {} left", ended as f64 * 60.0 / seconds as f64, clock(left))
}

fn cut(text: &str, room: usize) -> String {
    text.chars().take(room).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let line = |device: &str, status: &str, trouble| Line {
            device: device.into(),
            status: status.into(),
            firmware: "1.0.0".into(),
            detail: if trouble { "ill\u{7}".into() } else { String::new() },
            trouble,
        };
        let mut picture = Picture { total: 4, done: 2, failed: 1, ..Picture::default() };
        picture.lines =
            vec![line("a", "done", false), line("b", "downloading", false), line("c", "failed", true)];
        picture.lines.iter().for_each(|line| *picture.counts.entry(line.status.clone()).or_default() += 1);
        picture
    }

    #[test]
    fn those_in_trouble_come_first_and_nothing_is_wider_than_the_screen() {
        let lines = drawing(&picture(), Duration::from_secs(90), (100, 24), false);
        assert_eq!(
            lines,
            [
                "[############!!!!!!------]  2 of 4  1 done, 1 downloading, 1 failed  00:01:30, 2.0 a minute, about",
                "c  failed        1.0.0         ill",
                "b  downloading   1.0.0",
                "a  done          1.0.0",
            ]
        );
        assert!(lines.iter().all(|line| line.chars().count() < 100));
        assert_eq!(
            drawing(&picture(), Duration::ZERO, (40, 4), false).len(),
            2,
            "a low screen is not scrolled"
        );
    }

    #[test]
    fn the_bar_is_no_longer_for_more_than_all() {
        for (done, failed, bar) in [(9, 0, "#".repeat(24)), (4, 1, format!("{}!!!!!!", "#".repeat(18)))] {
            let picture = Picture { total: 4, done, failed, ..Picture::default() };
            let lines = drawing(&picture, Duration::ZERO, (100, 24), false);
            assert!(lines[0].starts_with(&format!("[{bar}]  ")), "{}", lines[0]);
        }
    }

    #[test]
    fn colours_are_only_where_they_are_wanted() {
        let coloured = drawing(&picture(), Duration::ZERO, (100, 24), true).join("");
        assert!(coloured.contains("\x1b[31m"));
        assert!(!drawing(&picture(), Duration::ZERO, (100, 24), false).join("").contains('\x1b'));
    }
}
