//! Hubs that are hostile, broken, or somebody else: cases P122 to P133 of the catalogue of failures, and those of P001 to
//! P026 that only a hub like this can bring about, each by its number.
//! Where hours matter they pass in virtual time, against the hub of [`super::cloud`].

mod admission;
mod answers;
mod cuts;
mod packets;

use std::time::Duration;

pub(super) use packets::{is_alone, resident};

const HOUR: Duration = Duration::from_secs(3600);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
