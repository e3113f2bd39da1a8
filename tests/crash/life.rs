//! One life of a device: a story, with trouble in it, until it is settled, and what must be so on the way.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use hub_emulator::device::Slot;
use serde_json::Value;
use tempfile::TempDir;

use super::boxed::{Boxed, Gone, Heard, Trouble};
use super::device::{Device, Image};
use super::fault::Fault;
use super::hub::Twin;
use super::stories::{End, IMAGES, STORIES, Step, Story, V1};
use super::truth::{self, Proven};

/// Far longer than anything here takes, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(90);
/// After a fault: it may wait before it tries again. Then the power goes, which must be as good.
const QUIET: Duration = Duration::from_millis(400);
/// More runs of the daemon than any life has.
const RUNS: usize = 60;

/// A cut, counted in calls from the one before it, or from the beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cut {
    pub(super) at: u64,
    /// Of the power, by this seed; of the daemon alone if none.
    pub(super) power: Option<u64>,
}

/// What a life is to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Which story, by its place in the list.
    pub(super) story: usize,
    pub(super) cuts: Vec<Cut>,
    /// The call that fails, counted from the beginning, and how.
    pub(super) fault: Option<(u64, Fault)>,
    pub(super) plants: Vec<String>,
    /// Whether another update follows.
    pub(super) goes_on: bool,
}

/// What came of a life.
#[derive(Clone, Debug, Default)]
pub(super) struct Lived {
    /// Calls of the whole story, less those of what follows it.
    pub(super) calls: Vec<String>,
    /// Cuts that took place.
    pub(super) cuts: usize,
    /// Whether the call that was to fail was reached.
    pub(super) hit: bool,
    /// What was wrong, with the story of it.
    pub(super) violation: Option<String>,
}

/// How far one run of the daemon got.
enum Ran {
    Settled,
    Again,
}

struct Life<'a> {
    directory: TempDir,
    device: Device,
    twin: Option<Twin>,
    story: &'static Story,
    images: &'static [Image],
    plan: &'a Plan,
    lived: Lived,
    proven: Proven,
    booted: Option<(Slot, usize)>,
    /// Calls so far that count towards the next cut, and towards the fault.
    since_cut: u64,
    since_start: u64,
    steps: Vec<Step>,
    /// Which step is next.
    step: usize,
    /// It was asked for and there was no answer.
    in_doubt: bool,
    /// A call has failed in this chapter.
    is_troubled: bool,
    /// How the update before this chapter ended.
    before: Value,
    /// Nothing was told yet since it was started.
    is_fresh: bool,
    last: Value,
    notes: String,
}

/// Lives it.
pub(super) fn live(plan: &Plan) -> Lived {
    match Life::begin(plan) {
        Ok(mut life) => {
            if let Err(why) = life.tell() {
                let story = life.story_so_far(&why);
                life.lived.violation = Some(story);
            }
            life.lived
        }
        Err(error) => {
            Lived { violation: Some(format!("the device cannot be made: {error}")), ..Lived::default() }
        }
    }
}

impl<'a> Life<'a> {
    fn begin(plan: &'a Plan) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("crash-").tempdir()?;
        let story = &STORIES[plan.story];
        let device = Device::new(directory.path(), &IMAGES[V1], &story.config)?;
        if let Some(key) = &story.key {
            let file = device.path("keys.d/root.pem");
            fs::write(&file, key)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
        }
        let twin = if story.has_hub { Some(Twin::register(&device)?) } else { None };
        let mut proven = Proven::default();
        proven.note(Slot::A, V1);
        Ok(Self {
            directory,
            device,
            twin,
            story,
            images: &IMAGES,
            plan,
            lived: Lived::default(),
            proven,
            booted: None,
            since_cut: 0,
            since_start: 0,
            steps: Vec::new(),
            step: 0,
            in_doubt: false,
            is_troubled: false,
            before: Value::Null,
            is_fresh: true,
            last: Value::Null,
            notes: String::new(),
        })
    }

    fn tell(&mut self) -> Result<(), String> {
        for (steps, end) in &self.story.chapters {
            if !self.chapter(steps, end)? {
                // Those after it build upon it.
                break;
            }
        }
        let told = self.lived.calls.len();
        if self.plan.goes_on {
            self.note("and one more update");
            let (steps, end) = &self.story.next;
            self.chapter(steps, end)?;
        }
        self.lived.calls.truncate(told);
        let said = fs::read_to_string(self.directory.path().join("said")).unwrap_or_default();
        for (sign, what) in [("panicked at", "it panicked"), ("SharedAccess", "it told a secret")] {
            if said.contains(sign) {
                return Err(what.into());
            }
        }
        Ok(())
    }

