#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use clap::CommandFactory as _;
use serde_json::{Value, json};

use super::progress::{Screen, Style};
use super::view::{View, bytes, time};
use super::watch::follow_on;
use super::*;
use crate::control::proto::{self, Response};
use crate::model::{Artifact, Install, Location, Origin, Request, Terms};

fn arguments(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(std::iter::once("twinboot").chain(line.split_whitespace()))
}

fn asked(line: &str) -> Result<Request, String> {
    request::request(&arguments(line).unwrap().command)
}

#[test]
fn the_command_line_is_sound_and_promises_its_exit_codes() {
    Arguments::command().debug_assert();
    let help = Arguments::command().render_help().to_string();
    for exit in ["0  done", "1  refused", "2  the command line", "3  the daemon cannot be reached"] {
        assert!(help.contains(exit), "{help}");
    }
    for verb in "run guard status install download apply cancel confirm rollback retry reboot reload factory-reset properties check-config doctor".split(' ') {
        assert!(help.contains(&format!("\n  {verb} ")), "{verb}: {help}");
    }
    assert_eq!(arguments("status").unwrap().config, Path::new("/etc/twinboot/twinboot.toml"));
    assert_eq!(arguments("status --config /x").unwrap().config, Path::new("/x"));
    assert_eq!(arguments("--config /x status").unwrap().config, Path::new("/x"));
    for wrong in
        ["", "stauts", "install", "install x --sha256 12", "status x", "install x --version-label a\u{e9}"]
    {
        assert_eq!(arguments(wrong).unwrap_err().exit_code(), 2, "{wrong}");
    }
}

#[test]
fn verbs_become_requests() {
    for (line, request) in [
        ("cancel", Request::Cancel),
        ("confirm", Request::Confirm),
        ("rollback", Request::Rollback),
        ("apply", Request::Apply),
        ("retry", Request::Retry),
        ("reboot", Request::Reboot),
        ("reload", Request::Reload),
        ("factory-reset --yes", Request::FactoryReset),
        ("properties", Request::ReadProperties(Vec::new())),
        ("properties get", Request::ReadProperties(Vec::new())),
        ("properties get uptime kernel", Request::ReadProperties(vec!["uptime".into(), "kernel".into()])),
        ("properties set limit 5", Request::WriteProperties([("limit".to_owned(), json!(5))].into())),
        ("properties set on true", Request::WriteProperties([("on".to_owned(), json!(true))].into())),
        ("properties set site north", Request::WriteProperties([("site".to_owned(), json!("north"))].into())),
        ("properties set site \"7\"", Request::WriteProperties([("site".to_owned(), json!("7"))].into())),
    ] {
        assert_eq!(asked(line), Ok(request));
    }
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let wanted = Artifact {
        version: "2.8.5".parse().ok(),
        location: Location::Url("https://h/x?sig=1".parse().unwrap()),
        sha256: digest.parse().ok(),
        size: None,
    };
    let line = format!("install https://h/x?sig=1 --sha256 {digest} --version-label 2.8.5");
    let wanted = Install::new(wanted, Origin::Local, None);
    assert_eq!(asked(&line), Ok(Request::Install(Box::new(wanted.clone()))));
    let held = wanted.on(Terms { hold: true, ..Terms::default() });
    for line in [line.replacen("install", "download", 1), format!("{line} --hold")] {
        assert_eq!(asked(&line), Ok(Request::Install(Box::new(held.clone()))));
    }
    assert_eq!(asked("install http://h/x"), Err("Insecure package URI".into()));

    let Ok(Request::Install(install)) = asked("install Cargo.toml") else { panic!("not a request") };
    let file = std::env::current_dir().unwrap().join("Cargo.toml");
    assert_eq!(install.artifact.location, Location::File(file));
    assert!(asked("install no-such-file").unwrap_err().contains("No such file"));
    assert_eq!(asked("install src"), Err("src is a directory".into()));
}

#[test]
fn signed_only_takes_what_the_daemon_takes_for_a_bundle_and_a_medium_is_named_alone() {
    let why = asked("install Cargo.toml --signed-only").unwrap_err();
    assert!(why.contains("does not end in .twb"), "{why}");
    assert!(asked("install https://h/x.img --signed-only").is_err());
    assert!(asked("install https://h/x.twb?sig=1 --signed-only --wait").is_ok());
    assert!(arguments("install --from-medium /media/x --signed-only --wait").is_ok());
    assert!(arguments("download --from-medium /media/x").is_ok());
    for wrong in [
        "install --signed-only",
        "install x.twb --from-medium /media/x",
        "install --from-medium /media/x --version-label 1",
    ] {
        assert_eq!(arguments(wrong).unwrap_err().exit_code(), 2, "{wrong}");
    }
}

