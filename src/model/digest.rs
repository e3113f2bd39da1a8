//! SHA-256 digests as they are written in twins, configurations and logs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// A SHA-256 digest. Parsed from 64 hex digits of either case, with or without `sha256:` before them;
/// displayed as 64 lower-case hex digits (`{:.8}` shows the first eight).
#[derive(Clone, Copy, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(64);
        for nibble in self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(digits) {
            write!(f, "{nibble:x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A check value that is not a SHA-256 digest. The message says what is accepted and never repeats the value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "check value has {0}: a SHA-256 digest of 64 hex digits is needed, with or without 'sha256:' before it"
)]
pub struct BadDigest(String);

impl FromStr for Sha256 {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let hex = match text.split_once(':') {
            Some((name, hex)) if name.eq_ignore_ascii_case("sha256") => hex,
            Some(_) => return Err(BadDigest("another algorithm than sha256".into())),
            None => text,
        };
        if hex.len() != 64 {
            return Err(BadDigest(format!("{} characters", hex.chars().count())));
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit =
                |c: u8| (c as char).to_digit(16).ok_or_else(|| BadDigest("other characters than hex".into()));
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(digest))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = BadDigest;

    fn try_from(text: String) -> Result<Self, BadDigest> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_three_spellings_are_one_digest() {
        let digest = Sha256::of(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(format!("{digest:.8}"), "e3b0c442");
        for text in
            [EMPTY.to_owned(), EMPTY.to_uppercase(), format!("sha256:{EMPTY}"), format!("SHA256:{EMPTY}")]
        {
            assert_eq!(text.parse(), Ok(digest));
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_accepted() {
        for text in
            ["", "123456abcde", &EMPTY[1..], &format!("{EMPTY}0"), &EMPTY.replace('e', "g"), "md5:d41d8cd98f"]
        {
            let error = text.parse::<Sha256>().expect_err(text).to_string();
            assert!(error.contains("SHA-256 digest of 64 hex digits"), "{error}");
        }
        assert!("é".repeat(32).parse::<Sha256>().is_err(), "64 bytes, but not hex");
    }
}
