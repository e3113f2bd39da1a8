//! `sign`: another head before the same image.

use std::io::{Read, Seek as _, SeekFrom};

use twinboot::bundle::{Envelope, Manifest, PayloadType, encode_head};
use twinboot::model::Sha256;

use super::create::may_sign;
use super::{Bundle, delegate, faulty, is_bundle, keys, write};
use crate::arguments::Sign;
use crate::failure::{Failure, Outcome};
use crate::show::say;

/// Signs a bundle.
pub(super) fn run(wanted: &Sign) -> Outcome {
    let how = &wanted.signing;
    if how.key.is_empty() && how.to_sign.is_none() && how.signature.is_none() {
        return Err(
            Failure::usage("with what?").remedy("--key, or --to-sign and then --signature with --public")
        );
    }
    let output = wanted.output.as_ref().unwrap_or(&wanted.bundle);
    if !is_bundle(&output.to_string_lossy()) {
        return Err(Failure::usage(format!("--output: {} does not end in .twb", output.display()))
            .remedy("devices know a bundle by its name"));
    }
    let url = write::url(&wanted.announced)?;
    let mut bundle = Bundle::open(&wanted.bundle)?;
    let (mut delegation, mut envelope) = (bundle.delegation.clone(), bundle.manifest.clone());
    let named = wanted.delegation.as_ref().unwrap_or(&wanted.bundle);
    if let Some(path) = &wanted.delegation {
        delegation = delegate::read(path)?;
        let manifest = Manifest { delegation: Sha256::of(&delegation.encode()), ..bundle.said.1.clone() };
        let payload = manifest.encode().map_err(|why| Failure::failed(format!("the manifest: {why}")))?;
        envelope = Envelope { payload_type: PayloadType::Manifest, payload, signatures: Vec::new() };
    }
    let is_written = keys::sign(&mut envelope, how)?;
    for signature in &envelope.signatures {
        may_sign(&delegation, named, Some(signature.key))?;
    }
    if !is_written && wanted.delegation.is_none() {
        return Ok(());
    }
    let head = encode_head(&delegation.encode(), &envelope.encode())
        .map_err(|refusal| faulty(&wanted.bundle, &refusal.into()))?;
    let before = bundle.head.len() as u64;
    bundle
        .file
        .seek(SeekFrom::Start(before))
        .map_err(|error| Failure::failed(format!("{}: {error}", wanted.bundle.display())))?;
    write::file(output, &head, vec![&mut bundle.file as &mut dyn Read])?;
    let count = envelope.signatures.len();
    let keys = if count == 1 { "key" } else { "keys" };
    say(&format!("{}: signed by {count} {keys}", output.display()))?;
    if !is_written {
        return Ok(());
    }
    let total = bundle.len - before + head.len() as u64;
    let version = bundle.said.1.version.to_string();
    write::announce(&wanted.announced, url.as_ref(), (Sha256::of(&head), total, version))
}
