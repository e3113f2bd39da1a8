//! A device as the core sees it: what is durable, what runs, and what the hub wants.

use std::hash::{DefaultHasher, Hash, Hasher};

use twinboot::model::{
    Artifact, BootId, Cost, Ended, Factory, Failure, Image as Written, Install, Location, Origin, Outcome,
    Reason, Rules, Seal, Sha256, Slot, Terms, UpdateId, Version,
};
use twinboot::update::{
    Conditions, Event, Facts, Gate, Job, Overdue, Phase, Plan, Record, Stage, State, Undated, Wait, Wanted,
    Wish, Work, gate,
};

use crate::mutations::Mutation;

/// What a slot holds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Image {
    /// The system the device was made with.
    Factory,
    /// Partly written.
    Junk,
    /// One of the two updates, and what becomes of it.
    Update(u8, Kind),
    /// The factory's image, kept on the device for a reset, and what becomes of it.
    Kept(Kind),
}

/// What becomes of an update when it is booted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    Good,
    Sick,
    Unbootable,
}

impl Image {
    fn boots(self) -> bool {
        matches!(
            self,
            Self::Factory | Self::Update(_, Kind::Good | Kind::Sick) | Self::Kept(Kind::Good | Kind::Sick)
        )
    }

    fn is_good(self) -> bool {
        matches!(self, Self::Factory | Self::Update(_, Kind::Good) | Self::Kept(Kind::Good))
    }
}

/// Everything that can differ between two moments of a device's life.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct World {
    /// The newest stored record; `None` if it cannot be read.
    pub record: Option<Record>,
    /// The generation before it.
    older: Option<Record>,
    /// Bootloader: what boots when nothing is on trial.
    pub default: Slot,
    /// Bootloader: what is armed or on trial, and how many more boots it gets.
    pub trial: Option<(Slot, u8)>,
    pub slots: [Image; 2],
    pub booted: Slot,
    boot: u8,
    /// What becomes of update 1 and 2.
    kinds: [Kind; 2],
    /// The newest desired at the hub: nothing, 1 or 2.
    newest: u8,
    /// Cuts, restarts, losses and lies still to come.
    faults: u8,
    /// How many there were to begin with.
    all_faults: u8,
    lost: bool,
    /// A health check passed in this boot.
    proved: bool,
    /// The process that runs has read the target back.
    witness: bool,
    /// What a factory reset is on this device, and what becomes of its image.
    factory: Option<Reset>,
    /// The data of the present, or the last, factory reset.
    data: Data,
    /// Default slot and its image when the job began.
    before: (Slot, Image),
    /// A hook said no to the job: what it is about must not be tried.
    refused: bool,
    /// Update 2 is labelled with the version that runs already.
    same_version: bool,
    /// Bootloader: the lowest rollback index that is taken.
    floor: u64,
    /// The highest index that was ever committed, be it proved or not.
    committed: u64,
    /// What a download costs.
    price: u64,
    /// The cost that somebody agreed to for the present job.
    agreed: u64,
    /// There is a guard over its trials that may find nobody there. It is only in lives that are about it: where it may
    /// strike, there are many times more worlds.
    is_watched: bool,
    /// What the guard over a trial left behind.
    word: Option<Overdue>,
    /// It cannot be removed any more.
    is_stuck: bool,
    /// The guard ended a boot of the last trial.
    is_guarded: bool,
    /// The machine rebooted since the bootloader was armed. Noted only where it may refuse to.
    tried: bool,
    /// The hub may word its wish anew, somebody may ask for it on other terms, and the machine may refuse to reboot. Only in
    /// lives that are about these: with them all others would be several times as many worlds.
    is_worded: bool,
    /// It did.
    words: u8,
    /// Somebody cancelled what the hub wishes for in these words.
    is_stopped: bool,
    /// What was rolled back, or sent away: it does not come back by itself.
    sent_away: [bool; 2],
}

/// What is declared as a factory reset.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Reset {
    /// What becomes of its image, if it has one.
    pub image: Option<Kind>,
    /// Whether it has a program.
    pub program: bool,
}

/// What became of the data.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Data {
    /// The program has not been begun.
    Untouched,
    /// It was begun, and cut short or failed.
    Torn,
    /// It is done, and so many boots (two is many) began since.
    New(u8),
}

