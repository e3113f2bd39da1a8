//! What is asked of the gateway, and what it must have come to when all is calm again.

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::super::*;
use super::image::{Image, Kind, held};
use super::judge::Asked;
use super::trouble::{Due, Trouble};
use super::world::{DAY, HOUR, MINUTE, SECOND, World};
use crate::model::{Terms, UpdateId};

/// When nothing goes wrong any more, it rests within so many days: there may be a window of half an hour, and a day on
/// which there is no such half-hour.
const CALM: u32 = 3;
/// So many records are saved and so many reports made on a day at most on which an update is on its way.
const SAVES_A_DAY: u32 = 40;
const REPORTS_A_DAY: u64 = 40;
/// Files beside the images that are asked for, and their bytes beside the slots.
const FILES: usize = 8;
const BYTES: u64 = 256 << 10;
/// The test itself, the engine, and whoever plays the hub.
const TASKS: usize = 3;

/// What may go wrong in which phases.
const PHASES: [&str; 9] = [
    "downloading",
    "verifying",
    "staged",
    "applying",
    "rebooting",
    "confirming",
    "committing",
    "rolling-back",
    "returning",
];

/// Settings of the hub: a window and its time zone.
const WINDOWS: [(&str, &str); 7] = [
    ("none", "local"),
    ("none", "UTC"),
    ("02:00-04:30", "local"),
    ("22:30-01:05", "Europe/Berlin"),
    ("12:00-12:40", "local"),
    ("03:00-03:30", "UTC"),
    ("00:00-06:00", "Europe/Berlin"),
];

impl World {
    /// One update, with whatever goes wrong with it, to its end.
    pub(super) async fn update(&mut self) {
        let before = self.tally();
        if self.dice.below(3) == 0 {
            let (window, zone) = WINDOWS[self.dice.below(WINDOWS.len() as u64) as usize];
            let consent = self.dice.below(4) == 0;
            self.tune(json!({"window": window, "timeZone": zone, "consentRequired": consent})).await;
            self.pass(SECOND).await;
        }
        self.judge.is_lenient = false;
        for _ in 0..self.dice.below(4) {
            let phase = PHASES[self.dice.below(PHASES.len() as u64) as usize];
            let trouble = self.draw_trouble();
            self.troubles.push_back((phase, trouble));
        }
        let order = |phase: &str| PHASES.iter().position(|it| *it == phase);
        self.troubles.make_contiguous().sort_by_key(|(phase, _)| order(phase));
        self.ask().await;
        let after = HOUR * (1 + self.dice.below(10) as u32);
        self.later(Due::Consent, after);
        let minutes = self.dice.below(2000) as u32;
        self.pass(MINUTE * minutes).await;
        self.settle().await;
        self.verify(before);
    }

    /// An update in a window, asked for when the window is not yet open: it must be armed between these two moments.
    pub(super) async fn update_in(&mut self, window: &str, within: [&str; 2]) {
        let before = self.tally();
        self.tune(json!({"window": window, "timeZone": "local", "consentRequired": false})).await;
        self.judge.is_lenient = false;
        self.judge.armed_within = Some(within.map(|text| text.parse::<Timestamp>().unwrap().0));
        self.want(Kind::Well, Terms::default()).await;
        self.settle().await;
        assert!(self.judge.armed_within.is_none(), "it was not armed");
        self.judge.figures.special += 1;
        self.verify(before);
    }

    /// One of a system that does not reach the hub, with this while it is on trial.
    pub(super) async fn deaf_trial_with(&mut self, trouble: Option<Trouble>) {
        let before = self.tally();
        self.tune(json!({"window": "none"})).await;
        self.judge.is_lenient = false;
        self.troubles.extend(trouble.map(|trouble| ("confirming", trouble)));
        self.want(Kind::Deaf, Terms::default()).await;
        // As much as it takes to get there.
        self.pass(HOUR).await;
        self.settle().await;
        self.verify(before);
    }

    async fn ask(&mut self) {
        let now = self.truth().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        let force_by = (self.dice.below(5) == 0).then(|| now + self.dice.below(20 * 3_600_000));
        let terms = Terms {
            hold: self.dice.below(8) == 0,
            consent: self.dice.below(8) == 0,
            force_by: force_by.map(Timestamp),
            ..Terms::default()
        };
        match self.dice.below(12) {
            0 => self.go_back().await,
            1 => self.want_the_same_again().await,
            2 => self.request(Kind::Well, terms).await,
            3 => self.request(Kind::Sick, terms).await,
            4 => self.want(Kind::Sick, terms).await,
            5 => self.want(Kind::Dead, terms).await,
            6 => self.want(Kind::Deaf, terms).await,
            _ => self.want(Kind::Well, terms).await,
        }
    }

