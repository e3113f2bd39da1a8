//! Slots of several partitions: a boot partition and the root file system, updated as one.

use std::fs;

use super::support::{Checked, Slot};
use super::{Bench, LIMIT, LONG, MIB, TWICE, V1};

/// No multiple of anything: the root file system begins wherever the first partition ends.
const BOOT: usize = MIB + 512;

#[test]
fn a_slot_of_two_partitions_is_updated_as_one_through_power_cuts() -> Checked {
    let bench = Bench::off("")?;
    let path = |name: &str| bench.device.path(name);
    for (name, byte) in [("boot-a", 1), ("boot-b", 2)] {
        fs::write(path(name), vec![byte; BOOT])?;
    }
    let list = |slot: &str| {
        format!("{slot} = [{:?}, {:?}]\n", path(&format!("boot-{slot}")), path(&format!("slot-{slot}")))
    };
    fs::write(path("conf.d/60-slots.toml"), format!("[slots]\n{}{}", list("a"), list("b")))?;
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    let status = bench.device.status()?;
    assert_eq!(status["slots"]["b"][0]["size"], BOOT, "{status:#}");
    assert_eq!(status["slots"]["b"][1]["device"], path("slot-b").display().to_string(), "{status:#}");

    let boot: Vec<u8> = (0..BOOT).map(|at| (at * 7 % 251) as u8).collect();
    let image = bench.publish("2.0.0", &[boot.as_slice(), &LONG].concat());
    bench.cloud.slow(&image, 8 << 20);
    bench.cloud.desire(image.desired())?;
    // In the first partition, soon behind its end, and far in the second.
    for sent in [MIB / 2, 2 * MIB, 10 * MIB] {
        bench.cloud.wait_sent(&image, sent as u64, LIMIT)?;
        bench.device.power_cycle()?;
    }
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &LONG)?;
    assert!(fs::read(path("boot-b"))? == boot, "the boot partition holds something else");
    assert!(fs::read(path("boot-a"))?.iter().all(|byte| *byte == 1), "the running system's was written");
    assert_eq!(bench.device.slot_bytes(Slot::A, V1.len())?, *V1);
    assert!(bench.cloud.sent_twice(&image) <= 3 * TWICE, "{}", bench.cloud.sent_twice(&image));

    // What is no longer than the first partition has no root file system, and is not tried.
    let boots = bench.device.boots();
    bench.cloud.desire(bench.publish("3.0.0", &boot).desired())?;
    let reported = bench.fails("error", "image.undecodable")?;
    let detail = reported["firmware"]["fwUpdateSubstatus"].as_str().unwrap_or_default();
    assert!(detail.contains("the root file system of slot A begins at byte 1049088"), "{detail}");
    assert_eq!(bench.device.boots(), boots);
    bench.settled(Slot::B, &LONG)
}
