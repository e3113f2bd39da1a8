//! How long a system on trial has to prove itself.

use std::time::Duration;

/// How long ago the machine booted, and how much of that it was suspended.
pub type Uptime = (Duration, Duration);

/// So long after each suspend nothing is too late: what was waited for has to come back, too, such as a modem.
const AFTER_SUSPEND: Duration = Duration::from_secs(120);
/// The clocks are read one after the other: less than this between them is no suspend.
const NOTICED: Duration = Duration::from_secs(1);

/// The time a system on trial has: from its boot, and a little after each suspend; awake, never more than that.
pub struct Deadline<C> {
    after_boot: Duration,
    clock: C,
    /// How long it had been suspended when that was noticed last.
    slept: Duration,
    /// Until then, since the boot, nothing is too late for that.
    until: Duration,
}

impl<C: Fn() -> Uptime> Deadline<C> {
    /// So long after the boot, by this clock.
    pub fn new(after_boot: Duration, clock: C) -> Self {
        Self { after_boot, clock, slept: Duration::ZERO, until: Duration::ZERO }
    }

    /// How long after the boot it is, without a suspend.
    pub fn after_boot(&self) -> Duration {
        self.after_boot
    }

    /// How much of it is left.
    pub fn left(&mut self) -> Duration {
        let (now, suspended) = (self.clock)();
        if suspended > self.slept.saturating_add(NOTICED) {
            (self.slept, self.until) = (suspended, now.saturating_add(AFTER_SUSPEND));
        }
        let awake = self.after_boot.saturating_sub(now.saturating_sub(suspended));
        self.after_boot.saturating_sub(now).max(self.until.saturating_sub(now).min(awake))
    }
}
