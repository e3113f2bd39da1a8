#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A directory of hooks, and a file that they write to.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        mode(new.0.path(), 0o755);
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Written by another process: had this one the file open for writing while a neighbouring test forks, running
    /// it would fail with "text file busy".
    fn add(&self, stage: Stage, name: &str, script: &str) -> PathBuf {
        let directory = self.path(stage.name());
        fs::create_dir_all(&directory).unwrap();
        mode(&directory, 0o755);
        let (path, log) = (directory.join(name), self.path("log"));
        let mut writer = std::process::Command::new("/bin/sh");
        writer.args(["-c", "printf '#!/bin/sh\\necho %s >> %s\\n%s' \"$1\" \"$2\" \"$3\" > \"$0\""]);
        assert!(writer.arg(&path).arg(name).arg(log).arg(script).status().unwrap().success());
        mode(&path, 0o755);
        path
    }

    fn hooks(&self) -> Hooks {
        let directory = self.0.path().to_owned();
        Hooks { directory, timeout: Duration::from_secs(2), ask_again: LONG, runner: Runner::Direct }
    }

    async fn ask(&self, stage: Stage) -> Result<Said, String> {
        let environment = [("TWINBOOT_SLOT".to_owned(), "b".to_owned())];
        self.hooks().ask(stage, &environment, LONG).await.map_err(|why| why.to_string())
    }

    /// Which ran since this was asked last.
    fn ran(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        log.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_stage_goes_on_when_all_of_its_hooks_do() {
    let bench = Bench::new();
    assert!(!bench.hooks().exist(Stage::PreArm));
    assert_eq!(bench.ask(Stage::PreArm).await, Ok(Said::Go));
    bench.add(Stage::PreArm, "20-save", "test \"$TWINBOOT_STAGE $TWINBOOT_SLOT\" = 'pre-arm b'");
    bench.add(Stage::PreArm, "10-ask", "exit 0");
    bench.add(Stage::PreArm, "30-old.dpkg-old", "exit 1");
    bench.add(Stage::PreDownload, "10-other", "exit 1");
    assert!(bench.hooks().exist(Stage::PreArm));
    assert_eq!(bench.ask(Stage::PreArm).await, Ok(Said::Go));
    assert_eq!(bench.ran(), "10-ask 20-save");
}

#[tokio::test]
async fn the_first_that_does_not_ends_it_and_is_named() {
    let bench = Bench::new();
    bench.add(Stage::PreArm, "10-ask", "exit 0");
    bench.add(Stage::PreArm, "20-busy", "echo production until 14:30; exit 75");
    bench.add(Stage::PreArm, "30-stop", "exit 0");
    let later = Said::Later("hook pre-arm/20-busy: production until 14:30".into());
    assert_eq!(bench.ask(Stage::PreArm).await, Ok(later));
    assert_eq!(bench.ran(), "10-ask 20-busy");
    bench.add(Stage::PreArm, "20-busy", "exit 75");
    assert_eq!(bench.ask(Stage::PreArm).await, Ok(Said::Later("hook pre-arm/20-busy: not now".into())));
    for (script, why) in [
        ("echo no disk >&2; exit 3", "hook pre-arm/20-busy ended with exit status: 3: no disk (hook.failed)"),
        ("kill -KILL $$", "hook pre-arm/20-busy ended with signal: 9 (SIGKILL) (hook.failed)"),
        ("exec sleep 60", "hook pre-arm/20-busy did not end within 2s (hook.failed)"),
    ] {
        bench.add(Stage::PreArm, "20-busy", script);
        bench.ran();
        assert_eq!(bench.ask(Stage::PreArm).await, Err(why.into()));
        assert_eq!(bench.ran(), "10-ask 20-busy");
    }
}

#[tokio::test]
async fn p116_what_must_not_be_run_is_not_passed_over() {
    let bench = Bench::new();
    let path = bench.add(Stage::PostBoot, "10-migrate", "exit 0");
    mode(&path, 0o777);
    let why = bench.ask(Stage::PostBoot).await.unwrap_err();
    assert!(why.contains("can be written by others") && why.contains("hook.failed"), "{why}");
    mode(&path, 0o755);
    mode(&bench.path("post-boot"), 0o777);
    assert!(bench.ask(Stage::PostBoot).await.unwrap_err().contains("chmod go-w"));
    assert_eq!(bench.ran(), "");
    let complaints = bench.hooks().tell(Stage::PostBoot, &[]).await;
    assert!(complaints.len() == 1 && complaints[0].contains("chmod go-w"), "{complaints:?}");
}

#[tokio::test]
async fn where_nothing_depends_on_it_all_are_run_and_what_went_wrong_is_told() {
    let bench = Bench::new();
    bench.add(Stage::PostCommit, "10-ill", "echo no; exit 1");
    bench.add(Stage::PostCommit, "20-later", "exit 75");
    bench.add(Stage::PostCommit, "30-well", "exit 0");
    let complaints = bench.hooks().tell(Stage::PostCommit, &[]).await;
    assert_eq!(bench.ran(), "10-ill 20-later 30-well");
    assert_eq!(
        complaints,
        [
            "hook post-commit/10-ill ended with exit status: 1: no",
            "hook post-commit/20-later: not now (nothing waits for it any more)"
        ]
    );
}
