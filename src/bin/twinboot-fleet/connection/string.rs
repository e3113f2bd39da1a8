//! The service's connection string. No message here repeats what was in it: people paste keys into the wrong places.

use std::str::FromStr;

use twinboot::hub::credential::{BadKey, Key};
use twinboot::hub::identity::HubName;

/// A hub and a policy's key.
#[derive(Clone, Debug)]
pub(crate) struct ServiceString {
    /// The hub's name, with a port if it is an emulator's.
    pub(crate) hub: HubName,
    /// The policy whose key it is.
    pub(crate) policy: String,
    /// The key.
    pub(crate) key: Key,
}

/// Why a text is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum BadString {
    /// A part that is needed is absent.
    #[error(
        "the service's connection string has no {0}: copy a whole one from the hub's shared access policies"
    )]
    Missing(&'static str),
    /// A part is not what it must be.
    #[error("{0} in the service's connection string must be {1}")]
    Malformed(&'static str, &'static str),
    /// The key is not whole.
    #[error("SharedAccessKey in the service's connection string must be {0}")]
    Key(BadKey),
    /// A device's own.
    #[error(
        "this is the connection string of one device: the service's has SharedAccessKeyName and no DeviceId, and is \
         in the hub's shared access policies"
    )]
    OfDevice,
    /// What is between two `;` is nothing that belongs here.
    #[error(
        "part {0} of the service's connection string is none of HostName, SharedAccessKeyName, SharedAccessKey"
    )]
    NotAPart(usize),
    /// The same part again.
    #[error("{0} stands twice in the service's connection string")]
    Twice(&'static str),
}

impl FromStr for ServiceString {
    type Err = BadString;

    fn from_str(text: &str) -> Result<Self, BadString> {
        let (mut host, mut policy, mut key) = (None, None, None);
        let parts = text.trim().split(';').filter(|part| !part.trim().is_empty());
        for (index, part) in parts.enumerate() {
            // At the first '=' only: keys end in '='.
            let (name, value) = part.split_once('=').ok_or(BadString::NotAPart(index + 1))?;
            let (place, name) = match name.trim() {
                "HostName" => (&mut host, "HostName"),
                "SharedAccessKeyName" => (&mut policy, "SharedAccessKeyName"),
                "SharedAccessKey" => (&mut key, "SharedAccessKey"),
                "DeviceId" => return Err(BadString::OfDevice),
                _ => return Err(BadString::NotAPart(index + 1)),
            };
            if place.replace(value.trim()).is_some() {
                return Err(BadString::Twice(name));
            }
        }
        let hub = host.ok_or(BadString::Missing("HostName"))?.parse();
        let hub = hub.map_err(|wanted| BadString::Malformed("HostName", wanted))?;
        let policy = policy.ok_or(BadString::Missing("SharedAccessKeyName"))?;
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if policy.is_empty() || !policy.bytes().all(is_name) {
            return Err(BadString::Malformed("SharedAccessKeyName", "the name of a shared access policy"));
        }
        let key = key.ok_or(BadString::Missing("SharedAccessKey"))?.parse().map_err(BadString::Key)?;
        Ok(Self { hub, policy: policy.to_owned(), key })
    }
}
