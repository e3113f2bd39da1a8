//! The whole engine on a simulated device: real works, real slot files, a record that can be refused, a bootloader
//! that really chooses, and a hub that is the test. Time stands still unless nothing else can happen.
#![allow(clippy::unwrap_used)]

mod boots;
mod faults;
mod held_up;
mod hooks;
mod keys;
mod overdue;
mod policy;
mod reload;
mod year;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::boot::fake::FakeBootloader;
use crate::control::Peer;
use crate::health::HubMode;
use crate::hooks::Hooks;
use crate::host::fake::Clocks;
use crate::hub::{self, Desired, HubEvent, Parsed, Port};
use crate::image::{self, Direct, Net};
use crate::model::{Answer, Artifact, BootId, Granted, Install, Location, Origin, Outcome, Request};
use crate::program::Runner;
use crate::properties;
use crate::slots::{self, SlotMap};
use crate::store::fake::FakeStore;
use crate::tls;
use crate::update::Phase;

/// What stays when the power goes.
struct Device {
    directory: tempfile::TempDir,
    store: FakeStore,
    rom: FakeBootloader,
    boots: u32,
    booted: Slot,
    rules: Rules,
    factory: Factory,
    signing: Option<Signing>,
    /// How long after a "not now" hooks are asked again.
    ask_again: Duration,
    /// What it tells the time by, if not by the clocks of the machine that the test runs on.
    clocks: Option<Clocks>,
    telemetry: bool,
}

/// One life of the daemon.
struct Daemon {
    status: watch::Receiver<Value>,
    control: mpsc::Sender<Call>,
    port: Port,
    stop: oneshot::Sender<()>,
    reload: oneshot::Sender<()>,
    engine: JoinHandle<Option<(Left, ())>>,
}

