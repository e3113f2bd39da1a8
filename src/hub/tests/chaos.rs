//! The session through a way on which all goes wrong that can: real TCP and TLS to the hub emulator, with
//! [`hub_emulator::Chaos`] in between, and a device with a real record at the end ([`super::player`]). Each run has a
//! seed, which is printed; `CHAOS_SEED=n` plays that one alone, `CHAOS_COUNT` sets how many there are.
//!
//! Whatever happened, once the way is good again: the device was told the newest desired property last and rests; the
//! hub holds exactly what the device's record says; a method is answered; none was carried out twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hub_emulator::{Chaos, Emulator};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::dice::Dice;
use super::player::{Pace, Player, SICK, Seen, holds};
use crate::hub::{Access, Identity, Session, Settings, Source};
use crate::model::Timestamp;
use crate::tls;

/// Bytes of a short conversation, handshake included: where something can happen.
const REACH: u64 = 12 * 1024;
/// How long a device may need once the way is good. Far more than it does, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(60);
/// How many calls must be answered in the end.
const PROBES: usize = 2;
/// Attempts in any hour: few enough to matter if the waits were gone, and no run may need them.
const ATTEMPTS: u32 = 400;

fn settings() -> Settings {
    let millis = Duration::from_millis;
    Settings {
        keep_alive: millis(500),
        token_lifetime: Duration::from_secs(3),
        backoff: [millis(10), millis(160)],
        slow_backoff: [millis(20), millis(160)],
        report_interval: millis(20),
        connect_timeout: millis(400),
        tls_timeout: millis(400),
        greeting_timeout: millis(400),
        answer_timeout: millis(400),
        ping_timeout: millis(300),
        contested_wait: millis(40),
        contested_within: millis(900),
        stable_after: millis(800),
        attempts_an_hour: ATTEMPTS,
        ..Settings::default()
    }
}

const PACE: Pace = Pace {
    work: Duration::from_millis(8),
    reboot: Duration::from_millis(15),
    farewell: Duration::from_millis(150),
};

/// What the runs cost, for the record.
#[derive(Default)]
struct Tally {
    runs: AtomicUsize,
    connections: AtomicU64,
    most: AtomicU64,
    calls: AtomicUsize,
    answered: AtomicUsize,
    ends: AtomicUsize,
    restarts: AtomicUsize,
    slowest: AtomicU64,
    /// Runs of which something was not as it must be; what, they have said.
    violations: AtomicUsize,
}

impl Tally {
    fn add(&self, seen: &Seen, connections: u64, [calls, answered]: [usize; 2], took: Duration) {
        let seen = seen.look();
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(connections, Ordering::Relaxed);
        self.most.fetch_max(connections, Ordering::Relaxed);
        self.calls.fetch_add(calls, Ordering::Relaxed);
        self.answered.fetch_add(answered, Ordering::Relaxed);
        self.ends.fetch_add(seen.ended as usize, Ordering::Relaxed);
        self.restarts.fetch_add(seen.restarts as usize, Ordering::Relaxed);
        self.slowest.fetch_max(took.as_millis() as u64, Ordering::Relaxed);
    }
}

struct Run<'a> {
    emulator: &'a Arc<Emulator>,
    id: String,
    seed: u64,
    dice: Dice,
    seen: Seen,
    wanted: String,
    calls: Vec<tokio::task::JoinHandle<bool>>,
}

impl Run<'_> {
    /// The hub wants something else now.
    fn desire(&mut self, number: u64) {
        let (wanted, firmware) = match self.dice.below(8) {
            0 => ("absent".to_owned(), Value::Null),
            1 => ("invalid".to_owned(), json!({"fwVersion": number})),
            kind => {
                let label = if kind < 4 { SICK } else { "good" };
                let version = format!("{label}-{number}");
                let digest = format!("{:064x}", self.seed * 1000 + number);
                let uri = "https://h/fw";
                (
                    version.clone(),
                    json!({"fwVersion": version, "fwPackageURI": uri, "fwPackageCheckValue": digest}),
                )
            }
        };
        // Whole, so that nothing of an older wish is left in it.
        self.emulator.set_desired(&self.id, json!({ "firmware": firmware })).unwrap();
        self.wanted = wanted;
    }

    /// A method call that nobody waits for.
    fn call(&mut self, mark: u64, limit: Duration) {
        let (emulator, id) = (self.emulator.clone(), self.id.clone());
        let payload = json!({"fwPackageUri": "https://h/fw", "fwVersion": format!("mark-{mark}."),
            "fwPackageCheckValue": super::DIGEST});
        self.calls.push(tokio::task::spawn_blocking(move || {
            emulator
                .invoke_method(&id, "firmwareUpdate", payload, limit)
                .is_ok_and(|(status, _)| status == 200)
        }));
    }

    fn is_right(&self) -> bool {
        let seen = self.seen.look();
        let told = seen.told.as_ref() == Some(&self.wanted);
        let reported = &self.emulator.twin(&self.id)["properties"]["reported"];
        told && seen.idle && seen.generation > 0 && holds(reported, &seen.document)
    }

    /// Waits until all is right, and a call is answered, if not the first then soon. Tells how long it took to be right.
    ///
    /// Twice: nothing may have been wanted before, too, and have been told then. Whoever answers a call has heard all
    /// that the hub had said before it.
    async fn settle(&mut self, calmed: Instant) -> Duration {
        let (mut number, mut took) = (200, Duration::ZERO);
        for _ in 0..PROBES {
            while !self.is_right() {
                assert!(calmed.elapsed() < LIMIT, "not after {LIMIT:?}\n{}", self.describe());
                sleep(Duration::from_millis(10)).await;
            }
            took = calmed.elapsed();
            loop {
                number += 1;
                self.call(number, Duration::from_secs(2));
                if self.calls.pop().unwrap().await.unwrap() {
                    break;
                }
                assert!(calmed.elapsed() < LIMIT, "deaf\n{}", self.describe());
                sleep(Duration::from_millis(20)).await;
            }
        }
        took
    }

    fn describe(&self) -> String {
        let seen = self.seen.look();
        format!(
            "CHAOS_SEED={}: wanted {}, told {:?}, idle {}, delivered {} of {}, document {:?}, twin {}",
            self.seed,
            self.wanted,
            seen.told,
            seen.idle,
            seen.delivered,
            seen.generation,
            seen.document,
            self.emulator.twin(&self.id)
        )
    }
}

