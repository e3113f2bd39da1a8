//! The four scenes, each with what must be true after it.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::screen::Screen;
use crate::story::{self, Shown, mib};
use crate::support::{Checked, Cloud, Fault, Happening, Published, Recipe, SimDevice, Slot};

const MIB: usize = 1 << 20;
/// What the image server sends in a second: little, where there is somebody to watch.
const RATES: [u64; 2] = [12 << 20, 3 << 20];
/// Far more than any scene takes.
const LIMIT: Duration = Duration::from_secs(30);
/// What an interruption may cost.
const TWICE: u64 = 4 << 20;

const DEVICE: &str = "gateway-0042";
const TITLES: [&str; 4] = [
    "An update, from the cloud to the device and back",
    "The connection drops and the power fails in the middle of it",
    "A system that runs, and is not well",
    "A system that does not boot",
];

/// How each scene ended: a sentence, or what went wrong.
pub(crate) type Verdicts = Vec<(&'static str, Checked<String>)>;

/// Plays all scenes on one device; after one that failed, no more.
pub(crate) fn play(screen: &Screen, is_live: bool) -> Verdicts {
    let stage = match Stage::set(screen, is_live) {
        Ok(stage) => stage,
        Err(fault) => return vec![("The stage", Err(fault))],
    };
    let scenes = [Stage::update, Stage::interruptions, Stage::unhealthy, Stage::unbootable];
    let mut verdicts = Verdicts::new();
    for (number, (title, scene)) in (1..).zip(TITLES.into_iter().zip(scenes)) {
        screen.heading(&format!("{number}  {title}"));
        let verdict = scene(&stage);
        let failed = verdict.is_err();
        // What is still on its way to the screen belongs under this scene's heading.
        thread::sleep(Duration::from_millis(50));
        verdicts.push((title, verdict));
        if failed {
            break;
        }
    }
    screen.curtain();
    screen.heading(&format!("What the hub knows of {DEVICE}: its reported properties"));
    if is_live {
        let mut reported = stage.cloud.reported();
        if let Some(members) = reported.as_object_mut() {
            members.retain(|name, _| !name.starts_with('$'));
        }
        screen.plain(&format!("{reported:#}"));
    }
    verdicts
}

struct Stage {
    cloud: Arc<Cloud>,
    device: SimDevice,
    shown: Shown,
    images: [Vec<u8>; 4],
    rate: u64,
}

impl Stage {
    fn set(screen: &Screen, is_live: bool) -> Checked<Self> {
        screen.heading("Making five images and a device with two slots");
        let recipes = [
            Recipe::good("1.0.0", 4 * MIB),
            Recipe::good("2.0.0", 12 * MIB),
            Recipe::good("3.0.0", 16 * MIB),
            Recipe::unhealthy("4.0.0", 8 * MIB),
            Recipe::unbootable("5.0.0", 8 * MIB),
        ];
        let makers = recipes.map(|recipe| thread::spawn(move || recipe.make()));
        let [factory, images @ ..] = makers.map(|maker| maker.join().expect("an image can be made"));
        let cloud = Arc::new(Cloud::start(DEVICE)?);
        let reset = if is_live { Duration::from_millis(400) } else { Duration::ZERO };
        let device = cloud.slow_device(&factory, "", reset)?;
        let shown = Shown::new(Mutex::new(String::new()));
        story::follow_cloud(&cloud, &shown, screen.pen());
        story::follow_device(device.listen(), screen.pen());
        Ok(Self { cloud, device, shown, images, rate: RATES[usize::from(is_live)] })
    }

    /// Puts an image on the server and rolls it out by an automatic configuration with the tutorial's five metrics.
    fn roll_out(&self, index: usize, version: &str) -> Checked<Published> {
        let image = self.publish(index, version);
        let id = configuration_id(version);
        self.shown.lock().unwrap().clone_from(&id);
        self.cloud.emulator.create_configuration(configuration(&id, index, &image))?;
        Ok(image)
    }

    fn publish(&self, index: usize, version: &str) -> Published {
        let image = self.cloud.publish(&format!("gateway-{version}.squashfs"), version, &self.images[index]);
        self.cloud.slow(&image, self.rate);
        image
    }

    fn update(&self) -> Checked<String> {
        self.device.power_on()?;
        self.cloud.wait_reported("version 1.0.0", LIMIT, runs("1.0.0"))?;
        let image = self.roll_out(0, "2.0.0")?;
        self.cloud.wait_reported("version 2.0.0", LIMIT, runs("2.0.0"))?;
        self.settled(Slot::B, "2.0.0", 0)?;
        let twice = self.cloud.sent_twice(&image);
        check(twice == 0, || format!("{twice} bytes were fetched twice without any interruption"))?;
        let metrics = story::metrics(&self.cloud.emulator.configuration(&configuration_id("2.0.0")));
        check(metrics == "targeted 1, applied 1, current 1", || format!("the metrics are {metrics}"))?;
        Ok(format!("2.0.0 runs and is kept; {} fetched, none twice; metrics: {metrics}", mib(image.len)))
    }

    fn interruptions(&self) -> Checked<String> {
        let name = "gateway-3.0.0.squashfs";
        let drop = hub_emulator::FaultKind::DropAfter { bytes: 5 << 20 };
        self.cloud.emulator.images().fault_once(name, drop);
        let image = self.roll_out(1, "3.0.0")?;
        self.cloud.wait_sent(&image, 11 << 20, LIMIT)?;
        self.device.power_cut();
        thread::sleep(Duration::from_millis(700));
        self.device.power_on()?;
        self.cloud.wait_reported("version 3.0.0", LIMIT, runs("3.0.0"))?;
        self.settled(Slot::A, "3.0.0", 1)?;
        let twice = self.cloud.sent_twice(&image);
        check(twice <= 2 * TWICE, || format!("{twice} bytes were fetched twice"))?;
        let requests = self.cloud.requests(&image).len();
        check(requests >= 3, || format!("only {requests} requests: nothing was interrupted"))?;
        let len = mib(image.len);
        Ok(format!(
            "3.0.0 runs; {len} fetched in {requests} pieces, {twice} bytes ({}) of them twice",
            mib(twice)
        ))
    }

    fn unhealthy(&self) -> Checked<String> {
        let from = self.device.now();
        let image = self.roll_out(2, "4.0.0")?;
        let why = self.rolled_back("4.0.0", "health.failed")?;
        self.device.wait("the sick system to run", from, LIMIT, |happening| {
            matches!(happening, Happening::Booted(Slot::B, version) if version == "4.0.0").then_some(())
        })?;
        self.not_retried(&image)?;
        Ok(format!("back on 3.0.0 and not tried again ({why})"))
    }

    fn unbootable(&self) -> Checked<String> {
        let from = self.device.now();
        let image = self.roll_out(3, "5.0.0")?;
        let why = self.rolled_back("5.0.0", "boot.fallback")?;
        let hangs =
            self.device.since(from).iter().filter(|entry| entry.what == Happening::Hung(Slot::B)).count();
        check(hangs == 3, || format!("the loader tried it {hangs} times"))?;
        self.not_retried(&image)?;
        Ok(format!("the loader went back to 3.0.0 after {hangs} tries, and it is not tried again ({why})"))
    }

    /// The new system runs, is the default, and its slot holds the image to the byte.
    fn settled(&self, slot: Slot, version: &str, index: usize) -> Checked {
        let (booted, default) = (self.device.booted(), self.device.default());
        check(booted == Some(slot), || format!("{booted:?} runs"))?;
        check(default == Some(slot), || format!("{default:?} is the default"))?;
        let found = self.device.slot_bytes(slot, self.images[index].len())?;
        check(found == self.images[index], || format!("slot {} does not hold {version}", slot.letter()))
    }

    /// Waits for the report of a rollback, with its reason; slot A must run and be the default.
    fn rolled_back(&self, version: &str, code: &str) -> Checked<String> {
        let what = format!("the report that {version} was rolled back: {code}");
        self.cloud.wait_reported(&what, LIMIT, |reported| {
            let firmware = &reported["firmware"];
            firmware["fwUpdateStatus"] == "rolledback"
                && firmware["fwUpdateCode"] == code
                && firmware["currentFwVersion"] == "3.0.0"
        })?;
        self.settled(Slot::A, "3.0.0", 1)?;
        Ok(code.to_owned())
    }

    /// The hub still wants it. The device connects anew, and starts anew; and nothing is fetched.
    fn not_retried(&self, image: &Published) -> Checked {
        let before = (self.cloud.requests(image).len(), self.cloud.emulator.images().bytes_sent(&image.name));
        self.cloud.idle_after(|| {
            self.cloud.emulator.drop_device(DEVICE);
            Ok(())
        })?;
        self.cloud.idle_after(|| self.device.power_cycle())?;
        let after = (self.cloud.requests(image).len(), self.cloud.emulator.images().bytes_sent(&image.name));
        check(before == after, || {
            format!("it was tried again: {before:?} requests and bytes, then {after:?}")
        })
    }
}

fn check(is_true: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if is_true { Ok(()) } else { Err(Fault(otherwise())) }
}

fn runs(version: &str) -> impl FnMut(&Value) -> bool {
    move |reported| {
        let firmware = &reported["firmware"];
        firmware["currentFwVersion"] == version && firmware["fwUpdateStatus"] == "current"
    }
}

/// As the tutorial names them: `firmware285` for 2.8.5.
fn configuration_id(version: &str) -> String {
    format!("firmware{}", version.replace('.', ""))
}

/// The tutorial's configuration, with its five metrics.
fn configuration(id: &str, priority: usize, image: &Published) -> Value {
    let metric = |words: &[&str]| {
        let words: Vec<_> = words
            .iter()
            .map(|word| format!("properties.reported.firmware.fwUpdateStatus='{word}'"))
            .collect();
        let condition = words.join(" OR ");
        format!(
            "SELECT deviceId FROM devices WHERE configurations.[[{id}]].status='Applied' AND ({condition})"
        )
    };
    json!({
        "id": id,
        "schemaVersion": "1.0",
        "priority": 20 + priority,
        "targetCondition": "tags.devicetype = 'chiller'",
        "content": {"deviceContent": {"properties.desired.firmware": image.desired()}},
        "metrics": {"queries": {
            "current": metric(&["current"]),
            "applying": metric(&["downloading", "verifying", "applying"]),
            "rebooting": metric(&["rebooting"]),
            "error": metric(&["error"]),
            "rolledback": metric(&["rolledback"]),
        }},
    })
}
