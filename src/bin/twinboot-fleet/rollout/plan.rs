//! A roll-out: which image, for whom, in which waves, and how far it is. Kept in the labels of its configuration, so
//! that anybody can go on with it from anywhere. Pure.

use serde_json::{Map, Value, json};

use super::census::Told;
use crate::arguments::{Share, Size};
use crate::failure::{Failure, Outcome};

const REPORTED: &str = "properties.reported.firmware";
/// A condition that holds for no device.
const NOBODY: &str = "deviceId = ''";

/// Where a roll-out stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// Nobody gets it yet: its devices are being marked.
    Preparing,
    /// Devices of the waves so far get it.
    Running,
    /// Only devices that have begun keep it: somebody said so.
    Paused,
    /// The same: too many had failed.
    Halted,
    /// Only devices that run it already keep it, so that nothing older takes its place.
    Aborted,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Aborted => "aborted",
        }
    }

    fn of(word: &str) -> Option<Self> {
        let states = [Self::Preparing, Self::Running, Self::Paused, Self::Halted, Self::Aborted];
        states.into_iter().find(|state| state.word() == word)
    }
}

/// A roll-out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Rollout {
    /// The configuration's id.
    pub(crate) id: String,
    /// What it brings.
    pub(crate) version: String,
    /// Whom it is for.
    pub(crate) target: String,
    /// Devices in all after each wave; none is all at once.
    pub(crate) waves: Vec<Size>,
    /// Which wave it is in, from 0.
    pub(crate) wave: usize,
    /// More failures than this halt it.
    pub(crate) halt_at: Share,
    /// The next wave begins when so many have ended.
    pub(crate) enough: Share,
    /// Where it stands.
    pub(crate) state: State,
    /// Why it has halted, if it has; one that was aborted after that still says so.
    pub(crate) why: Option<String>,
    /// When it was made, by the hub's clock: what failed since then has failed with it. Empty if that is not known yet.
    pub(crate) created: String,
    /// When it was resumed for the last time, if it ever was.
    pub(crate) resumed: String,
    /// What its marks have that those of another roll-out by this id, deleted or never made, have not: such marks stay in
    /// the devices' tags, and with other waves they are others. Empty in one that was made before there was such a thing.
    pub(crate) nonce: String,
}

impl Rollout {
    /// Reads it from a configuration; none if it was not made by this tool.
    pub(crate) fn of(configuration: &Value) -> Option<Self> {
        let label = |name: &str| configuration["labels"][name].as_str();
        let waves = label("twinbootWaves")?.split(',').filter(|size| !size.is_empty());
        Some(Self {
            id: configuration["id"].as_str()?.to_owned(),
            version: label("twinbootVersion")?.to_owned(),
            target: label("twinbootTarget")?.to_owned(),
            waves: waves.map(|size| size.parse().ok()).collect::<Option<_>>()?,
            wave: label("twinbootWave")?.parse::<usize>().ok()?.checked_sub(1)?,
            halt_at: label("twinbootHaltAt")?.parse().ok()?,
            enough: label("twinbootEnough")?.parse().ok()?,
            state: State::of(label("twinbootState")?)?,
            why: label("twinbootWhy").filter(|why| !why.is_empty()).map(str::to_owned),
            created: configuration["createdTimeUtc"].as_str().unwrap_or_default().to_owned(),
            resumed: label("twinbootResumed").unwrap_or_default().to_owned(),
            nonce: label("twinbootMark").unwrap_or_default().to_owned(),
        })
    }

