//! A hub that is away while something is watched: that is waited for, and told once.

use super::Hub;
use crate::failure::Outcome;
use crate::show::complain;

/// Whether the hub is away just now.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    is_away: bool,
}

impl Outage {
    /// What came of asking; nothing if that may go well the next time.
    ///
    /// # Errors
    /// If it will not: the hub refuses, or was never there.
    pub(crate) fn bear<T>(&mut self, hub: &Hub, outcome: Outcome<T>) -> Outcome<Option<T>> {
        match outcome {
            Ok(found) => {
                self.is_away = false;
                Ok(Some(found))
            }
            Err(failure) if failure.is_passing() && !hub.is_hopeless(&failure) => {
                if !std::mem::replace(&mut self.is_away, true) {
                    complain(&format!("{}; trying on", failure.text), &failure.remedy);
                }
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }
}
