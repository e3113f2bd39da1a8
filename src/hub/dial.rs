//! From an identity to a link that is ready: name, TCP, TLS, greeting, subscriptions, each with its own limit.
//!
//! Not the conversation that follows. A proxy or a WebSocket would take the place of [`tcp`] or wrap the stream
//! before the greeting; nothing after it would notice. The session knows no more of all this than [`Dial`].

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::dialogue::MAX_KEEP_ALIVE;
use super::identity::Identity;
use super::mqtt::{Link, Received, Sent, Stream};
use super::sas::{Token, percent_encoded};
use super::settings::Settings;
use super::{Lost, topics};
use crate::model::Timestamp;

/// Most addresses tried.
const MAX_ADDRESSES: usize = 8;
/// How much of a head start an address has before the next one is tried beside it: one that swallows packets must
/// not cost its whole limit while another would answer.
const HEAD_START: Duration = Duration::from_millis(300);
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
}

/// Dials over TCP and TLS, with a fresh token every time.
pub(super) struct Direct {
    pub identity: Identity,
    pub tls: Arc<ClientConfig>,
    pub settings: Arc<Settings>,
}

impl Dial for Direct {
    fn open(&mut self, now: Timestamp) -> Opening<'_> {
        Box::pin(async move {
            let stream = connect(&self.identity, self.tls.clone(), &self.settings).await?;
            ready(stream, &self.identity, &self.settings, now).await
        })
    }

    fn device(&self) -> &str {
        &self.identity.device
    }
}

/// Bytes both ways, with whom the certificate says.
async fn connect(
    identity: &Identity,
    tls: Arc<ClientConfig>,
    settings: &Settings,
) -> Result<impl Stream + use<>, Lost> {
    let host = identity.dialled();
    let stream = tcp(host, identity.port, settings.connect_timeout).await?;
    let failed = |detail: String| Lost::Tls { host: host.to_owned(), detail };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    match timeout(settings.tls_timeout, TlsConnector::from(tls).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("the handshake takes too long".to_owned())),
    }
}

/// Greets and subscribes over whatever carries the bytes.
pub(super) async fn ready(
    stream: impl Stream + 'static,
    identity: &Identity,
    settings: &Settings,
    now: Timestamp,
) -> Result<Opened, Lost> {
    let mut link = Link::new(stream);
    let lifetime = settings.token_lifetime.max(Duration::from_secs(1));
    let token = Token::of_device(identity, now.0 / 1000 + lifetime.as_secs());
    greet(&mut link, identity, token, settings).await?;
    let early = subscribe(&mut link, settings.answer_timeout).await?;
    Ok(Opened { link, early, lives: Some(settings.token_lifetime) })
}

/// Tries all addresses, each for `limit`, with the next one joining in after a failure or a moment.
async fn tcp(host: &str, port: u16, limit: Duration) -> Result<TcpStream, Lost> {
    let unresolved = |detail: String| Lost::Unresolved { host: host.to_owned(), detail };
    let addresses = match timeout(limit, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(unresolved(error.to_string())),
        Err(_) => return Err(unresolved("it takes too long".to_owned())),
    };
    let mut addresses = alternating(addresses).into_iter().take(MAX_ADDRESSES).peekable();
    let mut attempts = JoinSet::new();
    let mut detail = "it has no address".to_owned();
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(async move { (address, timeout(limit, TcpStream::connect(address)).await) });
        }
        let more = addresses.peek().is_some();
        tokio::select! {
            Some(attempt) = attempts.join_next() => match attempt {
                Ok((_, Ok(Ok(stream)))) => {
                    // Small packets that wait for their answers: nothing to gather.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok((address, Ok(Err(error)))) => detail = format!("{address}: {error}"),
                Ok((address, Err(_))) => detail = format!("{address}: it takes too long"),
                Err(error) => detail = error.to_string(),
            },
            () = sleep(HEAD_START), if more => {}
            else => return Err(Lost::Unreachable { host: host.to_owned(), detail }),
        }
    }
}

/// The families by turns, beginning with the resolver's favourite.
fn alternating(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let all: Vec<_> = addresses.collect();
    let first = all.first().is_some_and(SocketAddr::is_ipv6);
    let (mut ours, mut others): (Vec<_>, Vec<_>) = all.into_iter().partition(|a| a.is_ipv6() == first);
    ours.reverse();
    others.reverse();
    let mut turns = Vec::new();
    while !(ours.is_empty() && others.is_empty()) {
        turns.extend(ours.pop());
        turns.extend(others.pop());
    }
    turns
}

async fn greet(
    link: &mut Link,
    identity: &Identity,
    password: Token,
    settings: &Settings,
) -> Result<(), Lost> {
    let kind = percent_encoded(concat!("twinboot/", env!("CARGO_PKG_VERSION")));
    let username =
        format!("{}/{}/?api-version={API_VERSION}&DeviceClientType={kind}", identity.host, identity.device);
    let keep_alive = settings.keep_alive.min(MAX_KEEP_ALIVE).as_secs_f64().ceil().max(1.0) as u16;
    let connect = Sent::Connect { client: identity.device.clone(), username, password, keep_alive };
    link.send(connect, settings.greeting_timeout).await?;
    match timeout(settings.greeting_timeout, link.receive()).await {
        Ok(Ok(Received::ConnAck(0))) => Ok(()),
        Ok(Ok(Received::ConnAck(code))) => Err(Lost::Refused(code)),
        Ok(Ok(_)) => Err(Lost::Malformed("something else than the answer to the greeting".to_owned())),
        Ok(Err(lost)) => Err(lost),
        Err(_) => Err(Lost::Silent("the greeting")),
    }
}

/// One filter per packet, as the vendor's libraries do it, and all of them granted before anything is asked: a
/// change between the twin's answer and a later subscription would never be heard of.
async fn subscribe(link: &mut Link, limit: Duration) -> Result<Vec<Received>, Lost> {
    const FILTERS: [&str; 3] = [topics::TWIN_ANSWERS, topics::DESIRED_PATCHES, topics::METHODS];
    let mut early = Vec::new();
    let all = async {
        for (id, filter) in (1..).zip(FILTERS) {
            link.send(Sent::Subscribe { id, filter: filter.into() }, limit).await?;
        }
        let mut missing: Vec<(u16, &'static str)> = (1..).zip(FILTERS).collect();
        while !missing.is_empty() {
            match link.receive().await? {
                Received::SubAck { id, granted } => {
                    let Some(index) = missing.iter().position(|(wanted, _)| *wanted == id) else { continue };
                    let (_, filter) = missing.swap_remove(index);
                    if !granted {
                        return Err(Lost::Unsubscribed(filter));
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
        Err(_) => Err(Lost::Silent("a subscription")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| -> Vec<SocketAddr> { text.split(' ').map(|a| a.parse().unwrap()).collect() };
        let order = alternating(parse("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 2.2.2.2:1").into_iter());
        assert_eq!(order, parse("[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1"));
        assert!(alternating(std::iter::empty()).is_empty());
    }

    #[tokio::test]
    async fn nobody_listening_is_told_with_the_address() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let lost = tcp("127.0.0.1", port, Duration::from_secs(5)).await.unwrap_err();
        assert!(lost.to_string().contains(&format!("127.0.0.1:{port}: ")), "{lost}");
    }
}
