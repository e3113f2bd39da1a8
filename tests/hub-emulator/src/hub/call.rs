//! A direct method as the service asks for it. Not the calling (`methods`). Read by `rest` and by `jobs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;

/// Name, payload and patience of one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MethodCall {
    pub(crate) name: String,
    pub(crate) payload: Value,
    /// Seconds that the device may take to answer: 5 to 300, 30 if not said.
    respond: u64,
    /// Seconds that a device that is away is waited for: 0 to 300.
    connect: u64,
}

impl MethodCall {
    /// Reads `{"methodName", "payload", "responseTimeoutInSeconds", "connectTimeoutInSeconds"}`.
    ///
    /// # Errors
    /// If the name is missing or cannot be one, or a time is out of bounds.
    pub(crate) fn parse(body: &Value) -> Result<MethodCall, Error> {
        let name = body.get("methodName").and_then(Value::as_str);
        let name = name.ok_or_else(|| Error::invalid("the body has no methodName"))?;
        check_name(name)?;
        Ok(MethodCall {
            name: name.to_owned(),
            payload: body.get("payload").cloned().unwrap_or_default(),
            respond: seconds(body, "responseTimeoutInSeconds", 30, 5)?,
            connect: seconds(body, "connectTimeoutInSeconds", 0, 0)?,
        })
    }

    pub(crate) fn respond(&self) -> Duration {
        Duration::from_secs(self.respond)
    }

    pub(crate) fn connect(&self) -> Duration {
        Duration::from_secs(self.connect)
    }
}

/// It becomes a segment of a topic.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | '#' | '+')) {
        return Err(Error::invalid(format!("{name:?} cannot be a method's name")));
    }
    Ok(())
}

fn seconds(body: &Value, name: &str, default: u64, least: u64) -> Result<u64, Error> {
    let seconds = match body.get(name) {
        None | Some(Value::Null) => Some(default),
        Some(value) => value.as_u64(),
    };
    match seconds {
        Some(seconds) if (least..=300).contains(&seconds) => Ok(seconds),
        Some(_) | None => Err(Error::invalid(format!("{name} is not between {least} and 300"))),
    }
}
