//! What the operator reads in the journal: one function per kind of event, and nobody else writes these lines.
//!
//! Every line has a `MESSAGE_ID` ([`catalog`]) with advice in `packaging/twinboot.catalog`, and the fields
//! `UPDATE_ID UPDATE_VERSION PHASE SLOT FAILURE STEPS_LEFT BOOTED DEFAULT` as far as they are known, so that
//! `journalctl UPDATE_ID=…` tells one update's story. The engine and `main` call these; adapters only write debug
//! lines about their I/O. Nothing is decided here. What may come again and again is told by [`Repeats`] and [`HubLines`],
//! which know when it is enough.

mod calm;
pub mod catalog;
mod hub;
mod output;
mod repeats;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::model::{Bytes, Cost, Ended, Origin, Outcome, Reason, Rules, Seconds, Slot, UpdateId, Version};

pub use hub::HubLines;
pub use output::{Verbosity, init, journal_is_connected};
pub use repeats::Repeats;

/// What an event is about, as far as it is known: becomes fields of the journal entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The update.
    pub update: Option<&'a UpdateId>,
    /// The version it installs.
    pub version: Option<&'a Version>,
    /// The phase it is in.
    pub phase: Option<&'a str>,
    /// The slot it is written to.
    pub slot: Option<Slot>,
    /// Steps before it is given up.
    pub steps_left: Option<u32>,
    /// The slot we run from.
    pub booted: Option<Slot>,
    /// The slot that boots by default.
    pub default: Option<Slot>,
}

impl fmt::Display for About<'_> {
    /// The update as it is called in a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.version, self.update) {
            (Some(version), Some(id)) => write!(f, "update to {version} ({id})"),
            (Some(version), None) => write!(f, "update to {version}"),
            (None, Some(id)) => write!(f, "update {id}"),
            (None, None) => f.write_str("update"),
        }
    }
}

/// One journal entry. Fields without a value are left out by `tracing`.
macro_rules! tell {
    ($level:ident, $id:ident, $about:expr, [$($field:ident = $value:expr),*], $($line:tt)+) => {{
        let about: &About<'_> = $about;
        tracing::$level!(
            target: "twinboot::events",
            MESSAGE_ID = catalog::$id,
            UPDATE_ID = about.update.map(|id| id.0.as_str()),
            UPDATE_VERSION = about.version.map(Version::as_str),
            PHASE = about.phase,
            SLOT = about.slot.map(Slot::letter),
            STEPS_LEFT = about.steps_left,
            BOOTED = about.booted.map(Slot::letter),
            DEFAULT = about.default.map(Slot::letter),
            $($field = $value,)*
            $($line)+
        );
    }};
}
use tell;

/// The daemon runs; `twinboot` is its own version.
pub fn daemon_started(about: &About<'_>, twinboot: &str) {
    let slot = |slot: Option<Slot>| slot.map_or("?", Slot::letter);
    let (booted, default) = (slot(about.booted), slot(about.default));
    tell!(
        info,
        DAEMON_STARTED,
        about,
        [TWINBOOT_VERSION = twinboot],
        "twinboot {twinboot} started on slot {booted}, default {default}"
    );
}

/// Asked to stop.
pub fn daemon_stopping(about: &About<'_>) {
    match about.update {
        Some(_) => tell!(info, DAEMON_STOPPING, about, [], "stopping; {about} goes on at the next start"),
        None => tell!(info, DAEMON_STOPPING, about, [], "stopping"),
    }
}

/// The daemon cannot do its work and ends.
pub fn daemon_failed(detail: &str) {
    tell!(error, DAEMON_FAILED, &About::default(), [], "cannot run: {}", Line(detail));
}

/// This device has no connection string yet; `file` is where one is looked for last.
pub fn not_provisioned(file: &str) {
    tell!(
        warn,
        NOT_PROVISIONED,
        &About::default(),
        [],
        "no connection string: write the device's to {} (mode 0600), and twinboot goes on by itself",
        Line(file)
    );
}

/// What a connection needs is unusable; everything else goes on.
pub fn network_unusable(detail: &str) {
    tell!(error, NETWORK_UNUSABLE, &About::default(), [], "no hub until this is corrected: {}", Line(detail));
}

