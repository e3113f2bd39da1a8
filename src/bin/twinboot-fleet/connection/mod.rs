//! Which hub, and with which key: from a profile, a file or the environment. Not the talking, which is `hub`.

mod profile;
mod string;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use twinboot::secret::Guard;

use crate::arguments;
use crate::failure::{Failure, Outcome};
use profile::Profile;
pub(crate) use string::ServiceString;

const NO_HUB: &str = "put the service's connection string into a file for you alone (chmod 600) and name it with \
    --connection-string-file or $TWINBOOT_CONNECTION_STRING_FILE, or make a profile: see --help";

/// Where to connect and whom to trust there.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The hub and our key.
    pub(crate) service: ServiceString,
    /// Authorities to trust besides the system's.
    pub(crate) ca_files: Vec<PathBuf>,
}

/// The environment, so that tests can have another one.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Connection {
    /// Looks in the order that `--help` promises.
    ///
    /// # Errors
    /// If there is none, or it cannot be read or used; the message names the flag or variable.
    pub(crate) fn find(given: &arguments::Connection, variables: Variables<'_>) -> Outcome<Self> {
        let variable = |name: &str| variables(name).filter(|value| !value.is_empty());
        let guard = Guard { credentials: variable("CREDENTIALS_DIRECTORY").map(PathBuf::from) };
        let ca_file = given.ca_file.clone().or_else(|| variable("TWINBOOT_CA_FILE").map(PathBuf::from));
        let from_file = |path: &Path, whence: &str| -> Outcome<Self> {
            Ok(Self { service: string_file(path, whence, &guard)?, ca_files: Vec::new() })
        };
        let named = |name: &str, whence: &str| Profile::named(name, whence, variables, &guard);
        let mut found = if let Some(name) = &given.hub {
            named(name, "--hub")?
        } else if let Some(path) = &given.connection_string_file {
            from_file(path, "--connection-string-file")?
        } else if let Some(name) = variable("TWINBOOT_HUB") {
            named(&name.to_string_lossy(), "$TWINBOOT_HUB")?
        } else if let Some(path) = variable("TWINBOOT_CONNECTION_STRING_FILE") {
            from_file(Path::new(&path), "$TWINBOOT_CONNECTION_STRING_FILE")?
        } else if let Some(text) = variable("TWINBOOT_CONNECTION_STRING") {
            let parsed = text.to_str().unwrap_or_default().parse::<ServiceString>();
            let service =
                parsed.map_err(|why| Failure::usage(format!("$TWINBOOT_CONNECTION_STRING: {why}")))?;
            Self { service, ca_files: Vec::new() }
        } else {
            Profile::default(variables, &guard)?.ok_or_else(|| Failure::usage("which hub?").remedy(NO_HUB))?
        };
        if let Some(path) = ca_file {
            found.ca_files = vec![path];
        }
        Ok(found)
    }
}

/// Reads a connection string from a file; `whence` is what named it.
fn string_file(path: &Path, whence: &str, guard: &Guard) -> Outcome<ServiceString> {
    if path.to_string_lossy().contains("SharedAccessKey") {
        return Err(Failure::usage(format!(
            "{whence} wants the name of a file, and was given what belongs into it"
        ))
        .remedy(
            "put it into a file for you alone; on a command line others could read it, so renew that key",
        ));
    }
    let text = guard.read(path, "a key").map_err(|why| Failure::usage(format!("{whence}: {why}")))?;
    text.parse().map_err(|why| Failure::usage(format!("{whence}: {}: {why}", path.display())))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
