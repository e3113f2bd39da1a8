#![allow(clippy::unwrap_used)]

mod journal;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::*;
use crate::model::{Failure, IntentId, Times};

type Entry = BTreeMap<String, String>;

/// Keeps every event's fields, the way a journal would.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<Entry>>>);

impl<S: tracing::Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Names(Entry);
        impl Visit for Names {
            fn record_str(&mut self, field: &Field, value: &str) {
                self.0.insert(field.name().into(), value.into());
            }
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0.insert(field.name().into(), format!("{value:?}"));
            }
        }
        let mut names = Names(Entry::new());
        event.record(&mut names);
        names.0.insert("level".into(), event.metadata().level().to_string());
        self.0.lock().unwrap().push(names.0);
    }
}

fn written(tell: impl FnOnce()) -> Vec<Entry> {
    let journal = Journal::default();
    let subscriber = tracing_subscriber::registry().with(journal.clone());
    tracing::subscriber::with_default(subscriber, tell);
    journal.0.lock().unwrap().split_off(0)
}

/// What a terminal shows.
fn lines(tell: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let screen = Screen::default();
    let writer = screen.clone();
    let subscriber = tracing_subscriber::registry().with(output::to_lines(move || writer.clone()));
    tracing::subscriber::with_default(subscriber, tell);
    String::from_utf8(screen.0.lock().unwrap().clone()).unwrap()
}

struct Update {
    id: UpdateId,
    version: Version,
}

impl Update {
    fn new() -> Self {
        Self { id: UpdateId("00ff00ff00ff00ff".into()), version: "2.8.5".parse().unwrap() }
    }

    fn about(&self) -> About<'_> {
        About {
            update: Some(&self.id),
            version: Some(&self.version),
            phase: Some("confirming"),
            slot: Some(Slot::B),
            steps_left: Some(7),
            booted: Some(Slot::A),
            default: Some(Slot::A),
        }
    }
}

/// Calls every event once, in the order of the catalog.
fn tell_all() {
    let update = Update::new();
    let about = &update.about();
    let why = &Failure::Unhealthy.because("check 'x' failed");
    let (mut repeats, now) = (Repeats::default(), Duration::ZERO);
    daemon_started(about, "0.1.0");
    daemon_stopping(about);
    config_loaded(Path::new("/etc/twinboot/twinboot.toml"), 3);
    update_accepted(about, Origin::Desired);
    transition(about, "applying", "rebooting", None);
    download_resumed(about, 4096);
    download_planned(about, Cost { fetch: 3_100_000, write: 12_000_000, full: 112_000_000 }, Some(620));
    cost_allowed(about, 3_100_000);
    repeats.gate_waiting(now, about, "consent", "consent");
    hook_failed(about, "hook post-commit/10-migrate ended with exit status: 1");
    consent_given(about, Origin::Method);
    data_renewed(about);
    repeats.reboot_requested(now, about, "to try slot b");
    trial_started(about, Some(2));
    slot_committed(about);
    update_succeeded(about);
    update_up_to_date(about);
    update_failed(about, why);
    rolled_back(about, why);
    repeats.refused(now, about, Origin::Method, why.failure.code(), &why.detail);
    repeats.env_one_copy_bad(now, about, "copy 1");
    state_recovered(about, "copy 2");
    trust_damaged("what is known of revoked keys is lost: x");
    repeats.state_unwritable(now, about, "disk full");
    let mut hub = HubLines::default();
    hub.connected("hub.example");
    hub.lost(Duration::ZERO, "timed out");
    hub.contested(Duration::ZERO, "duplicate identity?");
    repeats.hub_refused(now, "bad user name or password");
    repeats.hub_warning(now, "the device's certificate ends soon");
    repeats.control_unavailable(now, "in use");
    daemon_failed("no such slot");
    not_provisioned("/etc/twinboot/connection-string");
    network_unusable("no certificate authority is trusted");
    tuned(&Rules::default());
    repeats.setting_refused(now, "twinboot.window must be two different times of day");
    hub.ignored(Duration::ZERO, 3);
    repeats.work_failed(now, about, why);
    repeats.waiting(now, "no A/B slot is booted", "edit the configuration");
    lacking("slot b is not there", "see [slots] b");
    reloaded(about, Path::new("/etc/twinboot/twinboot.toml"), 3);
    repeats.reload_refused(now, "unknown key", "correct it");
    trial_stranded("unknown key");
    trial_overdue(Slot::B, Duration::from_secs(900));
    guard_failed("nothing can be read");
}