impl Device {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for slot in ["a", "b"] {
            fs::write(directory.path().join(slot), vec![0; 1 << 20]).unwrap();
        }
        fs::write(directory.path().join("a"), "factory".repeat(100_000)).unwrap();
        let (store, rom) = (FakeStore::default(), FakeBootloader::new(Slot::A, 2));
        let factory = Factory::default();
        let ask_again = Duration::from_secs(30);
        let (rules, signing) = (Rules::default(), None);
        Self {
            directory,
            store,
            rom,
            boots: 1,
            booted: Slot::A,
            rules,
            factory,
            signing,
            ask_again,
            clocks: None,
            telemetry: false,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A local image that says what it is.
    fn image(&self, name: &str) -> Artifact {
        let path = self.path(name);
        fs::write(&path, name.repeat(50_000 / name.len())).unwrap();
        Artifact { version: name.parse().ok(), location: Location::File(path), sha256: None, size: None }
    }

    fn desired(&self, name: &str) -> Install {
        Install::new(self.image(name), Origin::Desired, None)
    }

    fn request(&self, name: &str) -> Request {
        Request::Install(Box::new(Install::new(self.image(name), Origin::Local, None)))
    }

    fn start(&self) -> Daemon {
        self.start_after(None)
    }

    /// Another engine in the same process, under whatever the configuration is by now.
    async fn reload(&self, daemon: Daemon) -> Daemon {
        let _ = daemon.reload.send(());
        let (left, ()) = within(60, daemon.engine).await.unwrap().expect("it was not stopped");
        self.start_after(Some(left.carried))
    }

    fn start_after(&self, before: Option<Carried>) -> Daemon {
        let (hub, port) = hub::channels();
        let (control, calls) = mpsc::channel(8);
        let (shown, status) = watch::channel(Value::Null);
        let (reached, is_reached) = watch::channel(false);
        let mut host = Host::new(Some(self.directory.path().into()));
        if let Some(clocks) = &self.clocks {
            host = host.with_clocks(clocks.clone());
        }
        let tools = self.tools(host.clone(), is_reached);
        let parts = Parts {
            store: Box::new(self.store.clone()),
            tools,
            host,
            hub: Some(hub),
            control: calls,
            status: shown,
            reached,
            rules: self.rules.clone(),
            verbosity: events::Verbosity::default(),
            factory: self.factory.clone(),
            vouching: Vouching { signed: self.signing.is_some(), ..Vouching::default() },
            dialects: vec![Dialect::Firmware],
            properties: Properties::new(properties::Settings {
                root: self.directory.path().into(),
                state: self.directory.path().into(),
                directory: self.path("properties.d"),
                timeout: Duration::from_secs(10),
                runner: Runner::Direct,
            }),
            telemetry: self.telemetry,
            warnings: Vec::new(),
            before,
        };
        let engine = Engine::new(parts, BootId(self.boots.to_string()), self.booted);
        let (stop, stopped) = oneshot::channel::<()>();
        let (reload, reloaded) = oneshot::channel::<()>();
        let stop_wanted = async { drop(stopped.await) };
        let reload_wanted = async { drop(reloaded.await) };
        let engine = tokio::spawn(engine.run(|_| (), stop_wanted, reload_wanted));
        Daemon { status, control, port, stop, reload, engine }
    }

    /// What its works are done with.
    fn tools(&self, host: Host, reached: watch::Receiver<bool>) -> Tools {
        let image = image::Settings::default();
        let trust = tls::Trust::new(tls::Settings::default()).unwrap();
        let slots = slots::Settings { a: vec![self.path("a")], b: vec![self.path("b")], allow_files: true };
        let health = Health {
            deadline: Duration::from_secs(600),
            directory: self.path("health.d"),
            timeout: Duration::from_secs(10),
            hub: HubMode::Auto,
            reached,
            units: None,
        };
        Tools {
            signing: self.signing.clone(),
            bootloader: Box::new(self.rom.clone()),
            slots: SlotMap::new(slots),
            host,
            net: Net::new(Direct::new(trust, None, image.connect_timeout), Handle::current()).unwrap(),
            image,
            health,
            factory_program: Some(FactoryProgram {
                path: self.path("reset"),
                timeout: Duration::from_secs(10),
            }),
            runner: Runner::Direct,
            hooks: Hooks {
                directory: self.path("hooks.d"),
                timeout: Duration::from_secs(10),
                ask_again: self.ask_again,
                runner: Runner::Direct,
            },
            complaints: Vec::new(),
            state: self.directory.path().into(),
            verified: None,
        }
    }

    /// Waits for the reboot that was asked for, and plays it.
    async fn reboot(&mut self, daemon: Daemon) -> Daemon {
        self.rebooting().await;
        daemon.stop().await;
        self.power_cycle();
        self.start()
    }

    /// Waits for the reboot that was asked for. By the real clock: the test's stands still while a work goes on.
    async fn rebooting(&self) {
        self.reboot_requested().await;
        fs::remove_file(self.path("reboot-requested")).unwrap();
    }

    async fn reboot_requested(&self) {
        let request = self.path("reboot-requested");
        for _ in 0..10_000 {
            if request.exists() {
                return;
            }
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
        }
        panic!("no reboot was asked for");
    }

    fn power_cycle(&mut self) {
        self.boots += 1;
        self.booted = self.rom.next_boot(|_| true);
    }

    fn job(&self) -> Option<crate::update::Job> {
        self.store.record().and_then(|record| record.state.job().cloned())
    }
}

impl Daemon {
    async fn ask(&self, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        let peer = Peer { uid: 0, gid: 0, pid: None };
        self.control.send((request, peer, reply)).await.unwrap();
        within(60, answer).await.unwrap()
    }

    async fn tell(&self, event: HubEvent) {
        self.port.events.send(event).await.unwrap();
    }

    /// What the hub wants of `twinboot`, in this version of the desired section.
    async fn tune(&self, twinboot: Value, version: u64) {
        let wanted = Some(&twinboot).filter(|value| !value.is_null());
        self.tell(HubEvent::Tuned(hub::tuning::read(wanted, version))).await;
    }

