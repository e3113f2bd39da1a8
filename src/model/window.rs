//! A time of day to another: when switching over is allowed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A time of day to another, in minutes since midnight; `from` is inside, `to` is not, and it may span midnight. In
/// which time zone is [`Rules::zone`](super::Rules::zone)'s affair. Written `02:00-04:30`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// First minute inside, 0 to 1439.
    pub from: u16,
    /// First minute outside again, 0 to 1440 (`24:00`).
    pub to: u16,
}

impl Window {
    /// Whether `minute` (0 to 1439) is inside. A window that ends when it begins is the whole day.
    pub fn contains(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// Text that is no time window.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be two different times of day such as \"02:00-04:30\"")]
pub struct BadWindow;

impl FromStr for Window {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
            let all = hour * 60 + minute;
            (minute < 60 && all <= 24 * 60).then_some(all)
        };
        let (from, to) = text.split_once('-').ok_or(BadWindow)?;
        let (from, to) = (time(from).ok_or(BadWindow)?, time(to).ok_or(BadWindow)?);
        (from != to && from < 24 * 60).then_some(Self { from, to }).ok_or(BadWindow)
    }
}

impl TryFrom<String> for Window {
    type Error = BadWindow;

    fn try_from(text: String) -> Result<Self, BadWindow> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

/// Two digits and nothing else: `parse` alone would take a sign.
fn two_digits(text: &str) -> Option<u16> {
    let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_may_span_midnight() {
        let night = Window { from: 22 * 60, to: 4 * 60 };
        for (minute, inside) in
            [(22 * 60, true), (0, true), (4 * 60 - 1, true), (4 * 60, false), (12 * 60, false)]
        {
            assert_eq!(night.contains(minute), inside, "{minute}");
        }
        let noon = Window { from: 720, to: 780 };
        assert!(noon.contains(720) && noon.contains(779) && !noon.contains(780) && !noon.contains(0));
        assert!(Window { from: 5, to: 5 }.contains(1000), "the whole day");
    }

    #[test]
    fn windows_are_written_as_times_of_day() {
        for text in ["02:00-04:30", "22:30-01:05", "00:00-24:00", "23:59-00:00"] {
            assert_eq!(text.parse::<Window>().map(|window| window.to_string()).as_deref(), Ok(text));
        }
        for bad in ["", "02:00", "2:00-04:30", "02:00-02:00", "24:00-01:00", "02:60-03:00", "+2:00-04:30"] {
            assert_eq!(bad.parse::<Window>(), Err(BadWindow), "{bad}");
        }
    }
}
