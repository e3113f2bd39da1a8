//! Real programs, run in both ways. The service manager is played here by two scripts; what the real one makes of the
//! same command is the affair of the tier `packages`.
#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use super::*;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

/// `systemd-run`: has the program behind `--` run as its properties say, and is done.
const SYSTEMD_RUN: &str = r#"
here=$(dirname "$0")
printf '%s\n' "$@" > "$here/asked"
if [ -e "$here/refuses" ]; then cat "$here/refuses" >&2; exit 1; fi
set_env=
while [ "$1" != -- ]; do
    case $1 in
        --unit=*) unit=${1#*=} ;;
        --setenv=*) set_env="$set_env ${1#*=}" ;;
        --property=StandardInput=null) in=/dev/null ;;
        --property=StandardInput=file:*) in=${1#*file:} ;;
        --property=StandardOutput=file:*) out=${1#*file:} ;;
        --property=StandardError=inherit) err=$out ;;
        --property=StandardError=file:*) err=${1#*file:} ;;
        --property=ExecStopPost=*) token=${1#*/bin/echo } token=${token%% *} ;;
    esac
    shift
done
shift
setsid "$here/manager" "$here/$unit" "$token" "$in" "$out" "$err" env -i $set_env "$@" >/dev/null 2>&1 &
# Until it has left our process group, which ends with us.
while [ ! -e "$here/$unit.begun" ]; do sleep 0.01; done
rm "$here/$unit.begun"
"#;

/// The service manager: runs a program in a session of its own, then says how it ended.
const MANAGER: &str = r#"
unit=$1 token=$2 in=$3 out=$4 err=$5
shift 5
: > "$unit.begun"
setsid sh -c 'echo $$ > "$0"; exec "$@"' "$unit" "$@" <"$in" >"$out" 2>"$err" &
wait $!
status=$?
case $status in
    143) said='success killed TERM' ;;
    137) said='signal killed KILL' ;;
    0) said='success exited 0' ;;
    *) said="exit-code exited $status" ;;
esac
kill -s KILL -- "-$(cat "$unit")" 2>/dev/null
rm "$unit"
[ ! -e "$out" ] || echo "$token $said" > "$out"
"#;

/// `systemctl stop UNIT` and `systemctl kill --signal=SIGKILL UNIT`. The first time it is told to kill, the signal that is
/// to end its caller hits it, too.
const SYSTEMCTL: &str = r#"
here=$(dirname "$0")
echo "$*" >> "$here/told"
if [ "$2" = kill ] && [ ! -e "$here/hit" ]; then
    : > "$here/hit"
    kill -TERM $$
fi
for unit in "$here"/${4:-$3}; do
    [ -e "$unit" ] || continue
    leader=$(cat "$unit")
    [ "$2" = kill ] || kill -s TERM -- "-$leader"
    [ "$2" = kill ] || sleep 0.3
    kill -s KILL -- "-$leader"
done 2>/dev/null
"#;

