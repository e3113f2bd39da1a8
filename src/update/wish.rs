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

impl Wanted {
    /// Whether `wish` is nothing new. What was installed does not become wrong when the rules become stricter; what was
    /// refused is looked at again when they become looser.
    pub fn covers(&self, wish: &Wish) -> bool {
        let is_one_kind = std::mem::discriminant(&self.wish) == std::mem::discriminant(wish);
        let is_over = self.settled && matches!(self.wish, Wish::Install(_));
        self.wish.id() == wish.id() && (is_one_kind || is_over)
    }
}

/// What the desired property says.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Install this.
    Install(Install),
    /// It makes no sense, for this reason.
    Invalid {
        /// Names exactly this, so that it is reported once. The id that it would have as an installation, if it is well formed
        /// and only nothing vouches for the bytes.
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
