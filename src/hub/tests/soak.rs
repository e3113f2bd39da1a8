//! Months and a year in virtual time, with the real session, the real record and the real reports, against the hub of
//! [`super::cloud`]; and a fleet that all comes back from an outage.
//!
//! The works of updates are played and only take their time: see [`super::player`]. What counts here is what happens
//! between a device and its hub, and that is real down to the packets' bytes; TCP and TLS are left out.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::cloud::{Cloud, EPOCH, Reaction, Weather};
use super::desk::{firmware, identity};
use super::dice::Dice;
use super::hostile::{is_alone, resident};
use super::player::{Pace, Player, SICK, Seen, holds};
use crate::hub::{Session, Settings, channels};
use crate::model::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const PACE: Pace = Pace {
    work: Duration::from_secs(120),
    reboot: Duration::from_secs(40),
    farewell: Duration::from_secs(5),
};

/// The most reports in any 24 hours: an update takes some, those that are cut off are sent again, and there is at most one
/// update in a day and a half.
const REPORTS_A_DAY: usize = 20;
/// So many tasks more than at first there may be while a device rests.
const SPARE_TASKS: usize = 2;

/// A device of this name.
fn device(cloud: &Cloud, id: &'static str) -> (Seen, tokio::sync::mpsc::UnboundedSender<()>) {
    let (player, seen, kill) = Player::new(PACE);
    let cloud = cloud.clone();
    tokio::spawn(player.run(move |port| {
        let settings = Settings::default();
        let clock = {
            let cloud = cloud.clone();
            move || cloud.now()
        };
        tokio::spawn(Session::over(port, cloud.dial(identity(id), settings.clone()), settings, clock).run())
    }));
    (seen, kill)
}

/// How long it is, and how much happens in it.
#[derive(Clone, Copy, Debug)]
struct Span {
    days: u32,
    disconnects: u32,
    updates: u32,
}

const MONTH: Span = Span { days: 30, disconnects: 1000, updates: 20 };
const YEAR: Span = Span { days: 365, disconnects: 12_000, updates: 240 };

/// What happened.
#[derive(Debug, Default)]
struct Passed {
    disconnects: u32,
    updates: u32,
    calls: u32,
    unanswered: u32,
    kills: u32,
    /// By how many bytes memory grew from the first fifth on.
    grown: usize,
    /// The most tasks that there were while the device rested: first, and ever.
    tasks: [usize; 2],
    /// The most reports that were sent in any 24 hours, and all of them.
    reports: [usize; 2],
}

/// So many days, from first to last.
async fn pass(seed: u64, span: Span) -> Passed {
    let (mut dice, cloud, mut passed) = (Dice::new(seed), Cloud::new(), Passed::default());
    let (seen, kill) = device(&cloud, "dev1");
    let began = Instant::now();
    let mut warm = 0;
    let mut version = 1;
    for disconnect in 0..span.disconnects {
        let due = began + DAY * span.days * disconnect / span.disconnects;
        sleep_until(due + Duration::from_secs(dice.below(60))).await;
        // One in five updates is of a sick system; many are cut right in the middle.
        if disconnect % (span.disconnects / span.updates) == 3 {
            assert!(settled(&cloud, &seen).await, "update {version}: {:?}", cloud.reported("dev1"));
            passed.count_tasks();
            judge(&cloud);
            version += 1;
            let mut wish = firmware(version);
            if version % 5 == 0 {
                wish["fwVersion"] = format!("{SICK}-{version}").into();
            }
            wish["fwPackageCheckValue"] = format!("{version:064}").into();
            cloud.desire("dev1", json!({ "firmware": wish }));
            passed.updates += 1;
        }
        if disconnect % 5 == 0 {
            call(&cloud, &seen, disconnect, &mut passed).await;
        }
        misfortune(&cloud, &mut dice).await;
        passed.disconnects += 1;
        if dice.below(40) == 0 {
            kill.send(()).unwrap();
            passed.kills += 1;
        }
        if disconnect == span.disconnects / 5 {
            warm = resident();
        }
    }
    passed.grown = resident().saturating_sub(warm);
    assert!(settled(&cloud, &seen).await, "in the end: {:?}", cloud.reported("dev1"));
    passed.count_tasks();
    assert!(began.elapsed() >= DAY * span.days * 99 / 100);
    assert_eq!(seen.look().ended, passed.updates, "every update had one end");
    judge(&cloud);
    let patched = &cloud.state().devices["dev1"].patched;
    passed.reports = [most_in(patched, DAY), patched.len()];
    passed
}

impl Passed {
    fn count_tasks(&mut self) {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if self.tasks[0] == 0 {
            self.tasks[0] = tasks;
        }
        self.tasks[1] = self.tasks[1].max(tasks);
    }
}

