//! Who this device is to the hub: the connection string, parsed once, and the key in it kept out of sight.
//!
//! Not a token (see [`super::sas`]) and not a connection. Called by the daemon at its start, and again by whoever
//! reloads the file. No message here ever repeats what was in the string, since people paste keys into the wrong
//! places and error messages into tickets.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// MQTT over TLS.
const DEFAULT_PORT: u16 = 8883;
/// No connection string comes near this many bytes; a bigger file is another file.
const MAX_FILE: u64 = 16 * 1024;
/// The parts a device's connection string may have.
const PARTS: &str = "HostName, DeviceId, SharedAccessKey and GatewayHostName";

/// A device's identity with its symmetric key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The hub's name as it is signed and sent, without a port.
    pub host: String,
    /// The port, 8883 unless `HostName` ends in `:port`, as emulators need.
    pub port: u16,
    /// The device id, case-sensitive, sent as it is.
    pub device: String,
    /// Where to connect instead of `host`, which stays the name that is signed.
    pub gateway: Option<String>,
    /// The device's key.
    pub key: Key,
}

impl Identity {
    /// Reads a file that holds a connection string.
    ///
    /// The file must be for its owner alone, who is this process's user or root, or lie under `credentials`: systemd's `$CREDENTIALS_DIRECTORY`, which
    /// guards its files by other means than their mode.
    ///
    /// # Errors
    /// [`Error`], with what to do about it.
    pub fn load(path: &Path, credentials: Option<&Path>) -> Result<Self, Error> {
        let failed = |source| Error::Unreadable { path: path.to_owned(), source };
        // Opened first and asked afterwards, so that what was checked is what is read.
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        if !lies_under(path, credentials) {
            guarded(path, metadata.mode(), metadata.uid(), rustix::process::geteuid().as_raw())?;
        }
        // Room for all of it at once: a buffer that grows leaves copies of the key behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX_FILE as usize + 1));
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_FILE {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "far too long")));
        }
        text.parse()
    }

    /// The name to dial, and to find in the server's certificate.
    pub fn dialled(&self) -> &str {
        self.gateway.as_deref().unwrap_or(&self.host)
    }
}

/// Whether a file of this mode and owner is closed to all but `us` and root.
fn guarded(path: &Path, mode: u32, owner: u32, us: u32) -> Result<(), Error> {
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode: mode & 0o777 });
    }
    if owner != us && owner != 0 {
        return Err(Error::Foreign { path: path.to_owned(), owner });
    }
    Ok(())
}

/// Both paths are resolved, so that neither `..` nor a link makes an exposed file look guarded.
fn lies_under(path: &Path, directory: Option<&Path>) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    match (real(path), directory.and_then(real)) {
        (Some(path), Some(directory)) => path.starts_with(directory),
        (None, _) | (_, None) => false,
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = Parts::split(text.trim())?;
        let (host, port) = host_and_port(parts.host.ok_or(Error::Missing("HostName"))?)?;
        let device = parts.device.ok_or(Error::Missing("DeviceId"))?;
        let clean = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if !clean(device) || device.len() > 128 {
            return Err(Error::Malformed("DeviceId", "1 to 128 ASCII characters without blanks or '/'"));
        }
        if parts.gateway.is_some_and(|gateway| !clean(gateway) || gateway.contains(':')) {
            return Err(Error::Malformed("GatewayHostName", "a host name without a port"));
        }
        let key = parts.key.ok_or(Error::Missing("SharedAccessKey"))?.parse()?;
        let gateway = parts.gateway.map(str::to_owned);
        Ok(Self { host: host.to_owned(), port, device: device.to_owned(), gateway, key })
    }
}

/// `name` or `name:port`.
fn host_and_port(text: &str) -> Result<(&str, u16), Error> {
    const NEEDED: Error = Error::Malformed("HostName", "a host name, such as example.azure-devices.net");
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0).ok_or(NEEDED)?),
        None => (text, DEFAULT_PORT),
    };
    let clean = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if host.is_empty() || !clean { Err(NEEDED) } else { Ok((host, port)) }
}

/// The pieces, each at most once.
#[derive(Default)]
struct Parts<'a> {
    host: Option<&'a str>,
    device: Option<&'a str>,
    key: Option<&'a str>,
    gateway: Option<&'a str>,
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
                "x509" | "X509" => return Err(Error::Unsupported("an X.509 identity (x509)")),
                _ => return Err(Error::NotAPart(index + 1)),
            };
            if place.replace(value.trim()).is_some() {
                return Err(Error::Twice(name));
            }
        }
        Ok(parts)
    }
}

