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

/// Reads a topic. None if the hub knows no such topic, or not for this device (or module, `device/module`): it then
/// closes the connection.
pub(super) fn inbound(device: &str, topic: &str) -> Option<Inbound> {
    let own = match device.split_once('/') {
        Some((device, module)) => format!("devices/{device}/modules/{module}/messages/events"),
        None => format!("devices/{device}/messages/events"),
    };
    if let Some(bag) = topic.strip_prefix(&own) {
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

/// The user name's parts: `{host}/{device}[/{module}]/?api-version=…&DeviceClientType=…`, older clients without the
/// `?`. Pairs may come in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UserName {
    pub(super) host: String,
    pub(super) device: String,
    pub(super) module: Option<String>,
    /// The Plug-and-Play model.
    pub(super) model: Option<String>,
}

impl UserName {
    pub(super) fn parse(text: &str) -> Result<UserName, String> {
        let (path, query) = split_query(text).ok_or("the user name has no api-version")?;
        let (host, device, module) = match path[..] {
            [host, device] => (host, device, None),
            [host, device, module] => (host, device, Some(module.to_owned())),
            _ => return Err(format!("the user name {text:?} is not host/device/?api-version=")),
        };
        let pairs = escape::pairs(&query);
        if escape::first(&pairs, "api-version").is_none() {
            return Err("the user name has no api-version".to_owned());
        }
        let model = escape::first(&pairs, "model-id").filter(|model| !model.is_empty()).map(str::to_owned);
        Ok(UserName { host: host.to_owned(), device: device.to_owned(), module, model })
    }

    /// What the identity is called in the hub, which is also its client id.
    pub(super) fn key(&self) -> String {
        match &self.module {
            Some(module) => format!("{}/{module}", self.device),
            None => self.device.clone(),
        }
    }

    /// What its token must be for.
    pub(super) fn resource(&self) -> String {
        match &self.module {
            Some(module) => format!("{}/devices/{}/modules/{module}", self.host, self.device),
            None => format!("{}/devices/{}", self.host, self.device),
        }
    }
}

/// The user name of a device that wants to be registered: `{idScope}/registrations/{id}/api-version=…`, with or
/// without a `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) scope: String,
    id: String,
}

impl Claim {
    /// None if it is not one. The client id tells it from a module of a device called "registrations".
    pub(super) fn parse(text: &str, client_id: &str) -> Option<Claim> {
        let (path, _) = split_query(text)?;
        match path[..] {
            [scope, "registrations", id] if id == client_id => {
                Some(Claim { scope: scope.to_owned(), id: id.to_owned() })
            }
            _ => None,
        }
    }

    /// What its token must be for.
    pub(super) fn resource(&self) -> String {
        format!("{}/registrations/{}", self.scope, self.id)
    }
}

/// The segments before the query, and the query, which may hold slashes of its own.
fn split_query(text: &str) -> Option<(Vec<&str>, String)> {
    let segments: Vec<&str> = text.split('/').collect();
    let begins = |segment: &&str| segment.starts_with('?') || segment.contains("api-version=");
    let at = segments.iter().position(begins)?;
    Some((segments[..at].to_vec(), segments[at..].join("/").trim_start_matches('?').to_owned()))
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
        assert!(inbound("d/m", "devices/d/modules/m/messages/events/").is_some());
        assert!(inbound("d/m", "devices/d/messages/events/").is_none());
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
        let model = |text: &str| Some(text.to_owned());
        let thermostat = "dtmi:com:example:Thermostat;1";
        for (text, module, model) in [
            (
                "hub/d/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.14.0%28%29",
                None,
                None,
            ),
            ("hub/d/?model-id=dtmi:com:example:Thermostat;1&api-version=2021-04-12", None, model(thermostat)),
            ("hub/d/?api-version=1&model-id=dtmi%3Acom%3Aexample%3AThermostat%3B1", None, model(thermostat)),
            ("hub/d/api-version=2016-11-14/DeviceClientType=x", None, None),
            ("hub/d/?api-version=2021-04-12&DeviceClientType=a/b c", None, None),
            ("hub/d/m/?api-version=2021-04-12", Some("m".to_owned()), None),
            ("hub/d/m/DeviceClientType=x&api-version=2016-11-14", Some("m".to_owned()), None),
        ] {
            let wanted = UserName { host: "hub".to_owned(), device: "d".to_owned(), module, model };
            assert_eq!(UserName::parse(text), Ok(wanted), "{text}");
        }
        for text in ["hub/d", "hub/d/?x=1", "hub/d/m/n/?api-version=1", "hub/?api-version=1", ""] {
            assert!(UserName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_claim_is_told_from_a_module_by_the_client_id() {
        for text in [
            "0ne/registrations/dev/api-version=2019-03-31",
            "0ne/registrations/dev/api-version=2019-03-31&ClientVersion=azure-iot%2F1",
            "0ne/registrations/dev/?api-version=2019-03-31",
        ] {
            assert_eq!(Claim::parse(text, "dev").unwrap().resource(), "0ne/registrations/dev", "{text}");
            assert_eq!(Claim::parse(text, "registrations/dev"), None);
        }
        assert_eq!(Claim::parse("hub/dev/?api-version=1", "dev"), None);
    }
}
