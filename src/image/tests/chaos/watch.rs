//! How long something takes, and whether the machine can be blamed.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::Cancel;

/// What was seen meanwhile.
pub(super) struct Watched {
    /// It had to be stopped.
    pub(super) is_over: bool,
    /// For how long a thread that wanted to run did not: so long, others may have been late as well.
    pub(super) lag: Duration,
}

/// Stops `work` when it takes too long.
pub(super) fn watch<T>(cancel: &Cancel, limit: Duration, work: impl FnOnce() -> T) -> (T, Watched) {
    const TICK: Duration = Duration::from_millis(20);
    thread::scope(|scope| {
        let (done, over) = mpsc::channel::<()>();
        let watcher = scope.spawn(move || {
            let (began, mut watched) = (Instant::now(), Watched { is_over: false, lag: Duration::ZERO });
            loop {
                let asked = Instant::now();
                if over.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                    return watched;
                }
                watched.lag = watched.lag.max(asked.elapsed().saturating_sub(TICK));
                if began.elapsed() > limit {
                    watched.is_over = true;
                    cancel.cancel();
                }
            }
        });
        let outcome = work();
        drop(done);
        (outcome, watcher.join().unwrap())
    })
}
