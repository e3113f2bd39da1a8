//! The way out through an HTTP proxy: `CONNECT`, with a user name and a password if it wants one.
//!
//! Only a tunnel is asked for. TLS goes end to end through it, so a proxy sees names and amounts and nothing else; one
//! that opens TLS itself is refused like any other impostor, unless its authority was put into `tls.ca_files`. Proxy
//! variables in the environment (`https_proxy` and its kin) are never looked at: who may set a variable for this
//! process must not decide where its credentials go.
//!
//! Used by the hub's session and by the image's HTTP client. The password is read from its file for every connection,
//! so that it can be changed under a running daemon, and is never shown. (Of a service's credentials systemd makes a copy
//! when it starts: see [`crate::net`] for when that is made anew.)

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::secret::{self, Guard};

/// Longest answer to `CONNECT` that is read, in bytes.
const MAX_ANSWER: usize = 16 * 1024;
/// Most headers in it.
const MAX_HEADERS: usize = 64;

/// A proxy, and whom it is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxy {
    address: Address,
    credentials: Option<PathBuf>,
    guard: Guard,
    exceptions: Vec<Exception>,
}

/// Where a proxy is: `http://name:port`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    /// Its name or IP address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl std::str::FromStr for Address {
    type Err = &'static str;

    /// What is wanted, if the text is something else. It never repeats the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "must be http://name:port, such as \"http://proxy.example:3128\"";
        if text.contains('@') {
            return Err("must not hold a user name or a password: put them into proxy.credentials_file");
        }
        let rest = text.strip_prefix("http://").ok_or(WANTED)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or(WANTED)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(WANTED)?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good = match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        if good { Ok(Self { host: inner.unwrap_or(host).to_owned(), port }) } else { Err(WANTED) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", authority(&self.host, self.port))
    }
}

/// Whether this can be the name of a host. One that is written out to the root ends with a dot.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

/// `host:port` as a request names it.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Hosts that are reached without the proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Exception {
    /// A domain: this name, and every name below it.
    Domain(String),
    /// A range of addresses, by how many of its first bits count.
    Range(IpAddr, u8),
}

impl std::str::FromStr for Exception {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str =
            "must be names (with all names below them), addresses or ranges such as \"10.0.0.0/8\"";
        let (base, bits) = text.split_once('/').map_or((text, None), |(base, bits)| (base, Some(bits)));
        if let Ok(address) = base.parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most));
            return bits.map(|bits| Self::Range(address, bits)).ok_or(WANTED);
        }
        let name = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        if is_name(name) {
            Ok(Self::Domain(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()))
        } else {
            Err(WANTED)
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => f.write_str(name),
            Self::Range(address, bits) if *bits == if address.is_ipv4() { 32 } else { 128 } => {
                write!(f, "{address}")
            }
            Self::Range(address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

impl Exception {
    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Domain(domain) => {
                let host = host.to_ascii_lowercase();
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Self::Range(base, bits) => match (base, host.trim_matches(['[', ']']).parse()) {
                (IpAddr::V4(base), Ok(IpAddr::V4(host))) => {
                    let differ = u32::from(*base) ^ u32::from(host);
                    differ.checked_shr(32 - u32::from(*bits)).unwrap_or(0) == 0
                }
                (IpAddr::V6(base), Ok(IpAddr::V6(host))) => {
                    let differ = u128::from(*base) ^ u128::from(host);
                    differ.checked_shr(128 - u32::from(*bits)).unwrap_or(0) == 0
                }
                (_, Ok(_) | Err(_)) => false,
            },
        }
    }
}

/// No way through the proxy. The messages name it and the remedy, never its password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The credentials cannot be read.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// The file with the credentials holds something else.
    #[error("{} must hold one line, user:password", .0.display())]
    Credentials(PathBuf),
    /// The connection to the proxy failed while asking.
    #[error("asking the proxy {proxy}: {cause}")]
    Broken {
        /// Which.
        proxy: Address,
        /// Why.
        cause: std::io::Error,
    },
    /// Status 407.
    #[error("the proxy {proxy} wants a user name and a password (407): {}", remedy(*given))]
    Unauthorised {
        /// Which.
        proxy: Address,
        /// Whether some were given.
        given: bool,
    },
    /// Another status than 2xx.
    #[error("the proxy {proxy} answers {status} for {target}{}", hint(*status))]
    Refused {
        /// Which.
        proxy: Address,
        /// What it says.
        status: u16,
        /// What was asked for.
        target: String,
    },
    /// No answer that HTTP knows.
    #[error("what listens at {0} is no HTTP proxy: check proxy.url")]
    NoProxy(Address),
}