/// What one update may cost, and what it does cost: at first, and once more is found to be missing.
const CAP: u64 = 10;
const CHEAP: u64 = 5;
const DEAR: u64 = 100;
const DEARER: u64 = 200;

/// Loader boots per trial.
const TRIES: u8 = 2;

fn index(slot: Slot) -> usize {
    usize::from(slot == Slot::B)
}

impl World {
    pub fn new(kinds: [Kind; 2], same_version: bool, faults: u8) -> Self {
        let mut record = Record::default();
        record.versions.a = "1".parse().ok();
        Self {
            record: Some(record.clone()),
            older: Some(record),
            default: Slot::A,
            trial: None,
            slots: [Image::Factory; 2],
            booted: Slot::A,
            boot: 0,
            kinds,
            newest: 0,
            faults,
            all_faults: faults,
            lost: false,
            proved: false,
            witness: false,
            factory: None,
            data: Data::Untouched,
            before: (Slot::A, Image::Factory),
            refused: false,
            same_version,
            floor: 0,
            committed: 0,
            price: CHEAP,
            agreed: 0,
            is_watched: false,
            word: None,
            is_stuck: false,
            is_guarded: false,
            tried: false,
            is_worded: false,
            words: 0,
            is_stopped: false,
            sent_away: [false; 2],
        }
    }

    /// The same device with a hub that words its one wish anew, and people who ask for it on other terms.
    pub fn worded(self) -> Self {
        Self { is_worded: true, ..self }
    }

    /// The same device behind a link on which an update costs more than it may.
    pub fn dear(self) -> Self {
        Self { price: DEAR, ..self }
    }

    /// The same device with daemons that may not start, and a guard over them.
    pub fn watched(self) -> Self {
        Self { is_watched: true, ..self }
    }

    /// The same device with a factory reset, and a hub that wishes for the first update only.
    pub fn with_factory(self, image: Option<Kind>, program: bool) -> Self {
        Self { factory: Some(Reset { image, program }), ..self }
    }

    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    pub fn state(&self) -> State {
        self.record.as_ref().map_or(State::Idle, |record| record.state.clone())
    }

    fn facts(&self) -> Facts {
        Facts {
            boot: BootId(self.boot.to_string()),
            booted: self.booted,
            default: Some(self.default),
            trial: self.trial.map(|(slot, _)| slot),
            version: None,
            booted_at: None,
            floor: Some(self.floor),
            overdue: self.word.clone(),
            factory: self.factory.map_or_else(Factory::default, |reset| Factory {
                image: reset.image.map(|_| Artifact {
                    version: None,
                    location: Location::File("/factory".into()),
                    sha256: None,
                    size: None,
                }),
                program: reset.program,
            }),
        }
    }

    fn holds(&self, slot: Slot) -> Image {
        self.slots[index(slot)]
    }

    fn wish(&self, number: u8) -> Install {
        let label =
            if number == 2 && self.same_version { "1" } else { ["", "u1", "u2"][usize::from(number)] };
        let token = ["", "?again"][usize::from(self.words)];
        let url = format!("https://h/{number}{token}").parse().expect("good address");
        let artifact = Artifact {
            version: label.parse::<Version>().ok(),
            location: Location::Url(url),
            sha256: Some(Sha256([number; 32])),
            size: None,
        };
        Install::new(artifact, Origin::Desired, None)
    }

    fn wanted_image(&self, job: &Job) -> Image {
        if let (Plan::FactoryReset(_), Some(Reset { image: Some(kind), .. })) = (&job.plan, self.factory) {
            return Image::Kept(kind);
        }
        let number = if job.intent == self.wish(1).intent { 1 } else { 2 };
        Image::Update(number, self.kinds[usize::from(number) - 1])
    }

