//! The desired section of the twin as this device knows it: kept whole, guarded by its `$version`. Pure.
//!
//! The hub never repeats a notification, so the order after every connection is: subscribe, then get the whole
//! twin, then judge notifications by their version. One that is not newer is dropped; one that leaves a gap is
//! answered by getting the whole again. A whole twin is believed even if its version is lower, since a hub that
//! was restored after a disaster counts anew.
//!
//! A notification after a *replacement* of the section carries the new section whole, and nothing tells it from a
//! patch. Merged like a patch it would keep what the replacement dropped: a cancelled `firmware`, or the old
//! `fwSize` beside the new address. So where the two readings differ in what our members say, the twin decides.

use serde_json::Value;

use super::merge::{self, Object};

/// The members that are ours.
const OURS: [&str; 2] = ["firmware", "twinboot"];

/// The desired section.
#[derive(Clone, Debug, Default)]
pub struct Twin {
    desired: Object,
    /// `None` until the whole was seen on this connection.
    version: Option<u64>,
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Noticed {
    /// It is part of what is known now.
    Accepted,
    /// It told nothing new and was dropped.
    Stale,
    /// It does not say enough: the whole twin must be got.
    Incomplete,
}

impl Twin {
    /// `firmware` as it is desired.
    pub fn firmware(&self) -> Option<&Value> {
        self.desired.get("firmware")
    }

    /// `twinboot` as it is desired.
    pub fn twinboot(&self) -> Option<&Value> {
        self.desired.get("twinboot")
    }

    /// The version that is known, since the last [`Twin::replace`].
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// Takes the section whole.
    pub fn replace(&mut self, mut desired: Object) {
        self.version = Some(take_version(&mut desired).unwrap_or(0));
        self.desired = desired;
    }

    /// Forgets which version is known: nothing is believed until the next [`Twin::replace`].
    pub fn doubt(&mut self) {
        self.version = None;
    }

    /// Judges a notification: `version` is from its topic, `patch` its payload.
    pub fn notice(&mut self, version: Option<u64>, patch: &[u8]) -> Noticed {
        let Ok(Value::Object(mut patch)) = serde_json::from_slice(patch) else {
            return Noticed::Incomplete;
        };
        let inner = take_version(&mut patch);
        let (Some(known), Some(version)) = (self.version, version.or(inner)) else {
            return Noticed::Incomplete;
        };
        if inner.is_some_and(|inner| inner != version) {
            return Noticed::Incomplete;
        }
        if version <= known {
            return Noticed::Stale;
        }
        let mut merged = self.desired.clone();
        let whole = OURS.map(|name| patch.get(name).filter(|value| !value.is_null()).cloned());
        merge::apply(&mut merged, patch);
        let differs = OURS.iter().zip(&whole).any(|(name, whole)| merged.get(*name) != whole.as_ref());
        if version != known + 1 || differs {
            return Noticed::Incomplete;
        }
        (self.desired, self.version) = (merged, Some(version));
        Noticed::Accepted
    }
}

fn take_version(section: &mut Object) -> Option<u64> {
    section.remove("$version").as_ref().and_then(Value::as_u64)
}

/// A whole twin.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// The desired section, with its `$version`.
    pub desired: Object,
    /// The reported section, without its `$version`.
    pub reported: Object,
}

