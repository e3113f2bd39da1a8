//! A device twin's sections: merging, versions, metadata and limits. Not who may change them, nor who is told (that
//! is `hub`). Called by `hub`, and by `configurations` through it.
//!
//! Source of the rules: "Understand and use device twins in IoT Hub".

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::error::Error;

/// Most bytes of desired or of reported properties, counted as the hub counts.
const SECTION_LIMIT: usize = 32 * 1024;
/// Most bytes of tags.
const TAGS_LIMIT: usize = 8 * 1024;
const DEPTH_LIMIT: usize = 10;
const KEY_LIMIT: usize = 1024;
const STRING_LIMIT: usize = 4 * 1024;
const INTEGER_LIMIT: i64 = 4_503_599_627_370_496;

/// One of the two property sections of a twin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Section {
    value: Map<String, Value>,
    metadata: Map<String, Value>,
    version: u64,
    /// Desired metadata also says which version set a value; reported does not.
    marks_version: bool,
}

impl Section {
    pub(crate) fn desired() -> Section {
        Section::empty(true)
    }

    pub(crate) fn reported() -> Section {
        Section::empty(false)
    }

    fn empty(marks_version: bool) -> Section {
        let mut section = Section { value: Map::new(), metadata: Map::new(), version: 1, marks_version };
        section.metadata = section.stamp();
        section
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The properties alone.
    pub(crate) fn value(&self) -> &Map<String, Value> {
        &self.value
    }

    /// Merges a patch (null deletes) and raises the version, or changes nothing and says what is wrong.
    pub(crate) fn merge(&mut self, patch: &Map<String, Value>) -> Result<(), Error> {
        check(patch)?;
        let mut next = self.clone();
        next.version += 1;
        let stamp = next.stamp();
        merge_stamped(&mut next.value, &mut next.metadata, patch, &stamp);
        check_whole(&next.value, SECTION_LIMIT)?;
        *self = next;
        Ok(())
    }

    /// Puts a whole new document in place and raises the version.
    pub(crate) fn replace(&mut self, whole: &Map<String, Value>) -> Result<(), Error> {
        let mut next = Section { value: Map::new(), metadata: Map::new(), ..self.clone() };
        next.merge(whole)?;
        *self = next;
        Ok(())
    }

    /// What a device gets: the properties and `$version`.
    pub(crate) fn for_device(&self) -> Value {
        let mut out = self.value.clone();
        out.insert("$version".to_owned(), json!(self.version));
        Value::Object(out)
    }

    /// What the service gets: the metadata as well.
    pub(crate) fn for_service(&self) -> Value {
        let mut out = self.value.clone();
        out.insert("$metadata".to_owned(), Value::Object(self.metadata.clone()));
        out.insert("$version".to_owned(), json!(self.version));
        Value::Object(out)
    }

    fn stamp(&self) -> Map<String, Value> {
        let mut stamp = Map::new();
        stamp.insert("$lastUpdated".to_owned(), json!(clock::now()));
        if self.marks_version {
            stamp.insert("$lastUpdatedVersion".to_owned(), json!(self.version));
        }
        stamp
    }
}

/// Merges tags, or changes nothing and says what is wrong.
pub(crate) fn merge_tags(tags: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), Error> {
    check(patch)?;
    let mut next = tags.clone();
    merge(&mut next, patch);
    check_whole(&next, TAGS_LIMIT)?;
    *tags = next;
    Ok(())
}

/// A section of a service request without what the hub adds by itself: SDK users send back whole twins they read.
pub(crate) fn without_system_keys(section: &Map<String, Value>) -> Map<String, Value> {
    section
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "$metadata" | "$version"))
        .map(clone_pair)
        .collect()
}

