//! The HTTP client as the library has it: made for one connection, and what its errors mean.

use std::time::Duration;

use super::super::Error;
use crate::proxy::{self, Proxy};

/// A client for one connection: it follows no redirects by itself, keeps no cookies, obeys no proxy variables, asks for
/// no encodings, and speaks HTTP/1.1 over the given TLS and nothing else.
pub(super) fn client(
    tls: &rustls::ClientConfig,
    proxy: Option<&Proxy>,
    connect_timeout: Duration,
) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .https_only(true)
        .http1_only()
        .http1_max_headers(64)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(connect_timeout)
        .user_agent(concat!("twinboot/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = proxy {
        builder = builder.proxy(tunnel(proxy)?);
    }
    builder.build().map_err(Error::Client)
}

/// The proxy as the client wants to have it told, its password as of now.
fn tunnel(proxy: &Proxy) -> Result<reqwest::Proxy, Error> {
    let address = proxy.address().to_string();
    let for_whom = proxy.clone();
    let authorization = proxy.authorization().map_err(|error| Error::Proxy(error.to_string()))?;
    let tunnel = reqwest::Proxy::custom(move |url| {
        url.host_str().is_some_and(|host| for_whom.serves(host)).then(|| address.clone())
    });
    let Some(value) = authorization else { return Ok(tunnel) };
    let mut value = reqwest::header::HeaderValue::from_str(&value)
        .map_err(|_| Error::Proxy("the proxy's credentials cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(tunnel.custom_http_auth(value))
}

/// What an error of the library amounts to.
pub(super) fn diagnose(
    doing: &'static str,
    host: String,
    source: reqwest::Error,
    proxy: Option<&Proxy>,
) -> Error {
    if let Some(proxy) = proxy
        && wants_password(&source)
    {
        let (address, remedy) = (proxy.address(), proxy::remedy(proxy.has_credentials()));
        return Error::Proxy(format!("the proxy {address} wants a user name and a password (407): {remedy}"));
    }
    if is_tls(&source) { Error::Tls { host, source } } else { Error::Connection { doing, host, source } }
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