    /// One event: step, then store.
    fn deliver(&mut self, mutation: Mutation, event: Event) {
        let before = self.record.clone().unwrap_or_default();
        let mut after = before.clone();
        let answer = after.heed(&self.facts(), None, event.clone());
        let verdict = after.newly_ended(&before).filter(|ended| is_verdict(ended)).cloned();
        if answer.is_ok() {
            after.consider(&self.facts(), None);
        }
        // No clock here is ever set, and nothing else comes of that.
        after.undated = Undated::default();
        // The first of many would be forgotten first; there are never that many here.
        after.condemned.sort_by(|one, other| one.0.cmp(&other.0));
        if let State::Busy(job) = &mut after.state {
            // How many steps are left matters only when few are: let worlds that behave alike be equal.
            job.steps_left = if job.steps_left < FEW_STEPS { job.steps_left } else { Job::STEPS };
            // The same for refused reboots: all but the last change nothing, see `stays`.
            job.refusals = 0;
        }
        (mutation.spoil)(&before, &self.facts(), &event, &mut after);
        assert!(answer.is_ok() || mutation.name != "none" || after == before, "refused, yet changed");
        if after == before && self.record.is_some() {
            return;
        }
        // Heard is heard; a word that a crash swallowed is asked for again.
        self.refused |= matches!(&event, Event::Failed(why) if why.failure == Failure::HookFailed);
        if before.state.job().map(|job| &job.id) != after.state.job().map(|job| &job.id) {
            self.before = (self.default, self.holds(self.default));
            self.refused = false;
            self.agreed = 0;
            if after.state.job().is_some_and(|job| job.id.0 == UpdateId::FACTORY_RESET) && !self.lost {
                self.data = Data::Untouched;
            }
        }
        let told = after.last.clone().filter(|_| before.last != after.last);
        if let Some(verdict) = verdict.filter(|_| self.is_worded) {
            let in_words =
                |wanted: &Wanted| matches!(&wanted.wish, Wish::Install(it) if it.intent == verdict.intent);
            let is_asked = after.wanted.as_ref().is_some_and(in_words);
            assert!(told.as_ref() == Some(&verdict) || !is_asked, "a verdict was never told: {self:?}");
            self.note_verdict(&before, &verdict);
        }
        if self.is_worded {
            self.note_stop(&before, &after, &event);
        }
        let older = self.record.replace(after);
        self.older = older.filter(|_| self.faults > 0 && !self.lost);
        self.check();
        if let Some(told) = told.filter(Ended::is_factory_reset) {
            self.check_reset(&told.outcome);
        }
        self.forget();
    }

    /// What was rolled back, or was wished for and then gone back from, is sent away.
    fn note_verdict(&mut self, before: &Record, verdict: &Ended) {
        let left = self.holds(!self.booted);
        for number in 1..=2 {
            let wish = self.wish(number);
            let is_rolled_back =
                matches!(verdict.outcome, Outcome::RolledBack(_)) && verdict.intent == wish.intent;
            let was_wanted = before.wanted.as_ref().is_some_and(|wanted| {
                wanted.settled && matches!(&wanted.wish, Wish::Install(it) if it.intent == wish.intent)
            });
            let is_left = verdict.is_going_back()
                && verdict.outcome == Outcome::Succeeded
                && matches!(left, Image::Update(index, _) if index == number);
            self.sent_away[usize::from(number) - 1] |= is_rolled_back || (is_left && was_wanted);
        }
    }

    /// What is cancelled stays so until the hub says something else.
    fn note_stop(&mut self, before: &Record, after: &Record, event: &Event) {
        let cancelled = |why: &Reason| why.failure == Failure::Cancelled;
        if let Event::Desired(wish) = event {
            let is_known = before.wanted.as_ref().is_some_and(|wanted| wanted.wish.id() == wish.id());
            self.is_stopped &= is_known;
        }
        let Some(job) =
            before.state.job().filter(|job| *event == Event::Cancel && job.phase.undoing().is_none())
        else {
            return;
        };
        let is_undone = after.state.job().and_then(|job| job.phase.undoing()).is_some_and(cancelled);
        let is_over = after.state == State::Idle;
        let is_wished = self.newest > 0 && job.intent == self.wish(self.newest).intent;
        self.is_stopped |= is_wished && (is_undone || is_over);
    }

    /// Lets worlds be equal that differ only in what cannot matter any more.
    fn forget(&mut self) {
        let state = self.state();
        let job = state.job();
        if !job.is_some_and(|job| matches!(job.phase, Phase::Verifying | Phase::Staged | Phase::Applying)) {
            self.witness = false;
        }
        if !job.is_some_and(|job| job.plan.has_program()) {
            self.data = Data::Untouched;
        }
        let is_told =
            |record: &Record| matches!(record.last, Some(Ended { outcome: Outcome::RolledBack(_), .. }));
        if !job.is_some_and(|job| job.armed) && !self.record.as_ref().is_some_and(is_told) {
            self.tried = false;
        }
    }

