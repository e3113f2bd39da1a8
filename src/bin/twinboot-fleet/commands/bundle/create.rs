//! `create`: an image becomes a bundle.

use std::fs::File;
use std::io::{BufWriter, Read, Seek as _, Write as _};
use std::path::Path;

use twinboot::bundle::build::{Packing, pack};
use twinboot::bundle::{
    Delegation, Entry, Envelope, KeyId, Kind, Manifest, ManifestType, Payload, PayloadType, TableInfo,
    encode_head,
};
use twinboot::durable::spool;
use twinboot::model::{Sha256, Timestamp};

use super::parts::Parts;
use super::{delegate, is_bundle, keys, now, write};
use crate::arguments::Create;
use crate::failure::{Failure, Outcome};
use crate::show::{Bar, bytes, say};

/// Makes a bundle.
pub(super) fn run(wanted: &Create) -> Outcome {
    let output = &wanted.output;
    if !is_bundle(&output.to_string_lossy()) {
        return Err(Failure::usage(format!("--output: {} does not end in .twb", output.display()))
            .remedy("devices know a bundle by its name"));
    }
    let url = write::url(&wanted.announced)?;
    let created = created(wanted.created, std::env::var_os("SOURCE_DATE_EPOCH"))?;
    let delegation = delegate::read(&wanted.delegation)?;
    let key = wanted.key.as_deref().map(keys::private).transpose()?;
    may_sign(&delegation, &wanted.delegation, key.as_ref().map(|it| it.public().id()))?;
    let parts = Parts::open(&wanted.part, wanted.chunking)?;
    let (told, size) = (parts.told(), parts.len());
    let packing = Packing { level: wanted.level, ..Packing::usual(parts.chunking()) };
    let delegation = delegation.encode();
    let mut manifest = Manifest {
        document: ManifestType::Manifest,
        schema: Manifest::SCHEMA,
        delegation: Sha256::of(&delegation),
        product: wanted.product.clone(),
        compatible: wanted.compatible.clone(),
        version: wanted.version_label.clone(),
        rollback_index: wanted.rollback_index,
        allow_downgrade: wanted.allow_downgrade,
        created,
        expires: wanted.expires,
        min_twinboot: wanted.min_twinboot.clone(),
        payloads: vec![likely(&packing, size)],
    };
    // What is wrong with its words is said before the work, and not after it.
    manifest.encode().map_err(|why| Failure::usage(format!("the manifest: {why}")))?;
    let (mut packed, payload) = Packed::make(output, &packing, size, parts.read())?;
    manifest.payloads = vec![Payload { parts: told, ..payload }];
    let payload = manifest.encode().map_err(|why| Failure::failed(format!("the manifest: {why}")))?;
    let mut envelope = Envelope { payload_type: PayloadType::Manifest, payload, signatures: Vec::new() };
    if let Some(key) = &key {
        key.seal(&mut envelope);
    }
    let head = encode_head(&delegation, &envelope.encode()).map_err(|it| Failure::failed(it.to_string()))?;
    let begin = [head.as_slice(), &packed.table].concat();
    write::file(output, &begin, vec![&mut packed.bodies as &mut dyn Read, &mut packed.data])?;
    let layout = manifest.layout(head.len() as u64);
    let (slot, name) = (manifest.slot(), output.display());
    let table = bytes(slot.table.size + slot.bodies);
    say(&format!("{name}: {} of {}, page table {table}", bytes(layout.total), bytes(slot.size)))?;
    if key.is_none() {
        return say(&format!("{name}: not signed yet: `twinboot-fleet bundle sign` does that"));
    }
    write::announce(
        &wanted.announced,
        url.as_ref(),
        (Sha256::of(&head), layout.total, manifest.version.to_string()),
    )
}

/// What was packed, beside where it belongs.
struct Packed {
    table: Vec<u8>,
    bodies: File,
    data: File,
}

