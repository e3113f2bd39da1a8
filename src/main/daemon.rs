//! The life of the daemon: wait until there is something to work with, work, and begin anew under another configuration
//! whenever somebody asks for that. It ends only when it is told to.
//!
//! ```text
//! read the configuration ── broken, or what it is about is missing ──▶ wait: say so, look again
//!          │  ▲                                                                   │
//!          ▼  └───────────────────────────────────────────────────────────────────┘
//!    assemble an engine, and let it turn ── reload, and the new configuration is good ──▶ assemble the next one
//!          │                             └─ and it is not: say so; what is in force stays
//!          ▼
//!        stop
//! ```
//!
//! The control socket, the channel to the engine and the status outlive engines, so whoever asks or watches does not
//! notice when one takes the place of another. What an engine is about goes with them ([`Left`]): nothing is fetched
//! twice, no step is paid for. The hub's session is ended in an orderly way and begun anew.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use twinboot::cli::Launch;
use twinboot::config::{self, Config};
use twinboot::control::server::{Call, Wiring};
use twinboot::engine::{Carried, Left};
use twinboot::events;
use twinboot::host::{self, Host, service};
use twinboot::model::{Granted, Kind, Refusal};
use twinboot::report::Waiting;

use crate::assemble::{Assembled, Inlet, Journal, Lack, Ready};
use crate::door::Door;
use crate::orders::{Asker, Reloads, Stop};
use crate::programs::Runners;
use crate::settings::{self, Keys};
use crate::{overdue, stranded};

/// How often what is missing is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long the hub's session may take to say good-bye when another one takes its place, and when the process ends.
const LAST_WORDS: [Duration; 2] = [Duration::from_secs(3), Duration::from_millis(500)];

/// Runs until the service manager stops it.
pub(crate) fn run(launch: Launch) -> ExitCode {
    let verbosity = events::init(events::journal_is_connected(), launch.verbose);
    if let Err(error) = host::disable_core_dumps() {
        tracing::warn!(%error, "core dumps of this process, which holds the device's key, could not be forbidden");
    }
    match live(&launch, Journal { verbosity, verbose: launch.verbose }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            events::daemon_failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What it needs is a thread and three signals; everything else may be missing.
fn live(launch: &Launch, journal: Journal) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let (engine, control) = mpsc::channel(8);
        let (keeper, reloads) = mpsc::channel(8);
        let (status, shown) = watch::channel(Value::Null);
        let (reloads, stop) = (Reloads::new(reloads)?, Stop::new()?);
        let door = Door::new(Wiring { engine, keeper, status: shown });
        let (lacking, repeats) = (Vec::new(), events::Repeats::default());
        let runners = Runners::default();
        let daemon = Daemon { launch, journal, door, reloads, stop, status, runners, lacking, repeats };
        tokio::select! {
            () = daemon.live(control) => Ok(()),
            never = service::stay_alive() => match never {},
        }
    });
    // Dropping it would wait for ever for a work that is stuck in a slow device. Every work may be cut off anywhere.
    runtime.shutdown_background();
    ended
}

/// What outlives engines.
struct Daemon<'a> {
    launch: &'a Launch,
    journal: Journal,
    door: Door,
    reloads: Reloads,
    stop: Stop,
    status: watch::Sender<Value>,
    runners: Runners,
    /// What was told to be missing, and can be done without.
    lacking: Vec<Waiting>,
    repeats: events::Repeats,
}

/// Why an engine begins.
enum Cause {
    /// The process started, or what was missing is there.
    Start,
    /// Somebody asked for the configuration to be read again.
    Asked(Asker),
}

