//! The world of one gateway: its power, its clocks, its hub, and what goes wrong with them. Time passes by itself while the
//! daemon rests or waits at a gate. While a work goes on, whose thread real time passes for, it is moved on in steps.

use std::collections::VecDeque;
use std::time::SystemTime;

use tokio::time::{Instant, advance, sleep_until};

use super::super::*;
use super::hub::told;
use super::image::{Image, Kind, held};
use super::judge::Judge;
use super::trouble::{Due, Trouble};
use super::watch::{Saved, Watch, name};
use crate::hub::tests::dice::Dice;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// How long a work is waited for, in milliseconds, before time passes for it.
const PATIENCE: u32 = 20;

pub(super) struct World {
    pub device: Device,
    pub daemon: Option<Daemon>,
    pub clocks: Clocks,
    pub watch: Watch,
    pub dice: Dice,
    seed: u64,
    pub judge: Judge,
    /// What was saved last.
    pub record: Record,
    /// What is to go wrong, and in which phase.
    pub troubles: VecDeque<(&'static str, Trouble)>,
    pub agenda: Vec<(Instant, Due)>,
    /// What the hub wants.
    pub desired: Desired,
    pub settings: Value,
    pub settings_version: u64,
    pub hub_is_up: bool,
    /// When the link was made, counted from the boot.
    pub linked: Option<Duration>,
    began: (Instant, SystemTime),
    pub slept: Duration,
    pub disk_is_well: bool,
    /// How often the daemon had asked for the time when it was moved on last.
    asked: u64,
    /// The request for a reboot got lost.
    reboot_is_lost: bool,
    /// Reports of daemons that have ended.
    reports: u64,
}

impl World {
    /// A device at this moment, in Berlin.
    pub(super) fn new(seed: u64, now: SystemTime) -> Self {
        let mut device = Device::new();
        let zone = include_bytes!("../../../host/zones/berlin.tzif");
        for directory in ["etc", "images", "usr/share/zoneinfo/Europe"] {
            fs::create_dir_all(device.path(directory)).unwrap();
        }
        for name in ["etc/localtime", "usr/share/zoneinfo/Europe/Berlin"] {
            fs::write(device.path(name), zone).unwrap();
        }
        let clocks = Clocks::new(now);
        device.clocks = Some(clocks.clone());
        device.rom.count_every_boot();
        let watch = Watch::over(&device.store, clocks.clone());
        let mut world = Self {
            daemon: None,
            watch,
            dice: Dice::new(seed),
            seed,
            judge: Judge::default(),
            record: Record::default(),
            troubles: VecDeque::new(),
            agenda: Vec::new(),
            desired: Desired::Absent,
            settings: Value::Null,
            settings_version: 0,
            hub_is_up: true,
            linked: None,
            began: (Instant::now(), now),
            slept: Duration::ZERO,
            disk_is_well: true,
            asked: 0,
            reboot_is_lost: false,
            reports: 0,
            device,
            clocks,
        };
        let first = Image::new(Kind::Well, 0);
        let mut slot = first.bytes();
        slot.resize(1 << 20, 0);
        fs::write(world.device.path("a"), slot).unwrap();
        world.announce_version();
        world.start();
        world
    }

    /// Begins the draws of a day anew: threads are not to decide what is drawn for the days to come.
    pub(super) fn deal(&mut self, day: u32) {
        self.dice = Dice::new(self.seed.wrapping_add(u64::from(day) << 32));
    }

    /// What time it really is.
    pub(super) fn truth(&self) -> SystemTime {
        self.began.1 + self.began.0.elapsed() + self.slept
    }

    /// How often what happened until now.
    pub(super) fn figures(&self) -> super::judge::Figures {
        let (saves, reports) = (self.device.store.saves(), self.reports());
        super::judge::Figures { saves, reports, ..self.judge.figures }
    }

    /// How many reports the hub was to be told since the beginning.
    pub(super) fn reports(&self) -> u64 {
        self.reports + self.daemon.as_ref().map_or(0, told)
    }

    /// For whoever looks into a story that failed.
    pub(super) fn tell(&self, what: &str) {
        let millis = self.truth().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        println!("{} {:9.1?} {what}", Timestamp(millis as u64), self.clocks.since_boot());
    }

    /// Lets time pass, and whatever is due happen.
    pub(super) async fn pass(&mut self, how_long: Duration) {
        let until = Instant::now() + how_long;
        loop {
            if let Some(saved) = self.watch.next() {
                self.saw(saved).await;
                continue;
            }
            let now = Instant::now();
            self.agenda.sort_by_key(|(at, _)| *at);
            if self.agenda.first().is_some_and(|(at, _)| *at <= now) {
                let (_, due) = self.agenda.remove(0);
                self.fall_due(due).await;
                continue;
            }
            if now >= until {
                return;
            }
            let next = self.agenda.first().map_or(until, |(at, _)| until.min(*at));
            let work = self.record.state.work();
            if matches!(work, Work::Rest | Work::Await(_)) {
                tokio::select! {
                    biased;
                    () = self.watch.news() => {}
                    () = sleep_until(next) => {}
                }
            } else {
                self.push(work, next).await;
            }
        }
    }

