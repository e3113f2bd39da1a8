//! Automatic device configurations: what they are, which devices they target, who wins, and their metrics. Not the
//! period of evaluation, which `emulator` keeps. Works on `hub`; called by `rest` and by every change of a twin.
//!
//! Source: "Automatic device management at scale". The real hub evaluates within minutes; here it is at once unless
//! a period was asked for. Undocumented and decided here: a configuration owns the whole of each path that it sets,
//! and it is Applied on a device if at least one of its paths won there.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::hub::Hub;
use crate::query::{self, Columns, Expr, Projection, Query};
use crate::registry::{check_etag, configuration_status};
use crate::twin;

const METRICS_LIMIT: usize = 5;
const COUNT_LIMIT: usize = 100;
const DESIRED: &str = "properties.desired";

/// One configuration.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    id: String,
    labels: Value,
    /// Full paths below desired, and what stands there.
    content: BTreeMap<String, Value>,
    target: Target,
    condition: String,
    priority: i64,
    queries: BTreeMap<String, (String, Query)>,
    created: String,
    updated: String,
    etag: u64,
    /// Newer ones win ties.
    serial: u64,
}

#[derive(Clone, Debug)]
enum Target {
    All,
    Some(Expr),
    None,
}

impl Configuration {
    fn parse(id: &str, body: &Value, serial: u64) -> Result<Configuration, Error> {
        check_id(id)?;
        if body.get("id").is_some_and(|named| *named != id) {
            return Err(Error::invalid("the id of the body is not that of the path"));
        }
        let condition = body.get("targetCondition").and_then(Value::as_str).unwrap_or_default().to_owned();
        let priority = match body.get("priority") {
            None | Some(Value::Null) => 0,
            Some(value) => value
                .as_i64()
                .filter(|n| *n >= 0)
                .ok_or_else(|| Error::invalid("priority is not a number"))?,
        };
        Ok(Configuration {
            id: id.to_owned(),
            labels: body.get("labels").filter(|labels| labels.is_object()).cloned().unwrap_or(json!({})),
            content: content(body)?,
            target: target(&condition)?,
            condition,
            priority,
            queries: queries(body)?,
            created: clock::now(),
            updated: clock::now(),
            etag: 1,
            serial,
        })
    }

    fn etag(&self) -> String {
        STANDARD.encode(self.etag.to_string())
    }

    fn targets(&self, twin: &Value) -> bool {
        match &self.target {
            Target::All => true,
            Target::Some(condition) => query::matches(condition, twin),
            Target::None => false,
        }
    }
}

/// Checks a target condition and metric queries as `/configurations/testQueries` does.
pub(crate) fn test_queries(body: &Value) -> Value {
    let condition = body.get("targetCondition").and_then(Value::as_str).unwrap_or_default();
    let error = target(condition).err().map(|error| error.message);
    let mut errors = Map::new();
    for (name, text) in body.get("customMetricQueries").and_then(Value::as_object).into_iter().flatten() {
        if let Err(error) = query::query(text.as_str().unwrap_or_default()) {
            errors.insert(name.clone(), json!(error.message));
        }
    }
    json!({"targetConditionError": error, "customMetricQueryErrors": errors})
}

fn check_id(id: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-+%_*!'".contains(c);
    if id.is_empty() || id.len() > 128 || !id.chars().all(allowed) {
        return Err(Error::invalid(format!(
            "{id:?} cannot be the id of a configuration: lower case, digits, '-'"
        )));
    }
    Ok(())
}

fn content(body: &Value) -> Result<BTreeMap<String, Value>, Error> {
    let content = body.pointer("/content/deviceContent").and_then(Value::as_object);
    let content = content.ok_or_else(|| Error::invalid("content.deviceContent is missing"))?;
    for (path, _) in content {
        let below = path.strip_prefix(DESIRED).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if !below || path.split('.').any(str::is_empty) {
            return Err(Error::invalid(format!("{path} is not a path below {DESIRED}")));
        }
    }
    Ok(content.iter().map(|(path, value)| (path.clone(), value.clone())).collect())
}

fn target(condition: &str) -> Result<Target, Error> {
    match condition.trim() {
        "" => Ok(Target::None),
        "*" => Ok(Target::All),
        text => Ok(Target::Some(query::condition(text)?)),
    }
}

fn queries(body: &Value) -> Result<BTreeMap<String, (String, Query)>, Error> {
    let mut parsed = BTreeMap::new();
    for (name, text) in body.pointer("/metrics/queries").and_then(Value::as_object).into_iter().flatten() {
        let text = text.as_str().ok_or_else(|| Error::invalid(format!("the metric {name} is no text")))?;
        parsed.insert(name.clone(), (text.to_owned(), query::query(text)?));
    }
    if parsed.len() > METRICS_LIMIT {
        return Err(Error::invalid(format!("more than {METRICS_LIMIT} metrics")));
    }
    Ok(parsed)
}

