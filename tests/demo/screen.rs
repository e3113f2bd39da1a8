//! Two columns on a screen: what the cloud saw, and what the device did. On a terminal in colour and with a progress
//! bar in the last line; anywhere else as plain lines.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// Columns of the time, its blank included.
const TIME: usize = 7;
/// Where a terminal does not tell its width.
const WIDTH: usize = 110;

/// What a piece of text is, to colour it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tone {
    Plain,
    Quiet,
    Good,
    Bad,
    /// Somebody pulled a plug.
    Rough,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Quiet => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[31m",
            Self::Rough => "\x1b[33m",
        }
    }
}

/// Which column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Cloud,
    Device,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bar {
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) rate: u64,
}

/// How it shall look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Columns at all, or only headings and verdicts.
    columns: bool,
    /// A terminal, whose last line can be drawn again.
    redraws: bool,
    colour: bool,
    unicode: bool,
    width: usize,
}

impl Look {
    /// What suits standard output. `$NO_COLOR` is obeyed.
    pub(crate) fn of_stdout(columns: bool) -> Self {
        let out = io::stdout();
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let redraws = out.is_terminal() && variable("TERM") != "dumb";
        let told = rustix::termios::tcgetwinsize(out.as_fd()).map_or(0, |size| usize::from(size.ws_col));
        let width =
            [told, variable("COLUMNS").parse().unwrap_or(0), WIDTH].into_iter().find(|width| *width > 0);
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable).into_iter().find(|value| !value.is_empty());
        Self {
            columns,
            redraws,
            colour: redraws && variable("NO_COLOR").is_empty(),
            unicode: locale.is_some_and(|locale| locale.to_uppercase().replace('-', "").contains("UTF8")),
            width: width.unwrap_or(WIDTH).clamp(64, 150),
        }
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        let code = tone.code();
        if self.colour && !code.is_empty() { format!("{code}{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Widths of the two columns.
    fn widths(&self) -> (usize, usize) {
        let both = self.width - TIME - 3 - 1;
        (both * 9 / 20, both - both * 9 / 20)
    }

    fn rows(&self, time: &str, side: Side, text: &str, tone: Tone) -> Vec<String> {
        let (cloud, device) = self.widths();
        let line = if self.unicode { "│" } else { "|" };
        let width = if side == Side::Cloud { cloud } else { device };
        let mut rows = Vec::new();
        for (index, part) in wrap(text, width).into_iter().enumerate() {
            let time = if index == 0 { time } else { "" };
            let time = self.paint(Tone::Quiet, &format!("{time:>6} "));
            let fill = |used: usize| " ".repeat(cloud.saturating_sub(used));
            let painted = self.paint(tone, &part);
            rows.push(match side {
                Side::Cloud => format!("{time}{painted}{} {line}", fill(part.chars().count())),
                Side::Device => format!("{time}{} {line} {painted}", fill(0)),
            });
        }
        rows
    }

    fn bar(&self, bar: Bar) -> String {
        let (_, device) = self.widths();
        let (full, empty) = if self.unicode { ("█", "░") } else { ("#", "-") };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let percent = (bar.done.min(bar.total) * 100).checked_div(bar.total).unwrap_or(0);
        let figures = format!(
            " {percent:>3} %  {:.1} of {:.1} MiB  {:.1} MiB/s",
            mib(bar.done),
            mib(bar.total),
            mib(bar.rate)
        );
        let cells = device.saturating_sub(figures.chars().count()).min(24);
        let filled = cells * usize::try_from(percent).unwrap_or(100) / 100;
        format!("{}{}{figures}", full.repeat(filled), empty.repeat(cells - filled))
    }
}

/// Words in lines of at most `width`; a longer word is cut.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: String = word.chars().filter(|c| !c.is_control()).collect();
        let line = lines.last_mut().expect("there is always one");
        let used = line.chars().count();
        if used > 0 && used + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(&word);
            continue;
        }
        while word.chars().count() > width {
            let rest = word.chars().skip(width).collect();
            lines.push(word.chars().take(width).collect());
            word = rest;
        }
        match lines.last_mut() {
            Some(line) if line.is_empty() => *line = word,
            // Indented, if there is room for that.
            _ if word.chars().count() + 2 <= width => lines.push(format!("  {word}")),
            _ => lines.push(word),
        }
    }
    lines
}

enum Order {
    Heading(String),
    Row(Side, String, Tone),
    Bar(Option<Bar>),
    Verdict(Tone, String),
    Plain(String),
    Curtain,
    End,
}

/// A screen, and the thread that draws on it.
pub(crate) struct Screen {
    orders: Sender<Order>,
    painter: JoinHandle<()>,
}

/// A way to the screen for another thread.
#[derive(Clone)]
pub(crate) struct Pen(Sender<Order>);

