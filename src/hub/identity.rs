//! Who this device is to the hub: the connection string, parsed, and the key in it kept out of sight.
//!
//! Not a token (see [`super::sas`]) and not a connection. No message here ever repeats what was in the string, since
//! people paste keys into the wrong places and error messages into tickets.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::credential::{BadKey, Credential, Keeper, Key};
use crate::secret::{self, Guard};
use crate::stamp::Kept;

/// The parts a device's connection string may have.
const PARTS: &str = "HostName, DeviceId, SharedAccessKey, x509 and GatewayHostName";

/// Who we are, to which hub, and what proves it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The hub.
    pub hub: HubName,
    /// The device id, case-sensitive, sent as it is.
    pub device: String,
    /// Where to connect instead of the hub, which stays the name that is signed.
    pub gateway: Option<String>,
    /// What proves it.
    pub credential: Credential,
}

impl Identity {
    /// The name to dial, and to find in the server's certificate.
    pub fn dialled(&self) -> &str {
        self.gateway.as_deref().unwrap_or(&self.hub.host)
    }
}

impl FromStr for Identity {
    type Err = Error;

    /// Reads a connection string that has its key.
    fn from_str(text: &str) -> Result<Self, Error> {
        let string: ConnectionString = text.parse()?;
        let key = string.key.clone().ok_or(Error::Certificate)?;
        Ok(string.with(Credential::Key(key)))
    }
}

/// A hub's name, as `HostName` and the provisioning service tell it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HubName {
    /// The name as it is signed and sent, without a port.
    pub host: String,
    /// The port of MQTT if one is named, as emulators need: `name:port`.
    pub port: Option<u16>,
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for HubName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "a host name, such as example.azure-devices.net";
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0).ok_or(WANTED)?)),
            None => (text, None),
        };
        let clean = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if host.is_empty() || !clean { Err(WANTED) } else { Ok(Self { host: host.to_owned(), port }) }
    }
}

/// A connection string, read again when its file changes, and whoever keeps the certificate if it names none itself.
#[derive(Debug)]
pub struct StringFile {
    kept: Kept<ConnectionString>,
    guard: Guard,
    certificate: Option<Box<dyn Keeper>>,
}

impl StringFile {
    /// The connection string in `path`; `certificate` proves the identity of one that says `x509=true`.
    pub fn new(path: PathBuf, guard: Guard, certificate: Option<Box<dyn Keeper>>) -> Self {
        Self { kept: Kept::new(vec![path]), guard, certificate }
    }

    /// The identity, as of now.
    ///
    /// # Errors
    /// In words with the remedy, if there is none.
    pub fn identity(&mut self) -> Result<Identity, String> {
        let guard = &self.guard;
        let string = self.kept.now(|files| guard.read(&files[0], "a key").map_err(Error::from)?.parse());
        let string = string.map_err(|error: Error| error.to_string())?;
        let credential = match (&string.key, &mut self.certificate) {
            (Some(key), _) => Credential::Key(key.clone()),
            (None, Some(certificate)) => certificate.credential()?,
            (None, None) => return Err(Error::Certificate.to_string()),
        };
        Ok(string.clone().with(credential))
    }

    /// Who keeps the certificate, if that is what proves the identity.
    pub(super) fn keeper(&self) -> Option<&dyn Keeper> {
        let has_key = self.kept.good().is_some_and(|string| string.key.is_some());
        self.certificate.as_deref().filter(|_| !has_key)
    }

    /// What an operator should know about the file although there is an identity.
    pub(super) fn problem(&self) -> Option<&str> {
        self.kept.problem()
    }
}

/// What a connection string says.
#[derive(Clone, Debug)]
struct ConnectionString {
    hub: HubName,
    device: String,
    gateway: Option<String>,
    /// `None` if it is a certificate that proves it.
    key: Option<Arc<Key>>,
}

impl ConnectionString {
    fn with(self, credential: Credential) -> Identity {
        Identity { hub: self.hub, device: self.device, gateway: self.gateway, credential }
    }
}

