//! How the daemon shall behave: what the integrator configured, and what the hub changed of it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Window, Zone};

/// The rules that hold: the configuration's, or with [`Rules::tuned`] those the hub made of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    /// Switch over only within this time of day.
    pub window: Option<Window>,
    /// In which time zone the window is.
    pub zone: Zone,
    /// Switch over only after the operator allowed it.
    pub consent: bool,
    /// A download takes so many bytes per second at most; 0 is no limit.
    pub rate_limit: u64,
    /// Progress is told to the hub at most this often.
    pub progress_every: Duration,
    /// The whole twin is asked for this often although nothing was notified; zero is never.
    pub poll_every: Duration,
    /// What is written to the journal.
    pub log_level: LogLevel,
}

/// What the hub asks to be different from the configuration. Kept in the durable record, so that a maintenance
/// window holds after a reboot without the hub. What is `None` is as configured.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default)]
pub struct Tuning {
    /// When to switch over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Hours>,
    /// In which time zone that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// Whether somebody must agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<bool>,
    /// Bytes per second; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u64>,
    /// How often progress is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_every: Option<Duration>,
    /// How often the whole twin is asked for; zero is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll_every: Option<Duration>,
    /// What is written to the journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

impl Rules {
    /// These rules as the hub wants them: its word wins over the configuration's wherever it says something.
    pub fn tuned(&self, tuning: &Tuning) -> Self {
        let own = self.clone();
        Self {
            window: tuning.window.map_or(own.window, Hours::window),
            zone: tuning.zone.clone().unwrap_or(own.zone),
            consent: tuning.consent.unwrap_or(own.consent),
            rate_limit: tuning.rate_limit.unwrap_or(own.rate_limit),
            progress_every: tuning.progress_every.unwrap_or(own.progress_every),
            poll_every: tuning.poll_every.unwrap_or(own.poll_every),
            log_level: tuning.log_level.unwrap_or(own.log_level),
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            window: None,
            zone: Zone::Local,
            consent: false,
            rate_limit: 0,
            progress_every: Duration::from_secs(10),
            poll_every: Duration::ZERO,
            log_level: LogLevel::default(),
        }
    }
}

/// A window, or explicitly none. Written `02:00-04:30` or `none`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hours {
    /// Any time of day.
    Any,
    /// Only these.
    Within(Window),
}

impl Hours {
    /// The window, if there is one.
    pub fn window(self) -> Option<Window> {
        match self {
            Self::Any => None,
            Self::Within(window) => Some(window),
        }
    }
}

impl FromStr for Hours {
    type Err = super::BadWindow;

    fn from_str(text: &str) -> Result<Self, super::BadWindow> {
        if text == "none" { Ok(Self::Any) } else { text.parse().map(Self::Within) }
    }
}

/// How much is written to the journal: this and what is worse.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What an operator should look after.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// What was done to the outside world.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All of them, from the quietest.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Text that is no log level.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"")]
pub struct BadLogLevel;

impl FromStr for LogLevel {
    type Err = BadLogLevel;

    fn from_str(text: &str) -> Result<Self, BadLogLevel> {
        Self::ALL.into_iter().find(|level| level.name() == text).ok_or(BadLogLevel)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_hub_wins_where_it_says_something() {
        let window = Window { from: 120, to: 270 };
        let own = Rules { window: Some(window), consent: true, rate_limit: 5, ..Rules::default() };
        assert_eq!(own.tuned(&Tuning::default()), own);
        let tuning = Tuning {
            window: Some(Hours::Any),
            zone: "Europe/Berlin".parse().ok(),
            consent: Some(false),
            rate_limit: Some(0),
            progress_every: Some(Duration::from_secs(1)),
            poll_every: Some(Duration::from_secs(60)),
            log_level: Some(LogLevel::Debug),
        };
        let tuned = own.tuned(&tuning);
        assert_eq!((tuned.window, tuned.consent, tuned.rate_limit), (None, false, 0));
        assert_eq!((tuned.zone.to_string().as_str(), tuned.log_level), ("Europe/Berlin", LogLevel::Debug));
        assert_eq!(
            (tuned.progress_every, tuned.poll_every),
            (Duration::from_secs(1), Duration::from_secs(60))
        );
        let other = Tuning { window: "01:00-02:00".parse().ok(), ..Tuning::default() };
        assert_eq!(own.tuned(&other).window, Some(Window { from: 60, to: 120 }));
    }

    #[test]
    fn what_is_stored_comes_back() {
        for tuning in [
            Tuning::default(),
            Tuning { window: Some(Hours::Any), log_level: Some(LogLevel::Trace), ..Tuning::default() },
            Tuning { window: "22:00-24:00".parse().ok(), zone: Some(Zone::Utc), ..Tuning::default() },
        ] {
            let text = serde_json::to_string(&tuning).unwrap();
            assert_eq!(serde_json::from_str::<Tuning>(&text).unwrap(), tuning, "{text}");
        }
        assert_eq!(serde_json::to_string(&Tuning::default()).unwrap(), "{}");
    }

    #[test]
    fn log_levels_are_words() {
        for level in LogLevel::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        assert_eq!("Info".parse::<LogLevel>(), Err(BadLogLevel));
    }
}
