//! `deploy` in waves and what is done to a roll-out, over two hundred devices that are played: they report what real
//! ones would, in an instant. Real ones are in `act` and in the examples.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hub_emulator::{Emulator, EventKind};
use serde_json::{Value, json};

use super::tool::Desk;

const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const DEVICES: usize = 200;

/// Plays devices until it is dropped: each that gets a wish reports at once how that went.
struct Players {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Players {
    fn start(hub: &Arc<Emulator>, goes_well: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let (stop, events, hub) = (Arc::new(AtomicBool::new(false)), hub.events(), Arc::clone(hub));
        let stopped = Arc::clone(&stop);
        let play = move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok(event) = events.recv_timeout(Duration::from_millis(20)) else { continue };
                if let EventKind::ConfigurationStatus { device, status, .. } = event.kind
                    && status == "Applied"
                {
                    let wish = hub.twin(&device)["properties"]["desired"]["firmware"]["fwVersion"].clone();
                    let report = if goes_well(&device) {
                        json!({"fwUpdateStatus": "current", "currentFwVersion": wish, "fwUpdateSubstatus": ""})
                    } else {
                        // It is over, and after the roll-out began: on a device that is away that is what counts.
                        let ended = "2099-01-01T00:00:00.000Z";
                        let why = "Rolled back to: 1.0.0: ill";
                        json!({"fwUpdateStatus": "rolledback", "fwUpdateSubstatus": why, "lastFwUpdateEndTime": ended})
                    };
                    hub.report(&device, &json!({"firmware": report})).unwrap();
                }
            }
        };
        Self { stop, thread: Some(std::thread::spawn(play)) }
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Devices that run 1.0.0.
fn fleet() -> (Desk, Arc<Emulator>) {
    let (desk, hub) = Desk::shared();
    for at in 0..DEVICES {
        let id = format!("gateway-{at:03}");
        hub.create_device(&id, json!({"devicetype": "gateway"})).unwrap();
        hub.report(&id, &json!({"firmware": {"fwUpdateStatus": "current", "currentFwVersion": "1.0.0"}}))
            .unwrap();
    }
    (desk, hub)
}

fn deploy<'a>(id: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let image = ["--version-label", "2.0.0", "--uri", "https://example.com/2.squashfs", "--sha256", SHA256];
    let target = ["--target", "tags.devicetype = 'gateway'", "--every", "1s"];
    [&["deploy", id][..], &target, &image, more].concat()
}

/// The devices of each wave, by their tags; those without one are 0.
fn waves(hub: &Emulator) -> BTreeMap<u64, Vec<String>> {
    let mut waves: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for at in 0..DEVICES {
        let id = format!("gateway-{at:03}");
        let wave = hub.twin(&id)["tags"]["twinboot"]["wave"].as_u64().unwrap_or(0);
        waves.entry(wave).or_default().push(id);
    }
    waves
}

fn has_version(hub: &Emulator, version: &str) -> usize {
    let has = |at: &usize| {
        hub.twin(&format!("gateway-{at:03}"))["properties"]["reported"]["firmware"]["currentFwVersion"]
            == version
    };
    (0..DEVICES).filter(has).count()
}

#[test]
fn a_roll_out_in_waves_reaches_everybody() {
    let (desk, hub) = fleet();
    let players = Players::start(&hub, |_| true);
    let text = desk.good(&deploy("gw-2", &["--waves", "1%,10%,100%", "--yes"]));
    drop(players);
    assert_eq!(has_version(&hub, "2.0.0"), DEVICES);
    let sizes: Vec<_> = waves(&hub).into_values().map(|devices| devices.len()).collect();
    assert_eq!(sizes, [180, 2, 18]);
    for line in [
        "gw-2: 2.0.0 to 200 devices, wave 1 of 3 (1%)",
        "gw-2: wave 2 of 3 (10%)",
        "gw-2: wave 3 of 3 (100%)",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert_eq!(text.lines().last(), Some("200 of 200 done: 200 done"));
    // The tutorial's metrics, counted by the hub.
    let configuration = hub.configuration("gw-2");
    assert_eq!(configuration["metrics"]["results"]["current"], 200);
    assert_eq!(configuration["metrics"]["queries"].as_object().unwrap().len(), 5);
    let list = desk.good(&["rollouts"]);
    let row: Vec<_> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["gw-2", "2.0.0", "running", "3/3", "200", "200", "0", "0", "0", "0"]);
    desk.good(&["watch", "gw-2"]);
    let again = desk.run(&deploy("gw-2", &["--yes"]));
    assert!(again.status == 1 && again.err.contains("there is a roll-out gw-2 already"), "{again:?}");
}

