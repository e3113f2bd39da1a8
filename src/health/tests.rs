#![allow(clippy::unwrap_used)]

use tokio::sync::watch;

use super::*;
use crate::model::Version;

const LONG: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Says what it is told to, then passes.
struct Scripted {
    name: &'static str,
    answers: Vec<Verdict>,
    asked: usize,
}

impl Scripted {
    fn boxed(name: &'static str, answers: &[Verdict]) -> Box<dyn Check> {
        Box::new(Self { name, answers: answers.to_vec(), asked: 0 })
    }
}

impl Check for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self, _: Duration) -> Answer<'_> {
        let verdict = self.answers.get(self.asked).cloned().unwrap_or(Verdict::Pass);
        self.asked += 1;
        Box::pin(std::future::ready(verdict))
    }
}

fn wait(why: &str) -> Verdict {
    Verdict::Wait(why.into())
}

/// The time since a boot that was `before` the test began, on the test's paused clock.
fn booted(before: Duration) -> impl Fn() -> Duration {
    let start = tokio::time::Instant::now();
    move || before + start.elapsed()
}

/// [`LONG`] after the boot on a machine that is never suspended.
fn awake(since_boot: impl Fn() -> Duration) -> Deadline<impl Fn() -> Uptime> {
    Deadline::new(LONG, move || (since_boot(), Duration::ZERO))
}

