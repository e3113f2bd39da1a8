//! What counts as a verdict: a trial that was cut short is none, and rules that came later are none either.

use super::*;

/// On trial, and before it was judged the power went: the old system runs, and reads the target back.
fn cut_short() -> Record {
    let mut record = record(Phase::Confirming, 1);
    record.step(&facts("later", OLD), None, Event::Started).unwrap();
    assert_eq!(record.state.work(), Work::Verify(NEW));
    record
}

fn refused_wish() -> Event {
    let reason = Failure::BundleUnsigned.because("not signed");
    Event::Desired(Wish::Invalid { id: install("v2").id, version: None, reason })
}

fn outcome_of(record: &Record) -> &Outcome {
    &record.last.as_ref().unwrap().outcome
}

#[test]
fn what_was_only_cut_short_is_not_condemned_when_it_cannot_be_fetched_again() {
    let mut record = cut_short();
    let now = facts("later", OLD);
    run(
        &mut record,
        &now,
        [failed(Failure::ReadbackMismatch), failed(Failure::DownloadHttpStatus), Event::Done],
    );
    assert!(
        matches!(outcome_of(&record), Outcome::Failed(why) if why.failure == Failure::DownloadHttpStatus)
    );
    assert!(record.condemned.is_empty());
    // With another address for the same image.
    run(&mut record, &now, [Event::Retry]);
    assert_eq!(record.state.work(), Work::Await(Stage::Download));
}

#[test]
fn what_was_only_cut_short_is_not_condemned_when_it_gives_way() {
    let mut record = cut_short();
    let now = facts("later", OLD);
    run(&mut record, &now, [Event::Done, wish("v3"), Event::Done]);
    assert!(record.condemned.is_empty());
    assert_eq!(record.state.job().unwrap().id, install("v3").id);
    run(&mut record, &now, [Event::DesiredCleared, wish("v2")]);
    assert_eq!(record.state.job().unwrap().id, install("v2").id);
}

#[test]
fn a_trial_after_one_that_was_cut_short_is_judged_like_any() {
    let mut record = cut_short();
    run(&mut record, &facts("later", OLD), [Event::Done, Event::Proceed, Event::Done]);
    run(&mut record, &facts("again", NEW), [Event::Started, failed(Failure::Unhealthy), Event::Done]);
    run(&mut record, &facts("home", OLD), [Event::Started, Event::Done]);
    assert!(matches!(outcome_of(&record), Outcome::RolledBack(why) if why.failure == Failure::Unhealthy));
    assert_eq!(record.condemned, [install("v2").intent]);
}

#[test]
fn rules_that_came_later_do_not_undo_what_was_installed() {
    let mut record = record(Phase::Committing, 1);
    run(&mut record, &facts("trial", NEW), [Event::Done]);
    assert_eq!(*outcome_of(&record), Outcome::Succeeded);
    let before = record.clone();
    run(&mut record, &facts("trial", NEW), [refused_wish(), wish("v2"), refused_wish()]);
    assert_eq!(record, before);
}

/// The new system brings root keys, and finds that its own wish is not signed.
#[test]
fn rules_that_came_with_the_new_system_do_not_judge_it() {
    let now = facts("trial", NEW);
    for (phase, verdict) in
        [(Phase::Confirming, Event::Done), (Phase::Confirming, failed(Failure::Unhealthy))]
    {
        let mut record = record(phase, 1);
        run(&mut record, &now, [refused_wish(), verdict.clone()]);
        if verdict == Event::Done {
            run(&mut record, &now, [Event::Done, refused_wish()]);
            assert_eq!(*outcome_of(&record), Outcome::Succeeded);
        } else {
            run(&mut record, &now, [Event::Done, refused_wish()]);
            run(&mut record, &facts("home", OLD), [Event::Started, Event::Done, wish("v2")]);
            assert!(matches!(outcome_of(&record), Outcome::RolledBack(_)), "{record:?}");
        }
        assert_eq!(record.state, State::Idle);
    }
}

/// Before anything is armed they do: what the device may not install is not installed.
#[test]
fn rules_that_came_while_it_was_downloaded_stop_it() {
    for phase in [Phase::Accepted, Phase::Downloading, Phase::Verifying, Phase::Staged] {
        let mut record = record(phase, 0);
        let now = facts("here", OLD);
        run(&mut record, &now, [refused_wish(), Event::Done]);
        assert!(
            matches!(outcome_of(&record), Outcome::Failed(why) if why.failure == Failure::BundleUnsigned)
        );
        assert_eq!(record.state, State::Idle);
        // And once they allow it again, it is wished for all the same.
        run(&mut record, &now, [wish("v2")]);
        assert_eq!(record.state.job().unwrap().id, install("v2").id);
    }
}
