//! The session task: connects, drives the [`Dialogue`] over the link, and waits between attempts.
//!
//! It ends when it is told to, or when the engine has gone; nothing the network does ends it.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::Lost;
use super::access::{Access, Door};
use super::dial::{Dial, Opened};
use super::dialogue::Dialogue;
use super::port::{HubCommand, HubEvent, Port, Slot};
use super::queue::Queue;
use super::remote::Remote;
use super::settings::Settings;
use super::waits::Waits;
use crate::model::Timestamp;

/// No clock that tells an earlier time than this is right: it is the day this line was written, 2026-11-21. A device
/// without a battery for its clock starts in 1970, and a token of that time is refused. One counted from this day
/// is good for its lifetime from this day at least; for the rest, the hub refuses until the clock is set, and we
/// keep asking.
pub const CLOCK_FLOOR: Timestamp = Timestamp(1_795_219_200_000);
/// How long an orderly end may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// The task.
pub struct Session {
    dial: Box<dyn Dial>,
    settings: Settings,
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
    /// `clock` tells wall-clock time, for tokens and nothing else.
    pub fn new(
        port: Port,
        access: Access,
        settings: Settings,
        clock: impl Fn() -> Timestamp + Send + 'static,
    ) -> Self {
        let dial = Door { access, settings: settings.clone() };
        Self::over(port, Box::new(dial), settings, clock)
    }

    /// Over links that another process makes.
    pub fn remote(
        port: Port,
        remote: Remote,
        settings: Settings,
        clock: impl Fn() -> Timestamp + Send + 'static,
    ) -> Self {
        Self::over(port, Box::new(remote), settings, clock)
    }

    /// Over links that somebody else gets.
    pub(super) fn over(
        port: Port,
        dial: Box<dyn Dial>,
        settings: Settings,
        clock: impl Fn() -> Timestamp + Send + 'static,
    ) -> Self {
        Self {
            waits: Waits::new(&settings),
            dialogue: Dialogue::new(settings.clone(), &port, random),
            dial,
            settings,
            clock: Box::new(clock),
            inbox: Inbox { port },
        }
    }

    /// Runs until it is told to shut down, or the engine has gone.
    pub async fn run(mut self) {
        loop {
            let begun = Instant::now();
            self.waits.attempt(begun);
            let now = (self.clock)().max(CLOCK_FLOOR);
            let opened = tokio::select! {
                opened = self.dial.open(now) => opened,
                () = self.inbox.serve(&mut self.dialogue) => return,
            };
            if let Some(news) = self.dial.news() {
                self.dialogue.events.push(HubEvent::Introduced(news));
            }
            let ready = Instant::now();
            let (end, lived) = match opened {
                Ok(mut opened) => {
                    // A credential is as old as the attempt.
                    opened.lives = opened.lives.map(|lives| lives.saturating_sub(ready - begun));
                    (self.converse(opened).await, Some(ready.elapsed()))
                }
                Err(lost) => (End::Lost(lost), None),
            };
            self.dialogue.disconnected();
            let now = Instant::now();
            let until = match end {
                End::Shutdown => return,
                // The engine is not told that there is no link, so there must be one soon.
                End::Renewal => {
                    self.waits.renewed(lived.unwrap_or_default());
                    now
                }
                End::Lost(why) => {
                    let (why, until) = self.waits.after(why, lived, now, random(), self.dial.device());
                    debug!(%why, wait = ?until - now, "no connection to the hub");
                    self.dialogue.tell_lost(why, until - now);
                    until
                }
            };
            if until > now {
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = self.inbox.serve(&mut self.dialogue) => return,
                }
            }
        }
    }

    async fn converse(&mut self, opened: Opened) -> End {
        let Opened { mut link, early, lives } = opened;
        let Self { dialogue, inbox, settings, dial, .. } = self;
        dialogue.device = dial.device().to_owned();
        dialogue.connected(Instant::now(), lives);
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
            Input::Command(HubCommand::Telemetry(event)) => dialogue.telemetry(event, now),
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
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_day_it_says() {
        assert_eq!(CLOCK_FLOOR.to_string(), "2026-11-21T00:00:00.000Z");
    }
}