/// A directory of programs, and of the tools of a played service manager.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(new.0.path(), Permissions::from_mode(0o755)).unwrap();
        new.add("systemd-run", SYSTEMD_RUN);
        new.add("systemctl", SYSTEMCTL);
        new.add("manager", MANAGER);
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Written by another process: had this one the file open for writing while a neighbouring test forks, running
    /// it would fail with "text file busy".
    fn add(&self, name: &str, script: &str) -> PathBuf {
        let path = self.path(name);
        let mut writer = std::process::Command::new("/bin/sh");
        writer.args(["-c", "printf '#!/bin/sh\\n%s' \"$1\" > \"$0\""]).arg(&path).arg(script);
        assert!(writer.status().unwrap().success());
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn systemd(&self) -> Runner {
        let (run, ctl) = (self.path("systemd-run"), self.path("systemctl"));
        Runner::Systemd(Manager::with(self.path("pipes"), run, ctl, Some("twinboot.service".into())))
    }

    /// Nothing of a run is left: no pipe, no process.
    async fn is_clean(&self, marker: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while alive(marker) {
            assert!(Instant::now() < until, "{marker} is still there");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left: Vec<_> = fs::read_dir(self.path("pipes")).into_iter().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Whether any process has `marker` among its arguments.
fn alive(marker: &str) -> bool {
    let has = |entry: fs::DirEntry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(marker)
    };
    fs::read_dir("/proc").unwrap().flatten().any(has)
}

fn task<'a>(path: &'a Path, environment: &'a [(String, String)]) -> Task<'a> {
    Task {
        purpose: Purpose::Health,
        name: "10-app",
        path,
        arguments: &[],
        environment,
        input: None,
        keep: Keep::Tail,
        limit: LONG,
        grace: SHORT,
    }
}

/// How a run went, in a line.
async fn told(runner: &Runner, task: &Task<'_>) -> String {
    match runner.run(task).await {
        Ok(ran) => ran.trouble(task.limit).unwrap_or_else(|| format!("well: {}", ran.tail)),
        Err(why) => why.to_string(),
    }
}

#[tokio::test]
async fn both_ways_tell_the_same() {
    let bench = Bench::new();
    for (script, wanted) in [
        ("echo fine", "well: fine"),
        ("echo out; echo err >&2; exit 75", "ended with exit status: 75: out\nerr"),
        ("exit 143", "ended with exit status: 143"),
        ("i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; exit 1", "line 29999"),
        ("kill -TERM $$", "ended with signal: 15 (SIGTERM)"),
        ("test \"$TWINBOOT_SLOT\" = b && test -z \"$HOME\" && pwd && cat", "well: /"),
    ] {
        let path = bench.add("program", script);
        let environment = [("TWINBOOT_SLOT".to_owned(), "b".to_owned())];
        for runner in [Runner::Direct, bench.systemd()] {
            let found = told(&runner, &task(&path, &environment)).await;
            // The played manager cannot tell a status from a signal.
            let wanted = if matches!(runner, Runner::Systemd(_)) && script == "exit 143" {
                "ended with signal: 15 (SIGTERM)"
            } else {
                wanted
            };
            assert!(found == wanted || wanted.starts_with("line") && found.ends_with(wanted), "{found}");
        }
        bench.is_clean("no such marker").await;
    }
}

#[tokio::test]
async fn an_answer_is_the_whole_of_standard_output_and_nothing_else() {
    let bench = Bench::new();
    for (script, wanted) in [
        ("cat; echo aside >&2", Some("input of it\n")),
        ("printf 1234567890123456", Some("1234567890123456")),
        ("printf 12345678901234567", None),
        (":", Some("")),
    ] {
        let path = bench.add("program", script);
        let task = Task {
            input: Some(b"input of it\n"),
            keep: Keep::Answer(16),
            arguments: &["get"],
            ..task(&path, &[])
        };
        for runner in [Runner::Direct, bench.systemd()] {
            let ran = runner.run(&task).await.unwrap();
            assert_eq!(ran.answer.as_deref(), wanted.map(str::as_bytes), "{script}");
            assert_eq!(ran.tail, if script.contains("aside") { "aside" } else { "" });
        }
    }
}

#[tokio::test]
async fn what_takes_too_long_is_ended_with_all_that_it_started() {
    let bench = Bench::new();
    for (n, runner) in [Runner::Direct, bench.systemd()].into_iter().enumerate() {
        let marker = format!("marker-{}-{n}", std::process::id());
        let path =
            bench.add("program", &format!("trap '' TERM\nsh -c 'sleep 60; : {marker}' & echo hm; wait"));
        let task = Task { limit: Duration::from_secs(1), ..task(&path, &[]) };
        assert_eq!(told(&runner, &task).await, "did not end within 1s: hm");
        bench.is_clean(&marker).await;
    }
}

#[tokio::test]
async fn nothing_stays_of_what_is_given_up() {
    let bench = Bench::new();
    for (n, runner) in [Runner::Direct, bench.systemd()].into_iter().enumerate() {
        let marker = format!("given-up-{}-{n}", std::process::id());
        let path = bench.add("program", &format!("trap '' TERM\nsh -c 'sleep 60; : {marker}' & wait"));
        let task = task(&path, &[]);
        tokio::select! {
            ran = runner.run(&task) => panic!("{ran:?}"),
            () = async { while !alive(&marker) { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
        }
        bench.is_clean(&marker).await;
    }
}

#[tokio::test]
async fn a_manager_that_refuses_says_nothing_about_the_program() {
    let bench = Bench::new();
    let path = bench.add("program", "exit 0");
    fs::write(bench.path("refuses"), "Transaction is destructive.\n").unwrap();
    let why = bench.systemd().run(&task(&path, &[])).await.unwrap_err();
    assert_eq!(why, NotRun::NotNow("Transaction is destructive.".into()));
    bench.is_clean("no such marker").await;
    let missing = Manager::with(bench.path("pipes"), "/nonexistent".into(), bench.path("systemctl"), None);
    let why = Runner::Systemd(missing).run(&task(&path, &[])).await.unwrap_err();
    assert!(matches!(&why, NotRun::Never(why) if why.contains("systemd-run cannot be run")), "{why:?}");
}

#[tokio::test]
async fn what_is_no_program_is_told_as_that() {
    let bench = Bench::new();
    let path = bench.path("program");
    fs::write(&path, "#!/nonexistent/interpreter\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(Runner::Direct.run(&task(&path, &[])).await, Err(NotRun::Never(_))));
    let strange = bench.path("100%");
    let why = bench.systemd().run(&task(&strange, &[])).await.unwrap_err();
    assert!(matches!(&why, NotRun::Never(why) if why.contains("rename it")), "{why:?}");
    assert!(!bench.path("asked").exists(), "the service manager was not even asked");
}

#[tokio::test]
async fn the_service_manager_is_asked_for_a_unit_that_ends_by_itself() {
    let bench = Bench::new();
    let path = bench.add("program", "exit 0");
    let environment = [("TWINBOOT_VERSION".to_owned(), "2.0-$HOME-%n".to_owned())];
    let runner = bench.systemd();
    let reset = Task { purpose: Purpose::FactoryReset, arguments: &["x"], ..task(&path, &environment) };
    assert_eq!(told(&runner, &reset).await, "well: ");
    let asked = fs::read_to_string(bench.path("asked")).unwrap();
    for line in [
        "--collect",
        "--unit=twinboot-program-factory-reset.service",
        "--property=KillMode=control-group",
        "--property=TimeoutStopSec=300ms",
        "--property=RuntimeMaxSec=90300ms",
        "--property=Before=twinboot.service",
        "--setenv=TWINBOOT_VERSION=2.0-$HOME-%n",
    ] {
        assert!(asked.lines().any(|it| it == line), "{line} is not in\n{asked}");
    }
    assert!(asked.ends_with(&format!("--\n{}\nx\n", path.display())), "{asked}");
    // What was left behind is stopped once, before the first program.
    assert_eq!(told(&runner, &task(&path, &[])).await, "well: ");
    let told = fs::read_to_string(bench.path("told")).unwrap();
    assert_eq!(told, "--no-ask-password stop twinboot-program-*.service\n");
    let asked = fs::read_to_string(bench.path("asked")).unwrap();
    assert!(asked.contains(&format!("--unit=twinboot-program-health-10-app-{}.", std::process::id())));
}
