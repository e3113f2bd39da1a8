//! A property that is a program of the integrator: `NAME.TYPE` can be read, `NAME.TYPE.rw` can be set, too.
//!
//! TYPE is `string`, `integer`, `boolean` or `number`. Called with the one argument `get`, it prints the value; called
//! with `set`, it reads the new value from standard input. It must end with status 0; if it does not, the end of its
//! standard error is the reason. It is run without a shell, with `TWINBOOT_PROPERTY` and a fixed `PATH` for an
//! environment, and killed with all it started when its time is over. Which programs may be run at all is
//! [`crate::program`]'s word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Number, Value};

use super::Source;
use crate::program::{Keep, Purpose, Runner, Task, list};

/// The longest value, in bytes: a twin's own limit for a text.
const LONGEST: usize = 4096;
/// The largest integer, either side of zero, that a twin keeps: 2^52.
const LARGEST: i64 = 1 << 52;
/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;
/// How long a program that is asked to end may take before it is made to.
const GRACE: Duration = Duration::from_secs(2);

/// One of them.
#[derive(Debug)]
pub(super) struct Hook {
    pub name: String,
    pub kind: Type,
    pub is_writable: bool,
    path: PathBuf,
}

/// What values it has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Type {
    String,
    Integer,
    Boolean,
    Number,
}

/// All that are declared; what is declared wrongly says so under its name, or under its file's.
pub(super) fn all(directory: &Path) -> BTreeMap<String, Source> {
    let found = match list(directory) {
        Ok(found) => found,
        Err(why) => return [(directory.display().to_string(), Source::Broken(why))].into(),
    };
    let mut all: BTreeMap<String, Source> = BTreeMap::new();
    for (file, path) in found {
        let Some((name, kind, is_writable)) = declared(&file) else {
            let why = "no property: a program here is called NAME.string, .integer, .boolean or .number, and may have \
                       .rw after that";
            all.insert(file.chars().filter(|c| !c.is_control()).collect(), Source::Broken(why.into()));
            continue;
        };
        let source = match path {
            _ if all.contains_key(name) => Source::Broken("declared more than once".into()),
            Ok(path) => Source::Hook(Hook { name: name.to_owned(), kind, is_writable, path }),
            Err(why) => Source::Broken(why),
        };
        all.insert(name.to_owned(), source);
    }
    all
}

/// What a file's name declares.
fn declared(file: &str) -> Option<(&str, Type, bool)> {
    let (rest, is_writable) = file.strip_suffix(".rw").map_or((file, false), |rest| (rest, true));
    let (name, kind) = rest.split_once('.')?;
    let kind = Type::ALL.into_iter().find(|it| it.name() == kind)?;
    let fits = (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    fits.then_some((name, kind, is_writable))
}

impl Type {
    const ALL: [Self; 4] = [Self::String, Self::Integer, Self::Boolean, Self::Number];

    fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Number => "number",
        }
    }

    /// What a value of it must be.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::String => "a string of at most 4096 bytes without control characters",
            Self::Integer => "an integer of at most 2^52 either way",
            Self::Boolean => "true or false",
            Self::Number => "a number",
        }
    }

    /// The value as a program reads it; `None` if it is of another type.
    pub(super) fn text(self, value: &Value) -> Option<String> {
        match (self, value) {
            (Self::String, Value::String(text)) => {
                let fits = text.len() <= LONGEST && !text.contains(char::is_control);
                fits.then(|| text.clone())
            }
            (Self::Integer, Value::Number(number)) => {
                let number = number.as_i64().filter(|number| (-LARGEST..=LARGEST).contains(number))?;
                Some(number.to_string())
            }
            (Self::Boolean, Value::Bool(it)) => Some(it.to_string()),
            (Self::Number, Value::Number(number)) => Some(number.to_string()),
            (
                Self::String | Self::Integer | Self::Boolean | Self::Number,
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_)
                | Value::Object(_),
            ) => None,
        }
    }

    /// What a program printed, as a value; `None` if it is none of this type.
    fn value(self, text: &str) -> Option<Value> {
        let value = match self {
            Self::String => Value::String(text.to_owned()),
            Self::Integer => text.parse::<i64>().ok()?.into(),
            Self::Boolean => text.parse::<bool>().ok()?.into(),
            Self::Number => match text.parse::<i64>() {
                Ok(whole) => whole.into(),
                Err(_) => Value::Number(Number::from_f64(text.parse().ok()?)?),
            },
        };
        self.text(&value).map(|_| value)
    }
}

impl Hook {
    /// The value now, or why it is not known.
    pub(super) async fn get(&self, runner: &Runner, limit: Duration) -> Result<Value, String> {
        let answer = self.run(runner, "get", None, limit).await?;
        let text = str::from_utf8(&answer).map_err(|_| "its program printed what is not UTF-8".to_owned())?;
        let value = self.kind.value(text.strip_suffix('\n').unwrap_or(text));
        value.ok_or_else(|| format!("what its program printed is not {}", self.kind.words()))
    }

    /// Sets it to what `text` says.
    pub(super) async fn set(&self, runner: &Runner, text: &str, limit: Duration) -> Result<(), String> {
        self.run(runner, "set", Some(format!("{text}\n").as_bytes()), limit).await.map(drop)
    }

    async fn run(
        &self,
        runner: &Runner,
        verb: &str,
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Vec<u8>, String> {
        let environment = [("TWINBOOT_PROPERTY".to_owned(), self.name.clone())];
        let task = Task {
            purpose: Purpose::Property,
            name: &self.name,
            path: &self.path,
            arguments: &[verb],
            environment: &environment,
            input,
            keep: Keep::Answer(LONGEST + 1),
            limit,
            grace: GRACE,
        };
        let ran = runner.run(&task).await.map_err(|why| format!("its program {why}"))?;
        if let Some(trouble) = ran.trouble(limit) {
            let trouble: String = trouble.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            return Err(format!("its program {trouble}"));
        }
        ran.answer.ok_or_else(|| format!("its program printed more than {LONGEST} bytes"))
    }
}
