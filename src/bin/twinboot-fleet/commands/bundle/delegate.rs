//! `delegate`: root keys say who may sign.

use twinboot::bundle::{DelegatedKey, Delegation, DelegationType, Envelope, PayloadType};

use super::{faulty, keys, now, write};
use crate::arguments::Delegate;
use crate::failure::{Failure, Outcome};
use crate::show::say;

/// Makes a delegation, or adds signatures to one.
pub(super) fn run(wanted: &Delegate) -> Outcome {
    let how = &wanted.signing;
    let mut envelope = match wanted.epoch {
        Some(epoch) => fresh(wanted, epoch)?,
        None if how.key.is_empty() && how.to_sign.is_none() && how.signature.is_none() => {
            return Err(Failure::usage("nothing is to be done").remedy(
                "--epoch and --signer make a delegation; --key, --to-sign or --signature sign one that is there",
            ));
        }
        None => read(&wanted.file)?,
    };
    // What is to be signed elsewhere has to be there when the signature comes back.
    let is_new = wanted.epoch.is_some();
    if keys::sign(&mut envelope, how)? || is_new {
        write::file(&wanted.file, &envelope.encode(), vec![])?;
    }
    let (file, count) = (wanted.file.display(), envelope.signatures.len());
    say(&format!("{file}: signed by {count} root key{}", if count == 1 { "" } else { "s" }))
}

fn fresh(wanted: &Delegate, epoch: u64) -> Outcome<Envelope> {
    if wanted.file.exists() {
        return Err(Failure::usage(format!("{} is there already", wanted.file.display())).remedy(
            "give a new delegation another name; without --epoch, signatures are added to this one",
        ));
    }
    if wanted.not_after.is_some_and(|end| end <= now()) {
        return Err(Failure::usage("--not-after: this time has passed"));
    }
    let mut delegation = Delegation {
        document: DelegationType::Delegation,
        schema: Delegation::SCHEMA,
        epoch,
        keys: Vec::new(),
        revoked: wanted.revoke.iter().map(|text| keys::id(text, "--revoke")).collect::<Outcome<_>>()?,
    };
    for path in &wanted.signer {
        let key = keys::public(path, "--signer")?;
        if delegation.revoked.contains(&key.id()) {
            return Err(Failure::usage(format!("--signer: {} is revoked, too", path.display())));
        }
        delegation.keys.push(DelegatedKey { key, not_after: wanted.not_after });
    }
    let payload = delegation.encode().map_err(|why| Failure::usage(format!("the delegation: {why}")))?;
    Ok(Envelope { payload_type: PayloadType::Delegation, payload, signatures: Vec::new() })
}

/// Reads the file of a delegation.
pub(super) fn read(path: &std::path::Path) -> Outcome<Envelope> {
    let bytes =
        std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Envelope::parse(&bytes, PayloadType::Delegation)
        .and_then(|envelope| Delegation::parse(&envelope.payload).map(|_| envelope))
        .map_err(|refusal| {
            faulty(path, &refusal.into()).remedy("`twinboot-fleet bundle delegate` makes a delegation")
        })
}
