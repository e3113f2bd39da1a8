//! The table, cell by cell: what every event leads to in every phase.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod reboots;
mod verdict;
mod words;

use super::*;
use crate::model::*;

const OLD: Slot = Slot::A;
const NEW: Slot = Slot::B;
const COST: Cost = Cost { fetch: 100, write: 16, full: 999 };

fn install(version: &str) -> Install {
    let url = format!("https://h/{version}").parse().unwrap();
    let artifact = Artifact {
        version: version.parse().ok(),
        location: Location::Url(url),
        sha256: Some(Sha256::of(version.as_bytes())),
        size: None,
    };
    Install::new(artifact, Origin::Desired, None)
}

fn wish(version: &str) -> Event {
    Event::Desired(Wish::Install(install(version)))
}

fn held() -> Terms {
    Terms { hold: true, ..Terms::default() }
}

fn bad_wish() -> Wish {
    let reason = Failure::RequestInsecureUri.because("Insecure package URI");
    Wish::Invalid { id: UpdateId("bad".into()), version: None, reason }
}

fn failed(failure: Failure) -> Event {
    Event::Failed(failure.because("it did"))
}

fn facts(boot: &str, booted: Slot) -> Facts {
    let trial = (booted == NEW).then_some(NEW);
    Facts {
        boot: BootId(boot.into()),
        booted,
        default: Some(OLD),
        trial,
        version: "v1".parse().ok(),
        booted_at: None,
        floor: None,
        overdue: None,
        factory: factory(),
    }
}

fn here() -> BootId {
    BootId("here".into())
}

/// A record whose wish `v2` is in `phase`, sent on trial `trials` times.
fn record(phase: Phase, trials: u8) -> Record {
    let mut record = Record::default();
    record.step(&facts("here", OLD), None, wish("v2")).unwrap();
    let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
    (job.phase, job.trials, job.armed) = (phase, trials, trials > 0);
    record
}

/// One that was found to cost more than is allowed.
fn too_dear() -> Record {
    let mut record = record(Phase::Accepted, 0);
    let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
    job.cost = Some(COST);
    record
}

/// One that the machine would not reboot for.
fn refused_often() -> Record {
    let mut record = record(Phase::Rebooting { since: here() }, 1);
    let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
    job.refusals = Job::REBOOTS - 1;
    record
}

/// What the signatures over a bundle vouch for.
fn seal(version: &str, rollback_index: u64) -> Seal {
    Seal {
        version: version.parse().unwrap(),
        rollback_index,
        allow_downgrade: false,
        bundle: Sha256::of(version.as_bytes()),
    }
}

/// What the guard said of the first trial of `v2`.
fn overdue() -> Overdue {
    let why = "twinboot.service: failed".to_owned();
    Overdue { update: install("v2").id, trial: 1, slot: NEW, boot: BootId("trial".into()), why }
}

fn verified(mut record: Record) -> Record {
    let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
    job.verified = true;
    record
}

/// What this device declares.
fn factory() -> Factory {
    let location = Location::File("/factory".into());
    Factory { image: Some(Artifact { version: None, location, sha256: None, size: None }), program: true }
}

/// A factory reset with image and program in `phase`.
fn reset(phase: Phase) -> Record {
    let mut record = Record::default();
    record.step(&facts("here", OLD), None, Event::FactoryReset(Origin::Local)).unwrap();
    let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
    (job.phase, job.trials, job.armed) = (phase, 1, true);
    record
}

/// One by its program alone.
fn imageless(phase: Phase) -> State {
    let State::Busy(mut job) = reset(phase).state else { panic!("no job") };
    job.plan = Plan::FactoryReset(Factory { image: None, program: true });
    (job.trials, job.armed) = (0, false);
    State::Busy(job)
}

