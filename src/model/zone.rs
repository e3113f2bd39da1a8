//! The name of a time zone. What it means, a time zone database says; there is none on this floor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A time zone: the machine's own, UTC, or one by its name in the IANA database. Written `local`, `UTC`,
/// `Europe/Berlin`.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Zone {
    /// What the machine is set to.
    #[default]
    Local,
    /// Coordinated universal time.
    Utc,
    /// One of the database.
    Named(ZoneName),
}

/// A name such as `Europe/Berlin`: safe to be put behind the database's directory. Whether the database knows it is
/// another question.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ZoneName(String);

impl ZoneName {
    /// Longest name, in bytes. The database's longest has 32.
    pub const MAX: usize = 64;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that cannot be the name of a time zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be \"local\", \"UTC\" or the name of a time zone such as \"Europe/Berlin\"")]
pub struct BadZone;

impl FromStr for Zone {
    type Err = BadZone;

    fn from_str(text: &str) -> Result<Self, BadZone> {
        match text {
            "local" => return Ok(Self::Local),
            "UTC" => return Ok(Self::Utc),
            _ => {}
        }
        // Neither "." nor "..": a name must not lead out of the database.
        let part = |part: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+');
            !part.is_empty() && part.bytes().all(allowed)
        };
        let good = text.len() <= ZoneName::MAX && text.split('/').all(part);
        good.then(|| Self::Named(ZoneName(text.into()))).ok_or(BadZone)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Utc => "UTC",
            Self::Named(name) => &name.0,
        })
    }
}

impl TryFrom<String> for Zone {
    type Error = BadZone;

    fn try_from(text: String) -> Result<Self, BadZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_database() {
        for good in ["local", "UTC", "Europe/Berlin", "America/Argentina/ComodRivadavia", "Etc/GMT+5", "CET"]
        {
            assert_eq!(good.parse::<Zone>().map(|zone| zone.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", "/etc/passwd", "../passwd", "Europe//Berlin", "Europe/", "Europe/../x", "a b", "a\0"]
        {
            assert_eq!(bad.parse::<Zone>(), Err(BadZone), "{bad:?}");
        }
        assert_eq!("x".repeat(65).parse::<Zone>(), Err(BadZone));
    }
}
