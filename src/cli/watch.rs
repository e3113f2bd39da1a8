//! `twinboot status --watch`: follows an update to its end, over a restart of the daemon (or of a simulated machine). And
//! `twinboot install --wait`, which follows it only as long as its file is needed.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::output::complain;
use super::progress::Screen;
use super::view::View;
use super::{Exit, accepted, unreachable};
use crate::control::client::{Client, Error};
use crate::model::Request;

/// How long the daemon may be away: a reboot with a slow start.
const AWAY_LIMIT: Duration = Duration::from_secs(300);
/// How often it is looked for then.
const AWAY_PAUSE: Duration = Duration::from_millis(500);

/// Shows the status until there is no update any more, and ends as the last one did.
pub(super) fn follow(socket: &Path, json: bool) -> Exit {
    let result = if json {
        follow_on(socket, AWAY_LIMIT, &mut Lines)
    } else {
        follow_on(socket, AWAY_LIMIT, &mut Screen::stdout())
    };
    // The reader went away: there is nobody to tell.
    result.unwrap_or(Exit::Failed)
}

/// Shows the status until the image is in its slot and was read back, or until there is no update any more. Whoever
/// waits for that may take the file away then: whatever else the update waits for, it is not read again.
pub(super) fn until_taken(socket: &Path) -> Exit {
    let mut screen = Screen::stdout();
    follow_to(is_taken, socket, AWAY_LIMIT, &mut screen).unwrap_or(Exit::Failed)
}

/// Whether the image is in its slot. It is not in the phases in which an update may still read its file, nor while one
/// that could not is undone. What is not known is none of them, or it would be waited for ever.
fn is_taken(status: View<'_>) -> bool {
    !["accepted", "downloading", "verifying", "waiting", "rolling-back"].contains(&status.phase().as_str())
}

/// What a followed update is shown on.
pub(super) trait Viewer {
    /// It moved.
    fn moved(&mut self, status: &Value) -> io::Result<()>;
    /// It is over.
    fn ended(&mut self, status: &Value) -> io::Result<()>;
    /// The daemon has gone, and is waited for.
    fn away(&mut self) -> io::Result<()>;
}

impl<W: Write> Viewer for Screen<W> {
    fn moved(&mut self, status: &Value) -> io::Result<()> {
        self.progress(View(status))
    }

    fn ended(&mut self, status: &Value) -> io::Result<()> {
        let status = View(status);
        let idle = || status.last().unwrap_or_else(|| "idle, no update so far".into());
        let taken = || format!("the image is in its slot: {}", status.phase());
        self.line(&if status.is_idle() { idle() } else { taken() })
    }

    fn away(&mut self) -> io::Result<()> {
        self.line("twinboot is away, waiting for it to come back")
    }
}

/// Every status as a line of JSON.
struct Lines;

impl Viewer for Lines {
    fn moved(&mut self, status: &Value) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{status}")
    }

    fn ended(&mut self, status: &Value) -> io::Result<()> {
        self.moved(status)
    }

    fn away(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why following stopped for now.
enum Pause {
    /// The update is over; whether it went well.
    Ended(bool),
    /// The daemon refused, and that was said.
    Refused(Exit),
    /// The daemon is gone.
    Away(Error),
}

/// Follows, and looks for the daemon again when it goes. The first time it must be there.
pub(super) fn follow_on(socket: &Path, away_limit: Duration, viewer: &mut dyn Viewer) -> io::Result<Exit> {
    follow_to(|status| status.is_idle(), socket, away_limit, viewer)
}

/// The same until `is_over`.
fn follow_to(
    is_over: fn(View<'_>) -> bool,
    socket: &Path,
    away_limit: Duration,
    viewer: &mut dyn Viewer,
) -> io::Result<Exit> {
    let mut last_seen = None;
    loop {
        let away = match Client::connect(socket) {
            Ok(client) => match until_over(is_over, client, viewer)? {
                Pause::Ended(well) => return Ok(if well { Exit::Done } else { Exit::Failed }),
                Pause::Refused(exit) => return Ok(exit),
                Pause::Away(error) => {
                    last_seen = Some(Instant::now());
                    viewer.away()?;
                    error
                }
            },
            Err(error) => error,
        };
        if last_seen.is_none_or(|seen| seen.elapsed() > away_limit) {
            let exit = unreachable(&away);
            if last_seen.is_some() {
                complain("it did not come back", "the machine may still be starting: ask again");
            }
            return Ok(exit);
        }
        std::thread::sleep(AWAY_PAUSE.min(away_limit));
    }
}

fn until_over(
    is_over: fn(View<'_>) -> bool,
    mut client: Client,
    viewer: &mut dyn Viewer,
) -> io::Result<Pause> {
    let mut answer = client.ask(&Request::Watch);
    loop {
        let response = match answer {
            Ok(response) => response,
            Err(error) => return Ok(Pause::Away(error)),
        };
        let status = match accepted(response) {
            Ok(response) => response.status.unwrap_or_default(),
            Err(exit) => return Ok(Pause::Refused(exit)),
        };
        let view = View(&status);
        if is_over(view) {
            viewer.ended(&status)?;
            return Ok(Pause::Ended(!view.is_idle() || view.ended_well()));
        }
        viewer.moved(&status)?;
        answer = client.next_change();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_not_in_its_slot_while_the_update_that_lacked_it_is_undone() {
        for (phase, is) in [
            ("downloading", false),
            ("verifying", false),
            ("rolling-back", false),
            ("staged", true),
            ("rebooting", true),
            ("something new", true),
        ] {
            assert_eq!(is_taken(View(&json!({"phase": phase}))), is, "{phase}");
        }
    }
}