/// Every phase where it is usually found: its record, and where that runs.
fn phases() -> Vec<(&'static str, Record, Slot)> {
    let why = || Failure::Unhealthy.because("sick");
    let since = here();
    vec![
        ("accepted", record(Phase::Accepted, 0), OLD),
        ("accepted, too dear", too_dear(), OLD),
        ("downloading", record(Phase::Downloading, 0), OLD),
        ("verifying", record(Phase::Verifying, 0), OLD),
        ("staged", verified(record(Phase::Staged, 0)), OLD),
        ("staged before a restart", record(Phase::Staged, 0), OLD),
        ("applying", record(Phase::Applying, 0), OLD),
        ("rebooting", record(Phase::Rebooting { since: since.clone() }, 1), OLD),
        ("rebooting, refused often", refused_often(), OLD),
        ("confirming", record(Phase::Confirming, 1), NEW),
        ("confirming the last trial", record(Phase::Confirming, Job::TRIALS), NEW),
        ("committing", record(Phase::Committing, 1), NEW),
        ("reset, accepted", reset(Phase::Accepted), OLD),
        ("reset, committing", reset(Phase::Committing), NEW),
        ("reset, resetting", reset(Phase::Resetting), NEW),
        ("reset, finishing", reset(Phase::Finishing { since: since.clone() }), NEW),
        ("no image, accepted", Record { state: imageless(Phase::Accepted), ..Record::default() }, OLD),
        ("no image, resetting", Record { state: imageless(Phase::Resetting), ..Record::default() }, OLD),
        ("rolling back, untried", record(Phase::RollingBack { why: why() }, 0), OLD),
        ("rolling back, on trial", record(Phase::RollingBack { why: why() }, 1), NEW),
        ("rolling back, tried", record(Phase::RollingBack { why: why() }, 1), OLD),
        ("returning", record(Phase::Returning { since, why: why() }, 1), NEW),
        ("idle", Record::default(), OLD),
        ("restarting", Record { state: State::Restarting { since: here() }, ..Record::default() }, OLD),
    ]
}

/// Every event, and where it happens if not where the phase is usually found.
fn events() -> Vec<(&'static str, Event, Option<Facts>)> {
    let image = Image { sha256: Sha256::of(b""), len: 0 };
    let declined = Event::Declined(UpdateId("nonsense".into()), Failure::RequestInvalid.because("no"));
    vec![
        ("process restarts", Event::Started, None),
        ("is reloaded", Event::Reloaded, None),
        ("boots into old", Event::Started, Some(facts("next", OLD))),
        ("overdue in trial", Event::Started, Some(Facts { overdue: Some(overdue()), ..facts("next", OLD) })),
        ("boots into new", Event::Started, Some(facts("next", NEW))),
        ("gate opens", Event::Proceed, None),
        ("written", Event::Written { image: image.clone(), seal: None }, None),
        ("sealed", Event::Written { image: image.clone(), seal: Some(seal("v2", 7)) }, None),
        ("sealed as other", Event::Written { image: image.clone(), seal: Some(seal("v3", 7)) }, None),
        ("too dear", Event::TooDear(COST), None),
        ("done", Event::Done, None),
        ("fails", failed(Failure::TargetIo), None),
        ("differs", failed(Failure::ReadbackMismatch), None),
        ("cancel", Event::Cancel, None),
        ("confirm", Event::Confirm, None),
        ("go back", Event::GoBack(Origin::Local), None),
        ("apply", Event::Apply(Origin::Local), None),
        ("reboot", Event::Reboot, None),
        ("factory reset", Event::FactoryReset(Origin::Local), None),
        ("hub reached", Event::HubReached, None),
        ("clock is set", Event::ClockSet, None),
        ("same wish", wish("v2"), None),
        ("newer wish", wish("v3"), None),
        ("bad wish", Event::Desired(bad_wish()), None),
        ("other terms", Event::Desired(Wish::Install(install("v2").on(held()))), None),
        ("no wish", Event::DesiredCleared, None),
        ("asked for same", Event::Asked(install("v2")), None),
        ("asked on terms", Event::Asked(install("v2").on(held())), None),
        ("asked for other", Event::Asked(install("v3")), None),
        ("retry", Event::Retry, None),
        ("asked nonsense", declined, None),
    ]
}

