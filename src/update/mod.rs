//! Floor 1, the heart: what an update is, what follows from what, and what there is to do.
//!
//! Pure. No I/O, no clock, no randomness: [`Record::step`] takes the [`Facts`] and an [`Event`] and says what the
//! record is afterwards; [`State::work`] says which one thing is to be done in that state. The engine saves the
//! record first and works afterwards, so a power cut at any instant finds a record that is true or one step behind
//! the world, and never ahead of it. Waking up is an event like any other ([`Event::Started`]).
//!
//! ```text
//!            Accepted ──▶ Downloading ──▶ Verifying ──▶ Staged ──▶ Applying ──▶ Rebooting ──▶ Confirming ──▶ Committing
//!   waits for a gate       revert, then     read back   gate        arm           reboot       health         commit
//!                │            stream           │                     │               │            │              │
//!                │              └──────────────┴──────────┬──────────┴───────────────┴────────────┴──────────────┤
//!                ▼                                        ▼                                                       ▼
//!             ended ◀────────── RollingBack ◀──────── any failure                                               ended
//!                                revert │ ▲
//!                                       ▼ │ (only when the target is booted)
//!                                    Returning
//!                                      reboot
//! ```
//!
//! A factory reset is an update that goes on after its commit, or that begins there if it has no image:
//!
//! ```text
//!            Committing ──▶ Resetting ──▶ Finishing ──▶ ended
//!                           program       one reboot
//! ```
//!
//! Read `state.rs` for what can be, `step.rs` for what follows (one table, complete on purpose: no wildcard arms),
//! `record.rs` for what survives an update: the newest wish, what failed before, where one can go back to.

mod ending;
mod job;
mod policy;
mod record;
mod request;
mod state;
mod step;
mod stored;
#[cfg(test)]
mod tests;
mod undated;
mod wish;

pub use job::Job;
pub use policy::{Conditions, Gate, Wait, gate};
pub use record::Record;
pub use state::{Event, Facts, Overdue, Phase, Plan, Refused, Stage, State, Work};
pub use step::Step;
pub use stored::RecordError;
pub use undated::Undated;
pub use wish::{Wanted, Wish};