impl FromStr for ConnectionString {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = Parts::split(text.trim())?;
        let hub = parts.host.ok_or(Error::Missing("HostName"))?;
        let hub = hub.parse().map_err(|wanted| Error::Malformed("HostName", wanted))?;
        let device = parts.device.ok_or(Error::Missing("DeviceId"))?;
        if !is_device_id(device) {
            return Err(Error::Malformed("DeviceId", "1 to 128 ASCII characters without blanks or '/'"));
        }
        if parts.gateway.is_some_and(|gateway| !is_clean(gateway) || gateway.contains(':')) {
            return Err(Error::Malformed("GatewayHostName", "a host name without a port"));
        }
        let gateway = parts.gateway.map(str::to_owned);
        let key = match (parts.key.filter(|key| !key.is_empty()), parts.x509) {
            (Some(_), true) => return Err(Error::Both),
            (None, true) => None,
            (None, false) => return Err(Error::Missing("SharedAccessKey")),
            (Some(key), false) => Some(Arc::new(key.parse().map_err(Error::Key)?)),
        };
        Ok(Self { hub, device: device.to_owned(), gateway, key })
    }
}

/// Whether this can be the id of a device, as far as it matters to us.
pub(super) fn is_device_id(text: &str) -> bool {
    is_clean(text) && text.len() <= 128
}

fn is_clean(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

/// The pieces, each at most once.
#[derive(Default)]
struct Parts<'a> {
    host: Option<&'a str>,
    device: Option<&'a str>,
    key: Option<&'a str>,
    gateway: Option<&'a str>,
    x509: bool,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, Error> {
        let mut parts = Self::default();
        for (index, part) in text.split(';').filter(|part| !part.trim().is_empty()).enumerate() {
            // At the first '=' only: keys end in '='.
            let (name, value) = part.split_once('=').ok_or(Error::NotAPart(index + 1))?;
            let (place, name) = match name.trim() {
                "HostName" => (&mut parts.host, "HostName"),
                "DeviceId" => (&mut parts.device, "DeviceId"),
                "SharedAccessKey" => (&mut parts.key, "SharedAccessKey"),
                "GatewayHostName" => (&mut parts.gateway, "GatewayHostName"),
                "SharedAccessKeyName" => return Err(Error::OfAService),
                "ModuleId" => return Err(Error::Unsupported("a module identity (ModuleId)")),
                "SharedAccessSignature" => {
                    return Err(Error::Unsupported("a ready-made token (SharedAccessSignature)"));
                }
                // The vendor's libraries write true; false is as good as nothing.
                "x509" | "X509" => {
                    parts.x509 = value.trim().eq_ignore_ascii_case("true");
                    continue;
                }
                _ => return Err(Error::NotAPart(index + 1)),
            };
            if place.replace(value.trim()).is_some() {
                return Err(Error::Twice(name));
            }
        }
        Ok(parts)
    }
}