/// A daemon that is asked to install something, and then watched.
fn installing(path: &Path, statuses: Vec<Value>) -> std::thread::JoinHandle<Request> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let mut asked = None;
        // What it knows, which decides between bundles; what is asked for; and how that goes.
        let knows = vec![Response::status(json!({"phase": "idle", "floor": 3}))];
        let goes = statuses.iter().cloned().map(Response::status).collect();
        for answers in [knows, vec![Response::done("begun")], goes] {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            reader.read_until(b'\n', &mut line).unwrap();
            let request = proto::parse(&line).unwrap();
            if !request.only_asks() {
                asked = Some(request);
            }
            for answer in answers {
                let _ = reader.get_ref().write_all(&answer.to_line());
            }
        }
        asked.unwrap()
    })
}

#[test]
fn waiting_ends_when_the_file_is_not_needed_any_more_or_the_update_is_over() {
    let digest = crate::model::Sha256::of(b"head");
    for (last, wanted) in [
        (json!({"phase": "staged"}), Exit::Done),
        (json!({"phase": "applying"}), Exit::Done),
        (ended("up-to-date"), Exit::Done),
        (ended("failed"), Exit::Failed),
        (ended("rolled-back"), Exit::Failed),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (socket, config) = (directory.path().join("s"), directory.path().join("twinboot.toml"));
        std::fs::write(&config, format!("[control]\nsocket = {socket:?}\n")).unwrap();
        let verifying = json!({"phase": "verifying"});
        let daemon =
            installing(&socket, vec![json!({"phase": "accepted"}), downloading(5), verifying, last.clone()]);
        let Command::Install { image, hold } =
            arguments("install --from-medium /media --wait").unwrap().command
        else {
            panic!()
        };
        let found = Artifact {
            version: "2.8.5".parse().ok(),
            location: Location::File("/media/x.twb".into()),
            sha256: Some(digest),
            size: Some(7),
        };
        let chosen = Chosen { artifact: found.clone(), told: vec!["x.twb: this is the one".into()] };
        let config = Config::load(&config).unwrap();
        let exit = request::install(&image, hold, &config, |_, medium, status| {
            assert_eq!((medium, &status["floor"]), (Path::new("/media"), &json!(3)));
            Ok(chosen)
        });
        assert_eq!(exit, wanted, "{last}");
        // Nobody meant it just now, and that goes along.
        let terms = Terms { unattended: true, ..Terms::default() };
        let request = Install::new(found, Origin::Local, None).on(terms);
        assert_eq!(daemon.join().unwrap(), Request::Install(Box::new(request)));
    }
    let config = Config::default();
    let Command::Install { image, hold } = arguments("install --from-medium /media").unwrap().command else {
        panic!()
    };
    let nobody = request::install(&image, hold, &config, |_, _, _| panic!("nothing is known to choose by"));
    assert_eq!(nobody, Exit::Unreachable);
}

fn downloading(percent: u64) -> Value {
    json!({
        "phase": "downloading", "booted": "a", "default": "a", "trial": null,
        "version": {"running": "2.8.4", "pending": "2.8.5"},
        "update": {"id": "00ff", "origin": "desired", "version": "2.8.5", "target": "b", "steps_left": 60},
        "gate": null,
        "progress": {"fetched": percent << 20, "total": 100 << 20, "written": 0, "fetched_twice": 0,
                     "rate": 1_572_864.0, "percent": percent},
        "last": null, "hub": {"connected": true, "since": "2026-11-21T05:41:57.000Z"},
        "warnings": ["one copy of the environment is bad"]
    })
}

fn ended(outcome: &str) -> Value {
    json!({"phase": "idle", "booted": "a", "default": "a", "version": {"running": "2.8.4"},
           "last": {"version": "2.8.5", "outcome": outcome, "code": "health.failed",
                    "detail": "check \u{1b}[31mx failed", "ended": "2026-11-21T05:41:57.000Z"}})
}

