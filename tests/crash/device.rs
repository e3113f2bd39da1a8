//! The device of a life: its files as their maker leaves them, its images, and what its loader and kernel do at a boot.
//!
//! Smaller than the emulator's `SimDevice`, since thousands of these live: images are bytes without a file system, and
//! what a kernel would say of one is known from its place in a list. The loader and its environment are the emulator's,
//! which share no code with the daemon.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hub_emulator::device::env::{Environment, Variables};
use hub_emulator::device::{Slot, loader};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of each slot.
pub(super) const SLOT: u64 = 512 << 10;
/// More resets than any trial allows boots.
const RESETS: u32 = 10;

/// An image, and what becomes of a device that boots it.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) version: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) boots: bool,
    pub(super) is_healthy: bool,
}

impl Image {
    /// A good one of so many bytes. A tenth of its blocks is its own, the rest every version has.
    pub(super) fn good(version: &'static str, len: usize) -> Self {
        let mut bytes = Vec::with_capacity(len);
        let own = version.bytes().fold(7_u64, |sum, byte| sum * 31 + u64::from(byte));
        for block in 0..len.div_ceil(4096) {
            let mut dice = block as u64 + 1 + if block % 10 == 0 { own << 32 } else { 0 };
            for _ in 0..512 {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.extend_from_slice(&(dice >> 8).to_le_bytes());
            }
        }
        bytes.truncate(len);
        Self { version, bytes, boots: true, is_healthy: true }
    }

    /// One whose application does not work.
    pub(super) fn unhealthy(version: &'static str, len: usize) -> Self {
        Self { is_healthy: false, ..Self::good(version, len) }
    }

    /// One that does not boot.
    pub(super) fn unbootable(version: &'static str, len: usize) -> Self {
        Self { boots: false, ..Self::good(version, len) }
    }
}

/// The files of a device.
#[derive(Debug)]
pub(super) struct Device {
    directory: PathBuf,
    pub(super) environment: Environment,
}

impl Device {
    /// Makes it in `directory`, with `factory` in slot A and more for its configuration.
    pub(super) fn new(directory: &Path, factory: &Image, config: &str) -> io::Result<Self> {
        let root = directory.join("device");
        fs::create_dir(directory.join("kept"))?;
        for name in ["state", "health.d", "keys.d", "conf.d", "machine/etc", "machine/proc/sys/kernel/random"]
        {
            fs::create_dir_all(root.join(name))?;
            // Whatever the umask: a directory of health checks that others can write is not trusted.
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755))?;
        }
        for slot in [Slot::A, Slot::B] {
            let file = File::create(root.join(slot_name(slot)))?;
            file.set_len(SLOT)?;
            if slot == Slot::A {
                file.write_all_at(&factory.bytes, 0)?;
            }
        }
        let shown = root.display();
        let size = hub_emulator::device::env::SIZE;
        let files = [
            ("fw_env.config", 0o644, format!("{shown}/env0 0x0 {size:#x}\n{shown}/env1 0x0 {size:#x}\n")),
            ("health.d/10-app", 0o755, format!("#!/bin/sh\ntest -e '{shown}/machine/etc/app-ok'\n")),
            ("fresh", 0o755, format!("#!/bin/sh\necho as new > '{shown}/machine/etc/data'\n")),
            ("twinboot.toml", 0o644, configuration(&root)),
            ("conf.d/50-story.toml", 0o644, config.replace("@ROOT@", &shown.to_string())),
        ];
        for (name, mode, text) in files {
            fs::write(root.join(name), text)?;
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode))?;
        }
        let device = Self::at(directory);
        device.environment.format(&Variables::new(&[
            ("bootcmd", "run boot_slot"),
            ("bootlimit", "3"),
            ("slot", "a"),
            ("upgrade_available", "0"),
            ("bootcount", "0"),
            ("serial#", "0042"),
        ]))?;
        Ok(device)
    }

    /// The one that was made in `directory`.
    pub(super) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), environment: Environment::new(&directory.join("device")) }
    }

    /// A file of it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join("device").join(name)
    }

    /// Which of these images a slot holds, whole.
    pub(super) fn holds(&self, slot: Slot, images: &[Image]) -> io::Result<Option<usize>> {
        let found = fs::read(self.path(slot_name(slot)))?;
        Ok(images.iter().position(|image| found.starts_with(&image.bytes)))
    }

    /// Power-on: the loader chooses until something boots; the machine's files then say what its kernel would. The slot,
    /// and which image it is.
    pub(super) fn boot(&self, images: &[Image]) -> io::Result<(Slot, usize)> {
        for _ in 0..RESETS {
            let slot = loader::power_on(&self.environment)?.slot;
            let Some(index) = self.holds(slot, images)? else { continue };
            if images[index].boots {
                self.come_up(slot, &images[index])?;
                return Ok((slot, index));
            }
        }
        Err(io::Error::other(format!("it does not boot any more: {RESETS} resets in a row")))
    }

    fn come_up(&self, slot: Slot, image: &Image) -> io::Result<()> {
        let now = clock_gettime(ClockId::Boottime);
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        for (name, text) in [
            ("proc/cmdline", format!("root={} ro\n", self.path(slot_name(slot)).display())),
            ("proc/sys/kernel/random/boot_id", id),
            ("booted-at", format!("{}.{:09}\n", now.tv_sec, now.tv_nsec)),
            ("etc/os-release", format!("IMAGE_VERSION={}\n", image.version)),
        ] {
            fs::write(self.path("machine").join(name), text)?;
        }
        remove(&self.path("machine/reboot-requested"))?;
        remove(&self.path("machine/etc/app-ok"))?;
        // What the kernel and the service manager made is gone with them.
        remove(&self.path("control.sock"))?;
        if image.is_healthy {
            fs::write(self.path("machine/etc/app-ok"), "ok\n")?;
        }
        Ok(())
    }
}

/// The file of a slot.
pub(super) fn slot_name(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "slot-a",
        Slot::B => "slot-b",
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn configuration(root: &Path) -> String {
    let root = root.display();
    format!(
        r#"[hub]
connection_string_file = "{root}/connection-string"

[tls]
system_roots = false

[slots]
a = "{root}/slot-a"
b = "{root}/slot-b"

[boot]
fw_env_config = "{root}/fw_env.config"

[download]
checkpoint_every = 65536

[trust]
keys = "{root}/keys.d"

[health]
deadline = "30s"
directory = "{root}/health.d"
hub = "ignored"

[hooks]
directory = "{root}/hooks.d"

[control]
socket = "{root}/control.sock"

[state]
directory = "{root}/state"

[simulator]
root = "{root}/machine"
"#
    )
}