    /// Waits until the reported document is as wanted.
    async fn reported(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let document = |slot: &hub::Slot| {
            slot.report.as_ref().map_or(Value::Null, |report| Value::Object(report.full.clone()))
        };
        let is = |slot: &hub::Slot| slot.report.is_some() && wanted(&document(slot));
        let found = tokio::time::timeout(Duration::from_secs(3600), self.port.reports.wait_for(is)).await;
        document(&found.expect("in time").unwrap())
    }

    async fn wish(&self, install: Install) {
        self.tell(HubEvent::Desired(Parsed { desired: Desired::Wish(install), unknown: vec![] })).await;
    }

    /// Waits until the status is as wanted.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = tokio::time::timeout(Duration::from_secs(3600), self.status.wait_for(&wanted)).await;
        let found = found.map(|found| found.unwrap().clone());
        found.unwrap_or_else(|_| panic!("still {:#}", *self.status.borrow()))
    }

    async fn until_phase(&mut self, phase: &str) -> Value {
        self.until(|status| status["phase"] == phase).await
    }

    async fn until_ended(&mut self) -> Value {
        self.until(|status| status["phase"] == "idle" && !status["last"].is_null()).await
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        assert!(within(5, self.engine).await.unwrap().is_none());
        drop(self.reload);
    }
}

async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), future).await.expect("in time")
}

#[tokio::test(start_paused = true)]
async fn an_update_goes_through_and_is_told_truly() {
    let mut device = Device::new();
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon = device.reboot(daemon).await;
    let status = daemon.until_ended().await;
    assert_eq!(device.booted, Slot::B);
    assert_eq!((status["last"]["outcome"].as_str(), status["trial"].as_str()), (Some("succeeded"), None));
    assert_eq!((device.rom.state().default, device.rom.state().trial), (Slot::B, None));
    let slot = fs::read(device.path("b")).unwrap();
    assert_eq!(slot[..50_000], fs::read(device.path("v2")).unwrap());
    // The hub says the same a hundred times.
    let saves = device.store.saves();
    for _ in 0..100 {
        daemon.wish(device.desired("v2")).await;
    }
    assert!(daemon.ask(Request::Cancel).await.is_ok());
    assert_eq!((device.store.saves(), device.boots), (saves, 2));
    daemon.stop().await;
}

/// A state disk that became read-only in the middle of an update: the daemon must start and answer all the same.
#[tokio::test(start_paused = true)]
async fn p085_an_unwritable_state_stops_the_update_and_not_the_daemon() {
    let mut device = Device::new();
    device.rules.consent = true;
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until_phase("staged").await;
    daemon.stop().await;
    device.store.refuse(true);
    daemon = device.start();
    let status = daemon.until(|status| !status["blocked"].is_null()).await;
    assert_eq!(status["blocked"]["failure"], "state.unwritable", "{status:#}");
    let writes = device.rom.writes();
    assert!(daemon.ask(Request::Apply).await.is_ok());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!((device.rom.writes(), device.rom.state().trial), (writes, None), "nothing new is begun");
    device.store.refuse(false);
    device.reboot(daemon).await.until_ended().await;
    assert_eq!(device.store.record().unwrap().last.unwrap().outcome, Outcome::Succeeded);
}

/// Whatever holds up an update, it can be cancelled; and who asks is told what a restart would forget.
#[tokio::test(start_paused = true)]
async fn an_update_that_cannot_be_saved_can_be_cancelled() {
    let mut device = Device::new();
    device.rules.consent = true;
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    daemon.until_phase("staged").await;
    device.store.refuse(true);
    let is_told = |answer: Answer| match answer {
        Ok(Granted::Begun(words) | Granted::Done(words)) => words.contains("a restart forgets it"),
        Ok(Granted::Status(_) | Granted::Properties(_)) | Err(_) => false,
    };
    assert!(is_told(daemon.ask(Request::Apply).await));
    assert!(is_told(daemon.ask(Request::Cancel).await));
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "request.cancelled");
    daemon.stop().await;
    daemon = device.start();
    daemon.until_phase("staged").await;
    device.store.refuse(false);
    assert!(!is_told(daemon.ask(Request::Cancel).await), "now it is saved");
    daemon.stop().await;
}

