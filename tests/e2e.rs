//! Whole updates on a simulated device: the real daemon, a hub emulator, a bootloader that reads what is on disk.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use support::{Checked, Cloud, Recipe, Slot};

const MIB: usize = 1 << 20;
/// For what takes as long as a small update.
const LIMIT: Duration = Duration::from_secs(40);

static V1: LazyLock<Vec<u8>> = LazyLock::new(|| Recipe::good("1.0.0", MIB).make());
static V2: LazyLock<Vec<u8>> = LazyLock::new(|| Recipe::good("2.0.0", 3 * MIB).make());

fn status_is<'a>(word: &'a str) -> impl FnMut(&Value) -> bool + 'a {
    move |reported| reported["firmware"]["fwUpdateStatus"] == word
}

#[test]
fn an_update_goes_all_the_way() -> Checked {
    let cloud = Cloud::start("gateway")?;
    let device = cloud.device(&V1, "")?;
    device.power_on()?;
    cloud.wait_reported("version 1", LIMIT, |it| it["firmware"]["currentFwVersion"] == "1.0.0")?;
    let image = cloud.publish("v2.squashfs", "2.0.0", &V2);
    cloud.desire(image.desired())?;
    let reported = cloud.wait_reported("version 2", LIMIT, |it| {
        it["firmware"]["currentFwVersion"] == "2.0.0" && status_is("current")(it)
    })?;
    println!("{reported:#}\n{}", device.tail());
    assert_eq!(device.booted(), Some(Slot::B));
    assert_eq!(device.default(), Some(Slot::B));
    assert_eq!(device.slot_bytes(Slot::B, V2.len())?, *V2);
    Ok(())
}