/// What a step did, in words.
fn outcome(before: &Record, after: &Record, answer: Result<(), Refused>) -> String {
    if let Err(refused) = answer {
        assert_eq!(before, after, "refused, yet changed");
        return format!("refused: {refused:?}");
    }
    let mut words = Vec::new();
    if after.last != before.last {
        words.push(match &after.last.as_ref().unwrap().outcome {
            Outcome::Failed(why) => format!("failed ({})", why.failure),
            Outcome::RolledBack(why) => format!("rolled back ({})", why.failure),
            other @ (Outcome::Succeeded | Outcome::UpToDate) => format!("{other:?}").to_lowercase(),
        });
    }
    match (before.state.job(), after.state.job()) {
        (Some(old), Some(new)) if old.id == new.id && old.phase.name() == new.phase.name() => {
            if old.steps_left != new.steps_left {
                words.push("again".into());
            } else if old != new {
                words.push("noted".into());
            }
        }
        (_, Some(new)) if before.state != after.state => {
            let why = match &new.phase {
                Phase::RollingBack { why } | Phase::Returning { why, .. } => format!(" ({})", why.failure),
                _ => String::new(),
            };
            let whose = if new.version == "v3".parse().ok() { "v3 " } else { "" };
            words.push(format!("{whose}{}{why}", new.phase.name()));
        }
        _ if before.state != after.state => words.push(format!("{:?}", after.state.work()).to_lowercase()),
        _ => {}
    }
    if words.is_empty() { "-".into() } else { words.join(", then ") }
}

fn table() -> String {
    let mut table = String::new();
    for (phase, record, booted) in phases() {
        for (name, event, place) in events() {
            let mut now = place.unwrap_or(facts("here", booted));
            if phase.starts_with("reset, resetting") || phase.starts_with("reset, finishing") {
                // Its system was committed.
                (now.default, now.trial) = (Some(NEW), None);
            }
            if let (Some(overdue), Some(job)) = (&mut now.overdue, record.state.job()) {
                overdue.trial = job.trials;
            }
            let mut after = record.clone();
            let answer = after.step(&now, None, event);
            table += &format!("{phase:<25} | {name:<16} | {}\n", outcome(&record, &after, answer));
        }
    }
    table
}

#[test]
fn every_event_in_every_phase() {
    let (found, wanted) = (table(), include_str!("table.txt"));
    println!("{found}");
    for (found, wanted) in found.lines().zip(wanted.lines()) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.lines().count(), wanted.lines().count());
}

fn run(record: &mut Record, now: &Facts, events: impl IntoIterator<Item = Event>) {
    for event in events {
        record.step(now, None, event).unwrap();
    }
}

/// The power may go after the bootloader was armed and before that was noted.
#[test]
fn p086_a_trial_counts_even_if_arming_was_not_noted() {
    let mut record = record(Phase::Applying, 0);
    run(&mut record, &facts("2", NEW), [Event::Started, failed(Failure::Unhealthy), Event::Done]);
    run(&mut record, &facts("3", OLD), [Event::Started, Event::Done]);
    assert!(
        matches!(record.last.unwrap().outcome, Outcome::RolledBack(why) if why.failure == Failure::Unhealthy)
    );
    assert_eq!(record.condemned, [install("v2").intent]);
}

/// The daemon was restarted right after it had armed it, and the power went before the next one could take that back.
#[test]
fn p086_a_trial_that_was_armed_before_a_restart_is_this_updates() {
    for phase in [Phase::Verifying, Phase::Staged] {
        let mut record = record(phase.clone(), 0);
        let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
        job.armed = true;
        run(&mut record, &facts("2", NEW), [Event::Started]);
        let job = record.state.job().unwrap();
        assert_eq!((record.state.work(), job.trials), (Work::CheckHealth, 1));
        run(&mut record, &facts("2", NEW), [failed(Failure::Unhealthy), Event::Done]);
        run(&mut record, &facts("3", OLD), [Event::Started, Event::Done]);
        let last = record.last.unwrap();
        assert!(matches!(last.outcome, Outcome::RolledBack(why) if why.failure == Failure::Unhealthy));
        assert_eq!(last.id, install("v2").id);
        // What it never armed is none of its own.
        let mut record = self::record(phase, 0);
        run(&mut record, &facts("2", NEW), [Event::Started]);
        assert_eq!(record.state.job().unwrap().plan, Plan::Rescue);
    }
}

/// Cleared and set again while the old attempt is still being stopped: the newest wish is to be fulfilled.
#[test]
fn a_wish_that_comes_again_after_it_was_cancelled_is_begun_again() {
    let old = facts("here", OLD);
    let mut record = record(Phase::Downloading, 0);
    run(&mut record, &old, [Event::DesiredCleared, wish("v2"), Event::Done]);
    assert_eq!(record.state.job().map(|job| job.phase.clone()), Some(Phase::Accepted));
}

/// The hub delivers a cancelled wish again at every connection; that is no new wish.
#[test]
fn a_cancelled_wish_is_not_begun_again_by_repetition() {
    let old = facts("here", OLD);
    let mut record = record(Phase::Downloading, 0);
    run(&mut record, &old, [Event::Cancel, wish("v2"), Event::Done, wish("v2")]);
    assert_eq!(record.state, State::Idle);
    assert!(record.wanted.unwrap().settled);
}