    /// Lets the daemon run, and again, until the end of what these steps ask for. Whether it is the one that they have
    /// where no call fails.
    fn chapter(&mut self, steps: &[Step], end: &End) -> Result<bool, String> {
        self.steps = steps.to_vec();
        (self.step, self.in_doubt, self.is_troubled) = (0, false, false);
        self.before = self.last.clone();
        for _ in 0..RUNS {
            let (slot, image) = self.device.boot(self.images).map_err(|error| error.to_string())?;
            self.note(&format!("slot {} boots {}", slot.letter(), self.images[image].version));
            self.booted = Some((slot, image));
            if self.images[image].is_healthy {
                self.proven.note(slot, image);
            }
            if let Ran::Settled = self.run()? {
                // What could not be saved was done all the same on the way out of a trial, and told: the bootloader has
                // it. The next run must find that out, and say the same.
                if self.is_troubled && !self.is_recorded()? {
                    self.note("the record is behind");
                    continue;
                }
                return self.judge(end);
            }
        }
        Err(format!("it does not settle within {RUNS} runs"))
    }

    /// One run of the daemon, from its start to its end.
    fn run(&mut self) -> Result<Ran, String> {
        let cut = self.plan.cuts.get(self.lived.cuts);
        let fault = self.plan.fault.filter(|(at, _)| !self.lived.hit && *at > self.since_start);
        let trouble = Trouble {
            cut: cut.map(|cut| cut.at.saturating_sub(self.since_cut).max(1)),
            // The end of a life is a cut that loses all there is to lose.
            power: cut.map_or(Some(0), |cut| cut.power),
            fault: fault.map(|(at, fault)| (at - self.since_start, fault)),
            plants: self.plan.plants.clone(),
        };
        let boxed = Boxed::start(self.directory.path(), &trouble).map_err(|error| error.to_string())?;
        self.is_fresh = true;
        // A call fails in one run only: those after it must need no help.
        let (mut reboots, mut fails) = (false, false);
        let mut deadline = Instant::now() + LIMIT;
        let (gone, settled) = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match boxed.next(left) {
                Some(Heard::Listening) => boxed.watch(),
                Some(Heard::Reboot) => {
                    self.note("it asks for a reboot");
                    (reboots, deadline) = (true, Instant::now() + LIMIT);
                }
                Some(Heard::Hit) => {
                    self.hit();
                    (fails, deadline) = (true, Instant::now() + QUIET);
                }
                Some(Heard::Gone(gone)) => break (gone, false),
                Some(Heard::Status(status)) if !reboots => {
                    if self.hear(&boxed, &status)? {
                        break (self.switch_off(boxed)?, true);
                    }
                    if fails {
                        deadline = Instant::now() + QUIET;
                    }
                }
                Some(Heard::Status(_)) => {}
                None if fails => {
                    self.note("the power goes, since nothing happens");
                    // It may just have been on its way out.
                    reboots = true;
                    break (self.switch_off(boxed)?, false);
                }
                None => return Err(format!("nothing happens within {LIMIT:?}; last was {}", self.last)),
            }
        };
        self.ended(&gone, reboots, settled)
    }

    fn switch_off(&mut self, boxed: Boxed) -> Result<Gone, String> {
        let (gone, is_hit) = boxed.kill().ok_or("the box does not end")?;
        if is_hit {
            self.hit();
        }
        Ok(gone)
    }

    fn awaits_fault(&self) -> bool {
        self.plan.fault.is_some() && !self.lived.hit
    }

    fn hit(&mut self) {
        self.note("a call fails");
        (self.lived.hit, self.is_troubled) = (true, true);
    }

    fn ended(&mut self, gone: &Gone, reboots: bool, settled: bool) -> Result<Ran, String> {
        let calls = fs::read_to_string(self.directory.path().join("calls")).unwrap_or_default();
        self.lived.calls.extend(calls.lines().map(str::to_owned));
        self.since_cut += gone.calls;
        self.since_start += gone.calls;
        match gone.how.as_str() {
            "cut" if settled => {}
            "cut" => {
                let cut = self.plan.cuts.get(self.lived.cuts).filter(|cut| self.since_cut >= cut.at);
                if let Some(cut) = cut {
                    let call = calls.lines().last().unwrap_or_default();
                    self.note(&format!("cut {} before call {call}", self.lived.cuts + 1));
                    if let Some(seed) = cut.power {
                        self.note(&format!("the power went, seed {seed}"));
                    }
                    (self.since_cut, self.lived.cuts) = (0, self.lived.cuts + 1);
                }
            }
            "ended" if reboots && gone.status < 128 => {}
            how => return Err(format!("{how}: it is gone with status {}", gone.status)),
        }
        let rest = truth::at_rest(&self.device, self.images, &self.proven, self.booted);
        rest.map_err(|error| error.to_string())??;
        // The first save of all may be torn: nothing was promised by then.
        let is_saved = |call: &String| call.contains("sync state/record") && !call.ends_with("CUT");
        if settled || !self.is_troubled && self.lived.calls.iter().any(is_saved) {
            truth::record(&self.device)?;
        }
        Ok(if settled { Ran::Settled } else { Ran::Again })
    }

    /// A status: asks for what is to be asked for then. Whether all is over.
    fn hear(&mut self, boxed: &Boxed, status: &Value) -> Result<bool, String> {
        let phase = status["phase"].as_str().unwrap_or_default().to_owned();
        self.last = status["last"].clone();
        let is_idle = phase == "idle";
        let has_ended = self.last != self.before;
        if self.is_fresh {
            self.note(&format!("it is {phase}"));
        }
        let fresh = std::mem::take(&mut self.is_fresh);
        if self.in_doubt && self.steps[self.step].when == "idle" && (!is_idle || has_ended) {
            // It had begun.
            (self.in_doubt, self.step) = (false, self.step + 1);
        }
        // A hub says it again.
        let is_granted = self.step > 0 && self.twin.is_none();
        if fresh && is_granted && is_idle && !has_ended && !self.is_troubled {
            return Err("what was granted is forgotten".into());
        }
        if let (Some(twin), Some(step)) = (&self.twin, self.steps.get(self.step)) {
            if let Some(image) = step.twin.filter(|_| step.when == phase) {
                twin.desire(image, &step.request["sha256"], step.request["hold"] == true)?;
                (self.step, self.in_doubt) = (self.step + 1, false);
                self.note(&format!("{} is wanted", self.images[image].version));
            }
            // What has failed is not staged any more.
            return Ok(self.step > 0 && is_idle && has_ended && self.is_troubled);
        }
        if self.step > 0 && is_idle && has_ended {
            // Whatever else was to be asked for on the way: it is too late for that.
            return Ok(true);
        }
        let Some(step) = self.steps.get(self.step).filter(|step| step.when == phase).cloned() else {
            return Ok(false);
        };
        self.in_doubt = true;
        let what = step.request["request"].as_str().unwrap_or_default();
        let Ok(answer) = boxed.ask(&step.request) else {
            self.note(&format!("{what} is asked for, and there is no answer"));
            return Ok(false);
        };
        self.note(&format!("{what} is asked for: {answer}"));
        // Asked for again if it was forgotten.
        let is_kept = !answer["message"].as_str().unwrap_or_default().contains("a restart forgets it");
        match answer["ok"] == true {
            true if !is_kept => {}
            true => (self.in_doubt, self.step) = (false, self.step + 1),
            // Whether the call failed by then is heard of later.
            false if self.is_troubled || self.awaits_fault() || !is_idle => {}
            false => return Err(format!("{what} is refused: {answer}")),
        }
        Ok(false)
    }

    /// What was told in the end is true, is what must come of the story, and is what the record says.
    fn judge(&mut self, end: &End) -> Result<bool, String> {
        let (outcome, code) = (self.last["outcome"].clone(), self.last["code"].clone());
        self.note(&format!("it {outcome} {code}"));
        let as_told = outcome == end.outcome && code.as_str() == end.code;
        // What was cut short too often is given up.
        let interrupted =
            self.lived.cuts > 2 && matches!(code.as_str(), Some("boot.interrupted" | "boot.fallback"));
        if !as_told && !self.is_troubled && !interrupted {
            return Err(format!("it ended otherwise than as {} {:?}: {}", end.outcome, end.code, self.last));
        }
        let (slot, image) = self.booted.ok_or("it never ran")?;
        if as_told && image != end.runs {
            let runs = self.images[image].version;
            return Err(format!("{runs} runs, and it must be {}", self.images[end.runs].version));
        }
        if outcome == "succeeded" && image != end.runs {
            return Err("it says that it succeeded, and something else runs".into());
        }
        let default = hub_emulator::device::loader::default(&self.device.environment);
        if default != Some(slot) {
            return Err(format!("{slot:?} runs, and {default:?} boots by default"));
        }
        if self.is_recorded()? {
            return Ok(as_told);
        }
        Err(format!("told was {}, and the record is {:?}", self.last, truth::record(&self.device)?))
    }

    /// Whether the record says what was told last.
    fn is_recorded(&self) -> Result<bool, String> {
        let record = truth::record(&self.device)?.unwrap_or_default();
        Ok(record["state"] == "idle" && record["last"]["id"] == self.last["id"])
    }

    fn note(&mut self, text: &str) {
        let _ = writeln!(self.notes, "  {text}");
    }

    fn story_so_far(&self, why: &str) -> String {
        let said = fs::read_to_string(self.directory.path().join("said")).unwrap_or_default();
        let lines: Vec<_> = said.lines().filter(|line| !line.contains("DEBUG")).collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n    ");
        format!("{why}\n{}  what it said last:\n    {tail}", self.notes)
    }
}
