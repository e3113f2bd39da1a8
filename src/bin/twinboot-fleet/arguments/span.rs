//! Spans of time, as they are written: `90s`, `30m`, `2h`, `1d`.

use std::str::FromStr;
use std::time::Duration;

/// A span of time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "a number with s, m, h or d, such as 90s, 30m, 2h, 1d";
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or(WANTED)?;
        let (number, unit) = text.split_at(split);
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(WANTED),
        };
        let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or(WANTED)?;
        if seconds == 0 || seconds > 365 * 86_400 {
            Err(WANTED)
        } else {
            Ok(Self(Duration::from_secs(seconds)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit_and_sense() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))));
        }
        for bad in ["", "5", "s", "-1s", "1.5h", "0s", "400d", "99999999999999999999d", "1 h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
