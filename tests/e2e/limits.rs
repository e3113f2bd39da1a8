//! A daemon that is stopped, frozen, killed or kept short of what others have.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::support::{Checked, Happening, Slot};
use super::{Bench, LIMIT, LONG, V2};

impl Bench {
    /// The processes of the daemon.
    fn processes(&self) -> Vec<Pid> {
        let both = [self.device.process(), self.device.network_process()];
        both.into_iter().flatten().filter_map(|process| Pid::from_raw(process as i32)).collect()
    }

    /// Nothing runs of the daemon for so long.
    fn freeze(&self, time: Duration) -> Checked {
        let processes = self.processes();
        assert!(!processes.is_empty(), "there is nothing to freeze");
        for process in &processes {
            kill_process(*process, Signal::STOP)?;
        }
        thread::sleep(time);
        for process in &processes {
            kill_process(*process, Signal::CONT)?;
        }
        Ok(())
    }
}

/// A stop in any stage is quick, and what was going on goes on after it.
#[test]
fn p141_a_stop_is_quick_in_every_stage() -> Checked {
    let bench = Bench::with("[policy]\nconsent = true\n")?;
    bench.holds_trials_until("go")?;
    let stop = |stage: &str| -> Checked<usize> {
        let took = bench.device.stop_daemon()?;
        println!("{stage}: {took:?}");
        assert!(took <= Duration::from_secs(5), "{stage}: {took:?}");
        let from = bench.device.now();
        bench.device.start_daemon()?;
        Ok(from)
    };
    stop("idle")?;
    bench.runs("1.0.0")?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.slow(&image, 2 << 20);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.device.wait_status("the download", from, LIMIT, |status| status["phase"] == "downloading")?;
    stop("downloading")?;
    bench.device.wait_status("consent", from, LIMIT, |status| status["phase"] == "staged")?;
    let from = stop("waiting for consent")?;
    bench.device.wait_status("consent again", from, LIMIT, |status| status["phase"] == "staged")?;
    assert_eq!(bench.device.command(&["apply"])?.0, Some(0));
    bench.waits_on_trial(from)?;
    let from = stop("on trial")?;
    bench.waits_on_trial(from)?;
    fs::write(bench.device.path("go"), "")?;
    bench.runs("2.0.0")?;
    assert_eq!(bench.device.boots(), 2);
    bench.settled(Slot::B, &V2)
}

/// As a machine that slept, or a control group that was frozen: connections have died meanwhile, and time has passed.
#[test]
fn p136_a_daemon_that_was_frozen_goes_on() -> Checked {
    let bench = Bench::with("[download]\nidle_timeout = \"1s\"\n")?;
    bench.holds_trials_until("go")?;
    let image = bench.publish("2.0.0", &LONG);
    bench.cloud.slow(&image, 8 << 20);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 6 << 20, LIMIT)?;
    bench.freeze(Duration::from_secs(3))?;
    bench.waits_on_trial(from)?;
    bench.freeze(Duration::from_secs(3))?;
    fs::write(bench.device.path("go"), "")?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &LONG)?;
    super::interruptions::resumed_close_by(&bench, &image);
    Ok(())
}

/// Each of its lives is shorter than the time that a trial has. Were that begun anew by each, it would never end.
#[test]
fn p103_kills_in_the_trial_give_it_no_more_time() -> Checked {
    let bench = Bench::with("[health]\ndeadline = \"6s\"\n")?;
    bench.holds_trials_until("never")?;
    let image = bench.publish("2.0.0", &V2);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.waits_on_trial(from)?;
    let back = || {
        let entries = bench.device.since(from);
        entries.iter().any(|entry| matches!(entry.what, Happening::Booted(Slot::A, _)))
    };
    let mut kills = 0;
    while !back() {
        assert!(kills < 30, "it is still on trial\n{}", bench.device.tail());
        if bench.device.booted() == Some(Slot::B) {
            bench.device.kill_daemon()?;
            kills += 1;
        }
        // A life of two seconds: enough to look, and not enough to wait.
        let life = Instant::now() + Duration::from_secs(2);
        while Instant::now() < life && !back() {
            thread::sleep(Duration::from_millis(20));
        }
    }
    println!("back after {kills} kills");
    assert!(kills >= 2, "only {kills} kills");
    bench.fails("rolledback", "health.timeout")?;
    bench.settled(Slot::A, &super::V1)
}

/// A user's reboot in the trial is no verdict: it is on trial again.
#[test]
fn p105_a_reboot_by_hand_in_the_trial_is_no_verdict() -> Checked {
    let bench = Bench::new()?;
    bench.holds_trials_until("go")?;
    let image = bench.publish("2.0.0", &V2);
    let mut from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    for _ in 0..2 {
        bench.waits_on_trial(from)?;
        from = bench.device.now();
        bench.device.stop_daemon()?;
        bench.device.power_cycle()?;
    }
    bench.waits_on_trial(from)?;
    fs::write(bench.device.path("go"), "")?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

/// Few open files and few threads do for all of an update.
#[test]
fn p138_thirty_two_files_and_eight_threads_are_enough() -> Checked {
    let bench = Bench::with("[policy]\nconsent = true\n")?;
    bench.holds_trials_until("go")?;
    let limit = || -> Checked {
        for process in bench.processes() {
            let few = Rlimit { current: Some(32), maximum: Some(32) };
            prlimit(Some(process), Resource::Nofile, few)?;
        }
        Ok(())
    };
    let threads = || -> Checked {
        for process in bench.processes() {
            let of = process.as_raw_nonzero();
            let status = fs::read_to_string(format!("/proc/{of}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
            let count: u32 = line.unwrap().trim().parse().unwrap();
            assert!(count <= 8, "process {of} has {count} threads");
        }
        Ok(())
    };
    limit()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.slow(&image, 4 << 20);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 1 << 20, LIMIT)?;
    threads()?;
    // A reconnect on the way, and people who ask.
    bench.cloud.emulator.drop_device("gateway");
    assert_eq!(bench.device.command(&["status"])?.0, Some(0));
    bench.device.wait_status("consent", from, LIMIT, |status| status["phase"] == "staged")?;
    assert_eq!(bench.device.command(&["apply"])?.0, Some(0));
    bench.waits_on_trial(from)?;
    limit()?;
    threads()?;
    fs::write(bench.device.path("go"), "")?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

/// Five hundredths of a processor: what a quota of 5 % gives, in its own way.
#[test]
#[ignore = "deep: takes twenty times as long as it would"]
fn deep_p139_five_hundredths_of_a_processor_are_enough() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    let began = Instant::now();
    let is_done = || bench.cloud.reported()["firmware"]["currentFwVersion"] == "2.0.0";
    while !is_done() {
        assert!(began.elapsed() < Duration::from_secs(300), "not done\n{}", bench.device.tail());
        // It may end between the two, at a reboot: then there is another one.
        for process in bench.processes() {
            let _ = kill_process(process, Signal::STOP);
        }
        thread::sleep(Duration::from_millis(95));
        for process in bench.processes() {
            let _ = kill_process(process, Signal::CONT);
        }
        thread::sleep(Duration::from_millis(5));
    }
    println!("took {:?}", began.elapsed());
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}
