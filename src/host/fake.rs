//! The clocks of a simulated machine, set by a test: a wall clock that may be wrong, and a time since the boot that goes on
//! in suspend. Both go with tokio's clock, which stands still or runs as the test wants, and which the threads of works
//! see too. No machine has them: they are there in unit tests alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Host;

/// The clocks of one machine; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Clocks(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// When this boot began.
    booted: Instant,
    /// What the wall clock showed then, had it been as it is now.
    wall_at_boot: SystemTime,
    /// How long the machine was suspended in this boot: then the wall clock goes on, and nothing runs.
    suspended: Duration,
    planted: Option<Defect>,
    /// How often the time since the boot was asked for.
    asked: u64,
    /// What the wall clock showed when it was asked for in this boot first.
    first_wall: Option<SystemTime>,
}

/// What is wrong with the time since the boot, as it is told to the machine's software.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Defect {
    /// It is the difference of two looks at the wall clock.
    ByTheWallClock,
    /// It stands still in suspend.
    NotInSuspend,
}

impl Clocks {
    /// Of a machine that boots now, when its wall clock shows `wall`.
    pub(crate) fn new(wall: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            booted: Instant::now(),
            wall_at_boot: wall,
            suspended: Duration::ZERO,
            planted: None,
            asked: 0,
            first_wall: None,
        })))
    }

    /// The machine boots, and its wall clock shows `wall`.
    pub(crate) fn boot(&self, wall: SystemTime) {
        let mut inner = self.lock();
        (inner.booted, inner.wall_at_boot) = (Instant::now(), wall);
        (inner.suspended, inner.first_wall) = (Duration::ZERO, None);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set(&self, wall: SystemTime) {
        let since = self.since_boot();
        self.lock().wall_at_boot = wall - since;
    }

    /// The machine was suspended for so long and wakes up.
    pub(crate) fn suspend(&self, how_long: Duration) {
        self.lock().suspended += how_long;
    }

    /// From now on the machine's software is told what is wrong.
    pub(crate) fn plant(&self, defect: Defect) {
        self.lock().planted = Some(defect);
    }

    /// The time since the boot, as it really is.
    pub(crate) fn since_boot(&self) -> Duration {
        let inner = self.lock();
        inner.booted.elapsed() + inner.suspended
    }

    /// What the wall clock shows.
    pub(crate) fn system_time(&self) -> SystemTime {
        let inner = self.lock();
        inner.wall_at_boot + inner.booted.elapsed() + inner.suspended
    }

    /// How often the machine's software asked for the time since the boot.
    pub(crate) fn asked(&self) -> u64 {
        self.lock().asked
    }

    pub(super) fn tell_since_boot(&self) -> Duration {
        let (wall, truth) = (self.system_time(), self.since_boot());
        let mut inner = self.lock();
        inner.asked += 1;
        let first = *inner.first_wall.get_or_insert(wall);
        match inner.planted {
            None => truth,
            Some(Defect::ByTheWallClock) => wall.duration_since(first).unwrap_or_default(),
            Some(Defect::NotInSuspend) => truth - inner.suspended,
        }
    }

    pub(super) fn tell_suspended(&self) -> Duration {
        let inner = self.lock();
        match inner.planted {
            None | Some(Defect::ByTheWallClock) => inner.suspended,
            Some(Defect::NotInSuspend) => Duration::ZERO,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    /// The same machine with these clocks.
    pub(crate) fn with_clocks(mut self, clocks: Clocks) -> Self {
        self.clocks = Some(clocks);
        self
    }
}