#[tokio::test(start_paused = true)]
async fn waiting_checks_are_asked_again_until_all_have_passed() {
    let mut checks = [
        Scripted::boxed("modem", &[wait("no carrier"), wait("no address")]),
        Scripted::boxed("quick", &[]),
        Scripted::boxed("last", &[wait("x")]),
    ];
    let clock = booted(Duration::ZERO);
    judge(&mut checks, awake(&clock), PAUSE).await.unwrap();
    assert_eq!(clock(), 2 * PAUSE);
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_decides() {
    let why = Failure::Unhealthy.because("broken");
    let asked = &[Verdict::Fail(Failure::Internal.because("never asked"))];
    let mut checks = [
        Scripted::boxed("slow", &[wait("x"), wait("x")]),
        Scripted::boxed("broken", &[wait("y"), Verdict::Fail(why.clone())]),
        Scripted::boxed("after", &[]),
    ];
    assert_eq!(judge(&mut checks, awake(booted(Duration::ZERO)), PAUSE).await, Err(why.clone()));
    let mut checks = [Scripted::boxed("broken", &[Verdict::Fail(why.clone())]), Scripted::boxed("b", asked)];
    assert_eq!(judge(&mut checks, awake(booted(Duration::ZERO)), PAUSE).await, Err(why));
}

#[tokio::test(start_paused = true)]
async fn p102_the_deadline_counts_from_the_boot_and_names_what_was_waited_for() {
    let for_ever = vec![wait("no carrier"); 1000];
    let clock = booted(Duration::from_secs(50));
    let mut checks = [Scripted::boxed("fine", &[]), Scripted::boxed("modem", &for_ever)];
    let reason = judge(&mut checks, awake(&clock), PAUSE).await.unwrap_err();
    assert_eq!(reason.failure, Failure::HealthTimeout);
    assert_eq!(reason.detail, "not healthy 60s after the boot: waited for modem (no carrier)");
    assert_eq!(clock(), LONG, "a late start gets no more time");

    let mut checks = [Scripted::boxed("fine", &[])];
    let reason = judge(&mut checks, awake(booted(LONG)), PAUSE).await.unwrap_err();
    assert!(reason.detail.ends_with("waited for fine (not asked in time)"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_never_answers_is_left_at_the_deadline() {
    struct Stuck;
    impl Check for Stuck {
        fn name(&self) -> &str {
            "stuck"
        }
        fn run(&mut self, _: Duration) -> Answer<'_> {
            Box::pin(std::future::pending())
        }
    }
    let clock = booted(Duration::ZERO);
    let reason = judge(&mut [Box::new(Stuck)], awake(&clock), PAUSE).await.unwrap_err();
    assert_eq!(reason.failure, Failure::HealthTimeout);
    assert_eq!(clock(), LONG + GRACE);
}

/// The clocks of a machine that booted when the test began, and is suspended once: after so long, for so long.
fn sleeper(after: u64, slept: Duration) -> impl Fn() -> Uptime {
    let start = tokio::time::Instant::now();
    move || {
        let awake = start.elapsed();
        let slept = if awake < Duration::from_secs(after) { Duration::ZERO } else { slept };
        (awake + slept, slept)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn p136_time_spent_in_suspend_counts_and_gives_a_grace_once() {
    let minute = Duration::from_secs(60);
    for (deadline, slept, awake) in [(600, HOUR, 130), (60, HOUR, 60), (600, minute, 540), (90, minute, 90)] {
        let began = tokio::time::Instant::now();
        let mut never = [Scripted::boxed("x", &vec![wait("x"); 1000])];
        let time = Deadline::new(Duration::from_secs(deadline), sleeper(10, slept));
        judge(&mut never, time, PAUSE).await.unwrap_err();
        assert_eq!(began.elapsed(), Duration::from_secs(awake), "{deadline} s, {slept:?}");
    }
    // What comes back with the machine is waited for, and what was not asked before is asked.
    for answers in [vec![wait("no carrier"); 100], vec![]] {
        let mut modem = [Scripted::boxed("modem", &answers)];
        judge(&mut modem, Deadline::new(10 * LONG, sleeper(0, HOUR)), PAUSE).await.unwrap();
    }
}

/// A daemon that is restarted has the grace anew, and never more time awake than without a suspend.
#[test]
fn awake_no_trial_has_more_time_than_its_deadline() {
    for (awake, left) in [(0, 120), (480, 120), (500, 100), (599, 1), (600, 0), (10_000, 0)] {
        let now = (HOUR + Duration::from_secs(awake), HOUR);
        assert_eq!(Deadline::new(10 * LONG, || now).left(), Duration::from_secs(left), "{awake}");
    }
    // The clocks are not read at once, which is no suspend.
    let now = (HOUR, Duration::from_millis(900));
    assert_eq!(Deadline::new(10 * LONG, || now).left(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_hub_is_to_blame_only_if_nothing_else_was_missing() {
    let hub = |reached| -> Box<dyn Check> {
        let (_, receiver) = watch::channel(reached);
        Box::new(Connected::new(HubMode::Required, false, receiver).unwrap())
    };
    let boot = || booted(Duration::ZERO);
    judge(&mut [hub(true)], awake(boot()), PAUSE).await.unwrap();
    let reason = judge(&mut [hub(false)], awake(boot()), PAUSE).await.unwrap_err();
    assert_eq!(reason.failure, Failure::HubUnreachable);
    assert!(reason.detail.ends_with("waited for hub (not connected)"), "{reason}");
    let for_ever = vec![wait("x"); 1000];
    let mut both = [hub(false), Scripted::boxed("modem", &for_ever)];
    assert_eq!(judge(&mut both, awake(boot()), PAUSE).await.unwrap_err().failure, Failure::HealthTimeout);
}

#[tokio::test(start_paused = true)]
async fn the_hub_may_come_late_and_counts_as_configured() {
    let (sender, receiver) = watch::channel(false);
    let mut checks: [Box<dyn Check>; 1] =
        [Box::new(Connected::new(HubMode::Auto, true, receiver.clone()).unwrap())];
    let clock = booted(Duration::ZERO);
    let connects = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        sender.send(true).unwrap();
    };
    let (verdict, ()) = tokio::join!(judge(&mut checks, awake(&clock), PAUSE), connects);
    verdict.unwrap();
    assert!(clock() <= Duration::from_secs(31));
    for (mode, before, made) in [
        (HubMode::Auto, true, true),
        (HubMode::Auto, false, false),
        (HubMode::Required, false, true),
        (HubMode::Ignored, true, false),
    ] {
        assert_eq!(Connected::new(mode, before, receiver.clone()).is_some(), made, "{mode:?} {before}");
    }
}

#[tokio::test]
async fn another_version_than_the_wanted_one_fails() {
    let version = |text: &str| Some(text.parse::<Version>().unwrap());
    assert!(
        RightVersion::new(version("1"), None).is_none() && RightVersion::new(None, version("1")).is_none()
    );
    let mut right = RightVersion::new(version("2"), version("2")).unwrap();
    assert_eq!(right.run(LONG).await, Verdict::Pass);
    let mut wrong = RightVersion::new(version("2"), version("1")).unwrap();
    let Verdict::Fail(reason) = wrong.run(LONG).await else { panic!("passed") };
    assert_eq!(reason.failure, Failure::WrongVersion);
}
