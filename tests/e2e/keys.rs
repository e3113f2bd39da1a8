//! A file of a root key that cannot be used: the device is there, says so, and takes nothing; what it had begun it brings to
//! an end. Such a file is never taken for no key.

use std::fs;

use serde_json::{Value, json};

use super::bundles::Operator;
use super::support::{Checked, Slot};
use super::{Bench, LIMIT, MIB, Recipe, V1, V2};

const BROKEN: &str = "not a key\n";

impl Bench {
    /// Puts this into the file of its only root key; what was there.
    fn exchange_key(&self, text: &str) -> Checked<String> {
        let file = self.device.path("keys.d/root.pem");
        let before = fs::read_to_string(&file)?;
        fs::write(file, text)?;
        Ok(before)
    }

    /// Waits for a status, told after place `from` of the journal, that says that the root key cannot be used.
    fn misses_key(&self, from: usize) -> Checked<Value> {
        self.device.wait_status("a root key that cannot be used", from, LIMIT, misses_key)
    }

    /// Waits for a status, told after place `from` of the journal, by which nothing is missing.
    fn misses_nothing(&self, from: usize) -> Checked {
        self.device.wait_status("nothing missing", from, LIMIT, |it| it["warnings"] == json!([]))?;
        Ok(())
    }
}

fn misses_key(status: &Value) -> bool {
    let names = |text: &Value| text.as_str().is_some_and(|text| text.contains("keys.d/root.pem"));
    let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
    names(&status["trust"]["problem"])
        && warnings.iter().any(|it| names(it) && it.as_str().unwrap().contains("copy it anew"))
}

#[test]
fn at_the_start_it_runs_and_reports_and_takes_nothing_until_it_is_put_right() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("")?;
    bench.device.power_cut();
    let (key, from) = (bench.exchange_key(BROKEN)?, bench.device.now());
    bench.device.power_on()?;
    let status = bench.misses_key(from)?;
    assert_eq!((&status["phase"], &status["trust"]["keys"]), (&json!("idle"), &json!([])), "{status:#}");
    let bundle = operator.bundle("2.0.0", 1, &V2);
    let offered = bench.offer("2.0.0", &bundle);
    // The hub is reached, and what it wants is answered. It has not become a device without keys.
    let plain = bench.publish("2.0.1", &V2);
    bench.cloud.desire(plain.desired())?;
    bench.fails("error", "bundle.unsigned")?;
    for (what, code) in [(&offered.url, "bundle.keys-unusable"), (&plain.url, "bundle.unsigned")] {
        let (exit, said) = bench.device.command(&["install", "--wait", what])?;
        assert!(exit == Some(1) && said.contains(code), "{said}");
    }
    let (_, shown) = bench.device.command(&["status"])?;
    assert!(shown.contains("nothing that has to be signed is installed"), "{shown}");
    let (exit, said) = bench.device.command(&["doctor"])?;
    assert!(exit == Some(1) && said.contains("keys.d/root.pem"), "{said}");
    assert_eq!((bench.device.boots(), bench.cloud.requests(&offered).len()), (2, 0), "nothing was fetched");
    assert!(bench.device.slot_bytes(Slot::B, MIB)?.iter().all(|byte| *byte == 0), "slot b was written");
    bench.settled(Slot::A, &V1)?;
    // What the hub wants waits, and says for what.
    let from = bench.device.now();
    bench.wish(&offered)?;
    let waits = |it: &Value| {
        let gate = it["gate"].as_str().unwrap_or_default();
        it["phase"] == "accepted" && gate.contains("keys.d/root.pem") && gate.contains("copy it anew")
    };
    bench.device.wait_status("waiting for root keys", from, LIMIT, waits)?;
    // Then it goes on by itself, without a word of anybody.
    let from = bench.device.now();
    bench.exchange_key(&key)?;
    bench.misses_nothing(from)?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn a_reload_does_not_give_up_keys_that_can_be_used() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("")?;
    let reload = || bench.device.command(&["reload"]);
    let key = bench.exchange_key(BROKEN)?;
    let (exit, said) = reload()?;
    assert_eq!(exit, Some(1));
    assert!(said.contains("keys.d/root.pem") && said.contains("copy it anew"), "{said}");
    let trust = bench.trust()?;
    assert_eq!(
        (&trust["problem"], &trust["keys"]),
        (&Value::Null, &json!([operator.root.public().id()])),
        "what was in force still is"
    );
    // It still judges by them: this is somebody else's.
    let foreign = bench.offer("2.0.0", &Operator::new().bundle("2.0.0", 1, &V2));
    bench.wish(&foreign)?;
    bench.fails("error", "bundle.key")?;
    // After a restart there are none that can be used: then a reload is no loss, and other settings can be changed.
    bench.device.stop_daemon()?;
    let from = bench.device.now();
    bench.device.start_daemon()?;
    bench.misses_key(from)?;
    bench.configure("[policy]\nconsent = true\n")?;
    let (exit, said) = reload()?;
    assert_eq!(exit, Some(0), "{said}");
    assert!(misses_key(&bench.device.status()?), "{}", bench.device.tail());
    let from = bench.device.now();
    bench.exchange_key(&key)?;
    let (exit, said) = reload()?;
    assert_eq!(exit, Some(0), "{said}");
    bench.misses_nothing(from)?;
    assert_eq!(bench.trust()?["keys"], json!([operator.root.public().id()]));
    bench.settled(Slot::A, &V1)
}

