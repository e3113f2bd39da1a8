//! The configuration is read again under the running daemon: in every phase, by the command line and by SIGHUP.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::support::{Checked, Happening, Slot};
use super::{Bench, LIMIT, LONG, V2};

impl Bench {
    /// Writes a drop-in that wins over the others.
    pub(super) fn configure(&self, text: &str) -> Checked {
        Ok(fs::write(self.device.path("conf.d/90-later.toml"), text)?)
    }

    /// Reloads by the command line, which waits until that is done; what it says.
    fn reload(&self) -> Checked<String> {
        let (code, said) = self.device.command(&["reload"])?;
        assert_eq!(code, Some(0), "{said}\n{}", self.device.tail());
        Ok(said)
    }

    fn hang_up(&self) -> Checked {
        let pid = self.device.process().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Ok(kill_process(pid.expect("it runs"), Signal::HUP)?)
    }

    fn steps_left(&self) -> Checked<Value> {
        Ok(self.device.status()?["update"]["steps_left"].take())
    }

    fn said(&self, text: &str) -> usize {
        let says = |what: &Happening| matches!(what, Happening::Said(line) if line.contains(text));
        self.device.since(0).iter().filter(|entry| says(&entry.what)).count()
    }
}

/// Somebody who watches the status by one connection from now on; the phases seen, when the connection ends.
fn watch(bench: &Bench) -> Checked<thread::JoinHandle<Vec<String>>> {
    let mut stream = UnixStream::connect(bench.device.path("control.sock"))?;
    stream.write_all(b"{\"request\":\"watch\"}\n")?;
    Ok(thread::spawn(move || {
        let mut phases = Vec::<String>::new();
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let answer: Value = serde_json::from_str(&line).unwrap();
            let phase = answer["status"]["phase"].as_str().unwrap_or("none").to_owned();
            if phases.last() != Some(&phase) {
                phases.push(phase);
            }
        }
        phases
    }))
}

#[test]
fn a_download_and_what_waits_go_on_under_another_configuration() -> Checked {
    let bench = Bench::with("[policy]\nconsent = true\n")?;
    let image = bench.publish("2.0.0", &LONG);
    bench.cloud.slow(&image, 4 << 20);
    let watcher = watch(&bench)?;
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 2 << 20, LIMIT)?;
    let steps = bench.steps_left()?;
    for reload in 1..=4 {
        let before = bench.cloud.requests(&image).len();
        let sent = bench.cloud.emulator.images().bytes_sent(&image.name);
        bench.configure(&format!("[download]\nattempts = {}\n", 20 + reload))?;
        if reload % 2 == 0 {
            let said = bench.reload()?;
            assert!(said.contains("Configuration reloaded") && said.contains("goes on"), "{said}");
            assert_eq!(bench.device.status()?["phase"], "downloading");
        } else {
            bench.hang_up()?;
        }
        let resumed = bench.cloud.emulator.wait_for(|_| bench.cloud.requests(&image).len() > before, LIMIT);
        assert!(resumed, "it was not resumed\n{}", bench.device.tail());
        bench.cloud.wait_sent(&image, sent + (1 << 20), LIMIT)?;
    }
    bench.reports("the image in place", |firmware| firmware["fwUpdateStatus"] == "verifying")?;
    bench.device.wait_status("the gate", 0, LIMIT, |status| status["phase"] == "staged")?;
    super::interruptions::resumed_close_by(&bench, &image);
    assert_eq!(bench.cloud.requests(&image).len(), 5);
    assert_eq!(bench.said("configuration reloaded"), 4);
    // Done, verified: and nothing was paid for four reloads.
    let left = bench.steps_left()?;
    assert_eq!(left.as_u64().unwrap() + 2, steps.as_u64().unwrap());

    bench.reload()?;
    assert_eq!(bench.device.status()?["phase"], "staged");
    bench.configure("[policy]\nconsent = false\n")?;
    bench.reload()?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &LONG)?;
    let phases = watcher.join().unwrap();
    // One connection saw it all, over five reloads, until the machine rebooted. How much of the end it still gets to
    // see is chance: what had been read back under another configuration is read back once more, and armed.
    let seen: Vec<_> = phases.iter().filter(|phase| *phase != "accepted").map(String::as_str).collect();
    assert_eq!(seen[..4], ["idle", "downloading", "verifying", "staged"], "{phases:?}");
    let end = ["verifying", "applying", "rebooting"];
    assert!(seen[4..].iter().all(|phase| end.contains(phase)), "{phases:?}");
    Ok(())
}

