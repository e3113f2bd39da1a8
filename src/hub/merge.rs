//! JSON merge patches as the hub applies them to either section of a twin: objects merge, `null` deletes, all else
//! replaces. Pure.
//!
//! The recursion is as deep as the documents are, and those came through `serde_json`, whose own limit (128) stays
//! on, or from our own reports.

use serde_json::{Map, Value};

/// A JSON object.
pub type Object = Map<String, Value>;

/// Applies `patch` to `target`.
pub fn apply(target: &mut Object, patch: Object) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(&name);
            }
            Value::Object(patch) => {
                let place = target.entry(name).or_insert(Value::Null);
                if !place.is_object() {
                    *place = Value::Object(Object::new());
                }
                if let Value::Object(inner) = place {
                    apply(inner, patch);
                }
            }
            value @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                target.insert(name, value);
            }
        }
    }
}

/// The smallest patch that makes `known` say what `wanted` says, for the top-level members of `wanted`; the others
/// are not ours to touch. A `null` in `wanted` means that there shall be nothing.
pub fn difference(known: &Object, wanted: &Object) -> Object {
    let mut patch = Object::new();
    for (name, wanted) in wanted {
        if let Some(change) = change(known.get(name), wanted) {
            patch.insert(name.clone(), change);
        }
    }
    patch
}

/// What to send for one member; `None` if nothing.
fn change(known: Option<&Value>, wanted: &Value) -> Option<Value> {
    match (known, wanted) {
        (None, Value::Null) => None,
        (Some(known), wanted) if known == wanted => None,
        (Some(Value::Object(known)), Value::Object(wanted)) => {
            let mut patch = difference(known, wanted);
            for name in known.keys().filter(|name| !wanted.contains_key(*name)) {
                patch.insert(name.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (_, wanted) => Some(wanted.clone()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn null_deletes_objects_merge_and_the_rest_replaces() {
        let mut document = object(json!({"a": {"x": 1, "y": {"z": 2}}, "b": [1, 2, 3], "c": 4}));
        apply(
            &mut document,
            object(json!({"a": {"x": null, "y": {"w": 3}}, "b": [9], "c": {"d": 1, "e": null}})),
        );
        assert_eq!(document, object(json!({"a": {"y": {"z": 2, "w": 3}}, "b": [9], "c": {"d": 1}})));
        apply(&mut document, object(json!({"none": null, "a": null})));
        assert_eq!(document, object(json!({"b": [9], "c": {"d": 1}})));
    }

    #[test]
    fn equal_documents_cost_nothing_and_strangers_are_left_alone() {
        let known = object(json!({"firmware": {"a": 1, "b": "x"}, "stranger": true, "rebootTime": "t"}));
        assert!(difference(&known, &object(json!({"firmware": {"a": 1, "b": "x"}}))).is_empty());
        assert_eq!(
            difference(&known, &object(json!({"firmware": {"a": 2}, "rebootTime": null, "gone": null}))),
            object(json!({"firmware": {"a": 2, "b": null}, "rebootTime": null}))
        );
    }

    /// Any JSON without nulls, as a twin holds it.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..3i64).prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Value::from),
                btree_map("[a-d]", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_difference_applied_gives_what_was_wanted(
            known in btree_map("[a-d]", value(), 0..4),
            wanted in btree_map("[a-d]", value(), 0..4),
        ) {
            let known: Object = known.into_iter().collect();
            let wanted: Object = wanted.into_iter().collect();
            let mut after = known.clone();
            apply(&mut after, difference(&known, &wanted));
            for (name, value) in &wanted {
                prop_assert_eq!(after.get(name), Some(value));
            }
            for (name, value) in known.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
                prop_assert_eq!(after.get(name), Some(value));
            }
            prop_assert!(difference(&after, &wanted).is_empty());
        }
    }
}
