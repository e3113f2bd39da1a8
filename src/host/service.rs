//! What we tell the service manager, by the protocol of sd_notify(3); without `$NOTIFY_SOCKET` it is told to nobody.
//!
//! Failing to tell is never an error of ours: the service manager draws its own conclusions from silence.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// Startup is finished.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// We are on our way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    // A line break would end the field and begin another: text from outside must not say READY=1.
    let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(256).collect();
    tell(&[NotifyState::Status(&line)]);
}

/// We are alive. To be sent every [`watchdog_interval`] by the loop whose life it proves.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
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
