//! Floor 3: how it turns. One loop takes what happens, asks the core what follows, makes that durable, tells it, and
//! lets the one work be done that the state calls for.
//!
//! ```text
//! loop {
//!     event   = hub, control socket, clock, or the work's end
//!     record  = record.step(facts, event)         pure: crate::update
//!     store.save(record)                          before anything else happens because of it
//!     status  = project(record, live)             told to the hub, the socket and the service manager
//!     worker  = record.state.work()               stopped and begun anew if it is another work than before
//! }
//! ```
//!
//! It holds no rule about updates and touches no device: rules are `update`'s, devices are the adapters', which
//! [`Tools`] brings together. After a start nothing is special: the first event is [`Event::Started`].
//!
//! # If the record cannot be saved
//!
//! Nothing new is begun; the request is refused, or kept and tried again. In the middle of an update no further work
//! is begun until a later save succeeds; everybody is listened to and told meanwhile. Only on the way back from a
//! trial, or to its commit, it goes on: see
//! [`State::may_act_unsaved`](crate::update::State::may_act_unsaved).

mod announce;
mod hooked;
mod inbox;
mod keep;
mod link;
mod live;
mod requests;
mod rules;
mod settings;
mod start;
mod tools;
mod watchdog;
mod worker;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::boot::BootView;
use crate::control::server::Call;
use crate::events;
use crate::hooks::Hooks;
use crate::host::{Host, service};
use crate::hub::{Hub, Tuned};
use crate::image::RateLimit;
use crate::model::{BootId, Factory, Rules, Slot, Timestamp};
use crate::properties::Properties;
use crate::report::Dialect;
use crate::store::StateStore;
use crate::update::{Event, Facts, Record, State, Wish, Work};

use hooked::{Asked, Word};
use live::Live;
use start::{look_around, recover};
pub use tools::{FactoryProgram, Health, Tools};
use worker::{Finished, Worker};

/// How long a reboot that was asked for through the hub waits for the answer to arrive there.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long the work may take to stop when the daemon is stopped.
const STOP_LIMIT: Duration = Duration::from_secs(4);
/// How often a save that failed is tried again, and a request that could not be begun because of it.
const SAVE_PAUSE: Duration = Duration::from_secs(10);
/// How long a work that failed and is called for again has to wait.
const WORK_PAUSE: Duration = Duration::from_secs(10);
/// How often progress is looked at while there is some.
const TICK: Duration = Duration::from_secs(1);
/// How often a gate is looked at.
const GATE_TICK: Duration = Duration::from_secs(20);

/// What the engine is made of. `main` chooses which.
pub struct Parts {
    /// Keeps the record.
    pub store: Box<dyn StateStore>,
    /// Does the works.
    pub tools: Tools,
    /// The machine.
    pub host: Host,
    /// The hub, if this device has an identity for one.
    pub hub: Option<Hub>,
    /// What it is called.
    pub hub_name: String,
    /// What the control socket hands on.
    pub control: mpsc::Receiver<Call>,
    /// Where the status is shown.
    pub status: watch::Sender<Value>,
    /// Whether the hub is connected, for the health check.
    pub reached: watch::Sender<bool>,
    /// How to behave, as configured. The hub may change it.
    pub rules: Rules,
    /// How much is written to the journal.
    pub verbosity: events::Verbosity,
    /// What a factory reset is on this device.
    pub factory: Factory,
    /// Whether a local request may leave open what the bytes must be.
    pub allow_undigested: bool,
    /// The shapes of the reported properties.
    pub dialects: Vec<Dialect>,
    /// What can be read and set of the device.
    pub properties: Properties,
    /// Whether lifecycle events are sent as telemetry.
    pub telemetry: bool,
}