#[test]
fn a_reboot_that_is_refused_does_not_keep_updates_out() {
    let old = facts("here", OLD);
    let mut record = Record::default();
    run(&mut record, &old, [Event::Reboot, wish("v2")]);
    assert_eq!(record.state.work(), Work::Reboot);
    run(&mut record, &old, [failed(Failure::RebootRefused)]);
    assert_eq!(record.state.work(), Work::Await(Stage::Download));
}

/// The record of a commit may be lost with the newest generation; the commit is not.
#[test]
fn p086_what_the_bootloader_holds_committed_is_not_judged_again() {
    let rebooting = Phase::Rebooting { since: here() };
    for phase in [Phase::Applying, rebooting, Phase::Confirming, Phase::Committing] {
        let mut record = record(phase, 1);
        let now = Facts { default: Some(NEW), trial: None, ..facts("there", NEW) };
        record.step(&now, None, Event::Started).unwrap();
        assert_eq!(record.state.work(), Work::Commit(NEW));
        record.step(&now, None, Event::Done).unwrap();
        assert_eq!(record.last.as_ref().unwrap().outcome, Outcome::Succeeded);
    }
}

/// Written by 0.1.0, in the middle of an update that somebody had agreed to.
const OLD_RECORD: &str = r#"{"schema":1,"state":{"busy":{"id":"6a1f2f1c04a1a6ad","intent":"9d3bbd0a1c5fd2f0","origin":"desired",
"version":"v2","plan":{"install":{"version":"v2","location":{"url":"https://h/v2?sig=1"},
"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":7}},"target":"b","phase":"staged",
"image":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","len":0},"consented":true,
"hub_reached":true,"armed":false,"trials":0,"rewrites_left":1,"steps_left":197,
"times":{"accepted":1763700000000,"downloaded":1763700001000,"applying":null,"ended":null}}},
"wanted":{"wish":{"install":{"id":"6a1f2f1c04a1a6ad","intent":"9d3bbd0a1c5fd2f0","artifact":{"version":"v2",
"location":{"url":"https://h/v2?sig=1"},"sha256":null,"size":null},"origin":"desired"}},"settled":false},
"condemned":["1111111111111111"],"versions":{"a":"v1","b":null},"previous":null,"last":null,"reboot_time":null}"#;

/// An update of twinboot itself brings a daemon that finds the record of the one before it, and goes on with it.
#[test]
fn p084_a_record_of_an_older_version_is_read() {
    let record = Record::decode(OLD_RECORD.as_bytes()).unwrap();
    let job = record.state.job().unwrap();
    assert_eq!((job.consent, job.terms), (Some(Consent { by: Origin::Local, at: None }), Terms::default()));
    assert_eq!(record.tuning, Tuning::default());
    assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    let unasked = OLD_RECORD.replace("\"consented\":true", "\"consented\":false");
    assert_eq!(Record::decode(unasked.as_bytes()).unwrap().state.job().unwrap().consent, None);
}

/// And the other way: what a new system on trial wrote, the old one reads when it is back. It needs `consented`.
#[test]
fn p084_an_older_version_finds_what_it_needs_in_our_record() {
    let record = Record::decode(OLD_RECORD.as_bytes()).unwrap();
    let ours: serde_json::Value = serde_json::from_slice(&record.encode()).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(OLD_RECORD).unwrap();
    assert_holds(&ours, &theirs, "record");
}

/// Everything in `theirs` is in `ours`, too.
fn assert_holds(ours: &serde_json::Value, theirs: &serde_json::Value, place: &str) {
    let Some(members) = theirs.as_object() else { return assert_eq!(ours, theirs, "{place}") };
    for (name, theirs) in members {
        let ours = ours.get(name).unwrap_or_else(|| panic!("{place} has no {name}"));
        assert_holds(ours, theirs, &format!("{place}.{name}"));
    }
}

#[test]
fn the_first_consent_is_kept_with_its_time() {
    let old = facts("here", OLD);
    let mut record = record(Phase::Downloading, 0);
    record.step(&old, Some(Timestamp(7)), Event::Apply(Origin::Method)).unwrap();
    record.step(&old, Some(Timestamp(8)), Event::Apply(Origin::Desired)).unwrap();
    let consent = Some(Consent { by: Origin::Method, at: Some(Timestamp(7)) });
    assert_eq!(record.state.job().unwrap().consent, consent);
}

