//! When a line that comes again and again is enough.

use std::fmt;
use std::time::Duration;

/// The first pause after a line; each later one is twice as long, up to the second of these.
const PAUSES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(3600)];

/// The lines of one kind: the first is told at once, then one after each of the pauses, which double; one that comes
/// after twice the pause is a first one again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calm {
    told: Option<Duration>,
    pause: Duration,
    untold: u32,
}

impl Calm {
    /// Whether a line may be told `now`, a time since the boot; and if so, how many were not told before it.
    pub(super) fn admit(&mut self, now: Duration) -> Option<More> {
        let passed = self.told.map(|told| now.saturating_sub(told));
        if passed.is_some_and(|passed| passed < self.pause) {
            self.untold = self.untold.saturating_add(1);
            return None;
        }
        let goes_on = passed.is_some_and(|passed| passed < 2 * self.pause);
        self.pause = if goes_on { (2 * self.pause).min(PAUSES[1]) } else { PAUSES[0] };
        self.told = Some(now);
        Some(More(std::mem::take(&mut self.untold)))
    }

    /// When it was told last.
    pub(super) fn told(&self) -> Option<Duration> {
        self.told
    }
}

/// So many lines like the one that this is the end of were not told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct More(u32);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} more since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every second for so many seconds: when it was told, and how many were left out before.
    fn told(seconds: u64) -> Vec<(u64, u32)> {
        let mut calm = Calm::default();
        let admit = |second| calm.admit(Duration::from_secs(second)).map(|more| (second, more.0));
        (0..seconds).filter_map(admit).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_then_more_and_more_seldom() {
        let begins = [(0, 0), (60, 59), (180, 119), (420, 239), (900, 479), (1860, 959), (3780, 1919)];
        assert_eq!(told(7000), begins);
        // A day of it: then once an hour, and every single one is accounted for.
        let day = told(86_400);
        assert_eq!(day.len(), 6 + 23, "{day:?}");
        let last = day.last().map_or(0, |(second, _)| *second);
        assert_eq!(day.iter().map(|(_, more)| u64::from(*more) + 1).sum::<u64>(), last + 1);
    }

    #[test]
    fn what_comes_after_a_quiet_time_is_news() {
        let mut calm = Calm::default();
        for second in [0, 30, 60, 130, 179] {
            let _ = calm.admit(Duration::from_secs(second));
        }
        assert_eq!(
            calm.admit(Duration::from_secs(400)).map(|more| more.to_string()),
            Some(" (2 more since the last such line)".into())
        );
        assert_eq!(calm.admit(Duration::from_secs(430)), None);
        assert_eq!(calm.admit(Duration::from_secs(461)), Some(More(1)), "a first pause again");
    }
}
