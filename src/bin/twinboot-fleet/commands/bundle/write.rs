//! Writing files that become whole at once, and what a roll-out is told of a bundle.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use serde_json::{Value, json};
use twinboot::durable::Draft;
use twinboot::model::{SecretUrl, Sha256};

use super::is_bundle;
use crate::arguments::Announced;
use crate::failure::{Failure, Outcome};
use crate::show::say;

/// Writes a file of these pieces, in place of what has its name.
pub(super) fn file(path: &Path, bytes: &[u8], then: Vec<&mut dyn Read>) -> Outcome {
    let told = |error: &dyn std::error::Error| {
        let cause = error.source().map(|it| format!(": {it}")).unwrap_or_default();
        Failure::failed(format!("{error}{cause}"))
            .remedy("nothing was changed; look after room and permissions")
    };
    let failed = |error: std::io::Error| {
        Failure::failed(format!("writing {}: {error}", path.display()))
            .remedy("nothing was changed; look after room and permissions")
    };
    let mut draft = Draft::new(path, 0o644).map_err(|error| told(&error))?;
    draft.file().write_all(bytes).map_err(failed)?;
    for reader in then {
        std::io::copy(reader, draft.file()).map_err(failed)?;
    }
    draft.keep().map_err(|error| told(&error))
}

/// The address that a roll-out is told, checked before any work is done.
pub(super) fn url(wanted: &Announced) -> Outcome<Option<SecretUrl>> {
    let Some(text) = &wanted.url else { return Ok(None) };
    let text = match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("--url: reading {file}: {error}")))?,
        None => text.clone(),
    };
    if !is_bundle(text.trim()) {
        return Err(Failure::usage("--url: the address does not end in .twb")
            .remedy("devices know a bundle by its name; what follows a `?` does not count"));
    }
    let url = text.trim().parse().map_err(|error| Failure::usage(format!("--url: {error}")))?;
    Ok(Some(url))
}

/// Tells what a roll-out needs to know: the document of the desired property `firmware`. Printed without what may be a
/// secret in the address, which goes only into the file for it.
pub(super) fn announce(
    wanted: &Announced,
    url: Option<&SecretUrl>,
    (id, size, version): (Sha256, u64, String),
) -> Outcome {
    let document = |url: Option<&str>| -> Value {
        let mut document =
            json!({ "fwVersion": version, "fwPackageCheckValue": id.to_string(), "fwSize": size });
        if let Some(url) = url {
            document["fwPackageURI"] = json!(url);
        }
        document
    };
    let url = url.map(SecretUrl::expose);
    if let Some(path) = &wanted.deploy_json {
        let mut draft =
            Draft::new(path, 0o600).map_err(|error| Failure::usage(format!("--deploy-json: {error}")))?;
        let text = format!("{:#}\n", document(url));
        let failed = |error: &dyn std::error::Error| Failure::failed(format!("--deploy-json: {error}"));
        draft.file().write_all(text.as_bytes()).map_err(|error| failed(&error))?;
        draft.keep().map_err(|error| failed(&error))?;
        return say(&format!("{}: for `twinboot-fleet deploy --firmware`", path.display()));
    }
    say(&document(url.filter(|url| !url.contains('?'))).to_string())
}

/// Opens a file that is read.
pub(super) fn open(path: &Path, option: &str) -> Outcome<File> {
    File::open(path).map_err(|error| Failure::usage(format!("{option}: {}: {error}", path.display())))
}