/// What ended while the state disk was broken must not be undone by the next start, once the disk is well again.
#[tokio::test(start_paused = true)]
async fn p085_an_end_that_could_not_be_saved_is_saved_later() {
    let mut device = Device::new();
    let mut daemon = device.start();
    daemon.wish(device.desired("v2")).await;
    device.rebooting().await;
    device.store.refuse(true);
    daemon.stop().await;
    device.power_cycle();
    daemon = device.start();
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["outcome"], "succeeded", "the trial ends with or without a disk");
    assert!(status["blocked"].is_null(), "what is over is not blocked");
    assert!(matches!(device.job().unwrap().phase, Phase::Rebooting { .. }));
    device.store.refuse(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(device.store.record().unwrap().last.unwrap().outcome, Outcome::Succeeded);
    daemon.stop().await;
}

/// A trial that no record explains is undone, even where no record can be kept.
#[tokio::test(start_paused = true)]
async fn p086_an_unknown_trial_is_undone_without_a_state_directory() {
    let mut device = Device::new();
    device.rom.set_trial(Slot::B);
    device.power_cycle();
    assert_eq!(device.booted, Slot::B);
    device.store.refuse(true);
    let daemon = device.start();
    let mut daemon = device.reboot(daemon).await;
    daemon.until_phase("idle").await;
    assert_eq!((device.booted, device.rom.state().trial), (Slot::A, None));
    daemon.stop().await;
}

/// The remedy for a broken state disk is often a reboot.
#[tokio::test(start_paused = true)]
async fn a_reboot_needs_no_state_directory() {
    let mut device = Device::new();
    device.store.refuse(true);
    let daemon = device.start();
    assert!(daemon.ask(Request::Reboot).await.is_ok());
    device.reboot(daemon).await.stop().await;
}

/// A request that was refused because nothing could be saved leaves no trace once the disk is well.
#[tokio::test(start_paused = true)]
async fn a_healed_state_directory_is_no_longer_told_as_broken() {
    let device = Device::new();
    device.store.refuse(true);
    let mut daemon = device.start();
    let answer = daemon.ask(device.request("v2")).await;
    assert_eq!(answer.unwrap_err().code, "state.unwritable");
    daemon.until(|status| !status["blocked"].is_null()).await;
    device.store.refuse(false);
    daemon.until(|status| status["blocked"].is_null()).await;
    assert_eq!(device.store.record().unwrap().state, State::Idle);
    daemon.stop().await;
}

/// An update that begins when another has ended was begun with the hub connected, too.
#[tokio::test(start_paused = true)]
async fn a_later_update_knows_that_the_hub_was_reached() {
    let mut device = Device::new();
    device.rules.consent = true;
    let mut daemon = device.start();
    daemon.tell(HubEvent::Connected).await;
    daemon.wish(device.desired("v2")).await;
    daemon.until_phase("staged").await;
    daemon.wish(device.desired("v3")).await;
    daemon.until(|status| status["phase"] == "staged" && status["version"]["pending"] == "v3").await;
    assert!(device.job().unwrap().hub_reached);
    daemon.stop().await;
}

