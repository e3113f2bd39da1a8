//! The greeting and the subscriptions on a link, each with its own limit.
//!
//! Not how the link came about (see [`super::way`]), nor the conversation that follows.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::timeout;

use super::access::Introduction;
use super::credential::Credential;
use super::dialogue::MAX_KEEP_ALIVE;
use super::identity::Identity;
use super::mqtt::{Link, Received, Sent, Stream};
use super::sas::{Token, percent_encoded};
use super::settings::Settings;
use super::{Lost, topics};
use crate::model::Timestamp;

/// Most packets kept that arrive among the answers to the subscriptions.
const MAX_EARLY: usize = 32;
/// The version of the hub's protocol.
const API_VERSION: &str = "2021-04-12";

/// A link on which everything is subscribed.
pub(super) struct Opened {
    pub link: Link,
    /// What came before it was ready.
    pub early: Vec<Received>,
    /// How long the credential lives that it was opened with: the hub ends the link after that. `None` if it is not
    /// ours to renew.
    pub lives: Option<Duration>,
}

/// A link on its way.
pub(super) type Opening<'a> = Pin<Box<dyn Future<Output = Result<Opened, Lost>> + Send + 'a>>;

/// Whoever gets links: all that the session knows of the network.
pub(super) trait Dial: Send {
    /// A link with everything subscribed, or why there is none. `now` is for what is dated. The future may be
    /// dropped at any await.
    fn open(&mut self, now: Timestamp) -> Opening<'_>;

    /// Whose links they are, for messages.
    fn device(&self) -> &str;

    /// What changed about who we are since it was last asked, if anything did.
    fn news(&mut self) -> Option<Introduction> {
        None
    }
}

/// Who says hello.
pub(super) struct Greeting {
    /// The client's id.
    pub client: String,
    /// The user name, which names hub, device and version of the protocol.
    pub username: String,
    /// The token; `None` if a certificate was shown.
    pub password: Option<Token>,
}

/// Greets the hub and subscribes over whatever carries the bytes.
pub(super) async fn ready(
    stream: impl Stream + 'static,
    identity: &Identity,
    settings: &Settings,
    now: Timestamp,
) -> Result<Opened, Lost> {
    let mut link = Link::new(stream);
    let Identity { hub, device, credential, gateway: _ } = identity;
    let password = match credential {
        Credential::Key(signer) => {
            let resource = format!("{}/devices/{device}", hub.host);
            let token = Token::new(&resource, token_end(settings, now), &**signer, None);
            Some(token.map_err(Lost::Credential)?)
        }
        Credential::Certificate(_) => None,
    };
    let username = format!("{}/{device}/?api-version={API_VERSION}&DeviceClientType={}", hub.host, kind());
    greet(&mut link, Greeting { client: device.clone(), username, password }, settings).await?;
    let filters = [topics::TWIN_ANSWERS, topics::DESIRED_PATCHES, topics::METHODS];
    let early = subscribe(&mut link, &filters, settings.answer_timeout).await?;
    Ok(Opened { link, early, lives: Some(settings.token_lifetime) })
}

/// When a token made now shall end, in seconds since 1970.
pub(super) fn token_end(settings: &Settings, now: Timestamp) -> u64 {
    now.0 / 1000 + settings.token_lifetime.as_secs().max(1)
}

/// What we are, as the hub's statistics name it.
pub(super) fn kind() -> String {
    percent_encoded(concat!("twinboot/", env!("CARGO_PKG_VERSION")))
}

/// Says hello, and waits to be let in.
pub(super) async fn greet(link: &mut Link, greeting: Greeting, settings: &Settings) -> Result<(), Lost> {
    let keep_alive = settings.keep_alive.min(MAX_KEEP_ALIVE).as_secs_f64().ceil().max(1.0) as u16;
    let Greeting { client, username, password } = greeting;
    let connect = Sent::Connect { client, username, password, keep_alive };
    link.send(connect, settings.greeting_timeout).await?;
    match timeout(settings.greeting_timeout, link.receive()).await {
        Ok(Ok(Received::ConnAck(0))) => Ok(()),
        Ok(Ok(Received::ConnAck(code))) => Err(Lost::Refused(code)),
        Ok(Ok(_)) => Err(Lost::Malformed("something else than the answer to the greeting".to_owned())),
        Ok(Err(lost)) => Err(lost),
        Err(_) => Err(Lost::Silent("the greeting".into())),
    }
}

/// One filter per packet, as the vendor's libraries do it, and all of them granted before anything is asked: a
/// change between the twin's answer and a later subscription would never be heard of.
pub(super) async fn subscribe(
    link: &mut Link,
    filters: &[&'static str],
    limit: Duration,
) -> Result<Vec<Received>, Lost> {
    let mut early = Vec::new();
    let all = async {
        for (id, filter) in (1..).zip(filters.iter().copied()) {
            link.send(Sent::Subscribe { id, filter: filter.into() }, limit).await?;
        }
        let mut missing: Vec<(u16, &'static str)> = (1..).zip(filters.iter().copied()).collect();
        while !missing.is_empty() {
            match link.receive().await? {
                Received::SubAck { id, granted } => {
                    let Some(index) = missing.iter().position(|(wanted, _)| *wanted == id) else { continue };
                    let (_, filter) = missing.swap_remove(index);
                    if !granted {
                        return Err(Lost::Unsubscribed(filter.into()));
                    }
                }
                Received::ConnAck(_) => {
                    return Err(Lost::Malformed("a second answer to the greeting".to_owned()));
                }
                other @ (Received::Message { .. } | Received::PubAck(_) | Received::Pong) => {
                    if early.len() == MAX_EARLY {
                        return Err(Lost::Malformed(
                            "a flood before the subscriptions are answered".to_owned(),
                        ));
                    }
                    early.push(other);
                }
            }
        }
        Ok(())
    };
    match timeout(limit, all).await {
        Ok(Ok(())) => Ok(early),
        Ok(Err(lost)) => Err(lost),
        Err(_) => Err(Lost::Silent("a subscription".into())),
    }
}
