//! Automatic configurations of devices and modules: what they are, which devices they target, and their metrics. Not
//! the period of evaluation, which `emulator` keeps. Works on `hub`; called by `rest` and by every change of a twin.
//!
//! Source: "Automatic device management at scale". The real hub evaluates within minutes; here it is at once unless
//! a period was asked for. Undocumented and decided here: a configuration owns the whole of each path that it sets,
//! and it is Applied on a device if at least one of its paths won there.

mod evaluation;
mod once;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::hub::Hub;
use crate::query::{self, Columns, Condition, Projection, Query};
use crate::registry::check_etag;

const METRICS_LIMIT: usize = 5;
const DESIRED: &str = "properties.desired";

/// One configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Configuration {
    id: String,
    labels: Value,
    content: Content,
    condition: Condition,
    priority: i64,
    queries: BTreeMap<String, Query>,
    created: String,
    updated: String,
    etag: u64,
    /// Newer ones win ties.
    serial: u64,
}

/// What a configuration puts where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Content {
    /// `moduleContent` rather than `deviceContent`.
    of_modules: bool,
    /// Full paths below desired, and what stands there.
    settings: BTreeMap<String, Value>,
}

impl Configuration {
    fn parse(id: &str, body: &Value, serial: u64) -> Result<Configuration, Error> {
        check_id(id)?;
        if body.get("id").is_some_and(|named| *named != id) {
            return Err(Error::invalid("the id of the body is not that of the path"));
        }
        let content = content(body)?;
        let condition = target(body.get("targetCondition"), content.of_modules)?;
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
            content,
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

    /// The two counts that every configuration has, as queries that anybody may ask.
    fn system_queries(&self) -> Value {
        let asked = if self.content.of_modules {
            "select deviceId, moduleId from devices.modules"
        } else {
            "select deviceId from devices"
        };
        let condition = self.condition.text().trim();
        let targeted = match condition {
            "*" => asked.to_owned(),
            // It names its collection itself.
            _ if self.condition.of_modules() => format!("select deviceId, moduleId {condition}"),
            _ => format!("{asked} where {condition}"),
        };
        let applied = format!("{asked} where configurations.[[{}]].status = 'Applied'", self.id);
        json!({"targetedCount": targeted, "appliedCount": applied})
    }

    fn targets(&self, key: &str, twin: &Value) -> bool {
        self.content.of_modules == key.contains('/') && self.condition.picks(twin)
    }
}

/// Checks a target condition and metric queries as `/configurations/testQueries` does.
pub(crate) fn test_queries(body: &Value) -> Value {
    let condition = body.get("targetCondition").and_then(Value::as_str).unwrap_or_default();
    let error = Condition::parse(condition).err().map(|error| error.message);
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

fn content(body: &Value) -> Result<Content, Error> {
    let bad = |message: String| Error::new(Code::InvalidContent, message);
    let named = |name: &str| body.pointer(&format!("/content/{name}")).and_then(Value::as_object);
    if named("modulesContent").is_some_and(|content| !content.is_empty()) {
        let why =
            "content.modulesContent: IoT Edge deployments are not emulated, but applyConfigurationContent is";
        return Err(Error::new(Code::NotImplemented, why));
    }
    let (of_modules, content) = match (named("deviceContent"), named("moduleContent")) {
        (Some(content), None) => (false, content),
        (None, Some(content)) => (true, content),
        (Some(_), Some(_)) => return Err(bad("content holds deviceContent and moduleContent".to_owned())),
        (None, None) => return Err(bad("content.deviceContent is missing".to_owned())),
    };
    for (path, _) in content {
        let below = path.strip_prefix(DESIRED).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if !below || path.split('.').any(str::is_empty) {
            return Err(bad(format!("{path} is not a path below {DESIRED}")));
        }
    }
    let settings = content.iter().map(|(path, value)| (path.clone(), value.clone())).collect();
    Ok(Content { of_modules, settings })
}

fn target(text: Option<&Value>, of_modules: bool) -> Result<Condition, Error> {
    let bad =
        |message: String| Error::new(Code::InvalidTargetCondition, format!("targetCondition: {message}"));
    let text = match text {
        None | Some(Value::Null) => "",
        Some(text) => text.as_str().ok_or_else(|| bad("it is no text".to_owned()))?,
    };
    let condition = Condition::parse(text).map_err(|error| bad(error.message))?;
    if condition.of_modules() && !of_modules {
        return Err(bad("it is about modules, and the content about devices".to_owned()));
    }
    Ok(condition)
}

fn queries(body: &Value) -> Result<BTreeMap<String, Query>, Error> {
    let bad = |message: String| Error::new(Code::InvalidMetric, message);
    let mut parsed = BTreeMap::new();
    for (name, text) in body.pointer("/metrics/queries").and_then(Value::as_object).into_iter().flatten() {
        let text = text.as_str().ok_or_else(|| bad(format!("the metric {name} is no text")))?;
        let query =
            query::query(text).map_err(|error| bad(format!("the metric {name}: {}", error.message)))?;
        parsed.insert(name.clone(), query);
    }
    if parsed.len() > METRICS_LIMIT {
        return Err(bad(format!("{} metrics where {METRICS_LIMIT} are allowed", parsed.len())));
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
                let why = format!("there is a configuration {id}");
                return Err(Error::new(Code::ConfigurationAlreadyExists, why));
            }
            (None, Some(_)) => return Err(no_configuration(id)),
            (Some(old), Some(_)) => {
                check_etag(if_match, &old.etag())?;
                if new.content != old.content {
                    let why = "the content of a configuration cannot change: make a new one";
                    return Err(Error::new(Code::ImmutableContent, why));
                }
                new.serial = old.serial;
                new.created.clone_from(&old.created);
                new.etag = old.etag + 1;
                "changed"
            }
            (None, None) if self.configurations.len() >= self.limits.configurations => {
                let why = format!("{} configurations are the limit", self.limits.configurations);
                return Err(Error::new(Code::TooManyConfigurations, why));
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
        let standing = self.devices.values().chain(self.modules.values());
        let standing = standing.filter_map(|device| device.configurations.get(id));
        let (targeted, applied) = standing.fold((0, 0), |(all, yes), on| (all + 1, yes + u64::from(*on)));
        let results: Map<String, Value> = configuration
            .queries
            .iter()
            .map(|(name, query)| (name.clone(), json!(self.metric(query))))
            .collect();
        let texts: Map<String, Value> =
            configuration.queries.iter().map(|(name, query)| (name.clone(), json!(query.text))).collect();
        let content = if configuration.content.of_modules { "moduleContent" } else { "deviceContent" };
        json!({
            "id": id,
            "schemaVersion": "1.0",
            "labels": configuration.labels,
            "content": {content: configuration.content.settings},
            "targetCondition": configuration.condition.text(),
            "priority": configuration.priority,
            "createdTimeUtc": configuration.created,
            "lastUpdatedTimeUtc": configuration.updated,
            "etag": configuration.etag(),
            "metrics": {"queries": texts, "results": results},
            "systemMetrics": {
                "queries": configuration.system_queries(),
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
}

fn no_configuration(id: &str) -> Error {
    Error::new(Code::ConfigurationNotFound, format!("there is no configuration {id}"))
}

#[cfg(test)]
mod tests;
