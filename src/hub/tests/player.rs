//! A device without a disk and without a bootloader: the real record and its table, the real reports, and works that
//! only take their time. So the session can be judged by what the record says, in virtual time and by the thousand.
//!
//! The real engine does real works and cannot be had in virtual time honestly; it is driven through the same chaos by
//! `tests/e2e`.
#![allow(clippy::wildcard_enum_match_arm)]

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::hub::{Commands, Desired, Hub, HubEvent, Lost, MethodReply, Port, Report, channels};
use crate::model::{BootId, Failure, Image, PerSlot, Sha256, Slot, Timestamp, Version};
use crate::report::{Dialect, Status, document};
use crate::update::{Event, Facts, Record, Wish, Work};

/// A version label that begins so is not well.
pub(super) const SICK: &str = "sick";

/// How long what takes.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) work: Duration,
    pub(super) reboot: Duration,
    /// How long the answer to a reboot's report is waited for.
    pub(super) farewell: Duration,
}

/// What can be seen of a device from outside. All clones are of the same one.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Sight>>);

#[derive(Default)]
pub(super) struct Sight {
    /// The newest desired property it was told of, by its version.
    pub(super) told: Option<String>,
    /// What its record says now, as it is reported.
    pub(super) document: Map<String, Value>,
    /// Nothing is under way.
    pub(super) idle: bool,
    pub(super) generation: u64,
    pub(super) delivered: u64,
    /// Every call that was carried out.
    pub(super) calls: Vec<String>,
    /// How many updates had their end.
    pub(super) ended: u32,
    pub(super) restarts: u32,
    pub(super) contested: bool,
}

impl Seen {
    pub(super) fn look(&self) -> MutexGuard<'_, Sight> {
        self.0.lock().unwrap()
    }
}

/// The device.
pub(super) struct Player {
    record: Record,
    facts: Facts,
    contents: PerSlot<Option<Version>>,
    boots: u64,
    pace: Pace,
    seen: Seen,
    kills: mpsc::UnboundedReceiver<()>,
    generation: u64,
    reported: Value,
    work: Option<(Work, Instant)>,
    connected: bool,
}

enum Life {
    Rebooted,
    Killed,
}

impl Player {
    /// A device that runs version 1 from slot A, what can be seen of it, and how its daemon is killed.
    pub(super) fn new(pace: Pace) -> (Self, Seen, mpsc::UnboundedSender<()>) {
        let (kill, kills) = mpsc::unbounded_channel();
        let seen = Seen::default();
        let contents = PerSlot { a: "1".parse().ok(), b: None };
        let facts = Facts {
            factory: crate::model::Factory::default(),
            boot: BootId("1".into()),
            booted: Slot::A,
            default: Some(Slot::A),
            trial: None,
            version: "1".parse().ok(),
            booted_at: Some(Timestamp(1_800_000_000_000)),
            floor: None,
            overdue: None,
        };
        let player = Self {
            record: Record::default(),
            facts,
            contents,
            boots: 1,
            pace,
            seen: seen.clone(),
            kills,
            generation: 0,
            reported: Value::Null,
            work: None,
            connected: false,
        };
        (player, seen, kill)
    }

    /// Lives, with a session for each life of the daemon.
    pub(super) async fn run(mut self, mut start: impl FnMut(Port) -> JoinHandle<()>) {
        loop {
            let (hub, port) = channels();
            let session = start(port);
            let life = self.live(hub).await;
            session.abort();
            match life {
                Life::Rebooted => {
                    sleep(self.pace.reboot).await;
                    self.boots += 1;
                    self.facts.boot = BootId(self.boots.to_string());
                    self.facts.booted = self.facts.trial.or(self.facts.default).unwrap();
                    self.facts.version.clone_from(self.contents.of(self.facts.booted));
                }
                Life::Killed => {}
            }
            // All that a new process has is what was stored.
            self.record = Record::decode(&self.record.encode()).unwrap();
            (self.generation, self.reported, self.work, self.connected) = (0, Value::Null, None, false);
            let mut seen = self.seen.look();
            (seen.generation, seen.delivered) = (0, 0);
            seen.restarts += 1;
        }
    }

