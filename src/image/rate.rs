//! How fast may be fetched: a number that can change while a download goes on.

use std::sync::Arc;

use tokio::sync::watch;

/// Bytes per second at most; 0 is no limit. Cheap to clone; all clones are the same number.
#[derive(Clone, Debug)]
pub struct RateLimit(Arc<watch::Sender<u64>>);

impl Default for RateLimit {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl RateLimit {
    /// Changes it: at once, also for a download that is being held back just now.
    pub fn set(&self, rate: u64) {
        self.0.send_if_modified(|current| std::mem::replace(current, rate) != rate);
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// Returns once it is another than `rate`.
    pub(super) async fn differs(&self, rate: u64) {
        let mut number = self.0.subscribe();
        // Cannot fail: the sender is alive in `self`.
        let _ = number.wait_for(|now| *now != rate).await;
    }
}
