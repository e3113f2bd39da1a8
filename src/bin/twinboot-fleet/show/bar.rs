//! How far something is that takes a while on this machine: a bar on a terminal, and nothing anywhere else.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::bytes;

const WIDTH: u64 = 32;
/// More often than this nobody can read it.
const EVERY: Duration = Duration::from_millis(100);

/// A bar on standard error, so that what is printed can go elsewhere.
#[derive(Debug)]
pub(crate) struct Bar {
    what: &'static str,
    total: u64,
    begun: Instant,
    last: Option<Instant>,
    is_live: bool,
}

impl Bar {
    /// For so many bytes of `what` is done.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_live = io::stderr().is_terminal() && !is_dumb;
        Self { what, total, begun: Instant::now(), last: None, is_live }
    }

    /// So many are done by now.
    pub(crate) fn at(&mut self, done: u64) {
        let now = Instant::now();
        if self.is_live && self.last.is_none_or(|last| now - last >= EVERY) {
            self.last = Some(now);
            // Nothing depends on its being seen.
            let _ = write!(io::stderr(), "\r\x1b[K{}", line(self.what, done, self.total, now - self.begun));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.last.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: u64, took: Duration) -> String {
    let full = (u128::from(done.min(total)) * u128::from(WIDTH) / u128::from(total.max(1))) as usize;
    let rate = (done as f64 / took.as_secs_f64().max(0.001)) as u64;
    let left = total.saturating_sub(done).checked_div(rate.max(1)).unwrap_or(0);
    let bar = format!("{}{}", "#".repeat(full), "-".repeat(WIDTH as usize - full));
    format!("{what} [{bar}] {} of {}, {left} s left", bytes(done), bytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_its_work_is_done() {
        let at = |done| line("packing", done, 1000, Duration::from_secs(1));
        assert_eq!(
            at(500),
            format!("packing [{}{}] 500 B of 1.00 kB, 1 s left", "#".repeat(16), "-".repeat(16))
        );
        assert!(at(0).contains(&"-".repeat(32)) && at(2000).contains(&"#".repeat(32)));
        assert!(line("packing", 0, 0, Duration::ZERO).contains("0 s left"));
    }
}
