//! The talk with the provisioning service: hello, register, ask how far it is, goodbye.
//!
//! Topics and bodies: Microsoft's "Communicate with your DPS using the MQTT protocol". The order is fixed and there is one
//! request at a time, so this is a straight line and no state machine.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::super::access;
use super::super::credential::Credential;
use super::super::dial::{self, Greeting};
use super::super::identity::{HubName, is_device_id};
use super::super::mqtt::{Link, Received, Sent};
use super::super::sas::Token;
use super::super::way::{self, Target};
use super::{Circumstances, Enrolment, Lost};

/// The version of the service's protocol.
const API_VERSION: &str = "2019-03-31";
/// Answers come here.
const ANSWERS: &str = "$dps/registrations/res/#";
/// What answers begin with.
const ANSWER: &str = "$dps/registrations/res/";
/// A wait the service asks for is waited for on the link up to this; a longer one ends the talk.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Between two questions, where the service names no time.
const USUAL_WAIT: Duration = Duration::from_secs(2);
/// However little the service asks for: "0" would be a loop.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// So long a whole talk may take.
const LIMIT: Duration = Duration::from_secs(180);
/// How long an orderly end may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// Most of the service's own words that are repeated.
const MAX_WORDS: usize = 200;

/// Asks for our hub and our device id there.
pub(super) async fn register(
    around: &Circumstances<'_>,
    target: Target<'_>,
    enrolment: &Enrolment,
    credential: &Credential,
    payload: Option<Value>,
) -> Result<(String, String), Lost> {
    let settings = around.settings;
    let tls = access::armed(around.tls, credential);
    let stream = way::connect(around.way, target, around.proxy, tls, settings).await?;
    let mut link = Link::new(stream);
    let greeting = greeting(enrolment, credential, around)?;
    match dial::greet(&mut link, greeting, settings).await {
        Ok(()) => {}
        Err(Lost::Refused(code)) => {
            return Err(lost(
                format!(
                    "it refuses the connection ({code}): is provisioning.id_scope right, is {:?} enrolled and \
                     enabled there, and is the key or certificate that of its enrolment?",
                    enrolment.registration
                ),
                None,
            ));
        }
        Err(other) => return Err(other),
    }
    // Nothing is sent to us before we ask.
    dial::subscribe(&mut link, &[ANSWERS], settings.answer_timeout).await?;
    let mut talk = Talk { link, limit: settings.answer_timeout, rid: 0, ends: Instant::now() + LIMIT };
    let answer = talk.run(enrolment, payload).await?;
    talk.link.close(FAREWELL).await;
    assigned(&answer)
}

fn greeting(
    enrolment: &Enrolment,
    credential: &Credential,
    around: &Circumstances<'_>,
) -> Result<Greeting, Lost> {
    let resource = format!("{}/registrations/{}", enrolment.id_scope, enrolment.registration);
    let username = format!("{resource}/api-version={API_VERSION}&ClientVersion={}", dial::kind());
    let password = match credential {
        Credential::Key(signer) => {
            let end = dial::token_end(around.settings, around.now);
            Some(Token::new(&resource, end, &**signer, Some("registration")).map_err(Lost::Credential)?)
        }
        Credential::Certificate(_) => None,
    };
    Ok(Greeting { client: enrolment.registration.clone(), username, password })
}

/// A talk under way.
struct Talk {
    link: Link,
    limit: Duration,
    rid: u16,
    ends: Instant,
}

/// An answer of the service.
#[derive(Debug, Eq, PartialEq)]
struct Answer {
    status: u16,
    rid: String,
    retry_after: Option<Duration>,
}

impl Answer {
    /// `$dps/registrations/res/{status}/?$rid={rid}[&retry-after={seconds}]`.
    fn parse(topic: &str) -> Option<Self> {
        let (status, query) = topic.strip_prefix(ANSWER)?.split_once("/?")?;
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let retry_after = value("retry-after").and_then(|text| text.parse().ok());
        Some(Self {
            status: status.parse().ok()?,
            rid: value("$rid")?.to_owned(),
            retry_after: retry_after.map(Duration::from_secs),
        })
    }
}

impl Talk {
    /// From the registration to its end: the body of the last answer.
    async fn run(&mut self, enrolment: &Enrolment, payload: Option<Value>) -> Result<Value, Lost> {
        let mut body = json!({ "registrationId": enrolment.registration });
        if let Some(payload) = payload {
            body["payload"] = payload;
        }
        let register = body.to_string();
        let mut operation: Option<String> = None;
        loop {
            let (answer, body) = match &operation {
                None => self.ask("PUT/iotdps-register/", "", &register).await?,
                Some(id) => {
                    let query = format!("&operationId={id}");
                    self.ask("GET/iotdps-get-operationstatus/", &query, " ").await?
                }
            };
            match answer.status {
                202 => operation = Some(operation_id(&body)?),
                200..300 => return Ok(body),
                300..429 => return Err(refused(answer.status, &body)),
                // Busy: the same question again, when it says so.
                _ => {}
            }
            let wait = answer.retry_after.unwrap_or(USUAL_WAIT).max(LEAST_WAIT);
            if wait > LONGEST_WAIT || Instant::now() + wait >= self.ends {
                let detail = format!("it is busy (status {})", answer.status);
                return Err(lost(detail, Some(wait)));
            }
            sleep(wait).await;
        }
    }

