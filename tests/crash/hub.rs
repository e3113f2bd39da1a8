//! The hub of the stories that need one: the emulator, one for all lives, each with a device of its own.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use hub_emulator::{Emulator, Options};
use serde_json::{Value, json};

use super::device::Device;
use super::stories::IMAGES;

/// What a device needs of its configuration to reach it.
pub(super) const REACHED: &str = "[tls]\nca_files = ['@ROOT@/ca.pem']\n[hub]\nbackoff = ['100ms', '1s']\n";

/// With the address of each image.
static HUB: LazyLock<(Emulator, Vec<String>)> = LazyLock::new(|| {
    let emulator = Emulator::start(Options::default()).expect("the emulator starts");
    let urls = IMAGES.iter().map(|image| emulator.images().put(image.version, image.bytes.clone())).collect();
    (emulator, urls)
});

/// A device at the hub.
#[derive(Debug)]
pub(super) struct Twin(String);

impl Twin {
    /// Registers one, and gives its key to the device.
    pub(super) fn register(device: &Device) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("gateway-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        HUB.0.create_device(&id, json!({})).map_err(io::Error::other)?;
        let connection = HUB.0.device_connection_string(&id).map_err(io::Error::other)?;
        let port = HUB.0.mqtt_port();
        let connection = connection.replacen(";DeviceId=", &format!(":{port};DeviceId="), 1);
        for (name, text) in [("connection-string", connection.as_str()), ("ca.pem", HUB.0.ca_pem())] {
            std::fs::write(device.path(name), text)?;
            std::fs::set_permissions(device.path(name), std::fs::Permissions::from_mode(0o600))?;
        }
        Ok(Self(id))
    }

    /// Wants this image.
    pub(super) fn desire(&self, image: usize, sha256: &Value, hold: bool) -> Result<(), String> {
        let (version, url) = (IMAGES[image].version, &HUB.1[image]);
        let firmware = json!({
            "fwVersion": version, "fwPackageURI": url, "fwPackageCheckValue": sha256, "fwHold": hold,
        });
        let patch = json!({"properties": {"desired": {"firmware": firmware}}});
        HUB.0.patch_twin(&self.0, patch).map(drop).map_err(|error| error.to_string())
    }
}
