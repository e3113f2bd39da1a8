//! The session task: connects, drives the [`Dialogue`] over the link, and waits between attempts.
//!
//! It ends when it is told to, or when the engine has gone; nothing the network does ends it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_rustls::rustls::ClientConfig;
use tracing::debug;

use super::Lost;
use super::backoff::Backoff;
use super::dial::{self, Opened};
use super::dialogue::Dialogue;
use super::identity::Identity;
use super::port::{HubCommand, Port, Slot};
use super::queue::Queue;
use super::sas::Token;
use super::settings::Settings;
use crate::model::Timestamp;

/// No clock that tells an earlier time than this is right: it is the day this line was written, 2026-11-21. A device
/// without a battery for its clock starts in 1970, and a token of that time is refused. One counted from this day
/// is good for its lifetime from this day at least; for the rest, the hub refuses until the clock is set, and we
/// keep asking.
const CLOCK_FLOOR: Timestamp = Timestamp(1_795_219_200_000);
/// How long an orderly end may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// So many connections in a row that the hub ended right after they began are no accident.
const CONTESTED_AFTER: u32 = 3;

/// The task.
pub struct Session {
    identity: Arc<Identity>,
    tls: Arc<ClientConfig>,
    settings: Arc<Settings>,
    clock: Box<dyn Fn() -> Timestamp + Send>,
    inbox: Inbox,
    dialogue: Dialogue,
    waits: Waits,
}

/// How a link ended.
enum End {
    Lost(Lost),
    Renewal,
    Shutdown,
}

impl Session {
    /// `clock` tells wall-clock time, for tokens and nothing else. `tls` decides whom to trust.
    pub fn new(
        port: Port,
        identity: Identity,
        tls: Arc<ClientConfig>,
        settings: Settings,
        clock: impl Fn() -> Timestamp + Send + 'static,
    ) -> Self {
        let dialogue = Dialogue::new(settings.clone(), &port, random);
        Self {
            waits: Waits::new(&settings),
            identity: Arc::new(identity),
            tls,
            settings: Arc::new(settings),
            clock: Box::new(clock),
            inbox: Inbox { port },
            dialogue,
        }
    }

    /// Runs until it is told to shut down, or the engine has gone.
    pub async fn run(mut self) {
        loop {
            let token = Token::of_device(&self.identity, self.expiry());
            let open = dial::open(self.identity.clone(), token, self.tls.clone(), self.settings.clone());
            let opened = tokio::select! {
                opened = open => opened,
                () = self.inbox.serve(&mut self.dialogue) => return,
            };
            let begun = Instant::now();
            let (end, lived) = match opened {
                Ok(opened) => (self.converse(opened).await, Some(begun.elapsed())),
                Err(lost) => (End::Lost(lost), None),
            };
            self.dialogue.disconnected();
            let why = match end {
                End::Shutdown => return,
                End::Renewal => continue,
                End::Lost(why) => why,
            };
            let (why, wait) = self.waits.after(why, lived, &self.identity.device);
            debug!(%why, ?wait, "no connection to the hub");
            self.dialogue.tell_lost(why, wait);
            tokio::select! {
                () = sleep_until(Instant::now() + wait) => {}
                () = self.inbox.serve(&mut self.dialogue) => return,
            }
        }
    }

    /// When a token made now shall end, in seconds since 1970.
    fn expiry(&self) -> u64 {
        let now = (self.clock)().max(CLOCK_FLOOR);
        now.0 / 1000 + self.settings.token_lifetime.as_secs().max(1)
    }

    async fn converse(&mut self, opened: Opened) -> End {
        let Opened { mut link, early } = opened;
        let Self { dialogue, inbox, settings, .. } = self;
        dialogue.connected(Instant::now());
        for packet in early {
            if let Err(lost) = dialogue.received(packet, Instant::now()) {
                return End::Lost(lost);
            }
        }
        loop {
            for packet in dialogue.take_sends(Instant::now()) {
                if let Err(lost) = link.send(packet, settings.answer_timeout).await {
                    return End::Lost(lost);
                }
            }
            dialogue.settle();
            let now = Instant::now();
            if dialogue.is_renewal_due(now) {
                link.close(FAREWELL).await;
                return End::Renewal;
            }
            let deadline = dialogue.deadline(now);
            let result = tokio::select! {
                received = link.receive() => match received {
                    Ok(packet) => dialogue.received(packet, Instant::now()),
                    Err(lost) => Err(lost),
                },
                input = inbox.next(&mut dialogue.events) => {
                    if inbox.take(input, dialogue).is_break() {
                        link.close(FAREWELL).await;
                        return End::Shutdown;
                    }
                    Ok(())
                }
                () = sleep_until(deadline) => Ok(()),
            };
            if let Err(lost) = result.and_then(|()| dialogue.tick(Instant::now())) {
                return End::Lost(lost);
            }
        }
    }
}