    /// Everything as labels are: text.
    fn labels(&self) -> Map<String, Value> {
        let waves: Vec<_> = self.waves.iter().map(Size::to_string).collect();
        [
            ("twinbootVersion", self.version.clone()),
            ("twinbootTarget", self.target.clone()),
            ("twinbootWaves", waves.join(",")),
            ("twinbootWave", (self.wave + 1).to_string()),
            ("twinbootHaltAt", self.halt_at.to_string()),
            ("twinbootEnough", self.enough.to_string()),
            ("twinbootState", self.state.word().to_owned()),
            ("twinbootWhy", self.why.clone().unwrap_or_default()),
            ("twinbootResumed", self.resumed.clone()),
            ("twinbootMark", self.nonce.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect()
    }

    /// Whether this wave is the last.
    pub(crate) fn is_last(&self) -> bool {
        self.wave + 1 >= self.waves.len()
    }

    /// Whether this wave is everybody for whom the target condition holds, marked or not.
    fn is_all(&self) -> bool {
        self.waves.get(self.wave).is_none_or(|size| size.is_all())
    }

    /// This wave, in words.
    pub(crate) fn wave_words(&self) -> String {
        match self.waves.get(self.wave) {
            Some(size) => format!("wave {} of {} ({size})", self.wave + 1, self.waves.len()),
            None => "all at once".to_owned(),
        }
    }

    /// How many devices each wave marks, of so many in all: growing, and no more than there are.
    pub(crate) fn sizes(&self, all: u64) -> Vec<u64> {
        let mut least = 0;
        let marked = self.waves.iter().take_while(|size| !size.is_all());
        marked
            .map(|size| {
                least = size.of(all).max(least);
                least
            })
            .collect()
    }

    /// That it has halted, where, and why; none if it has not.
    pub(crate) fn halted(&self) -> Option<String> {
        let why = self.why.as_deref().unwrap_or("too many devices failed");
        (self.state == State::Halted)
            .then(|| format!("{} has halted in {}: {why}", self.id, self.wave_words()))
    }

    /// For whom it is as of now: the configuration's target condition.
    pub(crate) fn condition(&self) -> String {
        let whole = if self.is_all() { self.target.clone() } else { self.and(&self.mark()) };
        match self.state {
            State::Preparing => NOBODY.to_owned(),
            State::Running => whole,
            State::Paused | State::Halted => both(&whole, &self.begun()),
            // Not by marks: those may be another's by now.
            State::Aborted => self.and(&self.switched()),
        }
    }

    /// Those among the target for whom something else holds, too.
    pub(crate) fn and(&self, condition: &str) -> String {
        both(&self.target, condition)
    }

    /// When its devices were told; none if that is not known.
    pub(crate) fn told(&self) -> Option<Told> {
        let last = [&self.resumed, &self.created].into_iter().find(|time| is_time(time))?;
        Some(Told { first: self.created.clone(), last: last.clone() }).filter(|told| is_time(&told.first))
    }

    /// Devices that have begun, well or not. One that has failed does not try the same again by itself; without this wish it
    /// would turn to an older one, have that fulfilled, and say no more why it failed.
    fn begun(&self) -> String {
        let version = &self.version;
        let there =
            format!("{REPORTED}.pendingFwVersion = '{version}' OR {REPORTED}.currentFwVersion = '{version}'");
        if !is_time(&self.created) {
            return format!("({there})");
        }
        let failed = format!("{REPORTED}.fwUpdateStatus IN ['error', 'rolledback']");
        format!("({there} OR ({failed} AND {REPORTED}.lastFwUpdateEndTime >= '{}'))", self.created)
    }

    /// Devices that run the new version, or are rebooting into it and cannot be stopped any more. To them a wish that is
    /// fulfilled says nothing, and an older one would be news.
    fn switched(&self) -> String {
        let version = &self.version;
        format!(
            "({REPORTED}.currentFwVersion = '{version}' OR ({REPORTED}.pendingFwVersion = '{version}' AND \
             {REPORTED}.fwUpdateStatus = 'rebooting'))"
        )
    }

    /// The tag of the devices that this wave adds.
    pub(super) fn tag(&self, wave: usize) -> Value {
        json!({"twinboot": {"rollout": self.id, "mark": self.nonce, "wave": wave + 1}})
    }

    /// Whether it would lose devices whose marks become another's: it goes by marks, and gives something to somebody.
    pub(crate) fn needs_marks(&self) -> bool {
        self.state != State::Aborted && !self.is_all()
    }

    /// The devices that bear its marks, of whichever wave.
    pub(super) fn marked(&self) -> String {
        let id = format!("tags.twinboot.rollout = '{}'", self.id);
        if self.nonce.is_empty() { id } else { format!("{id} AND tags.twinboot.mark = '{}'", self.nonce) }
    }

    fn mark(&self) -> String {
        format!("{} AND tags.twinboot.wave <= {}", self.marked(), self.wave + 1)
    }

    /// The whole configuration, to be made.
    pub(crate) fn document(&self, firmware: &Value, priority: u32) -> Value {
        json!({
            "id": self.id,
            "schemaVersion": "1.0",
            "labels": self.labels(),
            "content": {"deviceContent": {"properties.desired.firmware": firmware}},
            "targetCondition": self.condition(),
            "priority": priority,
            "metrics": {"queries": self.metrics()},
        })
    }

    /// A configuration as it was read, brought to where this roll-out stands now.
    pub(crate) fn change(&self, mut configuration: Value) -> Value {
        configuration["targetCondition"] = json!(self.condition());
        match configuration["labels"].as_object_mut() {
            Some(labels) => labels.extend(self.labels()),
            None => configuration["labels"] = Value::Object(self.labels()),
        }
        configuration
    }

    /// The tutorials' five.
    fn metrics(&self) -> Map<String, Value> {
        let status = |word: &str| format!("{REPORTED}.fwUpdateStatus='{word}'");
        let applying = ["downloading", "verifying", "applying"].map(status).join(" OR ");
        [
            ("current", status("current")),
            ("applying", format!("({applying})")),
            ("rebooting", status("rebooting")),
            ("error", status("error")),
            ("rolledback", status("rolledback")),
        ]
        .into_iter()
        .map(|(name, condition)| {
            let query = format!("SELECT deviceId FROM devices WHERE {} AND {condition}", applied(&self.id));
            (name.to_owned(), Value::String(query))
        })
        .collect()
    }
}

/// Devices for which both hold.
pub(super) fn both(one: &str, other: &str) -> String {
    match (one.trim(), other.trim()) {
        ("*", _) => other.to_owned(),
        (_, "*") => one.to_owned(),
        _ => format!("({one}) AND {other}"),
    }
}

/// Whether this is a time as the hub and the devices write it; it stands in conditions.
fn is_time(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b"-+:.TZ".contains(&b))
}

/// Devices on which a configuration is in force.
pub(crate) fn applied(id: &str) -> String {
    format!("configurations.[[{id}]].status='Applied'")
}

/// Whether this can be the id of a configuration; it stands in queries, too.
///
/// # Errors
/// If not.
pub(crate) fn check_id(id: &str) -> Outcome {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    if (1..=128).contains(&id.len()) && id.bytes().all(good) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{id:?} cannot be the ID of a roll-out: lower-case letters, digits, '-' and '_', up to 128"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rollout(waves: &str) -> Rollout {
        Rollout {
            id: "gw-2".into(),
            version: "2.0.0".into(),
            target: "tags.a = 'x' OR tags.b = 1".into(),
            waves: waves
                .split(',')
                .filter(|size| !size.is_empty())
                .map(|size| size.parse().unwrap())
                .collect(),
            wave: 0,
            halt_at: "5%".parse().unwrap(),
            enough: "90%".parse().unwrap(),
            state: State::Running,
            why: None,
            created: String::new(),
            resumed: String::new(),
            nonce: "4c1d".into(),
        }
    }