#[test]
fn every_event_has_its_own_id_and_a_sentence() {
    let entries = written(tell_all);
    let ids: Vec<_> = entries.iter().map(|entry| entry["MESSAGE_ID"].as_str()).collect();
    assert_eq!(ids, catalog::ALL.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    for entry in &entries {
        assert!(entry["message"].len() > 8, "{entry:?}");
    }
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    for id in ids {
        assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    }
}

#[test]
fn the_catalog_explains_just_these_ids() {
    let text = include_str!("../../packaging/twinboot.catalog");
    let explained: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
    assert_eq!(explained, catalog::ALL.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    // Every @FIELD@ that an explanation counts on is really written.
    let fields =
        ["TWINBOOT_VERSION", "UPDATE_ID", "UPDATE_VERSION", "PHASE", "SLOT", "FAILURE", "STEPS_LEFT"];
    for section in text.split("\n-- ").skip(1) {
        let (id, body) = section.split_once('\n').unwrap();
        let entry = written(tell_all).into_iter().find(|entry| entry["MESSAGE_ID"] == id).unwrap();
        for used in body.split('@').skip(1).step_by(2) {
            assert!(entry.contains_key(used), "{used} in {body}");
            assert!(fields.contains(&used) || used == "BOOTED" || used == "DEFAULT", "{used}");
        }
        assert!(body.starts_with("Subject: ") && body.contains("\nDefined-By: twinboot\n\n"), "{body}");
    }
}

#[test]
fn fields_arrive_and_absent_ones_do_not() {
    let update = Update::new();
    let why = Failure::HealthTimeout.because("slow");
    let entry = &written(|| transition(&update.about(), "confirming", "rolling-back", Some(&why)))[0];
    for (name, value) in [
        ("UPDATE_ID", "00ff00ff00ff00ff"),
        ("UPDATE_VERSION", "2.8.5"),
        ("PHASE", "confirming"),
        ("SLOT", "b"),
        ("FAILURE", "health.timeout"),
        ("STEPS_LEFT", "7"),
        ("BOOTED", "a"),
        ("DEFAULT", "a"),
        ("level", "WARN"),
    ] {
        assert_eq!(entry[name], value, "{name}");
    }
    let entry = &written(|| transition(&About::default(), "idle", "accepted", None))[0];
    assert_eq!(entry.keys().collect::<Vec<_>>(), ["MESSAGE_ID", "level", "message"]);
}

#[test]
fn an_ended_update_is_told_as_it_ended() {
    let update = Update::new();
    let why = Failure::Unhealthy.because("check 'modem' failed");
    for (outcome, id) in [
        (Outcome::Succeeded, catalog::UPDATE_SUCCEEDED),
        (Outcome::UpToDate, catalog::UPDATE_UP_TO_DATE),
        (Outcome::Failed(why.clone()), catalog::UPDATE_FAILED),
        (Outcome::RolledBack(why.clone()), catalog::ROLLED_BACK),
    ] {
        let ended = Ended {
            id: update.id.clone(),
            intent: IntentId("1".into()),
            origin: Origin::Local,
            version: Some(update.version.clone()),
            target: Some(Slot::B),
            outcome,
            times: Times::default(),
        };
        let entry = &written(|| update_ended(&About::default(), &ended))[0];
        assert_eq!(entry["MESSAGE_ID"], id);
        assert_eq!(entry["UPDATE_VERSION"], "2.8.5");
    }
}

#[test]
fn a_flapping_link_does_not_fill_the_journal() {
    let entries = written(|| {
        let mut hub = HubLines::default();
        for second in 0..1500 {
            hub.connected("hub.example");
            hub.lost(Duration::from_secs(second), "reset");
        }
    });
    let messages: Vec<_> = entries.iter().map(|entry| entry["message"].as_str()).collect();
    let lost = "no connection to the hub, trying again: reset";
    let connected = "connected to the hub hub.example";
    assert_eq!(
        messages,
        [
            connected,
            lost,
            connected,
            &format!("{lost} (and 599 times before since the last such line)"),
            connected,
            &format!("{lost} (and 599 times before since the last such line)"),
            connected,
        ]
    );
}

/// A day of everything that can go wrong, once a second.
#[test]
fn what_is_so_again_and_again_is_told_now_and_then() {
    let entries = written(|| {
        let mut repeats = Repeats::default();
        let about = &About::default();
        for second in 0..86_400 {
            let now = Duration::from_secs(second);
            repeats.state_unwritable(now, about, "disk full");
            repeats.refused(now, about, Origin::Method, "request.busy", &format!("busy for {second} s"));
            repeats.work_failed(now, about, &Failure::BootUnwritable.because("read-only"));
            repeats.reboot_requested(now, about, "to try the new system");
            repeats.env_one_copy_bad(now, about, "copy 1");
            repeats.hub_refused(now, &format!("report {second}"));
            repeats.hub_warning(now, "the certificate ends soon");
            repeats.setting_refused(now, "nonsense");
            repeats.control_unavailable(now, "in use");
            repeats.waiting(now, "no slot", "edit");
            repeats.reload_refused(now, "unknown key", "edit");
        }
    });
    let mut lines = BTreeMap::<&str, usize>::new();
    for entry in &entries {
        *lines.entry(&entry["MESSAGE_ID"]).or_default() += 1;
    }
    assert_eq!(lines.len(), 11);
    assert!(lines.values().all(|count| *count == 29), "{lines:?}");
    assert!(entries[11]["message"].ends_with(" (59 more since the last such line)"), "{:?}", entries[11]);
}

/// A new one is told at once, but not however many different ones somebody sends.
#[test]
fn different_lines_are_told_apart() {
    let entries = written(|| {
        let mut repeats = Repeats::default();
        for n in 0..1000 {
            repeats.setting_refused(Duration::from_secs(n), &format!("nonsense {}", n % 10));
        }
        for n in 0..1000 {
            repeats.setting_refused(Duration::from_secs(1000), &format!("other nonsense {n}"));
        }
        repeats.setting_refused(Duration::from_secs(1000), "other nonsense 999");
    });
    // Ten of them in a quarter of an hour: five lines each. Then a flood of different ones.
    assert_eq!(entries.len(), 10 * 5 + 22 + 1);
}

/// It prints the load and is asked again every half a minute, for a day.
#[test]
fn a_hook_that_has_other_words_each_time_does_not_fill_the_journal() {
    let update = Update::new();
    let entries = written(|| {
        let mut repeats = Repeats::default();
        for n in 0..2880 {
            let now = Duration::from_secs(30 * n);
            repeats.gate_waiting(now, &update.about(), "a hook", &format!("load {n}"));
        }
        let now = Duration::from_secs(30 * 2880);
        repeats.gate_waiting(now, &update.about(), "consent", "consent");
    });
    assert_eq!(entries.len(), 29 + 1);
    assert!(entries[29]["message"].ends_with("waits: consent"), "{:?}", entries[29]);
}

#[test]
fn a_contested_identity_is_told_at_once_and_then_every_ten_minutes() {
    let entries = written(|| {
        let mut hub = HubLines::default();
        hub.lost(Duration::ZERO, "reset");
        for second in 1..1500 {
            hub.contested(Duration::from_secs(second), "duplicate identity?");
        }
    });
    assert_eq!(entries.len(), 1 + 3, "{entries:?}");
    assert_eq!(entries[1]["message"], "duplicate identity?");
}

#[test]
fn p118_a_terminal_shows_plain_lines_that_nobody_can_forge() {
    let update = Update::new();
    let shown = lines(|| {
        update_succeeded(&update.about());
        let mut repeats = Repeats::default();
        let now = Duration::ZERO;
        repeats.gate_waiting(now, &update.about(), "x", "x\n2026-01-01 error: \u{1b}[31mforged %s $(reboot)");
        tracing::warn!(target: "twinboot::x", bytes = 5, error = "bad\u{1b}[0m", "odd");
    });
    let lines: Vec<_> = shown.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(
        lines,
        [
            "update to 2.8.5 (00ff00ff00ff00ff) succeeded",
            "update to 2.8.5 (00ff00ff00ff00ff) waits: x 2026-01-01 error:  [31mforged %s $(reboot)",
            "warning: odd bytes=5 error=bad [0m",
        ]
    );
}

/// Runs itself again with standard error on a full disk, on a pipe that nobody reads, and closed: complaining about that there would panic.
#[test]
fn p140_a_full_disk_or_closed_stream_is_survived() {
    const CHILD: &str = "TWINBOOT_TEST_OF_A_FULL_DISK";
    if std::env::var_os(CHILD).is_some() {
        init(false, true);
        tell_all();
        return;
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    // A journal that went away, as far as a stream can tell: nobody reads any more.
    let (reader, gone) = std::io::pipe().unwrap();
    drop(reader);
    for (what, stream, shell) in [
        ("a full disk", full.into(), r#"exec "$@""#),
        ("a reader that went", std::process::Stdio::from(gone), r#"exec "$@""#),
        ("a closed stream", std::process::Stdio::null(), r#"exec "$@" 2>&-"#),
    ] {
        let mut child = std::process::Command::new("/bin/sh");
        child.args(["-c", shell, "sh"]).arg(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "events::tests::p140_a_full_disk_or_closed_stream_is_survived",
            "--nocapture",
        ]);
        let output = child.env(CHILD, "1").stderr(stream).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && stdout.contains("1 passed"), "{what}: {stdout}");
    }
}

/// Runs itself again where /run is its own, and plays the journal there.
#[test]
#[ignore = "peers: needs unshare"]
fn peers_the_journal_gets_the_fields_under_their_own_names() {
    const NAME: &str = "events::tests::peers_the_journal_gets_the_fields_under_their_own_names";
    const CHILD: &str = "TWINBOOT_TEST_OF_THE_JOURNAL";
    if std::env::var_os(CHILD).is_none() {
        let script = "mount -t tmpfs run /run && mkdir -p /run/systemd/journal && exec \"$@\"";
        let mut child = std::process::Command::new("unshare");
        child.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).env(CHILD, "1");
        child.arg(std::env::current_exe().unwrap()).args(["--exact", NAME, "--include-ignored"]);
        let output = child.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
        return;
    }
    let journal = std::os::unix::net::UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    init(true, false);
    let update = Update::new();
    Repeats::default().gate_waiting(Duration::ZERO, &update.about(), "consent", "consent");
    let mut entry = [0; 4096];
    // The first is how the layer finds out whether anybody listens.
    assert_eq!(journal.recv(&mut entry).unwrap(), 0);
    let n = journal.recv(&mut entry).unwrap();
    let entry = [b"\n", &entry[..n]].concat();
    for (name, value) in [
        ("MESSAGE_ID", catalog::GATE_WAITING),
        ("UPDATE_ID", "00ff00ff00ff00ff"),
        ("UPDATE_VERSION", "2.8.5"),
        ("SLOT", "b"),
        ("STEPS_LEFT", "7"),
        ("PRIORITY", "6"),
        ("SYSLOG_IDENTIFIER", "twinboot"),
        ("MESSAGE", "update to 2.8.5 (00ff00ff00ff00ff) waits: consent"),
    ] {
        // The journal's binary form: name, line end, length in eight bytes, value, line end. PRIORITY comes first.
        let length = (value.len() as u64).to_le_bytes();
        let field = [b"\n", name.as_bytes(), b"\n", &length, value.as_bytes(), b"\n"].concat();
        let found = entry.windows(field.len()).any(|window| window == field);
        assert!(found, "{name}");
    }
}
