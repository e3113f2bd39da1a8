//! What the desired property `twinboot` says: settings of this agent, and consent. Pure.
//!
//! Each member stands for itself and is acknowledged for itself, as IoT Plug and Play has it: in the reported property
//! `twinboot`, under the same name, with the value that is in force (`value`), a status (`ac`), the version of the
//! desired section that it answers (`av`) and words (`ad`). One that makes no sense is answered 400, and what was in
//! force stays. One that is not there is as configured. One that this version does not know is answered 404, so that a
//! back end sees that it is in vain.

use std::time::Duration;

use serde_json::{Value, json};

use super::merge::Object;
use super::wish::kind;
use crate::model::{Hours, LogLevel, Rules, Tuning, Zone};

/// The fastest that progress may be told, or the twin asked for, and the slowest; seconds.
const PROGRESS: [u64; 2] = [1, 86_400];
const POLL: [u64; 2] = [10, 604_800];
/// The largest rate: a twin's largest integer. The smallest is what a download may not fall below by default.
const RATE: [u64; 2] = [1024, 1 << 52];
/// Longest text of a consent, in bytes: as long as a `jobId`.
const MAX_CONSENT: usize = 128;
/// Most unknown members that are answered.
const MAX_UNKNOWN: usize = 16;

/// The desired property `twinboot`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tuned {
    /// The version of the desired section it was read from.
    version: u64,
    window: Member<Hours>,
    zone: Member<Zone>,
    consent_required: Member<bool>,
    rate_limit: Member<u64>,
    progress_every: Member<Duration>,
    poll_every: Member<Duration>,
    log_level: Member<LogLevel>,
    consent: Member<String>,
    unknown: Vec<String>,
    /// It is there and no object: then nobody knows what it says.
    is_nonsense: bool,
}

/// A member: not there, well formed, or why it is not.
type Member<T> = Option<Result<T, String>>;

/// Whether the update that a consent names was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consented {
    /// It is on its way, or is over.
    Found,
    /// None of that name has come yet.
    Awaited,
}

/// Reads it, from version `version` of the desired section.
pub fn read(twinboot: Option<&Value>, version: u64) -> Tuned {
    let fields = match twinboot {
        None | Some(Value::Null) => return Tuned { version, ..Tuned::default() },
        Some(Value::Object(fields)) => fields,
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            return Tuned { version, is_nonsense: true, ..Tuned::default() };
        }
    };
    let seconds =
        |value: &Value, bounds, zero| whole(value, bounds, zero, "seconds").map(Duration::from_secs);
    let known = |name: &&String| NAMES.contains(&name.as_str());
    let unknown = fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name);
    Tuned {
        version,
        window: member(fields, "window", parsed),
        zone: member(fields, "timeZone", parsed),
        consent_required: member(fields, "consentRequired", |value| {
            value.as_bool().ok_or_else(|| format!("must be true or false, found {}", kind(value)))
        }),
        rate_limit: member(fields, "rateLimit", |value| whole(value, RATE, true, "bytes per second")),
        // Progress is told in steps: here 0 means nothing.
        progress_every: member(fields, "progressInterval", |value| seconds(value, PROGRESS, false)),
        poll_every: member(fields, "pollInterval", |value| seconds(value, POLL, true)),
        log_level: member(fields, "logLevel", parsed),
        consent: member(fields, "consent", |value| match value.as_str() {
            Some(text) if (1..=MAX_CONSENT).contains(&text.len()) => Ok(text.to_owned()),
            Some(_) => Err(format!("must have 1 to {MAX_CONSENT} bytes")),
            None => Err(format!("must be a string, found {}", kind(value))),
        }),
        unknown: unknown.filter(|name| !known(name)).take(MAX_UNKNOWN).cloned().collect(),
        is_nonsense: false,
    }
}

const NAMES: [&str; 8] = [
    "window",
    "timeZone",
    "consentRequired",
    "rateLimit",
    "progressInterval",
    "pollInterval",
    "logLevel",
    "consent",
];

