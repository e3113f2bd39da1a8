//! The rule by which a time zone goes on after the last change its file lists: the `TZ` string of POSIX with the
//! extensions of RFC 9636, section 3.3.1, such as `CET-1CEST,M3.5.0,M10.5.0/3`.

/// Standard time, and daylight saving time if there is any.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PosixTz {
    /// Seconds that standard time is ahead of UTC.
    standard: i32,
    saving: Option<Saving>,
}

/// Daylight saving time: how far it is ahead of UTC, and its part of the year in local time.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Saving {
    offset: i32,
    from: Turn,
    to: Turn,
}

/// A moment of every year: a day, and seconds after its midnight, which may be negative or days.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Turn {
    day: Day,
    seconds: i32,
}

/// A day of every year.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Day {
    /// `Jn`: 1 to 365; 29 February is never counted.
    Julian(i64),
    /// `n`: 0 to 365.
    OfYear(i64),
    /// `Mm.w.d`: the `week`th (5: the last) `weekday` (0 is Sunday) of `month`.
    OfMonth { month: i64, week: i64, weekday: i64 },
}

const HOUR: i32 = 3600;
const DAY: i64 = 86_400;

impl PosixTz {
    /// `None` if it is no such rule.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = name(text)?;
        let (west, rest) = time(rest, 24)?;
        let standard = -west;
        if rest.is_empty() {
            return Some(Self { standard, saving: None });
        }
        let rest = name(rest)?;
        let (offset, rest) = match rest.strip_prefix(',') {
            Some(_) => (standard + HOUR, rest),
            None => time(rest, 24).map(|(west, rest)| (-west, rest))?,
        };
        // Without the two days POSIX leaves it open when it begins; no file is so vague.
        let (from, rest) = turn(rest.strip_prefix(',')?)?;
        let (to, rest) = turn(rest.strip_prefix(',')?)?;
        rest.is_empty().then_some(Self { standard, saving: Some(Saving { offset, from, to }) })
    }

    /// Seconds that local time is ahead of UTC at `time`, in seconds since 1970.
    pub(super) fn offset(&self, time: i64) -> i32 {
        let Some(saving) = &self.saving else { return self.standard };
        let year = year_of((time + i64::from(self.standard)).div_euclid(DAY));
        // The neighbours' turns too: a time of day may reach into the next year. In order of time, and where two fall
        // together (daylight saving all the year) the one that begins it counts.
        let mut turns = Vec::with_capacity(6);
        for year in year - 1..=year + 1 {
            turns.push((saving.from.at(year) - i64::from(self.standard), saving.offset));
            turns.push((saving.to.at(year) - i64::from(saving.offset), self.standard));
        }
        turns.sort_by_key(|(at, _)| *at);
        turns.iter().rev().find(|(at, _)| *at <= time).map_or(self.standard, |(_, offset)| *offset)
    }
}