#[test]
fn a_roll_out_of_something_bad_halts_itself_at_the_right_wave_and_says_so() {
    let (desk, hub) = fleet();
    let is_bad = |id: &str| id.trim_start_matches("gateway-").parse::<usize>().unwrap().is_multiple_of(20);
    let players = Players::start(&hub, move |id| !is_bad(id));
    let ran = desk.run(&deploy("gw-bad", &["--waves", "1%,10%,100%", "--halt-at", "4%", "--yes"]));
    // Which wave that must be follows from which devices chance has put into it.
    let waves = waves(&hub);
    let (mut so_far, mut bad, mut expected) = (0, 0, 3);
    for wave in [1, 2] {
        so_far += waves[&wave].len();
        bad += waves[&wave].iter().filter(|id| is_bad(id)).count();
        if bad * 100 > so_far * 4 {
            expected = wave;
            break;
        }
    }
    let (so_far, bad) = if expected == 3 { (DEVICES, DEVICES / 20) } else { (so_far, bad) };
    let told = format!("gw-bad has halted in wave {expected} of 3");
    let counts = format!("{bad} of {so_far} devices failed or went back, more than 4%");
    assert_eq!(ran.status, 1, "{ran:#?}");
    assert!(ran.err.contains(&told) && ran.err.contains(&counts), "{told}, {counts}: {ran:#?}");
    assert!(ran.out.contains("rolledback  1.0.0  Rolled back to: 1.0.0: ill"), "{}", ran.out);
    assert_eq!(has_version(&hub, "2.0.0"), so_far - bad);
    // Nobody else gets it: not those of later waves, and not one that comes only now.
    let configuration = hub.configuration("gw-bad");
    assert_eq!(configuration["labels"]["twinbootState"], "halted");
    // Those that failed keep the wish: without it they would turn to an older one, and say no more why they failed.
    assert_eq!(configuration["systemMetrics"]["results"]["targetedCount"], so_far);
    assert!(desk.good(&["rollouts"]).contains(&counts));
    let ran = desk.run(&["pause", "gw-bad"]);
    assert!(ran.status == 1 && ran.err.contains(&told) && ran.err.contains("only a roll-out"), "{ran:?}");
    let ran = desk.run(&["watch", "gw-bad", "--every", "1s"]);
    assert!(ran.status == 1 && ran.err.contains(&told) && ran.err.contains(&counts), "{ran:#?}");
    // Somebody has looked and goes on.
    let ran = desk.run(&["resume", "gw-bad", "--halt-at", "100%", "--every", "1s", "--yes"]);
    assert_eq!((ran.status, ran.err.as_str()), (1, ""), "{ran:#?}");
    assert_eq!(has_version(&hub, "2.0.0"), 190);
    assert!(ran.out.ends_with("190 of 200 done: 190 done, 10 rolledback\n"), "{}", ran.out);
    drop(players);
}

