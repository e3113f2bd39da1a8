//! Addresses that may carry a secret.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An https address. Its query string may be a storage token, so `Debug` and `Display` leave it out; only
/// [`SecretUrl::expose`] gives the whole.
#[derive(Clone, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretUrl(String);

/// Why an address is refused. The messages never repeat the address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadUrl {
    /// Any other scheme than https. The words are the tutorial's, since back ends look for them.
    #[error("Insecure package URI")]
    Insecure,
    /// Longer than 4096 bytes, without a host, with credentials, or with blanks or control characters.
    #[error("package URI is malformed: https://host/path is needed, at most 4096 bytes, without user name")]
    Malformed,
}

impl SecretUrl {
    /// Longest accepted address, in bytes: a twin string holds no more.
    pub const MAX_LEN: usize = 4096;

    /// The whole address, secrets included: for making a request and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The address without its query and fragment.
    pub fn redacted(&self) -> &str {
        self.0.find(['?', '#']).map_or(&*self.0, |end| &self.0[..end])
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.redacted())?;
        if self.redacted().len() < self.0.len() { f.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SecretUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let scheme = text.get(..8).filter(|s| s.eq_ignore_ascii_case("https://")).ok_or(BadUrl::Insecure)?;
        let rest = &text[scheme.len()..];
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let clean = text.bytes().all(|b| b.is_ascii_graphic());
        if host.is_empty() || authority.contains('@') || !clean || text.len() > Self::MAX_LEN {
            return Err(BadUrl::Malformed);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for SecretUrl {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, BadUrl> {
        text.parse()
    }
}

impl From<SecretUrl> for String {
    fn from(url: SecretUrl) -> Self {
        url.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_never_shows() {
        let url: SecretUrl = "https://blob.example/fw/2.bin?sv=1&sig=SECRET".parse().expect("good");
        assert_eq!(
            format!("{url} {url:?}"),
            "https://blob.example/fw/2.bin?… https://blob.example/fw/2.bin?…"
        );
        assert!(url.expose().ends_with("SECRET"));
    }

    #[test]
    fn only_https_with_a_host_is_accepted() {
        for good in ["https://h/p", "HTTPS://h:8443/p?q", "https://[::1]:8/p"] {
            assert!(good.parse::<SecretUrl>().is_ok(), "{good}");
        }
        for bad in ["http://h/p", "", "ftp://h/p", "file:///etc/shadow", " https://h/p", "h/p", "httpé://x"]
        {
            assert_eq!(bad.parse::<SecretUrl>(), Err(BadUrl::Insecure), "{bad}");
        }
        let long = format!("https://h/{}", "x".repeat(5000));
        for bad in [
            "https://",
            "https:///p",
            "https://u:p@h/p",
            "https://h/a b",
            "https://h/\n",
            "https://:80/",
            &long,
        ] {
            assert_eq!(bad.parse::<SecretUrl>(), Err(BadUrl::Malformed), "{bad}");
        }
    }
}
