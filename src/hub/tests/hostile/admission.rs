//! Who is let in, as whom, and for how long.

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::cloud::{Cloud, Weather};
use super::super::desk::{Desk, Said};
use super::super::server::Server;
use super::super::{Device, quick};
use super::{HOUR, seconds};
use crate::hub::{Lost, Settings};

/// Refusals are never final and at most twenty an hour; the rest is tried more often, and within the cap.
#[tokio::test(start_paused = true)]
async fn p123_refusals_garbage_and_late_answers_to_the_greeting() {
    for (weather, most) in [
        (Weather::Says(1), 20),
        (Weather::Says(2), 20),
        (Weather::Says(3), 60),
        (Weather::Says(4), 20),
        (Weather::Says(5), 20),
        (Weather::Says(6), 60),
        (Weather::Says(255), 60),
        (Weather::Late(seconds(20)), 60),
        (Weather::Silent, 60),
        (Weather::Refused, 60),
    ] {
        let cloud = Cloud::new();
        cloud.state().weather = weather;
        let desk = Desk::new(&cloud, "dev1");
        sleep(HOUR).await;
        let attempts = desk.attempts();
        assert!((5..=most).contains(&attempts), "{weather:?}: {attempts} attempts in an hour");
        let named = desk.news().into_iter().all(|said| match weather {
            Weather::Says(code @ 1..=5) => said == Said::Lost(Lost::Refused(code)),
            Weather::Says(_) => matches!(said, Said::Lost(Lost::Malformed(_))),
            Weather::Late(_) | Weather::Silent => said == Said::Lost(Lost::Silent("the greeting".into())),
            Weather::Refused => matches!(said, Said::Lost(Lost::Unreachable { .. })),
            Weather::Fine | Weather::Deaf(_) => false,
        });
        assert!(named, "{weather:?}");
        cloud.state().weather = Weather::Fine;
        desk.connected(640).await;
    }
}

/// Two devices with one identity for half a day: both name it, both slow down, and when one is switched off the other
/// one is told well again.
#[tokio::test(start_paused = true)]
async fn p129_a_second_device_with_this_identity() {
    let cloud = Cloud::new();
    let desks = [Desk::new(&cloud, "dev1"), Desk::new(&cloud, "dev1")];
    sleep(12 * HOUR).await;
    let attempts = cloud.state().attempts.clone();
    for pair in attempts.windows(10) {
        // The first evictions are not yet known for what they are.
        let settled = pair[0] - attempts[0] > seconds(60);
        assert!(!settled || pair[9] - pair[0] >= seconds(4 * 10), "{:?}", pair[9] - pair[0]);
    }
    let per_hour = attempts.len() as f64 / 12.0;
    println!("{} attempts of both, {per_hour:.0} an hour", attempts.len());
    for desk in &desks {
        let log = desk.log();
        let named: Vec<_> = log.iter().filter(|(_, said)| is_contested(said)).map(|(at, _)| *at).collect();
        assert!(!named.is_empty(), "{log:?}");
        let mine: Vec<_> = log.iter().filter(|(_, said)| matches!(said, Said::Connected)).collect();
        for pair in mine.windows(2).filter(|pair| pair[0].0 > named[0]) {
            assert!(pair[1].0 - pair[0].0 >= seconds(10), "one reconnect in ten seconds at most: {log:?}");
        }
    }
    let [stays, goes] = desks;
    goes.commands.shut_down().await;
    stays.news();
    stays.until(1300, |said| *said == Said::Uncontested).await;
    assert!(cloud.is_connected("dev1"));
}

/// Tokens that end sooner than a link is above suspicion: what is left for a new token and made again is one stay.
#[tokio::test(start_paused = true)]
async fn p129_short_tokens_neither_hide_a_second_device_nor_keep_it_up() {
    let settings = Settings { token_lifetime: seconds(300), ..Settings::default() };
    let cloud = Cloud::new();
    let [stays, goes] = ["dev1", "dev1"].map(|id| Desk::with(&cloud, id, settings.clone(), 0));
    stays.until(3600, is_contested).await;
    goes.commands.shut_down().await;
    stays.news();
    stays.until(1300, |said| *said == Said::Uncontested).await;
    stays.news();
    // A hub that closes a link now and then, hours apart, is no other device.
    for _ in 0..5 {
        sleep(5 * HOUR).await;
        cloud.drop_link("dev1");
    }
    sleep(HOUR).await;
    let news = stays.news();
    assert_eq!(news.iter().filter(|said| **said == Said::Lost(Lost::Closed)).count(), 5, "{news:?}");
    assert!(!news.iter().any(is_contested));
}

