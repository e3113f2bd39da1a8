//! Floor 1: what we tell. A [`Status`] is a projection of the record and of what happens just now; the dialects turn
//! it into the reported properties that back ends look for.
//!
//! Pure, and nothing is decided here: a report can be lost, repeated or refused without any effect on an update.
//! Called by the engine after every step; `twinboot status --json` prints the same [`Status`].

mod firmware;
mod flat;
mod iothub_dm;
mod lifecycle;
mod lwm2m;
mod status;
#[cfg(test)]
mod tests;
mod waiting;

pub use lifecycle::lifecycle;
pub use lwm2m::Lwm2m;
pub use status::{Activity, Ending, HubLink, JobView, LastView, Progress, Status, Versions};
pub use waiting::Waiting;

use serde_json::{Map, Value};

/// A shape of reported properties.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// The object `firmware` of the firmware update tutorial.
    Firmware,
    /// `firmwareStatus` and its times at the top level.
    Flat,
    /// The object `iothubDM` of the older device management samples.
    IothubDm,
    /// The object `lwm2m` with the numbers of LwM2M's firmware update object.
    Lwm2m,
}

/// The reported properties in all of `dialects`: the whole section that is ours, a `null` for what must be absent.
/// With `brief`, without the sentences for people: for a hub that found the whole too large.
pub fn document(status: &Status, dialects: &[Dialect], brief: bool) -> Value {
    let mut document = Map::new();
    for dialect in dialects {
        match dialect {
            Dialect::Firmware => firmware::add(status, brief, &mut document),
            Dialect::Flat => flat::add(status, brief, &mut document),
            Dialect::IothubDm => iothub_dm::add(status, brief, &mut document),
            Dialect::Lwm2m => lwm2m::add(status, &mut document),
        }
    }
    document.insert("rebootTime".into(), text(status.reboot_time));
    Value::Object(document)
}

/// A moment as text, or `null`.
fn text(moment: Option<crate::model::Timestamp>) -> Value {
    moment.map_or(Value::Null, |moment| moment.to_string().into())
}
