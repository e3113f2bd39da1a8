//! Reboots that do not happen, and times of day that are not known yet.

use super::*;

fn rebooting(trials: u8) -> Record {
    record(Phase::Rebooting { since: here() }, trials)
}

/// So often the machine would not reboot.
fn refused(record: &mut Record, times: u8) {
    let why = || Event::Failed(Failure::RebootRefused.because("inhibited"));
    run(record, &facts("here", OLD), (0..times).map(|_| why()));
}

fn ended(record: &Record) -> (bool, Failure) {
    match &record.last.as_ref().unwrap().outcome {
        Outcome::RolledBack(why) => (true, why.failure),
        Outcome::Failed(why) => (false, why.failure),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reboot_that_is_refused_again_and_again_is_no_trial() {
    let now = facts("here", OLD);
    let mut record = rebooting(1);
    refused(&mut record, Job::REBOOTS - 1);
    assert_eq!(record.state.work(), Work::Reboot, "it may be busy just now");
    refused(&mut record, 1);
    assert_eq!(record.state.work(), Work::Revert(OLD));
    run(&mut record, &now, [Event::Done]);
    assert_eq!(ended(&record), (false, Failure::RebootRefused));
    assert!(record.condemned.is_empty());
    run(&mut record, &now, [Event::Retry]);
    assert!(record.state.job().is_some());
}

/// The one before it had no verdict, either.
#[test]
fn a_reboot_that_is_refused_after_a_trial_that_was_cut_short_is_no_trial() {
    let mut record = record(Phase::Confirming, 1);
    let home = facts("here", OLD);
    run(&mut record, &home, [Event::Started, Event::Done, Event::Proceed, Event::Done]);
    assert_eq!(record.state.job().unwrap().trials, 2);
    refused(&mut record, Job::REBOOTS);
    run(&mut record, &home, [Event::Done]);
    assert_eq!(ended(&record), (false, Failure::RebootRefused));
    assert!(record.condemned.is_empty());
}

#[test]
fn a_reboot_that_was_refused_a_few_times_begins_a_trial_like_any() {
    let mut record = rebooting(1);
    refused(&mut record, Job::REBOOTS - 1);
    run(&mut record, &facts("next", OLD), [Event::Started, Event::Done]);
    assert_eq!(ended(&record), (true, Failure::BootFallback));
    assert_eq!(record.condemned, [install("v2").intent]);
    // And each trial has as many.
    let mut record = rebooting(1);
    refused(&mut record, Job::REBOOTS - 1);
    run(&mut record, &facts("trial", NEW), [Event::Started]);
    let home = facts("here", OLD);
    run(&mut record, &home, [Event::Started, Event::Done, Event::Proceed, Event::Done]);
    refused(&mut record, Job::REBOOTS - 1);
    assert_eq!(record.state.work(), Work::Reboot);
}

/// Restarted until no step is left, in the boot in which it was armed.
#[test]
fn what_never_left_its_boot_was_never_tried() {
    let here = facts("here", OLD);
    let mut record = rebooting(1);
    while record.state.work() == Work::Reboot {
        run(&mut record, &here, [Event::Started]);
    }
    run(&mut record, &here, [Event::Done]);
    assert_eq!(ended(&record), (false, Failure::Exhausted));
    assert!(record.condemned.is_empty());
}

#[test]
fn a_stored_count_of_refusals_at_its_end_is_survived() {
    let mut record = rebooting(1);
    let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
    job.refusals = u8::MAX;
    refused(&mut record, 1);
    assert_eq!(record.state.work(), Work::Revert(OLD));
    assert_eq!(Record::decode(&record.encode()).unwrap(), record);
}

#[test]
fn what_happened_before_the_clock_was_set_gets_its_date() {
    let mut record = Record { state: State::Restarting { since: here() }, ..Record::default() };
    record.reboot_time = Some(Timestamp(1));
    let back = facts("back", OLD);
    run(&mut record, &back, [Event::Started, Event::ClockSet]);
    assert_eq!((record.reboot_time, record.undated.reboot), (None, true), "it is still not known");
    assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    let dated = Facts { booted_at: Some(Timestamp(70)), ..back.clone() };
    record.step(&dated, Some(Timestamp(90)), Event::ClockSet).unwrap();
    assert_eq!((record.reboot_time, record.undated.is_nothing()), (Some(Timestamp(70)), true));

    run(&mut record, &back, [wish("v1")]);
    let ended = |record: &Record| record.last.as_ref().unwrap().times.ended;
    assert_eq!((ended(&record), record.undated.end), (None, true));
    let before = record.clone();
    record.step(&dated, Some(Timestamp(90)), Event::ClockSet).unwrap();
    assert_eq!((ended(&record), record.undated.is_nothing()), (Some(Timestamp(90)), true));
    assert!(record.newly_ended(&before).is_none(), "it did not end twice");
    assert_eq!(record.reboot_time, Some(Timestamp(70)), "which has its date");
    // What is known is known: a record of an older twinboot without a date keeps it so.
    let mut older = before;
    older.undated = Undated::default();
    let same = older.clone();
    older.step(&dated, Some(Timestamp(90)), Event::ClockSet).unwrap();
    assert_eq!(older, same);
}

/// The system that runs must not stay, and an end of its own would make it the one that is kept: what is wished for next
/// would be written over the other.
#[test]
fn the_way_back_is_asked_for_however_often_the_machine_refuses() {
    let trial = facts("trial", NEW);
    let mut record = record(Phase::Confirming, 1);
    run(&mut record, &trial, [failed(Failure::Unhealthy), Event::Done]);
    for _ in 0..400 {
        run(&mut record, &trial, [failed(Failure::RebootRefused), wish("v3"), Event::Started]);
        assert_eq!(record.state.work(), Work::Reboot);
    }
    run(&mut record, &facts("home", OLD), [Event::Started, Event::Done]);
    assert_eq!(ended(&record), (true, Failure::Unhealthy));
    assert_eq!(record.state.job().unwrap().id, install("v3").id);
}

#[test]
fn without_steps_the_way_back_has_its_reboot_all_the_same() {
    let why = Failure::Exhausted.because("too many steps");
    for event in [Event::Done, failed(Failure::BootUnwritable)] {
        let mut record = record(Phase::RollingBack { why: why.clone() }, 1);
        let State::Busy(job) = &mut record.state else { panic!("{record:?}") };
        job.steps_left = 0;
        run(&mut record, &facts("here", NEW), [event]);
        assert_eq!(record.state.work(), Work::Reboot);
        run(&mut record, &facts("home", OLD), [Event::Started]);
        assert_eq!((record.state.work(), ended(&record).1), (Work::Rest, Failure::Exhausted));
    }
}

#[test]
fn a_factory_reset_that_is_done_does_not_fail_for_want_of_its_last_reboot() {
    let home = Facts { default: Some(NEW), trial: None, ..facts("here", NEW) };
    let mut record = reset(Phase::Finishing { since: here() });
    for _ in 0..400 {
        run(&mut record, &home, [failed(Failure::RebootRefused), Event::Started]);
        assert_eq!(record.state.work(), Work::Reboot);
    }
    run(&mut record, &Facts { boot: BootId("next".into()), ..home }, [Event::Started]);
    assert_eq!(record.last.as_ref().unwrap().outcome, Outcome::Succeeded);
}