/// How long to wait after each kind of loss.
struct Waits {
    usual: Backoff,
    slow: Backoff,
    stable_after: Duration,
    contested_wait: Duration,
    evictions: u32,
}

impl Waits {
    fn new(settings: &Settings) -> Self {
        Self {
            usual: Backoff::full(settings.backoff),
            slow: Backoff::slow(settings.slow_backoff),
            stable_after: settings.stable_after,
            contested_wait: settings.contested_wait,
            evictions: 0,
        }
    }

    /// `lived` is how long the link lasted, if there was one. Only a link that lasted makes up for what was before:
    /// a hub that accepts and then throws out must not be asked every second.
    fn after(&mut self, why: Lost, lived: Option<Duration>, device: &str) -> (Lost, Duration) {
        if lived.is_some_and(|lived| lived >= self.stable_after) {
            self.usual.reset();
            self.slow.reset();
            self.evictions = 0;
        } else if lived.is_some() && matches!(why, Lost::Closed | Lost::Broken(_)) {
            self.evictions += 1;
        }
        let backoff = if why.is_slow() { &mut self.slow } else { &mut self.usual };
        let wait = backoff.next(random());
        if lived.is_some() && self.evictions >= CONTESTED_AFTER {
            let why = Lost::Contested { device: device.to_owned(), times: self.evictions };
            return (why, wait.max(self.contested_wait));
        }
        (why, wait)
    }
}

/// What comes from the engine.
struct Inbox {
    port: Port,
}

enum Input {
    Command(HubCommand),
    Report(Slot),
    Told,
    Gone,
}

impl Inbox {
    /// The next thing the engine wants, or has taken. May be dropped at any await and called again.
    async fn next(&mut self, events: &mut Queue) -> Input {
        tokio::select! {
            command = self.port.commands.recv() => command.map_or(Input::Gone, Input::Command),
            changed = self.port.reports.changed() => match changed {
                Ok(()) => Input::Report(self.port.reports.borrow_and_update().clone()),
                Err(_) => Input::Gone,
            },
            room = self.port.events.reserve(), if !events.is_empty() => match (room, events.pop()) {
                (Ok(room), Some(event)) => {
                    room.send(event);
                    Input::Told
                }
                (Ok(_), None) => Input::Told,
                (Err(_), _) => Input::Gone,
            },
        }
    }

    fn take(&mut self, input: Input, dialogue: &mut Dialogue) -> ControlFlow<()> {
        let now = Instant::now();
        match input {
            Input::Command(HubCommand::Reply { call, reply }) => dialogue.reply(&call, &reply),
            Input::Command(HubCommand::Flush(done)) => {
                // A report that was handed over before this command may not have been seen yet.
                dialogue.want(self.port.reports.borrow_and_update().clone(), now);
                dialogue.flush(done, now);
            }
            Input::Report(slot) => dialogue.want(slot, now),
            Input::Told => {}
            Input::Command(HubCommand::Shutdown) | Input::Gone => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Serves the engine while there is no link; returns when the session shall end.
    async fn serve(&mut self, dialogue: &mut Dialogue) {
        loop {
            let input = self.next(&mut dialogue.events).await;
            if self.take(input, dialogue).is_break() {
                return;
            }
        }
    }
}

/// Chance, for waiting only: if the system has none to give, half of every wait is as good as any.
fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn waits() -> Waits {
        Waits::new(&Settings::default())
    }

    #[test]
    fn being_thrown_out_three_times_in_a_row_is_told_by_name_and_slowed() {
        let mut waits = waits();
        let brief = Some(Duration::from_secs(2));
        for _ in 0..2 {
            assert_eq!(waits.after(Lost::Closed, brief, "dev1").0, Lost::Closed);
        }
        for times in 3..10 {
            let (why, wait) = waits.after(Lost::Closed, brief, "dev1");
            assert_eq!(why, Lost::Contested { device: "dev1".into(), times });
            assert!(why.to_string().contains("'dev1'"));
            assert!(wait >= Duration::from_secs(10));
        }
        let long = Some(Duration::from_secs(61));
        assert_eq!(waits.after(Lost::Closed, long, "dev1").0, Lost::Closed, "a good one ends the series");
        assert_eq!(waits.after(Lost::Closed, brief, "dev1").0, Lost::Closed);
    }

    #[test]
    fn a_refused_token_is_tried_again_slowly() {
        let mut waits = waits();
        for code in [4, 5] {
            let (why, wait) = waits.after(Lost::Refused(code), None, "d");
            assert_eq!(why, Lost::Refused(code));
            assert!(wait >= Duration::from_secs(15) && wait <= Duration::from_secs(60), "{wait:?}");
        }
        assert!(
            waits.after(Lost::Refused(3), None, "d").1 <= Duration::from_secs(1),
            "a busy hub is no refusal"
        );
    }

    #[test]
    fn the_floor_is_the_day_it_says() {
        assert_eq!(CLOCK_FLOOR.to_string(), "2026-11-21T00:00:00.000Z");
    }
}