#[test]
fn tuning_is_remembered_and_replaced_as_a_whole() {
    let old = facts("here", OLD);
    let mut record = record(Phase::Downloading, 0);
    let state = record.state.clone();
    let tuning = Tuning { consent: Some(true), ..Tuning::default() };
    run(&mut record, &old, [Event::Tuned(tuning.clone())]);
    assert_eq!((&record.tuning, &record.state), (&tuning, &state));
    assert_eq!(Record::decode(&record.encode()).unwrap().tuning, tuning);
    run(&mut record, &old, [Event::Tuned(Tuning::default())]);
    assert_eq!(record.tuning, Tuning::default());
}

/// A device may be held for months, and be restarted every day: nothing is spent, and it still goes on.
#[test]
fn waiting_costs_nothing() {
    let mut record = verified(record(Phase::Staged, 0));
    let steps_left = record.state.job().unwrap().steps_left;
    for boot in 0..1000 {
        run(&mut record, &facts(&boot.to_string(), OLD), [Event::Started, wish("v2")]);
        assert_eq!(record.state.work(), Work::Await(Stage::Apply));
    }
    assert_eq!(record.state.job().unwrap().steps_left, steps_left);
    let now = facts("1000", OLD);
    run(&mut record, &now, [Event::Proceed]);
    assert_eq!(
        record.state.work(),
        Work::Verify(NEW),
        "what was read back before a restart is read back again"
    );
    run(&mut record, &now, [Event::Done, Event::Proceed]);
    assert_eq!(record.state.work(), Work::Arm(NEW));
}

/// The two-step by the twin: held, then the same without hold. Nothing is fetched again.
#[test]
fn other_terms_are_adopted() {
    let old = facts("here", OLD);
    let mut record = Record::default();
    let on = |terms: Terms| Event::Desired(Wish::Install(install("v2").on(terms)));
    run(&mut record, &old, [on(held()), Event::Proceed]);
    let before = record.state.job().unwrap().clone();
    run(&mut record, &old, [on(Terms::default())]);
    let job = record.state.job().unwrap().clone();
    assert_eq!((job.phase, job.terms, job.id), (Phase::Downloading, Terms::default(), install("v2").id));
    assert_eq!(job.steps_left, before.steps_left);
    // A consent that was given is not one to stricter terms.
    run(&mut record, &old, [Event::Apply(Origin::Method), on(Terms { consent: true, ..Terms::default() })]);
    assert_eq!(record.state.job().unwrap().consent, None);
    run(&mut record, &old, [Event::Apply(Origin::Method), on(Terms::default())]);
    assert!(record.state.job().unwrap().consent.is_some());
    assert!(!record.wanted.unwrap().settled);
}

#[test]
fn a_wish_that_makes_no_sense_stops_the_one_before_it_and_is_told() {
    let old = facts("here", OLD);
    let mut record = record(Phase::Downloading, 0);
    run(&mut record, &old, [Event::Desired(bad_wish()), Event::Done]);
    let last = record.last.clone().unwrap();
    assert!(matches!(last.outcome, Outcome::Failed(why) if why.failure == Failure::RequestInsecureUri));
    assert_eq!((record.state.work(), record.wanted.clone().unwrap().settled), (Work::Rest, true));
    // What was asked for by other means is not the hub's to stop.
    let local = Install { origin: Origin::Local, ..install("v3") };
    let mut record = Record::default();
    run(&mut record, &old, [Event::Asked(local), Event::Desired(bad_wish())]);
    assert_eq!(record.state.job().unwrap().version, "v3".parse().ok());
}

