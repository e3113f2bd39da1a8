//! The one work that is going on, on a thread of its own.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::hooked::Word;
use super::tools::{Order, Tools};
use super::{Engine, FAREWELL};
use crate::boot::BootView;
use crate::image::{Cancel, Progress, Snapshot};
use crate::model::{Cost, IntentId};
use crate::update::{Phase, State, Work};

/// The tools, resting or in use.
pub(super) struct Worker {
    hand: Hand,
}

enum Hand {
    Resting(Box<Tools>),
    Working {
        key: Key,
        cancel: Cancel,
        progress: Progress,
        thread: JoinHandle<(Box<Tools>, Finished)>,
    },
    /// Only within a method of this module.
    Between,
}

/// Tells one work from the next: the same work of another update is another work. The same update on other terms is
/// not.
pub(super) type Key = (Option<IntentId>, Work);

/// How a work ended.
pub(super) struct Finished {
    /// Which.
    pub key: Key,
    /// What it says.
    pub word: Word,
    /// What did not go well beside it.
    pub complaints: Vec<String>,
    /// What the bootloader says afterwards, if it can be asked.
    pub view: Option<BootView>,
    /// What a download costs, if that became known.
    pub plan: Option<Cost>,
}

impl Worker {
    pub(super) fn new(tools: Tools) -> Self {
        Self { hand: Hand::Resting(Box::new(tools)) }
    }

    /// Which work is going on.
    pub(super) fn key(&self) -> Option<&Key> {
        match &self.hand {
            Hand::Working { key, .. } => Some(key),
            Hand::Resting(_) | Hand::Between => None,
        }
    }

    /// How far it is.
    pub(super) fn snapshot(&self) -> Option<Snapshot> {
        match &self.hand {
            Hand::Working { progress, .. } => Some(progress.snapshot()),
            Hand::Resting(_) | Hand::Between => None,
        }
    }

    /// Begins a work. The worker must be resting.
    pub(super) fn begin(&mut self, key: Key, order: Order) {
        self.hand = match std::mem::replace(&mut self.hand, Hand::Between) {
            Hand::Resting(mut tools) => {
                let (cancel, progress) = (order.cancel.clone(), order.progress.clone());
                let of = key.clone();
                let thread = tokio::task::spawn_blocking(move || {
                    let word = tools.perform(&order);
                    let (view, complaints) = (tools.view(), std::mem::take(&mut tools.complaints));
                    let plan = order.progress.snapshot().plan;
                    (tools, Finished { key: of, word, complaints, view, plan })
                });
                Hand::Working { key, cancel, progress, thread }
            }
            other @ (Hand::Working { .. } | Hand::Between) => other,
        };
    }

    /// Waits for the work's end; for ever, if there is none. Safe to be dropped and called again.
    pub(super) async fn finished(&mut self) -> Finished {
        let Hand::Working { thread, .. } = &mut self.hand else { return std::future::pending().await };
        let (tools, finished) = thread.await.expect("a work does not panic, and is never aborted");
        self.hand = Hand::Resting(tools);
        finished
    }

    /// Stops the work and waits until it has fully stopped; its result is dropped.
    pub(super) async fn stop(&mut self) {
        if let Hand::Working { cancel, .. } = &self.hand {
            cancel.cancel();
            self.finished().await;
        }
    }

    /// As `stop`, but gives up waiting after `within`: the process is about to end anyway, and every work may be cut
    /// off anywhere.
    pub(super) async fn abandon(&mut self, within: Duration) {
        let _ = tokio::time::timeout(within, self.stop()).await;
    }
}

impl Engine {
    /// Begins the work; the worker must be resting.
    pub(super) async fn begin(&mut self, key: Key) {
        if key.1 == Work::Reboot {
            // Whoever asked is answered, and the hub knows why we are gone, before we are.
            let commands = self.hub.as_ref().map(|hub| hub.commands.clone());
            self.live.tell(&self.record, &self.facts, None, commands.as_ref());
            if let Some(commands) = commands.filter(|_| self.live.hub.connected) {
                commands.flush(FAREWELL).await;
            }
            let why = self.why_reboot();
            self.repeat(|repeats, now, about| repeats.reboot_requested(now, about, why));
        }
        let order = Order {
            work: key.1,
            job: self.record.state.job().cloned(),
            previous: self.record.previous,
            is_spoiled: self.record.spoiled == Some(!self.facts.booted),
            floor: self.record.floor(&self.facts),
            facts: self.facts.clone(),
            progress: Progress::default(),
            cancel: Cancel::default(),
            rate: self.rate.clone(),
        };
        self.worker.begin(key, order);
    }

    fn why_reboot(&self) -> &'static str {
        match &self.record.state {
            State::Busy(job) if matches!(job.phase, Phase::Finishing { .. }) => "after the factory reset",
            State::Busy(job) if job.target == self.facts.booted => "to go back to the previous system",
            State::Busy(_) => "to try the new system",
            State::Idle | State::Restarting { .. } => "on request",
        }
    }
}