impl Daemon<'_> {
    async fn live(mut self, control: mpsc::Receiver<Call>) {
        let mut inlet = self.inlet(control, None);
        let Some((mut ready, mut cause)) = self.wait(&mut inlet.control).await else { return };
        events::config_loaded(&self.launch.config, ready.config.values_set());
        loop {
            let Some((left, next)) = self.work(ready, cause, inlet).await else { return };
            inlet = self.inlet(left.control, Some(left.carried));
            (ready, cause) = next;
        }
    }

    fn inlet(&self, control: mpsc::Receiver<Call>, before: Option<Carried>) -> Inlet {
        Inlet { control, status: self.status.clone(), before, runners: self.runners.clone() }
    }

    /// Waits until all is there that nothing can be done without, which most often it is; `None` if it is to stop.
    async fn wait(&mut self, control: &mut mpsc::Receiver<Call>) -> Option<(Ready, Cause)> {
        let (mut cause, mut told) = (Cause::Start, None);
        let mut guard = stranded::Guard::default();
        loop {
            let waiting = match read(self.launch) {
                Ok(ready) => return Some((ready, cause)),
                Err(waiting) => waiting,
            };
            let understood = Config::understood(&self.launch.config);
            self.door.fit(&understood.control);
            if told.as_ref() != Some(&waiting) {
                self.repeats.waiting(Host::new(None).since_boot(), &waiting.what, &waiting.remedy);
                self.status.send_replace(waiting.status());
                service::status(&waiting.line());
                told = Some(waiting.clone());
            }
            service::ready();
            cause.refuse(&waiting);
            if let Some(slot) = guard.due(&understood) {
                events::trial_stranded(&waiting.what);
                let host = Host::new(understood.simulator.root.clone());
                overdue::leave(&understood, &host, slot, waiting.what.clone()).await;
                if let Err(error) = host.reboot(None).await {
                    tracing::warn!(%error, "the reboot was refused");
                }
            }
            cause = self.next_look(control, &waiting).await?;
        }
    }

    /// Waits for the moment to look again, and tells whoever asks for something meanwhile why it cannot be.
    async fn next_look(&mut self, control: &mut mpsc::Receiver<Call>, waiting: &Waiting) -> Option<Cause> {
        let again = tokio::time::sleep(LOOK_AGAIN);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = self.stop.wanted() => {
                    service::stopping();
                    events::daemon_stopping(&events::About::default());
                    return None;
                }
                asker = self.reloads.next() => {
                    service::reloading();
                    return Some(Cause::Asked(asker));
                }
                Some((_request, _peer, reply)) = control.recv() => drop(reply.send(Err(refusal("control.waiting", waiting)))),
                () = &mut again => return Some(Cause::Start),
            }
        }
    }

    /// Lets an engine turn until there is a reason to begin another one; `None` if it is to stop.
    async fn work(&mut self, ready: Ready, cause: Cause, inlet: Inlet) -> Option<(Left, (Ready, Cause))> {
        let (config, keys) = (ready.config.clone(), ready.keys().clone());
        self.door.fit(&config.control);
        if inlet.before.is_some() {
            ready.refresh().await;
        }
        let Assembled { engine, session, lacks } = ready.assemble(inlet, &self.journal);
        self.tell_of(&lacks);
        let begun = |about: &events::About<'_>| {
            service::ready();
            cause.grant(about, &config);
        };
        let next = next(&mut self.reloads, &mut self.repeats, self.launch, (&config, &keys), &lacks);
        let engine = engine.run(begun, self.stop.wanted(), next);
        let session = session.run();
        tokio::pin!(engine, session);
        let mut is_over = false;
        let left = loop {
            tokio::select! {
                left = &mut engine => break left,
                () = &mut session, if !is_over => is_over = true,
            }
        };
        if !is_over {
            let limit = if left.is_some() { LAST_WORDS[0] } else { LAST_WORDS[1] };
            let _ = tokio::time::timeout(limit, session).await;
        }
        left
    }

    /// Tells what is missing, each as long as it is so once.
    fn tell_of(&mut self, lacks: &[Lack]) {
        let told = std::mem::replace(
            &mut self.lacking,
            lacks.iter().filter(|lack| lack.is_ours_to_tell()).map(|lack| lack.what.clone()).collect(),
        );
        for what in self.lacking.iter().filter(|what| !told.contains(what)) {
            events::lacking(&what.what, &what.remedy);
        }
    }
}