#[test]
fn a_factory_reset_runs_its_program_in_the_committed_system_and_reboots_once() {
    let image = Image { sha256: Sha256::of(b""), len: 0 };
    let (old, mut new) = (facts("1", OLD), facts("2", NEW));
    let mut record = Record { condemned: vec![install("v9").intent], ..Record::default() };
    run(
        &mut record,
        &old,
        [Event::FactoryReset(Origin::Method), Event::Proceed, Event::Written { image, seal: None }],
    );
    run(&mut record, &old, [Event::Done, Event::Proceed, Event::Done]);
    run(&mut record, &new, [Event::Started, Event::Done]);
    assert_eq!(record.state.work(), Work::Commit(NEW));
    run(&mut record, &new, [Event::Done]);
    (new.default, new.trial) = (Some(NEW), None);
    assert_eq!((record.state.work(), record.previous), (Work::Reset, Some(OLD)));
    run(&mut record, &new, [Event::Started]);
    assert_eq!(record.state.work(), Work::Reset, "cut short, it runs again");
    run(&mut record, &new, [Event::Done, Event::Started]);
    assert_eq!(record.state.work(), Work::Reboot);
    run(&mut record, &Facts { boot: BootId("3".into()), ..new }, [Event::Started]);
    let last = record.last.as_ref().unwrap();
    assert!(last.is_factory_reset() && last.outcome == Outcome::Succeeded);
    assert_eq!((record.state.work(), record.condemned.len()), (Work::Rest, 0));
}

#[test]
fn a_factory_reset_that_nobody_declared_is_refused() {
    let none = Facts { factory: Factory::default(), ..facts("1", OLD) };
    let mut record = Record::default();
    let refused = record.step(&none, None, Event::FactoryReset(Origin::Local));
    assert_eq!((refused, &record), (Err(Refused::NoFactoryReset), &Record::default()));
}

/// A stick that stays in is found again at each boot, and each of its trials ends with one.
#[test]
fn what_was_rolled_back_is_tried_again_when_somebody_means_it_and_not_when_it_was_only_found() {
    let asked = |terms: Terms| {
        let wish = Install { origin: Origin::Local, ..install("v9") }.on(terms);
        let mut record = Record { condemned: vec![wish.intent.clone()], ..Record::default() };
        record.step(&facts("here", OLD), None, Event::Asked(wish)).unwrap();
        record
    };
    let found = asked(Terms { unattended: true, ..Terms::default() });
    assert_eq!((&found.state, found.condemned.len()), (&State::Idle, 1));
    let Some(Ended { outcome: Outcome::Failed(why), .. }) = found.last else { panic!("{:?}", found.last) };
    assert_eq!(why.failure, Failure::RolledBackBefore);
    let meant = asked(Terms::default());
    assert!(meant.state.job().is_some() && meant.condemned.is_empty());
}

#[test]
fn without_a_version_nothing_is_up_to_date() {
    let nameless = Facts { version: None, ..facts("1", OLD) };
    let mut wanted = install("v2");
    wanted.artifact.version = None;
    let mut record = Record::default();
    run(&mut record, &nameless, [Event::Desired(Wish::Install(wanted))]);
    assert_eq!(record.state.work(), Work::Await(Stage::Download), "two unknown versions are not the same");
}

#[test]
fn only_the_default_that_runs_with_nothing_armed_is_committed() {
    let now = Facts { trial: None, ..facts("1", NEW) };
    assert!(!now.is_committed(), "the other slot boots by default");
    assert!(!Facts { default: None, ..now.clone() }.is_committed());
    assert!(Facts { default: Some(NEW), ..now.clone() }.is_committed());
    assert!(!Facts { default: Some(NEW), trial: Some(OLD), ..now }.is_committed());
}

#[test]
fn the_last_ones_that_were_rolled_back_are_remembered() {
    let known = |from: usize| (from..Record::CONDEMNED).map(|n| IntentId(n.to_string()));
    for (before, after) in [(1, 8), (0, 8)] {
        let mut record = Record { condemned: known(before).collect(), ..Record::default() };
        on_trial(&mut record, seal("v2", 0));
        run(&mut record, &facts("2", NEW), [failed(Failure::HealthTimeout), Event::Done]);
        run(&mut record, &Facts { trial: None, ..facts("3", OLD) }, [Event::Started, Event::Done]);
        assert_eq!((record.condemned.len(), &record.condemned[0]), (after, &IntentId("1".into())));
        assert!(record.condemned.contains(&install("v2").intent));
    }
}

/// From the old system into a trial of `v2`, whose bundle has this rollback index.
fn on_trial(record: &mut Record, seal: Seal) {
    let image = Image { sha256: Sha256::of(b""), len: 0 };
    let old = facts("1", OLD);
    run(record, &old, [wish("v2"), Event::Proceed, Event::Written { image, seal: Some(seal) }]);
    run(record, &old, [Event::Done, Event::Proceed, Event::Done]);
    run(record, &facts("2", NEW), [Event::Started]);
    assert_eq!(record.state.work(), Work::CheckHealth);
}

