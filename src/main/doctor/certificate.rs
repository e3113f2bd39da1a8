//! The device's own certificate, if the hub knows it by one: it ends by itself, and the device is not let in any more.

use std::time::Duration;

use twinboot::cli::doctor::Check;
use twinboot::config::Config;
use twinboot::hub::credential::Keeper as _;
use twinboot::hub::pair::PairFiles;
use twinboot::model::Timestamp;
use twinboot::secret::Guard;

use crate::inspect;

/// The word for it.
const NAME: &str = "certificate";
/// So long before its end somebody should see to it; or the last quarter of its time, if that is less.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Looks at it, if there is one. That it can be read, and is the key's, is found with the configuration.
pub(super) fn examine(config: &Config, now: Option<Timestamp>) -> Option<Check> {
    let files = [config.hub.certificate_file.as_ref()?, config.hub.private_key_file.as_ref()?];
    let [certificate, key] = files.map(|file| inspect::place(file));
    let mut pair = PairFiles::new(certificate, key, Guard::default());
    pair.credential().ok()?;
    Some(judge(pair.beginning()?, pair.expiry()?, now?))
}

/// A certificate counts from `from` to `to`.
fn judge(from: Timestamp, to: Timestamp, now: Timestamp) -> Check {
    let remedy = "have a new one made, put certificate and key in place of these, and the hub or the enrolment told; they are \
                  read again at the next connection";
    if now.0 >= to.0 {
        return Check::fail(
            NAME,
            format!("the device's certificate ended at {to}: no hub lets it in"),
            remedy,
        );
    }
    if now.0 < from.0 {
        let what = format!("the device's certificate counts from {from}, and it is {now} here");
        return Check::fail(NAME, what, "set the clock, or wait");
    }
    let left = Duration::from_millis(to.0 - now.0);
    let soon = SOON.min(Duration::from_millis((to.0 - from.0) / 4));
    let days = left.as_secs() / (24 * 60 * 60);
    if left < soon {
        return Check::warn(NAME, format!("the device's certificate ends at {to}, in {days} days"), remedy);
    }
    Check::ok(NAME, format!("the device's certificate counts until {to}"))
}

#[cfg(test)]
mod tests {
    use twinboot::cli::doctor::Level;

    use super::*;

    #[test]
    fn a_certificate_is_seen_to_end_before_it_does() {
        let day = |day: u64| Timestamp(day * 24 * 60 * 60 * 1000);
        for (from, to, now, level) in [
            (1000, 1365, 1001, Level::Ok),
            (1000, 1365, 1334, Level::Ok),
            (1000, 1365, 1336, Level::Warn),
            (1000, 1365, 1365, Level::Fail),
            (1000, 1365, 999, Level::Fail),
            // Those that are renewed every week.
            (1000, 1008, 1004, Level::Ok),
            (1000, 1008, 1007, Level::Warn),
        ] {
            assert_eq!(judge(day(from), day(to), day(now)).level, level, "{from} {to} {now}");
        }
        assert!(judge(day(1000), day(1365), day(1360)).what.ends_with("in 5 days"));
    }
}
