//! A number of bytes, and how long they take, for people.

use std::fmt;

/// A number of bytes as people read it: three digits or so, in powers of 1000, as links and tariffs are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        let (mut tenths, mut unit) = (u128::from(self.0) * 10 / 1000, 0);
        while tenths >= 10_000 && unit + 1 < UNITS.len() {
            (tenths, unit) = (tenths / 1000, unit + 1);
        }
        let (whole, tenth) = (tenths / 10, tenths % 10);
        match whole {
            0..100 => write!(f, "{whole}.{tenth} {}", UNITS[unit]),
            100.. => write!(f, "{whole} {}", UNITS[unit]),
        }
    }
}

/// A number of seconds as people read it who want to know how long to wait: no more exact than two units.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours, minutes) = (self.0 / 86_400, self.0 / 3600 % 24, self.0 / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{} s", self.0),
            (0, 0, 1..10) => write!(f, "{minutes} min {} s", self.0 % 60),
            (0, 0, _) => write!(f, "{minutes} min"),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            (_, _, _) => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_wait_no_more_exactly_than_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (599, "9 min 59 s"),
            (600, "10 min"),
            (3599, "59 min"),
            (3660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(Seconds(seconds).to_string(), text);
        }
    }

    #[test]
    fn people_read_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_999, "99.9 kB"),
            (100_000, "100 kB"),
            (3_145_728, "3.1 MB"),
            (112_400_000, "112 MB"),
            (1_073_741_824, "1.0 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
