//! A device as the core sees it: what is durable, what runs, and what the hub wants.

use std::hash::{DefaultHasher, Hash, Hasher};

use twinboot::model::{
    Artifact, BootId, Ended, Factory, Failure, Image as Written, Install, Location, Origin, Outcome, Reason,
    Sha256, Slot, UpdateId, Version,
};
use twinboot::update::{Event, Facts, Job, Phase, Plan, Record, State, Wish, Work};

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
        }
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
            floor: None,
            overdue: None,
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
        let url = format!("https://h/{number}").parse().expect("good address");
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
        let number = if job.id == self.wish(1).id { 1 } else { 2 };
        Image::Update(number, self.kinds[usize::from(number) - 1])
    }

    /// One event: step, then store.
    fn deliver(&mut self, mutation: Mutation, event: Event) {
        let before = self.record.clone().unwrap_or_default();
        let mut after = before.clone();
        let answer = after.step(&self.facts(), None, event.clone());
        if let State::Busy(job) = &mut after.state {
            // How many steps are left matters only when few are: let worlds that behave alike be equal.
            job.steps_left = if job.steps_left < FEW_STEPS { job.steps_left } else { Job::STEPS };
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
            if after.state.job().is_some_and(|job| job.id.0 == UpdateId::FACTORY_RESET) && !self.lost {
                self.data = Data::Untouched;
            }
        }
        let told = after.last.clone().filter(|_| before.last != after.last);
        let older = self.record.replace(after);
        self.older = older.filter(|_| self.faults > 0 && !self.lost);
        self.check();
        if let Some(told) = told.filter(Ended::is_factory_reset) {
            self.check_reset(&told.outcome);
        }
        self.forget();
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
        let taken = [known(&self.record), known(&self.older), Some(BootId(self.boot.to_string()))];
        (0..).find(|boot| !taken.contains(&Some(BootId(u8::to_string(boot))))).expect("four are enough")
    }

    /// The invariants that hold at every moment.
    fn check(&self) {
        assert!(
            self.holds(self.default).is_good(),
            "the default slot holds {:?}: {self:?}",
            self.holds(self.default)
        );
        let Some(record) = &self.record else { return };
        let (State::Idle, Some(last)) = (&record.state, &record.last) else { return };
        let exhausted = |why: &Reason| why.failure == Failure::Exhausted;
        match &last.outcome {
            Outcome::Succeeded => {
                let good =
                    self.booted == self.default && self.trial.is_none() && self.holds(self.default).is_good();
                assert!(good || self.lost, "success was told: {self:?}");
                let same = last.id.0 == "go-back"
                    || last.is_factory_reset() && self.factory.is_some_and(|reset| reset.image.is_none());
                let new = same || self.holds(self.booted) != Image::Factory;
                assert!(new || self.lost, "success of what? {self:?}");
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
            Phase::Accepted | Phase::Staged => {
                vec![(self.clone(), Event::Proceed), (self.clone(), failed(Failure::HookFailed))]
            }
            Phase::Downloading => {
                let target = job.target;
                assert!(!self.refused || self.lost, "downloaded although a hook said no: {self:?}");
                if target == self.booted || target == self.default {
                    // The witness type cannot be made: see `model::TargetSlot`.
                    assert!(self.lost, "a live slot was to be written: {self:?}");
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
                let image = Written { sha256: Sha256([1; 32]), len: 1 };
                let mut courses = vec![
                    (self.clone(), failed(Failure::BootUnwritable)),
                    (filled(Image::Junk), failed(Failure::DownloadUnreachable)),
                    (filled(wanted), Event::Written { image: image.clone(), seal: None }),
                ];
                if self.faults > 0 {
                    let mut lied = filled(Image::Junk);
                    lied.faults -= 1;
                    courses.push((lied, Event::Written { image, seal: None }));
                }
                courses
            }
            Phase::Verifying if self.holds(job.target) == wanted || job.image.is_none() => {
                vec![(with(&|world| world.witness = true), Event::Done)]
            }
            Phase::Verifying => vec![(self.clone(), failed(Failure::ReadbackMismatch))],
            Phase::Applying => {
                let target = job.target;
                assert!(self.holds(target) == wanted || job.image.is_none(), "armed unverified: {self:?}");
                assert!(target != self.booted && target != self.default, "armed a live slot: {self:?}");
                assert!(!self.refused || self.lost, "armed although a hook said no: {self:?}");
                assert!(self.witness, "armed without reading back: {self:?}");
                let armed = with(&|world| (world.trial, world.witness) = (Some((target, TRIES)), false));
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
                let done = with(&|world| (world.default, world.trial) = (target, None));
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
            let mut reloaded = self.clone();
            reloaded.reload(mutation);
            worlds.push(reloaded);
        }
        let wishes = if self.factory.is_some() { 1 } else { 2 };
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

/// More steps than this are as good as any number of them, with so few faults.
const FEW_STEPS: u8 = 40;
