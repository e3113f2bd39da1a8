//! What a gateway knows of itself without anybody's help: small files of the kernel and of the firmware.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Settings;

/// Finds one out, blocking; or says why it cannot.
pub(super) type Reader = fn(&Settings) -> Result<Value, String>;

/// All of them, by name.
pub(super) const ALL: [(&str, Reader); 8] = [
    ("freeSpace", free_space),
    ("hostname", |settings| text(settings, &["proc/sys/kernel/hostname", "etc/hostname"])),
    ("kernel", |settings| text(settings, &["proc/sys/kernel/osrelease"])),
    ("memoryFree", |settings| memory(settings, "MemAvailable")),
    ("memoryTotal", |settings| memory(settings, "MemTotal")),
    // The device tree's name of the board, else what the PC firmware says.
    ("model", |settings| {
        text(settings, &["sys/firmware/devicetree/base/model", "sys/class/dmi/id/product_name"])
    }),
    ("serial", serial),
    ("timeZone", time_zone),
];

/// Longest text taken.
const LONGEST: usize = 256;

/// The first of these files that has something to say, as one line.
fn text(settings: &Settings, names: &[&str]) -> Result<Value, String> {
    let mut why = String::new();
    for name in names {
        match first_line(&settings.root.join(name)) {
            Ok(line) => return Ok(line.into()),
            Err(error) if why.is_empty() => why = error,
            Err(_) => {}
        }
    }
    Err(why)
}

fn first_line(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    // A device tree's texts end with a NUL.
    let text = String::from_utf8_lossy(&bytes);
    let line = text.trim_matches(['\0', '\n', ' ']).lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if line.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(line) }
}

/// Bytes that we could still write to the file system of the state directory.
fn free_space(settings: &Settings) -> Result<Value, String> {
    let space = rustix::fs::statvfs(&settings.state)
        .map_err(|error| format!("{} cannot be asked: {error}", settings.state.display()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize).into())
}

/// A line of `/proc/meminfo`, such as `MemTotal:  1019512 kB`, in bytes.
fn memory(settings: &Settings, wanted: &str) -> Result<Value, String> {
    let path = settings.root.join("proc/meminfo");
    let text =
        fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| (kib * 1024).into()).ok_or_else(|| format!("{} does not tell {wanted}", path.display()))
}

/// The device tree's serial number, else the PC firmware's, else the one in `/proc/cpuinfo` of older ARM kernels.
fn serial(settings: &Settings) -> Result<Value, String> {
    let files = ["sys/firmware/devicetree/base/serial-number", "sys/class/dmi/id/product_serial"];
    text(settings, &files).or_else(|why| {
        let text = fs::read_to_string(settings.root.join("proc/cpuinfo")).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix("Serial")?.split_once(':'));
        value.map(|(_, serial)| serial.trim()).filter(|serial| !serial.is_empty()).map(Value::from).ok_or(why)
    })
}

/// The name of the system's time zone, as localtime(5) has it: where the link leads; without one, UTC.
fn time_zone(settings: &Settings) -> Result<Value, String> {
    let path = settings.root.join("etc/localtime");
    match fs::read_link(&path) {
        Ok(target) => {
            let target = target.to_string_lossy();
            let name = target.rsplit_once("zoneinfo/").map(|(_, name)| name.to_owned());
            name.map(Value::from).ok_or_else(|| format!("{} leads to {target}", path.display()))
        }
        // Debian keeps the name here, too; a copy in place of the link does not tell it.
        Err(_) => match text(settings, &["etc/timezone"]) {
            Ok(name) => Ok(name),
            Err(_) if !path.exists() => Ok("UTC".into()),
            Err(_) => Err(format!("{} is no link, so its name is not known", path.display())),
        },
    }
}