/// The smallest patch that turns `from` into `to`; empty if they are equal.
pub(crate) fn difference(from: &Map<String, Value>, to: &Map<String, Value>) -> Map<String, Value> {
    let mut patch: Map<String, Value> =
        from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null)).collect();
    for (key, wanted) in to {
        match (from.get(key), wanted) {
            (Some(present), wanted) if present == wanted => {}
            (Some(Value::Object(present)), Value::Object(wanted)) => {
                patch.insert(key.clone(), Value::Object(difference(present, wanted)));
            }
            (_, wanted) => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    patch
}

fn clone_pair((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    merge_stamped(target, &mut Map::new(), patch, &Map::new());
}

/// Recursive merge of objects; null deletes, scalars and arrays replace. The metadata follows every level touched.
fn merge_stamped(
    target: &mut Map<String, Value>,
    metadata: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    stamp: &Map<String, Value>,
) {
    metadata.extend(stamp.iter().map(clone_pair));
    for (key, change) in patch {
        if change.is_null() {
            target.remove(key);
            metadata.remove(key);
            continue;
        }
        let mut inner_metadata = match metadata.remove(key) {
            Some(Value::Object(inner)) if target.get(key).is_some_and(Value::is_object) => inner,
            Some(_) | None => Map::new(),
        };
        if let Value::Object(inner_patch) = change {
            let mut inner = match target.remove(key) {
                Some(Value::Object(inner)) => inner,
                Some(_) | None => Map::new(),
            };
            merge_stamped(&mut inner, &mut inner_metadata, inner_patch, stamp);
            target.insert(key.clone(), Value::Object(inner));
        } else {
            // A scalar that replaces an object leaves none of the object's metadata behind.
            inner_metadata = stamp.clone();
            target.insert(key.clone(), change.clone());
        }
        metadata.insert(key.clone(), Value::Object(inner_metadata));
    }
}

/// Rules for keys and values that hold for every patch by itself.
fn check(patch: &Map<String, Value>) -> Result<(), Error> {
    patch.iter().try_for_each(|(key, value)| {
        check_key(key)?;
        check_value(key, value)
    })
}

fn check_key(key: &str) -> Result<(), Error> {
    if key.len() > KEY_LIMIT {
        return Err(Error::invalid(format!("a key is longer than {KEY_LIMIT} bytes")));
    }
    if key.is_empty() || key.chars().any(|c| c.is_control() || matches!(c, '.' | '$' | ' ' | '#')) {
        return Err(Error::invalid(format!(
            "the key {key:?} is empty or holds a control character, '.', '$', '#' or a blank"
        )));
    }
    Ok(())
}

fn check_value(key: &str, value: &Value) -> Result<(), Error> {
    match value {
        Value::Object(inner) => check(inner),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(key, item)),
        Value::String(text) if text.len() > STRING_LIMIT => {
            Err(Error::invalid(format!("the text at {key} is longer than {STRING_LIMIT} bytes")))
        }
        Value::Number(number) if !number.is_f64() => match number.as_i64() {
            Some(n) if (-INTEGER_LIMIT..=INTEGER_LIMIT).contains(&n) => Ok(()),
            Some(_) | None => Err(Error::invalid(format!("the number at {key} is beyond {INTEGER_LIMIT}"))),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// Rules that hold for a section after the merge.
fn check_whole(section: &Map<String, Value>, limit: usize) -> Result<(), Error> {
    let depth = section.values().map(depth).max().unwrap_or(0);
    if depth > DEPTH_LIMIT {
        return Err(Error::invalid(format!("{depth} levels of objects where {DEPTH_LIMIT} are allowed")));
    }
    let size = size(section);
    if size > limit {
        return Err(Error::invalid(format!("{size} bytes of properties where {limit} are allowed")));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(inner) => 1 + inner.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// Length of keys and texts, 8 for a number, 4 for a boolean.
fn size(section: &Map<String, Value>) -> usize {
    section.iter().map(|(key, value)| key.len() + size_of_value(value)).sum()
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Object(inner) => size(inner),
        Value::Array(items) => items.iter().map(size_of_value).sum(),
        Value::String(text) => text.len(),
        Value::Number(_) => 8,
        Value::Bool(_) => 4,
        Value::Null => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!({"leaf": 1}), |inner, _| json!({ "in": inner }))
    }

    #[test]
    fn a_patch_merges_objects_deletes_nulls_and_replaces_the_rest() {
        let mut section = Section::desired();
        section.merge(&map(json!({"a": {"b": 1, "c": [1, 2]}, "d": "x", "n": {"m": null}}))).unwrap();
        section.merge(&map(json!({"a": {"b": null, "c": [3]}, "d": {"e": true}}))).unwrap();
        assert_eq!(Value::Object(section.value.clone()), json!({"a": {"c": [3]}, "d": {"e": true}, "n": {}}));
        assert_eq!(section.version(), 3);
        section.replace(&map(json!({"z": 1}))).unwrap();
        assert_eq!(section.for_device(), json!({"z": 1, "$version": 4}));
    }

    #[test]
    fn metadata_follows_the_tree_and_says_which_version_set_what() {
        let mut section = Section::desired();
        section.merge(&map(json!({"a": {"b": 1}, "c": 1}))).unwrap();
        section.merge(&map(json!({"c": {"d": 2}, "a": {"b": null}}))).unwrap();
        section.merge(&map(json!({"c": 5}))).unwrap();
        let metadata = section.for_service()["$metadata"].clone();
        assert_eq!(metadata["$lastUpdatedVersion"], 4);
        assert_eq!(metadata["a"]["$lastUpdatedVersion"], 3);
        assert!(metadata["a"].get("b").is_none());
        assert_eq!(metadata["c"]["$lastUpdatedVersion"], 4);
        assert!(metadata["c"].get("d").is_none(), "{metadata}");
        let reported = Section::reported().for_service();
        assert!(reported["$metadata"].get("$lastUpdatedVersion").is_none());
    }

    #[test]
    fn each_limit_holds_and_a_refused_patch_changes_nothing() {
        let mut section = Section::reported();
        let long = "x".repeat(4000);
        section.merge(&map(json!({"a": long, "b": long, "c": long, "d": long}))).unwrap();
        section.merge(&map(nested(10))).unwrap();
        let before = section.for_device();
        for (patch, word) in [
            (json!({"e": long, "f": long, "g": long, "h": long, "i": long}), "32768"),
            (nested(11), "levels"),
            (json!({"t": "x".repeat(4097)}), "text"),
            (json!({"n": 4_503_599_627_370_497_i64}), "number"),
            (json!({"a.b": 1}), "key"),
            (json!({"a": {"$version": 1}}), "key"),
            (json!({"k".repeat(1025): 1}), "key"),
        ] {
            let error = section.merge(&map(patch)).unwrap_err();
            assert!(error.message.contains(word), "{error}");
            assert_eq!(error.code.status(), 400);
            assert_eq!(section.for_device(), before);
        }
    }

    #[test]
    fn a_difference_applied_gives_the_goal() {
        let from = map(json!({"a": {"b": 1, "c": 2}, "d": 1, "same": {"x": 1}}));
        let to = map(json!({"a": {"b": 1, "e": {"f": 1}}, "d": {"g": 1}, "same": {"x": 1}}));
        let patch = difference(&from, &to);
        assert_eq!(Value::Object(patch.clone()), json!({"a": {"c": null, "e": {"f": 1}}, "d": {"g": 1}}));
        let mut merged = from;
        merge(&mut merged, &patch);
        assert_eq!(merged, to);
    }
}
