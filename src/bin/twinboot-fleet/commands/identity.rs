//! `identity`: devices come and go. Keys are shown to nobody who did not ask for them.

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::paths;
use super::targets::ask;
use crate::arguments::{Identity, IdentityShow};
use crate::failure::{Exit, Failure, Outcome};
use crate::hub::Hub;
use crate::show::{clean, say};

/// Does what was asked.
pub(super) async fn run(hub: &Hub, wanted: &Identity) -> Outcome<Exit> {
    match wanted {
        Identity::Create(wanted) => {
            let mut tags = Map::new();
            for text in &wanted.tag {
                let (name, value) = paths::assignment(text)?;
                paths::put(&mut tags, &paths::segments(name)?, value);
            }
            hub.make_device(&wanted.device).await?;
            if !tags.is_empty() {
                hub.merge_twin(&wanted.device, json!({ "tags": Value::Object(tags) }), "*").await?;
            }
            say(&format!("{}: created", clean(&wanted.device)))?;
        }
        Identity::Delete(wanted) => {
            ask(&format!("delete {}, its twin and its keys", wanted.device), wanted.yes)?;
            hub.delete_device(&wanted.device).await?;
            say(&format!("{}: deleted", clean(&wanted.device)))?;
        }
        Identity::ShowConnectionString(wanted) => show(hub, wanted).await?,
    }
    Ok(Exit::Done)
}

async fn show(hub: &Hub, wanted: &IdentityShow) -> Outcome {
    if wanted.to.is_none() && !wanted.reveal && std::io::stdout().is_terminal() {
        return Err(Failure::usage("a connection string is not shown on a terminal")
            .remedy("--to FILE puts it where only you can read it; --reveal shows it all the same"));
    }
    let string = hub.device_string(&wanted.device).await?;
    match &wanted.to {
        Some(path) => keep(path, &string),
        None => say(&string),
    }
}

/// A file that is there already is left alone: it may be another device's.
fn keep(path: &Path, string: &str) -> Outcome {
    let wrong = |error: std::io::Error| Failure::usage(format!("--to: {}: {error}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(wrong)?;
    writeln!(file, "{string}").map_err(wrong)?;
    file.sync_all().map_err(wrong)
}