    fn next_image(&mut self, kind: Kind) -> Image {
        self.judge.figures.asked += 1;
        Image::new(kind, self.judge.figures.asked)
    }

    fn expect(&mut self, id: &UpdateId, image: Image) {
        self.tell(&format!("{image:?} is asked for, {:?}, {}", self.troubles, self.settings));
        self.judge.asked = Some(Asked {
            id: id.0.clone(),
            image,
            is_cancelled: false,
            gave_way: None,
            was_reached: false,
            is_late: false,
            was_condemned: false,
        });
    }

    /// The hub wants an image.
    async fn want(&mut self, kind: Kind, terms: Terms) {
        let install = self.next_image(kind).wish(&self.device, Origin::Desired, terms);
        self.expect(&install.id, Image::new(kind, self.judge.figures.asked));
        self.hold();
        self.desire(Desired::Wish(install)).await;
    }

    /// The hub wants something else.
    pub(super) async fn want_another(&mut self) {
        let kind = [Kind::Well, Kind::Well, Kind::Sick, Kind::Dead][self.dice.below(4) as usize];
        let image = self.next_image(kind);
        let install = image.wish(&self.device, Origin::Desired, Terms::default());
        self.expect(&install.id, image);
        self.desire(Desired::Wish(install)).await;
    }

    /// Somebody on the device wants an image.
    async fn request(&mut self, kind: Kind, terms: Terms) {
        let image = self.next_image(kind);
        let install = image.wish(&self.device, Origin::Local, terms);
        self.expect(&install.id, image);
        let daemon = self.daemon.as_ref().unwrap();
        daemon.ask(Request::Install(Box::new(install))).await.unwrap();
        self.hold();
    }

    /// Somebody wants the previous system, if there is one.
    async fn go_back(&mut self) {
        let previous = held(&self.device, !self.device.booted);
        match self.daemon.as_ref().unwrap().ask(Request::Rollback).await {
            Ok(_) => {
                self.judge.figures.asked += 1;
                let id = UpdateId(UpdateId::GO_BACK.into());
                self.expect(&id, previous.expect("the previous system is whole"));
                self.hold();
            }
            Err(refusal) => {
                assert_eq!(refusal.code, "request.no-previous");
                self.want(Kind::Well, Terms::default()).await;
            }
        }
    }

    /// The hub wants what was rolled back before, as if for the first time.
    async fn want_the_same_again(&mut self) {
        let last = self.record.last.as_ref();
        let was_rolled_back = last.is_some_and(|last| matches!(last.outcome, Outcome::RolledBack(_)));
        let Desired::Wish(wish) = self.desired.clone() else {
            return self.want(Kind::Well, Terms::default()).await;
        };
        if !was_rolled_back || last.is_none_or(|last| last.id != wish.id) {
            return self.want(Kind::Sick, Terms::default()).await;
        }
        let image = self.judge.asked.as_ref().unwrap().image;
        self.judge.figures.asked += 1;
        self.expect(&wish.id, image);
        self.judge.asked.as_mut().unwrap().was_condemned = true;
        self.desire(Desired::Absent).await;
        self.desire(Desired::Wish(wish)).await;
    }

    /// Nothing goes wrong any more, and it comes to rest.
    pub(super) async fn settle(&mut self) {
        self.troubles.clear();
        self.watch.let_go();
        self.hub_is_up = true;
        self.link_soon();
        self.later(Due::ClockIsSet, Duration::ZERO);
        let limit = Instant::now() + CALM * DAY;
        self.pass(SECOND).await;
        while !self.rests() {
            let (state, now) = (&self.record.state, Instant::now());
            assert!(now < limit, "it does not come to rest: {state:?}, {:?}", self.agenda);
            self.pass(10 * MINUTE).await;
            let waits = self.record.state.job().is_some_and(|job| job.consent.is_none());
            if waits && !self.is_awaited(Due::Consent) {
                self.later(Due::Consent, HOUR);
            }
        }
        self.pass(SECOND).await;
    }

    fn rests(&self) -> bool {
        let is_settled = match &self.desired {
            Desired::Wish(wish) => {
                let wanted = self.record.wanted.as_ref();
                wanted.is_some_and(|wanted| *wanted.wish.id() == wish.id && wanted.settled)
            }
            Desired::Absent | Desired::Invalid { .. } => true,
        };
        let is_calm = !self.is_awaited(Due::ClockIsSet) && !self.is_awaited(Due::DiskIsWell);
        is_settled && is_calm && self.record.state == State::Idle && self.linked.is_some()
    }