impl Packed {
    fn make(
        output: &Path,
        packing: &Packing,
        size: u64,
        mut image: Box<dyn Read>,
    ) -> Outcome<(Self, Payload)> {
        let spool = || {
            spool(output).map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                Failure::usage(format!("--output: {error}: {cause}"))
            })
        };
        let (mut bodies, mut data) = (BufWriter::new(spool()?), BufWriter::with_capacity(1 << 20, spool()?));
        let mut bar = Bar::new("packing", size);
        let failed = |error: std::io::Error| {
            Failure::failed(format!("packing: {error}"))
                .remedy("nothing was written; look after the image, and for room beside the bundle")
        };
        let (payload, table) =
            pack(&mut image, packing, &mut bodies, &mut data, &mut |done| bar.at(done)).map_err(failed)?;
        drop(bar);
        if payload.size != size {
            return Err(Failure::failed("an image has changed while it was read")
                .remedy("try again when it is complete"));
        }
        let rewound = |spool: BufWriter<File>| -> Outcome<File> {
            let mut file = spool.into_inner().map_err(|it| failed(it.into_error()))?;
            file.flush().and_then(|()| file.rewind()).map_err(failed)?;
            Ok(file)
        };
        Ok((Self { table, bodies: rewound(bodies)?, data: rewound(data)? }, payload))
    }
}

/// A payload as it may be, to have the manifest checked before it is known.
fn likely(packing: &Packing, size: u64) -> Payload {
    let table = TableInfo { size: Entry::LEN as u64, pages: 1, sha256: Sha256([0; 32]) };
    let Packing { chunking, group, prefix, .. } = *packing;
    let (kind, sha256) = (Kind::Slot, Sha256([0; 32]));
    Payload { kind, size, sha256, parts: Vec::new(), chunking, group, prefix, table, bodies: 0, data: 0 }
}

/// When it was made: as told, or as the build says, or now.
fn created(told: Option<Timestamp>, epoch: Option<std::ffi::OsString>) -> Outcome<Timestamp> {
    match (told, epoch) {
        (Some(time), _) => Ok(time),
        (None, None) => Ok(now()),
        (None, Some(epoch)) => {
            let seconds =
                epoch.to_str().and_then(|it| it.parse::<u64>().ok()).and_then(|it| it.checked_mul(1000));
            seconds.map(Timestamp).ok_or_else(|| {
                Failure::usage("$SOURCE_DATE_EPOCH: must be a number of seconds since 1970")
                    .remedy("unset it, or give --created")
            })
        }
    }
}

/// Whether a device could take what this key signs under this delegation: a mistake here would be found on devices.
pub(super) fn may_sign(envelope: &Envelope, path: &Path, key: Option<KeyId>) -> Outcome {
    let file = path.display();
    if envelope.signatures.is_empty() {
        return Err(Failure::usage(format!("--delegation: no root key has signed {file} yet")).remedy(
            format!(
                "twinboot-fleet bundle delegate {file} --key ROOT-KEY: a bundle is bound to it as it is now"
            ),
        ));
    }
    let delegation =
        Delegation::parse(&envelope.payload).map_err(|it| Failure::usage(format!("{file}: {it}")))?;
    let Some(key) = key else { return Ok(()) };
    let remedy = "root keys say by `twinboot-fleet bundle delegate` which keys may sign";
    match delegation.keys.iter().find(|it| it.key.id() == key) {
        None => Err(Failure::usage(format!("--key: {file} does not name the key {key}")).remedy(remedy)),
        Some(_) if delegation.revoked.contains(&key) => {
            Err(Failure::usage(format!("--key: {file} revokes the key {key}")).remedy(remedy))
        }
        Some(named) => match named.not_after {
            Some(end) if end <= now() => {
                Err(Failure::usage(format!("--key: by {file} the key {key} was good until {end}"))
                    .remedy(remedy))
            }
            Some(_) | None => Ok(()),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_build_unless_it_is_told() {
        let epoch = |text: &str| Some(std::ffi::OsString::from(text));
        assert_eq!(created(Some(Timestamp(5)), epoch("7")).unwrap(), Timestamp(5));
        assert_eq!(created(None, epoch("7")).unwrap(), Timestamp(7000));
        assert!(created(None, None).unwrap() > Timestamp(1_700_000_000_000));
        assert!(created(None, epoch("tomorrow")).unwrap_err().text.contains("SOURCE_DATE_EPOCH"));
    }
}