fn is_contested(said: &Said) -> bool {
    matches!(said, Said::Lost(Lost::Contested { .. }))
}

/// For a day with tokens of an hour: right clocks never let one end; one that is far behind is refused, slowly, until it
/// is set.
#[tokio::test(start_paused = true)]
async fn p130_tokens_end() {
    let cloud = Cloud::new();
    let desk = Desk::new(&cloud, "dev1");
    let began = Instant::now();
    for round in 1..200 {
        sleep(seconds(430)).await;
        desk.desire(round);
        desk.told(5, round).await;
        desk.report(round, true);
        desk.delivered(5, round).await;
    }
    assert!(began.elapsed() > 23 * HOUR);
    assert_eq!(cloud.state().devices["dev1"].expired, 0, "renewed before the end");
    assert!(cloud.ups("dev1") >= 24, "and really renewed: {}", cloud.ups("dev1"));
    let bad = desk.news().into_iter().filter(|said| matches!(said, Said::Lost(_))).count();
    assert_eq!(bad, 0, "told to nobody");

    let before = cloud.state().attempts.len();
    let lost = Desk::with(&cloud, "lost", Settings::default(), 7200);
    sleep(HOUR).await;
    assert!(lost.news().iter().all(|said| *said == Said::Lost(Lost::Refused(5))));
    let others = cloud.state().attempts.len() - before;
    assert!(others <= 20 + 10 + 2, "{others}");
}

/// A clock that is late lets each token end early, and is back at once with a new one.
#[tokio::test(start_paused = true)]
async fn p130_tokens_of_a_late_clock_end_early() {
    let cloud = Cloud::new();
    for (name, behind, every) in [("late", 3000, 600), ("later", 3300, 300)] {
        let late = Desk::with(&cloud, name, Settings::default(), behind);
        sleep(6 * HOUR).await;
        let expired = u64::from(cloud.state().devices[name].expired);
        let most = 6 * 3600 / every;
        assert!((most * 5 / 6..=most).contains(&expired), "every {every} s: {expired}");
        let log = late.log();
        let down = log.windows(2).filter_map(|pair| match (&pair[0].1, &pair[1].1) {
            (Said::Lost(_), Said::Connected) => Some(pair[1].0 - pair[0].0),
            _ => None,
        });
        assert!(down.max().unwrap() < seconds(60));
        // As often as another device would end it: then that is asked, and whether it is the clock.
        let words = log.iter().filter_map(|(_, said)| {
            let Said::Lost(why @ Lost::Contested { .. }) = said else { return None };
            Some(why.to_string())
        });
        let words: Vec<_> = words.collect();
        assert!(every == 600 || !words.is_empty());
        assert!(words.iter().all(|words| words.contains("is this clock late")), "{words:?}");
    }
}

/// The clock is set under a running daemon, by years either way and over the end of its 31 bits: each token is made out
/// for the time that it is then, or for the floor where that cannot be, and nothing else takes notice.
#[tokio::test]
async fn p135_a_clock_that_jumps_gets_a_token_of_its_time() {
    const YEAR: u64 = 365 * 24 * 3600;
    let server = Server::start().await;
    let mut device = Device::start(&server, quick());
    let now = 1_800_000_000;
    let of_2038 = u64::from(u32::MAX >> 1);
    let times = [now, now + 10 * YEAR, now - 10 * YEAR, now, of_2038 - 1, of_2038 + 1, 1 << 33, 0, now];
    for (round, time) in times.into_iter().enumerate() {
        device.clock.store(time * 1000, std::sync::atomic::Ordering::Relaxed);
        let mut peer = server.accept().await;
        let password = peer.greet().await.password;
        let until: u64 = password.rsplit_once("&se=").unwrap().1.parse().unwrap();
        // A time before this program was made is none.
        let believed = if time < now { 1_795_219_200 } else { time };
        assert_eq!(until, believed + 3600, "{time}");
        let version = round as u64 + 1;
        let wanted = json!({"firmware": super::super::firmware(&version.to_string()), "$version": version});
        peer.give_twin(wanted, json!({})).await;
        assert_eq!(device.desired().await, version.to_string());
        // While it is connected, too.
        device.clock.store((time + 5 * YEAR) * 1000, std::sync::atomic::Ordering::Relaxed);
        peer.desire(version + 1, json!({"firmware": super::super::firmware("again")})).await;
        assert_eq!(device.desired().await, "again");
        drop(peer);
        device.lost().await;
    }
}