/// Waits for a reason to begin another engine. A configuration that cannot be used is none: that is told, and what is
/// in force stays.
async fn next(
    reloads: &mut Reloads,
    repeats: &mut events::Repeats,
    launch: &Launch,
    (config, keys): (&Config, &Keys),
    lacks: &[Lack],
) -> (Ready, Cause) {
    loop {
        tokio::select! {
            asker = reloads.next() => {
                service::reloading();
                match read(launch).and_then(|ready| keeps_keys(ready, keys)) {
                    Ok(ready) => return (ready, Cause::Asked(asker)),
                    Err(waiting) => {
                        repeats.reload_refused(Host::new(None).since_boot(), &waiting.what, &waiting.remedy);
                        service::ready();
                        asker.tell(Err(refusal("reload.refused", &waiting)));
                    }
                }
            }
            // By the configuration that is in force: the files may be in the middle of being edited.
            () = healed(lacks) => {
                let ready = Ready::look(config.clone(), launch.net.as_deref());
                let mut tell = |waiting: &Waiting| {
                    repeats.waiting(Host::new(None).since_boot(), &waiting.what, &waiting.remedy);
                };
                match ready.map(|ready| keeps_or_holds_keys(ready, keys)) {
                    Ok((ready, refused)) => {
                        if let Some(waiting) = &refused {
                            tell(waiting);
                        }
                        return (ready, Cause::Start);
                    }
                    Err(waiting) => tell(&waiting),
                }
            }
        }
    }
}

/// Ready when something is there that was missing. Where nothing is, it never is, and wakes nobody to find out.
async fn healed(lacks: &[Lack]) {
    if lacks.is_empty() {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        if lacks.iter().any(Lack::is_healed) {
            return;
        }
    }
}

/// The configuration, and what it is about.
fn read(launch: &Launch) -> Result<Ready, Waiting> {
    let config = Config::load(&launch.config).map_err(|error| broken(&error))?;
    Ready::look(config, launch.net.as_deref())
}

/// What somebody asks for, if its root keys may take the place of `old`.
fn keeps_keys(ready: Ready, old: &Keys) -> Result<Ready, Waiting> {
    settings::may_follow(ready.keys(), old, true).map(|()| ready)
}

/// What nobody asked for: where its root keys may not take the place of `old`, those stay in force, and what else is there by
/// now does not wait for them. Why they may not, then.
fn keeps_or_holds_keys(ready: Ready, old: &Keys) -> (Ready, Option<Waiting>) {
    match settings::may_follow(ready.keys(), old, false) {
        Ok(()) => (ready, None),
        Err(waiting) => (ready.with_keys(old.clone()), Some(waiting)),
    }
}

fn broken(error: &config::Error) -> Waiting {
    let mut problems = error.problems().iter();
    let first = problems.next().map_or_else(|| error.to_string(), ToString::to_string);
    let what = match problems.len() {
        0 => first,
        n => format!("{first} (and {n} more)"),
    };
    Waiting { what, remedy: "correct it; `twinboot check-config` shows all that is wrong".into() }
}

fn refusal(code: &str, waiting: &Waiting) -> Refusal {
    Refusal::new(Kind::Unready, code, waiting.what.clone()).remedy(waiting.remedy.clone())
}

impl Cause {
    /// The configuration is in force.
    fn grant(self, about: &events::About<'_>, config: &Config) {
        match self {
            Self::Start => {}
            Self::Asked(asker) => {
                events::reloaded(about, &config.path, config.values_set());
                let update = about.update.map(|_| format!("; the {about} goes on")).unwrap_or_default();
                let words = format!("Configuration reloaded: {} values set{update}", config.values_set());
                asker.tell(Ok(Granted::Done(words)));
            }
        }
    }

    /// It cannot be used.
    fn refuse(self, waiting: &Waiting) {
        match self {
            Self::Start => {}
            Self::Asked(asker) => asker.tell(Err(refusal("reload.refused", waiting))),
        }
    }
}
