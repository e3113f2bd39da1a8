//! "It is the version that was asked for": a right digest of a wrong file is a wrong update all the same.

use std::time::Duration;

use super::{Answer, Check, Verdict};
use crate::model::{Failure, Version};

/// Fails if the running system says it is another version than the wanted one.
#[derive(Debug)]
pub struct RightVersion {
    wanted: Version,
    found: Version,
}

impl RightVersion {
    /// The check, if both are known: what the request wanted, and what the running system says of itself
    /// ([`crate::host::Host::image_version`]).
    pub fn new(wanted: Option<Version>, found: Option<Version>) -> Option<Self> {
        Some(Self { wanted: wanted?, found: found? })
    }
}

impl Check for RightVersion {
    fn name(&self) -> &str {
        "version"
    }

    fn run(&mut self, _: Duration) -> Answer<'_> {
        let Self { wanted, found } = &*self;
        let verdict = if wanted == found {
            Verdict::Pass
        } else {
            let detail = format!("the new system says it is version {found}, wanted was {wanted}");
            Verdict::Fail(Failure::WrongVersion.because(detail))
        };
        Box::pin(std::future::ready(verdict))
    }
}