    /// When it began, and what was saved and reported until then.
    fn tally(&self) -> (std::time::SystemTime, u32, u64) {
        (self.truth(), self.device.store.saves(), self.reports())
    }

    /// All is as it must be at the end of an update that began then.
    fn verify(&mut self, (began, saves, reports): (std::time::SystemTime, u32, u64)) {
        let runs = self.verify_rest();
        self.judge.ended(&self.record, runs);
        let days = self.truth().duration_since(began).unwrap().as_secs() / DAY.as_secs() + 1;
        let (saves, reports) = (self.device.store.saves() - saves, self.reports() - reports);
        let (saves, reports) = (saves / days as u32, reports / days);
        let figures = &mut self.judge.figures;
        figures.most_saves_a_day = figures.most_saves_a_day.max(saves);
        figures.most_reports_a_day = figures.most_reports_a_day.max(reports);
        assert!(saves <= SAVES_A_DAY && reports <= REPORTS_A_DAY, "{saves} saves, {reports} reports a day");
        for image in fs::read_dir(self.device.path("images")).unwrap() {
            fs::remove_file(image.unwrap().path()).unwrap();
        }
    }

    /// What is so whenever it rests; the image that runs.
    fn verify_rest(&mut self) -> Image {
        let device = &self.device;
        let loader = device.rom.state();
        assert_eq!((loader.default, loader.trial), (device.booted, None));
        let runs = held(device, device.booted).expect("what runs is whole");
        assert_eq!(device.store.record().unwrap_or_default(), self.record);
        let report = self.daemon.as_ref().unwrap().port.reports.borrow().report.clone();
        let firmware = &report.expect("something was reported").full["firmware"];
        assert_eq!(firmware["currentFwVersion"], runs.version().as_str());
        let word = match self.record.last.as_ref().map(|last| (&last.outcome, last.is_going_back())) {
            Some((Outcome::RolledBack(_), _) | (Outcome::Succeeded, true)) => "rolledback",
            Some((Outcome::Failed(why), _)) if why.failure != crate::model::Failure::Cancelled => "error",
            Some((Outcome::Failed(_) | Outcome::Succeeded | Outcome::UpToDate, _)) | None => "current",
        };
        assert_eq!(firmware["fwUpdateStatus"], word);
        let (mut files, mut bytes) = (0, 0);
        let mut open = vec![device.directory.path().to_owned()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true if entry.file_name() == "images" => {}
                    true => open.push(entry.path()),
                    false => (files, bytes) = (files + 1, bytes + entry.metadata().unwrap().len()),
                }
            }
        }
        assert!(files <= FILES && bytes <= BYTES + (2 << 20), "{files} files with {bytes} bytes");
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert!(tasks <= TASKS, "{tasks} tasks");
        runs
    }

    /// Nothing is asked for, and things go wrong all the same: nothing comes of it.
    pub(super) async fn idle(&mut self) {
        let (_, saves, _) = self.tally();
        let (last, armed) = (self.record.last.clone(), self.judge.figures.armed);
        let events = self.dice.below(3) as u32;
        let mut reboots = 0;
        for _ in 0..events {
            let hours = 1 + self.dice.below(12);
            match self.dice.below(8) {
                0 => self.strike(Trouble::Cut).await,
                1 => self.strike(Trouble::Restart).await,
                2 => self.strike(Trouble::Reload).await,
                3 | 4 => self.strike(Trouble::HubGone(hours)).await,
                5 => {
                    let days = self.draw_jump();
                    self.strike(Trouble::ClockJumps(days)).await;
                }
                6 => self.strike(Trouble::Suspend(hours)).await,
                _ => {
                    // One that gets lost is not asked for again: it would keep updates out.
                    let come = |world: &Self| world.device.boots + world.judge.figures.lost_reboots;
                    let before = come(self);
                    self.tell("a reboot is asked for");
                    self.daemon.as_ref().unwrap().ask(Request::Reboot).await.unwrap();
                    self.pass(HOUR).await;
                    assert_eq!(come(self), before + 1, "a reboot was asked for");
                    reboots += 1;
                }
            }
            let minutes = self.dice.below(300) as u32;
            self.pass(MINUTE * minutes).await;
        }
        self.settle().await;
        self.verify_rest();
        assert_eq!((&self.record.last, self.judge.figures.armed), (&last, armed), "nothing was asked for");
        let saves = self.device.store.saves() - saves;
        // A reboot that is asked for is noted, has its end, and its date once the clock is set.
        assert!(saves <= 2 * events + reboots, "{saves} saves, and nothing was asked for");
    }
}