    /// Lets the work have some real time, and then, if it waits for that, some of the test's.
    async fn push(&mut self, work: Work, next: Instant) {
        let is_trial = work == Work::CheckHealth;
        let patience = match self.disk_is_well && !self.reboot_is_lost {
            // A verdict that is due is waited for on a busy machine, too.
            true if is_trial && self.judge.is_overdue() => 10 * PATIENCE,
            true => PATIENCE,
            false => 2,
        };
        for _ in 0..patience {
            if self.watch.has_news() || is_trial && self.clocks.asked() != self.asked {
                break;
            }
            if self.device.path("reboot-requested").exists() {
                return self.reboot_as_requested().await;
            }
            moment().await;
        }
        if self.watch.has_news() {
            return;
        }
        let step = match (is_trial, self.reboot_is_lost) {
            (true, _) if self.linked.is_none() => 10 * SECOND,
            (true, _) => SECOND / 2,
            (false, true) => 20 * SECOND,
            (false, false) => SECOND,
        };
        if is_trial && self.disk_is_well {
            self.judge.is_on_trial(self.clocks.since_boot());
        }
        self.asked = self.clocks.asked();
        advance(step.min(next - Instant::now())).await;
    }

    async fn reboot_as_requested(&mut self) {
        fs::remove_file(self.device.path("reboot-requested")).unwrap();
        // Now and then the service manager takes it and forgets it.
        self.reboot_is_lost = !self.reboot_is_lost && self.dice.below(12) == 0;
        if self.reboot_is_lost {
            self.judge.figures.lost_reboots += 1;
            self.tell("the reboot is forgotten");
        } else {
            self.halt().await;
            self.boot().await;
        }
    }

    async fn saw(&mut self, saved: Saved) {
        let is_held = saved.is_held;
        let kept = held(&self.device, self.device.rom.state().default);
        self.judge.saw(&self.device.rules, &self.record, &saved, self.linked, kept);
        self.record = saved.record;
        self.reboot_is_lost &= self.record.state.work() == Work::Reboot;
        self.tell(&format!(
            "{:?} {:?}",
            name(&self.record),
            self.record.last.as_ref().map(|last| &last.outcome)
        ));
        if self.linked.is_none() && self.record.state.job().is_none() {
            self.link_soon();
        }
        if is_held && let Some((_, trouble)) = self.troubles.pop_front() {
            self.strike(trouble).await;
            self.hold();
        }
    }

    /// Whoever gets to the phase of the next trouble is to stand still there.
    pub(super) fn hold(&self) {
        if let Some((phase, _)) = self.troubles.front() {
            self.watch.hold_at(phase);
        }
    }

    pub(super) fn later(&mut self, due: Due, after: Duration) {
        self.agenda.retain(|(_, other)| *other != due);
        self.agenda.push((Instant::now() + after, due));
    }

    pub(super) fn is_awaited(&self, due: Due) -> bool {
        self.agenda.iter().any(|(_, other)| *other == due)
    }

    /// The daemon ends where it is, as it does when the power goes: nothing more is saved.
    pub(super) async fn halt(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        assert!(!daemon.engine.is_finished(), "the daemon ended by itself");
        self.reports += told(&daemon);
        self.linked = None;
        daemon.stop().await;
        self.watch.let_go();
        // Whoever stood still is to be gone.
        moment().await;
    }

    /// The machine comes up, as its loader wants it, in 1970.
    pub(super) async fn boot(&mut self) {
        advance(SECOND * (20 + self.dice.below(300) as u32)).await;
        let device = &mut self.device;
        device.boots += 1;
        let up = device.rom.try_next_boot(|slot| Judge::comes_up(held(device, slot), slot));
        device.booted = up.expect("the machine boots nothing");
        self.tell(&format!("slot {} boots", self.device.booted));
        let device = &self.device;
        let _ = fs::remove_file(device.path("reboot-requested"));
        self.reboot_is_lost = false;
        self.judge.booted();
        self.announce_version();
        self.clocks.boot(SystemTime::UNIX_EPOCH + 10 * SECOND);
        let soon = SECOND * (5 + self.dice.below(100) as u32);
        let after = if self.dice.below(6) == 0 { soon * 100 } else { soon };
        self.later(Due::ClockIsSet, after);
        self.start();
    }

    /// What the system in the running slot calls itself.
    fn announce_version(&self) {
        let image = held(&self.device, self.device.booted).unwrap();
        let text = format!("IMAGE_VERSION={}\n", image.version());
        fs::write(self.device.path("etc/os-release"), text).unwrap();
    }

    pub(super) fn start(&mut self) {
        let daemon = self.device.start();
        self.listen(daemon);
    }

    pub(super) async fn reload(&mut self) {
        self.watch.let_go();
        let daemon = self.daemon.take().unwrap();
        self.reports += told(&daemon);
        self.linked = None;
        let daemon = self.device.reload(daemon).await;
        self.listen(daemon);
    }
}

/// A test that fails leaves nobody standing.
impl Drop for World {
    fn drop(&mut self) {
        self.watch.let_go();
    }
}

/// A little of the real time.
pub(super) async fn moment() {
    tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
}