impl Whole {
    /// Reads the answer to a request for the twin.
    ///
    /// # Errors
    /// What is wrong, without quoting it.
    pub fn parse(payload: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(payload)
            .map_err(|error| format!("not JSON or nested too deeply, at byte {}", error.column()))?;
        let section = |name: &str| match value.get(name) {
            Some(Value::Object(section)) => Ok(section.clone()),
            None | Some(Value::Null) => Ok(Object::new()),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Err(format!("its section '{name}' is not an object"))
            }
        };
        if !value.is_object() {
            return Err("it is not an object".to_owned());
        }
        let (desired, mut reported) = (section("desired")?, section("reported")?);
        take_version(&mut reported);
        Ok(Self { desired, reported })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        serde_json::from_value(value).unwrap()
    }

    fn notice(twin: &mut Twin, version: u64, patch: Value) -> Noticed {
        twin.notice(Some(version), patch.to_string().as_bytes())
    }

    fn known() -> Twin {
        let mut twin = Twin::default();
        twin.replace(object(json!({"firmware": {"a": 1, "b": 2}, "other": 1, "$version": 7})));
        twin
    }

    #[test]
    fn only_the_next_version_is_taken() {
        let mut twin = known();
        let patch = |a| json!({"firmware": {"a": a, "b": 2}, "$version": 8});
        for stale in [1, 6, 7] {
            let patch = json!({"firmware": {"a": 9, "b": 9}, "$version": stale});
            assert_eq!(notice(&mut twin, stale, patch), Noticed::Stale);
        }
        assert_eq!(
            notice(&mut twin, 9, json!({"firmware": {"a": 9, "b": 2}, "$version": 9})),
            Noticed::Incomplete
        );
        assert_eq!(twin.firmware(), Some(&json!({"a": 1, "b": 2})));
        assert_eq!(notice(&mut twin, 8, patch(5)), Noticed::Accepted);
        for _ in 0..100 {
            assert_eq!(notice(&mut twin, 8, patch(6)), Noticed::Stale, "the same again");
        }
        assert_eq!(twin.firmware(), Some(&json!({"a": 5, "b": 2})));
    }

    #[test]
    fn a_deletion_by_null_is_taken_at_once() {
        let mut twin = known();
        assert_eq!(notice(&mut twin, 8, json!({"firmware": null, "$version": 8})), Noticed::Accepted);
        assert_eq!(twin.firmware(), None);
        assert_eq!(notice(&mut twin, 9, json!({"other": 2, "$version": 9})), Noticed::Accepted);
    }

    #[test]
    fn where_patch_and_replacement_would_differ_the_twin_is_asked() {
        for patch in [
            json!({"$version": 8}),                       // an unrelated change, or all was cleared
            json!({"other": 3, "$version": 8}),           // the same
            json!({"firmware": {"a": 5}, "$version": 8}), // one member changed, or the other dropped
            json!({"firmware": {"b": null}, "$version": 8}),
            json!({"firmware": {"a": 1, "b": 2}, "twinboot": {"x": null}, "$version": 8}),
        ] {
            let mut twin = known();
            assert_eq!(notice(&mut twin, 8, patch), Noticed::Incomplete);
            assert_eq!(twin.firmware(), Some(&json!({"a": 1, "b": 2})), "nothing is believed half");
        }
    }

    #[test]
    fn both_of_our_members_are_followed() {
        let mut twin = Twin::default();
        let (firmware, settings) = (json!({"a": 1}), json!({"window": "none"}));
        twin.replace(object(json!({"firmware": firmware, "twinboot": settings, "$version": 7})));
        // Either alone may be a replacement that drops the other.
        for half in [json!({"firmware": {"a": 2}}), json!({"twinboot": {"window": "01:00-02:00"}})] {
            assert_eq!(notice(&mut twin.clone(), 8, half), Noticed::Incomplete);
        }
        let whole = json!({"firmware": {"a": 2}, "twinboot": {"window": "01:00-02:00"}, "$version": 8});
        assert_eq!(notice(&mut twin, 8, whole), Noticed::Accepted);
        assert_eq!(twin.twinboot(), Some(&json!({"window": "01:00-02:00"})));
        let gone = json!({"firmware": {"a": 2}, "twinboot": null, "$version": 9});
        assert_eq!(notice(&mut twin, 9, gone), Noticed::Accepted);
        assert_eq!((twin.twinboot(), twin.firmware()), (None, Some(&json!({"a": 2}))));
    }

    #[test]
    fn nothing_is_believed_before_the_whole_was_seen() {
        let mut twin = Twin::default();
        assert_eq!(notice(&mut twin, 1, json!({"firmware": null, "$version": 1})), Noticed::Incomplete);
        let mut twin = known();
        twin.doubt();
        assert_eq!(notice(&mut twin, 8, json!({"firmware": null, "$version": 8})), Noticed::Incomplete);
        twin.replace(object(json!({"$version": 3})));
        assert_eq!(
            notice(&mut twin, 4, json!({"firmware": 1, "$version": 4})),
            Noticed::Accepted,
            "counts anew"
        );
    }

    #[test]
    fn a_notification_that_cannot_be_read_or_contradicts_itself_asks_for_the_whole() {
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        for payload in ["", "{", "[]", "null", &deep, r#"{"firmware":null,"$version":9}"#] {
            assert_eq!(known().notice(Some(8), payload.as_bytes()), Noticed::Incomplete);
        }
        assert_eq!(known().notice(Some(8), &[0xff]), Noticed::Incomplete);
        assert_eq!(known().notice(None, br#"{"firmware":null,"$version":8}"#), Noticed::Accepted);
        assert_eq!(known().notice(None, br#"{"firmware":null}"#), Noticed::Incomplete);
    }

    #[test]
    fn a_whole_twin_is_read() {
        let whole =
            Whole::parse(br#"{"desired":{"x":1,"$version":4},"reported":{"y":2,"$version":9}}"#).unwrap();
        assert_eq!(whole.desired, object(json!({"x": 1, "$version": 4})));
        assert_eq!(whole.reported, object(json!({"y": 2})));
        assert!(Whole::parse(b"{}").unwrap().desired.is_empty());
        let deep = format!("{{\"desired\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        for bad in ["", "[]", r#"{"desired":[]}"#, &deep] {
            assert!(Whole::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
