//! The hub's topics, both ways: text to meaning and back. Pure.
//!
//! Format: Microsoft's "Communicate with an IoT hub using the MQTT protocol". A request id (`$rid`) is opaque and
//! must come back byte for byte, so it is never decoded; property bags are.

use std::fmt;

use super::sas::percent_encoded;

/// Answers to twin requests.
pub const TWIN_ANSWERS: &str = "$iothub/twin/res/#";
/// Notifications of changed desired properties.
pub const DESIRED_PATCHES: &str = "$iothub/twin/PATCH/properties/desired/#";
/// Direct method calls.
pub const METHODS: &str = "$iothub/methods/POST/#";

const TWIN_ANSWER: &str = "$iothub/twin/res/";
const TWIN_GET: &str = "$iothub/twin/GET/";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/";
const REPORTED: &str = "$iothub/twin/PATCH/properties/reported/";
const METHOD_CALL: &str = "$iothub/methods/POST/";
const METHOD_ANSWER: &str = "$iothub/methods/res/";

/// One topic and what it says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Topic {
    /// The device asks for its twin.
    TwinGet {
        /// Request id.
        rid: String,
    },
    /// The device changes its reported properties.
    ReportedPatch {
        /// Request id.
        rid: String,
    },
    /// The hub answers a twin request.
    TwinAnswer {
        /// Like an HTTP status.
        status: u16,
        /// Whose answer it is.
        rid: String,
        /// The new version of the reported section, after a patch.
        version: Option<u64>,
    },
    /// The hub tells of changed desired properties.
    DesiredPatch {
        /// The version of the desired section after the change.
        version: Option<u64>,
    },
    /// The hub calls a method.
    MethodCall {
        /// The method's name as it was sent: not decoded, so that no spelling passes for another.
        name: String,
        /// Request id.
        rid: String,
    },
    /// The device answers a method call.
    MethodAnswer {
        /// The device's own status.
        status: u16,
        /// Whose answer it is.
        rid: String,
    },
    /// Somebody sends the device a message.
    CloudToDevice {
        /// To whom.
        device: String,
    },
    /// The device sends telemetry.
    Telemetry {
        /// Who sends.
        device: String,
        /// Properties, decoded. No value is told apart from an empty one.
        properties: Vec<(String, Option<String>)>,
    },
}

impl Topic {
    /// Reads a topic; `None` if it is none of the hub's.
    pub fn parse(topic: &str) -> Option<Self> {
        if let Some(rest) = topic.strip_prefix(TWIN_ANSWER) {
            let (status, query) = rest.split_once("/?")?;
            let status = status.parse().ok()?;
            return Some(Self::TwinAnswer {
                status,
                rid: value(query, "$rid")?.to_owned(),
                version: version(query)?,
            });
        }
        if let Some(rest) = topic.strip_prefix(DESIRED) {
            return Some(Self::DesiredPatch { version: version(rest.strip_prefix('?').unwrap_or(rest))? });
        }
        if let Some(rest) = topic.strip_prefix(METHOD_CALL) {
            let (name, query) = rest.rsplit_once("/?")?;
            return Some(Self::MethodCall { name: name.to_owned(), rid: value(query, "$rid")?.to_owned() });
        }
        if let Some(rest) = topic.strip_prefix(TWIN_GET) {
            return Some(Self::TwinGet { rid: value(rest.strip_prefix('?')?, "$rid")?.to_owned() });
        }
        if let Some(rest) = topic.strip_prefix(REPORTED) {
            return Some(Self::ReportedPatch { rid: value(rest.strip_prefix('?')?, "$rid")?.to_owned() });
        }
        if let Some(rest) = topic.strip_prefix(METHOD_ANSWER) {
            let (status, query) = rest.split_once("/?")?;
            return Some(Self::MethodAnswer {
                status: status.parse().ok()?,
                rid: value(query, "$rid")?.to_owned(),
            });
        }
        let rest = topic.strip_prefix("devices/")?;
        if let Some((device, _)) = rest.split_once("/messages/devicebound/") {
            return Some(Self::CloudToDevice { device: device.to_owned() });
        }
        let (device, bag) = rest.split_once("/messages/events/")?;
        Some(Self::Telemetry { device: device.to_owned(), properties: properties(bag)? })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwinGet { rid } => write!(f, "{TWIN_GET}?$rid={rid}"),
            Self::ReportedPatch { rid } => write!(f, "{REPORTED}?$rid={rid}"),
            Self::TwinAnswer { status, rid, version } => {
                write!(f, "{TWIN_ANSWER}{status}/?$rid={rid}")?;
                version.map_or(Ok(()), |version| write!(f, "&$version={version}"))
            }
            Self::DesiredPatch { version } => {
                f.write_str(DESIRED)?;
                version.map_or(Ok(()), |version| write!(f, "?$version={version}"))
            }
            Self::MethodCall { name, rid } => write!(f, "{METHOD_CALL}{name}/?$rid={rid}"),
            Self::MethodAnswer { status, rid } => write!(f, "{METHOD_ANSWER}{status}/?$rid={rid}"),
            Self::CloudToDevice { device } => write!(f, "devices/{device}/messages/devicebound/"),
            Self::Telemetry { device, properties } => {
                write!(f, "devices/{device}/messages/events/")?;
                for (index, (name, value)) in properties.iter().enumerate() {
                    let and = if index == 0 { "" } else { "&" };
                    write!(f, "{and}{}", percent_encoded(name))?;
                    if let Some(value) = value {
                        write!(f, "={}", percent_encoded(value))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The messages that are sent to `device`.
pub(super) fn messages(device: &str) -> String {
    format!("devices/{device}/messages/devicebound/#")
}

/// Where `device` sends our lifecycle events: as JSON in UTF-8, or the hub could not route them by what they say, and
/// with a property that tells them from the telemetry of others.
pub(super) fn telemetry(device: &str) -> String {
    let properties = [("$.ct", "application/json"), ("$.ce", "utf-8"), ("type", "twinboot.lifecycle")]
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    Topic::Telemetry { device: device.to_owned(), properties: properties.into() }.to_string()
}

/// The first value of `name`, which may have been sent encoded (`%24rid`).
fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name || percent_decoded(key).as_deref() == Some(name)).then_some(value)
    })
}

/// `$version`, if there is one; `None` on the outside if it is not a number.
fn version(query: &str) -> Option<Option<u64>> {
    value(query, "$version").map_or(Some(None), |text| text.parse().ok().map(Some))
}

fn properties(bag: &str) -> Option<Vec<(String, Option<String>)>> {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) => Some((percent_decoded(name)?, Some(percent_decoded(value)?))),
        None => Some((percent_decoded(pair)?, None)),
    };
    bag.trim_end_matches('/').split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

