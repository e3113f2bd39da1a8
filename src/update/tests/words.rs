//! The same thing in other words: on other terms, at another address. What it came to holds for it all the same.

use super::*;

/// The same thing at another address, as with a new token: the same intent by another name.
fn reworded(version: &str) -> Install {
    let mut artifact = install(version).artifact;
    artifact.location = Location::Url(format!("https://h/{version}?sig=2").parse().unwrap());
    let reworded = Install::new(artifact, Origin::Desired, None);
    assert_eq!(reworded.intent, install(version).intent);
    assert_ne!(reworded.id, install(version).id);
    reworded
}

fn wish_again(version: &str) -> Event {
    Event::Desired(Wish::Install(reworded(version)))
}

/// Somebody holds this one device at what the hub wishes for.
fn hold() -> Event {
    Event::Asked(Install { origin: Origin::Method, ..install("v2").on(held()) })
}

fn outcome_of(record: &Record) -> &Outcome {
    &record.last.as_ref().unwrap().outcome
}

fn code_of(record: &Record) -> Option<Failure> {
    match outcome_of(record) {
        Outcome::Failed(why) | Outcome::RolledBack(why) => Some(why.failure),
        Outcome::Succeeded | Outcome::UpToDate => None,
    }
}

#[test]
fn a_wish_that_somebody_holds_has_one_end() {
    let old = facts("here", OLD);
    for (end, code) in
        [(Event::Cancel, Failure::Cancelled), (failed(Failure::TargetReadOnly), Failure::TargetReadOnly)]
    {
        for phase in [Phase::Accepted, Phase::Downloading, Phase::Verifying, Phase::Staged] {
            let mut record = record(phase, 0);
            run(&mut record, &old, [hold()]);
            let job = record.state.job().unwrap();
            assert_eq!((&job.id, job.terms), (&install("v2").id, held()));
            run(&mut record, &old, [end.clone(), Event::Done, wish("v2")]);
            assert_eq!((&record.state, code_of(&record)), (&State::Idle, Some(code)));
            assert!(record.wanted.unwrap().settled);
        }
    }
    let mut record = verified(record(Phase::Staged, 0));
    run(&mut record, &old, [hold(), Event::Apply(Origin::Method), Event::Proceed, Event::Done]);
    run(&mut record, &facts("trial", NEW), [Event::Started, Event::Done, Event::Done]);
    assert_eq!((&record.state, outcome_of(&record)), (&State::Idle, &Outcome::Succeeded));
}

/// The hub gave it another token before or after: whoever cancels means it in any words that were heard by then.
#[test]
fn what_is_cancelled_is_not_begun_again_in_the_words_it_had_by_then() {
    let old = facts("here", OLD);
    for phase in [Phase::Downloading, Phase::Staged, Phase::Applying] {
        let mut record = record(phase, 0);
        run(&mut record, &old, [wish_again("v2"), Event::Cancel, Event::Done, wish_again("v2")]);
        assert_eq!(record.state, State::Idle);
        let mut record = self::record(Phase::Applying, 0);
        run(&mut record, &old, [Event::Cancel, wish_again("v2"), Event::Done]);
        assert_eq!(record.state.job().unwrap().id, reworded("v2").id, "it is newer than the cancel");
    }
}

/// What was asked for by another name than the hub's goes by its own.
#[test]
fn what_the_hub_did_not_wish_for_is_adopted_by_its_own_name() {
    let mut record = Record::default();
    let asked = Event::Asked(Install { origin: Origin::Method, ..install("v2") });
    run(&mut record, &facts("here", OLD), [asked, hold()]);
    assert_eq!(record.state.job().unwrap().id, install("v2").on(held()).id);
}

/// On trial, while the hub gives the address a new token.
fn on_trial_reworded() -> Record {
    let mut record = record(Phase::Confirming, 1);
    run(&mut record, &facts("trial", NEW), [wish_again("v2")]);
    record
}

#[test]
fn a_verdict_is_the_end_of_the_wish_in_whatever_words() {
    let mut record = on_trial_reworded();
    run(&mut record, &facts("trial", NEW), [failed(Failure::Unhealthy), Event::Done]);
    run(&mut record, &facts("home", OLD), [Event::Started, Event::Done, wish_again("v2")]);
    assert!(matches!(outcome_of(&record), Outcome::RolledBack(why) if why.failure == Failure::Unhealthy));
    assert_eq!((record.state.work(), record.wanted.unwrap().settled), (Work::Rest, true));

    let mut record = on_trial_reworded();
    run(&mut record, &facts("trial", NEW), [Event::Done, Event::Done, wish_again("v2")]);
    assert_eq!((record.state.work(), outcome_of(&record)), (Work::Rest, &Outcome::Succeeded));
}

/// The new words may be the remedy.
#[test]
fn what_failed_is_tried_in_the_new_words() {
    let old = facts("here", OLD);
    let mut record = record(Phase::Applying, 0);
    run(&mut record, &old, [wish_again("v2"), failed(Failure::TargetIo), Event::Done]);
    assert_eq!(code_of(&record), Some(Failure::TargetIo));
    assert_eq!(record.state.job().unwrap().id, reworded("v2").id);
}

