//! Through to a hub, or to the provisioning service: by which port, through which proxy, in which wrapping; and which of
//! the ways to try next.
//!
//! Not the greeting that follows (see [`super::dial`]). Whatever the way, TLS is between us and the hub.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::mqtt::Stream;
use super::settings::{Settings, Transport};
use super::{Lost, websocket};
use crate::proxy::{self, Proxy};

/// MQTT over TLS.
const MQTT_PORT: u16 = 8883;
/// Where a web server is, unless a test has it elsewhere.
const HTTPS_PORT: u16 = 443;
/// Most addresses tried.
const MAX_ADDRESSES: usize = 8;
/// How much of a head start an address has before the next one is tried beside it: one that swallows packets must
/// not cost its whole limit while another would answer.
const HEAD_START: Duration = Duration::from_millis(300);

/// How packets travel.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// MQTT in TLS, port 8883.
    Mqtt,
    /// MQTT in a WebSocket in TLS, port 443.
    WebSocket,
}

/// Whom to reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The name to dial, and to find in the certificate.
    pub dialled: &'a str,
    /// The name it goes by.
    pub host: &'a str,
    /// Its port of MQTT, if it has another than usual.
    pub port: Option<u16>,
}

/// Which way to try, learnt from those before.
#[derive(Debug)]
pub(super) struct Ways {
    way: Way,
    transport: Transport,
}

impl Ways {
    /// `learnt` is the way that was to be tried next, if there was any connection before.
    pub(super) fn new(transport: Transport, learnt: Option<Way>) -> Self {
        let way = match transport {
            Transport::Auto => learnt.unwrap_or(Way::Mqtt),
            Transport::Mqtt => Way::Mqtt,
            Transport::WebSocket => Way::WebSocket,
        };
        Self { way, transport }
    }

    /// The way for the next connection.
    pub(super) fn next(&self) -> Way {
        self.way
    }

    /// Learns how a connection to `target` ended before it was one. What worked is kept; a way on which nothing was
    /// heard of a hub gives place to the other.
    pub(super) fn note(&mut self, failed: Option<&Lost>, target_port: Option<u16>, settings: &Settings) {
        // Who names a port means that one, unless the other is named too.
        let has_both = target_port.is_none() || settings.websocket_port != HTTPS_PORT;
        let is_closed = failed.is_some_and(|lost| match lost {
            Lost::Unreachable { .. }
            | Lost::Tls { .. }
            | Lost::WebSocket { .. }
            | Lost::Closed
            | Lost::Broken(_)
            | Lost::Silent(_)
            | Lost::Malformed(_)
            | Lost::Proxy { refused: false, .. } => true,
            // The name would not resolve for the other port either; and whoever refuses us is there.
            Lost::Unresolved { .. }
            | Lost::Proxy { refused: true, .. }
            | Lost::Credential(_)
            | Lost::Unprovisioned { .. }
            | Lost::Apart(_)
            | Lost::Provisioning { .. }
            | Lost::Refused(_)
            | Lost::Unsubscribed(_)
            | Lost::Contested { .. } => false,
        });
        if self.transport == Transport::Auto && has_both && is_closed {
            self.way = match self.way {
                Way::Mqtt => Way::WebSocket,
                Way::WebSocket => Way::Mqtt,
            };
        }
    }
}

/// How `target` is reached, for people; empty for what is usual.
pub(super) fn in_words(way: Way, proxy: Option<&Proxy>, target: &str) -> String {
    let way = match way {
        Way::Mqtt => "",
        Way::WebSocket => " over a WebSocket",
    };
    let proxy = proxy.filter(|proxy| proxy.serves(target));
    let proxy = proxy.map_or(String::new(), |proxy| format!(" through {}", proxy.address()));
    format!("{way}{proxy}")
}