    /// What the update waits for before its download.
    fn closed(&self) -> Option<Gate> {
        let state = self.state();
        let job = state.job().filter(|job| job.phase == Phase::Accepted)?;
        let now = Conditions { cap: CAP, ..Conditions::default() };
        gate(Stage::Download, job, &Rules::default(), &now)
    }

    /// The daemon of the system on trial does not run, or not for long: the guard leaves a word and ends this boot.
    fn guarded(&self, mutation: Mutation) -> Option<World> {
        let state = self.state();
        let job = state.job()?;
        let on_trial = self.booted == job.target && self.trial.is_some_and(|(slot, _)| slot == self.booted);
        if !self.is_watched || !on_trial || self.holds(self.booted).is_good() {
            return None;
        }
        let mut world = self.clone();
        let (update, boot) = (job.id.clone(), BootId(self.boot.to_string()));
        world.word =
            Some(Overdue { update, trial: job.trials, slot: job.target, boot, why: "crashed".into() });
        world.is_guarded = true;
        world.power_cycle();
        if world.booted == self.booted {
            return world.guarded(mutation);
        }
        world.start(mutation);
        if !world.lost && job.phase.undoing().is_none() {
            let told = |why: &Reason| why.failure == Failure::HealthTimeout;
            let state = world.state();
            let undoing = state.job().and_then(|job| job.phase.undoing());
            assert!(undoing.is_some_and(told), "the guard's word was not heard: {world:?}");
        }
        Some(world)
    }

    /// The hub hands over what it wants now, as it does at every connection.
    fn connect(&mut self, mutation: Mutation) {
        let settled =
            self.record.as_ref().and_then(|record| record.wanted.clone()).filter(|wanted| wanted.settled);
        let before = self.state();
        if self.newest > 0 {
            let wish = self.wish(self.newest);
            let same = settled.is_some_and(|wanted| *wanted.wish.id() == wish.id);
            self.deliver(mutation, Event::Desired(Wish::Install(wish)));
            assert!(!same || before == self.state(), "an ended wish was started again: {self:?}");
        }
    }

    /// The process starts, wherever it finds itself, and the hub is there.
    fn start(&mut self, mutation: Mutation) {
        self.witness = false;
        self.deliver(mutation, Event::Started);
        self.word = self.word.take().filter(|_| self.is_stuck);
        self.connect(mutation);
    }

    /// The process goes on under another configuration, and connects to the hub anew.
    fn reload(&mut self, mutation: Mutation) {
        let paid = |world: &Self| world.state().job().map(|job| (job.phase.clone(), job.steps_left));
        let before = paid(self);
        self.witness = false;
        self.deliver(mutation, Event::Reloaded);
        // Reading back anew what was about to be armed is the only thing that counts as a step.
        let is_free = !matches!(before, Some((Phase::Applying, _)));
        assert!(!is_free || before == paid(self), "a reload was paid for: {self:?}");
        self.connect(mutation);
    }

    /// Power goes and comes back: the bootloader chooses by its own rules.
    fn power_cycle(&mut self) {
        self.boot = self.other_boot();
        self.proved = false;
        self.tried |= self.is_worded && self.trial.is_some();
        if let Data::New(boots) = self.data {
            self.data = Data::New(2.min(boots + 1));
        }
        while let Some((slot, tries)) = self.trial {
            if tries == 0 {
                self.trial = None;
                break;
            }
            self.trial = Some((slot, tries - 1));
            if self.holds(slot).boots() {
                self.booted = slot;
                return;
            }
        }
        self.booted = self.default;
        assert!(self.holds(self.booted).boots(), "brick: {self:?}");
    }

    /// A boot that no record speaks of; that it differs is all that matters.
    fn other_boot(&self) -> u8 {
        let known = |record: &Option<Record>| match record.as_ref().map(|record| &record.state) {
            Some(State::Restarting { since }) => Some(since.clone()),
            Some(State::Busy(job)) => match &job.phase {
                Phase::Rebooting { since } | Phase::Returning { since, .. } | Phase::Finishing { since } => {
                    Some(since.clone())
                }
                _ => None,
            },
            Some(State::Idle) | None => None,
        };
        let word = self.word.as_ref().map(|word| word.boot.clone());
        let taken = [known(&self.record), known(&self.older), word, Some(BootId(self.boot.to_string()))];
        (0..).find(|boot| !taken.contains(&Some(BootId(u8::to_string(boot))))).expect("five are enough")
    }

