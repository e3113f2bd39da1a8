//! The HTTP client as the library has it: made for one connection, and what its errors mean.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{IF_RANGE, RANGE};

use super::get::{self, Answer, Fault, Get};
use crate::proxy::{self, Proxy};
use crate::tls::Trust;

/// What it takes to make requests from this process: whom to trust, and which way to go.
#[derive(Clone, Debug)]
pub struct Direct {
    pub(super) trust: Trust,
    pub(super) proxy: Option<Proxy>,
    /// How long connecting may take.
    pub(super) connect_timeout: Duration,
}

impl Direct {
    /// Requests to servers that `trust` trusts, through `proxy` if there is one; each address may take
    /// `connect_timeout` to take a connection.
    pub fn new(trust: Trust, proxy: Option<Proxy>, connect_timeout: Duration) -> Self {
        Self { trust, proxy, connect_timeout }
    }

    /// A client for one connection: it follows no redirects by itself, keeps no cookies, obeys no proxy variables, asks
    /// for no encodings, and speaks HTTP/1.1 over TLS and nothing else.
    pub(super) fn client(&mut self) -> Result<Client, Fault> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured((*self.trust.now()).clone())
            .https_only(true)
            .http1_only()
            .http1_max_headers(64)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            // For the next range of the same file; without one the client, and the connection with it, is gone.
            .pool_max_idle_per_host(1)
            .connect_timeout(self.connect_timeout)
            .user_agent(concat!("twinboot/", env!("CARGO_PKG_VERSION")));
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(tunnel(proxy)?);
        }
        let client = builder.build().map_err(|error| Fault::Client(words(&error)))?;
        Ok(Client { client, proxy: self.proxy.clone() })
    }
}

/// The proxy as the client wants to have it told, its password as of now.
fn tunnel(proxy: &Proxy) -> Result<reqwest::Proxy, Fault> {
    let address = proxy.address().to_string();
    let for_whom = proxy.clone();
    let authorization = proxy.authorization().map_err(|error| Fault::Proxy(error.to_string()))?;
    let tunnel = reqwest::Proxy::custom(move |url| {
        url.host_str().is_some_and(|host| for_whom.serves(host)).then(|| address.clone())
    });
    let Some(value) = authorization else { return Ok(tunnel) };
    let mut value = reqwest::header::HeaderValue::from_str(&value)
        .map_err(|_| Fault::Proxy("the proxy's credentials cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(tunnel.custom_http_auth(value))
}

/// A client for one connection.
#[derive(Debug)]
pub(super) struct Client {
    client: reqwest::Client,
    proxy: Option<Proxy>,
}

impl Client {
    pub(super) async fn get(&self, get: &Get) -> Result<Answer, Fault> {
        let mut request = self.client.get(get.url.clone());
        if get.from > 0 || get.until.is_some() {
            let last = get.until.map_or(String::new(), |until| until.saturating_sub(1).to_string());
            request = request.header(RANGE, format!("bytes={}-{last}", get.from));
            if let Some(condition) = &get.if_range {
                request = request.header(IF_RANGE, condition);
            }
        }
        let response = request.send().await.map_err(|error| diagnose(error, self.proxy.as_ref()))?;
        let (status, headers, length) =
            (response.status(), response.headers().clone(), response.content_length());
        let body = get::Body::Direct(Body { response, proxy: self.proxy.clone() });
        Ok(Answer { status, headers, length, body })
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    proxy: Option<Proxy>,
}

impl Body {
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        self.response.chunk().await.map_err(|error| diagnose(error, self.proxy.as_ref()))
    }
}

/// What an error of the library amounts to.
fn diagnose(error: reqwest::Error, proxy: Option<&Proxy>) -> Fault {
    let error = error.without_url();
    if let Some(proxy) = proxy
        && wants_password(&error)
    {
        let (address, remedy) = (proxy.address(), proxy::remedy(proxy.has_credentials()));
        return Fault::Proxy(format!("the proxy {address} wants a user name and a password (407): {remedy}"));
    }
    if is_tls(&error) {
        Fault::Tls(words(&error))
    } else if is_no_answer(&error) {
        Fault::Answer(words(&error))
    } else {
        Fault::Connection(words(&error))
    }
}

/// More words than these say nothing more, and have to fit into what they are told in: a certificate may have names by the
/// hundred, and all of them are named.
const MOST_WORDS: usize = 1024;

/// An error and its causes, in one line that is not too long.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some libraries repeat their cause in their own message.
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    if text.len() > MOST_WORDS {
        text.truncate(text.floor_char_boundary(MOST_WORDS));
        text.push('…');
    }
    text
}

/// Whether a proxy answered with status 407. The client's library tells it in words only.
fn wants_password(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.to_string().contains("proxy authorization required") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether what came could not be read as the head of an answer. The client's library tells it in words only.
fn is_no_answer(error: &reqwest::Error) -> bool {
    const WORDS: [&str; 5] = [
        "invalid HTTP version parsed",
        "invalid HTTP status-code parsed",
        "invalid HTTP header parsed",
        "invalid content-length parsed",
        "message head is too large",
    ];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if WORDS.iter().any(|words| said.starts_with(words)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether somewhere below an error TLS is the cause, and not just the line.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An I/O error made from another error is transparent: its `source` is that of the other, which would be
        // missed.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_an_end_are_cut_between_two_characters() {
        for ahead in ["", "x", "xy"] {
            let long = std::io::Error::other(format!("{ahead}{}", "\u{20ac}".repeat(5000)));
            let told = words(&long);
            assert!(told.len() <= MOST_WORDS + '…'.len_utf8() && told.len() > MOST_WORDS - 3);
            assert!(told.starts_with(&format!("{ahead}\u{20ac}")) && told.ends_with("\u{20ac}…"));
        }
        assert_eq!(words(&std::io::Error::other("short")), "short");
    }
}
