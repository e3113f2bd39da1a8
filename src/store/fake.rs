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
    lost: Option<String>,
    on_save: Option<OnSave>,
}

impl Inner {
    fn admit(&self) -> Result<(), Error> {
        if self.refuses { Err(Error("no space left on device".into())) } else { Ok(()) }
    }
}

/// What happens when a record was saved.
struct OnSave(Box<dyn FnMut(&Record) + Send>);

impl std::fmt::Debug for OnSave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnSave")
    }
}

impl FakeStore {
    /// From now on every save fails, or succeeds again.
    pub fn refuse(&self, refuses: bool) {
        self.lock().refuses = refuses;
    }

    /// Every load finds nothing that can be read, for this reason.
    pub fn lose(&self, why: &str) {
        self.lock().lost = Some(why.into());
    }

    /// From now on this is done with each record that was saved, before whoever saved it goes on.
    pub fn on_save(&self, act: impl FnMut(&Record) + Send + 'static) {
        self.lock().on_save = Some(OnSave(Box::new(act)));
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
        if let Some(why) = &self.lock().lost {
            return Loaded::Unreadable(why.clone());
        }
        self.lock().record.clone().map_or(Loaded::Empty, |record| Loaded::Found(Box::new(record), None))
    }

    fn renew(&mut self) -> Result<(), Error> {
        self.lock().admit()
    }

    fn save(&mut self, record: &Record) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.admit()?;
        inner.saves += 1;
        inner.record = Some(record.clone());
        if let Some(OnSave(act)) = &mut inner.on_save {
            act(record);
        }
        Ok(())
    }
}
