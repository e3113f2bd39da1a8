//! Time and boots, as data: floors 0 and 1 have no clock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A moment of wall-clock time: milliseconds since 1970, UTC. Displayed as ISO 8601 (`2026-11-21T05:41:57.000Z`).
///
/// For what depends on the date: what is shown, a time to force an update by, tokens. Where the clock is not to be
/// trusted there is no timestamp (`Option::None`) rather than a wrong one. Durations are measured from the boot.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, in_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil(days);
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// Gregorian date of a day counted from 1970-01-01: years are taken to begin in March, so that the leap day is
/// the last of its year and months follow a fixed pattern of lengths.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Text that is no moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be a time in UTC such as \"2026-11-21T05:41:57Z\"")]
pub struct BadTimestamp;

/// Reads ISO 8601 in UTC as [`Timestamp`] displays it; seconds and their fraction may be left out. Nothing is said of
/// another time zone: a device that took a time for UTC that was meant otherwise would act hours off.
impl FromStr for Timestamp {
    type Err = BadTimestamp;

    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        moment(text).map(Self).ok_or(BadTimestamp)
    }
}

fn moment(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (year, rest) = date.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
    let days = days(year, month, day)?;
    let (hour, rest) = time.split_once(':')?;
    let (minute, seconds) = rest.split_once(':').unwrap_or((rest, "00"));
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let (hour, minute, second) = (digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?);
    if hour > 23 || minute > 59 || second > 59 || fraction.len() > 9 {
        return None;
    }
    let nanos = digits(fraction, fraction.len())? * 10_u64.pow(9 - fraction.len() as u32);
    let millis = nanos / 1_000_000;
    Some(days * 86_400_000 + hour * 3_600_000 + minute * 60_000 + second * 1000 + millis)
}

/// Just so many digits: `parse` alone would take a sign.
fn digits(text: &str, count: usize) -> Option<u64> {
    let fits = text.len() == count && count > 0 && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

/// The days from 1970-01-01 to a date of the Gregorian calendar, if there is such a date.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let before = |year: u64| (year - 1) * 365 + (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let first = before(year) - before(1970);
    // At most 11 months of 31 days: the date is found by looking, with the inverse as the judge.
    (first..first + 366).find(|days| civil(*days) == (year, month, day))
}

/// The kernel's random id of one boot (`/proc/sys/kernel/random/boot_id`): different means rebooted.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(transparent)]
pub struct BootId(pub String);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (2_147_483_648_000, "2038-01-19T03:14:08.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp(millis).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(millis)));
        }
    }

    #[test]
    fn times_are_read_in_utc_and_in_no_other_zone() {
        let moment = Ok(Timestamp(1_709_251_200_000));
        for text in ["2024-03-01T00:00Z", "2024-03-01T00:00:00Z", "2024-03-01T00:00:00.0000Z"] {
            assert_eq!(text.parse(), moment, "{text}");
        }
        assert_eq!("1970-01-01T00:00:00.25Z".parse(), Ok(Timestamp(250)));
        for bad in [
            "",
            "2024-03-01",
            "2024-03-01T00:00:00",
            "2024-03-01T00:00:00+01:00",
            "2024-03-01 00:00:00Z",
            "2024-02-30T00:00Z",
            "2023-02-29T00:00Z",
            "2024-13-01T00:00Z",
            "2024-00-01T00:00Z",
            "2024-03-00T00:00Z",
            "1969-12-31T00:00Z",
            "2024-03-01T24:00Z",
            "2024-03-01T00:60Z",
            "2024-03-01T00:00:60Z",
            "2024-03-01T00:00:00.Z",
            "2024-03-01T00:00:00.1234567890Z",
            "+024-03-01T00:00Z",
            "2024-3-1T00:00Z",
            "2024-03-01T00:00:00.é0Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(BadTimestamp), "{bad}");
        }
    }
}