/// Another program held the environment's lock at the start: the trial that nobody knows is found later.
#[tokio::test(start_paused = true)]
async fn p094_a_trial_is_found_once_the_bootloader_can_be_asked() {
    let mut device = Device::new();
    device.rom.set_trial(Slot::B);
    device.power_cycle();
    device.rom.set_unreadable(true);
    let mut daemon = device.start();
    let has_warnings = |status: &Value| !status["warnings"].as_array().unwrap().is_empty();
    daemon.until(has_warnings).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(has_warnings(&daemon.status.borrow()));
    device.rom.set_unreadable(false);
    daemon = device.reboot(daemon).await;
    daemon.until(|status| status["phase"] == "idle" && !has_warnings(status)).await;
    assert_eq!((device.booted, device.rom.state().trial), (Slot::A, None));
    daemon.stop().await;
}

/// Whatever is wished for in the meantime, and whoever makes the bootloader answer: the slot that would be written is the
/// only good one.
#[tokio::test(start_paused = true)]
async fn p094_a_wish_does_not_overtake_the_look_for_a_trial() {
    let mut device = Device::new();
    device.rom.set_trial(Slot::B);
    device.power_cycle();
    device.rom.set_unreadable(true);
    let mut daemon = device.start();
    device.hook("pre-download/10-busy", "exit 75");
    daemon.wish(device.desired("v2")).await;
    daemon.until(|status| status["gate"].as_str().is_some_and(|gate| gate.contains("10-busy"))).await;
    device.rom.set_unreadable(false);
    device.hook("pre-download/10-busy", "exit 0");
    tokio::time::sleep(device.ask_again).await;
    daemon = device.reboot(daemon).await;
    assert_eq!((device.booted, device.rom.state().trial), (Slot::A, None));
    let good = "factory".repeat(100_000);
    assert_eq!(fs::read(device.path("a")).unwrap(), good.as_bytes());
    // Now it has its turn.
    daemon = device.reboot(daemon).await;
    daemon.until(|status| status["last"]["version"] == "v2" && status["phase"] == "idle").await;
    assert_eq!((device.booted, device.rom.state().default), (Slot::B, Slot::B));
    daemon.stop().await;
    // The same where the bootloader's own files come late, which begins another engine.
    device = Device::new();
    device.rom.set_trial(Slot::B);
    device.power_cycle();
    device.rom.set_unreadable(true);
    let daemon = device.start();
    device.rom.set_unreadable(false);
    let daemon = device.reload(daemon).await;
    let daemon = device.reboot(daemon).await;
    assert_eq!((device.booted, device.rom.state().trial), (Slot::A, None));
    daemon.stop().await;
}

/// A bootloader that cannot be asked is no reason to stop answering, and nothing is begun with it.
#[tokio::test(start_paused = true)]
async fn p093_without_a_bootloader_updates_fail_with_the_reason() {
    let device = Device::new();
    device.rom.set_unreadable(true);
    let mut daemon = device.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let install = daemon.ask(device.request("v2"));
    let (answer, ()) = tokio::join!(install, async {
        // The works' own pauses: time does not pass by itself while a work goes on.
        for _ in 0..100 {
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(2))).await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    });
    assert!(answer.is_ok(), "{answer:?}");
    let status = daemon.until_ended().await;
    assert_eq!(status["last"]["code"], "boot.unreadable", "{status:#}");
    assert_eq!(fs::read(device.path("b")).unwrap(), vec![0; 1 << 20], "nothing was written");
    daemon.stop().await;
}

/// The hub's word on settings: in force at once, acknowledged, and in force after a restart without the hub.
#[tokio::test(start_paused = true)]
async fn settings_of_the_hub_hold_over_a_restart_and_end_with_it() {
    let device = Device::new();
    let mut daemon = device.start();
    daemon.tune(json!({"consentRequired": true, "window": "nonsense"}), 5).await;
    daemon.wish(device.desired("v2")).await;
    daemon.until_phase("staged").await;
    let reported = daemon.reported(|reported| reported.get("twinboot").is_some()).await;
    let words = "must be two different times of day such as \"02:00-04:30\"";
    let wanted = json!({
        "consentRequired": {"value": true, "ac": 200, "av": 5, "ad": "in force"},
        "window": {"value": "none", "ac": 400, "av": 5, "ad": words},
    });
    assert_eq!(reported["twinboot"], wanted);
    daemon.stop().await;
    daemon = device.start();
    let status = daemon.until(|status| !status["gate"].is_null()).await;
    assert_eq!(status["phase"], "staged", "without a word of the hub");
    assert!(daemon.reported(|_| true).await.get("twinboot").is_none(), "nor is one acknowledged");
    daemon.tune(Value::Null, 6).await;
    device.rebooting().await;
    let reported = daemon.reported(|reported| reported.get("twinboot").is_some()).await;
    assert_eq!(reported["twinboot"], Value::Null, "deleted there, deleted here");
    daemon.stop().await;
}