#[test]
fn a_roll_out_is_paused_resumed_aborted_and_deleted() {
    let (desk, hub) = fleet();
    let targeted = || hub.configuration("gw-2")["systemMetrics"]["results"]["targetedCount"].clone();
    desk.good(&deploy("gw-2", &["--yes", "--no-watch"]));
    assert_eq!(targeted(), 200);
    // One has begun, and keeps it while all is paused.
    let begun = json!({"firmware": {"fwUpdateStatus": "downloading", "pendingFwVersion": "2.0.0"}});
    hub.report("gateway-007", &begun).unwrap();
    assert_eq!(desk.good(&["pause", "gw-2"]), "gw-2: paused\n");
    assert_eq!(targeted(), 1);
    assert!(hub.twin("gateway-008")["properties"]["desired"]["firmware"].is_null());
    let ran = desk.run(&["watch", "gw-2", "--timeout", "1s", "--json"]);
    assert_eq!(ran.status, 4, "one is on its way: {ran:?}");
    desk.good(&["resume", "gw-2", "--yes", "--no-watch"]);
    assert_eq!(targeted(), 200);
    assert_eq!(desk.good(&["abort", "gw-2"]), "gw-2: aborted\n");
    assert_eq!(targeted(), 0);
    let ran = desk.run(&["resume", "gw-2", "--yes"]);
    assert!(ran.status == 1 && ran.err.contains("another ID"), "{ran:?}");
    let ran = desk.run(&["pause", "gw-2"]);
    assert!(ran.status == 1 && ran.err.contains("gw-2 is aborted"), "{ran:?}");
    assert_eq!(desk.good(&["delete", "gw-2"]), "gw-2: deleted\n");
    assert_eq!(hub.configuration("gw-2"), Value::Null);
    let ran = desk.run(&["pause", "gw-2"]);
    assert!(ran.status == 1 && ran.err.contains("there is no roll-out gw-2"), "{ran:?}");
}

#[test]
fn a_dry_run_prints_the_configuration_and_does_nothing() {
    let (desk, hub) = fleet();
    let text = desk.good(&deploy("gw-2", &["--dry-run", "--canary", "5", "--priority", "7"]));
    let printed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(printed["content"]["deviceContent"]["properties.desired.firmware"]["fwVersion"], "2.0.0");
    assert_eq!((&printed["priority"], &printed["labels"]["twinbootWaves"]), (&json!(7), &json!("5,100%")));
    assert_eq!(hub.configuration("gw-2"), Value::Null);
    assert_eq!(waves(&hub).len(), 1);
    // The hub takes what was printed.
    hub.create_configuration(printed).unwrap();
    let ran = desk.run(&deploy("gw-3", &[]));
    assert!(ran.status == 2 && ran.err.contains("--yes"), "{ran:?}");
    for (more, wanted) in [
        (&["--waves", "100%,5"][..], "nothing comes after"),
        (&["--waves", "0"], "--waves"),
        (&["--halt-at", "1%"], "about waves"),
        (&["--enough", "50%"], "about waves"),
        (&["--reveal"], "--dry-run"),
    ] {
        let ran = desk.run(&deploy("gw-3", more));
        assert!(ran.status == 2 && ran.err.contains(wanted), "{ran:?}");
    }
    let reported = ["--target", "properties.reported.firmware.currentFwVersion = '1.0.0'"];
    let image = ["--version-label", "2.0.0", "--sha256", SHA256, "--uri", "https://h/p?sig=SECRET"];
    let ran = desk.run(&[&["deploy", "gw-3", "--yes"][..], &reported, &image].concat());
    assert!(ran.status == 2 && ran.err.contains("changes with the update"), "{ran:?}");
    let secret = [&["deploy", "gw-3", "--target", "*", "--dry-run"][..], &image].concat();
    let text = desk.good(&secret);
    assert!(text.contains("https://h/p?…") && !text.contains("SECRET"), "{text}");
    assert!(desk.good(&[&secret[..], &["--reveal"]].concat()).contains("https://h/p?sig=SECRET"));
    let ran = desk.run(&deploy("GW 3", &["--yes"]));
    assert!(ran.status == 2 && ran.err.contains("lower-case"), "{ran:?}");
}