/// What is half written stays so until it runs for good, whatever else ends meanwhile.
#[test]
fn a_slot_that_an_update_began_to_write_is_no_way_back() {
    let old = facts("1", OLD);
    let old = Facts { trial: None, ..old };
    let mut record = Record { previous: Some(NEW), ..Record::default() };
    run(&mut record, &old, [Event::Started, wish("v2")]);
    assert_eq!(
        (record.state.work(), record.spoiled, record.previous),
        (Work::Await(Stage::Download), None, Some(NEW)),
        "nothing is written"
    );
    run(&mut record, &old, [Event::Proceed]);
    let is_given_up = (record.spoiled, record.previous) == (Some(NEW), None);
    assert_eq!((record.state.work(), is_given_up), (Work::Download(NEW), true));
    run(&mut record, &old, [failed(Failure::DownloadDigestMismatch), Event::Done]);
    run(&mut record, &old, [wish("v1"), Event::Started]);
    assert_eq!(record.last.as_ref().unwrap().outcome, Outcome::UpToDate);
    assert_eq!(record.spoiled, Some(NEW), "withdrawn, it is half an update all the same");

    let mut flashed = record.clone();
    let booted = Facts { default: Some(NEW), trial: None, ..facts("2", NEW) };
    run(&mut flashed, &booted, [Event::Started]);
    assert_eq!(flashed.spoiled, None, "somebody put a system there, and it runs by default");

    let mut record = Record::default();
    on_trial(&mut record, seal("v2", 0));
    assert_eq!(record.spoiled, Some(NEW));
    run(&mut record, &facts("2", NEW), [Event::Done, Event::Done]);
    assert_eq!((record.previous, record.spoiled), (Some(OLD), None), "committed");
}

#[test]
fn p038_a_trial_that_is_rolled_back_leaves_the_floor_where_it_was() {
    let mut record = Record { floor: 5, ..Record::default() };
    on_trial(&mut record, seal("v2", 9));
    assert_eq!(record.floor, 5);
    run(&mut record, &facts("2", NEW), [failed(Failure::Unhealthy), Event::Done]);
    run(&mut record, &facts("3", OLD), [Event::Started, Event::Done]);
    assert!(matches!(record.last.as_ref().unwrap().outcome, Outcome::RolledBack(_)));
    assert_eq!((record.state.work(), record.floor), (Work::Rest, 5));
}

#[test]
fn a_commit_raises_the_floor_and_lowers_it_with_the_signed_permission_alone() {
    let committed = |seal: Seal| {
        let mut record = Record { floor: 5, ..Record::default() };
        on_trial(&mut record, seal);
        run(&mut record, &facts("2", NEW), [Event::Done, Event::Done]);
        assert_eq!(record.last.as_ref().unwrap().outcome, Outcome::Succeeded);
        record
    };
    let mut record = committed(seal("v2", 9));
    assert_eq!(record.floor, 9);
    let committed_facts = Facts { default: Some(NEW), trial: None, ..facts("2", NEW) };
    assert_eq!(record.floor(&committed_facts), 9);
    assert_eq!(
        record.floor(&Facts { floor: Some(11), ..committed_facts.clone() }),
        11,
        "the record was lost once"
    );
    // What ran before was signed, too: it may be gone back to, and nothing older can be brought in that way.
    run(&mut record, &committed_facts, [Event::GoBack(Origin::Local)]);
    assert_eq!((record.state.work(), record.floor), (Work::Verify(OLD), 9));
    assert_eq!(committed(seal("v2", 3)).floor, 5, "however that came to be");
    assert_eq!(committed(Seal { allow_downgrade: true, ..seal("v2", 3) }).floor, 3);
}

#[test]
fn the_version_is_what_is_signed_where_the_request_told_none() {
    let old = facts("1", OLD);
    let image = Image { sha256: Sha256::of(b""), len: 0 };
    let mut nameless = install("v2");
    nameless.artifact.version = None;
    let mut record = Record::default();
    let written = Event::Written { image, seal: Some(seal("v2", 1)) };
    run(&mut record, &old, [Event::Asked(nameless), Event::Proceed, written]);
    let job = record.state.job().unwrap();
    assert_eq!((&job.version, &job.seal), (&"v2".parse().ok(), &Some(seal("v2", 1))));
    assert_eq!(Record::decode(&record.encode()).unwrap(), record);
}