/// Something goes wrong, for seconds or for minutes.
async fn misfortune(cloud: &Cloud, dice: &mut Dice) {
    let (weather, lasts) = match dice.below(20) {
        0 => (Some(Weather::Refused), dice.below(1800)),
        1 => (Some(Weather::Silent), dice.below(600)),
        2 => (Some(Weather::Says(3)), dice.below(600)),
        3 => (Some(Weather::Says(5)), dice.below(600)),
        4 => (Some(Weather::Late(Duration::from_secs(20))), dice.below(300)),
        5 => (Some(Weather::Deaf(dice.below(3) as usize)), dice.below(300)),
        _ => (None, 30),
    };
    match dice.below(10) {
        0 | 1 => cloud.hang("dev1"),
        2 => cloud.state().gets = Reaction::Cut,
        3 => cloud.state().gets = Reaction::Fails(500),
        4 => cloud.state().patches = Reaction::Cut,
        5 => cloud.state().patches = Reaction::CutBefore,
        6 => cloud.state().patches = Reaction::Silence,
        _ => {}
    }
    cloud.state().weather = weather.unwrap_or(Weather::Fine);
    cloud.drop_link("dev1");
    sleep(Duration::from_secs(lasts)).await;
    let mut state = cloud.state();
    (state.weather, state.gets, state.patches) = (Weather::Fine, Reaction::Normal, Reaction::Normal);
}

/// Calls a method while the link is whole: it is carried out once and answered once.
async fn call(cloud: &Cloud, seen: &Seen, mark: u32, passed: &mut Passed) {
    seen.look().calls.clear();
    let payload = json!({"fwPackageUri": "https://h/fw", "fwVersion": format!("mark-{mark}."),
        "fwPackageCheckValue": super::DIGEST});
    let Some(rid) = cloud.call("dev1", "firmwareUpdate", &payload.to_string()) else {
        passed.unanswered += 1;
        return;
    };
    sleep(Duration::from_secs(5)).await;
    let mark = format!("mark-{mark}.");
    let carried_out = seen.look().calls.iter().filter(|call| call.contains(&mark)).count();
    let answers =
        cloud.state().devices.get_mut("dev1").unwrap().answers.remove(&rid).map_or(0, |all| all.len());
    assert!(carried_out <= 1 && answers <= 1, "{mark}: {carried_out} times, {answers} answers");
    passed.calls += 1;
    passed.unanswered += u32::from(answers == 0);
}

/// Waits until the device rests, is told the newest, and the hub holds what its record says.
async fn settled(cloud: &Cloud, seen: &Seen) -> bool {
    for _ in 0..240 {
        let right = {
            let seen = seen.look();
            seen.idle && seen.generation > 0 && holds(&cloud.reported("dev1"), &seen.document)
        };
        if right && cloud.is_connected("dev1") {
            return true;
        }
        sleep(MINUTE).await;
    }
    false
}

/// The caps, and that no token ever ended and no ping came late.
fn judge(cloud: &Cloud) {
    let mut state = cloud.state();
    let device = &state.devices["dev1"];
    assert_eq!((device.expired, device.overslept), (0, 0));
    assert!(most_in(&state.attempts, HOUR) <= 60);
    // What is to be seen in a year is how much the device keeps, not how much we do.
    state.attempts.retain(|at| at.elapsed() < HOUR);
}

/// The most of them that lie in any time as long as this.
fn most_in(times: &[Instant], window: Duration) -> usize {
    let mut first = 0;
    let counts = times.iter().enumerate().map(|(last, at)| {
        while *at - times[first] >= window {
            first += 1;
        }
        last - first + 1
    });
    counts.max().unwrap_or(0)
}

/// Passes it, in about a second for a month. `kind` names it in the line that counts.
fn pass_all(kind: &str, seed: u64, span: Span) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let began = std::time::Instant::now();
    println!("CHAOS_SEED={seed}");
    let passed = runtime.unwrap().block_on(pass(seed, span));
    println!("{passed:?}, {:?} of real time", began.elapsed());
    let Span { disconnects, updates, .. } = span;
    assert_eq!((passed.disconnects, passed.updates), (disconnects, updates));
    let wrong = [
        passed.calls + passed.unanswered <= disconnects * 3 / 20,
        passed.unanswered >= disconnects / 25,
        passed.grown >= 1 << 20,
        passed.tasks[1] > passed.tasks[0] + SPARE_TASKS,
        passed.reports[0] > REPORTS_A_DAY,
    ];
    let violations = wrong.iter().filter(|wrong| **wrong).count();
    println!("{kind}: {updates} updates, {disconnects} drops, {violations} violations, seed {seed}");
    assert_eq!(
        violations, 0,
        "{wrong:?}: calls, answers, memory from the first fifth on, tasks at rest, reports"
    );
}