#[test]
fn the_whole_fleet_is_watched_by_its_counts() {
    let (desk, hub) = fleet();
    assert_eq!(desk.good(&["watch"]), "200 of 200: 200 current\n200 of 200 done: 200 current\n");
    let failed = json!({"firmware": {"fwUpdateStatus": "error", "fwUpdateSubstatus": "no room\u{1b}[2J"}});
    hub.report("gateway-003", &failed).unwrap();
    let ran = desk.run(&["watch", "--where", "tags.devicetype = 'gateway'"]);
    assert_eq!(ran.status, 1);
    assert!(ran.out.starts_with("gateway-003  error  1.0.0  no room [2J\n"), "{}", ran.out);
    hub.report("gateway-004", &json!({"firmware": {"fwUpdateStatus": "downloading"}})).unwrap();
    let lines = desk.run(&["watch", "--timeout", "1s", "--json"]);
    let last: Value = serde_json::from_str(lines.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["counts"], json!({"current": 198, "downloading": 1, "error": 1}));
}

#[test]
fn marks_of_a_roll_out_that_is_gone_put_nobody_into_a_wave() {
    let (desk, hub) = fleet();
    let targeted = || hub.configuration("gw-2")["systemMetrics"]["results"]["targetedCount"].clone();
    desk.good(&deploy("gw-2", &["--waves", "40%,100%", "--yes", "--no-watch"]));
    assert_eq!(targeted(), 80);
    desk.good(&["delete", "gw-2"]);
    // The devices of the larger wave still have its tags, all but the two that are marked anew.
    desk.good(&deploy("gw-2", &["--waves", "1%,100%", "--yes", "--no-watch"]));
    assert_eq!(targeted(), 2);
}

#[test]
fn a_roll_out_that_goes_by_its_marks_does_not_lose_them_to_another() {
    let (desk, hub) = fleet();
    let targeted = |id: &str| hub.configuration(id)["systemMetrics"]["results"]["targetedCount"].clone();
    desk.good(&deploy("gw-2", &["--waves", "10%,100%", "--yes", "--no-watch"]));
    let other = deploy("gw-3", &["--waves", "100,100%", "--yes", "--no-watch"]);
    let ran = desk.run(&other);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.err.contains("20 of these devices are in a wave of gw-2, which is running"), "{ran:?}");
    assert_eq!((targeted("gw-2"), hub.configuration("gw-3")), (json!(20), Value::Null));
    // Without waves nobody is marked; and one that was aborted needs no marks.
    desk.good(&deploy("gw-4", &["--yes", "--no-watch"]));
    assert_eq!(targeted("gw-2"), 20);
    desk.good(&["abort", "gw-2"]);
    desk.good(&other);
    assert_eq!(targeted("gw-3"), 100);
}

#[test]
fn who_runs_the_new_version_does_not_go_back_when_its_roll_out_ends() {
    let (desk, hub) = fleet();
    let wish = |at: usize| hub.twin(&format!("gateway-{at:03}"))["properties"]["desired"]["firmware"].clone();
    let newer = |id| {
        let image =
            ["--version-label", "3.0.0", "--uri", "https://example.com/3.squashfs", "--sha256", SHA256];
        let more = ["--target", "tags.devicetype = 'gateway'", "--yes", "--no-watch"];
        desk.good(&[&["deploy", id][..], &image, &more].concat());
    };
    let runs = |at: usize, version: &str| {
        let report = json!({"firmware": {"fwUpdateStatus": "current", "currentFwVersion": version}});
        hub.report(&format!("gateway-{at:03}"), &report).unwrap();
    };
    desk.good(&deploy("gw-2", &["--yes", "--no-watch"]));
    (1..DEVICES).for_each(|at| runs(at, "2.0.0"));
    newer("gw-3");
    (100..DEVICES).for_each(|at| runs(at, "3.0.0"));
    let rebooting = json!({"firmware": {"fwUpdateStatus": "rebooting", "pendingFwVersion": "3.0.0"}});
    hub.report("gateway-007", &rebooting).unwrap();
    // To one device that runs neither the older wish is an update.
    let ran = desk.run(&["abort", "gw-3"]);
    assert!(ran.status == 2 && ran.err.contains("gw-2 (2.0.0) takes over 1 of its devices"), "{ran:?}");
    runs(0, "2.0.0");
    assert_eq!(desk.good(&["abort", "gw-3"]), "gw-3: aborted\n");
    for (at, version) in [(0, "2.0.0"), (7, "3.0.0"), (50, "2.0.0"), (100, "3.0.0"), (199, "3.0.0")] {
        assert_eq!(wish(at)["fwVersion"], version, "{at}");
    }
    // Deleted, it leaves all of them to the older one.
    let ran = desk.run(&["delete", "gw-3"]);
    assert!(ran.status == 2 && ran.err.contains("gw-2 (2.0.0) takes over 101 of its devices"), "{ran:?}");
    assert!(ran.err.contains("--yes") && !hub.configuration("gw-3").is_null(), "{ran:?}");
    desk.good(&["delete", "gw-2"]);
    desk.good(&["delete", "gw-3"]);
    assert!(wish(199).is_null());
}

