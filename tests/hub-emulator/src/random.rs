//! Random bytes from rustls's crypto provider, so that no further crate is needed. Nothing here is meant to guard a
//! real secret. Called for device keys, tracking ids and request ids.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A fresh symmetric key in base64, as long as the hub's own.
pub(crate) fn key() -> String {
    STANDARD.encode(bytes::<32>())
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
