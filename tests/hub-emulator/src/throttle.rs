//! How many requests of each kind the hub takes: token buckets with the figures of a tier. Off unless asked for. Not
//! limits of what may exist (`limits`), and not the fault switch that answers 429 at will. Called by `rest`.
//!
//! Source: "IoT Hub quotas and throttling", for one unit. The real hub smooths bursts before it refuses; here a bucket
//! holds what is allowed in a minute, or in a second for what is counted by the second. Devices' own twin traffic is
//! not counted.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::error::{Code, Error};

/// The tiers that a hub is sold in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Free: as S1, with ten configurations.
    F1,
    /// Standard 1.
    S1,
    /// Standard 2.
    S2,
    /// Standard 3.
    S3,
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Tier, String> {
        match text.to_ascii_uppercase().as_str() {
            "F1" => Ok(Tier::F1),
            "S1" => Ok(Tier::S1),
            "S2" => Ok(Tier::S2),
            "S3" => Ok(Tier::S3),
            _ => Err(format!("{text} is none of F1, S1, S2, S3")),
        }
    }
}

impl Tier {
    /// Most jobs at once.
    pub fn jobs(self) -> usize {
        match self {
            Tier::F1 | Tier::S1 => 1,
            Tier::S2 => 5,
            Tier::S3 => 10,
        }
    }

    /// Devices that a job takes on per second.
    pub fn job_rate(self) -> f64 {
        match self {
            Tier::F1 | Tier::S1 | Tier::S2 => 10.0,
            Tier::S3 => 50.0,
        }
    }

    /// Most configurations.
    pub fn configurations(self) -> usize {
        match self {
            Tier::F1 => 10,
            Tier::S1 | Tier::S2 | Tier::S3 => 100,
        }
    }

    /// What a bucket holds, and how many seconds it takes to fill.
    fn bucket(self, kind: Kind) -> (f64, f64) {
        let by = |small: f64, middle: f64, large: f64| match self {
            Tier::F1 | Tier::S1 => small,
            Tier::S2 => middle,
            Tier::S3 => large,
        };
        match kind {
            Kind::Registry | Kind::Job => (by(100.0, 100.0, 5000.0), 60.0),
            Kind::TwinRead => (by(100.0, 100.0, 500.0), 1.0),
            Kind::TwinUpdate => (by(50.0, 50.0, 250.0), 1.0),
            Kind::Method => (by(160.0, 480.0, 24_576.0), 1.0),
            Kind::Query => (by(20.0, 20.0, 1000.0), 60.0),
            Kind::Configuration => (20.0, 60.0),
        }
    }
}

/// What is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Registry,
    TwinRead,
    TwinUpdate,
    /// In units of a kibibyte, of which a call takes four at least.
    Method,
    Query,
    Job,
    Configuration,
}

impl Kind {
    /// What a request is; none for what is not limited.
    fn of(method: &str, segments: &[&str]) -> Option<Kind> {
        match segments {
            ["devices", "query"] => Some(Kind::Query),
            ["devices", ..] => Some(Kind::Registry),
            ["twins", .., "methods"] => Some(Kind::Method),
            ["twins" | "digitaltwins", ..] if method == "GET" => Some(Kind::TwinRead),
            ["twins" | "digitaltwins", ..] => Some(Kind::TwinUpdate),
            ["jobs", ..] => Some(Kind::Job),
            ["configurations", ..] => Some(Kind::Configuration),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    content: f64,
    at: Instant,
}

/// The buckets of a hub.
#[derive(Debug)]
pub(crate) struct Throttle {
    tier: Tier,
    buckets: Mutex<BTreeMap<Kind, Bucket>>,
}

impl Throttle {
    pub(crate) fn new(tier: Tier) -> Throttle {
        Throttle { tier, buckets: Mutex::default() }
    }

    /// Lets a request through, or says when to come again. `length` is that of its body in bytes.
    ///
    /// # Errors
    /// If there were too many of its kind.
    pub(crate) fn pass(
        &self,
        method: &str,
        segments: &[&str],
        length: usize,
        now: Instant,
    ) -> Result<(), Error> {
        let Some(kind) = Kind::of(method, segments) else { return Ok(()) };
        let cost = if kind == Kind::Method { length.div_ceil(4096).max(1) as f64 * 4.0 } else { 1.0 };
        let (full, seconds) = self.tier.bucket(kind);
        let rate = full / seconds;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(kind).or_insert(Bucket { content: full, at: now });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * rate;
        *bucket = Bucket { content: (bucket.content + gained).min(full), at: now };
        if bucket.content >= cost {
            bucket.content -= cost;
            return Ok(());
        }
        let mut error = Error::new(Code::Throttled, format!("too many requests of the kind {kind:?}"));
        error.retry_after = Some(((cost - bucket.content) / rate).ceil() as u64);
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_and_says_when() {
        let throttle = Throttle::new(Tier::S1);
        let begin = Instant::now();
        let ask = |seconds: u64| {
            throttle.pass("POST", &["devices", "query"], 10, begin + Duration::from_secs(seconds))
        };
        (0..20).for_each(|_| ask(0).unwrap());
        let refused = ask(0).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (Code::Throttled, Some(3)));
        assert!(ask(2).is_err());
        assert!(ask(3).is_ok());
        assert!(ask(3).is_err());
        // Kinds do not share, and what is not limited is not limited.
        assert!(throttle.pass("GET", &["devices", "d"], 0, begin).is_ok());
        (0..1000).for_each(|_| throttle.pass("GET", &["emulator", "state"], 0, begin).unwrap());
        // A bucket holds no more than a minute's worth.
        (0..20).for_each(|_| ask(600).unwrap());
        assert!(ask(600).is_err());
    }

    #[test]
    fn methods_are_counted_by_their_size() {
        let throttle = Throttle::new(Tier::S1);
        let now = Instant::now();
        let call = |length| throttle.pass("POST", &["twins", "d", "methods"], length, now);
        call(100 * 1024).unwrap();
        call(56 * 1024).unwrap();
        call(1).unwrap();
        assert!(call(1).is_err());
    }
}
