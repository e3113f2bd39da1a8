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

/// Milliseconds since 1970: how the hub keeps the times that it must count with.
pub(crate) fn millis_now() -> u64 {
    millis(SystemTime::now())
}

/// A moment in milliseconds since 1970, in the hub's form.
pub(crate) fn iso_millis(millis: u64) -> String {
    iso(UNIX_EPOCH + Duration::from_millis(millis))
}

/// Reads ISO 8601: date, `T`, time with or without a fraction, then `Z`, an offset, or nothing, which is UTC as well.
/// Milliseconds since 1970; none if it is no such moment.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.trim().split_once(['T', 't', ' '])?;
    let date: Vec<u64> = date.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let zone = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let clock: Vec<&str> = time[..zone].split(':').collect();
    let ([year, month, day], [hour, minute, rest @ ..]) = (&date[..], &clock[..]) else { return None };
    let seconds = match rest {
        [] => 0.0,
        [seconds] => seconds.parse::<f64>().ok()?,
        _ => return None,
    };
    let (hour, minute) = (hour.parse::<u64>().ok()?, minute.parse::<u64>().ok()?);
    let sound = (1970..10_000).contains(year)
        && (1..=12).contains(month)
        && (1..=31).contains(day)
        && hour < 24
        && minute < 60
        && (0.0..61.0).contains(&seconds);
    if !sound {
        return None;
    }
    let local =
        (days(*year, *month, *day) * 1440 + hour * 60 + minute) * 60_000 + (seconds * 1000.0).round() as u64;
    local.checked_add_signed(-offset_minutes(&time[zone..])? * 60_000)
}

/// `Z`, nothing, `+01:00`, `-0330` or `+01`, in minutes.
fn offset_minutes(text: &str) -> Option<i64> {
    if matches!(text, "" | "Z" | "z") {
        return Some(0);
    }
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    let number: i64 = digits.parse().ok()?;
    let minutes = match digits.len() {
        2 => number * 60,
        4 => number / 100 * 60 + number % 100,
        _ => return None,
    };
    Some(if text.starts_with('-') { -minutes } else { minutes })
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

fn millis(at: SystemTime) -> u64 {
    u64::try_from(since_epoch(at).as_millis()).unwrap_or(u64::MAX)
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

/// The count of days since 1970 of a date: the way back of `civil`.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month > 2 { year } else { year - 1 };
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form_that_sdks_write() {
        let noon = Some(1_767_268_800_000);
        for (text, expected) in [
            ("2026-01-01T12:00:00Z", noon),
            ("2026-01-01T12:00:00.000Z", noon),
            ("2026-01-01T12:00:00.0000000Z", noon),
            ("2026-01-01T12:00:00", noon),
            ("2026-01-01 12:00", noon),
            ("2026-01-01T13:00:00+01:00", noon),
            ("2026-01-01T08:30:00-0330", noon),
            ("2026-01-01T12:00:00.25Z", noon.map(|at| at + 250)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-13-01T12:00:00Z", None),
            ("2026-01-01", None),
            ("tomorrow", None),
            ("", None),
            ("2026-01-01T25:00:00Z", None),
            ("2026-01-01T12:00:00+ü", None),
            ("2026-01-01T12:00:00+123456789012345678", None),
            ("1970-01-01T00:00:00+01:00", None),
            ("0-0-0T0:0:0Z", None),
            ("9223372036854775807-01-01T00:00:00Z", None),
            ("2026-01-01T12:00:NaNZ", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        // The last one has no exact number of seconds with a fraction in binary.
        for at in [0, 951_782_400_123, 4_107_542_400_000, 1_795_333_576_162] {
            assert_eq!(parse(&iso_millis(at)), Some(at));
        }
    }

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