/// Bytes both ways with `target`, encrypted; nothing was said yet.
pub(super) async fn connect(
    way: Way,
    target: Target<'_>,
    proxy: Option<&Proxy>,
    tls: Arc<ClientConfig>,
    settings: &Settings,
) -> Result<Box<dyn Stream>, Lost> {
    let host = target.dialled;
    let port = match way {
        Way::Mqtt => target.port.unwrap_or(MQTT_PORT),
        Way::WebSocket => settings.websocket_port,
    };
    let stream = match proxy.filter(|proxy| proxy.serves(host)) {
        Some(proxy) => tunnel(proxy, host, port, settings.connect_timeout).await?,
        None => tcp(host, port, settings.connect_timeout).await?,
    };
    let failed = |detail: String| Lost::Tls { host: host.to_owned(), detail };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    let stream = match timeout(settings.tls_timeout, TlsConnector::from(tls).connect(name, stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed("the handshake takes too long".to_owned())),
    };
    let key = match way {
        Way::Mqtt => return Ok(Box::new(stream)),
        Way::WebSocket => getrandom::u64().unwrap_or(0),
    };
    let key = u128::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
    let failed = |detail: String| Lost::WebSocket { host: host.to_owned(), detail };
    let named = if port == HTTPS_PORT { target.host.to_owned() } else { format!("{}:{port}", target.host) };
    match timeout(settings.greeting_timeout, websocket::upgrade(stream, &named, key)).await {
        Ok(Ok(socket)) => Ok(Box::new(socket)),
        Ok(Err(detail)) => Err(failed(detail)),
        Err(_) => Err(failed("the server does not answer".to_owned())),
    }
}

async fn tunnel(proxy: &Proxy, host: &str, port: u16, limit: Duration) -> Result<TcpStream, Lost> {
    let address = proxy.address();
    let lost = |detail, refused| Lost::Proxy { detail, refused };
    let stream = tcp(&address.host, address.port, limit).await;
    let mut stream = stream.map_err(|cause| lost(format!("the proxy {address}: {cause}"), false))?;
    match timeout(limit, proxy.tunnel(&mut stream, host, port)).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(error)) => {
            let refused = match error {
                proxy::Error::Secret(_)
                | proxy::Error::Credentials(_)
                | proxy::Error::Unauthorised { .. } => true,
                proxy::Error::Broken { .. } | proxy::Error::Refused { .. } | proxy::Error::NoProxy(_) => {
                    false
                }
            };
            Err(lost(error.to_string(), refused))
        }
        Err(_) => Err(lost(format!("the proxy {address} does not answer"), false)),
    }
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

    #[test]
    fn a_way_on_which_nothing_is_heard_gives_place_to_the_other_and_what_works_is_kept() {
        let settings = Settings::default();
        let mut ways = Ways::new(Transport::Auto, None);
        let silent = Lost::Silent("the greeting".into());
        let mut tried = Vec::new();
        for failed in [Some(&silent), Some(&silent), Some(&silent), None, None, Some(&Lost::Refused(5))] {
            tried.push(ways.next());
            ways.note(failed, None, &settings);
        }
        tried.push(ways.next());
        let (m, w) = (Way::Mqtt, Way::WebSocket);
        assert_eq!(tried, [m, w, m, w, w, w, w]);
        ways.note(Some(&silent), Some(18883), &settings);
        assert_eq!(ways.next(), w, "a named port is the one that is meant");
        for (transport, way) in [(Transport::Mqtt, m), (Transport::WebSocket, w)] {
            let mut ways = Ways::new(transport, Some(Way::WebSocket));
            ways.note(Some(&silent), None, &settings);
            assert_eq!(ways.next(), way);
        }
    }

    #[test]
    fn a_proxy_that_only_lets_web_traffic_through_is_a_closed_way_and_a_wrong_password_is_not() {
        for (refused, expected) in [(false, Way::WebSocket), (true, Way::Mqtt)] {
            let mut ways = Ways::new(Transport::Auto, None);
            ways.note(Some(&Lost::Proxy { detail: "x".into(), refused }), None, &Settings::default());
            assert_eq!(ways.next(), expected);
        }
    }
}
