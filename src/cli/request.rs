//! The verbs that ask the daemon to do something.

use std::path::{Path, PathBuf};

use super::output::{clean, complain, say};
use super::{Command, Exit, accepted, connect, unreachable};
use crate::config::Config;
use crate::control::proto::Request;
use crate::model::{Artifact, Location};

/// Asks, and says what the daemon says.
pub(super) fn send(command: &Command, config: &Config) -> Exit {
    let request = match request(command) {
        Ok(request) => request,
        Err(message) => {
            complain(&message, "");
            return Exit::Usage;
        }
    };
    let response = match connect(config)
        .and_then(|mut client| client.ask(&request).map_err(|error| unreachable(&error)).and_then(accepted))
    {
        Ok(response) => response,
        Err(exit) => return exit,
    };
    say(&clean(&response.message.unwrap_or_else(|| "done".into())));
    Exit::Done
}

/// The request that a command line stands for.
pub(super) fn request(command: &Command) -> Result<Request, String> {
    Ok(match command {
        Command::Apply => Request::Apply,
        Command::Cancel => Request::Cancel,
        Command::Confirm => Request::Confirm,
        Command::Install { source, sha256, version_label } => Request::Install(Artifact {
            version: version_label.clone(),
            location: location(source)?,
            sha256: *sha256,
            size: None,
        }),
        Command::Reboot => Request::Reboot,
        Command::Retry => Request::Retry,
        Command::Rollback => Request::Rollback,
        Command::Run { .. } | Command::Status { .. } | Command::CheckConfig => {
            return Err("not a request".into());
        }
    })
}

/// An address if it looks like one, else a file, which must be there: the daemon would say so too, but later.
fn location(source: &str) -> Result<Location, String> {
    if source.contains("://") {
        return source.parse().map(Location::Url).map_err(|error: crate::model::BadUrl| error.to_string());
    }
    // The daemon runs in another directory. Symbolic links are left as they are: it is the daemon that opens it.
    let file: PathBuf =
        std::path::absolute(Path::new(source)).map_err(|error| format!("{source}: {error}"))?;
    match file.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(format!("{source} is a directory")),
        Ok(_) => Ok(Location::File(file)),
        Err(error) => Err(format!("{source}: {error}")),
    }
}
