//! The status of a daemon that cannot begin: something is missing, and it waits for that.

use serde_json::{Value, json};

/// What is missing, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// What is missing, in one line.
    pub what: String,
    /// The remedy, in one line.
    pub remedy: String,
}

impl Waiting {
    /// What is told in place of a [`Status`](super::Status): its `phase` is one that no status has.
    pub fn status(&self) -> Value {
        json!({ "phase": "waiting", "waiting": { "what": self.what, "remedy": self.remedy }, "warnings": [] })
    }

    /// One line for the service manager.
    pub fn line(&self) -> String {
        format!("waiting: {}: {}", self.what, self.remedy)
    }
}
