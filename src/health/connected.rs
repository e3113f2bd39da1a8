//! "The hub is reached": a new system that cuts the gateway off could never be mended from afar.

use std::time::Duration;

use tokio::sync::watch;

use super::{Answer, Check, Verdict};
use crate::model::Failure;

/// Whether the hub counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HubMode {
    /// If it was reached before the update.
    Auto,
    /// Always.
    Required,
    /// Never.
    Ignored,
}

/// Passes as soon as the hub is connected.
#[derive(Debug)]
pub struct Connected {
    reached: watch::Receiver<bool>,
}

impl Connected {
    /// The check, if it is to be made: `reached` is true while the hub is connected; `reached_before` tells whether
    /// the old system had reached it.
    pub fn new(mode: HubMode, reached_before: bool, reached: watch::Receiver<bool>) -> Option<Self> {
        let needed = match mode {
            HubMode::Auto => reached_before,
            HubMode::Required => true,
            HubMode::Ignored => false,
        };
        needed.then_some(Self { reached })
    }
}

impl Check for Connected {
    fn name(&self) -> &str {
        "hub"
    }

    fn run(&mut self, _: Duration) -> Answer<'_> {
        let reached = *self.reached.borrow();
        let verdict = if reached { Verdict::Pass } else { Verdict::Wait("not connected".into()) };
        Box::pin(std::future::ready(verdict))
    }

    fn late(&self) -> Failure {
        Failure::HubUnreachable
    }
}
