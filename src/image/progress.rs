//! How far an image has come, for whoever watches; and the flag that stops it.
//!
//! Progress is not state: nothing is decided by it and nothing of it survives the process.

use std::sync::Arc;

use tokio::sync::watch;

use crate::model::Cost;

/// A moment of a download.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    /// How many bytes of the file are unpacked and handed on.
    pub position: u64,
    /// How many the file has, once known.
    pub total: Option<u64>,
    /// How many bytes came over the network, those fetched again included.
    pub fetched: u64,
    /// How many of them this process had fetched before. What a killed process had fetched after its last
    /// checkpoint is not known here.
    pub fetched_twice: u64,
    /// How many bytes of the file were there already when this process began.
    pub resumed_at: u64,
    /// How many bytes of the image were handed to the slot.
    pub written: u64,
    /// Of a bundle: what it costs, once that is known. Then `position`, `total` and `resumed_at` count bytes of the
    /// image, and `written` counts what differed.
    pub plan: Option<Cost>,
    /// How many bytes of the slot were read back.
    pub verified: u64,
    /// How many connections were made.
    pub connections: u32,
    /// The last trouble that was survived, without secrets; cleared when bytes flow again.
    pub trouble: Option<String>,
}

/// Where the worker notes its progress. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Progress(Arc<watch::Sender<Snapshot>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Snapshot::default())))
    }
}

impl Progress {
    /// For waiting for changes.
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.0.subscribe()
    }

    /// The present moment.
    pub fn snapshot(&self) -> Snapshot {
        self.0.borrow().clone()
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Snapshot)) {
        self.0.send_modify(change);
    }
}

/// Asks the worker to stop. It does so within about a second, at any point, and leaves what was fetched usable.
/// Cheap to clone; all clones are the same flag.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<watch::Sender<bool>>);

impl Default for Cancel {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Cancel {
    /// Raises the flag, for good.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is raised.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it is raised.
    pub async fn cancelled(&self) {
        let mut flag = self.0.subscribe();
        // Cannot fail: the sender is alive in `self`.
        let _ = flag.wait_for(|raised| *raised).await;
    }
}
