//! Paths into twins, as operators write them: `properties.reported.firmware.fwUpdateStatus`.

use serde_json::{Map, Value};

use crate::failure::{Failure, Outcome};

/// The segments of a path.
///
/// # Errors
/// If it is none. What would mean something else inside of a query is none, too.
pub(crate) fn segments(path: &str) -> Outcome<Vec<&str>> {
    let segments: Vec<_> = path.split('.').collect();
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$');
    if segments.iter().all(|segment| !segment.is_empty() && segment.bytes().all(good)) {
        return Ok(segments);
    }
    Err(Failure::usage(format!(
        "{path:?} is no path: names of letters, digits, '_' and '-', with dots between them"
    )))
}

/// A path as it stands in a query: names with other signs than letters and digits are put into brackets.
pub(crate) fn in_query(path: &str) -> Outcome<String> {
    let plain = |segment: &&str| {
        segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !segment.as_bytes()[0].is_ascii_digit()
    };
    let names = segments(path)?.into_iter();
    let names = names.map(|name| if plain(&name) { name.to_owned() } else { format!("[[{name}]]") });
    Ok(names.collect::<Vec<_>>().join("."))
}

/// What stands at a path.
pub(crate) fn at<'a>(document: &'a Value, segments: &[&str]) -> Option<&'a Value> {
    segments.iter().try_fold(document, |value, segment| value.get(segment))
}

/// Puts a value at a path, making the objects on the way.
pub(crate) fn put(document: &mut Map<String, Value>, segments: &[&str], value: Value) {
    let [first, rest @ ..] = segments else { return };
    if rest.is_empty() {
        document.insert((*first).to_owned(), value);
        return;
    }
    let inner = document.entry((*first).to_owned()).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        put(inner, rest, value);
    }
}

/// `PATH=VALUE`: the value is JSON, and text if it is none.
pub(crate) fn assignment(text: &str) -> Outcome<(&str, Value)> {
    let (path, value) =
        text.split_once('=').ok_or_else(|| Failure::usage(format!("{text:?} is not NAME=VALUE")))?;
    Ok((path, serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_read_and_nothing_else() {
        assert_eq!(in_query("tags.site-2.a_b.3").unwrap(), "tags.[[site-2]].a_b.[[3]]");
        for bad in ["", ".", "a..b", "a b", "a'", "a]", "a,b", "a AS b"] {
            assert!(segments(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn assignments_build_a_patch() {
        let mut patch = Map::new();
        for text in ["tags.a=1", "tags.b=x=y", "tags.c=null", "tags.d.e=\"7\"", "tags.a=true"] {
            let (path, value) = assignment(text).unwrap();
            put(&mut patch, &segments(path).unwrap(), value);
        }
        assert_eq!(
            Value::Object(patch),
            json!({"tags": {"a": true, "b": "x=y", "c": null, "d": {"e": "7"}}})
        );
        assert!(assignment("what").is_err());
    }
}