#[test]
fn the_status_is_a_block_to_read() {
    let block = |status: &Value| status::block(View(status));
    assert_eq!(
        block(&downloading(40)),
        "running   2.8.4 from slot a\n\
         update    2.8.5 (00ff) to slot b, wanted by the hub, 60 steps left\n\
         phase     downloading 40 %, 40.0 MiB of 100.0 MiB, 1.5 MiB/s, 0:40 left\n\
         hub       connected since 2026-11-21T05:41:57.000Z\n\
         warning   one copy of the environment is bad"
    );
    assert_eq!(
        block(&ended("rolled-back")),
        "running   2.8.4 from slot a\n\
         phase     idle\n\
         last      2.8.5 was rolled back at 2026-11-21T05:41:57.000Z: check  [31mx failed (health.failed)"
    );
    let trusted = json!({"phase": "idle", "booted": "a", "trust": {"keys": ["aa", "bb"], "threshold": 2, "epoch": 3}, "floor": 7});
    assert_eq!(
        block(&trusted),
        "running   slot a\nphase     idle\ntrust     2 of root keys aa, bb; epoch 3, rollback index 7 or higher"
    );
    let trial = json!({"phase": "confirming", "booted": "b", "default": "a", "trial": "b", "gate": "x\ny"});
    assert_eq!(block(&trial), "running   slot b, on trial\nphase     confirming\ngate      x y");
    let cost = json!({"fetch": 3 << 20, "write": 12 << 20, "full": 112 << 20});
    for dear in [
        json!({"phase": "accepted", "gate": "waiting", "update": {"cost": cost}}),
        json!({"phase": "accepted", "gate": "waiting", "progress": {"plan": cost}}),
    ] {
        let shown = block(&dear);
        assert!(shown.contains("\ncosts     3.0 MiB to fetch of 112.0 MiB, 12.0 MiB to write"), "{shown}");
    }
    let slots = json!({"phase": "idle", "booted": "a", "slots": {
        "a": [{"name": "LABEL=x", "device": "/dev/sda1", "size": 1 << 20}, {"name": "LABEL=y", "device": "/dev/sda2"}],
        "b": [{"name": "LABEL=z", "problem": "not there"}],
    }});
    assert_eq!(
        block(&slots),
        "running   slot a\nphase     idle\nslot a    /dev/sda1 (1.0 MiB), /dev/sda2\nslot b    not there"
    );
    let allowed =
        json!({"phase": "staged", "update": {"consent": {"by": "method", "at": "2026-11-21T00:00:00.000Z"}}});
    let shown = block(&allowed);
    assert!(shown.contains("\nallowed   by a direct method at 2026-11-21T00:00:00.000Z"), "{shown}");
    for odd in [json!(null), json!([]), json!({}), json!({"phase": 1, "progress": "x", "last": [], "hub": 5})]
    {
        assert!(block(&odd).contains("phase"), "{odd}");
    }
}

#[test]
fn the_status_tells_how_long_fetching_takes_and_of_keys_that_cannot_be_used() {
    let block = |status: &Value| status::block(View(status));
    let cost = json!({"fetch": 3 << 20, "write": 12 << 20, "full": 112 << 20});
    for timed in [
        json!({"phase": "accepted", "update": {"cost": cost, "cost_seconds": 48}}),
        json!({"phase": "downloading", "update": {}, "progress":
            {"plan": cost, "plan_seconds": 48, "fetched": 1, "total": 1 << 30, "rate": 10}}),
    ] {
        let shown = block(&timed);
        assert!(shown.contains("3.0 MiB to fetch of 112.0 MiB in some 48 s, 12.0 MiB to write"), "{shown}");
        assert!(!shown.contains("left"), "bytes of the image are not to be fetched: {shown}");
    }
    let broken = json!({"phase": "idle", "trust": {"keys": [], "threshold": null, "problem": "the root keys x", "epoch": 0}});
    assert!(
        block(&broken).contains("trust     the root keys x; nothing that has to be signed"),
        "{}",
        block(&broken)
    );
}

#[test]
fn amounts_are_short() {
    for (n, text) in
        [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 30, "1.0 GiB"), (u64::MAX, "16777216.0 TiB")]
    {
        assert_eq!(bytes(n), text);
    }
    assert_eq!([time(0), time(61), time(3601)], ["0:00", "1:01", "1:00:01"]);
    let odd = json!({"progress": {"fetched": 5, "total": 0, "rate": -1.0, "percent": 250}});
    assert_eq!(View(&odd).percent(), Some(100));
    let odd = json!({"progress": {"fetched": 9, "total": 4}});
    assert_eq!(View(&odd).percent(), Some(100));
}

