//! Direct methods.

use std::time::Duration;

use serde_json::{Value, json};

use twinboot::hub::sas::percent_encoded;

use super::{Call, Hub, Kind, Method};
use crate::failure::{Failure, Outcome};
use crate::show::clean;

/// How long a device may take to answer; the hub allows 5 to 300 seconds.
const RESPONSE: u64 = 30;
/// How long the hub waits for a device that is just reconnecting.
const CONNECT: u64 = 10;

/// What a device answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// 200 and 202 are good.
    pub(crate) status: i64,
    /// What else.
    pub(crate) payload: Value,
}

impl Hub {
    /// Calls a direct method. Never repeated by itself: the device may have obeyed although the answer was lost.
    ///
    /// # Errors
    /// If there is no such device, it is not connected, or does not answer.
    pub(crate) async fn invoke(&self, device: &str, method: &str, payload: Value) -> Outcome<Reply> {
        let body = json!({
            "methodName": method,
            "payload": payload,
            "responseTimeoutInSeconds": RESPONSE,
            "connectTimeoutInSeconds": CONNECT,
        });
        let path = format!("/twins/{}/methods", percent_encoded(device));
        let call = Call::new(Method::POST, Kind::Method, path).body(body);
        let answer = self.get(&call.within(Duration::from_secs(RESPONSE + CONNECT + 15))).await;
        let answer = answer.map_err(|failure| {
            // The hub's own faults, and a device that has heard and not answered in time.
            let is_lost = failure.status.is_some_and(|status| status >= 500);
            Failure { is_unsure: failure.is_unsure || is_lost, ..failure }
        })?;
        let status = answer["status"].as_i64();
        let status = status.ok_or_else(|| Failure::failed("the hub answers a method without a status"))?;
        Ok(Reply { status, payload: answer["payload"].clone() })
    }
}

impl Reply {
    pub(crate) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// In words: the device's own, if it has some.
    pub(crate) fn words(&self) -> String {
        let code = self.payload["code"].as_str().map(|code| format!(" ({code})")).unwrap_or_default();
        let words = self.payload["Response"].as_str().map_or_else(|| self.payload.to_string(), str::to_owned);
        clean(&format!("{words}{code}"))
    }

    /// What it answered.
    ///
    /// # Errors
    /// If it refused.
    pub(crate) fn granted(self) -> Outcome<Self> {
        if self.is_good() {
            return Ok(self);
        }
        let remedy = match self.payload["code"].as_str() {
            Some("request.rolled-back-before") => "a new --job-id makes it another request",
            Some(_) | None => "",
        };
        Err(Failure::failed(format!("the device refuses ({}): {}", self.status, self.words())).remedy(remedy))
    }
}