    /// The invariants that hold at every moment.
    fn check(&self) {
        assert!(
            self.holds(self.default).is_good(),
            "the default slot holds {:?}: {self:?}",
            self.holds(self.default)
        );
        assert!(self.floor <= self.committed, "the bootloader's floor was raised without a commit: {self:?}");
        let Some(record) = &self.record else { return };
        assert!(record.floor <= self.committed, "P038: the floor was raised without a commit: {self:?}");
        let waits = record.state.job().is_some_and(|job| job.phase == Phase::Staged);
        assert!(!waits || self.trial.is_none() || self.lost, "armed while it waits: {self:?}");
        let (State::Idle, Some(last)) = (&record.state, &record.last) else { return };
        let exhausted = |why: &Reason| why.failure == Failure::Exhausted;
        if let Outcome::Failed(why) | Outcome::RolledBack(why) = &last.outcome {
            assert!(why.failure != Failure::RecordLost || self.lost, "the record was there: {self:?}");
        }
        match &last.outcome {
            Outcome::Succeeded => {
                let good =
                    self.booted == self.default && self.trial.is_none() && self.holds(self.default).is_good();
                assert!(good || self.lost, "success was told: {self:?}");
                let same = last.id.0 == "go-back"
                    || last.is_factory_reset() && self.factory.is_some_and(|reset| reset.image.is_none());
                let new = same || self.holds(self.booted) != Image::Factory;
                assert!(new || self.lost, "success of what? {self:?}");
                if let Image::Update(index, _) = self.holds(self.booted) {
                    let floor = self.floor.min(record.floor);
                    assert!(floor >= index.into() || self.lost, "a commit did not raise the floor: {self:?}");
                }
            }
            Outcome::Failed(why) | Outcome::RolledBack(why) if exhausted(why) => {}
            Outcome::Failed(why) if why.failure == Failure::FactoryReset => {
                let home = self.booted == self.default && self.trial.is_none();
                assert!(home || self.lost, "a failed program was told, but not at home: {self:?}");
            }
            Outcome::Failed(why) => {
                let kept =
                    (self.default, self.holds(self.default)) == self.before && self.booted == self.default;
                assert!(kept || self.lost, "failure was told ({why}): {self:?}");
                assert!(self.trial.is_none() || self.lost, "failed, but armed: {self:?}");
            }
            Outcome::RolledBack(why) => {
                let back = self.booted == self.default && self.trial.is_none();
                assert!(back, "rollback was told ({why}): {self:?}");
                assert!(
                    self.tried || self.lost || !self.is_worded,
                    "rollback of what trial ({why})? {self:?}"
                );
                let overdue = why.failure == Failure::HealthTimeout;
                assert!(!overdue || self.is_guarded || self.lost, "what guard? {self:?}");
            }
            Outcome::UpToDate => {}
        }
    }

    /// What is told of a factory reset is what became of the data.
    fn check_reset(&self, outcome: &Outcome) {
        let program = self.factory.is_some_and(|reset| reset.program);
        match outcome {
            Outcome::Succeeded if program => {
                assert!(self.data == Data::New(1) || self.lost, "a reset and one reboot were told: {self:?}");
            }
            Outcome::Failed(why) if why.failure == Failure::FactoryReset => {
                assert!(program, "what program? {self:?}");
                assert!(self.data == Data::Torn || self.lost, "a failed program was told: {self:?}");
            }
            Outcome::Succeeded | Outcome::UpToDate | Outcome::Failed(_) | Outcome::RolledBack(_) => {
                assert!(self.data == Data::Untouched || self.lost, "data was given up: {self:?}");
            }
        }
    }