impl Turn {
    /// Local time, in seconds since 1970-01-01 00:00 local time.
    fn at(self, year: i64) -> i64 {
        let day = match self.day {
            Day::Julian(n) => {
                let leap = i64::from(is_leap(year) && n >= 60);
                day_of(year, 1) + n - 1 + leap
            }
            Day::OfYear(n) => day_of(year, 1) + n,
            Day::OfMonth { month, week, weekday } => {
                let first = day_of(year, month);
                let next = if month == 12 { day_of(year + 1, 1) } else { day_of(year, month + 1) };
                // 1970-01-01 was a Thursday.
                let first_weekday = (first + 4).rem_euclid(7);
                let day = first + (weekday - first_weekday).rem_euclid(7) + 7 * (week - 1);
                if day < next { day } else { day - 7 }
            }
        };
        day * DAY + i64::from(self.seconds)
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The first day of a month, counted from 1970-01-01.
fn day_of(year: i64, month: i64) -> i64 {
    // Years that begin in March, so that the leap day is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5
        - 719_468
}

/// The year that a day since 1970-01-01 is in.
fn year_of(day: i64) -> i64 {
    // No later than the year wanted, and hardly earlier: years have 365 days or one more.
    let mut year = 1970 + day.div_euclid(if day < 0 { 365 } else { 366 });
    while day_of(year + 1, 1) <= day {
        year += 1;
    }
    year
}

/// The rest after a name: three letters or more, or anything in angle brackets.
fn name(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('<') {
        return quoted.split_once('>').map(|(_, rest)| rest);
    }
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    (text.len() - rest.len() >= 3).then_some(rest)
}

/// `[+-]hh[:mm[:ss]]` in seconds, and the rest.
fn time(text: &str, most_hours: i32) -> Option<(i32, &str)> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (hours, after) = number(rest)?;
    let mut seconds = (hours <= i64::from(most_hours)).then_some(hours * i64::from(HOUR))?;
    rest = after;
    for unit in [60, 1] {
        let Some(part) = rest.strip_prefix(':') else { break };
        let (value, after) = number(part)?;
        seconds += (value < 60).then_some(value * unit)?;
        rest = after;
    }
    Some((sign * i32::try_from(seconds).ok()?, rest))
}

/// A day, perhaps a time of day (two o'clock, otherwise), and the rest.
fn turn(text: &str) -> Option<(Turn, &str)> {
    let (day, rest) = if let Some(rest) = text.strip_prefix('M') {
        let (month, rest) = number(rest)?;
        let (week, rest) = number(rest.strip_prefix('.')?)?;
        let (weekday, rest) = number(rest.strip_prefix('.')?)?;
        let good = (1..=12).contains(&month) && (1..=5).contains(&week) && (0..=6).contains(&weekday);
        (good.then_some(Day::OfMonth { month, week, weekday })?, rest)
    } else if let Some(rest) = text.strip_prefix('J') {
        let (n, rest) = number(rest)?;
        ((1..=365).contains(&n).then_some(Day::Julian(n))?, rest)
    } else {
        let (n, rest) = number(text)?;
        ((0..=365).contains(&n).then_some(Day::OfYear(n))?, rest)
    };
    match rest.strip_prefix('/') {
        // RFC 9636 allows -167 to 167 hours.
        Some(rest) => time(rest, 167).map(|(seconds, rest)| (Turn { day, seconds }, rest)),
        None => Some((Turn { day, seconds: 2 * HOUR }, rest)),
    }
}

/// Up to three digits, and the rest.
fn number(text: &str) -> Option<(i64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (1..=3).contains(&digits.len()).then(|| Some((digits.parse().ok()?, rest)))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Made with `date -u -d … +%s` for the instants right before and at each change.
    #[test]
    fn rules_turn_when_they_should() {
        let minutes = |text: &str, time: i64| PosixTz::parse(text).unwrap().offset(time) / 60;
        for (text, before, after, turns) in [
            // Berlin: 2027-03-28T01:00Z, 2027-10-31T01:00Z, 2100-03-28T01:00Z.
            ("CET-1CEST,M3.5.0,M10.5.0/3", 60, 120, &[1_806_195_600, 4_109_878_800][..]),
            ("CET-1CEST,M3.5.0,M10.5.0/3", 120, 60, &[1_824_944_400]),
            // New York: 2027-03-14T07:00Z, 2027-11-07T06:00Z.
            ("EST5EDT,M3.2.0,M11.1.0", -300, -240, &[1_805_007_600]),
            ("EST5EDT,M3.2.0,M11.1.0", -240, -300, &[1_825_567_200]),
            // Sydney, where summer is around the new year: 2027-04-03T16:00Z, 2027-10-02T16:00Z.
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", 660, 600, &[1_806_768_000]),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", 600, 660, &[1_822_492_800]),
            // Lord Howe turns half an hour: 2027-04-03T15:00Z.
            ("<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 660, 630, &[1_806_764_400]),
            // Nuuk turns on the evening before: 2027-03-28T01:00Z.
            ("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", -120, -60, &[1_806_195_600]),
            // Dublin: winter is the exception. 2027-10-31T01:00Z.
            ("IST-1GMT0,M10.5.0,M3.5.0/1", 60, 0, &[1_824_944_400]),
            // Gaza, with a time of day beyond the day: 2027-10-29T23:00Z.
            ("EET-2EEST,M3.4.4/50,M10.4.4/50", 180, 120, &[1_824_850_800]),
        ] {
            for turn in turns {
                assert_eq!((minutes(text, turn - 1), minutes(text, *turn)), (before, after), "{text} {turn}");
            }
        }
        assert_eq!(minutes("<+0545>-5:45", 0), 345);
        for time in [1_798_761_600, 1_798_761_599, 1_811_808_000] {
            assert_eq!(minutes("EST5EDT,0/0,J365/25", time), -240, "daylight saving all the year");
        }
    }

    #[test]
    fn days_of_the_year_know_leap_years() {
        let at = |day: Day, year: i64| Turn { day, seconds: 0 }.at(year) / DAY;
        assert_eq!(at(Day::Julian(60), 2028), day_of(2028, 3));
        assert_eq!(at(Day::Julian(60), 2027), day_of(2027, 3));
        assert_eq!(at(Day::OfYear(60), 2028), day_of(2028, 3));
        assert_eq!(at(Day::OfYear(59), 2027), day_of(2027, 3));
        for year in [1900, 1970, 2000, 2024, 2100, 2400] {
            assert_eq!((year_of(day_of(year, 1)), year_of(day_of(year, 1) - 1)), (year, year - 1));
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in [
            "",
            "CE-1",
            "CET",
            "CET-1CEST",
            "CET-25",
            "CET-1:60",
            "CET-1CEST,M13.1.0,M10.5.0",
            "CET-1CEST,M3.6.0,M10.5.0",
            "CET-1CEST,M3.5.7,M10.5.0",
            "CET-1CEST,M3.5.0",
            "CET-1CEST,J0,J1",
            "CET-1CEST,366,1",
            "CET-1CEST,M3.5.0/168,M10.5.0",
            "CET-1CEST,M3.5.0,M10.5.0,",
            "<+03-3",
        ] {
            assert_eq!(PosixTz::parse(bad), None, "{bad}");
        }
    }
}