impl Pen {
    /// Writes into a column.
    pub(crate) fn row(&self, side: Side, text: &str, tone: Tone) {
        let _ = self.0.send(Order::Row(side, text.to_owned(), tone));
    }

    /// Shows how far a download is; `None` when there is none any more.
    pub(crate) fn bar(&self, bar: Option<Bar>) {
        let _ = self.0.send(Order::Bar(bar));
    }
}

impl Screen {
    pub(crate) fn start(look: Look) -> Self {
        let (orders, received) = channel();
        let painter = thread::spawn(move || Painter::new(look).paint(&received));
        Self { orders, painter }
    }

    pub(crate) fn pen(&self) -> Pen {
        Pen(self.orders.clone())
    }

    /// Begins a scene.
    pub(crate) fn heading(&self, text: &str) {
        let _ = self.orders.send(Order::Heading(text.to_owned()));
    }

    /// A line that is also there without columns.
    pub(crate) fn verdict(&self, tone: Tone, text: &str) {
        let _ = self.orders.send(Order::Verdict(tone, text.to_owned()));
    }

    /// A line as it is.
    pub(crate) fn plain(&self, text: &str) {
        let _ = self.orders.send(Order::Plain(text.to_owned()));
    }

    /// The play is over: what still happens on the stage is not shown.
    pub(crate) fn curtain(&self) {
        let _ = self.orders.send(Order::Curtain);
    }

    /// Waits until all is drawn.
    pub(crate) fn end(self) {
        let _ = self.orders.send(Order::End);
        let _ = self.painter.join();
    }
}

struct Painter {
    look: Look,
    begin: Instant,
    bar: Option<Bar>,
    /// The bar is in the last line.
    drawn: bool,
    /// Without redrawing: the last quarter that was shown.
    quarter: u64,
    is_over: bool,
}

impl Painter {
    fn new(look: Look) -> Self {
        Self { look, begin: Instant::now(), bar: None, drawn: false, quarter: 0, is_over: false }
    }

    fn paint(mut self, orders: &Receiver<Order>) {
        for order in orders {
            // Nobody looks any more: the exit status still counts.
            let _ = match order {
                Order::Heading(text) => self.heading(&text),
                Order::Row(side, text, tone) => self.row(side, &text, tone),
                Order::Bar(bar) => self.progress(bar),
                Order::Verdict(tone, text) => {
                    let word = if tone == Tone::Good { "ok    " } else { "FAILED" };
                    let word = self.look.paint(tone, word);
                    self.line(&format!("{word}  {}", text.replace('\n', "\n           ")))
                }
                Order::Plain(text) => self.line(&text),
                Order::Curtain => self.curtain(),
                Order::End => return,
            };
        }
    }

    fn curtain(&mut self) -> io::Result<()> {
        self.progress(None)?;
        self.is_over = true;
        Ok(())
    }

    fn heading(&mut self, text: &str) -> io::Result<()> {
        self.progress(None)?;
        if !self.look.columns {
            return Ok(());
        }
        let bold = if self.look.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        self.line(&format!("\n{bold}"))
    }

    fn row(&mut self, side: Side, text: &str, tone: Tone) -> io::Result<()> {
        if !self.look.columns || self.is_over {
            return Ok(());
        }
        let time = format!("{:.2}", self.begin.elapsed().as_secs_f64());
        for row in self.look.rows(&time, side, text, tone) {
            self.line(row.trim_end())?;
        }
        Ok(())
    }

    fn progress(&mut self, bar: Option<Bar>) -> io::Result<()> {
        if !self.look.columns || self.is_over {
            return Ok(());
        }
        if !self.look.redraws {
            let quarter = bar.map_or(0, |bar| bar.done * 4 / bar.total.max(1));
            if let Some(bar) = bar
                && quarter > self.quarter
            {
                self.row(Side::Device, &self.look.bar(bar), Tone::Quiet)?;
            }
            self.quarter = quarter;
            return Ok(());
        }
        self.clear()?;
        if bar.is_none()
            && let Some(last) = self.bar
        {
            // What it showed last stays.
            let text = self.look.bar(last);
            self.bar = None;
            return self.row(Side::Device, &text, Tone::Quiet);
        }
        self.bar = bar;
        self.draw()
    }

    /// A line that stays, above the bar.
    fn line(&mut self, text: &str) -> io::Result<()> {
        self.clear()?;
        writeln!(io::stdout().lock(), "{text}")?;
        self.draw()
    }

    fn clear(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.drawn) {
            write!(io::stdout().lock(), "\r\x1b[K")?;
        }
        Ok(())
    }

    fn draw(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if let Some(bar) = self.bar {
            let text = self.look.bar(bar);
            let row = self.look.rows("", Side::Device, &text, Tone::Plain).into_iter().next();
            write!(out, "{}", row.unwrap_or_default())?;
            self.drawn = true;
        }
        out.flush()
    }
}
