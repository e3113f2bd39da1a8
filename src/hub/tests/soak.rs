//! Years, or as much of them as can be had: a month in virtual time, with the real session, the real record and the
//! real reports, against the hub of [`super::cloud`]; and a fleet that all comes back from an outage.
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

/// What happened in a month.
#[derive(Debug, Default)]
struct Month {
    disconnects: u32,
    updates: u32,
    calls: u32,
    unanswered: u32,
    kills: u32,
    grown: usize,
}

/// One month, or as many days as are asked for.
async fn month(seed: u64, days: u64, disconnects: u64) -> Month {
    let (mut dice, cloud, mut month) = (Dice::new(seed), Cloud::new(), Month::default());
    let (seen, kill) = device(&cloud, "dev1");
    let began = Instant::now();
    let mut warm = 0;
    let mut version = 1;
    for disconnect in 0..disconnects {
        let due = began + DAY * days as u32 * (disconnect as u32) / disconnects as u32;
        sleep_until(due + Duration::from_secs(dice.below(60))).await;
        // Twenty updates in a month, one in five of them of a sick system; many are cut right in the middle.
        if disconnect % (disconnects / 20) == 3 {
            assert!(settled(&cloud, &seen).await, "update {version}: {:?}", cloud.reported("dev1"));
            version += 1;
            let mut wish = firmware(version);
            if version % 5 == 0 {
                wish["fwVersion"] = format!("{SICK}-{version}").into();
            }
            wish["fwPackageCheckValue"] = format!("{version:064}").into();
            cloud.desire("dev1", json!({ "firmware": wish }));
            month.updates += 1;
        }
        if disconnect % 5 == 0 {
            call(&cloud, &seen, disconnect, &mut month).await;
        }
        misfortune(&cloud, &mut dice).await;
        month.disconnects += 1;
        if dice.below(40) == 0 {
            kill.send(()).unwrap();
            month.kills += 1;
        }
        if disconnect == disconnects / 5 {
            warm = resident();
        }
    }
    month.grown = resident().saturating_sub(warm);
    assert!(settled(&cloud, &seen).await, "in the end: {:?}", cloud.reported("dev1"));
    assert!(began.elapsed() >= DAY * (days as u32 * 99 / 100));
    assert_eq!(seen.look().ended, month.updates, "every update had one end");
    judge(&cloud);
    month
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
async fn call(cloud: &Cloud, seen: &Seen, mark: u64, month: &mut Month) {
    let payload = json!({"fwPackageUri": "https://h/fw", "fwVersion": format!("mark-{mark}."),
        "fwPackageCheckValue": super::DIGEST});
    let Some(rid) = cloud.call("dev1", "firmwareUpdate", &payload.to_string()) else {
        month.unanswered += 1;
        return;
    };
    sleep(Duration::from_secs(5)).await;
    let mark = format!("mark-{mark}.");
    let carried_out = seen.look().calls.iter().filter(|call| call.contains(&mark)).count();
    let answers = cloud.state().devices["dev1"].answers.get(&rid).map_or(0, Vec::len);
    assert!(carried_out <= 1 && answers <= 1, "{mark}: {carried_out} times, {answers} answers");
    month.calls += 1;
    month.unanswered += u32::from(answers == 0);
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
    let state = cloud.state();
    let device = &state.devices["dev1"];
    assert_eq!((device.expired, device.overslept), (0, 0));
    assert!(most_in(&state.attempts, HOUR) <= 60);
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

/// One month, in less than a second.
fn pass_a_month(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let began = std::time::Instant::now();
    println!("CHAOS_SEED={seed}");
    let month = runtime.unwrap().block_on(month(seed, 30, 1000));
    println!("{month:?}, {:?} of real time", began.elapsed());
    assert_eq!((month.disconnects, month.updates), (1000, 20));
    assert!(month.calls + month.unanswered > 150 && month.unanswered < 40);
    assert!(month.grown < 1 << 20, "memory grew by {} bytes from the sixth day on", month.grown);
}

/// Alone in a process of its own, as memory is counted.
#[test]
fn a_month_with_a_thousand_disconnects() {
    if is_alone("soak::a_month_with_a_thousand_disconnects") {
        pass_a_month(Dice::asked().unwrap_or(20_261_121));
    }
}

/// Five years of other weather.
#[test]
#[ignore = "deep: 60 months in virtual time"]
fn deep_sixty_months_with_a_thousand_disconnects_each() {
    if is_alone("soak::deep_sixty_months_with_a_thousand_disconnects_each") {
        (1..=60).for_each(pass_a_month);
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

/// A thousand devices after an outage: spread over five minutes, about one in 150 each second.
#[tokio::test(start_paused = true)]
async fn a_fleet_comes_back_spread_over_minutes() {
    for size in [100, 1000] {
        let (peak, at_break, took) = outage(size).await;
        println!(
            "{size} devices: {peak} attempts a second at most on return, {at_break} at the break, all back in {took:?}"
        );
        assert!(peak <= 5 + size * 3 / 100, "{peak} attempts in a second");
        assert!(
            at_break <= 2 * size,
            "{at_break}: the first wait is up to a second, and some are tried twice in it"
        );
    }
}
