//! Properties of the device that can be read and, where the integrator declared a way, set: the methods `readProperty`
//! and `writeProperty`, and `twinboot properties`.
//!
//! A closed set, each of one type. Some are found out here (`builtin.rs`) or by the engine ([`Known`]), and can only be
//! read. All else is programs of the integrator (`hook.rs`); one that has the name of a built-in property takes its
//! place. Nothing is kept: each is found out when it is asked for, and one that cannot be found out says why.
//!
//! Asked by the engine, on tasks of their own: a program that hangs must not hold up an update.

mod builtin;
mod hook;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::model::{Answer, Granted, Kind, Refusal};
use crate::program::Runner;
use hook::Hook;

/// The member of an answer that says why properties could not be read. No property has a name like that.
const ERRORS: &str = "$errors";

/// So many are found out at a time: the service manager bounds how many processes we may have.
const ABREAST: usize = 8;

/// Where to look, and for how long.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory that stands for the machine: `/` on a real one.
    pub root: PathBuf,
    /// The state directory, whose free space is a property.
    pub state: PathBuf,
    /// The integrator's programs.
    pub directory: PathBuf,
    /// How long one may take for one answer.
    pub timeout: Duration,
    /// Who runs them.
    pub runner: Runner,
}

/// What is known of the daemon itself, or why it is not: read-only properties that the engine tells.
pub type Known = Vec<(&'static str, Result<Value, String>)>;

/// The properties.
#[derive(Clone, Debug)]
pub struct Properties {
    settings: Arc<Settings>,
    /// One request at a time.
    turn: Arc<Semaphore>,
}

/// How a property is found out.
enum Source {
    Known(Result<Value, String>),
    BuiltIn(builtin::Reader),
    Hook(Hook),
    /// It is declared in a way that cannot be used.
    Broken(String),
}

impl Properties {
    /// Nothing is looked at yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Reads the properties of these names, or all if there is none: an object with the value of each. The member
    /// `$errors`, if there is one, says why others could not be read.
    ///
    /// # Errors
    /// If there is no such property, or none of those named could be read.
    pub async fn read(&self, names: Vec<String>, known: Known) -> Answer {
        let _turn = self.turn().await?;
        let mut sources = self.sources(known);
        let all = names.is_empty();
        if !all {
            let mut wanted = BTreeMap::new();
            // Asked for twice is asked for once.
            for name in BTreeSet::from_iter(names) {
                let source = sources.remove(&name).ok_or_else(|| unknown(&name))?;
                wanted.insert(name, source);
            }
            sources = wanted;
        }
        let (values, errors) = self.find_out(sources).await;
        if let (false, true, Some((name, why))) = (all, values.is_empty(), errors.iter().next()) {
            return Err(failed(name, why));
        }
        Ok(Granted::Properties(together(values, errors)))
    }

    /// Sets properties, each to its value, in the order of their names; then reads them back. Nothing is set unless all
    /// can be.
    ///
    /// # Errors
    /// If one is not there, cannot be set, or not to a value of this type; or if a program fails: what was set by then
    /// stays so and is named.
    pub async fn write(&self, values: BTreeMap<String, Value>, known: Known) -> Answer {
        let _turn = self.turn().await?;
        let mut sources = self.sources(known);
        let mut hooks = Vec::new();
        for (name, value) in &values {
            match sources.remove(name).ok_or_else(|| unknown(name))? {
                Source::Hook(hook) if hook.is_writable => {
                    let wrong = || {
                        let words = format!("{name} must be {}, found {}", hook.kind.words(), found(value));
                        Refusal::new(Kind::Malformed, "property.wrong-type", words)
                    };
                    let text = hook.kind.text(value).ok_or_else(wrong)?;
                    hooks.push((hook, text));
                }
                Source::Broken(why) => return Err(failed(name, &why)),
                Source::Known(_) | Source::BuiltIn(_) | Source::Hook(_) => {
                    let words = format!("{name} can only be read");
                    return Err(Refusal::new(Kind::Conflict, "property.read-only", words));
                }
            }
        }
        let mut set = Vec::new();
        for (hook, text) in &hooks {
            if let Err(why) = hook.set(&self.settings.runner, text, self.settings.timeout).await {
                let mut refusal = failed(&hook.name, &why);
                refusal.details.insert("set", json!(set));
                return Err(refusal);
            }
            set.push(hook.name.clone());
        }
        let sources = hooks.into_iter().map(|(hook, _)| (hook.name.clone(), Source::Hook(hook))).collect();
        let (values, errors) = self.find_out(sources).await;
        Ok(Granted::Properties(together(values, errors)))
    }

    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Refusal> {
        // It is never closed.
        let busy =
            || Refusal::new(Kind::Conflict, "property.busy", "properties are being read or set already");
        match timeout(self.settings.timeout, self.turn.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(busy().remedy("ask again")),
        }
    }

    /// All there are.
    fn sources(&self, known: Known) -> BTreeMap<String, Source> {
        let built_in = builtin::ALL.iter().map(|(name, reader)| (*name, Source::BuiltIn(*reader)));
        let known = known.into_iter().map(|(name, value)| (name, Source::Known(value)));
        let mut sources: BTreeMap<_, _> =
            built_in.chain(known).map(|(name, source)| (name.to_owned(), source)).collect();
        sources.extend(hook::all(&self.settings.directory));
        sources
    }

    async fn find_out(
        &self,
        sources: BTreeMap<String, Source>,
    ) -> (Map<String, Value>, BTreeMap<String, String>) {
        let limit = self.settings.timeout;
        let mut tasks = JoinSet::new();
        let abreast = Arc::new(Semaphore::new(ABREAST));
        for (name, source) in sources {
            let (settings, abreast) = (Arc::clone(&self.settings), Arc::clone(&abreast));
            tasks.spawn(async move {
                // It is never closed.
                let _one = abreast.acquire().await;
                let value = match source {
                    Source::Known(value) => value,
                    Source::Broken(why) => Err(why),
                    Source::Hook(hook) => hook.get(&settings.runner, limit).await,
                    Source::BuiltIn(reader) => {
                        // A file of the kernel's answers at once, or its driver is stuck.
                        let read = tokio::task::spawn_blocking(move || reader(&settings));
                        match timeout(limit, read).await {
                            Ok(Ok(value)) => value,
                            Ok(Err(error)) => Err(error.to_string()),
                            Err(_) => Err(format!("no answer within {limit:?}")),
                        }
                    }
                };
                (name, value)
            });
        }
        let (mut values, mut errors) = (Map::new(), BTreeMap::new());
        while let Some(Ok((name, value))) = tasks.join_next().await {
            match value {
                Ok(value) => drop(values.insert(name, value)),
                Err(why) => drop(errors.insert(name, why)),
            }
        }
        (values, errors)
    }
}

fn together(mut values: Map<String, Value>, errors: BTreeMap<String, String>) -> Value {
    if !errors.is_empty() {
        values.insert(ERRORS.to_owned(), json!(errors));
    }
    Value::Object(values)
}

fn unknown(name: &str) -> Refusal {
    let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    let refusal = Refusal::new(Kind::Unknown, "property.unknown", format!("there is no property {name}"));
    refusal.remedy("`twinboot properties` shows all there are")
}

fn failed(name: &str, why: &str) -> Refusal {
    let refusal = Refusal::new(Kind::Conflict, "property.failed", format!("{name}: {why}"));
    refusal.remedy("see to its program, in the directory that properties.directory names")
}

/// What a value is, in words; never the value.
fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
