//! Strict JSON: small, shallow, every member known and told once.

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serializer};

use super::refusal::Refusal;
use crate::model::Timestamp;

/// Longest document, in bytes.
const MAX: usize = 64 * 1024;
/// Arrays and objects within each other, at most.
const MAX_DEPTH: usize = 10;

/// What every document begins with, whatever else its schema has.
#[derive(Deserialize)]
struct Preamble {
    #[serde(rename = "type")]
    document: String,
    schema: u64,
}

/// Whether this is a document of this type and schema, not too long and not too deep.
pub(super) fn check(bytes: &[u8], document: &str, schema: u64) -> Result<(), Refusal> {
    #[cfg(test)]
    counter::count();
    let failed = |what: String| Refusal::damaged(format!("the {document} {what}"));
    if bytes.len() > MAX {
        return Err(failed(format!("is longer than {MAX} bytes")));
    }
    if is_deep(bytes) {
        return Err(failed(format!("is nested deeper than {MAX_DEPTH}")));
    }
    let preamble: Preamble = parse(bytes, document)?;
    if preamble.document != document {
        return Err(failed("is a document of another type".into()));
    }
    match preamble.schema {
        theirs if theirs < schema => Err(failed(format!("has schema {theirs}, which there never was"))),
        theirs if theirs > schema => Err(Refusal::incompatible(format!(
            "the {document} has schema {theirs}: a newer twinboot is needed"
        ))),
        _ => Ok(()),
    }
}

/// Reads a document that was [checked](check).
///
/// `T` refuses unknown and repeated members itself (`deny_unknown_fields`), and is only asked once the schema is known
/// to be ours: who adds a member tells a higher schema, and old devices say that they are too old.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], document: &str) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|it| Refusal::damaged(format!("the {document} is malformed: {it}")))
}

/// Counts brackets outside strings. What is no JSON is left for the parser to say.
fn is_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// For members that may be left out: `null` is no way to leave them out.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Times as people read them, in UTC.
pub(super) mod time {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// The same, for times that may be left out.
pub(super) mod maybe_time {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.collect_str(time),
            None => to.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        super::time::deserialize(from).map(Some)
    }
}

/// How often a document was read, for the proof that none is before its signatures hold.
#[cfg(test)]
pub(super) mod counter {
    use std::cell::Cell;

    std::thread_local! {
        static READS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        READS.set(READS.get() + 1);
    }

    pub(in super::super) fn reads() -> u64 {
        READS.get()
    }
}
