//! What to install, and how to know that it is right.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{SecretUrl, Sha256, Version};

/// The bytes of one firmware version: where they are and what they must be.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Artifact {
    /// The label of the firmware inside, if the request told it.
    pub version: Option<Version>,
    /// Where the bytes are.
    pub location: Location,
    /// Digest of the bytes as they are fetched (compressed, if they are). `None` only where the integrator allowed
    /// it, or for a file that root hands over on the device itself.
    pub sha256: Option<Sha256>,
    /// Length in bytes of what is fetched, if the request told it.
    pub size: Option<u64>,
}

/// The way back to the state in which the device was made, as the integrator declared it for the system that runs.
/// Neither of the two: there is none.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Factory {
    /// The image to install, a file on this device.
    pub image: Option<Artifact>,
    /// Whether there is a program that makes the data as new.
    pub program: bool,
}

impl Factory {
    /// Whether there is a way at all.
    pub fn is_declared(&self) -> bool {
        self.image.is_some() || self.program
    }
}

/// Where an artifact's bytes are.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Location {
    /// On a server.
    Url(SecretUrl),
    /// On this device; only ever named on this device, never by the hub.
    File(PathBuf),
}

/// What a slot holds once an artifact has been unpacked into it, computed while it was written.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Image {
    /// Digest of the slot's first `len` bytes.
    pub sha256: Sha256,
    /// Length of the image in bytes.
    pub len: u64,
}