/// `None` if an escape is broken or the result is not UTF-8. A '+' is a '+'.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn captured_topics_are_read() {
        let rid = || "2dd9e6e5-4c2b".to_owned();
        for (text, topic) in [
            (
                "$iothub/twin/res/200/?$rid=2dd9e6e5-4c2b",
                Topic::TwinAnswer { status: 200, rid: rid(), version: None },
            ),
            (
                "$iothub/twin/res/204/?$rid=2dd9e6e5-4c2b&$version=7",
                Topic::TwinAnswer { status: 204, rid: rid(), version: Some(7) },
            ),
            (
                "devices/dev1/messages/devicebound/%24.to=%2Fdevices%2Fdev1&x=",
                Topic::CloudToDevice { device: "dev1".into() },
            ),
            ("$iothub/twin/PATCH/properties/desired/?$version=12", Topic::DesiredPatch { version: Some(12) }),
            (
                "$iothub/methods/POST/rebootDevice/?$rid=2dd9e6e5-4c2b",
                Topic::MethodCall { name: "rebootDevice".into(), rid: rid() },
            ),
            (
                "$iothub/methods/POST/a%2e/b/?c/?$rid=2dd9e6e5-4c2b",
                Topic::MethodCall { name: "a%2e/b/?c".into(), rid: rid() },
            ),
            (
                "devices/dev1/messages/events/%24.mid=m%201&%24.ct=application%2Fjson&k%20y=v%26%3D%2F&null&empty=",
                Topic::Telemetry {
                    device: "dev1".into(),
                    properties: vec![
                        ("$.mid".into(), Some("m 1".into())),
                        ("$.ct".into(), Some("application/json".into())),
                        ("k y".into(), Some("v&=/".into())),
                        ("null".into(), None),
                        ("empty".into(), Some(String::new())),
                    ],
                },
            ),
        ] {
            assert_eq!(Topic::parse(text), Some(topic), "{text}");
        }
    }

    #[test]
    fn what_is_none_of_the_hubs_is_none() {
        for text in [
            "",
            "$iothub/",
            "$iothub/twin/res/",
            "$iothub/twin/res/x/?$rid=1",
            "$iothub/twin/res/200/",
            "$iothub/twin/res/200/?rid=1",
            "$iothub/twin/res/99999/?$rid=1",
            "$iothub/twin/PATCH/properties/desired/?$version=x",
            "$iothub/methods/POST/m",
            "$iothub/methods/POST/m/?",
            "devices/d/messages/events/a=%2",
            "devices/d/messages/events/a=%ff",
            "devices/d/messages/",
        ] {
            assert_eq!(Topic::parse(text), None, "{text}");
        }
    }

    fn rid() -> impl Strategy<Value = String> {
        "[A-Za-z0-9%._~=-]{0,40}"
    }

    fn topic() -> impl Strategy<Value = Topic> {
        let name = "[A-Za-z0-9_%/?$.-]{0,30}";
        let bag = vec(("\\PC{1,8}", option::of("\\PC{0,8}")), 0..5);
        prop_oneof![
            rid().prop_map(|rid| Topic::TwinGet { rid }),
            rid().prop_map(|rid| Topic::ReportedPatch { rid }),
            (any::<u16>(), rid(), any::<Option<u64>>())
                .prop_map(|(status, rid, version)| Topic::TwinAnswer { status, rid, version }),
            any::<Option<u64>>().prop_map(|version| Topic::DesiredPatch { version }),
            (name, rid()).prop_map(|(name, rid)| Topic::MethodCall { name, rid }),
            (any::<u16>(), rid()).prop_map(|(status, rid)| Topic::MethodAnswer { status, rid }),
            "[a-z0-9.-]{1,20}".prop_map(|device| Topic::CloudToDevice { device }),
            ("[a-z0-9.-]{1,20}", bag)
                .prop_map(|(device, properties)| Topic::Telemetry { device, properties }),
        ]
    }

    proptest! {
        #[test]
        fn meaning_to_text_and_back(topic in topic()) {
            let text = topic.to_string();
            prop_assert_eq!(Topic::parse(&text), Some(topic), "{}", text);
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,60}", tail in "(\\$|%|[a-z0-9/?=&]){0,20}") {
            for start in ["", TWIN_ANSWER, DESIRED, METHOD_CALL, "devices/"] {
                let _ = Topic::parse(&format!("{start}{text}{tail}"));
                let _ = Topic::parse(&format!("{start}{tail}"));
            }
        }
    }
}
