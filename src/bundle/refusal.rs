//! Why a bundle is refused.

use std::fmt;

use crate::model::{Failure, Reason};

/// Why a bundle is refused: a code for the fleet, and a sentence for people that names the remedy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    failure: Failure,
    what: String,
}

impl Refusal {
    /// The code.
    pub fn failure(&self) -> Failure {
        self.failure
    }

    /// It is no bundle, or not the one that was signed.
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::new(Failure::BundleDamaged, what)
    }

    /// A signature is missing, invalid or malformed, or there are too few.
    pub(super) fn signature(what: impl Into<String>) -> Self {
        Self::new(Failure::BundleSignature, what)
    }

    /// It is for another product or board, or for a newer twinboot.
    pub(super) fn incompatible(what: impl Into<String>) -> Self {
        Self::new(Failure::BundleIncompatible, what)
    }

    pub(super) fn new(failure: Failure, what: impl Into<String>) -> Self {
        Self { failure, what: what.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        refusal.failure.because(refusal.what)
    }
}
