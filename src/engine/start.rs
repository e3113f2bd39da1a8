//! What is found at the start: the machine, and what is left of the record.

use super::live::Live;
use crate::boot::BootView;
use crate::events;
use crate::host::Host;
use crate::model::{BootId, Factory, Slot};
use crate::store::{Loaded, StateStore};
use crate::update::{Facts, Record};

/// What the machine, the bootloader and the configuration say at the start.
pub(super) fn look_around(
    host: &Host,
    view: Option<&BootView>,
    boot: BootId,
    booted: Slot,
    factory: Factory,
) -> Facts {
    Facts {
        boot,
        booted,
        default: view.map(|view| view.default),
        trial: view.and_then(|view| view.trial),
        version: host.image_version(),
        booted_at: host.boot_time(),
        factory,
    }
}

/// The record, or whatever is left of it; what was lost is told.
pub(super) fn recover(store: &mut dyn StateStore, booted: Slot, live: &mut Live) -> Record {
    let (record, loss) = match store.load() {
        Loaded::Found(record, loss) => (*record, loss),
        Loaded::Empty => (Record::default(), None),
        Loaded::Unreadable(why) => (Record::default(), Some(why)),
    };
    if let Some(why) = &loss {
        events::state_recovered(&events::About { booted: Some(booted), ..events::About::default() }, why);
        live.warnings.insert(format!("record of updates recovered: {why}"));
    }
    record
}
