//! `inspect`: what a bundle says of itself, and what it would cost a device.

use std::path::Path;

use serde_json::{Value, json};
use twinboot::bundle::build::{Fetch, Known, against, read_table};
use twinboot::bundle::{Delegation, Envelope, Manifest};

use super::{Bundle, faulty, write};
use crate::arguments::Inspect;
use crate::failure::{Failure, Outcome};
use crate::show::{Bar, bytes, clean, say};

/// Shows a bundle.
pub(super) fn run(wanted: &Inspect) -> Outcome {
    let mut bundle = Bundle::open(&wanted.bundle)?;
    let (manifest, head) = (bundle.said.1.clone(), bundle.head.len() as u64);
    let table = read_table(&mut bundle.file, &manifest, head).map_err(|it| faulty(&wanted.bundle, &it))?;
    let zeros = table.pages().iter().filter(|page| page.is_zero()).count();
    let mut fetched = Vec::new();
    for path in &wanted.against {
        let known = known(path, &manifest)?;
        let fetch =
            against(&mut bundle.file, &manifest, head, &known).map_err(|it| faulty(&wanted.bundle, &it))?;
        fetched.push((path.as_path(), fetch));
    }
    if wanted.json {
        return say(&document(&bundle, zeros, &fetched).to_string());
    }
    say(&words(&wanted.bundle, &bundle, zeros))?;
    for (path, fetch) in fetched {
        let total = fetch.total();
        let share = total as f64 * 100.0 / bundle.len.max(1) as f64;
        say(&format!(
            "against          {}: fetches {} of {} ({share:.1} %) in {} requests: table {}, bodies {}, data {}; \
             {} of the image are new",
            path.display(),
            bytes(total),
            bytes(bundle.len),
            fetch.requests,
            bytes(fetch.table),
            bytes(fetch.bodies),
            bytes(fetch.data),
            bytes(fetch.missing),
        ))?;
    }
    Ok(())
}

fn known(path: &Path, manifest: &Manifest) -> Outcome<Known> {
    use std::io::{Seek as _, SeekFrom};
    let mut old = write::open(path, "--against")?;
    let wrong = |error: std::io::Error| Failure::usage(format!("--against: {}: {error}", path.display()));
    let len = old.seek(SeekFrom::End(0)).map_err(wrong)?;
    old.rewind().map_err(wrong)?;
    let mut bar = Bar::new("reading", len);
    Known::read(&mut old, manifest.slot().chunking, &mut |done| bar.at(done)).map_err(wrong)
}

fn ids(envelope: &Envelope) -> Vec<String> {
    envelope.signatures.iter().map(|it| it.key.to_string()).collect()
}

fn document(bundle: &Bundle, zeros: usize, fetched: &[(&Path, Fetch)]) -> Value {
    let (delegation, manifest) = &bundle.said;
    let against: Vec<_> = fetched
        .iter()
        .map(|(path, fetch)| {
            json!({
                "image": path.to_string_lossy(), "bytes": fetch.total(), "requests": fetch.requests,
                "table": fetch.table, "bodies": fetch.bodies, "data": fetch.data, "missing": fetch.missing,
            })
        })
        .collect();
    json!({
        "head": {"sha256": bundle.id().to_string(), "size": bundle.head.len()},
        "size": bundle.len,
        "manifest": manifest,
        "signatures": ids(&bundle.manifest),
        "delegation": delegation,
        "rootSignatures": ids(&bundle.delegation),
        "zeroPages": zeros,
        "against": against,
    })
}

fn words(path: &Path, bundle: &Bundle, zeros: usize) -> String {
    let (delegation, manifest) = &bundle.said;
    let slot = manifest.slot();
    let or = |text: Option<String>, none: &str| text.unwrap_or_else(|| none.to_owned());
    let list = |all: Vec<String>, none: &str| if all.is_empty() { none.to_owned() } else { all.join(", ") };
    let compatible = list(manifest.compatible.clone(), "all of the product");
    let downgrade = if manifest.allow_downgrade { ", may go below what a device has committed" } else { "" };
    let mut rows = vec![
        ("bundle", format!("{}, {}", path.display(), bytes(bundle.len))),
        ("version", manifest.version.to_string()),
        ("product", manifest.product.clone()),
        ("compatible", compatible),
        ("rollback index", format!("{}{downgrade}", manifest.rollback_index)),
        ("created", manifest.created.to_string()),
        ("expires", or(manifest.expires.map(|it| it.to_string()), "never")),
        ("needs twinboot", or(manifest.min_twinboot.clone(), "any")),
        ("image", format!("{}, sha256 {}", bytes(slot.size), slot.sha256)),
        ("check value", format!("{}, of the head of {} bytes", bundle.id(), bundle.head.len())),
        ("cut", format!("{}, groups of {}, after {}", slot.chunking.name(), slot.group, slot.prefix)),
        (
            "holds",
            format!(
                "{} pages ({zeros} of zeros): table {}, bodies {}, data {}",
                slot.table.pages,
                bytes(slot.table.size),
                bytes(slot.bodies),
                bytes(slot.data)
            ),
        ),
        ("signed by", list(ids(&bundle.manifest), "nobody yet")),
        ("delegation", signers(delegation)),
        ("delegated by", list(ids(&bundle.delegation), "nobody yet")),
    ];
    if !slot.parts.is_empty() {
        let parts: Vec<_> = slot.parts.iter().map(|part| bytes(part.size)).collect();
        rows.insert(9, ("partitions", parts.join(", ")));
    }
    if !delegation.revoked.is_empty() {
        rows.push(("revoked", list(delegation.revoked.iter().map(ToString::to_string).collect(), "")));
    }
    rows.iter().map(|(name, text)| format!("{name:<15}  {}", clean(text))).collect::<Vec<_>>().join("\n")
}

fn signers(delegation: &Delegation) -> String {
    let keys = delegation.keys.iter().map(|it| match it.not_after {
        Some(end) => format!("{} until {end}", it.key.id()),
        None => it.key.id().to_string(),
    });
    format!("epoch {}: {}", delegation.epoch, keys.collect::<Vec<_>>().join(", "))
}
