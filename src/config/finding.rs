//! What `twinboot check-config` finds out about the machine that a configuration is for.

/// One thing that is not as the configuration has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// The key that names it, such as `slots.a`.
    pub key: &'static str,
    /// What is found.
    pub what: String,
    /// What to do about it; may be empty.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Weight {
    /// twinboot cannot do its work like this.
    Error,
    /// It can, but hardly as it is meant.
    Warning,
    /// Whoever runs the check may not look at it.
    Unseen,
    /// It is as it should be, and worth seeing all the same.
    Note,
}

impl Finding {
    /// twinboot cannot do its work: `what`, and the `remedy`.
    pub fn error(key: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { weight: Weight::Error, key, what: what.into(), remedy: remedy.into() }
    }

    /// It hardly is as it is meant: `what`, and the `remedy`.
    pub fn warning(key: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, ..Self::error(key, what, remedy) }
    }

    /// It is well: `what` is there.
    pub fn note(key: &'static str, what: impl Into<String>) -> Self {
        Self { weight: Weight::Note, ..Self::error(key, what, "") }
    }

    /// This user may not look at `what`.
    pub fn unseen(key: &'static str, what: impl Into<String>) -> Self {
        Self { weight: Weight::Unseen, ..Self::error(key, what, "use sudo") }
    }
}
