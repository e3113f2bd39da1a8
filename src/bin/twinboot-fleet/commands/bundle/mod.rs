//! `bundle`: what is made and looked at on this machine. No hub is asked.

mod create;
mod delegate;
mod inspect;
mod keys;
mod parts;
mod sign;
mod verify;
mod write;

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use twinboot::bundle::build::{Fault, read_head};
use twinboot::bundle::{Delegation, Envelope, Manifest, PayloadType, Refusal, split_head};
use twinboot::model::{Sha256, Timestamp};

use crate::arguments::BundleCommand;
use crate::failure::{Exit, Failure, Outcome};

/// Does what was asked.
pub(super) fn run(command: &BundleCommand) -> Outcome<Exit> {
    match command {
        BundleCommand::Keygen(wanted) => keys::generate(wanted)?,
        BundleCommand::Delegate(wanted) => delegate::run(wanted)?,
        BundleCommand::Create(wanted) => create::run(wanted)?,
        BundleCommand::Sign(wanted) => sign::run(wanted)?,
        BundleCommand::Inspect(wanted) => inspect::run(wanted)?,
        BundleCommand::Verify(wanted) => verify::run(wanted)?,
    }
    Ok(Exit::Done)
}

/// A bundle whose head was read, and not judged.
struct Bundle {
    file: File,
    len: u64,
    head: Vec<u8>,
    delegation: Envelope,
    manifest: Envelope,
    /// What these two say.
    said: (Delegation, Manifest),
}

impl Bundle {
    fn open(path: &Path) -> Outcome<Self> {
        let unreadable = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
        let mut file = File::open(path).map_err(unreadable)?;
        let len = file.metadata().map_err(unreadable)?.len();
        let head = read_head(&mut file).map_err(|fault| faulty(path, &fault))?;
        let parts = || {
            let (delegation, manifest) = split_head(&head)?;
            let delegation = Envelope::parse(delegation, PayloadType::Delegation)?;
            let manifest = Envelope::parse(manifest, PayloadType::Manifest)?;
            let said = (Delegation::parse(&delegation.payload)?, Manifest::parse(&manifest.payload, None)?);
            Ok((delegation, manifest, said))
        };
        let (delegation, manifest, said) =
            parts().map_err(|refusal: Refusal| faulty(path, &refusal.into()))?;
        Ok(Self { file, len, head, delegation, manifest, said })
    }

    /// What names the bundle: what devices compare the check value of a wish with.
    fn id(&self) -> Sha256 {
        Sha256::of(&self.head)
    }
}

/// What names the bundle in this file, how long it is, and the version in it: for a wish.
pub(super) fn told(path: &Path) -> Outcome<(Sha256, u64, String)> {
    let bundle = Bundle::open(path)?;
    Ok((bundle.id(), bundle.len, bundle.said.1.version.to_string()))
}

/// Whether devices take a file, or an address, of this name for a bundle.
pub(super) fn is_bundle(name: &str) -> bool {
    name.split(['?', '#']).next().is_some_and(|path| path.ends_with(".twb"))
}

/// What is wrong with the file of a bundle.
fn faulty(path: &Path, fault: &Fault) -> Failure {
    match fault {
        Fault::Io(error) => Failure::usage(format!("{}: {error}", path.display())),
        Fault::Refused(refusal) => {
            let code = refusal.failure().code();
            let failure = Failure::failed(format!("{}: {refusal} ({code})", path.display()));
            if refusal.failure() == twinboot::model::Failure::BundleDamaged {
                return failure.remedy("make or copy the file anew");
            }
            failure
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_secs() * 1000)
}
