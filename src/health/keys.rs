//! "The root keys can be used": a new system that cannot judge a bundle takes none any more, and could never be mended from
//! afar.

use std::time::Duration;

use super::{Answer, Check, Verdict};

/// Waits for root keys that cannot be used. What is put right is seen by whoever makes the checks, and makes them anew.
#[derive(Debug)]
pub struct UsableKeys {
    fault: String,
}

impl UsableKeys {
    /// The check, to be made where they cannot be used because of `fault`.
    pub fn new(fault: String) -> Self {
        Self { fault }
    }
}

impl Check for UsableKeys {
    fn name(&self) -> &str {
        "root keys"
    }

    /// Not a failure at once: the disk that they are on may be late.
    fn run(&mut self, _: Duration) -> Answer<'_> {
        Box::pin(std::future::ready(Verdict::Wait(self.fault.clone())))
    }
}