async fn run(emulator: &Arc<Emulator>, ca: &std::path::Path, seed: u64, tally: &Tally) {
    let id = format!("chaos-{seed}");
    let connection = emulator.create_device(&id, json!({})).unwrap();
    let chaos = Chaos::start(([127, 0, 0, 1], emulator.mqtt_port()).into(), seed, REACH).unwrap();
    let connection = connection.replacen(";DeviceId=", &format!(":{};DeviceId=", chaos.port()), 1);
    let identity: Identity = connection.parse().unwrap();
    let ca_files = vec![ca.to_owned()];
    let trust = tls::Settings { ca_files, system_roots: false, ..tls::Settings::default() };
    let trust = tls::Trust::new(trust).unwrap();
    let (player, seen, kill) = Player::new(PACE);
    let life = tokio::spawn(player.run(move |port| {
        let clock = || Timestamp(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64);
        let access = Access::new(Source::Fixed(identity.clone()), trust.clone(), None);
        tokio::spawn(Session::new(port, access, settings(), clock).run())
    }));
    let dice = Dice::new(seed);
    let mut run = Run { emulator, id, seed, dice, seen, wanted: "absent".into(), calls: Vec::new() };
    for number in 1..=3 + run.dice.below(3) {
        match run.dice.below(10) {
            0..=5 => run.desire(number),
            6..=8 => run.call(number, Duration::from_millis(300)),
            _ => kill.send(()).unwrap(),
        }
        sleep(Duration::from_millis(run.dice.below(250))).await;
    }
    run.desire(100);
    sleep(Duration::from_millis(run.dice.below(100))).await;
    chaos.calm();
    let calmed = Instant::now();
    let took = run.settle(calmed).await;
    let mut answered = 0;
    for call in run.calls.drain(..) {
        answered += usize::from(call.await.unwrap());
    }
    let mut calls = run.seen.look().calls.clone();
    let all = calls.len();
    calls.sort();
    calls.dedup();
    assert_eq!(calls.len(), all, "a call was carried out twice\n{}", run.describe());
    answered += PROBES;
    assert!(all >= answered, "an answer that nobody gave\n{}", run.describe());
    assert!(run.is_right(), "and it stays so\n{}", run.describe());
    assert!(chaos.connections() <= u64::from(ATTEMPTS) * (1 + u64::from(run.seen.look().restarts)));
    tally.add(&run.seen, chaos.connections(), [all, answered], took);
    life.abort();
}

/// So many runs, some at a time; the first seed is `first`.
fn storm(first: u64, runs: u64) {
    let (first, runs) = Dice::asked().map_or((first, runs), |seed| (seed, 1));
    println!("CHAOS_SEED={first} and the {} after it", runs - 1);
    let began = Instant::now();
    let emulator = Arc::new(Emulator::start(hub_emulator::Options::default()).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, emulator.ca_pem()).unwrap();
    let (next, tally) = (AtomicU64::new(first), Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..runs.min(16) {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        return;
                    }
                    let all = run(&emulator, &ca, seed, &tally);
                    if catch_unwind(AssertUnwindSafe(|| runtime.block_on(all))).is_err() {
                        tally.violations.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let of64 = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{} runs in {:.1?}: {} connections ({} at most in a run), {} calls carried out and {} answered, {} updates \
         ended, {} restarts, right {} ms after the chaos at the latest",
        of(&tally.runs),
        began.elapsed(),
        of64(&tally.connections),
        of64(&tally.most),
        of(&tally.calls),
        of(&tally.answered),
        of(&tally.ends),
        of(&tally.restarts),
        of64(&tally.slowest)
    );
    let (connections, violations) = (of64(&tally.connections), of(&tally.violations));
    println!("hub: {runs} runs, {connections} connections, {violations} violations, seed {first}");
    assert_eq!((of(&tally.runs) as u64, violations), (runs, 0));
}

#[test]
fn two_dozen_sessions_in_chaos_end_well() {
    storm(1, 24);
}

#[test]
#[ignore = "deep: 2,500 runs"]
fn deep_thousands_of_sessions_in_chaos_end_well() {
    let count = std::env::var("CHAOS_COUNT").ok().map(|count| count.parse().expect("a number"));
    storm(1000, count.unwrap_or(2500));
}
