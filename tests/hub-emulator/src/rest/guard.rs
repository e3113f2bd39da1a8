//! Who may use the doors below `/emulator`, and the page: programs and browsers on this machine, and no web page but
//! our own. There is no password, so a page on the web must not reach them through somebody's browser: neither from its
//! own origin (that is what `Origin` tells) nor under a name that it made resolve to this machine (`Host` tells).

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;

use super::Peer;
use crate::shared::Place;

/// Whether a request may come in, or why not.
pub(super) fn admit(place: &Place, head: &Parts) -> Result<(), String> {
    // Every connection has one.
    let Peer(peer) = *head.extensions.get().ok_or("nobody knows who asks")?;
    is_welcome(place, peer, &head.headers)
}

fn is_welcome(place: &Place, peer: IpAddr, headers: &HeaderMap) -> Result<(), String> {
    if !peer.to_canonical().is_loopback() {
        return Err(format!("this is for programs on the emulator's machine, not for {peer}"));
    }
    let host = text(headers, &header::HOST).unwrap_or_default();
    if !place.is_called(host) {
        return Err(format!("{host:?} is no name of this emulator; see --name"));
    }
    // Browsers send it with everything but plain reading, and nobody else does.
    if let Some(origin) = text(headers, &header::ORIGIN)
        && origin != format!("https://{host}")
    {
        return Err(format!("a page from {origin} has no business here"));
    }
    let site = text(headers, &HeaderName::from_static("sec-fetch-site"));
    match site {
        None | Some("same-origin" | "none") => Ok(()),
        Some(site) => Err(format!("a {site} request of a browser has no business here")),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // What is no text is at least not nothing.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(peer: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let names = vec!["hub.test".to_owned()];
        let place = Place { host: "hub.test".to_owned(), mqtt_port: 1, https_port: 2, names };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        is_welcome(&place, peer.parse().unwrap(), &map)
    }

    #[test]
    fn only_this_machine_and_only_our_own_page_come_in() {
        for host in ["localhost", "localhost:8443", "127.0.0.83", "[::1]:8443", "HUB.test:1"] {
            assert_eq!(asked("127.0.0.1", &[("host", host)]), Ok(()), "{host}");
        }
        let own = [
            ("host", "localhost:8443"),
            ("origin", "https://localhost:8443"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert_eq!(asked("::1", &own), Ok(()));
        assert_eq!(asked("::ffff:127.0.0.1", &own), Ok(()));
        for (peer, headers) in [
            ("192.0.2.7", &[("host", "localhost")][..]),
            ("127.0.0.1", &[]),
            ("127.0.0.1", &[("host", "rebound.example:8443")]),
            ("127.0.0.1", &[("host", "192.0.2.7")]),
            ("127.0.0.1", &[("host", "localhost"), ("origin", "https://evil.example")]),
            ("127.0.0.1", &[("host", "localhost"), ("origin", "http://localhost")]),
            ("127.0.0.1", &[("host", "localhost"), ("origin", "null")]),
            ("127.0.0.1", &[("host", "localhost"), ("sec-fetch-site", "cross-site")]),
            ("127.0.0.1", &[("host", "localhost"), ("sec-fetch-site", "same-site")]),
        ] {
            assert!(asked(peer, headers).is_err(), "{peer} {headers:?}");
        }
    }
}