/// Why there is no identity. The messages name the part and the remedy, never the contents.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read, or is not guarded.
    #[error(transparent)]
    Secret(#[from] secret::Error),
    /// A part that is needed is absent.
    #[error("the connection string has no {0}: copy the device's own from the hub's device page")]
    Missing(&'static str),
    /// A part is not what it must be.
    #[error("{0} in the connection string must be {1}: copy the device's own from the hub's device page")]
    Malformed(&'static str, &'static str),
    /// The key is not whole.
    #[error(
        "SharedAccessKey in the connection string must be {0}: copy the device's own from the hub's device page"
    )]
    Key(BadKey),
    /// Two ways to prove the same.
    #[error(
        "the connection string has both SharedAccessKey and x509=true: remove the one that the hub does not use"
    )]
    Both,
    /// A certificate is needed and none is configured.
    #[error(
        "the connection string says x509=true: name the device's certificate and key as hub.certificate_file and \
         hub.private_key_file"
    )]
    Certificate,
    /// A part that no device's connection string has, counted from 1.
    #[error("part {0} of the connection string is none of {PARTS}, each written name=value")]
    NotAPart(usize),
    /// The same part again.
    #[error("the connection string has {0} twice")]
    Twice(&'static str),
    /// A policy's connection string.
    #[error(
        "this connection string is a service's (it has SharedAccessKeyName): use the device's own, from the hub's \
         device page"
    )]
    OfAService,
    /// A kind of identity that is not supported.
    #[error(
        "the connection string names {0}, which is not supported: use the device's symmetric key, or its certificate"
    )]
    Unsupported(&'static str),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: &str = "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=";

    fn signed(identity: &Identity) -> [u8; 32] {
        match &identity.credential {
            Credential::Key(signer) => signer.sign(b"text").unwrap(),
            Credential::Certificate(_) => panic!(),
        }
    }

    #[test]
    fn the_usual_form_is_read() {
        use super::super::credential::Signer as _;
        let text = format!("HostName=h.azure-devices.net;DeviceId=Dev-1;SharedAccessKey={KEY}\n");
        let identity: Identity = text.parse().unwrap();
        assert_eq!(identity.hub, HubName { host: "h.azure-devices.net".into(), port: None });
        assert_eq!((identity.device.as_str(), identity.dialled()), ("Dev-1", "h.azure-devices.net"));
        let expected = KEY.parse::<Key>().unwrap().sign(b"text").unwrap();
        assert_eq!(signed(&identity), expected, "split at the first '=' only");

        let text = format!("DeviceId=d;GatewayHostName=gw;SharedAccessKey={KEY};HostName=localhost:18883;");
        let identity: Identity = text.parse().unwrap();
        assert_eq!(identity.hub, HubName { host: "localhost".into(), port: Some(18883) });
        assert_eq!(identity.dialled(), "gw");
        let text = format!("HostName=h;DeviceId=d;x509=false;SharedAccessKey={KEY}");
        assert!(text.parse::<Identity>().is_ok());
        let string: ConnectionString = "HostName=h;DeviceId=d;x509=true".parse().unwrap();
        assert!(string.key.is_none());
    }

    #[test]
    fn a_wrong_one_is_told_by_part_and_remedy_and_never_by_content() {
        for (text, needle) in [
            ("", "no HostName"),
            ("DeviceId=d;SharedAccessKey=KEY", "no HostName"),
            ("HostName=h;SharedAccessKey=KEY", "no DeviceId"),
            ("HostName=h;DeviceId=d", "no SharedAccessKey"),
            ("HostName=h;DeviceId=d;SharedAccessKey=", "no SharedAccessKey"),
            ("HostName=h;DeviceId=d;SharedAccessKey=short", "base64 of 16 to 64 bytes"),
            ("HostName=h;DeviceId=d;SharedAccessKey=KEYKEY", "base64 of 16 to 64 bytes"),
            ("HostName=h:0;DeviceId=d;SharedAccessKey=KEY", "HostName"),
            ("HostName=h:x;DeviceId=d;SharedAccessKey=KEY", "HostName"),
            ("HostName=https://h;DeviceId=d;SharedAccessKey=KEY", "HostName"),
            ("HostName=h;DeviceId=a/b;SharedAccessKey=KEY", "DeviceId"),
            ("HostName=h;DeviceId=;SharedAccessKey=KEY", "DeviceId"),
            ("HostName=h;HostName=h;DeviceId=d;SharedAccessKey=KEY", "HostName twice"),
            ("HostName=h;SharedAccessKeyName=service;SharedAccessKey=KEY", "a service's"),
            ("HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=KEY", "ModuleId"),
            ("HostName=h;DeviceId=d;x509=true", "hub.certificate_file"),
            ("HostName=h;DeviceId=d;x509=true;SharedAccessKey=KEY", "both"),
            ("HostName=h;DeviceId=d;SharedAccessSignature=KEY", "SharedAccessSignature"),
            ("KEY", "part 1"),
            ("HostName=h;DeviceId=d;KEY", "part 3"),
        ] {
            let error = text.replace("KEY", KEY).parse::<Identity>().unwrap_err().to_string();
            assert!(error.contains(needle), "{text}: {error}");
            assert!(!error.contains(&KEY[..6]), "{error}");
        }
    }

    #[test]
    fn debug_hides_the_key() {
        let text = format!("HostName=h;DeviceId=d;SharedAccessKey={KEY}");
        let shown = format!("{:?}", text.parse::<Identity>().unwrap());
        assert!(shown.contains("Key(…)") && !shown.contains(&KEY[..6]), "{shown}");
    }

    #[test]
    fn the_file_is_guarded_and_a_key_that_was_exchanged_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("connection-string");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut file = StringFile::new(path.clone(), Guard::default(), None);
        assert!(file.identity().unwrap_err().contains("No such file"));
        let write = |key: &str| {
            std::fs::write(&path, format!("HostName=h;DeviceId=d;SharedAccessKey={key}\n")).unwrap();
        };
        write(KEY);
        mode(0o644);
        assert!(file.identity().unwrap_err().contains("chmod 600"));
        mode(0o600);
        let first = signed(&file.identity().unwrap());
        write("half");
        assert_eq!(signed(&file.identity().unwrap()), first);
        assert!(file.problem().is_some_and(|it| it.contains("base64") && it.contains("read before")));
        write(&KEY.replace("z0", "Z0"));
        assert_ne!(signed(&file.identity().unwrap()), first);
        assert_eq!(file.problem(), None);
    }
}