    #[test]
    fn a_roll_out_is_read_again_from_its_labels() {
        for waves in ["", "5,10%,100%"] {
            let mut there = rollout(waves);
            let mut configuration = there.document(&json!({"fwVersion": "2.0.0"}), 7);
            assert_eq!(Rollout::of(&configuration).as_ref(), Some(&there));
            configuration["labels"]["owner"] = json!("me");
            (there.wave, there.state) = (1, State::Halted);
            there.why = Some("2 of 2 devices failed".into());
            let changed = there.change(configuration);
            assert_eq!(Rollout::of(&changed), Some(there));
            assert_eq!((&changed["labels"]["owner"], &changed["priority"]), (&json!("me"), &json!(7)));
        }
        assert_eq!(Rollout::of(&json!({"id": "other", "labels": {}})), None);
    }

    #[test]
    fn the_condition_is_the_wave_and_keeps_its_brackets() {
        let mut there = rollout("2,100%");
        assert_eq!(
            there.condition(),
            "(tags.a = 'x' OR tags.b = 1) AND tags.twinboot.rollout = 'gw-2' AND tags.twinboot.mark = '4c1d' AND \
             tags.twinboot.wave <= 1"
        );
        assert!(there.needs_marks());
        there.wave = 1;
        assert!(there.is_last());
        assert_eq!(there.condition(), there.target);
        assert!(!there.needs_marks());
        there.state = State::Paused;
        assert!(
            there
                .condition()
                .starts_with("(tags.a = 'x' OR tags.b = 1) AND (properties.reported.firmware.pending")
        );
        there.target = "*".into();
        assert!(there.condition().starts_with("(properties.reported"));
        there.wave = 0;
        there.state = State::Running;
        assert!(there.condition().starts_with("tags.twinboot.rollout"));
        // Who failed since it was made keeps it, and says why.
        (there.state, there.created) = (State::Halted, "2026-11-22T09:00:00.000Z".into());
        assert!(there.condition().ends_with(
            " OR (properties.reported.firmware.fwUpdateStatus IN ['error', 'rolledback'] AND \
             properties.reported.firmware.lastFwUpdateEndTime >= '2026-11-22T09:00:00.000Z'))"
        ));
        there.created = "x' OR deviceId != '".into();
        assert!(!there.condition().contains("deviceId"));
        // By no marks, and nobody who does not run it.
        (there.state, there.target) = (State::Aborted, "tags.a = 1".into());
        assert_eq!(
            there.condition(),
            "(tags.a = 1) AND (properties.reported.firmware.currentFwVersion = '2.0.0' OR \
             (properties.reported.firmware.pendingFwVersion = '2.0.0' AND \
             properties.reported.firmware.fwUpdateStatus = 'rebooting'))"
        );
        there.state = State::Preparing;
        assert_eq!((there.condition().as_str(), there.needs_marks()), (NOBODY, true));
        (there.state, there.target) = (State::Running, "*".into());
        // One that was made before marks were told apart by more than the id.
        there.nonce.clear();
        assert_eq!(there.condition(), "tags.twinboot.rollout = 'gw-2' AND tags.twinboot.wave <= 1");
    }

    #[test]
    fn waves_grow() {
        assert_eq!(rollout("1%,10%,100%").sizes(200), [2, 20]);
        assert_eq!(rollout("50,10%,100%").sizes(200), [50, 50]);
        assert_eq!(rollout("").sizes(200), [0; 0]);
        assert_eq!(rollout("10%").sizes(5), [1]);
    }
}
