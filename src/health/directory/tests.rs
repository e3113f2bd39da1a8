#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::health::program::Program;
use crate::health::{Deadline, judge};
use crate::model::Failure;

const LONG: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

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
            runner: Runner::Direct,
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
async fn p100_exit_status_is_the_verdict_and_the_end_of_the_output_the_reason() {
    let directory = Programs::new(&[
        ("10-well", "exit 0"),
        ("20-later", "echo no carrier; exit 75"),
        ("30-ill", "echo out; echo err >&2; exit 3"),
        ("40-crash", "kill -SEGV $$"),
        ("50-chatty", "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; exit 1"),
    ]);
    let said = ask_all(directory.checks()).await;
    assert_eq!(said[0], ("10-well".into(), "pass".into()));
    assert_eq!(said[1].1, "wait: no carrier");
    assert_eq!(said[2].1, "health check \"30-ill\" ended with exit status: 3: out err (health.failed)");
    assert!(said[3].1.contains("ended with signal: 11"), "{}", said[3].1);
    assert!(said[4].1.starts_with("health check \"50-chatty\" ended with exit status: 1: "), "{}", said[4].1);
    assert!(said[4].1.ends_with("line 4998 line 4999 (health.failed)"), "{}", said[4].1);
}

#[tokio::test]
async fn p117_names_are_names_and_never_commands() {
    let hostile = ["a;touch owned", "$(touch owned)", "with blank", "new\nline", "-rf", "`touch owned`"];
    let directory = Programs::new(&[]);
    for name in hostile {
        directory.add(name, "echo \"$0\" >> \"$(dirname \"$0\")/.ran\"");
    }
    let said = ask_all(directory.checks()).await;
    assert!(said.iter().all(|(_, verdict)| verdict == "pass"), "{said:?}");
    let ran = fs::read_to_string(directory.path(".ran")).unwrap();
    for name in hostile {
        assert!(ran.contains(directory.path(name).to_str().unwrap()), "{name}");
    }
    assert!(!directory.path("owned").exists() && !Path::new("/owned").exists());
}

#[tokio::test]
async fn the_environment_is_clean_and_there_is_no_input() {
    let directory = Programs::new(&[("x", "env | sort; pwd; cat; exit 1")]);
    let said = ask_all(directory.checks()).await.remove(0).1;
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
async fn p116_what_others_could_have_written_is_not_run_and_says_so() {
    let ran = "touch \"$(dirname \"$0\")/.ran\"";
    let directory = Programs::new(&[("group", ran), ("others", ran), ("plain", ran)]);
    let outside = Programs::new(&[("out", ran)]);
    mode(&directory.path("group"), 0o775);
    mode(&directory.path("others"), 0o757);
    mode(&directory.path("plain"), 0o644);
    symlink(outside.path("out"), directory.path("symlink")).unwrap();
    symlink("nowhere", directory.path("dangling")).unwrap();
    let said = ask_all(directory.checks()).await;
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
    assert!(!directory.path(".ran").exists() && !outside.path(".ran").exists());

    let directory = Programs::new(&[("fine", ran)]);
    mode(directory.0.path(), 0o777);
    let said = ask_all(directory.checks()).await;
    assert!(said.len() == 1 && said[0].1.contains("can be written by others (mode 777)"), "{said:?}");
    assert!(!directory.path(".ran").exists());
}

#[tokio::test]
async fn what_is_no_program_is_passed_over() {
    let directory = Programs::new(&[(".hidden", "exit 1"), ("x~", "exit 1"), ("x.dpkg-old", "exit 1")]);
    fs::create_dir(directory.path("data")).unwrap();
    let well = directory.add("well", "exit 0");
    symlink(&well, directory.path("again")).unwrap();
    let said = ask_all(directory.checks()).await;
    assert_eq!(said, [("again".into(), "pass".into()), ("well".into(), "pass".into())]);
    let absent = directory.path("absent");
    let settings =
        Settings { directory: absent, timeout: LONG, environment: Vec::new(), runner: Runner::Direct };
    assert!(programs(&settings).is_empty());
    let settings = Settings { directory: well, ..settings };
    assert_eq!(programs(&settings).len(), 1, "a file in place of the directory is a failure");
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
async fn p102_a_program_that_hangs_is_killed_with_its_children() {
    let marker = format!("twinboot-hang-{}", std::process::id());
    let directory = Programs::new(&[]);
    let path = directory.add("hang", &stubborn(&marker));
    let short = Duration::from_millis(300);
    let mut check = Program::new("hang".into(), path, short, Vec::new(), Runner::Direct).with_grace(short);
    let Verdict::Fail(reason) = check.run(LONG).await else { panic!("passed") };
    assert_eq!(reason.failure, Failure::HealthTimeout);
    assert!(reason.detail.starts_with("health check \"hang\" had no verdict within 300ms"), "{reason}");
    assert!(gone(&marker).await);
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let marker = format!("twinboot-leaves-{}", std::process::id());
    let child = format!("sh -c 'while :; do sleep 0.01; done' {marker} & exit 0");
    let directory = Programs::new(&[("leaves", &child)]);
    assert_eq!(ask_all(directory.checks()).await[0].1, "pass");
    assert!(gone(&marker).await);
}

#[tokio::test]
async fn a_dropped_answer_leaves_nothing_running() {
    let marker = format!("twinboot-dropped-{}", std::process::id());
    let directory = Programs::new(&[("hang", &stubborn(&marker))]);
    let mut checks = directory.checks();
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
async fn p102_the_deadline_reaches_a_running_program() {
    let marker = format!("twinboot-deadline-{}", std::process::id());
    let directory =
        Programs::new(&[("hang", &format!("exec sh -c 'while :; do sleep 0.01; done' {marker}"))]);
    let began = Instant::now();
    let short = Deadline::new(Duration::from_millis(300), || (began.elapsed(), Duration::ZERO));
    let reason = judge(&mut directory.checks(), short, PAUSE).await.unwrap_err();
    assert_eq!(reason.failure, Failure::HealthTimeout, "{reason}");
    assert!(began.elapsed() < LONG && gone(&marker).await);
}
