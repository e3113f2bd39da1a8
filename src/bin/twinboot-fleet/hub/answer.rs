//! The hub's answers: their bodies within a limit, and what its errors mean in words.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::failure::{Exit, Failure, Outcome};
use crate::show::clean;

/// A page has up to 100 twins, and a twin up to 72 KiB of properties and as much again of metadata.
const BODY_LIMIT: usize = 32 << 20;

/// An answer of the hub's, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Null if there is none.
    pub(crate) body: Value,
    headers: HeaderMap,
    /// Whether it is that to a repetition: what was asked for may have been done before, and that answer been lost.
    pub(super) is_repeated: bool,
}

impl Answer {
    /// Reads it.
    ///
    /// # Errors
    /// If the connection breaks, or what comes is far too long or no JSON.
    pub(super) async fn read(mut response: reqwest::Response) -> Result<Self, Broken> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Broken::Connection)? {
            if bytes.len() + chunk.len() > BODY_LIMIT {
                return Err(Broken::Malformed("more than 32 MiB"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = match serde_json::from_slice(&bytes) {
            Ok(body) => body,
            Err(_) if bytes.is_empty() => Value::Null,
            // A gateway in between may explain itself in HTML.
            Err(_) if status >= 400 => {
                Value::String(String::from_utf8_lossy(&bytes).chars().take(200).collect())
            }
            Err(_) => return Err(Broken::Malformed("no JSON")),
        };
        Ok(Self { status, body, headers, is_repeated: false })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// When the hub wants to be asked again, if it says so in seconds.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// Its body, if it was granted.
    ///
    /// # Errors
    /// What the hub says against it.
    pub(crate) fn granted(self) -> Outcome<Value> {
        if (200..300).contains(&self.status) { Ok(self.body) } else { Err(self.refusal()) }
    }

    fn refusal(&self) -> Failure {
        let name = self.header("iothub-errorcode").map(|name| format!(" {name}")).unwrap_or_default();
        let text =
            format!("the hub refuses ({}{}): {}", self.status, clean(&name), clean(&message(&self.body)));
        let exit = if self.status == 401 { Exit::Unreachable } else { Exit::Failed };
        let remedy = match self.status {
            401 => {
                "is the key right, has its policy the rights for this (registry read and write, service connect), and \
                 is this clock right? The connection string is named by --hub, --connection-string-file or \
                 $TWINBOOT_CONNECTION_STRING"
            }
            404 if name.contains("DeviceNotOnline") => {
                "the device is not connected; a wish in its twin waits for it"
            }
            403 if self.is_quota() => {
                "the hub's messages of today are used up: it goes on at midnight UTC, or with another unit"
            }
            429 => "the hub is asked too much: try again later, or ask for less at a time",
            _ => "",
        };
        let is_quota = self.is_quota();
        Failure { exit, status: Some(self.status), is_quota, ..Failure::failed(text) }.remedy(remedy)
    }

    /// Whether it is the quota of a day that is used up (403002).
    fn is_quota(&self) -> bool {
        let is_named = self.header("iothub-errorcode") == Some("IotHubQuotaExceeded");
        self.status == 403 && (is_named || self.body.to_string().contains("403002"))
    }
}

/// Whether what was found has all that was wanted: the hub adds to a document of its own, and null is what is not there.
pub(super) fn holds(found: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(wanted) => wanted.iter().all(|(name, wanted)| holds(&found[name.as_str()], wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            found == wanted
        }
    }
}

/// Why there is no answer, or none that is one.
#[derive(Debug)]
pub(super) enum Broken {
    Connection(reqwest::Error),
    Malformed(&'static str),
}

/// The hub's reason: today's errors are a JSON text inside of a JSON object.
fn message(body: &Value) -> String {
    let outer = body.get("Message").or_else(|| body.get("message")).unwrap_or(body);
    let text = outer.as_str().map_or_else(|| outer.to_string(), str::to_owned);
    let inner = serde_json::from_str::<Value>(&text).unwrap_or_default();
    let inner = inner.get("message").or_else(|| inner.get("Message")).and_then(Value::as_str);
    inner.map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_hub_adds_is_no_difference_and_what_it_lacks_is() {
        let found = json!({"id": "x", "labels": {"a": "1", "b": "2"}, "etag": "MQ=="});
        for (wanted, is_held) in [
            (json!({"id": "x", "labels": {"a": "1"}}), true),
            (json!({"id": "x", "gone": null}), true),
            (json!({"id": "x", "etag": null}), false),
            (json!({"labels": {"a": "2"}}), false),
            (json!({"labels": {"a": {"deeper": 1}}}), false),
            (json!({"more": {}}), true),
        ] {
            assert_eq!(holds(&found, &wanted), is_held, "{wanted}");
        }
    }

    #[test]
    fn the_reason_is_found_in_every_wrapping() {
        let inner = json!({"errorCode": 404_001, "message": "no such device", "trackingId": "x"});
        for body in [
            json!({"Message": inner.to_string(), "ExceptionMessage": ""}),
            json!({"Message": "no such device"}),
            json!({"message": "no such device"}),
            json!("no such device"),
        ] {
            assert_eq!(message(&body), "no such device");
        }
        let answer = Answer {
            status: 401,
            body: json!({"Message": "bad\u{1b}[2J"}),
            headers: HeaderMap::from_iter([(RETRY_AFTER, "7".parse().expect("a header"))]),
            is_repeated: false,
        };
        assert_eq!(answer.retry_after(), Some(Duration::from_secs(7)));
        let failure = answer.granted().expect_err("401");
        assert_eq!((failure.exit, failure.status), (Exit::Unreachable, Some(401)));
        assert!(!failure.text.contains('\u{1b}') && failure.remedy.contains("--connection-string-file"));
    }

    #[test]
    fn a_quota_that_is_used_up_comes_back_and_other_refusals_do_not() {
        let inner = |code: u64| json!({"Message": json!({"errorCode": code, "message": "no"}).to_string()});
        let named = HeaderMap::from_iter([(
            reqwest::header::HeaderName::from_static("iothub-errorcode"),
            "IotHubQuotaExceeded".parse().expect("a header"),
        )]);
        for (status, body, headers, is_passing) in [
            (403, inner(403_002), HeaderMap::new(), true),
            (403, json!({"Message": "no"}), named, true),
            (403, inner(403_004), HeaderMap::new(), false),
            (503, inner(503_001), HeaderMap::new(), true),
            (404, inner(404_001), HeaderMap::new(), false),
        ] {
            let answer = Answer { status, body, headers, is_repeated: false };
            let failure = answer.granted().expect_err("refused");
            assert_eq!(failure.is_passing(), is_passing, "{failure:?}");
        }
    }
}