/// The configuration was read from `path` and its drop-ins, which set `values` values.
pub fn config_loaded(path: &Path, values: usize) {
    let path = path.display().to_string();
    tell!(
        info,
        CONFIG_LOADED,
        &About::default(),
        [],
        "configuration read from {}: {values} values set",
        Line(&path)
    );
}

/// `what` is missing, and much can be done without.
pub fn lacking(what: &str, remedy: &str) {
    tell!(warn, LACKING, &About::default(), [], "{}: {}", Line(what), Line(remedy));
}

/// Another configuration is in force: read from `path` and its drop-ins, which set `values` values.
pub fn reloaded(about: &About<'_>, path: &Path, values: usize) {
    let path = path.display().to_string();
    let path = Line(&path);
    match about.update {
        Some(_) => {
            tell!(
                info,
                RELOADED,
                about,
                [],
                "configuration reloaded from {path}: {values} values set; {about} goes on"
            );
        }
        None => tell!(info, RELOADED, about, [], "configuration reloaded from {path}: {values} values set"),
    }
}

/// A trial in which nothing could be done ends with a reboot.
pub fn trial_stranded(what: &str) {
    tell!(
        error,
        TRIAL_STRANDED,
        &About::default(),
        [],
        "the system on trial cannot be judged, rebooting until the bootloader goes back: {}",
        Line(what)
    );
}

/// The guard ends a trial that nobody has judged `since` the boot.
pub fn trial_overdue(slot: Slot, since: Duration) {
    let about = &About { slot: Some(slot), ..About::default() };
    let (slot, since) = (slot.letter(), since.as_secs());
    tell!(
        error,
        TRIAL_OVERDUE,
        about,
        [],
        "slot {slot} is on trial and was not judged within {since} s of its boot: rebooting until the bootloader goes back"
    );
}

/// The guard cannot do its work.
pub fn guard_failed(detail: &str) {
    tell!(error, GUARD_FAILED, &About::default(), [], "no guard over a trial: {}", Line(detail));
}

/// An update begins.
pub fn update_accepted(about: &About<'_>, origin: Origin) {
    let (slot, origin) = (about.slot.map_or("?", Slot::letter), origin_in_words(origin));
    tell!(
        info,
        UPDATE_ACCEPTED,
        about,
        [],
        "{about} accepted, asked for by {origin}; it goes to slot {slot}"
    );
}

/// An update went from one phase to the next; `why` says why if it is not simply the next step.
pub fn transition(about: &About<'_>, from: &str, to: &str, why: Option<&Reason>) {
    match why {
        Some(why) => tell!(
            warn,
            TRANSITION,
            about,
            [FAILURE = why.failure.code()],
            "{about}: {from} -> {to}: {}",
            Line(&why.to_string())
        ),
        None => tell!(info, TRANSITION, about, [], "{about}: {from} -> {to}"),
    }
}

/// A download goes on at byte `at`.
pub fn download_resumed(about: &About<'_>, at: u64) {
    tell!(info, DOWNLOAD_RESUMED, about, [], "{about}: download resumed at byte {at}");
}

/// What is remembered of revoked keys was damaged, all of it or one copy; `detail` says which.
pub fn trust_damaged(detail: &str) {
    tell!(warn, TRUST_DAMAGED, &About::default(), [], "{}", Line(detail));
}

/// It is known what an update costs, before its data is fetched; and how long that takes, if there is a limit, or a
/// rate was measured already.
pub fn download_planned(about: &About<'_>, cost: Cost, seconds: Option<u64>) {
    let Cost { fetch, write, full } = cost;
    let time = seconds.map(|seconds| format!(" in some {}", Seconds(seconds))).unwrap_or_default();
    tell!(
        info,
        DOWNLOAD_PLANNED,
        about,
        [FETCH_BYTES = fetch, WRITE_BYTES = write, FULL_BYTES = full, FETCH_SECONDS = seconds],
        "{about}: fetching {} of {}{time}, writing {}",
        Bytes(fetch),
        Bytes(full),
        Bytes(write)
    );
}

/// Somebody allowed it to fetch so many bytes.
pub fn cost_allowed(about: &About<'_>, fetch: u64) {
    tell!(info, COST_ALLOWED, about, [FETCH_BYTES = fetch], "{about} was allowed to fetch {}", Bytes(fetch));
}

