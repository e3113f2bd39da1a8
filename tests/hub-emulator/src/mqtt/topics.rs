//! The topics that a device may publish to, and the user name, which is written like one. Not topic filters, which
//! `hub` knows. Called by `connection`. Source: "Communicate with an IoT hub using the MQTT protocol".

use crate::escape;

/// What a device's message is, by its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inbound {
    MethodAnswer { rid: String, status: i64 },
    Report { rid: String, expected: Option<u64> },
    Telemetry { properties: Vec<(String, String)> },
    TwinGet { rid: String },
}

/// Reads a topic. None if the hub knows no such topic, or not for this device: it then closes the connection.
pub(super) fn inbound(device: &str, topic: &str) -> Option<Inbound> {
    if let Some(bag) = topic.strip_prefix(&format!("devices/{device}/messages/events")) {
        let bag = if bag.is_empty() { bag } else { bag.strip_prefix('/')? };
        return Some(Inbound::Telemetry { properties: escape::pairs(bag) });
    }
    // What the device answers to is named in a query. The `/?` is part of every documented topic.
    let (path, query) = topic.split_once("/?")?;
    let query = escape::pairs(query);
    let rid = escape::first(&query, "$rid")?.to_owned();
    match path {
        "$iothub/twin/GET" => Some(Inbound::TwinGet { rid }),
        "$iothub/twin/PATCH/properties/reported" => {
            let expected = match escape::first(&query, "$version") {
                Some(version) => Some(version.parse().ok()?),
                None => None,
            };
            Some(Inbound::Report { rid, expected })
        }
        _ => {
            let status = path.strip_prefix("$iothub/methods/res/")?.parse().ok()?;
            Some(Inbound::MethodAnswer { rid, status })
        }
    }
}

/// The user name's parts: `{host}/{device}/?api-version=…&DeviceClientType=…`, older clients without the `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserName {
    pub(super) host: String,
    pub(super) device: String,
}

impl UserName {
    pub(super) fn parse(text: &str) -> Result<UserName, String> {
        let parts: Vec<&str> = text.splitn(3, '/').collect();
        let [host, device, query] = parts[..] else {
            return Err(format!("the user name {text:?} is not host/device/?api-version="));
        };
        if query.contains('/') && !query.starts_with('?') && !query.starts_with("api-version=") {
            return Err("modules are not emulated".to_owned());
        }
        let pairs = escape::pairs(query.trim_start_matches('?'));
        if escape::first(&pairs, "api-version").is_none() {
            return Err("the user name has no api-version".to_owned());
        }
        Ok(UserName { host: host.to_owned(), device: device.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn documented_topics_are_known_and_others_are_not() {
        let rid = || "a-1".to_owned();
        assert_eq!(inbound("d", "$iothub/twin/GET/?$rid=a-1"), Some(Inbound::TwinGet { rid: rid() }));
        assert_eq!(
            inbound("d", "$iothub/twin/PATCH/properties/reported/?$rid=a-1&$version=4"),
            Some(Inbound::Report { rid: rid(), expected: Some(4) })
        );
        assert_eq!(
            inbound("d", "$iothub/methods/res/-7/?$rid=a-1"),
            Some(Inbound::MethodAnswer { rid: rid(), status: -7 })
        );
        let telemetry = inbound("d", "devices/d/messages/events/%24.mid=m%201&k%20y=v%26%3D%2F").unwrap();
        let properties = vec![("$.mid".to_owned(), "m 1".to_owned()), ("k y".to_owned(), "v&=/".to_owned())];
        assert_eq!(telemetry, Inbound::Telemetry { properties });
        assert!(inbound("d", "devices/d/messages/events").is_some());
        for other in [
            "devices/e/messages/events/",
            "devices/d/messages/eventsmore",
            "$iothub/twin/GET/",
            "$iothub/twin/GET/?rid=1",
            "$iothub/twin/PUT/?$rid=1",
            "$iothub/methods/res/ok/?$rid=1",
            "$iothub/twin/PATCH/properties/reported/?$rid=1&$version=x",
            "anything",
        ] {
            assert_eq!(inbound("d", other), None, "{other}");
        }
    }

    #[test]
    fn user_names_of_old_and_new_clients_are_read() {
        let wanted = UserName { host: "localhost".to_owned(), device: "dev1".to_owned() };
        for text in [
            "localhost/dev1/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%28%29",
            "localhost/dev1/?model-id=dtmi:com:example:Thermostat;1&api-version=2021-04-12",
            "localhost/dev1/api-version=2016-11-14/DeviceClientType=x",
        ] {
            assert_eq!(UserName::parse(text), Ok(wanted.clone()), "{text}");
        }
        for text in ["localhost/dev1", "localhost/dev1/?x=1", "localhost/dev1/mod/?api-version=1", ""] {
            assert!(UserName::parse(text).is_err(), "{text}");
        }
    }
}
