//! The head: the magic, two lengths, and two envelopes.

use super::refusal::Refusal;

/// The first bytes of a bundle. Not text, broken by whatever changes line ends, and in the end the format's version.
pub const MAGIC: [u8; 8] = [0x89, b'T', b'W', b'B', 0x0D, 0x0A, 0x1A, 0x01];

/// Length of the fixed part of the head: the magic and two lengths.
pub const HEAD_FIXED: usize = 16;

/// Longest envelope, in bytes.
pub const MAX_ENVELOPE: usize = 64 * 1024;

/// The length of a head that begins with these bytes, at least [`HEAD_FIXED`] of them.
///
/// # Errors
/// It is no bundle, or its lengths are out of bounds: `bundle.damaged`. It is of a newer version of the format:
/// `bundle.incompatible`.
pub fn head_len(first: &[u8]) -> Result<u64, Refusal> {
    let (delegation, manifest) = lengths(first)?;
    Ok((HEAD_FIXED + delegation + manifest) as u64)
}

fn lengths(first: &[u8]) -> Result<(usize, usize), Refusal> {
    let (magic, rest) = first.split_first_chunk::<8>().ok_or_else(none)?;
    let ([version], [ours]) = ([magic[7]], [MAGIC[7]]);
    // Nobody ever made an older one.
    if magic[..7] != MAGIC[..7] || version < ours {
        return Err(none());
    }
    if version > ours {
        let what = format!("this is a bundle of format {version}: a newer twinboot is needed");
        return Err(Refusal::incompatible(what));
    }
    let (delegation, rest) = rest.split_first_chunk::<4>().ok_or_else(none)?;
    let (manifest, _) = rest.split_first_chunk::<4>().ok_or_else(none)?;
    let [delegation, manifest] = [delegation, manifest].map(|it| u32::from_le_bytes(*it) as usize);
    if [delegation, manifest].iter().any(|it| !(1..=MAX_ENVELOPE).contains(it)) {
        return Err(Refusal::damaged(format!(
            "the head has an envelope that is not of 1 to {MAX_ENVELOPE} bytes"
        )));
    }
    Ok((delegation, manifest))
}

fn none() -> Refusal {
    Refusal::damaged("this is no bundle: it does not begin like one")
}

/// The two envelopes of a complete head.
///
/// # Errors
/// As [`head_len`]; or there are more or fewer bytes than the head has.
pub fn split_head(head: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let (delegation, manifest) = lengths(head)?;
    let envelopes = head.get(HEAD_FIXED..).unwrap_or_default();
    if envelopes.len() != delegation + manifest {
        return Err(Refusal::damaged("the head is not as long as it says"));
    }
    envelopes.split_at_checked(delegation).ok_or_else(none)
}

/// The head of these two envelopes.
///
/// # Errors
/// One of them is empty or too long.
pub fn encode_head(delegation: &[u8], manifest: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut head = MAGIC.to_vec();
    for envelope in [delegation, manifest] {
        head.extend_from_slice(&(envelope.len().min(MAX_ENVELOPE + 1) as u32).to_le_bytes());
    }
    lengths(&head)?;
    head.extend_from_slice(delegation);
    head.extend_from_slice(manifest);
    Ok(head)
}
