//! Shares of a fleet, as they are written: `5%`, and numbers of devices beside them.

use std::fmt;
use std::str::FromStr;

/// A share, in hundredths of a percent: exact where a floating number would round.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Share(u64);

impl Share {
    /// So many percent.
    pub(crate) const fn percent(number: u64) -> Self {
        Self(number * 100)
    }

    /// So much of `all`, rounded up.
    pub(crate) fn of(self, all: u64) -> u64 {
        u64::try_from((u128::from(all) * u128::from(self.0)).div_ceil(10_000)).unwrap_or(all)
    }

    /// Whether `part` is more than this share of `all`.
    pub(crate) fn is_exceeded(self, part: u64, all: u64) -> bool {
        u128::from(part) * 10_000 > u128::from(all) * u128::from(self.0)
    }
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "a percentage from 0% to 100%, such as 5% or 0.5%";
        let (whole, part) =
            text.strip_suffix('%').map(|text| text.split_once('.').unwrap_or((text, ""))).ok_or(WANTED)?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 2 {
            return Err(WANTED);
        }
        let whole: u64 = whole.parse().map_err(|_| WANTED)?;
        let part: u64 = format!("{part:0<2}").parse().map_err(|_| WANTED)?;
        let share = whole.checked_mul(100).and_then(|share| share.checked_add(part)).ok_or(WANTED)?;
        if share > 10_000 { Err(WANTED) } else { Ok(Self(share)) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 / 100)?;
        if !self.0.is_multiple_of(100) {
            write!(f, ".{}", format!("{:02}", self.0 % 100).trim_end_matches('0'))?;
        }
        f.write_str("%")
    }
}

/// How many devices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Size {
    /// A number of them.
    Devices(u64),
    /// A share of all that are meant.
    Share(Share),
}

impl Size {
    /// As a number, at least one and at most all.
    pub(crate) fn of(self, all: u64) -> u64 {
        match self {
            Self::Devices(number) => number.min(all),
            Self::Share(share) => share.of(all).max(1).min(all),
        }
    }

    /// Whether it is all of them, whatever their number.
    pub(crate) fn is_all(self) -> bool {
        self == Self::Share(Share(10_000))
    }
}

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.ends_with('%') {
            return text.parse().map(Self::Share);
        }
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self::Devices(number)),
            Ok(_) | Err(_) => Err("a number of devices or a percentage, such as 5 or 10%"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Devices(number) => write!(f, "{number}"),
            Self::Share(share) => write!(f, "{share}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact() {
        let share = |text: &str| text.parse::<Share>().unwrap();
        assert_eq!((share("1%").of(200), share("1%").of(201), share("0.5%").of(100_000)), (2, 3, 500));
        assert!(!share("5%").is_exceeded(10, 200) && share("5%").is_exceeded(11, 200));
        assert!(share("0%").is_exceeded(1, 100_000) && !share("0%").is_exceeded(0, 0));
        for text in ["1%", "0.5%", "12.25%", "100%", "0%"] {
            assert_eq!(share(text).to_string(), text);
        }
        for bad in ["", "%", "5", "101%", "-1%", "1.234%", "1e1%", " 5%"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_numbers_or_shares_and_never_nobody() {
        let size = |text: &str| text.parse::<Size>().unwrap();
        assert_eq!((size("5").of(200), size("5").of(3), size("1%").of(7), size("100%").of(7)), (5, 3, 1, 7));
        assert!(size("100%").is_all() && !size("99.9%").is_all());
        assert!("0".parse::<Size>().is_err() && "x".parse::<Size>().is_err());
    }
}
