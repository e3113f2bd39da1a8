//! Lines about what may be so again and again, for as long as a disk is full, a bootloader cannot be told, or somebody asks
//! for what cannot be: none of it fills the journal.

use std::collections::BTreeMap;
use std::time::Duration;

use super::calm::{Calm, More};
use super::{About, Line, catalog, origin_in_words, tell};
use crate::model::{Origin, Reason, Slot, Version};

/// So many different ones are told apart. Whoever has more to say is not listened to: the rest counts as one of a kind,
/// until some of those have not been told for the time below.
const KINDS: usize = 32;
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// Writes those lines, each as often as is good for who reads them. `now` is the time since the boot everywhere.
#[derive(Debug, Default)]
pub struct Repeats {
    calm: BTreeMap<(&'static str, String), Calm>,
}

impl Repeats {
    /// Whether a line of this kind, about this, may be told.
    fn admit(&mut self, now: Duration, kind: &'static str, about: &str) -> Option<More> {
        let mut key = (kind, about.to_owned());
        if self.calm.len() >= KINDS && !self.calm.contains_key(&key) {
            let is_old = |calm: &Calm| calm.told().is_none_or(|told| now.saturating_sub(told) >= FORGOTTEN);
            self.calm.retain(|_, calm| !is_old(calm));
            if self.calm.len() >= KINDS {
                key.1 = "any other".to_owned();
            }
        }
        self.calm.entry(key).or_default().admit(now)
    }

    /// A request was not taken on; `code` and `words` are what was answered. Told apart by their codes.
    pub fn refused(&mut self, now: Duration, about: &About<'_>, origin: Origin, code: &str, words: &str) {
        let Some(more) = self.admit(now, catalog::REQUEST_REFUSED, code) else { return };
        let origin = origin_in_words(origin);
        tell!(
            warn,
            REQUEST_REFUSED,
            about,
            [FAILURE = code],
            "request by {origin} refused: {} ({code}){more}",
            Line(words)
        );
    }

    /// Our own record cannot be written, so nothing is done.
    pub fn state_unwritable(&mut self, now: Duration, about: &About<'_>, detail: &str) {
        let Some(more) = self.admit(now, catalog::STATE_UNWRITABLE, "") else { return };
        tell!(
            error,
            STATE_UNWRITABLE,
            about,
            [],
            "record of updates cannot be saved, updates stand still: {}{more}",
            Line(detail)
        );
    }

    /// An update stands still until `gate` opens. Told apart by `kind`: a program may give other words each time.
    pub fn gate_waiting(&mut self, now: Duration, about: &About<'_>, kind: &str, gate: &str) {
        let Some(more) = self.admit(now, catalog::GATE_WAITING, &format!("{kind} of {about}")) else {
            return;
        };
        tell!(info, GATE_WAITING, about, [], "{about} waits: {}{more}", Line(gate));
    }

    /// What an update has to do now failed, and is tried again.
    pub fn work_failed(&mut self, now: Duration, about: &About<'_>, why: &Reason) {
        let Some(more) = self.admit(now, catalog::WORK_FAILED, why.failure.code()) else { return };
        tell!(
            warn,
            WORK_FAILED,
            about,
            [FAILURE = why.failure.code()],
            "{about} is held up: {}{more}",
            Line(&why.to_string())
        );
    }

    /// The machine was asked to reboot, because of `why`.
    pub fn reboot_requested(&mut self, now: Duration, about: &About<'_>, why: &str) {
        let Some(more) = self.admit(now, catalog::REBOOT_REQUESTED, why) else { return };
        tell!(info, REBOOT_REQUESTED, about, [], "reboot asked for: {}{more}", Line(why));
    }

    /// The bootloader's environment survived damage.
    pub fn env_one_copy_bad(&mut self, now: Duration, about: &About<'_>, detail: &str) {
        let Some(more) = self.admit(now, catalog::ENV_ONE_COPY_BAD, detail) else { return };
        tell!(warn, ENV_ONE_COPY_BAD, about, [], "bootloader environment: {}{more}", Line(detail));
    }

    /// The hub refuses what we tell it.
    pub fn hub_refused(&mut self, now: Duration, detail: &str) {
        let Some(more) = self.admit(now, catalog::HUB_REFUSED, "") else { return };
        tell!(
            error,
            HUB_REFUSED,
            &About::default(),
            [],
            "the hub refuses what this device reports: {}{more}",
            Line(detail)
        );
    }

    /// What connects us to the hub works, and should not stay as it is.
    pub fn hub_warning(&mut self, now: Duration, detail: &str) {
        let Some(more) = self.admit(now, catalog::HUB_WARNING, detail) else { return };
        tell!(warn, HUB_WARNING, &About::default(), [], "{}{more}", Line(detail));
    }

    /// A setting of the hub's makes no sense; what was in force stays.
    pub fn setting_refused(&mut self, now: Duration, detail: &str) {
        let Some(more) = self.admit(now, catalog::SETTING_REFUSED, detail) else { return };
        tell!(
            warn,
            SETTING_REFUSED,
            &About::default(),
            [],
            "setting by the hub refused: {}{more}",
            Line(detail)
        );
    }

    /// There is no control socket.
    pub fn control_unavailable(&mut self, now: Duration, detail: &str) {
        let Some(more) = self.admit(now, catalog::CONTROL_UNAVAILABLE, "") else { return };
        tell!(
            error,
            CONTROL_UNAVAILABLE,
            &About::default(),
            [],
            "no control socket, command line verbs will not work: {}{more}",
            Line(detail)
        );
    }

    /// Nothing can be done as long as `what` is missing; `remedy` says what to do about it.
    pub fn waiting(&mut self, now: Duration, what: &str, remedy: &str) {
        let Some(more) = self.admit(now, catalog::WAITING, what) else { return };
        tell!(error, WAITING, &About::default(), [], "waiting: {}: {}{more}", Line(what), Line(remedy));
    }

    /// The configuration was read again, and what is in force stays, because of `what`.
    pub fn reload_refused(&mut self, now: Duration, what: &str, remedy: &str) {
        let Some(more) = self.admit(now, catalog::RELOAD_REFUSED, what) else { return };
        tell!(
            error,
            RELOAD_REFUSED,
            &About::default(),
            [],
            "configuration not reloaded, the old one stays in force: {}: {}{more}",
            Line(what),
            Line(remedy)
        );
    }
}
