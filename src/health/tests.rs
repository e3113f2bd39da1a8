#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::watch;

use super::program::Program;
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

#[tokio::test(start_paused = true)]
async fn waiting_checks_are_asked_again_until_all_have_passed() {
    let mut checks = [
        Scripted::boxed("modem", &[wait("no carrier"), wait("no address")]),
        Scripted::boxed("quick", &[]),
        Scripted::boxed("last", &[wait("x")]),
    ];
    let clock = booted(Duration::ZERO);
    judge(&mut checks, LONG, PAUSE, &clock).await.unwrap();
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
    assert_eq!(judge(&mut checks, LONG, PAUSE, booted(Duration::ZERO)).await, Err(why.clone()));
    let mut checks = [Scripted::boxed("broken", &[Verdict::Fail(why.clone())]), Scripted::boxed("b", asked)];
    assert_eq!(judge(&mut checks, LONG, PAUSE, booted(Duration::ZERO)).await, Err(why));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_the_boot_and_names_what_was_waited_for() {
    let for_ever = vec![wait("no carrier"); 1000];
    let clock = booted(Duration::from_secs(50));
    let mut checks = [Scripted::boxed("fine", &[]), Scripted::boxed("modem", &for_ever)];
    let reason = judge(&mut checks, LONG, PAUSE, &clock).await.unwrap_err();
    assert_eq!(reason.failure, Failure::HealthTimeout);
    assert_eq!(reason.detail, "not healthy 60s after the boot: waited for modem (no carrier)");
    assert_eq!(clock(), LONG, "a late start gets no more time");

    let mut checks = [Scripted::boxed("fine", &[])];
    let reason = judge(&mut checks, LONG, PAUSE, booted(LONG)).await.unwrap_err();
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
    let reason = judge(&mut [Box::new(Stuck)], LONG, PAUSE, &clock).await.unwrap_err();
    assert_eq!(reason.failure, Failure::HealthTimeout);
    assert_eq!(clock(), LONG + GRACE);
}

#[tokio::test(start_paused = true)]
async fn time_spent_in_suspend_counts() {
    let for_ever = vec![wait("x"); 1000];
    let asked = Cell::new(0);
    let jumps = || {
        asked.set(asked.get() + 1);
        if asked.get() > 3 { LONG } else { Duration::ZERO }
    };
    let began = tokio::time::Instant::now();
    judge(&mut [Scripted::boxed("x", &for_ever)], LONG, PAUSE, jumps).await.unwrap_err();
    assert!(began.elapsed() <= PAUSE);
}

#[tokio::test(start_paused = true)]
async fn the_hub_is_to_blame_only_if_nothing_else_was_missing() {
    let hub = |reached| -> Box<dyn Check> {
        let (_, receiver) = watch::channel(reached);
        Box::new(Connected::new(HubMode::Required, false, receiver).unwrap())
    };
    let boot = || booted(Duration::ZERO);
    judge(&mut [hub(true)], LONG, PAUSE, boot()).await.unwrap();
    let reason = judge(&mut [hub(false)], LONG, PAUSE, boot()).await.unwrap_err();
    assert_eq!(reason.failure, Failure::HubUnreachable);
    assert!(reason.detail.ends_with("waited for hub (not connected)"), "{reason}");
    let for_ever = vec![wait("x"); 1000];
    let mut both = [hub(false), Scripted::boxed("modem", &for_ever)];
    assert_eq!(judge(&mut both, LONG, PAUSE, boot()).await.unwrap_err().failure, Failure::HealthTimeout);
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
    let (verdict, ()) = tokio::join!(judge(&mut checks, LONG, PAUSE, &clock), connects);
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

/// A directory of programs, safe unless a test makes it otherwise.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new(programs: &[(&str, &str)]) -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        mode(new.0.path(), 0o755);
        for (name, script) in programs {
            new.add(name, script);
        }
        new
    }

    /// Written by another process: had this one the file open for writing while a neighbouring test forks, running
    /// it would fail with "text file busy".
    fn add(&self, name: &str, script: &str) -> PathBuf {
        let path = self.0.path().join(name);
        let mut writer = std::process::Command::new("/bin/sh");
        writer.args(["-c", "printf '#!/bin/sh\\n%s' \"$1\" > \"$0\""]).arg(&path).arg(script);
        assert!(writer.status().unwrap().success());
        mode(&path, 0o755);
        path
    }

    fn checks(&self) -> Vec<Box<dyn Check>> {
        programs(&Settings {
            directory: self.0.path().to_owned(),
            timeout: LONG,
            environment: vec![("TWINBOOT_SLOT".into(), "b".into())],
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Asks every check once; a failure's detail instead of its whole.
async fn ask_all(mut checks: Vec<Box<dyn Check>>) -> Vec<(String, String)> {
    let mut said = Vec::new();
    for check in &mut checks {
        let verdict = match check.run(LONG).await {
            Verdict::Pass => "pass".into(),
            Verdict::Wait(why) => format!("wait: {why}"),
            Verdict::Fail(reason) => reason.to_string(),
        };
        said.push((check.name().to_owned(), verdict));
    }
    said
}

#[tokio::test]
async fn exit_status_is_the_verdict_and_the_end_of_the_output_the_reason() {
    let programs = Programs::new(&[
        ("10-well", "exit 0"),
        ("20-later", "echo no carrier; exit 75"),
        ("30-ill", "echo out; echo err >&2; exit 3"),
        ("40-crash", "kill -SEGV $$"),
        ("50-chatty", "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; exit 1"),
    ]);
    let said = ask_all(programs.checks()).await;
    assert_eq!(said[0], ("10-well".into(), "pass".into()));
    assert_eq!(said[1].1, "wait: no carrier");
    assert_eq!(said[2].1, "health check \"30-ill\" ended with exit status: 3: out err (health.failed)");
    assert!(said[3].1.contains("ended with signal: 11"), "{}", said[3].1);
    assert!(said[4].1.starts_with("health check \"50-chatty\" ended with exit status: 1: "), "{}", said[4].1);
    assert!(said[4].1.ends_with("line 4998 line 4999 (health.failed)"), "{}", said[4].1);
}

#[tokio::test]
async fn names_are_names_and_never_commands() {
    let hostile = ["a;touch owned", "$(touch owned)", "with blank", "new\nline", "-rf", "`touch owned`"];
    let programs = Programs::new(&[]);
    for name in hostile {
        programs.add(name, "echo \"$0\" >> \"$(dirname \"$0\")/.ran\"");
    }
    let said = ask_all(programs.checks()).await;
    assert!(said.iter().all(|(_, verdict)| verdict == "pass"), "{said:?}");
    let ran = fs::read_to_string(programs.path(".ran")).unwrap();
    for name in hostile {
        assert!(ran.contains(programs.path(name).to_str().unwrap()), "{name}");
    }
    assert!(!programs.path("owned").exists() && !Path::new("/owned").exists());
}

#[tokio::test]
async fn the_environment_is_clean_and_there_is_no_input() {
    let programs = Programs::new(&[("x", "env | sort; pwd; cat; exit 1")]);
    let said = ask_all(programs.checks()).await.remove(0).1;
    // PWD, OLDPWD and _ are the shell's own doing.
    let shown: Vec<_> = said.split(": 1: ").nth(1).unwrap().split_whitespace().collect();
    let shown: Vec<_> =
        shown.into_iter().filter(|it| !it.starts_with("PWD=") && !it.starts_with("_=")).collect();
    assert_eq!(
        shown,
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TWINBOOT_SLOT=b",
            "/",
            "(health.failed)"
        ]
    );
}

#[tokio::test]
async fn what_others_could_have_written_is_not_run_and_says_so() {
    let ran = "touch \"$(dirname \"$0\")/.ran\"";
    let programs = Programs::new(&[("group", ran), ("others", ran), ("plain", ran)]);
    let outside = Programs::new(&[("out", ran)]);
    mode(&programs.path("group"), 0o775);
    mode(&programs.path("others"), 0o757);
    mode(&programs.path("plain"), 0o644);
    symlink(outside.path("out"), programs.path("symlink")).unwrap();
    symlink("nowhere", programs.path("dangling")).unwrap();
    let said = ask_all(programs.checks()).await;
    let wanted = [
        ("dangling", "cannot be read"),
        ("group", "can be written by others (mode 775): chmod go-w"),
        ("others", "can be written by others (mode 757): chmod go-w"),
        ("plain", "cannot be executed: chmod 755 it"),
        ("symlink", "put the program itself there"),
    ];
    assert_eq!(said.len(), wanted.len());
    for ((name, verdict), (wanted_name, why)) in said.iter().zip(wanted) {
        assert_eq!(name, wanted_name);
        assert!(verdict.contains(why), "{verdict}");
    }
    assert!(!programs.path(".ran").exists() && !outside.path(".ran").exists());

    let programs = Programs::new(&[("fine", ran)]);
    mode(programs.0.path(), 0o777);
    let said = ask_all(programs.checks()).await;
    assert!(said.len() == 1 && said[0].1.contains("can be written by others (mode 777)"), "{said:?}");
    assert!(!programs.path(".ran").exists());
}

#[tokio::test]
async fn what_is_no_program_is_passed_over() {
    let programs = Programs::new(&[(".hidden", "exit 1"), ("x~", "exit 1"), ("x.dpkg-old", "exit 1")]);
    fs::create_dir(programs.path("data")).unwrap();
    let well = programs.add("well", "exit 0");
    symlink(&well, programs.path("again")).unwrap();
    let said = ask_all(programs.checks()).await;
    assert_eq!(said, [("again".into(), "pass".into()), ("well".into(), "pass".into())]);
    let settings = Settings { directory: programs.path("absent"), timeout: LONG, environment: Vec::new() };
    assert!(super::programs(&settings).is_empty());
    let settings = Settings { directory: well, ..settings };
    assert_eq!(super::programs(&settings).len(), 1, "a file in place of the directory is a failure");
}

/// Whether any process has `marker` among its arguments.
fn alive(marker: &str) -> bool {
    let has = |entry: fs::DirEntry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(marker)
    };
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(has)
}

/// Waits until the kernel has taken the killed away, for it does that in its own time.
async fn gone(marker: &str) -> bool {
    let began = Instant::now();
    while alive(marker) && began.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    !alive(marker)
}

/// A program that ignores the request to end, as does its child, both with `marker` among their arguments.
fn stubborn(marker: &str) -> String {
    let loops = "trap \"\" TERM; while :; do sleep 0.01; done";
    format!("trap '' TERM\nsh -c '{loops}' {marker} &\nexec sh -c '{loops}' {marker}")
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_its_children() {
    let marker = format!("twinboot-hang-{}", std::process::id());
    let programs = Programs::new(&[]);
    let path = programs.add("hang", &stubborn(&marker));
    let short = Duration::from_millis(300);
    let mut check = Program::new("hang".into(), path, short, Vec::new()).with_grace(short);
    let Verdict::Fail(reason) = check.run(LONG).await else { panic!("passed") };
    assert_eq!(reason.failure, Failure::HealthTimeout);
    assert!(reason.detail.starts_with("health check \"hang\" had no verdict within 300ms"), "{reason}");
    assert!(gone(&marker).await);
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let marker = format!("twinboot-leaves-{}", std::process::id());
    let child = format!("sh -c 'while :; do sleep 0.01; done' {marker} & exit 0");
    let programs = Programs::new(&[("leaves", &child)]);
    assert_eq!(ask_all(programs.checks()).await[0].1, "pass");
    assert!(gone(&marker).await);
}

#[tokio::test]
async fn a_dropped_answer_leaves_nothing_running() {
    let marker = format!("twinboot-dropped-{}", std::process::id());
    let programs = Programs::new(&[("hang", &stubborn(&marker))]);
    let mut checks = programs.checks();
    let answer = checks[0].run(LONG);
    let up = async {
        while !alive(&marker) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        verdict = answer => panic!("{verdict:?}"),
        () = up => {}
    }
    assert!(gone(&marker).await);
}

#[tokio::test]
async fn the_deadline_reaches_a_running_program() {
    let marker = format!("twinboot-deadline-{}", std::process::id());
    let programs = Programs::new(&[("hang", &format!("exec sh -c 'while :; do sleep 0.01; done' {marker}"))]);
    let began = Instant::now();
    let short = Duration::from_millis(300);
    let reason = judge(&mut programs.checks(), short, PAUSE, || began.elapsed()).await.unwrap_err();
    assert_eq!(reason.failure, Failure::HealthTimeout, "{reason}");
    assert!(began.elapsed() < LONG && gone(&marker).await);
}