fn shown(style: Style, statuses: &[Value]) -> String {
    let mut out = Vec::new();
    let mut screen = Screen::new(&mut out, style);
    for status in statuses {
        screen.progress(View(status)).unwrap();
    }
    screen.line("end").unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_terminal_line_is_redrawn_and_never_wider_than_the_terminal() {
    let wide = Style::Live { width: 100, colour: false };
    let statuses = [downloading(0), downloading(50), downloading(50), downloading(100)];
    let text = shown(wide, &statuses);
    let redrawn: Vec<_> = text.split('\r').collect();
    assert_eq!(redrawn.len(), 4, "the same line is not drawn twice: {text:?}");
    assert_eq!(
        redrawn[2],
        "downloading  [############------------]  50 %  50.0 MiB of 100.0 MiB, 1.5 MiB/s, 0:33 left\u{1b}[K"
    );
    assert!(text.ends_with("\u{1b}[K\nend\n"), "{text:?}");
    let narrow = shown(Style::Live { width: 20, colour: false }, &[downloading(50)]);
    assert_eq!(narrow, "\rdownloading  [#####\u{1b}[K\nend\n");
    let colour = shown(Style::Live { width: 20, colour: true }, &[downloading(50)]);
    assert_eq!(colour, "\r\u{1b}[1mdownloading\u{1b}[0m  [#####\u{1b}[K\nend\n");
}

#[test]
fn elsewhere_there_are_plain_lines_and_few_of_them() {
    let statuses: Vec<_> = (0..=100).map(downloading).chain([json!({"phase": "verifying"})]).collect();
    let text = shown(Style::Plain, &statuses);
    assert!(!text.contains(['\r', '\u{1b}']), "{text:?}");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 11 + 1 + 1, "{text}");
    assert_eq!(lines[1], "downloading 10 %, 10.0 MiB of 100.0 MiB, 1.5 MiB/s, 1:00 left");
    assert_eq!(lines[11..], ["verifying", "end"]);
}

/// A daemon that tells each connection of `scripts` its statuses and then hangs up.
fn daemon(path: &Path, scripts: Vec<Vec<Value>>) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for script in scripts {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            reader.read_until(b'\n', &mut line).unwrap();
            assert_eq!(proto::parse(&line), Ok(Request::Watch));
            for status in script {
                // The watcher leaves when it has seen the end.
                let _ = reader.get_ref().write_all(&Response::status(status).to_line());
            }
        }
    })
}

fn followed(scripts: Vec<Vec<Value>>) -> (Exit, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let daemon = daemon(&path, scripts);
    let mut out = Vec::new();
    let exit = follow_on(&path, Duration::from_secs(20), &mut Screen::new(&mut out, Style::Plain)).unwrap();
    daemon.join().unwrap();
    (exit, String::from_utf8(out).unwrap())
}

#[test]
fn watching_ends_with_the_update_and_as_it_did() {
    for (outcome, exit) in [
        ("succeeded", Exit::Done),
        ("up-to-date", Exit::Done),
        ("failed", Exit::Failed),
        ("rolled-back", Exit::Failed),
    ] {
        let (found, text) = followed(vec![vec![downloading(5), ended(outcome)]]);
        assert_eq!(found, exit, "{outcome}");
        assert!(text.starts_with("downloading 5 %") && text.contains("\n2.8.5 "), "{text}");
    }
    let (exit, text) = followed(vec![vec![json!({"phase": "idle"})]]);
    assert_eq!((exit, text.as_str()), (Exit::Done, "idle, no update so far\n"));
}

#[test]
fn watching_goes_on_over_a_reboot() {
    let rebooting = json!({"phase": "rebooting"});
    let (exit, text) =
        followed(vec![vec![rebooting], vec![json!({"phase": "confirming"}), ended("succeeded")]]);
    assert_eq!(exit, Exit::Done);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..3], ["rebooting", "twinboot is away, waiting for it to come back", "confirming"]);
}

#[test]
fn a_daemon_that_is_not_there_or_does_not_come_back_is_exit_3() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut screen = Screen::new(Vec::new(), Style::Plain);
    assert_eq!(follow_on(&path, Duration::from_secs(60), &mut screen).unwrap(), Exit::Unreachable);
    let daemon = daemon(&path, vec![vec![downloading(1)]]);
    let limit = Duration::from_millis(20);
    assert_eq!(follow_on(&path, limit, &mut screen).unwrap(), Exit::Unreachable);
    daemon.join().unwrap();

    let config = directory.path().join("twinboot.toml");
    let nobody = directory.path().join("nobody");
    // However wrong the rest of it is.
    std::fs::write(&config, format!("[control]\nsocket = \"{}\"\n[policy]\nx = 1\n", nobody.display()))
        .unwrap();
    for command in [Command::Cancel, Command::Status { json: false, watch: false }] {
        assert_eq!(
            format!("{:?}", client_command(&command, &config, |_, _, _| Err("none".into()))),
            format!("{:?}", ExitCode::from(3))
        );
    }
}

#[test]
fn a_refusal_is_exit_1() {
    let refused = Response::fault("access.denied", "no", "use sudo");
    assert_eq!(accepted(refused), Err(Exit::Failed));
    assert!(accepted(Response::done("x")).is_ok());
}
