//! What the hub wants, as the record keeps it. It decides nothing; `record` does.

use serde::{Deserialize, Serialize};

use crate::model::{Install, Reason, UpdateId, Version};

/// The newest desired property.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Wanted {
    /// What it says.
    pub wish: Wish,
    /// It has had its end, whatever that was; the hub delivering it again changes nothing.
    pub settled: bool,
}

/// What the desired property says.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Install this.
    Install(Install),
    /// It makes no sense, for this reason.
    Invalid {
        /// Names exactly this nonsense, so that it is reported once.
        id: UpdateId,
        /// The version it spoke of, if that could be read.
        version: Option<Version>,
        /// What is wrong with it.
        reason: Reason,
    },
}

impl Wish {
    /// Names exactly this wish.
    pub fn id(&self) -> &UpdateId {
        match self {
            Self::Install(install) => &install.id,
            Self::Invalid { id, .. } => id,
        }
    }
}