#[test]
fn a_trial_is_neither_judged_twice_nor_given_more_time() -> Checked {
    let bench = Bench::with("[health]\ndeadline = \"20s\"\n")?;
    bench.holds_trials_until("go")?;
    let from = bench.device.now();
    bench.cloud.desire(bench.publish("2.0.0", &V2).desired())?;
    bench.waits_on_trial(from)?;
    let steps = bench.steps_left()?;
    for _ in 0..3 {
        bench.reload()?;
    }
    bench.waits_on_trial(bench.device.now())?;
    assert_eq!(bench.steps_left()?, steps);
    assert_eq!(bench.said("is on trial"), 1);
    fs::write(bench.device.path("go"), "")?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)?;

    // The next one never has a verdict; who reloads all the time does not put that off.
    fs::remove_file(bench.device.path("go"))?;
    bench.configure("[health]\ndeadline = \"4s\"\n")?;
    let from = bench.device.now();
    bench.cloud.desire(bench.publish("3.0.0", &super::V3).desired())?;
    bench
        .device
        .wait("the trial", from, LIMIT, |it| matches!(it, Happening::Booted(Slot::A, _)).then_some(()))?;
    let begun = Instant::now();
    while bench.device.booted() == Some(Slot::A) {
        assert!(begun.elapsed() < LIMIT, "the deadline is put off\n{}", bench.device.tail());
        // It may be rebooting just now.
        let _ = bench.device.command(&["reload"])?;
        thread::sleep(Duration::from_millis(100));
    }
    bench.fails("rolledback", "health.timeout")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn a_broken_file_is_refused_by_name_and_changes_nothing() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &LONG);
    bench.cloud.slow(&image, 4 << 20);
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 2 << 20, LIMIT)?;
    bench.configure("[policy]\nconsnet = true\n[slots]\na = 7\n")?;
    let (code, said) = bench.device.command(&["reload"])?;
    assert_eq!(code, Some(1));
    assert!(said.contains("90-later.toml:2: unknown key") && said.contains("1 more"), "{said}");
    bench.hang_up()?;
    let from = bench.device.now();
    bench.says("configuration not reloaded, the old one stays in force: ", 0)?;
    // A slot that is not there is as bad as a word that is not known.
    bench.configure("[slots]\na = \"/nonexistent/a\"\nb = \"/nonexistent/b\"\n")?;
    let (code, said) = bench.device.command(&["reload"])?;
    assert_eq!(code, Some(1));
    assert!(said.contains("no A/B slot is booted") && said.contains("[slots]"), "{said}");
    assert_eq!(bench.device.status()?["phase"], "downloading");
    assert_eq!(bench.cloud.requests(&image).len(), 1, "the download was not even interrupted");
    bench.configure("")?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &LONG)?;
    assert!(!bench.device.since(from).iter().any(|entry| matches!(entry.what, Happening::Broken(_))));
    Ok(())
}

#[test]
fn the_control_socket_moves_and_who_moved_it_is_answered() -> Checked {
    let bench = Bench::new()?;
    let (old, new) = (bench.device.path("control.sock"), bench.device.path("moved.sock"));
    let watcher = watch(&bench)?;
    let mut stream = UnixStream::connect(&old)?;
    bench.configure(&format!("[control]\nsocket = \"{}\"\n", new.display()))?;
    stream.write_all(b"{\"request\":\"reload\"}\n")?;
    let mut answers = BufReader::new(stream).lines();
    let answer: Value = serde_json::from_str(&answers.next().expect("an answer")?)?;
    assert_eq!(answer["ok"], json!(true), "{answer}");
    assert!(answers.next().is_none(), "nothing more is taken by the old door");
    assert!(!old.exists());
    let deadline = Instant::now() + LIMIT;
    while !new.exists() {
        assert!(Instant::now() < deadline, "{}", bench.device.tail());
        thread::sleep(Duration::from_millis(10));
    }
    let (code, said) = bench.device.command(&["status"])?;
    assert_eq!(code, Some(0), "{said}");
    // And the same socket for another group, back at the old place.
    bench.configure("[control]\ngroup = \"root\"\n")?;
    let (code, _) = bench.device.command(&["status"])?;
    assert_eq!(code, Some(3), "it does not listen there yet");
    bench.hang_up()?;
    bench.says("configuration reloaded", bench.device.now().saturating_sub(1))?;
    bench.device.stop_daemon()?;
    assert!(watcher.join().unwrap().contains(&"idle".to_owned()));
    Ok(())
}
