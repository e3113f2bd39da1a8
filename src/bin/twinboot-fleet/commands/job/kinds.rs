//! The six kinds of work, each as the hub's job that does it.

use serde_json::{Map, Value, json};

use super::super::paths;
use super::super::wish::Wish;
use crate::arguments::Image;
use crate::failure::Outcome;

/// How long a device may take to answer a method of a job.
const RESPONSE: u64 = 30;

/// What is done on each device.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// In a word, which is the beginning of the job's name.
    pub(super) kind: &'static str,
    /// It reboots devices.
    pub(super) disrupts: bool,
    pub(super) loses_data: bool,
    deed: Deed,
}

#[derive(Clone, Debug)]
enum Deed {
    Method(&'static str, Value),
    Settings(Map<String, Value>),
}

impl Work {
    fn method(kind: &'static str, method: &'static str, payload: Value) -> Self {
        Self { kind, disrupts: false, loses_data: false, deed: Deed::Method(method, payload) }
    }

    pub(super) fn update(image: &Image) -> Outcome<Self> {
        let wish = Wish::read(image)?.document();
        Ok(Self { disrupts: true, ..Self::method("update", "firmwareUpdate", wish) })
    }

    pub(super) fn reboot() -> Self {
        Self { disrupts: true, ..Self::method("reboot", "reboot", Value::Null) }
    }

    pub(super) fn factory_reset() -> Self {
        Self {
            disrupts: true,
            loses_data: true,
            ..Self::method("factory-reset", "factoryReset", Value::Null)
        }
    }

    pub(super) fn configure(set: &[String]) -> Outcome<Self> {
        let deed = Deed::Settings(values(set)?);
        Ok(Self { kind: "configure", disrupts: false, loses_data: false, deed })
    }

    pub(super) fn read(names: &[String]) -> Self {
        let payload = if names.is_empty() { Value::Null } else { json!(names) };
        Self::method("read-property", "readProperty", payload)
    }

    pub(super) fn write(set: &[String]) -> Outcome<Self> {
        Ok(Self::method("write-property", "writeProperty", Value::Object(values(set)?)))
    }

    /// Puts it into the job's document.
    pub(super) fn fill(self, document: &mut Value) {
        match self.deed {
            Deed::Method(name, payload) => {
                document["type"] = json!("scheduleDeviceMethod");
                document["cloudToDeviceMethod"] =
                    json!({"methodName": name, "payload": payload, "responseTimeoutInSeconds": RESPONSE});
            }
            Deed::Settings(settings) => {
                document["type"] = json!("scheduleUpdateTwin");
                // Any version of the twin: that is what the etag says.
                document["updateTwin"] =
                    json!({"etag": "*", "properties": {"desired": {"twinboot": settings}}});
            }
        }
    }
}

fn values(set: &[String]) -> Outcome<Map<String, Value>> {
    set.iter().map(|text| paths::assignment(text).map(|(name, value)| (name.to_owned(), value))).collect()
}
