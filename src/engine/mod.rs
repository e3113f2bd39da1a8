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
//! [`Tools`] brings together. After a start nothing is special: the first event is [`Event::Started`]. An engine may be
//! left for another one in the same process, under another configuration: see [`Left`] and `leave.rs`.
//!
//! # If the record cannot be saved
//!
//! Nothing new is begun; the request is refused, or kept and tried again. In the middle of an update no further work
//! is begun until a later save succeeds; everybody is listened to and told meanwhile, also that a restart forgets what
//! was asked for then. Only on the way back from a trial, or to its commit, it goes on: see
//! [`State::may_act_unsaved`](crate::update::State::may_act_unsaved).

mod announce;
mod download;
mod facts;
mod hooked;
mod inbox;
mod keep;
mod leave;
mod link;
mod live;
mod requests;
mod rest;
mod rules;
mod settings;
mod target;
mod tools;
mod trust;
mod units;
mod worker;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::boot::BootView;
use crate::control::server::Call;
use crate::events;
use crate::host::Host;
use crate::hub::{Hub, Tuned};
use crate::image::RateLimit;
use crate::model::{BootId, Cost, Factory, IntentId, Rules, Slot, Timestamp, Vouching};
use crate::properties::Properties;
use crate::report::Dialect;
use crate::store::{self, StateStore};
use crate::update::{Event, Facts, Record, State, Wish, Work};

use hooked::{Hooked, Word};
use leave::Beginning;
pub use leave::{Carried, Left};
use live::Live;
pub use tools::{FactoryProgram, Health, Tools};
pub use trust::Signing;
use worker::{Finished, Worker};

/// How long a reboot that was asked for through the hub waits for the answer to arrive there.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often a save that failed is tried again, and a request that could not be begun because of it.
const SAVE_PAUSE: Duration = Duration::from_secs(10);
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
    /// What must vouch for an image that is asked for on this device.
    pub vouching: Vouching,
    /// The shapes of the reported properties.
    pub dialects: Vec<Dialect>,
    /// What can be read and set of the device.
    pub properties: Properties,
    /// Whether lifecycle events are sent as telemetry.
    pub telemetry: bool,
    /// What is missing on this machine, for whoever looks at the status.
    pub warnings: Vec<String>,
    /// What the engine before this one in this process was about; `None` in the first.
    pub before: Option<Carried>,
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
    /// What it is called, once that is known.
    hub_name: String,
    hub_lines: events::HubLines,
    repeats: events::Repeats,
    control: mpsc::Receiver<Call>,
    reached: watch::Sender<bool>,
    /// The rules that hold.
    rules: Rules,
    /// Those of the configuration.
    configured: Rules,
    rate: RateLimit,
    /// How many bytes one update may fetch without being asked; 0 is no limit.
    data_cap: u64,
    verbosity: events::Verbosity,
    /// What is wrong with the time zone, as the status says.
    zone_warning: Option<String>,
    vouching: Vouching,
    properties: Properties,
    /// What the hub asked to be different, as it was last heard.
    tuned: Option<Tuned>,
    telemetry: bool,
    live: Live,
    /// What the first step is about.
    first: Event,
    /// It is the first engine of this process.
    is_first: bool,
    /// A wish that could not be begun because the record could not be saved.
    postponed: Option<Wish>,
    /// Where the download went on that was last told of.
    resumed_at: u64,
    /// Why the bootloader could not be asked at the start, until it can.
    unreadable: Option<String>,
    /// The last save failed: what is stored may be older than the record.
    unsaved: bool,
    /// The state directory.
    state: PathBuf,
    /// What it costs that was told last, and of which update.
    planned: Option<(IntentId, Cost)>,
    resting: rest::Resting,
    hooked: Hooked,
}

impl Engine {
    /// Reads what became of the record and looks at the bootloader, blocking. `boot` and `booted` come from the
    /// kernel.
    #[allow(clippy::too_many_lines, reason = "it puts together what there is, and decides nothing")]
    pub fn new(parts: Parts, boot: BootId, booted: Slot) -> Self {
        let Parts {
            mut store,
            mut tools,
            host,
            hub,
            control,
            status,
            reached,
            rules,
            verbosity,
            factory,
            vouching,
            dialects,
            properties,
            telemetry,
            warnings,
            before,
        } = parts;
        let mut live = Live::new(status, dialects, warnings, &tools);
        let Beginning { record, unsaved, first, is_first } =
            Beginning::new(before, &mut *store, booted, &mut live);
        let is_spoiled = record.spoiled == Some(!booted);
        let view = tools.look(record.state.job(), booted, is_spoiled).map_err(|error| error.to_string());
        let unreadable = view.as_ref().err().cloned();
        live.warnings.extend(unreadable.clone());
        let distrust = tools.signing.as_ref().and_then(|_| trust::load(&tools.state).1);
        if let Some(lost) = &distrust {
            events::trust_damaged(lost);
        }
        live.warnings.extend(distrust);
        let mut facts = facts::look_around(&host, view.as_ref().ok(), boot, booted, factory);
        let state = tools.state.clone();
        if is_first {
            facts.overdue = store::overdue::find(&state);
        }
        let hooked = Hooked::new(tools.hooks.clone());
        let data_cap = tools.image.data_cap;
        let mut engine = Self {
            record,
            facts,
            view: None,
            store: Some(store),
            worker: Worker::new(tools),
            host,
            hub,
            hub_name: String::new(),
            hub_lines: events::HubLines::default(),
            repeats: events::Repeats::default(),
            control,
            reached,
            configured: rules.clone(),
            rules,
            rate: live.limit.clone(),
            data_cap,
            verbosity,
            zone_warning: None,
            vouching,
            properties,
            tuned: None,
            telemetry,
            live,
            first,
            is_first,
            postponed: None,
            resumed_at: 0,
            unreadable,
            unsaved,
            state,
            planned: None,
            resting: rest::Resting::default(),
            hooked,
        };
        engine.awake(view.ok());
        engine
    }

