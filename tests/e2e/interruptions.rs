//! Power cuts, kills, lost connections and orderly stops in the middle of it.

use std::thread;
use std::time::Duration;

use hub_emulator::FaultKind;

use super::support::{Checked, Published, Slot};
use super::{Bench, LIMIT, LONG, TWICE, V2};

/// Random numbers that can be had again: the seed is printed, and `TWINBOOT_SEED` sets it.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let given = std::env::var("TWINBOOT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = given.unwrap_or(20_261_122);
        println!("TWINBOOT_SEED={seed}");
        Self(seed | 1)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Every request goes on where the one before it was cut off, less what may be fetched twice.
pub(super) fn resumed_close_by(bench: &Bench, image: &Published) {
    let requests = bench.cloud.requests(image);
    println!("{requests:?}");
    for pair in requests.windows(2) {
        let (reached, next) = (pair[0].start + pair[0].bytes, pair[1].start);
        assert!(next <= reached, "a hole between {reached} and {next}");
        assert!(reached - next <= TWICE, "{} bytes were fetched twice", reached - next);
    }
    assert!(requests.last().is_some_and(|request| request.complete));
}

#[test]
fn p077_kills_at_any_moment_of_the_download_lose_nothing() -> Checked {
    let mut dice = Dice::new();
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &LONG);
    bench.cloud.slow(&image, 16 << 20);
    bench.cloud.desire(image.desired())?;
    let mut kills = 0;
    for kill in 0..8 {
        let sent = bench.cloud.emulator.images().bytes_sent(&image.name);
        // The first one so late that a beginning anew would cost more than is allowed.
        let at = sent + if kill == 0 { 6 << 20 } else { 300_000 + dice.below(5 << 20) };
        let requests = bench.cloud.requests(&image).len();
        let is_over = || bench.cloud.requests(&image).last().is_some_and(|request| request.complete);
        let images = bench.cloud.emulator.images();
        let reached =
            bench.cloud.emulator.wait_for(|_| images.bytes_sent(&image.name) >= at || is_over(), LIMIT);
        assert!(reached, "the download stands still");
        if is_over() {
            break;
        }
        // Every other one takes the whole machine down.
        if dice.below(2) == 0 {
            bench.device.kill_daemon()?
        } else {
            bench.device.power_cycle()?
        }
        kills += 1;
        let resumed = bench.cloud.emulator.wait_for(|_| bench.cloud.requests(&image).len() > requests, LIMIT);
        assert!(resumed, "it was not resumed\n{}", bench.device.tail());
    }
    assert!(kills >= 3, "only {kills} kills: the download was too fast");
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &LONG)?;
    resumed_close_by(&bench, &image);
    Ok(())
}

#[test]
fn power_cuts_at_any_moment_of_the_whole_update_end_well() -> Checked {
    let mut dice = Dice::new();
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.slow(&image, 8 << 20);
    bench.cloud.desire(image.desired())?;
    for _ in 0..10 {
        // The moment is the test: anything may be going on then.
        thread::sleep(Duration::from_millis(dice.below(400)));
        bench.device.power_cycle()?;
    }
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn dropped_and_silent_connections_are_resumed() -> Checked {
    let bench = Bench::with("[download]\nidle_timeout = \"1s\"\n")?;
    let image = bench.publish("2.0.0", &LONG);
    let images = bench.cloud.emulator.images();
    images.fault_once(&image.name, FaultKind::DropAfter { bytes: 6 << 20 });
    images.fault_once(&image.name, FaultKind::DropAfter { bytes: 100_000 });
    bench.cloud.desire(image.desired())?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &LONG)?;
    resumed_close_by(&bench, &image);
    assert_eq!(bench.cloud.requests(&image).len(), 3);
    let again = bench.publish("3.0.0", &super::V3);
    images.fault_once(&again.name, FaultKind::StallAfter { bytes: 1 << 20 });
    bench.cloud.desire(again.desired())?;
    bench.runs("3.0.0")?;
    resumed_close_by(&bench, &again);
    Ok(())
}

#[test]
fn a_file_that_changes_meanwhile_is_begun_anew_and_never_mixed() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &LONG);
    bench.cloud.slow(&image, 16 << 20);
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 4 << 20, LIMIT)?;
    bench.device.power_cut();
    // The same name, and from now on the bytes that the new wish promises.
    let image = bench.cloud.publish(&image.name, "3.0.0", &super::V3);
    bench.cloud.desire(image.desired())?;
    bench.device.power_on()?;
    bench.runs("3.0.0")?;
    bench.settled(Slot::B, &super::V3)
}

#[test]
fn p106_p141_an_orderly_stop_is_quick_and_goes_on_where_it_was() -> Checked {
    for is_reboot in [false, true] {
        let bench = Bench::new()?;
        let image = bench.publish("2.0.0", &LONG);
        bench.cloud.slow(&image, 8 << 20);
        bench.cloud.desire(image.desired())?;
        bench.cloud.wait_sent(&image, 6 << 20, LIMIT)?;
        let took = bench.device.stop_daemon()?;
        assert!(took <= Duration::from_secs(5), "{took:?}");
        if is_reboot {
            bench.device.power_cycle()?;
        } else {
            bench.device.start_daemon()?;
        }
        bench.runs("2.0.0")?;
        bench.settled(Slot::B, &LONG)?;
        resumed_close_by(&bench, &image);
        assert_eq!(bench.cloud.requests(&image).len(), 2);
    }
    Ok(())
}
