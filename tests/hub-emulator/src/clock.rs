//! Times as the hub and HTTP write them. Not a clock that can be set: the emulator lives in real time.
//! Called by everything that puts a date into a document or a header.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What the hub shows for a time that never was.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Seconds since 1970, as SAS tokens count them.
pub(crate) fn unix_now() -> u64 {
    since_epoch(SystemTime::now()).as_secs()
}

/// Now, in the hub's form: `2026-01-31T12:00:00.000Z`.
pub(crate) fn now() -> String {
    iso(SystemTime::now())
}

/// ISO 8601 in UTC with milliseconds.
pub(crate) fn iso(at: SystemTime) -> String {
    let since = since_epoch(at);
    let (year, month, day) = civil(since.as_secs() / 86_400);
    let (hour, minute, second) = of_day(since.as_secs());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Time of day in UTC, for lines that a person reads.
pub(crate) fn time_of_day(at: SystemTime) -> String {
    let since = since_epoch(at);
    let (hour, minute, second) = of_day(since.as_secs());
    format!("{hour:02}:{minute:02}:{second:02}.{:03}", since.subsec_millis())
}

/// The fixed-length date of RFC 9110, 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(at: SystemTime) -> String {
    let seconds = since_epoch(at).as_secs();
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = of_day(seconds);
    // 1 January 1970 was a Thursday.
    let weekday = DAYS[((days + 4) % 7) as usize];
    let month = MONTHS[(month - 1) as usize];
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn of_day(seconds: u64) -> (u64, u64, u64) {
    let rest = seconds % 86_400;
    (rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a count of days since 1970. Walks in eras of 400 years whose year begins in March, so
/// that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn known_moments_are_written_as_the_standards_show_them() {
        assert_eq!(http_date(at(784_111_777)), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(iso(at(951_782_400)), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso(at(1_767_225_599)), "2025-12-31T23:59:59.000Z");
        assert_eq!(iso(at(4_107_542_400)), "2100-03-01T00:00:00.000Z");
    }
}
