//! The cloud of one device: the hub emulator with its image server.

use std::path::Path;
use std::time::{Duration, Instant};

use hub_emulator::{Emulator, EventKind, FaultKind, Request};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Checked, Fault, Options, Sides, SimDevice};

/// The built program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_twinboot");

/// How long a device may take to come back.
const RECONNECT: Duration = Duration::from_secs(30);

/// An image on the image server.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) url: String,
    pub(crate) sha256: String,
    pub(crate) len: u64,
}

impl Published {
    /// The tutorial's desired property.
    pub(crate) fn desired(&self) -> Value {
        json!({"fwVersion": self.version, "fwPackageURI": self.url, "fwPackageCheckValue": self.sha256})
    }
}

/// An emulator with one device.
pub(crate) struct Cloud {
    pub(crate) emulator: Emulator,
    /// The device's id.
    pub(crate) id: &'static str,
    /// Of how many processes the daemon of a device is that it makes.
    pub(crate) sides: Sides,
}

impl Cloud {
    /// Starts an emulator and registers the device, with the tutorial's tag.
    pub(crate) fn start(id: &'static str) -> Checked<Self> {
        let emulator = Emulator::start(hub_emulator::Options::default())?;
        emulator.create_device(id, json!({"devicetype": "chiller"}))?;
        Ok(Self { emulator, id, sides: Sides::usual() })
    }

    /// Makes the device that belongs to it, switched off, with a configuration drop-in.
    pub(crate) fn device(&self, factory: &[u8], config: &str) -> Checked<SimDevice> {
        self.slow_device(factory, config, Duration::ZERO)
    }

    /// The same, but each reset takes its time.
    pub(crate) fn slow_device(&self, factory: &[u8], config: &str, reset: Duration) -> Checked<SimDevice> {
        // A real hub has one port for everybody; the emulator has to say its own.
        let connection = self.emulator.device_connection_string(self.id)?;
        let port = self.emulator.mqtt_port();
        let connection = connection.replacen(";DeviceId=", &format!(":{port};DeviceId="), 1);
        let ca = self.emulator.ca_pem();
        let options = Options::new(Path::new(PROGRAM), factory, &connection, ca);
        SimDevice::new(&Options { config, reset, sides: self.sides, ..options })
    }

    /// The same cloud, for devices whose daemon is of so many processes.
    pub(crate) fn with(self, sides: Sides) -> Self {
        Self { sides, ..self }
    }

    /// The same cloud, with the eye on another device.
    pub(crate) fn of(self, id: &'static str) -> Self {
        Self { id, ..self }
    }

    /// Makes the device that belongs to it, switched off, whose daemon is this program.
    pub(crate) fn device_of(&self, program: &Path, factory: &[u8]) -> Checked<SimDevice> {
        let connection = self.emulator.device_connection_string(self.id)?;
        let port = self.emulator.mqtt_port();
        let connection = connection.replacen(";DeviceId=", &format!(":{port};DeviceId="), 1);
        SimDevice::new(&Options::new(program, factory, &connection, self.emulator.ca_pem()))
    }

    /// The device's secret key, to look for where it must not be.
    pub(crate) fn key(&self) -> Checked<String> {
        let connection = self.emulator.device_connection_string(self.id)?;
        let key = connection.rsplit_once("SharedAccessKey=").map(|(_, key)| key.to_owned());
        key.ok_or_else(|| Fault("a connection string has a key".into()))
    }

    /// Puts an image on the image server.
    pub(crate) fn publish(&self, name: &str, version: &str, image: &[u8]) -> Published {
        let sha256 = Sha256::digest(image).iter().map(|byte| format!("{byte:02x}")).collect();
        let url = self.emulator.images().put(name, image);
        let (name, version) = (name.to_owned(), version.to_owned());
        Published { name, version, url, sha256, len: image.len() as u64 }
    }

    /// The image server sends this image at this rate from now on.
    pub(crate) fn slow(&self, image: &Published, bytes_per_second: u64) {
        self.emulator.images().fault(&image.name, FaultKind::Slow { bytes_per_second });
    }

    /// Wants this `firmware` object, or none if it is null.
    pub(crate) fn desire(&self, firmware: Value) -> Checked {
        self.emulator.patch_twin(self.id, json!({"properties": {"desired": {"firmware": firmware}}}))?;
        Ok(())
    }

    /// What the device reported last.
    pub(crate) fn reported(&self) -> Value {
        self.emulator.twin(self.id)["properties"]["reported"].take()
    }

    /// Waits until the reported properties are as wanted; what they are then.
    pub(crate) fn wait_reported(
        &self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Checked<Value> {
        if self.emulator.wait_for(|hub| wanted(&hub.reported(self.id)), limit) {
            return Ok(self.reported());
        }
        Err(Fault(format!("waited {limit:?} for {what}; reported is {:#}", self.reported())))
    }

    /// Waits until the device is connected, or until it is not.
    pub(crate) fn wait_connected(&self, connected: bool, limit: Duration) -> Checked {
        if self.emulator.wait_for(|hub| hub.device_connected(self.id) == connected, limit) {
            return Ok(());
        }
        Err(Fault(format!(
            "waited {limit:?} for the device to be {}connected",
            if connected { "" } else { "dis" }
        )))
    }

    /// Waits until the image server has sent so many bytes of an image.
    pub(crate) fn wait_sent(&self, image: &Published, bytes: u64, limit: Duration) -> Checked {
        let images = self.emulator.images();
        if self.emulator.wait_for(|_| images.bytes_sent(&image.name) >= bytes, limit) {
            return Ok(());
        }
        Err(Fault(format!(
            "waited {limit:?} for {bytes} bytes of {} to be sent: {:?}",
            image.name,
            images.log()
        )))
    }

    /// Calls a direct method; status and payload. A device that is just coming up is waited for.
    pub(crate) fn call(&self, method: &str, payload: Value) -> Checked<(i64, Value)> {
        let deadline = Instant::now() + RECONNECT;
        loop {
            let answer = self.emulator.invoke_method(self.id, method, payload.clone(), RECONNECT);
            match answer {
                Err(error) if error.to_string().contains("DeviceNotOnline") && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(answer) => return Ok(answer),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does something that makes the device connect anew. It must read its twin, and then have nothing to do: its
    /// answer to a method that is called after the twin was sent proves that it has seen it.
    pub(crate) fn idle_after(&self, act: impl FnOnce() -> Checked) -> Checked {
        let events = self.emulator.events();
        act()?;
        let deadline = Instant::now() + RECONNECT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event =
                events.recv_timeout(left).map_err(|_| Fault("the device did not read its twin".into()))?;
            if matches!(event.kind, EventKind::TwinRead { .. }) {
                break;
            }
        }
        match self.call("status", Value::Null)? {
            (200, status) if status["phase"] == "idle" => Ok(()),
            (code, status) => Err(Fault(format!("the device is not idle: {code} {status}"))),
        }
    }

    /// What was asked of the image server for this image.
    pub(crate) fn requests(&self, image: &Published) -> Vec<Request> {
        self.emulator.images().log().into_iter().filter(|request| request.name == image.name).collect()
    }

    /// Bytes of this image that were sent more than once: all that was sent, less the image.
    pub(crate) fn sent_twice(&self, image: &Published) -> u64 {
        self.emulator.images().bytes_sent(&image.name).saturating_sub(image.len)
    }
}
