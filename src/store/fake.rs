//! A store that forgets and refuses on demand.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Error, Loaded, StateStore};
use crate::update::Record;

/// A record in memory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct FakeStore(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    record: Option<Record>,
    saves: u32,
    refuses: bool,
}

impl FakeStore {
    /// From now on every save fails, or succeeds again.
    pub fn refuse(&self, refuses: bool) {
        self.lock().refuses = refuses;
    }

    /// What a load would find.
    pub fn record(&self) -> Option<Record> {
        self.lock().record.clone()
    }

    /// How often something was saved.
    pub fn saves(&self) -> u32 {
        self.lock().saves
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for FakeStore {
    fn load(&mut self) -> Loaded {
        self.lock().record.clone().map_or(Loaded::Empty, |record| Loaded::Found(Box::new(record), None))
    }

    fn save(&mut self, record: &Record) -> Result<(), Error> {
        let mut inner = self.lock();
        if inner.refuses {
            return Err(Error("no space left on device".into()));
        }
        inner.saves += 1;
        inner.record = Some(record.clone());
        Ok(())
    }
}
