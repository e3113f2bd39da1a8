//! Whole devices through a way on which all goes wrong that can: the hub and the images both lie behind
//! [`hub_emulator::Chaos`]. The real daemon updates, reboots, is killed and loses power meanwhile. Each run has a seed,
//! which is printed; `CHAOS_SEED=n` plays that one alone.
//!
//! Whatever happened: once the way is good again, the newest wish runs and is kept, and the hub holds what the device
//! says of itself. The session alone goes through many more of these storms: `src/hub/tests/chaos.rs`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hub_emulator::Chaos;
use serde_json::{Value, json};

use super::support::{Checked, Cloud, Fault, Happening, Options, Published, Recipe, SimDevice, Slot};
use super::{MIB, V1, V3};

/// How long a device may need once the way is good: it may have to find out about a dead connection, and wait.
const CALM: Duration = Duration::from_secs(180);
/// The built program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_twinboot");
/// Bytes of a hub connection in which something can happen.
const TALK: u64 = 12 * 1024;
/// The same of a download.
const IMAGE: u64 = 2 << 20;

/// Shorter waits than a device in the field has, or a storm would last for hours.
const CONFIG: &str = r#"
[hub]
keep_alive = "10s"
backoff = ["100ms", "2s"]
[report]
progress_every = "1s"
[download]
connect_timeout = "2s"
idle_timeout = "1s"
backoff = ["100ms", "500ms"]
"#;

/// Random numbers that can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// The image's address by way of a proxy.
fn by_way_of(image: &Published, from: u16, to: u16) -> Value {
    let mut desired = image.desired();
    desired["fwPackageURI"] = image.url.replacen(&format!(":{from}/"), &format!(":{to}/"), 1).into();
    desired
}

/// One storm; what it was like, in a line.
fn storm(seed: u64) -> Checked<String> {
    let began = Instant::now();
    let cloud = Cloud::start("gateway")?;
    let (hub, https) = (cloud.emulator.mqtt_port(), cloud.emulator.https_port());
    let talk = Chaos::start(([127, 0, 0, 1], hub).into(), seed, TALK)?;
    let images = Chaos::start(([127, 0, 0, 1], https).into(), !seed, IMAGE)?;
    let connection = cloud.emulator.device_connection_string("gateway")?;
    let connection = connection.replacen(";DeviceId=", &format!(":{};DeviceId=", talk.port()), 1);
    let options = Options::new(Path::new(PROGRAM), &V1, &connection, cloud.emulator.ca_pem());
    let device = SimDevice::new(&Options { config: CONFIG, ..options })?;
    device.power_on()?;

    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for number in 0..3 + dice.below(3) {
        match dice.below(6) {
            0 => device.power_cycle()?,
            1 => device.kill_daemon()?,
            2 => cloud.desire(Value::Null)?,
            kind => {
                let version = format!("2.{number}.0");
                let recipe = if kind == 3 { Recipe::unhealthy } else { Recipe::good };
                let image = cloud.publish(&version, &version, &recipe(&version, 2 * MIB).make());
                cloud
                    .emulator
                    .set_desired("gateway", json!({ "firmware": by_way_of(&image, https, images.port()) }))?;
            }
        }
        thread::sleep(Duration::from_millis(dice.below(1500)));
    }
    let image = cloud.publish("3.0.0", "3.0.0", &V3);
    let mut wish = by_way_of(&image, https, images.port());
    cloud.emulator.set_desired("gateway", json!({ "firmware": wish }))?;
    thread::sleep(Duration::from_millis(dice.below(1000)));
    talk.calm();
    images.calm();
    let calm = Instant::now();
    // Many storms are survived by the download; where its attempts were used up, somebody asks once more.
    let over = |reported: &Value| {
        let firmware = &reported["firmware"];
        firmware["currentFwVersion"] == "3.0.0" && firmware["fwUpdateStatus"] == "current"
            || firmware["fwUpdateCode"].as_str().is_some_and(|code| code.starts_with("download."))
    };
    let told = |fault: Fault| Fault(format!("CHAOS_SEED={seed}: {fault}\n{}", device.tail()));
    let reported = cloud.wait_reported("an end", CALM, over).map_err(told)?;
    let gave_up = reported["firmware"]["currentFwVersion"] != "3.0.0";
    if gave_up {
        wish["jobId"] = "once more".into();
        cloud.desire(wish)?;
    }
    let kept = |it: &Value| {
        it["firmware"]["currentFwVersion"] == "3.0.0" && it["firmware"]["fwUpdateStatus"] == "current"
    };
    cloud.wait_reported("version 3.0.0", CALM, kept).map_err(told)?;
    let took = calm.elapsed();
    agree(&cloud, &device).map_err(told)?;
    let connections = (talk.connections(), images.connections());
    keeps_the_cap(&device, connections.0, seed);
    Ok(format!(
        "CHAOS_SEED={seed}: {connections:?} connections, {} boots, {}right {took:.1?} after the storm, {:.1?} in all",
        device.boots(),
        if gave_up { "one download given up, " } else { "" },
        began.elapsed()
    ))
}

/// At most sixty connections in an hour for each life of the daemon; none of them lasts for one.
fn keeps_the_cap(device: &SimDevice, connections: u64, seed: u64) {
    let booted = |entry: &super::support::Entry| matches!(entry.what, Happening::Booted(..));
    // It may also have been killed, which is not told.
    let lives = device.since(0).iter().filter(|entry| booted(entry)).count() as u64 + 6;
    assert!(connections <= 60 * lives, "CHAOS_SEED={seed}: {connections} connections");
}

/// The slot, the bootloader, the device's own status and the twin tell the same story.
fn agree(cloud: &Cloud, device: &SimDevice) -> Checked {
    let booted = device.booted();
    assert_eq!(booted, device.default());
    assert!(device.slot_bytes(booted.unwrap_or(Slot::A), V3.len())? == *V3, "the slot holds something else");
    let (status, reported) = (device.status()?, cloud.reported());
    assert_eq!(status["phase"], "idle", "{status}");
    let last = &status["last"];
    assert!(last["outcome"] == "succeeded" || last["outcome"] == "up-to-date", "{status}");
    assert_eq!(reported["firmware"]["fwUpdateCode"], last["code"], "{reported}");
    assert_eq!(reported["firmware"]["lastFwUpdateEndTime"], last["ended"], "{reported}");
    let (code, answer) = cloud.call("status", Value::Null)?;
    assert_eq!((code, &answer["phase"]), (200, &json!("idle")));
    Ok(())
}

/// So many, some at a time.
fn storms(first: u64, runs: u64) -> Checked {
    let asked = std::env::var("CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let (first, runs) = asked.map_or((first, runs), |seed| (seed, 1));
    let next = AtomicU64::new(first);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..runs.min(12))
            .map(|_| {
                scope.spawn(|| -> Checked {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + runs {
                            return Ok(());
                        }
                        println!("{}", storm(seed)?);
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("told above"))
    })
}

#[test]
fn two_devices_survive_a_storm() -> Checked {
    storms(1, 2)
}

#[test]
#[ignore = "deep: 40 whole devices"]
fn deep_forty_devices_survive_a_storm() -> Checked {
    storms(100, 40)
}