/// Consent in the twin names its update, however it is named, and may come before it.
#[tokio::test(start_paused = true)]
async fn consent_by_twin_names_the_update() {
    let mut device = Device::new();
    device.rules.consent = true;
    let wish = |device: &Device| Install::new(device.image("v2"), Origin::Desired, Some("roll-out 7"));
    let id = wish(&device).id.0;
    for (name, before) in [("v2", false), ("roll-out 7", false), (id.as_str(), true)] {
        let device = Device { rules: device.rules.clone(), ..Device::new() };
        // The image lies elsewhere for each, and so does not count for the id.
        let wish = Install { id: crate::model::UpdateId(id.clone()), ..wish(&device) };
        let mut daemon = device.start();
        if before {
            daemon.tune(json!({ "consent": name }), 1).await;
            let reported = daemon.reported(|reported| reported.get("twinboot").is_some()).await;
            assert_eq!(reported["twinboot"]["consent"]["ac"], 202);
            daemon.wish(wish).await;
        } else {
            daemon.wish(wish).await;
            daemon.until_phase("staged").await;
            for other in ["v3", "roll-out 8", "0123456789abcdef"] {
                daemon.tune(json!({ "consent": other }), 1).await;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(daemon.status.borrow()["phase"], "staged", "another's consent");
            daemon.tune(json!({ "consent": name }), 2).await;
        }
        device.rebooting().await;
        let job = device.job().unwrap();
        assert_eq!(job.consent.unwrap().by, Origin::Desired, "{name}");
        let reported = daemon.reported(|reported| reported["twinboot"]["consent"]["ac"] == 200).await;
        assert_eq!(reported["twinboot"]["consent"]["value"], name);
        daemon.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn properties_are_told_and_every_refusal_has_its_kind() {
    let device = Device::new();
    let daemon = device.start();
    let all = daemon.ask(Request::ReadProperties(vec!["slots".into(), "uptime".into()])).await.unwrap();
    let crate::model::Granted::Properties(all) = all else { panic!("{all:?}") };
    assert_eq!((&all["slots"]["booted"], &all["slots"]["default"]), (&json!("a"), &json!("a")));
    assert!(all["uptime"].is_u64());
    for (request, status, code) in [
        (Request::Apply, 412, "request.nothing-staged"),
        (Request::Confirm, 412, "request.not-on-trial"),
        (Request::Rollback, 412, "request.no-previous"),
        (Request::Retry, 412, "request.nothing-to-retry"),
        (Request::FactoryReset, 501, "request.no-factory-reset"),
        (Request::ReadProperties(vec!["colour".into()]), 404, "property.unknown"),
        (Request::WriteProperties([("uptime".to_owned(), json!(1))].into()), 409, "property.read-only"),
    ] {
        let refusal = daemon.ask(request).await.unwrap_err();
        assert_eq!((refusal.kind.status(), refusal.code.as_str()), (status, code));
        assert!(!refusal.words.is_empty() && !refusal.remedy.is_empty() || code == "property.read-only");
    }
    for _ in 0..2 {
        assert_eq!(
            daemon.ask(Request::Cancel).await,
            Ok(crate::model::Granted::Done("No update is under way".into()))
        );
    }
    daemon.stop().await;
}
