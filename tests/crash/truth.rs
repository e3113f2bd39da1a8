//! What must be so whenever the power is gone: read from the device's files by code of our own.

use std::fs;
use std::io;

use hub_emulator::device::{Slot, loader};
use serde_json::Value;

use super::device::{Device, Image};

/// Which image of which slot has proved itself, by its place in the list.
#[derive(Clone, Debug, Default)]
pub(super) struct Proven {
    slots: [Option<usize>; 2],
}

impl Proven {
    pub(super) fn of(&self, slot: Slot) -> Option<usize> {
        self.slots[index(slot)]
    }

    pub(super) fn note(&mut self, slot: Slot, image: usize) {
        self.slots[index(slot)] = Some(image);
    }
}

fn index(slot: Slot) -> usize {
    match slot {
        Slot::A => 0,
        Slot::B => 1,
    }
}

/// What is wrong with a device that is off, having run from `booted`.
pub(super) fn at_rest(
    device: &Device,
    images: &[Image],
    proven: &Proven,
    booted: Option<(Slot, usize)>,
) -> io::Result<Result<(), String>> {
    let Some(variables) = device.environment.load() else {
        return Ok(Err("no copy of the environment is sound".into()));
    };
    if variables.text("serial#") != "0042" || variables.text("bootcmd") != "run boot_slot" {
        return Ok(Err("variables that are not ours are not as they were".into()));
    }
    let default = loader::default(&device.environment).unwrap_or(Slot::A);
    let found = device.holds(default, images)?;
    if found.is_none() || found != proven.of(default) {
        let wanted = proven.of(default).map(|image| images[image].version);
        let found = found.map(|image| images[image].version);
        let letter = default.letter();
        return Ok(Err(format!(
            "slot {letter} boots by default and holds {found:?}; proven there is {wanted:?}"
        )));
    }
    if variables.number("upgrade_available") == 1 && device.holds(default.other(), images)?.is_none() {
        return Ok(Err(format!("slot {} is armed and holds no whole image", default.other().letter())));
    }
    if let Some((slot, image)) = booted
        && device.holds(slot, images)? != Some(image)
    {
        return Ok(Err(format!("slot {}, from which it ran, was written", slot.letter())));
    }
    Ok(Ok(()))
}

/// Bytes of a generation of the record.
const GENERATION: usize = 32 << 10;

/// The record as it is stored; `None` if there never was one. An error if there is no whole one.
pub(super) fn record(device: &Device) -> Result<Option<Value>, String> {
    let bytes = match fs::read(device.path("state/record")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("the record cannot be read: {error}")),
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let newest = bytes.chunks(GENERATION).filter_map(generation).max_by_key(|(sequence, _)| *sequence);
    newest.map(|(_, record)| Some(record)).ok_or_else(|| "the record has no whole generation".into())
}

fn generation(half: &[u8]) -> Option<(u64, Value)> {
    let sequence = u64::from_le_bytes(half.get(8..16)?.try_into().ok()?);
    let len = u32::from_le_bytes(half.get(16..20)?.try_into().ok()?);
    let sum = u32::from_le_bytes(half.get(20..24)?.try_into().ok()?);
    let payload = half.get(24..24 + usize::try_from(len).ok()?)?;
    let counted = [&half[8..20], payload].concat();
    if half[..8] != *b"twinboot" || crc32(&counted) != sum {
        return None;
    }
    Some((sequence, serde_json::from_slice(payload).ok()?))
}

/// The checksum of zlib, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}
