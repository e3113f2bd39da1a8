//! `verify`: all of a bundle, as a device would judge it, and more.

use twinboot::bundle::build::check;
use twinboot::bundle::{Device, RootKeys, Trust, open};

use super::{Bundle, faulty, keys, now};
use crate::arguments::Verify;
use crate::failure::{Failure, Outcome};
use crate::show::{Bar, bytes, say};

/// Checks a bundle.
pub(super) fn run(wanted: &Verify) -> Outcome {
    let keys = wanted.root.iter().map(|path| keys::public(path, "--root")).collect::<Outcome<Vec<_>>>()?;
    let roots = RootKeys::new(wanted.threshold, keys);
    if roots.keys().len() < roots.threshold() {
        return Err(Failure::usage(format!(
            "--threshold: {} root keys have to sign, and {} are named",
            roots.threshold(),
            roots.keys().len()
        ))
        .remedy("name the others with --root, too"));
    }
    let mut bundle = Bundle::open(&wanted.bundle)?;
    let device = Device {
        product: None,
        compatible: &[],
        floor: 0,
        now: Some(now()),
        twinboot: env!("CARGO_PKG_VERSION"),
    };
    let opened = open(&bundle.head, &roots, &Trust::default(), &device)
        .map_err(|refusal| faulty(&wanted.bundle, &refusal.into()))?;
    let slot = opened.manifest.slot();
    let mut bar = Bar::new("verifying", slot.size);
    check(&mut bundle.file, &opened.manifest, opened.head_len, &mut |done| bar.at(done))
        .map_err(|fault| faulty(&wanted.bundle, &fault))?;
    drop(bar);
    let (name, version) = (wanted.bundle.display(), &opened.manifest.version);
    say(&format!("{name}: good: version {version}, {} in {}", bytes(slot.size), bytes(bundle.len)))
}
