//! Firmware version labels.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A firmware version as the operator writes it: 1 to 64 printable ASCII characters without blanks.
///
/// Versions are compared for equality only; which one is *newer* is the operator's business.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version that could not be shown in a journal line or a query.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("version must be 1 to 64 printable ASCII characters without blanks")]
pub struct BadVersion;

impl FromStr for Version {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(BadVersion) }
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;

    fn try_from(text: String) -> Result<Self, BadVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p118_labels_are_short_and_printable() {
        for good in ["1", "2.8.5", "v1.0-rc.1+build~5", &"9".repeat(64)] {
            assert!(good.parse::<Version>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "1\n2", "\u{1b}[31m", "ü", &"9".repeat(65)] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }
}