/// A hook failed that nothing depended on any more.
pub fn hook_failed(about: &About<'_>, detail: &str) {
    let code = crate::model::Failure::HookFailed.code();
    tell!(error, HOOK_FAILED, about, [FAILURE = code], "{about} goes on all the same: {}", Line(detail));
}

/// Somebody allowed switching over.
pub fn consent_given(about: &About<'_>, by: Origin) {
    tell!(info, CONSENT_GIVEN, about, [], "{about} was allowed to switch over by {}", origin_in_words(by));
}

/// The program of a factory reset is done.
pub fn data_renewed(about: &About<'_>) {
    tell!(info, DATA_RENEWED, about, [], "the data was made as new by a factory reset");
}

/// We run from a slot that is on trial.
pub fn trial_started(about: &About<'_>, tries_left: Option<u32>) {
    let slot = about.slot.map_or("?", Slot::letter);
    let left = tries_left.map(|n| format!(", {n} more boots allowed")).unwrap_or_default();
    tell!(info, TRIAL_STARTED, about, [], "slot {slot} is on trial{left}: it must prove healthy to be kept");
}

/// The slot on trial boots by default now.
pub fn slot_committed(about: &About<'_>) {
    let slot = about.slot.map_or("?", Slot::letter);
    tell!(info, SLOT_COMMITTED, about, [], "slot {slot} passed its trial and boots by default from now on");
}

/// An update is over, however it ended.
pub fn update_ended(about: &About<'_>, ended: &Ended) {
    let about =
        &About { update: Some(&ended.id), version: ended.version.as_ref(), slot: ended.target, ..*about };
    match &ended.outcome {
        Outcome::Succeeded => update_succeeded(about),
        Outcome::UpToDate => update_up_to_date(about),
        Outcome::Failed(why) => update_failed(about, why),
        Outcome::RolledBack(why) => rolled_back(about, why),
    }
}

/// The new system is kept.
pub fn update_succeeded(about: &About<'_>) {
    tell!(info, UPDATE_SUCCEEDED, about, [], "{about} succeeded");
}

/// Nothing was to be done.
pub fn update_up_to_date(about: &About<'_>) {
    tell!(info, UPDATE_UP_TO_DATE, about, [], "{about}: that version runs already, nothing was written");
}

/// It ended before the new system was tried.
pub fn update_failed(about: &About<'_>, why: &Reason) {
    tell!(
        error,
        UPDATE_FAILED,
        about,
        [FAILURE = why.failure.code()],
        "{about} failed, the running system is unchanged: {}",
        Line(&why.to_string())
    );
}

/// The old system is back.
pub fn rolled_back(about: &About<'_>, why: &Reason) {
    tell!(
        error,
        ROLLED_BACK,
        about,
        [FAILURE = why.failure.code()],
        "{about} rolled back, the old system runs again: {}",
        Line(&why.to_string())
    );
}

/// The hub changed settings; `rules` are in force now.
pub fn tuned(rules: &Rules) {
    let window = rules.window.map_or("any time of day".to_owned(), |it| format!("{it} ({})", rules.zone));
    let consent = if rules.consent { "asked for" } else { "not asked for" };
    tell!(
        info,
        TUNED,
        &About::default(),
        [],
        "settings changed by the hub: window {window}, consent {consent}, rate limit {} bytes/s (0 is none), progress \
         every {:?}, twin asked for every {:?} (0 is never), log level {}",
        rules.rate_limit,
        rules.progress_every,
        rules.poll_every,
        rules.log_level
    );
}

/// Our own record survived damage.
pub fn state_recovered(about: &About<'_>, detail: &str) {
    tell!(warn, STATE_RECOVERED, about, [], "record of updates recovered: {}", Line(detail));
}

fn origin_in_words(origin: Origin) -> &'static str {
    match origin {
        Origin::Desired => "the hub's desired property",
        Origin::Method => "a direct method",
        Origin::Local => "the control socket",
    }
}

/// Text from outside on one line: it must not forge a journal line or colour a terminal.
struct Line<'a>(&'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.0.chars().try_for_each(|c| f.write_char(if c.is_control() { ' ' } else { c }))
    }
}