impl Hub {
    /// A PUT without If-Match creates, one with it changes what may change.
    pub(crate) fn put_configuration(
        &mut self,
        id: &str,
        body: &Value,
        if_match: Option<&str>,
    ) -> Result<Value, Error> {
        let serial = self.configurations.values().map(|found| found.serial).max().unwrap_or(0) + 1;
        let mut new = Configuration::parse(id, body, serial)?;
        let what = match (self.configurations.get(id), if_match) {
            (Some(_), None) => {
                return Err(Error::new(Code::AlreadyExists, format!("there is a configuration {id}")));
            }
            (None, Some(_)) => return Err(no_configuration(id)),
            (Some(old), Some(_)) => {
                check_etag(if_match, &old.etag())?;
                if new.content != old.content {
                    return Err(Error::invalid("the content of a configuration cannot change"));
                }
                new.serial = old.serial;
                new.created.clone_from(&old.created);
                new.etag = old.etag + 1;
                "changed"
            }
            (None, None) if self.configurations.len() >= COUNT_LIMIT => {
                return Err(Error::new(
                    Code::Forbidden,
                    format!("{COUNT_LIMIT} configurations are the limit"),
                ));
            }
            (None, None) => "created",
        };
        self.configurations.insert(id.to_owned(), new);
        self.events.emit(EventKind::Configuration { id: id.to_owned(), what: what.to_owned() });
        self.evaluate_all();
        Ok(self.configuration(id))
    }

    pub(crate) fn delete_configuration(&mut self, id: &str, if_match: Option<&str>) -> Result<(), Error> {
        let found = self.configurations.get(id).ok_or_else(|| no_configuration(id))?;
        check_etag(if_match, &found.etag())?;
        self.configurations.remove(id);
        self.events.emit(EventKind::Configuration { id: id.to_owned(), what: "deleted".to_owned() });
        self.evaluate_all();
        Ok(())
    }

    /// A configuration as REST shows it, with metrics of this moment.
    pub(crate) fn configuration_document(&self, configuration: &Configuration) -> Value {
        let id = &configuration.id;
        let standing = self.devices.values().filter_map(|device| device.configurations.get(id));
        let (targeted, applied) = standing.fold((0, 0), |(all, yes), on| (all + 1, yes + u64::from(*on)));
        let results: Map<String, Value> = configuration
            .queries
            .iter()
            .map(|(name, (_, query))| (name.clone(), json!(self.metric(query))))
            .collect();
        let texts: Map<String, Value> =
            configuration.queries.iter().map(|(name, (text, _))| (name.clone(), json!(text))).collect();
        json!({
            "id": id,
            "schemaVersion": "1.0",
            "labels": configuration.labels,
            "content": {"deviceContent": configuration.content},
            "targetCondition": configuration.condition,
            "priority": configuration.priority,
            "createdTimeUtc": configuration.created,
            "lastUpdatedTimeUtc": configuration.updated,
            "etag": configuration.etag(),
            "metrics": {"queries": texts, "results": results},
            "systemMetrics": {
                "queries": {
                    "targetedCount": format!("select deviceId from devices where {}", configuration.condition),
                    "appliedCount":
                        format!("select deviceId from devices where configurations.[[{id}]].status = 'Applied'"),
                },
                "results": {"targetedCount": targeted, "appliedCount": applied},
            },
        })
    }

    /// A metric is the number of rows, or the number in the one row that a COUNT gives.
    fn metric(&self, query: &Query) -> u64 {
        let rows = self.ask(query);
        let counts = match &query.columns {
            Columns::Some(columns) => {
                query.group_by.is_empty()
                    && matches!(columns[..], [ref one] if matches!(one.what, Projection::Aggregate(_, _)))
            }
            Columns::All => false,
        };
        let number = rows.first().and_then(Value::as_object).and_then(|row| row.values().next()?.as_u64());
        number.filter(|_| counts).unwrap_or(rows.len() as u64)
    }

    /// After a change of one device: evaluates it unless evaluation is left to the period.
    pub(crate) fn settle(&mut self, id: &str) {
        if self.immediate {
            self.evaluate(id);
        }
    }

    /// Evaluates every configuration for every device.
    pub(crate) fn evaluate_all(&mut self) {
        let ids: Vec<String> = self.devices.keys().cloned().collect();
        ids.iter().for_each(|id| self.evaluate(id));
    }

    /// Decides which configurations target the device and what each path should hold, and sends the difference.
    fn evaluate(&mut self, id: &str) {
        let twin = self.twin(id);
        let mut targeting: Vec<&Configuration> =
            self.configurations.values().filter(|configuration| configuration.targets(&twin)).collect();
        targeting.sort_by_key(|configuration| (-configuration.priority, u64::MAX - configuration.serial));
        let mut winners: BTreeMap<String, (String, Value)> = BTreeMap::new();
        let mut standing: BTreeMap<String, bool> = BTreeMap::new();
        for configuration in targeting {
            let mut applied = configuration.content.is_empty();
            for (path, value) in &configuration.content {
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
        let Some(device) = self.devices.get(id) else { return };
        let goal = goal(device.desired.value(), &device.owned, &winners);
        let patch = twin::difference(device.desired.value(), &goal);
        // A device whose desired properties would grow too large stays Targeted, and keeps what it has.
        if !patch.is_empty() && self.patch_desired(id, patch).is_err() {
            standing.values_mut().for_each(|applied| *applied = false);
            winners.clear();
        }
        self.record_standing(id, winners, standing);
    }

    fn record_standing(
        &mut self,
        id: &str,
        owned: BTreeMap<String, (String, Value)>,
        standing: BTreeMap<String, bool>,
    ) {
        let Some(device) = self.devices.get_mut(id) else { return };
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

fn no_configuration(id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no configuration {id}"))
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

fn keys(path: &str) -> Vec<&str> {
    path.split('.').skip(DESIRED.split('.').count()).collect()
}

/// Sets or removes what stands at a path. A null in the content means absence, as in any patch.
fn place(target: &mut Map<String, Value>, keys: &[&str], value: Option<&Value>) {
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

#[cfg(test)]
mod tests;