    /// One question and its answer.
    async fn ask(&mut self, request: &str, query: &str, body: &str) -> Result<(Answer, Value), Lost> {
        self.rid += 1;
        let rid = self.rid.to_string();
        let topic = format!("$dps/registrations/{request}?$rid={rid}{query}");
        let message = Sent::Message { topic, payload: body.as_bytes().to_vec(), id: Some(self.rid) };
        self.link.send(message, self.limit).await?;
        let answered = async {
            loop {
                let (topic, payload, id) = match self.link.receive().await? {
                    Received::Message { topic, payload, id } => (topic, payload, id),
                    Received::PubAck(_) | Received::Pong | Received::SubAck { .. } => continue,
                    Received::ConnAck(_) => {
                        return Err(Lost::Malformed("a second answer to the greeting".to_owned()));
                    }
                };
                if let Some(id) = id {
                    self.link.send(Sent::PubAck(id), self.limit).await?;
                }
                let Some(answer) = Answer::parse(&topic).filter(|answer| answer.rid == rid) else { continue };
                return Ok((answer, serde_json::from_slice(&payload).unwrap_or(Value::Null)));
            }
        };
        timeout(self.limit, answered)
            .await
            .map_err(|_| Lost::Silent("a question to the provisioning service".into()))?
    }
}

fn lost(detail: String, retry_after: Option<Duration>) -> Lost {
    Lost::Provisioning { detail, retry_after }
}

/// The id of the registration that is under way. It becomes part of a topic.
fn operation_id(body: &Value) -> Result<String, Lost> {
    let id = body["operationId"].as_str().unwrap_or_default();
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'~' | b'=');
    if id.is_empty() || id.len() > 512 || !id.bytes().all(good) {
        return Err(Lost::Malformed("no operation id from the provisioning service".to_owned()));
    }
    Ok(id.to_owned())
}

/// What the service's own words are, cut short and without anything that could confuse a journal.
fn words(body: &Value) -> String {
    let state = &body["registrationState"];
    let texts = [&body["message"], &state["errorMessage"], &body["errorMessage"]];
    let text = texts.into_iter().find_map(Value::as_str).unwrap_or_default();
    let clean: String = text.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
    if clean.is_empty() { clean } else { format!(": {clean}") }
}

fn refused(status: u16, body: &Value) -> Lost {
    let hint = match status {
        401 | 403 => "; is the key or certificate that of this enrolment?",
        404 => "; is provisioning.id_scope right, and the device enrolled?",
        _ => "",
    };
    lost(format!("it refuses the registration with status {status}{}{hint}", words(body)), None)
}

/// Hub and device id out of the last answer.
fn assigned(body: &Value) -> Result<(String, String), Lost> {
    let state = &body["registrationState"];
    let status = body["status"].as_str().or_else(|| state["status"].as_str()).unwrap_or_default();
    match status {
        "assigned" => {}
        "disabled" => return Err(lost("the enrolment is disabled: enable it there".to_owned(), None)),
        "failed" | "unassigned" | "assigning" => {
            return Err(lost(format!("the registration is {status}{}", words(body)), None));
        }
        _ => return Err(lost("its answer names no status".to_owned(), None)),
    }
    let hub = state["assignedHub"].as_str().filter(|hub| hub.parse::<HubName>().is_ok());
    let device = state["deviceId"].as_str().filter(|device| is_device_id(device));
    match (hub, device) {
        (Some(hub), Some(device)) => Ok((hub.to_owned(), device.to_owned())),
        (None, _) | (_, None) => Err(lost("its answer names no hub or device that can be".to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_documented() {
        let parse = |topic| Answer::parse(topic).map(|it| (it.status, it.rid, it.retry_after));
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(
            parse("$dps/registrations/res/202/?$rid=7&retry-after=3"),
            Some((202, "7".into(), seconds(3)))
        );
        assert_eq!(parse("$dps/registrations/res/200/?$rid=7"), Some((200, "7".into(), None)));
        assert_eq!(
            parse("$dps/registrations/res/429/?retry-after=30&$rid=x"),
            Some((429, "x".into(), seconds(30)))
        );
        for topic in [
            "$dps/registrations/res/200/",
            "$dps/registrations/res/x/?$rid=7",
            "$iothub/twin/res/200/?$rid=7",
        ] {
            assert_eq!(parse(topic), None, "{topic}");
        }
    }

    #[test]
    fn operation_ids_cannot_break_out_of_their_topic() {
        let id = |text: &str| operation_id(&json!({ "operationId": text }));
        assert!(id("4.d0a671905ea5b2c8.42d78160-4c78-479e-8be7-61d5e55dac0d").is_ok());
        for bad in ["", "a&b", "a/b", "a#", "a+b", "a b", &"a".repeat(513)] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_whole_assignment_counts() {
        let answer = |status: &str, hub: &str, device: &str| {
            assigned(&json!({
                "status": status,
                "registrationState": { "assignedHub": hub, "deviceId": device, "errorMessage": "no\nway" },
            }))
        };
        assert_eq!(answer("assigned", "h:1", "d"), Ok(("h:1".to_owned(), "d".to_owned())));
        for (status, hub, device, needle) in [
            ("disabled", "h", "d", "enable"),
            ("failed", "h", "d", "failed: noway"),
            ("assigned", "https://h", "d", "no hub"),
            ("assigned", "h", "", "no hub or device"),
            ("", "h", "d", "no status"),
        ] {
            let lost = answer(status, hub, device).expect_err(status).to_string();
            assert!(lost.contains(needle), "{lost}");
        }
    }
}
