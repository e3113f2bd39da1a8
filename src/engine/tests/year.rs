//! A year of the whole engine in virtual time: real works, real slots, a loader that really chooses, and clocks that are
//! wrong. What is asked for and what goes wrong is drawn from a seed; `CHAOS_SEED` plays one.

mod hub;
mod image;
mod judge;
mod story;
mod trouble;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Instant, SystemTime};

use super::*;
use crate::host::fake::Defect;
use crate::hub::tests::dice::Dice;
use judge::Figures;
use trouble::Trouble;
use world::{DAY, HOUR, World};

/// Days on which the window of an update is a special one: the evening before, when it is asked for; the window, local
/// time; and when it opens.
const SPECIAL: [(&str, &str, [&str; 2]); 3] = [
    // The hour that there is twice: the first of them.
    ("2037-10-24T19:00Z", "02:15-02:45", ["2037-10-25T00:15Z", "2037-10-25T00:16Z"]),
    // It opens seven seconds before 32 bits have no more seconds for it.
    ("2038-01-18T19:00Z", "04:14-04:20", ["2038-01-19T03:14Z", "2038-01-19T03:15Z"]),
    // There is no such time in that night: it is the next one.
    ("2038-03-27T19:00Z", "02:15-02:45", ["2038-03-29T00:15Z", "2038-03-29T00:16Z"]),
];

/// What is wrong with the device, so that a test sees that it would be found.
#[derive(Clone, Copy, Debug)]
enum Plant {
    /// The device takes local time for UTC.
    WindowInUtc,
    /// Its time since the boot is wrong.
    Deadline(Defect),
}

fn moment(text: &str) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(text.parse::<Timestamp>().unwrap().0)
}

/// So many days from this one on, with so many updates and the special ones among them.
async fn live(mut world: World, days: u32, updates: u32) -> Figures {
    let first = world.truth();
    world.settle().await;
    for day in 0..days {
        let begins = first + DAY * day;
        world.deal(day);
        let special = SPECIAL.iter().find(|(asked, ..)| (begins..begins + DAY).contains(&moment(asked)));
        let at =
            special.map_or_else(|| begins + HOUR * world.dice.below(20) as u32, |(asked, ..)| moment(asked));
        // One that is on its way over midnight has the next day, too.
        let Ok(until) = at.duration_since(world.truth()) else { continue };
        world.pass(until).await;
        let is_near = SPECIAL.iter().any(|(asked, ..)| (at..at + 3 * DAY).contains(&moment(asked)));
        if let Some((_, window, within)) = special {
            world.settle().await;
            world.update_in(window, *within).await;
        } else if !is_near && world.judge.figures.asked < updates * (day + 1) / days {
            world.settle().await;
            world.update().await;
        } else if !is_near {
            world.idle().await;
        }
    }
    while world.judge.figures.asked < updates {
        world.update().await;
    }
    world.figures()
}

/// What shows each of the plants: an hour that is another one in UTC; a trial to its deadline, in which the clock is set;
/// and one in which the machine is suspended.
async fn drill(mut world: World) -> Figures {
    world.settle().await;
    let [(_, window, within)] = [SPECIAL[1]];
    world.update_in(window, within).await;
    for trouble in [None, Some(Trouble::Suspend(3))] {
        world.deaf_trial_with(trouble).await;
    }
    world.figures()
}

/// Plays a story that begins at this moment; what was wrong, if it failed.
fn play<F: Future<Output = Figures>>(
    seed: u64,
    begins: &str,
    plant: Option<Plant>,
    story: impl FnOnce(World) -> F,
) -> Result<Figures, String> {
    println!("CHAOS_SEED={seed}");
    let began = Instant::now();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let played = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let world = World::new(seed, moment(begins));
            match plant {
                Some(Plant::WindowInUtc) => fs::remove_file(world.device.path("etc/localtime")).unwrap(),
                Some(Plant::Deadline(defect)) => world.clocks.plant(defect),
                None => {}
            }
            story(world).await
        })
    }));
    // After a failure works may wait for a time that does not come.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let played = played.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    });
    println!("{played:?}, {:?} of real time", began.elapsed());
    played
}

#[test]
fn weeks_with_an_update_every_other_day() {
    let seed = Dice::asked().unwrap_or(20_261_122);
    for begins in ["2038-01-10T00:00Z", "2038-03-20T00:00Z"] {
        let figures = play(seed, begins, None, |world| live(world, 16, 8)).unwrap();
        assert!(figures.asked >= 8 && figures.special == 1, "{figures:?}");
    }
}

#[test]
#[ignore = "deep: a year in virtual time, with 130 updates"]
fn deep_a_year_with_an_update_every_three_days() {
    let seed = Dice::asked().unwrap_or(1);
    let figures = play(seed, "2037-07-01T00:00Z", None, |world| live(world, 366, 130)).unwrap();
    assert!(figures.asked >= 130 && figures.succeeded >= 40 && figures.special == 3, "{figures:?}");
    // One for each step of an update, and little else.
    assert!(figures.saves < 6 * 366 && figures.reports < 6 * 366, "{figures:?}");
    assert!(figures.in_window >= 20 && figures.forced >= 5 && figures.deadlines >= 5, "{figures:?}");
}

#[test]
fn what_is_wrong_with_hours_and_deadlines_is_found() {
    let drill = |plant| play(1, "2038-01-18T12:00Z", plant, drill);
    drill(None).unwrap();
    for (plant, words) in [
        (Plant::WindowInUtc, "armed at 2038-01-19T04:14"),
        (Plant::Deadline(Defect::ByTheWallClock), ", only "),
        (Plant::Deadline(Defect::NotInSuspend), "a trial has no verdict"),
    ] {
        let wrong = drill(Some(plant)).unwrap_err();
        assert!(wrong.contains(words), "{plant:?}: {wrong}");
    }
}
