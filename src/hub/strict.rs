//! JSON in which no object names a member twice. Pure.
//!
//! The JSON library keeps the last of two members of one name, other readers the first: two programs that look at one
//! request could then see two requests. A request has one meaning or none.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What is wrong with a text. It is never quoted, except for a member's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Flaw {
    /// It is no JSON, or nested deeper than anybody means.
    #[error("malformed or nested too deeply")]
    Syntax,
    /// A member is there twice.
    #[error("member {0:?} is given twice")]
    Duplicate(String),
}

/// What an error of ours begins with, to be found again in the library's.
const MARK: &str = "twice:";

/// Reads `text`, UTF-8.
pub(super) fn parse(text: &[u8]) -> Result<Value, Flaw> {
    serde_json::from_slice::<Strict>(text).map(|strict| strict.0).map_err(|error| {
        // The library adds a place: " at line 1 column 2".
        let text = error.to_string();
        let name =
            text.strip_prefix(MARK).and_then(|rest| rest.rsplit_once(" at line ")).map(|(name, _)| name);
        name.map_or(Flaw::Syntax, |name| Flaw::Duplicate(name.chars().take(64).collect()))
    })
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Bool(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(Number::from_f64(it).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_string<E>(self, it: String) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let Strict(value) = members.next_value()?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("{MARK}{name}")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_member_given_twice_is_named_at_any_depth() {
        for text in [r#"{"a":1,"b":2,"a":1}"#, r#"[{"x":{"a":null,"a":null}}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(parse(text.as_bytes()), Err(Flaw::Duplicate("a".into())), "{text}");
        }
        assert!(parse(br#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_is_none() {
        let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
        for text in ["", "{", "{\"a\":1}}", "nul", "twice:a at line 1", &deep] {
            assert_eq!(parse(text.as_bytes()), Err(Flaw::Syntax), "{text:.40}");
        }
        assert_eq!(parse(&[0xff]), Err(Flaw::Syntax));
    }

    proptest! {
        #[test]
        fn all_else_is_read_as_the_library_reads_it(text in "[\\[\\]{}:,\"a-c0-9.eE+ -]{0,40}") {
            let ours = parse(text.as_bytes());
            match serde_json::from_str::<Value>(&text) {
                Ok(theirs) if ours != Ok(theirs.clone()) => {
                    prop_assert!(matches!(ours, Err(Flaw::Duplicate(_))), "{ours:?} {theirs:?}");
                }
                Ok(_) => {}
                Err(_) => prop_assert!(ours.is_err()),
            }
        }
    }
}