/// A member; `null` is the same as none, as it is in a twin.
fn member<T>(fields: &Object, name: &str, read: impl FnOnce(&Value) -> Result<T, String>) -> Member<T> {
    fields.get(name).filter(|value| !value.is_null()).map(read)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(value: &Value) -> Result<T, String> {
    let text = value.as_str().ok_or_else(|| format!("must be a string, found {}", kind(value)))?;
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// A whole number within bounds; or 0, where that means something.
fn whole(value: &Value, [least, most]: [u64; 2], zero: bool, unit: &str) -> Result<u64, String> {
    let fits = |number: &u64| (least..=most).contains(number) || zero && *number == 0;
    value.as_u64().filter(fits).ok_or_else(|| {
        let also = if zero { "0 or " } else { "" };
        format!("must be {also}a whole number of {unit} from {least} to {most}, found {}", kind(value))
    })
}

impl Tuned {
    /// Refuses the time zone, if it is one that the system does not have: its form alone does not tell.
    pub fn check_zone(&mut self, is_known: impl FnOnce(&Zone) -> bool) {
        if let Some(Ok(zone)) = &self.zone
            && !is_known(zone)
        {
            self.zone = Some(Err(format!("must be a time zone that this device has: {zone} is not")));
        }
    }

    /// What follows from it, if `before` was in force.
    pub fn tuning(&self, before: &Tuning) -> Tuning {
        fn kept<T: Clone>(member: &Member<T>, before: &Option<T>) -> Option<T> {
            match member {
                Some(Ok(value)) => Some(value.clone()),
                Some(Err(_)) => before.clone(),
                None => None,
            }
        }
        if self.is_nonsense {
            return before.clone();
        }
        Tuning {
            window: kept(&self.window, &before.window),
            zone: kept(&self.zone, &before.zone),
            consent: kept(&self.consent_required, &before.consent),
            rate_limit: kept(&self.rate_limit, &before.rate_limit),
            progress_every: kept(&self.progress_every, &before.progress_every),
            poll_every: kept(&self.poll_every, &before.poll_every),
            log_level: kept(&self.log_level, &before.log_level),
        }
    }

    /// The version, job id or update id of the update that may switch over, if one is named.
    pub fn consent(&self) -> Option<&str> {
        self.consent.as_ref().and_then(|consent| consent.as_deref().ok())
    }

    /// Members that make no sense, each with why, for the journal.
    pub fn complaints(&self) -> Vec<String> {
        if self.is_nonsense {
            return vec!["twinboot must be an object".to_owned()];
        }
        let bad = |(name, why): (&str, Option<&String>)| why.map(|why| format!("twinboot.{name} {why}"));
        self.errors().into_iter().filter_map(bad).collect()
    }

    fn errors(&self) -> [(&'static str, Option<&String>); 8] {
        fn why<T>(member: &Member<T>) -> Option<&String> {
            member.as_ref().and_then(|member| member.as_ref().err())
        }
        [
            ("window", why(&self.window)),
            ("timeZone", why(&self.zone)),
            ("consentRequired", why(&self.consent_required)),
            ("rateLimit", why(&self.rate_limit)),
            ("progressInterval", why(&self.progress_every)),
            ("pollInterval", why(&self.poll_every)),
            ("logLevel", why(&self.log_level)),
            ("consent", why(&self.consent)),
        ]
    }

    /// The reported property `twinboot`: an acknowledgement of each member that is there, `null` if none is. `rules`
    /// are those in force.
    pub fn acknowledged(&self, rules: &Rules, consented: Consented) -> Value {
        let mut document = Object::new();
        let mut add = |name: &str, value: Value, status: u16, words: &str| {
            let answer = json!({ "value": value, "ac": status, "av": self.version, "ad": words });
            document.insert(name.to_owned(), answer);
        };
        let seconds = |every: Duration| Value::from(every.as_secs());
        let window = rules.window.map_or("none".to_owned(), |window| window.to_string());
        let values = [
            (self.window.is_some(), Value::from(window)),
            (self.zone.is_some(), rules.zone.to_string().into()),
            (self.consent_required.is_some(), rules.consent.into()),
            (self.rate_limit.is_some(), rules.rate_limit.into()),
            (self.progress_every.is_some(), seconds(rules.progress_every)),
            (self.poll_every.is_some(), seconds(rules.poll_every)),
            (self.log_level.is_some(), rules.log_level.to_string().into()),
            (self.consent.is_some(), self.consent().unwrap_or_default().into()),
        ];
        for ((name, error), (is_there, value)) in self.errors().into_iter().zip(values) {
            match (is_there, error) {
                (false, _) => {}
                (true, Some(why)) => add(name, value, 400, why),
                (true, None) if name == "consent" && consented == Consented::Awaited => {
                    add(name, value, 202, "no update of this name is waiting");
                }
                (true, None) if name == "consent" => add(name, value, 200, "given"),
                (true, None) => add(name, value, 200, "in force"),
            }
        }
        for name in &self.unknown {
            add(name, false.into(), 404, "this twinboot has no such setting");
        }
        if document.is_empty() { Value::Null } else { Value::Object(document) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
