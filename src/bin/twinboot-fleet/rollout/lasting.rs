//! What has lasted: the results of queries lag behind by minutes, so that a number seen once may be one that is over.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long results lag behind, and a device takes to begin.
const LAG: Duration = Duration::from_secs(5 * 60);

/// A number as it was at each look of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    seen: VecDeque<(Instant, u64)>,
}

impl Lasting {
    /// How many it has been all those minutes, at least; nothing before they are over.
    pub(super) fn at_least(&mut self, now: Instant, number: u64) -> u64 {
        self.seen.push_back((now, number));
        // One that is old enough is kept.
        while self.seen.get(1).is_some_and(|(at, _)| now - *at >= LAG) {
            self.seen.pop_front();
        }
        let is_known = self.seen.front().is_some_and(|(at, _)| now - *at >= LAG);
        let least = self.seen.iter().map(|(_, number)| *number).min();
        least.filter(|_| is_known).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_there_all_the_time_has_lasted() {
        let begin = Instant::now();
        let mut lasting = Lasting::default();
        let mut at = |minute: u64, number| lasting.at_least(begin + Duration::from_secs(minute * 60), number);
        assert_eq!([at(0, 3), at(1, 3), at(4, 2)], [0; 3], "too early to tell");
        assert_eq!([at(5, 2), at(6, 5), at(7, 0), at(8, 5)], [2, 2, 0, 0]);
        assert_eq!([at(11, 5), at(12, 5), at(13, 5)], [0, 0, 5]);
        for minute in 14..1000 {
            assert_eq!(at(minute, 5), 5);
        }
        assert!(lasting.seen.len() <= 6, "{lasting:?}");
    }
}
