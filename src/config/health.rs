//! `[health]`: how a new system proves itself.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::sections::minutes;
use super::value::{Value, Words, array, list, quote, text};

/// `[health]`: how a new system proves itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Time after the boot within which every check must have passed.
    pub deadline: Duration,
    /// Programs that judge.
    pub directory: PathBuf,
    /// Time each program has for one answer.
    pub check_timeout: Duration,
    /// Whether the hub must be reached.
    pub hub: HubCheck,
    /// Whether units of systemd's count.
    pub units: UnitsCheck,
    /// Those that do not: names, or their beginnings and `*`.
    pub ignore_units: Vec<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            deadline: minutes(10),
            directory: "/etc/twinboot/health.d".into(),
            check_timeout: minutes(1),
            hub: HubCheck::Auto,
            units: UnitsCheck::Difference,
            ignore_units: Vec::new(),
        }
    }
}

/// Whether a new system must reach the hub before it is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HubCheck {
    /// If the hub was reached before the update.
    Auto,
    /// Always.
    Required,
    /// Never.
    Ignored,
}

/// Whether units of systemd's count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnitsCheck {
    /// None may have failed that had not failed before the update.
    Difference,
    /// They do not.
    Ignored,
}

impl Words for HubCheck {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("required", Self::Required), ("ignored", Self::Ignored)];
}

impl Words for UnitsCheck {
    const WORDS: &'static [(&'static str, Self)] =
        &[("difference", Self::Difference), ("ignored", Self::Ignored)];
}

impl Value for Vec<String> {
    fn set(&mut self, value: &DeValue<'_>) -> Result<(), String> {
        *self = list(value, "names", |it| text(it, "text"))?;
        Ok(())
    }

    fn print(&self) -> Option<String> {
        Some(array(self.iter().map(|it| quote(it))))
    }
}
