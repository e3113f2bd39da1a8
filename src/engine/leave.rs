//! How an engine is left: for good, or for another one under another configuration.

use std::time::Duration;

use tokio::sync::mpsc;

use super::Engine;
use super::live::Live;
use super::worker::Finished;
use crate::control::server::Call;
use crate::events;
use crate::host::service;
use crate::hub::{Hub, HubEvent};
use crate::model::Slot;
use crate::store::{Loaded, StateStore};
use crate::update::{Event, Record, Work};

/// How long the work may take to stop when the daemon is stopped.
const STOP_LIMIT: Duration = Duration::from_secs(4);
/// How long the hub's session may take to hear that it is over.
const SHUT_DOWN_LIMIT: Duration = Duration::from_millis(500);
/// How long answers and reports on their way to the hub are waited for before the session is ended for a new one.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// What is left of an engine, for the next one in the same process.
pub struct Left {
    /// What it was about.
    pub carried: Carried,
    /// Requests of the control socket, those included that nobody has answered yet.
    pub control: mpsc::Receiver<Call>,
}

/// What an engine was about.
pub struct Carried {
    /// What is going on, saved or not.
    record: Record,
    /// The slot we run from, as it was called.
    booted: Slot,
    /// What the bootloader says, it never saw.
    is_blind: bool,
}

/// Where an engine begins.
pub(super) struct Beginning {
    /// What is going on.
    pub(super) record: Record,
    /// The store has another record, or is not known to keep it.
    pub(super) unsaved: bool,
    /// What the first step is about.
    pub(super) first: Event,
    /// It is the first engine of this process.
    pub(super) is_first: bool,
}

impl Beginning {
    /// What an engine before was about holds, be it saved or not, and whichever state directory is named now: an update
    /// must not be taken back to where it was.
    pub(super) fn new(
        before: Option<Carried>,
        store: &mut dyn StateStore,
        booted: Slot,
        live: &mut Live,
    ) -> Self {
        let Some(Carried { record, booted: called, is_blind }) = before else {
            let record = recover(store, booted, live);
            let unsaved = store.renew().is_err() && record != Record::default();
            return Self { record, unsaved, first: Event::Started, is_first: true };
        };
        let is_saved = matches!(store.load(), Loaded::Found(found, _) if *found == record);
        let unsaved = !(is_saved && store.renew().is_ok()) && record != Record::default();
        // Where the slots are called otherwise now, or nobody could ask the bootloader, it is found out anew where we are.
        let is_known = called == booted && !is_blind;
        let first = if is_known { Event::Reloaded } else { Event::Started };
        Self { record, unsaved, first, is_first: false }
    }
}

/// The record, or whatever is left of it; what was lost is told.
fn recover(store: &mut dyn StateStore, booted: Slot, live: &mut Live) -> Record {
    let (record, loss) = match store.load() {
        Loaded::Found(record, loss) => (*record, loss),
        Loaded::Empty => (Record::default(), None),
        Loaded::Unreadable(why) => (Record::default(), Some(why)),
    };
    if let Some(why) = &loss {
        events::state_recovered(&events::About { booted: Some(booted), ..events::About::default() }, why);
        live.warnings.insert(format!("record of updates recovered: {why}"));
    }
    record
}

impl Engine {
    /// The process is about to end, and every work may be cut off anywhere.
    pub(super) async fn stop(mut self) {
        service::stopping();
        self.worker.abandon(STOP_LIMIT).await;
        events::daemon_stopping(&self.about());
        end(self.hub).await;
    }

    /// The process goes on: nothing of this engine may go on beside the next one, and nothing that it has begun be
    /// forgotten. So a work that can be gone on with is stopped, as long as that takes, and a short one that changes
    /// the bootloader, or the program of a factory reset, is waited for.
    pub(super) async fn leave(mut self) -> Left {
        let (_, nothing) = mpsc::channel(1);
        let events = self.hub.as_mut().map(|hub| std::mem::replace(&mut hub.events, nothing));
        tokio::select! {
            () = self.settle() => {}
            () = turn_away(events) => {}
        }
        end(self.hub).await;
        let is_blind = self.view.is_none();
        let carried = Carried { record: self.record, booted: self.facts.booted, is_blind };
        Left { carried, control: self.control }
    }

    /// Nothing is done any more when this returns, and the hub has what it was told.
    async fn settle(&mut self) {
        if self.worker.key().is_some_and(|(_, work)| !may_be_stopped(*work)) {
            let finished: Finished = self.worker.finished().await;
            self.finish(finished).await;
        }
        self.worker.stop().await;
        if let Some(hub) = self.hub.as_ref().filter(|_| self.live.hub.connected) {
            hub.commands.flush(FLUSH_LIMIT).await;
        }
    }
}

/// Takes what comes from the hub for as long as it is polled, and does nothing about it. Whoever calls a method learns at
/// once that it is not carried out (a replier that is dropped says so); everything else the next session is told again.
async fn turn_away(events: Option<mpsc::Receiver<HubEvent>>) {
    if let Some(mut events) = events {
        while events.recv().await.is_some() {}
    }
    std::future::pending().await
}

/// Tells the session that it is over.
async fn end(hub: Option<Hub>) {
    if let Some(Hub { commands, .. }) = hub {
        let _ = tokio::time::timeout(SHUT_DOWN_LIMIT, commands.shut_down()).await;
    }
}

/// Whether the work is begun again without harm when it was stopped and its result is not known.
fn may_be_stopped(work: Work) -> bool {
    match work {
        Work::Rest
        | Work::Await(_)
        | Work::Download(_)
        | Work::Verify(_)
        | Work::Reboot
        // The deadline counts from the boot, whoever asks.
        | Work::CheckHealth => true,
        Work::Arm(_) | Work::Commit(_) | Work::Revert(_) | Work::Reset => false,
    }
}
