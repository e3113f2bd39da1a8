//! The service manager's watchdog.

use std::convert::Infallible;

use crate::host::service;

/// Answers the watchdog for as long as the loop's thread turns, whatever the loop waits for: a disk may take longer
/// for one flush than the service manager allows for a sign of life, and busy hours must not keep it from giving one.
pub(super) async fn stay_alive() -> Infallible {
    let Some(interval) = service::watchdog_interval() else { return std::future::pending().await };
    loop {
        service::alive();
        tokio::time::sleep(interval).await;
    }
}