/// What to do about status 407.
pub fn remedy(given: bool) -> &'static str {
    if given {
        "it does not take those in proxy.credentials_file"
    } else {
        "write them as user:password into a file of mode 0600, and name it as proxy.credentials_file"
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        403 | 405 => ": ask whoever runs it to allow it, or set hub.transport = \"websocket\"",
        502..=504 => ": it does not reach that host",
        _ => "",
    }
}

impl Proxy {
    /// A proxy at `address` for all hosts but `exceptions`; `credentials` names the file with `user:password`.
    pub fn new(
        address: Address,
        credentials: Option<PathBuf>,
        guard: Guard,
        exceptions: Vec<Exception>,
    ) -> Self {
        Self { address, credentials, guard, exceptions }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether connections to `host` go through it.
    pub fn serves(&self, host: &str) -> bool {
        !self.exceptions.iter().any(|exception| exception.covers(host))
    }

    /// Whether there are credentials for it.
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// The value of `Proxy-Authorization`, read anew.
    ///
    /// # Errors
    /// If there is a file and it cannot be read, or does not hold what it must.
    pub fn authorization(&self) -> Result<Option<Zeroizing<String>>, Error> {
        let Some(path) = &self.credentials else { return Ok(None) };
        let text = self.guard.read(path, "the proxy's password")?;
        let pair = text.trim_end_matches(['\r', '\n']);
        let good = pair.find(':').is_some_and(|colon| colon > 0) && !pair.contains(char::is_control);
        if !good {
            return Err(Error::Credentials(path.clone()));
        }
        // Room for all of it at once: see `secret`.
        let mut value = Zeroizing::new(String::with_capacity(8 + pair.len() * 2));
        value.push_str("Basic ");
        STANDARD.encode_string(pair, &mut value);
        Ok(Some(value))
    }

    /// Asks for a tunnel to `host:port` on a fresh connection to the proxy. What comes next on `stream` is the host.
    ///
    /// It has no limit of its own in time.
    ///
    /// # Errors
    /// If the proxy does not open one.
    pub async fn tunnel<S>(&self, stream: &mut S, host: &str, port: u16) -> Result<(), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let target = authority(host, port);
        let authorization = self.authorization()?;
        let given = authorization.is_some();
        let broken = |cause| Error::Broken { proxy: self.address.clone(), cause };
        let mut request = Zeroizing::new(String::with_capacity(1024 + target.len() * 2));
        request.push_str(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
        if let Some(value) = &authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(value);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        match self.answer(stream).await? {
            200..=299 => Ok(()),
            407 => Err(Error::Unauthorised { proxy: self.address.clone(), given }),
            status => Err(Error::Refused { proxy: self.address.clone(), status, target }),
        }
    }

    /// The status of the proxy's answer. Reads to its blank line and not a byte further: what follows is the host's.
    async fn answer<S: AsyncRead + Unpin>(&self, stream: &mut S) -> Result<u16, Error> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == MAX_ANSWER || (head.len() >= 5 && !head.starts_with(b"HTTP/")) {
                return Err(Error::NoProxy(self.address.clone()));
            }
            let byte = stream.read_u8().await;
            head.push(byte.map_err(|cause| Error::Broken { proxy: self.address.clone(), cause })?);
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut headers);
        match answer.parse(&head) {
            Ok(httparse::Status::Complete(_)) => answer.code,
            Ok(httparse::Status::Partial) | Err(_) => None,
        }
        .ok_or_else(|| Error::NoProxy(self.address.clone()))
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
