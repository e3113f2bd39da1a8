//! Random bytes from rustls's crypto provider, so that no further crate is needed. Nothing here is meant to guard a
//! real secret. Called for device keys, tracking ids and request ids.

use std::fs::OpenOptions;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Names the file in which keys are noted down, for whoever looks through the output of tests afterwards.
const NOTED: &str = "HUB_EMULATOR_NOTE_KEYS";

/// A fresh symmetric key in base64, as long as the hub's own.
pub(crate) fn key() -> String {
    let key = STANDARD.encode(bytes::<32>());
    if let Some(file) = std::env::var_os(NOTED) {
        // One line in one write: many processes note theirs.
        let noted = OpenOptions::new().create(true).append(true).open(&file);
        let noted = noted.and_then(|mut file| file.write_all(format!("{key}\n").as_bytes()));
        assert!(noted.is_ok(), "{NOTED} names {}: {noted:?}", file.display());
    }
    key
}

/// Upper-case hexadecimal text of `2 * N` digits at most 64.
pub(crate) fn token(length: usize) -> String {
    bytes::<32>().iter().take(length).map(|byte| format!("{byte:02X}")).collect()
}

/// Decimal digits, such as the hub's generation ids.
pub(crate) fn decimal() -> String {
    u64::from_be_bytes(bytes::<8>()).to_string()
}

fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    // Failing here means that the kernel gives no randomness; keys of zeros are no danger to an emulator.
    let _ = rustls::crypto::ring::default_provider().secure_random.fill(&mut out);
    out
}