    /// The work's possible courses: each the world it leaves and what it says. A crash may come at any of the
    /// worlds, before the word is heard.
    #[allow(clippy::too_many_lines, reason = "one table, a row for each work")]
    fn courses(&self) -> Vec<(World, Event)> {
        let State::Busy(job) = self.state() else { return vec![] };
        let failed = |failure: Failure| Event::Failed(failure.because("modelled"));
        let with = |change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            world
        };
        let wanted = self.wanted_image(&job);
        match job.phase {
            // A hook may say no wherever a gate is. (That it says "later" is no event: the gate stays closed.)
            // Nor does anything come of itself while a cost has to be agreed to.
            Phase::Accepted if self.closed().is_some() => vec![],
            Phase::Accepted | Phase::Staged => {
                vec![(self.clone(), Event::Proceed), (self.clone(), failed(Failure::HookFailed))]
            }
            Phase::Downloading => {
                let target = job.target;
                assert!(!self.refused || self.lost, "downloaded although a hook said no: {self:?}");
                if let Image::Update(number, _) = wanted {
                    assert!(!self.is_stopped || self.lost, "begun again although it was cancelled: {self:?}");
                    let is_away = self.sent_away[usize::from(number) - 1];
                    assert!(!is_away || self.lost, "came back although it was sent away: {self:?}");
                }
                let is_live = target == self.booted || target == self.default;
                assert!(!is_live || self.lost, "a live slot was to be written: {self:?}");
                if target == self.booted {
                    // The witness type cannot be made: see `model::TargetSlot`. What boots by default does not any more
                    // once it is reverted, before the first byte.
                    return vec![(self.clone(), failed(Failure::TargetBusy))];
                }
                let reverted = with(&|world| {
                    (world.default, world.trial) = (world.booted, None);
                    world.witness = false;
                });
                let filled = |image| {
                    let mut world = reverted.clone();
                    world.slots[index(target)] = image;
                    world
                };
                let too_dear = |price, world: World| {
                    let cost = Cost { fetch: price, write: 1, full: 1000 };
                    (World { price, ..world }, Event::TooDear(cost))
                };
                if self.price > job.allowance(CAP) {
                    return vec![too_dear(self.price, reverted)];
                }
                let may = CAP.max(self.agreed + self.agreed / 20);
                assert!(self.price <= may || self.lost, "fetched what nobody agreed to: {self:?}");
                let image = Written { sha256: Sha256([1; 32]), len: 1 };
                let seal = match wanted {
                    Image::Update(index, _) => Some(Seal {
                        version: job.version.clone().expect("each update has one"),
                        rollback_index: index.into(),
                        allow_downgrade: false,
                        bundle: Sha256([index; 32]),
                    }),
                    Image::Factory | Image::Junk | Image::Kept(_) => None,
                };
                let mut courses = vec![
                    (self.clone(), failed(Failure::BootUnwritable)),
                    (filled(Image::Junk), failed(Failure::DownloadUnreachable)),
                    (filled(wanted), Event::Written { image: image.clone(), seal: seal.clone() }),
                ];
                if self.faults > 0 {
                    let mut lied = filled(Image::Junk);
                    lied.faults -= 1;
                    courses.push((lied, Event::Written { image, seal }));
                }
                if self.price == DEAR {
                    // What was to be copied is not there any more.
                    courses.push(too_dear(DEARER, filled(Image::Junk)));
                }
                courses
            }
            Phase::Verifying => {
                let mut disarmed = self.clone();
                let is_armed = self.trial.is_some_and(|(slot, _)| slot == job.target);
                if is_armed {
                    (disarmed.default, disarmed.trial) = (self.booted, None);
                }
                let mut courses = vec![if self.holds(job.target) == wanted || job.image.is_none() {
                    (World { witness: true, ..disarmed }, Event::Done)
                } else {
                    (disarmed, failed(Failure::ReadbackMismatch))
                }];
                if is_armed {
                    courses.push((self.clone(), failed(Failure::BootUnwritable)));
                }
                courses
            }
            Phase::Applying => {
                let target = job.target;
                assert!(self.holds(target) == wanted || job.image.is_none(), "armed unverified: {self:?}");
                assert!(target != self.booted && target != self.default, "armed a live slot: {self:?}");
                assert!(!self.refused || self.lost, "armed although a hook said no: {self:?}");
                assert!(self.witness, "armed without reading back: {self:?}");
                let armed = with(&|world| {
                    (world.trial, world.witness) = (Some((target, TRIES)), false);
                    world.word = world.word.take().filter(|_| world.is_stuck);
                    (world.is_guarded, world.tried) = (false, false);
                });
                vec![
                    (armed.clone(), Event::Done),
                    (armed, failed(Failure::BootUnwritable)), // written, but could not be proved to be
                    (self.clone(), failed(Failure::BootUnwritable)),
                ]
            }
            Phase::Confirming => {
                let healthy = self.holds(self.booted).is_good();
                let mut courses = vec![(self.clone(), failed(Failure::Unhealthy))];
                if healthy {
                    courses.insert(0, (with(&|world| world.proved = true), Event::Done));
                }
                courses
            }
            Phase::Committing => {
                let target = job.target;
                assert!(self.booted == target, "committed what does not run: {self:?}");
                assert!(self.proved || self.faults < self.all_faults, "committed unproved: {self:?}");
                let floor = self.record.as_ref().map_or(self.floor, |record| record.floor(&self.facts()));
                let floor = job.seal.as_ref().map_or(self.floor, |seal| seal.floor_after(floor));
                let done = with(&|world| {
                    (world.default, world.trial, world.floor) = (target, None, floor);
                    world.committed = world.committed.max(floor);
                });
                vec![
                    (done.clone(), Event::Done),
                    (done, failed(Failure::BootUnwritable)),
                    (self.clone(), failed(Failure::BootUnwritable)),
                ]
            }
            Phase::Resetting => {
                let home = self.booted == self.default && self.trial.is_none();
                assert!(home, "the program runs in a system that may be gone: {self:?}");
                assert!(job.plan.has_program(), "what program? {self:?}");
                let is_right = job.plan.artifact().is_none() || self.holds(self.booted) == wanted;
                assert!(is_right || self.lost, "the program runs in the wrong system: {self:?}");
                vec![
                    (with(&|world| world.data = Data::New(0)), Event::Done),
                    (with(&|world| world.data = Data::Torn), failed(Failure::FactoryReset)),
                ]
            }
            Phase::RollingBack { .. } => {
                let to = !job.target;
                let done = with(&|world| (world.default, world.trial) = (to, None));
                vec![(done, Event::Done), (self.clone(), failed(Failure::BootUnwritable))]
            }
            Phase::Rebooting { .. } | Phase::Returning { .. } | Phase::Finishing { .. } => vec![],
        }
    }

    /// Every world that can come next.
    pub fn next(&self, mutation: Mutation) -> Vec<World> {
        let mut worlds = Vec::new();
        let mut moments = vec![self.clone()];
        if self.state().work() == Work::Reboot {
            worlds.push(self.rebooted(mutation));
            // Nobody may be there to start.
            let mut booted = self.clone();
            booted.power_cycle();
            worlds.extend(booted.guarded(mutation));
            worlds.extend(self.stays(mutation));
        }
        if self.state().job().is_some_and(|job| job.phase == Phase::Confirming) {
            worlds.extend(self.guarded(mutation));
            // Only where another trial comes after it that could be mistaken for this one.
            if self.is_watched && self.faults > 0 {
                // What the guard leaves cannot be removed.
                worlds.push(Self { is_stuck: true, faults: self.faults - 1, ..self.clone() });
            }
        }
        for (world, event) in self.courses() {
            let mut heard = world.clone();
            moments.push(world);
            heard.deliver(mutation, event);
            worlds.push(heard);
        }
        self.requests(mutation, &mut worlds);
        if self.faults > 0 {
            for moment in moments.into_iter().filter(|moment| moment.faults > 0) {
                moment.faulted(mutation, &mut worlds);
            }
        }
        worlds
    }

    fn rebooted(&self, mutation: Mutation) -> World {
        let mut world = self.clone();
        world.power_cycle();
        world.start(mutation);
        world
    }

    /// The machine refuses to reboot for as long as it is asked, be it for ever: the last time. What comes of that, if anything.
    fn stays(&self, mutation: Mutation) -> Option<World> {
        let mut world = self.clone();
        let Some(State::Busy(job)) = world.record.as_mut().map(|record| &mut record.state) else {
            return None;
        };
        match job.phase {
            Phase::Rebooting { .. } if self.is_worded => job.refusals = Job::REBOOTS - 1,
            Phase::Finishing { .. } | Phase::Returning { .. } => job.steps_left = 0,
            _ => return None,
        }
        let before = world.clone();
        world.deliver(mutation, Event::Failed(Failure::RebootRefused.because("modelled")));
        Some(world).filter(|world| *world != before)
    }

    /// What people and the hub may ask at this moment.
    fn requests(&self, mutation: Mutation, worlds: &mut Vec<World>) {
        let mut ask = |event: Event| {
            let mut world = self.clone();
            world.deliver(mutation, event);
            worlds.push(world);
        };
        if self.faults == self.all_faults {
            ask(Event::Cancel);
            if self.factory.is_some() {
                ask(Event::FactoryReset(Origin::Local));
            } else {
                ask(Event::GoBack(Origin::Local));
                ask(Event::DesiredCleared);
            }
            if let (true, Some(_)) = (self.is_worded && self.newest > 0, self.state().job()) {
                let hold = Terms { hold: true, ..Terms::default() };
                ask(Event::Asked(Install { origin: Origin::Method, ..self.wish(self.newest).on(hold) }));
                let mut reworded = Self { words: 1, ..self.clone() };
                reworded.connect(mutation);
                worlds.push(reworded);
            }
            let mut reloaded = self.clone();
            reloaded.reload(mutation);
            worlds.push(reloaded);
        }
        if self.closed().is_some() {
            let in_advance = (self.faults == self.all_faults).then_some(Origin::Desired);
            for by in in_advance.into_iter().chain([Origin::Method]) {
                let mut agreed = self.clone();
                agreed.agree(mutation, by);
                worlds.push(agreed);
            }
        }
        let wishes = if self.factory.is_some() || self.is_worded { 1 } else { 2 };
        if self.newest < wishes {
            let mut world = self.clone();
            world.newest += 1;
            world.connect(mutation);
            worlds.push(world);
        }
        let mut again = self.clone();
        again.connect(mutation);
        worlds.push(again);
    }

    /// Somebody agrees to what is asked, or did so in advance without knowing what.
    fn agree(&mut self, mutation: Mutation, by: Origin) {
        if let (Some(Gate { wait: Wait::Cost { cost, .. }, .. }), Origin::Method) = (self.closed(), by) {
            self.agreed = cost.fetch;
        }
        self.deliver(mutation, Event::Apply(by));
    }

    /// A fault strikes: the process dies, the power fails, or with it the newest record, or all of them.
    fn faulted(mut self, mutation: Mutation, worlds: &mut Vec<World>) {
        self.faults -= 1;
        let mut restarted = self.clone();
        restarted.start(mutation);
        worlds.push(restarted);
        self.power_cycle();
        if !self.lost {
            for record in [None, self.older.clone()] {
                let mut lost = self.clone();
                (lost.record, lost.older, lost.lost) = (record, None, true);
                lost.start(mutation);
                worlds.push(lost);
            }
        }
        self.start(mutation);
        worlds.push(self);
    }

    /// The course without faults: works succeed where they can.
    pub fn fair(&self, mutation: Mutation) -> World {
        if self.state().work() == Work::Reboot {
            return self.rebooted(mutation);
        }
        if self.closed().is_some() {
            let mut world = self.clone();
            world.agree(mutation, Origin::Method);
            return world;
        }
        let preferred = |event: &Event| !matches!(event, Event::Failed(_));
        let courses = self.courses();
        let mut chosen = courses.iter().find(|(_, event)| preferred(event)).or(courses.first()).cloned();
        if let Some((world, event)) = &mut chosen {
            world.deliver(mutation, event.clone());
        }
        chosen.map_or_else(|| self.clone(), |(world, _)| world)
    }

    /// Where a device must be when nothing more happens to it: at rest, on a good default, with an answer to the
    /// newest wish.
    pub fn check_settled(&self) {
        assert!(self.state().work() == Work::Rest, "does not settle: {self:?}");
        assert!(self.holds(self.booted).is_good(), "rests on {:?}: {self:?}", self.holds(self.booted));
        if let Some(wanted) = self.record.as_ref().and_then(|record| record.wanted.as_ref()) {
            assert!(wanted.settled, "rests with an unanswered wish: {self:?}");
            assert!(
                *wanted.wish.id() == self.wish(self.newest).id,
                "the newest wish was forgotten: {self:?}"
            );
        }
        if self.newest == 2 && self.same_version && self.record.is_some() && !self.lost {
            assert!(
                !self.slots.contains(&Image::Update(2, self.kinds[1])),
                "wrote what ran already: {self:?}"
            );
        }
    }
}

/// Whether it says something about the new system, and not only that there was none.
fn is_verdict(ended: &Ended) -> bool {
    matches!(ended.outcome, Outcome::Succeeded | Outcome::RolledBack(_))
}

/// More steps than this are as good as any number of them, with so few faults.
const FEW_STEPS: u8 = 40;