/// What waits for consent to its cost.
fn waits(record: &Record, cap: u64) -> Option<Wait> {
    let now = Conditions { cap, ..Conditions::default() };
    gate(Stage::Download, record.state.job().unwrap(), &Rules::default(), &now).map(|gate| gate.wait)
}

#[test]
fn consent_for_one_cost_is_none_for_a_dearer_one() {
    let old = facts("1", OLD);
    let mut record = Record::default();
    let dear = |fetch| Event::TooDear(Cost { fetch, ..COST });
    run(&mut record, &old, [wish("v2"), Event::Proceed, dear(100)]);
    assert_eq!(waits(&record, 10), Some(Wait::Cost { cost: COST, allowed: 10, rate: 0 }));
    assert_eq!(waits(&record, 100), None, "the cap was raised meanwhile");
    assert_eq!(waits(&record, 0), None, "or there is none any more");
    // Neither a restart nor a reload changes that, nor costs a step, nor does the hub's standing agreement.
    let before = record.clone();
    run(&mut record, &facts("2", OLD), [Event::Started, Event::Reloaded, wish("v2")]);
    assert_eq!(record.state, before.state);
    assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    run(&mut record, &old, [Event::Apply(Origin::Desired)]);
    assert!(waits(&record, 10).is_some());
    run(&mut record, &old, [Event::Apply(Origin::Method), Event::Proceed]);
    let job = record.state.job().unwrap();
    assert_eq!((job.allowance(10), job.allowance(1000), job.allowance(0)), (105, 1000, 0));
    run(&mut record, &old, [dear(106)]);
    assert_eq!(
        waits(&record, 10),
        Some(Wait::Cost { cost: Cost { fetch: 106, ..COST }, allowed: 105, rate: 0 })
    );
    run(&mut record, &old, [Event::Apply(Origin::Local)]);
    assert_eq!(waits(&record, 10), None);
    // It was consent to the cost, and to nothing else.
    assert_eq!(record.state.job().unwrap().consent.map(|consent| consent.by), Some(Origin::Desired));
}

/// The slot was given up for it, and the hooks were told that it begins: stopping it is undoing it.
#[test]
fn what_was_found_too_dear_is_undone_when_it_is_stopped() {
    let old = facts("1", OLD);
    let newer = || wish("v3");
    for stop in [Event::Cancel, newer(), Event::DesiredCleared] {
        let mut record = Record::default();
        run(&mut record, &old, [wish("v2"), Event::Proceed, Event::TooDear(COST), stop]);
        assert_eq!(record.state.work(), Work::Revert(OLD));
        run(&mut record, &old, [Event::Done]);
        assert!(record.state.job().is_none_or(|job| job.cost.is_none() && job.cost_allowed.is_none()));
    }
}

/// It is about one trial of one update, in another boot than this one.
#[test]
fn what_the_guard_said_of_another_trial_counts_for_nothing() {
    let confirming = record(Phase::Confirming, 1);
    let after = |overdue: Overdue| {
        let mut record = confirming.clone();
        run(&mut record, &Facts { overdue: Some(overdue), ..facts("3", OLD) }, [Event::Started]);
        record.state.job().unwrap().phase.clone()
    };
    let undoing = after(overdue());
    let why = undoing.undoing().unwrap();
    assert_eq!(why.to_string(), "no verdict in time: twinboot.service: failed (health.timeout)");
    for stale in [
        Overdue { update: install("v1").id, ..overdue() },
        Overdue { trial: 2, ..overdue() },
        Overdue { slot: OLD, ..overdue() },
        Overdue { boot: BootId("3".into()), ..overdue() },
    ] {
        assert_eq!(after(stale), Phase::Verifying);
    }
}

/// No such record is ours, and yet it may lie there: it must not end the process at every start.
#[test]
fn p081_a_stored_count_of_trials_at_its_end_is_survived() {
    let mut stored = record(Phase::Applying, u8::MAX);
    stored.step(&facts("later", NEW), None, Event::Started).unwrap();
    let job = stored.state.job().unwrap();
    assert_eq!((&job.phase, job.trials), (&Phase::Confirming, u8::MAX));
    stored.step(&facts("back", OLD), None, Event::Started).unwrap();
    assert!(matches!(stored.state.job().unwrap().phase, Phase::RollingBack { .. }));
}
