//! A condition that picks devices or modules: the target of a configuration, the `queryCondition` of a job. Not a
//! whole query. Called by `configurations` and `jobs`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::eval::matches;
use super::{Expr, Source, parse};
use crate::error::Error;

/// A condition as it was written and as it is understood. Written down as its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Condition {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    /// An empty text.
    Nobody,
    /// `*`.
    Everybody,
    Some(Source, Option<Expr>),
}

impl Condition {
    /// Reads a condition: empty is nobody, `*` everybody.
    ///
    /// # Errors
    /// If it cannot be understood.
    pub(crate) fn parse(text: &str) -> Result<Condition, Error> {
        let rule = match text.trim() {
            "" => Rule::Nobody,
            "*" => Rule::Everybody,
            text => {
                let (source, filter) = parse::condition(text)?;
                Rule::Some(source, filter)
            }
        };
        Ok(Condition { text: text.to_owned(), rule })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it picks nobody at all.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.rule, Rule::Nobody)
    }

    /// Whether it is about modules rather than devices.
    pub(crate) fn of_modules(&self) -> bool {
        matches!(self.rule, Rule::Some(Source::Modules, _))
    }

    /// Whether it picks this twin, which is one of the kind that it is about.
    pub(crate) fn picks(&self, twin: &Value) -> bool {
        match &self.rule {
            Rule::Nobody => false,
            Rule::Everybody => true,
            Rule::Some(_, filter) => filter.as_ref().is_none_or(|filter| matches(filter, twin)),
        }
    }
}

impl TryFrom<String> for Condition {
    type Error = Error;

    fn try_from(text: String) -> Result<Condition, Error> {
        Condition::parse(&text)
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> String {
        condition.text
    }
}
