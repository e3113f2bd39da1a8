//! Roll-outs to a whole fleet by automatic device configurations, at once or in waves.
//!
//! The hub does the work and this tool only moves the target condition: [`plan`] is what a roll-out is and where it
//! stands, [`mark`] chooses the devices of each wave, [`census`] counts ([`lasting`] is what
//! counts only after a while), [`lead`] decides, [`heirs`] is who takes over when
//! it ends.

mod census;
mod heirs;
mod lasting;
mod lead;
mod mark;
mod plan;

pub(crate) use census::{Scope, is_moving};
pub(crate) use heirs::{Heir, heirs};
pub(crate) use lasting::Lasting;
pub(crate) use lead::{change, foreign, glance, gone, lead, tell_halt};
pub(crate) use mark::{leave_others_alone, mark, meant, nonce};
pub(crate) use plan::{Rollout, State, check_id};
