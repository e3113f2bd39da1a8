//! Whole updates on a simulated device: the real daemon, the hub emulator, and a bootloader that reads what is on
//! disk. What an adapter does by itself is tested beside it; here is what an operator would see.
#![allow(clippy::unwrap_used)]

mod bundles;
mod chaos;
mod damage;
mod guard;
mod hooks;
mod interruptions;
mod keys;
mod limits;
mod methods;
mod missing;
mod parts;
mod policy;
mod refusals;
mod reload;
mod reports;
mod requests;
mod secrets;
mod settings;
mod sides;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod trials;
mod updates;
mod ways;

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use support::{Checked, Cloud, Happening, Published, Recipe, Sides, SimDevice, Slot};

const MIB: usize = 1 << 20;
/// Far longer than anything here takes, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(40);
/// What an interruption may cost: bytes that are fetched twice.
const TWICE: u64 = 4 << 20;

static V1: LazyLock<Vec<u8>> = LazyLock::new(|| Recipe::good("1.0.0", MIB).make());
static V2: LazyLock<Vec<u8>> = LazyLock::new(|| Recipe::good("2.0.0", 3 * MIB).make());
static V3: LazyLock<Vec<u8>> = LazyLock::new(|| Recipe::good("3.0.0", 2 * MIB).make());
/// Long enough to be interrupted often.
static LONG: LazyLock<Vec<u8>> = LazyLock::new(|| Recipe::good("2.0.0", 20 * MIB).make());

/// A device that runs version 1.0.0 from slot A and is connected.
struct Bench {
    device: SimDevice,
    cloud: Cloud,
}

impl Bench {
    fn new() -> Checked<Self> {
        Self::with("")
    }

    /// With a drop-in for the configuration.
    fn with(config: &str) -> Checked<Self> {
        let bench = Self::off(config)?;
        bench.device.power_on()?;
        bench.runs("1.0.0")?;
        Ok(bench)
    }

    /// With a drop-in for the configuration that depends on the cloud.
    fn by(config: impl FnOnce(&Cloud) -> Checked<String>) -> Checked<Self> {
        Self::of(Sides::usual(), config)
    }

    /// The same, of so many processes.
    fn of(sides: Sides, config: impl FnOnce(&Cloud) -> Checked<String>) -> Checked<Self> {
        let cloud = Cloud::start("gateway")?.with(sides);
        let device = cloud.device(&V1, &config(&cloud)?)?;
        Ok(Self { device, cloud })
    }

    /// Not yet switched on.
    fn off(config: &str) -> Checked<Self> {
        let cloud = Cloud::start("gateway")?;
        let device = cloud.device(&V1, config)?;
        Ok(Self { device, cloud })
    }

    fn publish(&self, version: &str, image: &[u8]) -> Published {
        self.cloud.publish(&format!("{version}.squashfs"), version, image)
    }

    /// Waits for the report that all is well and this version runs.
    fn runs(&self, version: &str) -> Checked<Value> {
        self.reports(&format!("{version} is current"), |firmware| {
            firmware["currentFwVersion"] == version && firmware["fwUpdateStatus"] == "current"
        })
    }

    /// Waits for a report of the object `firmware`; the whole of what is reported then.
    fn reports(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Checked<Value> {
        let waited = self.cloud.wait_reported(what, LIMIT, |reported| wanted(&reported["firmware"]));
        waited.map_err(|fault| support::Fault(format!("{fault}\n{}", self.device.tail())))
    }

    /// Waits for a status word with a failure code.
    fn fails(&self, word: &str, code: &str) -> Checked<Value> {
        self.reports(&format!("{word} because of {code}"), |firmware| {
            firmware["fwUpdateStatus"] == word && firmware["fwUpdateCode"] == code
        })
    }

    /// Wants an image and waits until it runs and is kept.
    fn update(&self, version: &str, image: &[u8]) -> Checked<Published> {
        let published = self.publish(version, image);
        self.cloud.desire(published.desired())?;
        self.runs(version)?;
        Ok(published)
    }

    /// This slot runs, is the default, and holds just this image.
    fn settled(&self, slot: Slot, image: &[u8]) -> Checked {
        assert_eq!((self.device.booted(), self.device.default()), (Some(slot), Some(slot)));
        let found = self.device.slot_bytes(slot, image.len())?;
        assert!(found == image, "slot {} holds something else", slot.letter());
        Ok(())
    }

    /// Nothing was fetched, written, armed or rebooted: the device is as it was made.
    fn is_untouched(&self) -> Checked {
        assert_eq!(self.device.boots(), 1);
        self.settled(Slot::A, &V1)?;
        assert!(
            self.device.slot_bytes(Slot::B, 4 * MIB)?.iter().all(|byte| *byte == 0),
            "slot b was written"
        );
        assert_eq!(self.cloud.emulator.images().log(), []);
        Ok(())
    }

    /// Waits for a line of the daemon's that has this in it, after place `from` of the journal.
    fn says(&self, text: &str, from: usize) -> Checked {
        self.device.wait(&format!("the line {text:?}"), from, LIMIT, |happening| {
            matches!(happening, Happening::Said(line) if line.contains(text)).then_some(())
        })
    }

    /// The hub drops the connection; the device comes back, looks at its twin, and has nothing to do.
    fn reconnects_idle(&self) -> Checked {
        self.cloud.idle_after(|| {
            self.cloud.emulator.drop_device("gateway");
            Ok(())
        })
    }
}
