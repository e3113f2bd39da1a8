//! Profiles: a hub by a short name, in a file below the user's configuration.

use std::path::PathBuf;

use serde::Deserialize;
use twinboot::secret::{self, Guard};

use super::{Connection, ServiceString, Variables, string_file};
use crate::failure::{Failure, Outcome};

const WANTED: &str = "it has connection_string or connection_string_file, and perhaps ca_file, each with its text in \
    double quotes";

/// What a profile says. Paths are taken from where the profile lies.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    connection_string: Option<String>,
    connection_string_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

impl Profile {
    /// The connection of the profile `name`; `whence` is what named it.
    pub(super) fn named(
        name: &str,
        whence: &str,
        variables: Variables<'_>,
        guard: &Guard,
    ) -> Outcome<Connection> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_name) {
            return Err(Failure::usage(format!(
                "{whence} wants the name of a profile: letters, digits, '-', '_', '.'"
            )));
        }
        let path = place(name, variables)
            .ok_or_else(|| Failure::usage(format!("{whence}: neither $XDG_CONFIG_HOME nor $HOME is set")))?;
        read(&path, whence, guard)
    }

    /// The connection of the profile `default`, if there is one.
    pub(super) fn default(variables: Variables<'_>, guard: &Guard) -> Outcome<Option<Connection>> {
        let path = place("default", variables).filter(|path| path.exists());
        path.map(|path| read(&path, "the default profile", guard)).transpose()
    }
}

/// Where a profile would be.
fn place(name: &str, variables: Variables<'_>) -> Option<PathBuf> {
    let variable = |name: &str| variables(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(base.join("twinboot/fleet").join(format!("{name}.toml")))
}

fn read(path: &std::path::Path, whence: &str, guard: &Guard) -> Outcome<Connection> {
    let wrong = |why: String| Failure::usage(format!("{whence}: {why}"));
    let text = guard.read(path, "a key").map_err(|why: secret::Error| wrong(why.to_string()))?;
    // The library's own message would repeat the line, key and all.
    let profile: Profile = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        wrong(format!("{}: line {line} is not as it must be", path.display())).remedy(WANTED)
    })?;
    let beside = |file: PathBuf| path.parent().map_or(file.clone(), |directory| directory.join(&file));
    let service = match (profile.connection_string, profile.connection_string_file) {
        (Some(text), None) => text
            .parse::<ServiceString>()
            .map_err(|why| wrong(format!("{}: connection_string: {why}", path.display())))?,
        (None, Some(file)) => string_file(&beside(file), whence, guard)?,
        (Some(_), Some(_)) | (None, None) => {
            let why = "either connection_string or connection_string_file is needed";
            return Err(wrong(format!("{}: {why}", path.display())).remedy(WANTED));
        }
    };
    Ok(Connection { service, ca_files: profile.ca_file.map(beside).into_iter().collect() })
}