    /// Turns until `stop` is ready: then the work is stopped where it is, within seconds, to be resumed by another
    /// process. Or until `reload` is ready, which is waited for only between two turns: then the work is stopped
    /// altogether, and what an engine after this one needs is given back, with what `reload` brought.
    ///
    /// `begun` is called once, as soon as what was going on goes on.
    pub async fn run<T>(
        mut self,
        begun: impl FnOnce(&events::About<'_>),
        stop: impl Future<Output = ()>,
        reload: impl Future<Output = T>,
    ) -> Option<(Left, T)> {
        tokio::pin!(stop, reload);
        if self.is_first {
            events::daemon_started(&self.about(), env!("CARGO_PKG_VERSION"));
        }
        tokio::select! {
            () = self.begin_with() => {}
            () = &mut stop => return None,
        }
        begun(&self.about());
        let reloaded = loop {
            tokio::select! {
                biased;
                () = &mut stop => break None,
                reloaded = self.turn(reload.as_mut()) => if reloaded.is_some() { break reloaded },
            }
        };
        if let Some(reloaded) = reloaded {
            tokio::select! {
                left = self.leave() => return Some((left, reloaded)),
                () = &mut stop => return None,
            }
        }
        self.stop().await;
        None
    }

    /// The first step. What an earlier engine could not save is saved now, or the works would wait for that.
    async fn begin_with(&mut self) {
        if self.unsaved {
            self.tick().await;
        }
        let first = if self.rests_where_it_was() { Event::Reloaded } else { self.first.clone() };
        let _ = self.take(first).await;
        self.forget_overdue().await;
    }

    /// One turn: see to the work, tell, and wait for one thing to happen. May be dropped while it waits. The reload,
    /// if that is what happened.
    async fn turn<T>(&mut self, reload: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        self.heed_the_world().await;
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
            reloaded = reload => return Some(reloaded),
            () = tokio::time::sleep(pause) => self.tick().await,
        }
        None
    }

    /// The work that the state calls for, and no other, is being done when this returns.
    async fn see_to_work(&mut self) {
        loop {
            let work = self.record.state.work();
            let key = (self.record.state.job().map(|job| job.intent.clone()), work);
            if self.worker.key().is_some_and(|current| *current != key) {
                self.worker.stop().await;
            }
            if self.is_resting(&key) || self.is_held_up() {
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

    async fn finish(&mut self, finished: Finished) {
        let Finished { key, word, complaints, view, plan } = finished;
        let is_first = self.see(view);
        self.complain(complaints);
        self.announce_cost(plan);
        let is_open = self.record.state == State::Idle || self.record.is_on_unknown_trial(&self.facts);
        if is_first && is_open {
            // What could not be seen at the start may call for something.
            let _ = self.take(Event::Started).await;
            return;
        }
        let event = match word {
            Word::Later(why) => return self.heard_at_gate(key, Some(why)),
            // The gate is looked at once more: somebody may have closed it while they were asked.
            Word::Event(Event::Proceed) => return self.heard_at_gate(key, None),
            Word::Event(event) => event,
        };
        if event == Event::Done && matches!(self.record.state.work(), Work::Commit(_)) {
            events::slot_committed(&self.about());
        }
        let failed = if let Event::Failed(why) = &event { Some(why.clone()) } else { None };
        let before = self.record.state.work();
        let is_restart = matches!(self.record.state, State::Restarting { .. });
        // A work's word is never refused.
        let _ = self.take(event).await;
        let Some(why) = failed else { return };
        let holds = before == self.record.state.work();
        if (holds && before != Work::Rest) || is_restart {
            self.repeat(|repeats, now, about| repeats.work_failed(now, about, &why));
        }
        if holds {
            if before == Work::Reboot && self.live.blocked.is_none() {
                self.live.blocked = Some(why);
            }
            self.rest(before);
        }
    }

    fn now(&self) -> Option<Timestamp> {
        self.host.wall_clock()
    }
}