/// A symmetric device key. Wiped when dropped, and never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// The bytes, for signing and nothing else.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Missing("SharedAccessKey"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
        let good = STANDARD.decode_vec(text, &mut bytes).is_ok() && (16..=64).contains(&bytes.len());
        // Half a key that was lost in pasting would only ever be told "unauthorized" by the hub.
        if good {
            Ok(Self(bytes))
        } else {
            Err(Error::Malformed("SharedAccessKey", "base64 of 16 to 64 bytes"))
        }
    }
}

/// Why there is no identity. The messages name the part and the remedy, never the contents.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("reading the connection string from {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can be read by others than its owner.
    #[error(
        "{} holds a key and others may read it (mode {mode:04o}): run 'chmod 600 {}'",
        path.display(),
        path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error("{} holds a key and belongs to user {owner}: run 'chown root: {}'", path.display(), path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// A part that is needed is absent.
    #[error("the connection string has no {0}: copy the device's own from the hub's device page")]
    Missing(&'static str),
    /// A part is not what it must be.
    #[error("{0} in the connection string must be {1}: copy the device's own from the hub's device page")]
    Malformed(&'static str, &'static str),
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
    #[error("the connection string names {0}, which is not supported: use the device's symmetric key")]
    Unsupported(&'static str),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: &str = "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=";

    #[test]
    fn the_usual_form_is_read() {
        let text = format!("HostName=h.azure-devices.net;DeviceId=Dev-1;SharedAccessKey={KEY}\n");
        let identity: Identity = text.parse().unwrap();
        assert_eq!((identity.host.as_str(), identity.port), ("h.azure-devices.net", 8883));
        assert_eq!((identity.device.as_str(), identity.dialled()), ("Dev-1", "h.azure-devices.net"));
        assert_eq!(STANDARD.encode(identity.key.expose()), KEY, "split at the first '=' only");

        let text = format!("DeviceId=d;GatewayHostName=gw;SharedAccessKey={KEY};HostName=localhost:18883;");
        let identity: Identity = text.parse().unwrap();
        assert_eq!((identity.host.as_str(), identity.port, identity.dialled()), ("localhost", 18883, "gw"));
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
            ("HostName=h;DeviceId=d;x509=true", "X.509"),
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
    fn a_file_that_others_may_read_is_refused_except_among_credentials() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("connection-string");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::write(&path, format!("HostName=h;DeviceId=d;SharedAccessKey={KEY}\n")).unwrap();
        mode(0o600);
        assert_eq!(Identity::load(&path, None).unwrap().device, "d");
        for bits in [0o640, 0o604, 0o644, 0o610] {
            mode(bits);
            let error = Identity::load(&path, None).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && error.contains(&format!("{bits:o}")), "{error}");
            assert!(Identity::load(&path, Some(directory.path())).is_ok());
            let elsewhere = tempfile::tempdir().unwrap();
            assert!(Identity::load(&path, Some(elsewhere.path())).is_err());
        }
        let sly = directory.path().join("sub/../connection-string");
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        assert!(Identity::load(&sly, Some(&directory.path().join("sub"))).is_err(), "'..' does not help");
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let path = Path::new("cs");
        let error = guarded(path, 0o100_600, 1001, 0).unwrap_err().to_string();
        assert!(error.contains("user 1001") && error.contains("chown"), "{error}");
        assert!(guarded(path, 0o100_600, 1001, 1001).is_ok() && guarded(path, 0o100_400, 0, 1001).is_ok());
        assert!(matches!(guarded(path, 0o100_604, 0, 0), Err(Error::Exposed { mode: 0o604, .. })));
    }

    #[test]
    fn what_is_not_a_connection_string_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(Identity::load(directory.path(), None), Err(Error::Unreadable { .. })));
        assert!(matches!(
            Identity::load(&directory.path().join("none"), None),
            Err(Error::Unreadable { .. })
        ));
        let path = directory.path().join("big");
        std::fs::write(&path, vec![b'x'; MAX_FILE as usize + 1]).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Identity::load(&path, None), Err(Error::Unreadable { .. })));
    }
}
