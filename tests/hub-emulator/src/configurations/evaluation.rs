//! Who wins on which device: evaluating configurations, placing and removing their settings. Not their keeping.
//!
//! For each path the highest priority wins, ties go to the newer one. What a configuration has put into a device's
//! desired properties leaves again when it no longer wins there, and the next best takes the place.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Configuration, DESIRED};
use crate::events::EventKind;
use crate::hub::Hub;
use crate::registry::configuration_status;
use crate::twin;

impl Hub {
    /// After a change of one device: evaluates it unless evaluation is left to the period.
    pub(crate) fn settle(&mut self, id: &str) {
        if self.immediate {
            self.evaluate(id);
        }
    }

    /// Evaluates every configuration for every device.
    pub(crate) fn evaluate_all(&mut self) {
        self.keys().iter().for_each(|id| self.evaluate(id));
    }

    /// Decides which configurations target the device and what each path should hold, and sends the difference.
    fn evaluate(&mut self, id: &str) {
        let twin = self.twin(id);
        let mut targeting: Vec<&Configuration> =
            self.configurations.values().filter(|configuration| configuration.targets(id, &twin)).collect();
        targeting.sort_by_key(|configuration| (-configuration.priority, u64::MAX - configuration.serial));
        let mut winners: BTreeMap<String, (String, Value)> = BTreeMap::new();
        let mut standing: BTreeMap<String, bool> = BTreeMap::new();
        for configuration in targeting {
            let mut applied = configuration.content.settings.is_empty();
            for (path, value) in &configuration.content.settings {
                let taken = winners
                    .iter()
                    .any(|(other, (owner, _))| *owner != configuration.id && overlap(other, path));
                if !taken {
                    winners.insert(path.clone(), (configuration.id.clone(), value.clone()));
                    applied = true;
                }
            }
            standing.insert(configuration.id.clone(), applied);
        }
        let Some(device) = self.find(id) else { return };
        let goal = goal(device.desired.value(), &device.owned, &winners);
        let patch = twin::difference(device.desired.value(), &goal);
        // A device whose desired properties would grow too large stays Targeted, and keeps what it has.
        let before = device.owned.clone();
        if !patch.is_empty() && self.patch_desired(id, patch).is_err() {
            standing.values_mut().for_each(|applied| *applied = false);
            winners = before;
        }
        self.record_standing(id, winners, standing);
    }

    fn record_standing(
        &mut self,
        id: &str,
        owned: BTreeMap<String, (String, Value)>,
        standing: BTreeMap<String, bool>,
    ) {
        let Some(device) = self.find_mut(id) else { return };
        device.owned = owned;
        let before = std::mem::replace(&mut device.configurations, standing.clone());
        let gone = before.keys().filter(|old| !standing.contains_key(*old)).map(|old| (old, ""));
        let changed = standing.iter().filter(|(new, applied)| before.get(*new) != Some(*applied));
        let changed = changed.map(|(new, applied)| (new, configuration_status(*applied)));
        for (configuration, status) in gone.chain(changed) {
            self.events.emit(EventKind::ConfigurationStatus {
                id: configuration.clone(),
                device: id.to_owned(),
                status: status.to_owned(),
            });
        }
    }
}

/// Whether one path is the other or lies below it.
fn overlap(a: &str, b: &str) -> bool {
    let below = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    below(a, b) || below(b, a)
}

/// Desired properties as they should be. What a configuration put there before and still wants is left as it is, so
/// that an operator's own later patch holds until the configuration changes.
fn goal(
    present: &Map<String, Value>,
    before: &BTreeMap<String, (String, Value)>,
    now: &BTreeMap<String, (String, Value)>,
) -> Map<String, Value> {
    let mut goal = present.clone();
    for (path, _) in before.iter().filter(|(path, _)| !now.contains_key(*path)) {
        place(&mut goal, &keys(path), None);
    }
    for (path, (_, value)) in now.iter().filter(|(path, entry)| before.get(*path) != Some(*entry)) {
        place(&mut goal, &keys(path), Some(value));
    }
    goal
}

pub(super) fn keys(path: &str) -> Vec<&str> {
    path.split('.').skip(DESIRED.split('.').count()).collect()
}

/// Sets or removes what stands at a path. A null in the content means absence, as in any patch.
pub(super) fn place(target: &mut Map<String, Value>, keys: &[&str], value: Option<&Value>) {
    let Some((first, rest)) = keys.split_first() else {
        *target = value.and_then(Value::as_object).cloned().unwrap_or_default();
        return;
    };
    if rest.is_empty() {
        match value.filter(|value| !value.is_null()) {
            Some(value) => target.insert((*first).to_owned(), value.clone()),
            None => target.remove(*first),
        };
        return;
    }
    if !target.get(*first).is_some_and(Value::is_object) {
        if value.is_none() {
            return;
        }
        target.insert((*first).to_owned(), json!({}));
    }
    if let Some(Value::Object(inner)) = target.get_mut(*first) {
        place(inner, rest, value);
    }
}
