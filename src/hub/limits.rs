//! What a section of a twin can hold, and how a document is made to fit. Pure.
//!
//! The numbers are the hub's ("Understand and use device twins in IoT Hub", Twin size and Device twin limits): a
//! section of 32 KB, ten levels, names of 1 KB without control characters, dots, dollar signs and blanks, strings of
//! 4 KB, integers within 52 bits. A hub answers what breaks one of them with 400 and keeps nothing of it, so a report
//! with one sentence too long would tell nothing at all. Nothing leaves this device that breaks one: whatever somebody
//! wrote into a sentence, [`fit`] has the last word before it is sent.

use serde_json::Value;

use super::merge::Object;

/// Bytes of a section. Others may keep something in it, too, and our own way to count is not the hub's: this leaves an
/// eighth.
const SECTION: usize = 28 * 1024;
/// Containers within containers, the section itself being the first.
const DEPTH: usize = 10;
/// Bytes of a name.
const NAME: usize = 1024;
/// Bytes of a string.
const TEXT: usize = 4096;
/// Largest magnitude of an integer.
const INTEGER: u64 = 4_503_599_627_370_496;
/// To what strings are cut, one after the other, until the document fits.
const CUTS: [usize; 4] = [1024, 256, 64, 8];

/// The document as the hub takes it: the same, if it breaks no limit.
pub(super) fn fit(document: &Object) -> Object {
    let mut fitting = object(document, DEPTH - 1, TEXT);
    for text in CUTS {
        if size(&fitting) <= SECTION {
            return fitting;
        }
        fitting = object(document, DEPTH - 1, text);
    }
    // So many members that even without their sentences they are too many: the first ones.
    let mut left = SECTION;
    fitting.retain(|name, value| {
        let cost = name.len() + weight(value);
        let fits = cost <= left;
        left -= if fits { cost } else { 0 };
        fits
    });
    fitting
}

/// How much of a section it takes: at least what the hub counts, which is names and strings, eight bytes for a number
/// and four for a boolean.
fn size(document: &Object) -> usize {
    document.iter().map(|(name, value)| name.len() + weight(value)).sum()
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Null => 4,
        Value::Bool(_) => 5,
        Value::Number(_) => 20,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| weight(item) + 1).sum::<usize>() + 2,
        Value::Object(object) => size(object) + 4 * object.len() + 2,
    }
}

fn object(document: &Object, levels: usize, text: usize) -> Object {
    document.iter().map(|(name, value)| (self::name(name), self::value(value, levels, text))).collect()
}

/// `levels` is how many more containers may be within.
fn value(value: &Value, levels: usize, text: usize) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude > INTEGER) {
                Value::String(number.to_string())
            } else {
                value.clone()
            }
        }
        Value::String(whole) => Value::String(cut(whole, text).to_owned()),
        Value::Array(_) | Value::Object(_) if levels == 0 => Value::String("…".to_owned()),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| self::value(item, levels - 1, text)).collect())
        }
        Value::Object(inner) => Value::Object(object(inner, levels - 1, text)),
    }
}

fn name(name: &str) -> String {
    let good = |c: char| if c.is_control() || matches!(c, '.' | '$' | ' ') { '_' } else { c };
    cut(name, NAME).chars().map(good).collect()
}

/// At most `limit` bytes, and never half a character.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn made(value: Value) -> Object {
        serde_json::from_value(value).unwrap()
    }

    /// As the hub counts and judges, written down once more.
    fn check(value: &Value, level: usize) -> usize {
        match value {
            Value::Null => 0,
            Value::Bool(_) => 4,
            Value::Number(number) => {
                assert!(number.as_f64().unwrap().abs() <= 4_503_599_627_370_496.0, "{number}");
                8
            }
            Value::String(text) => {
                assert!(text.len() <= 4096);
                text.len()
            }
            Value::Array(items) => {
                assert!(level <= 10, "level {level}");
                items.iter().map(|item| check(item, level + 1)).sum()
            }
            Value::Object(object) => {
                assert!(level <= 10, "level {level}");
                let member = |(name, value): (&String, &Value)| {
                    assert!(name.len() <= 1024 && !name.contains(['.', '$', ' ', '\n']), "{name:?}");
                    name.len() + check(value, level + 1)
                };
                object.iter().map(member).sum()
            }
        }
    }

    fn judge(document: Value) -> Object {
        let document = made(document);
        let fitting = fit(&document);
        assert!(check(&Value::Object(fitting.clone()), 1) <= 32 * 1024);
        assert!(Value::Object(fitting.clone()).to_string().len() <= 48 * 1024);
        assert_eq!(fit(&fitting), fitting, "what fits stays as it is");
        fitting
    }

    #[test]
    fn what_fits_is_not_touched() {
        let document =
            json!({"firmware": {"a": 1, "b": null, "c": "täxt", "d": [1, {"x": true}]}, "n": -7.5});
        assert_eq!(judge(document.clone()), made(document));
    }

    #[test]
    fn sentences_give_way_first_and_words_stay() {
        let big = "ü".repeat(40_000);
        let document = judge(json!({"firmware": {"fwUpdateStatus": "error", "fwUpdateSubstatus": big}}));
        assert_eq!(document["firmware"]["fwUpdateStatus"], "error");
        assert_eq!(document["firmware"]["fwUpdateSubstatus"].as_str().unwrap().len(), 4096);
        let many: Object = (0..100).map(|n| (format!("w{n}"), json!("x".repeat(3000)))).collect();
        let document = judge(json!({"firmware": {"fwUpdateStatus": "error", "warnings": many}}));
        assert_eq!(document["firmware"]["fwUpdateStatus"], "error");
        assert_eq!(document["firmware"]["warnings"].as_object().unwrap().len(), 100);
    }

    #[test]
    fn depth_names_and_numbers_are_made_to_fit() {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!({ "a": deep });
        }
        judge(json!({ "deep": deep }));
        let document = judge(json!({"a.b $c\n": u64::MAX, "low": i64::MIN, "max": INTEGER}));
        assert_eq!(document["a_b__c_"], u64::MAX.to_string());
        assert_eq!(document["max"], INTEGER);
        judge(json!({ "n".repeat(5000): 1 }));
        let members: Object = (0..9000).map(|n| (format!("member-{n:06}"), json!(n))).collect();
        assert!(!judge(Value::Object(members)).is_empty());
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "\\PC{0,40}".prop_map(Value::from),
            (0..6000usize).prop_map(|n| Value::from("é".repeat(n))),
        ];
        leaf.prop_recursive(14, 64, 6, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(Value::from),
                btree_map("(\\PC|[.$ ]){0,8}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn whatever_it_is_it_fits(members in btree_map("\\PC{0,8}", anything(), 0..12)) {
            judge(Value::Object(members.into_iter().collect()));
        }
    }
}
