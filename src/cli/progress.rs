//! How an update's progress is shown: one line redrawn in place on a terminal, plain lines anywhere else.

use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;

use super::view::View;

const BAR: usize = 24;
/// Where a terminal does not tell its width, as on a serial line.
const WIDTH: usize = 80;
/// Plain lines come at most every so many per cent.
const PLAIN_STEP: u64 = 10;

/// Where progress is shown.
pub(super) struct Screen<W> {
    out: W,
    style: Style,
    /// What was last shown.
    last: String,
    /// A line is on the terminal that is not ended yet.
    open: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Style {
    /// Redrawn in place.
    Live { width: usize, colour: bool },
    /// A line for everything worth one.
    Plain,
}

impl Screen<io::Stdout> {
    /// Standard output, in the style that suits it. `$NO_COLOR` is obeyed, as is a terminal that can do nothing.
    pub(super) fn stdout() -> Self {
        let out = io::stdout();
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let style = if out.is_terminal() && !dumb {
            let columns = rustix::termios::tcgetwinsize(out.as_fd()).map_or(0, |size| size.ws_col.into());
            Style::Live { width: if columns == 0 { WIDTH } else { columns }, colour: !is_set("NO_COLOR") }
        } else {
            Style::Plain
        };
        Self::new(out, style)
    }
}

impl<W: Write> Screen<W> {
    pub(super) fn new(out: W, style: Style) -> Self {
        Self { out, style, last: String::new(), open: false }
    }

    /// Shows where the update is.
    ///
    /// # Errors
    /// If nobody looks any more.
    pub(super) fn progress(&mut self, status: View<'_>) -> io::Result<()> {
        match self.style {
            Style::Live { width, colour } => {
                let line = live(status, width, colour);
                if line != self.last {
                    // Back to the first column, and away with the rest of the old line.
                    write!(self.out, "\r{line}\x1b[K")?;
                    self.out.flush()?;
                    self.open = true;
                    self.last = line;
                }
            }
            Style::Plain => {
                let key = plain_key(status);
                if key != self.last {
                    writeln!(self.out, "{}", plain(status))?;
                    self.last = key;
                }
            }
        }
        Ok(())
    }

    /// Shows a line that stays.
    ///
    /// # Errors
    /// If nobody looks any more.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        if std::mem::take(&mut self.open) {
            writeln!(self.out)?;
        }
        self.last.clear();
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }
}

fn live(status: View<'_>, width: usize, colour: bool) -> String {
    let percent = status.percent();
    let bar = percent.map_or_else(String::new, |percent| {
        let full = BAR * usize::try_from(percent).unwrap_or(100) / 100;
        format!(" [{}{}] {percent:>3} %", "#".repeat(full), "-".repeat(BAR - full))
    });
    let gate = reason(status).map(|reason| format!("  {reason}")).unwrap_or_default();
    let amounts = status.amounts();
    let gap = if amounts.is_empty() { "" } else { "  " };
    let phase = format!("{:<12}", status.phase());
    // One column less than there are: a full line would scroll on some terminals, and a longer one always.
    let room = width.saturating_sub(1);
    let line: String = format!("{phase}{bar}{gap}{amounts}{gate}").chars().take(room).collect();
    let line = line.trim_end().to_owned();
    if !colour {
        return line;
    }
    let head = phase.trim_end();
    line.strip_prefix(head).map_or(line.clone(), |rest| format!("\x1b[1m{head}\x1b[0m{rest}"))
}

fn plain(status: View<'_>) -> String {
    let percent = status.percent().map(|percent| format!(" {percent} %")).unwrap_or_default();
    let amounts = status.amounts();
    let gap = if amounts.is_empty() { "" } else { ", " };
    let gate = reason(status).map(|reason| format!(", {reason}")).unwrap_or_default();
    format!("{}{percent}{gap}{amounts}{gate}", status.phase())
}

/// What is waited for: by an update, or by the daemon.
fn reason(status: View<'_>) -> Option<String> {
    status.text("/gate").or_else(|| status.text("/waiting/what"))
}

/// Two statuses with the same key are not worth two plain lines.
fn plain_key(status: View<'_>) -> String {
    let step = status.percent().map(|percent| percent / PLAIN_STEP);
    format!("{} {step:?} {:?}", status.phase(), reason(status))
}
