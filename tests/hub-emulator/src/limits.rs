//! How much this hub allows at once: what differs between the tiers that the real one is sold in. Not rates of
//! requests (`throttle`) and not what is the same for all, which stands where it is checked.
//!
//! Source: "IoT Hub quotas and throttling".

/// The limits of one hub.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most configurations.
    pub(crate) configurations: usize,
    /// Most jobs that run or wait to run; none is no limit.
    pub(crate) jobs: Option<usize>,
    /// Devices that one job takes on per second; none is all at once.
    pub(crate) job_rate: Option<f64>,
}

impl Default for Limits {
    /// As generous as the documentation allows, and without waiting.
    fn default() -> Limits {
        Limits { configurations: 100, jobs: None, job_rate: None }
    }
}