/// The loop and all it knows.
pub struct Engine {
    record: Record,
    facts: Facts,
    view: Option<BootView>,
    store: Option<Box<dyn StateStore>>,
    worker: Worker,
    host: Host,
    hub: Option<Hub>,
    hub_name: String,
    hub_lines: events::HubLines,
    control: mpsc::Receiver<Call>,
    reached: watch::Sender<bool>,
    /// The rules that hold.
    rules: Rules,
    /// Those of the configuration.
    configured: Rules,
    rate: RateLimit,
    verbosity: events::Verbosity,
    /// What is wrong with the time zone, as the status says.
    zone_warning: Option<String>,
    allow_undigested: bool,
    properties: Properties,
    /// What the hub asked to be different, as it was last heard.
    tuned: Option<Tuned>,
    telemetry: bool,
    live: Live,
    /// A wish that could not be begun because the record could not be saved.
    postponed: Option<Wish>,
    /// Where the download went on that was last told of.
    resumed_at: u64,
    /// Why the bootloader could not be asked at the start, until it can.
    unreadable: Option<String>,
    /// The last save failed: what is stored may be older than the record.
    unsaved: bool,
    /// This work failed and is not begun again before then, or a broken device would spin.
    resting: Option<(worker::Key, Instant)>,
    hooks: Hooks,
    /// What the hooks of the gate said that is waited at.
    asked: Option<Asked>,
    /// Hooks that failed and are shown.
    complaints: Vec<String>,
}

impl Engine {
    /// Reads what became of the record and looks at the bootloader, blocking. `boot` and `booted` come from the
    /// kernel.
    pub fn new(parts: Parts, boot: BootId, booted: Slot) -> Self {
        let Parts {
            mut store,
            mut tools,
            host,
            hub,
            hub_name,
            control,
            status,
            reached,
            rules,
            verbosity,
            factory,
            allow_undigested,
            dialects,
            properties,
            telemetry,
        } = parts;
        let mut live = Live::new(status, dialects);
        let record = recover(&mut *store, booted, &mut live);
        let (view, unreadable) = match tools.look(&record.state, booted) {
            Ok(view) => (Some(view), None),
            Err(error) => (None, Some(error.to_string())),
        };
        live.warnings.extend(unreadable.clone());
        let facts = look_around(&host, view.as_ref(), boot, booted, factory);
        let hooks = tools.hooks.clone();
        let mut engine = Self {
            record,
            facts,
            view: None,
            store: Some(store),
            worker: Worker::new(tools),
            host,
            hub,
            hub_name,
            hub_lines: events::HubLines::default(),
            control,
            reached,
            configured: rules.clone(),
            rules,
            rate: RateLimit::default(),
            verbosity,
            zone_warning: None,
            allow_undigested,
            properties,
            tuned: None,
            telemetry,
            live,
            postponed: None,
            resumed_at: 0,
            unreadable,
            unsaved: false,
            resting: None,
            hooks,
            asked: None,
            complaints: Vec::new(),
        };
        engine.see(view);
        engine.retune();
        // Whoever asks from now on gets a true answer, if perhaps one step old.
        engine.live.tell(&engine.record, &engine.facts, None, None);
        engine
    }