/// It may be in the middle of being copied, and so may all that belongs to the device.
#[test]
fn a_key_that_cannot_be_used_keeps_nothing_else_waiting() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("")?;
    let (secret, hidden) = (bench.device.path("connection-string"), bench.device.path("hidden"));
    bench.device.stop_daemon()?;
    fs::rename(&secret, &hidden)?;
    let from = bench.device.now();
    bench.device.start_daemon()?;
    let names = |it: &Value| it.as_str().is_some_and(|it| it.contains("connection string"));
    let misses = |it: &Value| it["warnings"].as_array().is_some_and(|it| it.iter().any(names));
    bench.device.wait_status("a device without a hub", from, LIMIT, misses)?;
    let (key, from) = (bench.exchange_key(BROKEN)?, bench.device.now());
    fs::rename(&hidden, &secret)?;
    bench.misses_nothing(from)?;
    bench.device.wait_status("the hub", from, LIMIT, |it| it["hub"]["connected"] == true)?;
    bench.says("keys.d/root.pem", from)?;
    let trust = bench.trust()?;
    let in_force = json!([operator.root.public().id()]);
    assert_eq!((&trust["problem"], &trust["keys"]), (&Value::Null, &in_force), "what was in force still is");
    bench.exchange_key(&key)?;
    bench.settled(Slot::A, &V1)
}

/// Its trial goes on, and the new system is kept once it can judge bundles again; if it cannot in time, it goes back.
#[test]
fn a_trial_has_a_verdict_all_the_same() -> Checked {
    let operator = Operator::new();
    let bench = operator.device("[health]\ndeadline = \"1h\"\n")?;
    bench.holds_trials_until("go")?;
    let from = bench.device.now();
    let offered = bench.offer("2.0.0", &operator.bundle("2.0.0", 1, &V2));
    bench.wish(&offered)?;
    bench.waits_on_trial(from)?;
    // A restart in the middle of the trial finds it broken.
    bench.device.stop_daemon()?;
    let (key, from) = (bench.exchange_key(BROKEN)?, bench.device.now());
    bench.device.start_daemon()?;
    let status = bench.misses_key(from)?;
    assert_eq!((&status["phase"], &status["booted"]), (&json!("confirming"), &json!("b")), "{status:#}");
    fs::write(bench.device.path("go"), "")?;
    bench.exchange_key(&key)?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)?;

    // The next one is never put right, and well but for that.
    fs::remove_file(bench.device.path("go"))?;
    let from = bench.device.now();
    let offered = bench.offer("3.0.0", &operator.bundle("3.0.0", 2, &Recipe::good("3.0.0", MIB).make()));
    bench.wish(&offered)?;
    let on_trial = |it: &Value| it["phase"] == "confirming" && it["booted"] == "a";
    bench.device.wait_status("slot a on trial", from, LIMIT, on_trial)?;
    bench.device.stop_daemon()?;
    fs::write(bench.device.path("go"), "")?;
    bench.exchange_key(BROKEN)?;
    bench.configure("[health]\ndeadline = \"5s\"\n")?;
    bench.device.start_daemon()?;
    let from = bench.device.now();
    let reported = bench.fails("rolledback", "health.timeout")?;
    let why = reported["firmware"]["fwUpdateSubstatus"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("root keys") && why.contains("keys.d/root.pem"), "{why}");
    // The old system has the same trouble, and tells of it by the hub.
    bench.device.wait_status("the old system", from, LIMIT, |it| it["booted"] == "b" && misses_key(it))?;
    bench.settled(Slot::B, &V2)
}