/// Whoever tells of both looks halfway through the step.
#[test]
fn two_ends_in_one_step_are_both_there_to_be_told() {
    let now = facts("home", OLD);
    let mut record = record(Phase::RollingBack { why: Failure::Unhealthy.because("sick") }, 1);
    record.wanted = None;
    run(&mut record, &now, [Event::Desired(bad_wish())]);
    let before = record.clone();
    record.heed(&now, None, Event::Done).unwrap();
    let between = record.clone();
    record.consider(&now, None);
    let told = |old: &Record, new: &Record| new.newly_ended(old).map(|_| code_of(new).unwrap());
    assert_eq!(told(&before, &between), Some(Failure::Unhealthy));
    assert_eq!(told(&between, &record), Some(Failure::RequestInsecureUri));
    assert_eq!(told(&record, &record), None);
}

/// `v2` runs for good.
fn committed() -> (Record, Facts) {
    let mut record = Record::default();
    on_trial(&mut record, seal("v2", 0));
    run(&mut record, &facts("2", NEW), [Event::Done, Event::Done]);
    assert_eq!(*outcome_of(&record), Outcome::Succeeded);
    let now = Facts { default: Some(NEW), trial: None, version: "v2".parse().ok(), ..facts("2", NEW) };
    (record, now)
}

/// The old system, which was gone back to.
fn gone_back(record: &mut Record) -> Facts {
    let trial = Facts { default: Some(NEW), trial: Some(OLD), ..facts("3", OLD) };
    run(record, &trial, [Event::Started, Event::Done, Event::Done]);
    assert!(record.last.as_ref().unwrap().is_going_back() && *outcome_of(record) == Outcome::Succeeded);
    Facts { trial: None, ..facts("3", OLD) }
}

#[test]
fn what_was_sent_away_does_not_come_back_with_a_new_token() {
    let (mut record, new) = committed();
    run(&mut record, &new, [Event::GoBack(Origin::Method), Event::Done, Event::Proceed, Event::Done]);
    let home = gone_back(&mut record);
    run(&mut record, &home, [wish_again("v2")]);
    assert_eq!((record.state.work(), code_of(&record)), (Work::Rest, Some(Failure::RolledBackBefore)));
    // Anything else is no such thing, and who means it is obeyed.
    let mut other = record.clone();
    run(&mut other, &home, [wish("v3")]);
    assert_eq!(other.state.job().unwrap().id, install("v3").id);
    run(&mut record, &home, [Event::Retry]);
    assert_eq!(record.state.job().unwrap().id, reworded("v2").id);
}

#[test]
fn a_new_token_does_not_keep_what_is_being_sent_away() {
    for before_arming in [true, false] {
        let (mut record, new) = committed();
        let armed = [Event::Done, Event::Proceed, Event::Done];
        run(&mut record, &new, [Event::GoBack(Origin::Method)]);
        if before_arming {
            run(&mut record, &new, [wish_again("v2")]);
        }
        run(&mut record, &new, armed);
        if !before_arming {
            run(&mut record, &new, [wish_again("v2")]);
        }
        let home = gone_back(&mut record);
        run(&mut record, &home, [wish_again("v2"), wish("v2")]);
        assert_eq!((record.state.work(), code_of(&record)), (Work::Rest, Some(Failure::RolledBackBefore)));
    }
}

/// What the hub wished for long ago is not what was sent away.
#[test]
fn only_what_was_left_is_sent_away() {
    let (mut record, new) = committed();
    let wish = Wish::Install(install("v0"));
    record.wanted = Some(Wanted { wish, settled: true });
    run(&mut record, &new, [Event::GoBack(Origin::Method), Event::Done, Event::Proceed, Event::Done]);
    let home = gone_back(&mut record);
    assert!(record.condemned.is_empty());
    run(&mut record, &home, [wish_again("v0")]);
    assert_eq!(record.state.job().unwrap().id, reworded("v0").id);
}

#[test]
fn what_was_sent_back_on_trial_does_not_come_back_with_a_new_token() {
    let mut record = record(Phase::Confirming, 1);
    run(&mut record, &facts("trial", NEW), [Event::GoBack(Origin::Local), Event::Done]);
    let home = facts("home", OLD);
    run(&mut record, &home, [Event::Started, Event::Done]);
    assert!(matches!(outcome_of(&record), Outcome::RolledBack(why) if why.failure == Failure::Cancelled));
    run(&mut record, &home, [wish_again("v2")]);
    assert_eq!((record.state.work(), code_of(&record)), (Work::Rest, Some(Failure::RolledBackBefore)));
    run(&mut record, &home, [Event::Asked(install("v2"))]);
    assert_eq!(record.state.job().unwrap().id, install("v2").id);
}

/// Both were there to be seen, and only what comes after the cancel is newer.
#[test]
fn who_cancels_what_gives_way_to_another_wish_stops_both() {
    let old = facts("here", OLD);
    let mut record = record(Phase::Downloading, 0);
    run(&mut record, &old, [wish("v3"), Event::Cancel, Event::Done, wish("v3")]);
    assert_eq!((&record.state, code_of(&record)), (&State::Idle, Some(Failure::Cancelled)));
    assert!(record.wanted.as_ref().unwrap().settled);
    run(&mut record, &old, [wish("v4")]);
    assert_eq!(record.state.job().unwrap().id, install("v4").id);
    // What makes no sense is begun by nobody, and told all the same.
    let mut record = self::record(Phase::Downloading, 0);
    run(&mut record, &old, [Event::Desired(bad_wish()), Event::Cancel, Event::Done]);
    assert_eq!((&record.state, code_of(&record)), (&State::Idle, Some(Failure::RequestInsecureUri)));
}