    /// Turns until `stop` is ready; then the work is stopped where it is, within seconds, to be resumed.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let alive = watchdog::stay_alive();
        tokio::pin!(stop, alive);
        events::daemon_started(&self.about(), env!("CARGO_PKG_VERSION"));
        tokio::select! {
            _ = self.take(Event::Started) => {}
            () = &mut stop => return,
            never = &mut alive => match never {},
        }
        service::ready();
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                never = &mut alive => match never {},
                () = self.turn() => {}
            }
        }
        service::stopping();
        self.worker.abandon(STOP_LIMIT).await;
        events::daemon_stopping(&self.about());
        if let Some(hub) = &self.hub {
            let _ = tokio::time::timeout(Duration::from_millis(500), hub.commands.shut_down()).await;
        }
    }

    /// One turn: see to the work, tell, and wait for one thing to happen. May be dropped while it waits.
    async fn turn(&mut self) {
        if self.live.hub.connected && self.record.state.job().is_some_and(|job| !job.hub_reached) {
            // Here and nowhere else: an update may also begin because another one ended.
            let _ = self.take(Event::HubReached).await;
        }
        self.consent_by_twin().await;
        self.see_to_work().await;
        self.acknowledge();
        let commands = self.hub.as_ref().map(|hub| hub.commands.clone());
        self.live.tell(&self.record, &self.facts, self.worker.snapshot(), commands.as_ref());
        let pause = self.pause();
        tokio::select! {
            finished = self.worker.finished() => self.finish(finished).await,
            Some(event) = inbox::next_event(&mut self.hub) => self.hear(event).await,
            Some(call) = self.control.recv() => self.answer(call).await,
            () = tokio::time::sleep(pause) => self.tick().await,
        }
    }

    /// How long nothing may happen.
    fn pause(&self) -> Duration {
        const NOTHING_TO_WAIT_FOR: Duration = Duration::from_secs(3600);
        let own = match self.record.state.work() {
            Work::Download(_) | Work::Verify(_) => TICK,
            Work::Await(_) => GATE_TICK,
            Work::Rest
            | Work::Arm(_)
            | Work::Reboot
            | Work::CheckHealth
            | Work::Commit(_)
            | Work::Revert(_)
            | Work::Reset => NOTHING_TO_WAIT_FOR,
        };
        let save = (self.unsaved || self.postponed.is_some()).then_some(SAVE_PAUSE);
        let rest = self.resting.as_ref().map(|(_, until)| until.saturating_duration_since(Instant::now()));
        [save, rest, self.hooks_rest()].into_iter().flatten().fold(own, Duration::min)
    }

    /// The work that the state calls for, and no other, is being done when this returns.
    async fn see_to_work(&mut self) {
        loop {
            let work = self.record.state.work();
            let key = (self.record.state.job().map(|job| job.intent.clone()), work);
            if self.worker.key().is_some_and(|current| *current != key) {
                self.worker.stop().await;
            }
            if self.is_resting(&key) || self.unsaved && !self.record.state.may_act_unsaved() {
                return;
            }
            match work {
                // As long as the bootloader could not be asked, a trial that nobody knows may be running.
                Work::Rest if self.view.is_none() && self.worker.key().is_none() => {
                    return self.begin(key).await;
                }
                Work::Rest => return,
                Work::Await(stage) => {
                    if !self.wait_at_gate(stage, key).await {
                        return;
                    }
                }
                _ if self.worker.key().is_some() => return,
                Work::Download(_)
                | Work::Verify(_)
                | Work::Arm(_)
                | Work::Reboot
                | Work::CheckHealth
                | Work::Commit(_)
                | Work::Revert(_)
                | Work::Reset => return self.begin(key).await,
            }
        }
    }

    fn is_resting(&mut self, key: &worker::Key) -> bool {
        self.resting.take_if(|(resting, until)| resting != key || *until <= Instant::now());
        self.resting.is_some()
    }

    async fn finish(&mut self, finished: Finished) {
        let Finished { key, word, complaints, view } = finished;
        let is_first = self.view.is_none();
        self.see(view);
        self.complain(complaints);
        if is_first && self.view.is_some() && self.record.state == State::Idle {
            // What could not be seen at the start may call for something.
            let _ = self.take(Event::Started).await;
            return;
        }
        let event = match word {
            Word::Later(why) => return self.heard_at_gate(key, Some(why)),
            // The gate is looked at once more: it may have closed while they were asked.
            Word::Event(Event::Proceed) => return self.heard_at_gate(key, None),
            Word::Event(event) => event,
        };
        if event == Event::Done && matches!(self.record.state.work(), Work::Commit(_)) {
            events::slot_committed(&self.about());
        }
        let failed = matches!(event, Event::Failed(_));
        if let (State::Restarting { .. }, Event::Failed(why)) = (&self.record.state, &event) {
            tracing::warn!(%why, "the reboot that was asked for did not happen");
        }
        let before = self.record.state.work();
        // A work's word is never refused.
        let _ = self.take(event).await;
        if failed && before == self.record.state.work() {
            let job = self.record.state.job().map(|job| job.intent.clone());
            self.resting = Some(((job, before), Instant::now() + WORK_PAUSE));
        }
    }

    /// Notes what the bootloader says now.
    fn see(&mut self, view: Option<BootView>) {
        let Some(view) = view else { return };
        if let Some(unreadable) = self.unreadable.take() {
            self.live.warnings.remove(&unreadable);
        }
        (self.facts.default, self.facts.trial) = (Some(view.default), view.trial);
        if self.view.as_ref().is_none_or(|known| known.warnings != view.warnings) {
            for warning in &view.warnings {
                events::env_one_copy_bad(&self.about(), warning);
            }
        }
        let old = self.view.take().map(|view| view.warnings).unwrap_or_default();
        self.live.warnings.retain(|warning| !old.contains(warning));
        self.live.warnings.extend(view.warnings.iter().cloned());
        self.view = Some(view);
    }

    fn now(&self) -> Option<Timestamp> {
        self.host.wall_clock()
    }
}
