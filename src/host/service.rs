//! What we tell the service manager, by the protocol of sd_notify(3); without `$NOTIFY_SOCKET` it is told to nobody.
//!
//! Failing to tell is never an error of ours: the service manager draws its own conclusions from silence.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// Startup is finished.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; to be followed by [`ready`], however that goes.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // In one message: systemd 253 and newer count a reload by the time in it.
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "asking for the time"),
    }
}

/// We are on our way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    // A line break would end the field and begin another: text from outside must not say READY=1.
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
    tell(&[NotifyState::Status(&line)]);
}

/// We are alive. To be sent every [`watchdog_interval`] by the loop whose life it proves.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Answers the watchdog for as long as the thread that polls this turns, whatever else it waits for: a disk may take
/// longer for one flush than the service manager allows for a sign of life, and busy hours must not keep it from
/// giving one.
pub async fn stay_alive() -> Infallible {
    let Some(interval) = watchdog_interval() else { return std::future::pending().await };
    loop {
        alive();
        tokio::time::sleep(interval).await;
    }
}

/// How often [`alive`] must be told: a third of the time the service manager allows, so that one late answer is
/// forgiven. `None` if it does not watch us.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()).map(|limit| limit / 3)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "telling the service manager");
    }
}