    async fn live(&mut self, mut hub: Hub) -> Life {
        self.take(Event::Started);
        loop {
            self.see_to_work();
            self.tell(&hub.commands);
            let over = self.work.map(|(_, over)| over);
            tokio::select! {
                event = hub.events.recv() => match event {
                    Some(event) => self.hear(event),
                    None => return Life::Killed,
                },
                () = sleep_until(over.unwrap_or_else(Instant::now)), if over.is_some() => {
                    let Some((work, _)) = self.work.take() else { continue };
                    if work == Work::Reboot {
                        if self.connected {
                            hub.commands.flush(self.pace.farewell).await;
                        }
                        return Life::Rebooted;
                    }
                    let event = self.done(work);
                    self.take(event);
                }
                _ = self.kills.recv() => return Life::Killed,
            }
        }
    }

    fn take(&mut self, event: Event) {
        let before = self.record.last.clone();
        let _ = self.record.step(&self.facts, Some(Timestamp(1_800_000_000_000)), event);
        if self.record.last != before {
            self.seen.look().ended += 1;
        }
    }

    fn see_to_work(&mut self) {
        loop {
            let work = self.record.state.work();
            match work {
                Work::Rest => self.work = None,
                Work::Await(_) => {
                    self.work = None;
                    self.take(Event::Proceed);
                    continue;
                }
                _ if self.work.is_some_and(|(current, _)| current == work) => {}
                _ => self.work = Some((work, Instant::now() + self.pace.work)),
            }
            return;
        }
    }

    /// What comes of a work that is over.
    fn done(&mut self, work: Work) -> Event {
        match work {
            Work::Download(slot) => {
                *self.contents.of_mut(slot) = self.record.state.job().and_then(|job| job.version.clone());
                return Event::Written { image: Image { sha256: Sha256::of(b""), len: 1 }, seal: None };
            }
            Work::Arm(slot) => self.facts.trial = Some(slot),
            Work::CheckHealth => {
                let running = self.facts.version.as_ref().map_or("", Version::as_str);
                if running.starts_with(SICK) {
                    return Event::Failed(Failure::Unhealthy.because("it is sick"));
                }
            }
            Work::Commit(slot) | Work::Revert(slot) => {
                (self.facts.default, self.facts.trial) = (Some(slot), None);
            }
            _ => {}
        }
        Event::Done
    }

    fn hear(&mut self, event: HubEvent) {
        match event {
            HubEvent::Connected => {
                self.connected = true;
                self.take(Event::HubReached);
            }
            HubEvent::Lost { why, .. } => {
                self.connected = false;
                self.seen.look().contested |= matches!(why, Lost::Contested { .. });
            }
            HubEvent::Introduced(_)
            | HubEvent::Uncontested
            | HubEvent::Tuned(_)
            | HubEvent::Ignored(_)
            | HubEvent::ReportRefused { .. } => {}
            HubEvent::Desired(parsed) => {
                let (told, event) = match parsed.desired {
                    Desired::Absent => ("absent".to_owned(), Event::DesiredCleared),
                    Desired::Wish(install) => {
                        let version = install.artifact.version.as_ref().unwrap().to_string();
                        (version, Event::Desired(Wish::Install(install)))
                    }
                    Desired::Invalid { reason, version, id } => {
                        ("invalid".to_owned(), Event::Desired(Wish::Invalid { id, version, reason }))
                    }
                };
                self.seen.look().told = Some(told);
                self.take(event);
            }
            HubEvent::Method { call, reply } => {
                self.seen.look().calls.push(format!("{call:?}"));
                reply.send(MethodReply::ok("done"));
            }
            HubEvent::ReportDelivered(generation) => self.seen.look().delivered = generation,
        }
    }

    /// As the engine does: the whole document, whenever it changed.
    fn tell(&mut self, commands: &Commands) {
        let status = Status::new(&self.record, &self.facts, None);
        let dialects = [Dialect::Firmware, Dialect::Flat];
        let full = document(&status, &dialects, false);
        let object = |value: &Value| value.as_object().unwrap().clone();
        if full != self.reported {
            self.generation += 1;
            commands.report(Report {
                generation: self.generation,
                full: object(&full),
                minimal: Some(object(&document(&status, &dialects, true))),
                urgent: true,
            });
            self.reported = full;
        }
        let mut seen = self.seen.look();
        seen.document = object(&self.reported);
        seen.generation = self.generation;
        seen.idle = self.record.state.job().is_none();
    }
}

/// Whether the hub holds just what the record says: members that are null are absent there.
pub(super) fn holds(reported: &Value, document: &Map<String, Value>) -> bool {
    document.iter().all(|(name, value)| match (value, reported.get(name)) {
        (Value::Null, found) => found.is_none_or(Value::is_null),
        (Value::Object(value), Some(Value::Object(_))) => holds(&reported[name], value),
        (value, found) => found == Some(value),
    })
}