#[test]
fn a_roll_out_that_is_being_prepared_is_for_nobody_and_in_the_way_of_others() {
    let (desk, hub) = fleet();
    let targeted = || hub.configuration("gw-2")["systemMetrics"]["results"]["targetedCount"].clone();
    // Whoever began it has gone before the first device was marked.
    let printed = desk.good(&deploy("gw-2", &["--waves", "10%,100%", "--dry-run"]));
    let mut left: Value = serde_json::from_str(&printed).unwrap();
    left["labels"]["twinbootState"] = json!("preparing");
    left["targetCondition"] = json!("deviceId = ''");
    hub.create_configuration(left.clone()).unwrap();
    let other = deploy("gw-3", &["--waves", "10,100%", "--yes", "--no-watch"]);
    let ran = desk.run(&other);
    assert!(ran.status == 1 && ran.err.contains("in a wave of gw-2, which is preparing"), "{ran:?}");
    assert_eq!((hub.configuration("gw-3"), waves(&hub).len(), targeted()), (Value::Null, 1, json!(0)));
    let ran = desk.run(&["pause", "gw-2"]);
    assert!(ran.status == 1 && ran.err.contains("gw-2 is preparing"), "{ran:?}");
    assert_eq!(desk.run(&["watch", "gw-2", "--timeout", "1s"]).status, 4);
    desk.good(&["resume", "gw-2", "--yes", "--no-watch"]);
    assert_eq!((targeted(), waves(&hub)[&1].len()), (json!(20), 20));
    // One that is not wanted any more is deleted, and in nobody's way.
    desk.good(&["delete", "gw-2"]);
    hub.create_configuration(left).unwrap();
    desk.good(&["delete", "gw-2"]);
    desk.good(&other);
}

#[test]
fn a_wave_with_devices_that_are_away_shows_them_and_is_got_past() {
    let (desk, hub) = fleet();
    let wave = || hub.configuration("gw-2")["labels"]["twinbootWave"].clone();
    let ran = desk.run(&deploy("gw-2", &["--waves", "10%,100%", "--timeout", "3s", "--yes"]));
    let first = waves(&hub)[&1].clone();
    assert_eq!((ran.status, wave()), (4, json!("1")), "{ran:#?}");
    assert_eq!(ran.out.matches("  away  1.0.0  not connected").count(), 20, "{ran:#?}");
    for id in &first[..12] {
        hub.report(id, &json!({"firmware": {"fwUpdateStatus": "current", "currentFwVersion": "2.0.0"}}))
            .unwrap();
    }
    let resume = ["resume", "gw-2", "--every", "1s", "--timeout", "3s", "--yes"];
    let ran = desk.run(&resume);
    assert_eq!((ran.status, wave()), (4, json!("1")), "{ran:#?}");
    assert_eq!(ran.out.matches("  away  ").count(), 8, "{ran:#?}");
    let ran = desk.run(&[&resume[..], &["--enough", "60%"]].concat());
    assert_eq!((ran.status, wave()), (4, json!("2")), "{ran:#?}");
    assert_eq!(hub.configuration("gw-2")["labels"]["twinbootEnough"], "60%");
}