/// Alone in a process of its own, as memory is counted.
#[test]
fn a_month_with_a_thousand_disconnects() {
    if is_alone("soak::a_month_with_a_thousand_disconnects") {
        pass_all("month", Dice::asked().unwrap_or(20_261_121), MONTH);
    }
}

/// What grows by a little has grown by a lot.
#[test]
#[ignore = "deep: a year in virtual time"]
fn deep_a_year_with_twelve_thousand_disconnects() {
    if is_alone("soak::deep_a_year_with_twelve_thousand_disconnects") {
        pass_all("year", Dice::asked().unwrap_or(20_261_122), YEAR);
    }
}

/// Five years of other weather.
#[test]
#[ignore = "deep: 60 months in virtual time"]
fn deep_sixty_months_with_a_thousand_disconnects_each() {
    if is_alone("soak::deep_sixty_months_with_a_thousand_disconnects_each") {
        (1..=60).for_each(|seed| pass_all("month", seed, MONTH));
    }
}

/// What failed is wanted by the hub for ever, and told at every connection: it is neither tried nor reported again.
#[tokio::test(start_paused = true)]
async fn p020_what_failed_is_delivered_again_at_fifty_reconnects() {
    let cloud = Cloud::new();
    let (seen, _kill) = device(&cloud, "dev1");
    let mut wish = firmware(2);
    wish["fwVersion"] = format!("{SICK}-2").into();
    cloud.desire("dev1", json!({ "firmware": wish }));
    loop {
        let ended = seen.look().ended;
        if ended > 0 && settled(&cloud, &seen).await {
            break;
        }
        sleep(MINUTE).await;
    }
    assert_eq!(cloud.reported("dev1")["firmware"]["fwUpdateStatus"], "rolledback");
    let patches = || cloud.state().devices["dev1"].patched.len();
    let (before, ups, restarts) = (patches(), cloud.ups("dev1"), seen.look().restarts);
    for _ in 0..50 {
        cloud.drop_link("dev1");
        sleep(15 * MINUTE).await;
    }
    assert!(cloud.ups("dev1") >= ups + 50);
    assert_eq!(patches(), before, "a report that says nothing new was sent");
    let seen = seen.look();
    assert_eq!((seen.ended, seen.restarts), (1, restarts));
}

/// How a fleet of so many comes back after an outage of ten minutes: the most attempts in a second when the hub is
/// there again, the most in a second right after the break, and how long it took until all were back.
async fn outage(size: usize) -> (usize, usize, Duration) {
    let cloud = Cloud::new();
    let mut hubs = Vec::new();
    for number in 0..size {
        let (hub, port) = channels();
        let settings = Settings::default();
        let clock = || Timestamp(EPOCH * 1000);
        let dial = cloud.dial(identity(&format!("dev{number}")), settings.clone());
        tokio::spawn(Session::over(port, dial, settings, clock).run());
        // Nobody listens: a session does not depend on that.
        hubs.push(hub);
        sleep(Duration::from_millis(60)).await;
    }
    sleep(2 * MINUTE).await;
    let connected = || (0..size).filter(|number| cloud.is_connected(&format!("dev{number}"))).count();
    assert_eq!(connected(), size);
    cloud.state().attempts.clear();
    cloud.state().weather = Weather::Refused;
    cloud.drop_all();
    sleep(10 * MINUTE).await;
    let second = Duration::from_secs(1);
    let broken = std::mem::take(&mut cloud.state().attempts);
    cloud.state().weather = Weather::Fine;
    let back = Instant::now();
    while connected() < size {
        sleep(second).await;
        assert!(back.elapsed() < 310 * second, "{} of {size}", connected());
    }
    let returning = std::mem::take(&mut cloud.state().attempts);
    assert_eq!(returning.len(), size, "one attempt each, as the hub takes them all");
    (most_in(&returning, second), most_in(&broken, second), back.elapsed())
}

/// A thousand devices after an outage: spread over five minutes, about one in 150 each second; and when it begins,
/// while all of them try for the first time, one in seven.
#[tokio::test(start_paused = true)]
async fn a_fleet_comes_back_spread_over_minutes() {
    for size in [100, 1000] {
        let (peak, at_break, took) = outage(size).await;
        println!(
            "{size} devices: {peak} attempts a second at most on return, {at_break} at the break, all back in {took:?}"
        );
        assert!(peak <= 5 + size * 3 / 100, "{peak} attempts in a second");
        assert!(at_break <= 20 + size / 4, "{at_break}: the first wait is up to eight seconds");
    }
}
