//! Whatever is saved is seen, and if the test wants it so, whoever saved it stands still until the test goes on.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::*;

/// A record as it was saved.
pub(super) struct Saved {
    pub record: Record,
    /// When, counted from the boot.
    pub since_boot: Duration,
    /// Whoever saved it stands still.
    pub is_held: bool,
}

/// What was saved and not looked at yet; clones share it.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    let_go: Condvar,
    news: Notify,
}

#[derive(Default)]
struct Inner {
    saved: VecDeque<Saved>,
    hold_at: Option<&'static str>,
    is_held: bool,
}

impl Watch {
    /// Sees what is saved in `store` from now on.
    pub(super) fn over(store: &FakeStore, clocks: Clocks) -> Self {
        let watch = Self::default();
        let own = watch.clone();
        store.on_save(move |record| own.note(record, clocks.since_boot()));
        watch
    }

    fn note(&self, record: &Record, since_boot: Duration) {
        let mut inner = self.lock();
        let is_held = inner.hold_at.is_some() && inner.hold_at == name(record);
        if is_held {
            (inner.hold_at, inner.is_held) = (None, true);
        }
        inner.saved.push_back(Saved { record: record.clone(), since_boot, is_held });
        self.0.news.notify_one();
        while inner.is_held {
            inner = self.0.let_go.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whoever saves an update in this phase next is to stand still.
    pub(super) fn hold_at(&self, phase: &'static str) {
        self.lock().hold_at = Some(phase);
    }

    /// Nobody stands still any more, nor will.
    pub(super) fn let_go(&self) {
        let mut inner = self.lock();
        (inner.hold_at, inner.is_held) = (None, false);
        self.0.let_go.notify_all();
    }

    pub(super) fn next(&self) -> Option<Saved> {
        self.lock().saved.pop_front()
    }

    pub(super) fn has_news(&self) -> bool {
        !self.lock().saved.is_empty()
    }

    /// Waits until something may have been saved.
    pub(super) async fn news(&self) {
        self.0.news.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The phase of the update on its way.
pub(super) fn name(record: &Record) -> Option<&'static str> {
    record.state.job().map(|job| job.phase.name())
}
