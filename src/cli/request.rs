//! The verbs that ask the daemon to do something.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::output::{clean, complain, say};
use super::{Chosen, Command, Exit, Image, Properties, accepted, connect, unreachable, watch};
use crate::config::Config;
use crate::model::{Artifact, Install, Location, Origin, Request, Terms};

/// Asks, and says what the daemon says.
pub(super) fn send(command: &Command, config: &Config) -> Exit {
    match request(command) {
        Ok(request) => ask(&request, config),
        Err(message) => usage(&message),
    }
}

/// Has an image installed, or one that is found on a medium; and follows it as long as its file is needed, if that is
/// wanted.
pub(super) fn install(
    image: &Image,
    hold: bool,
    config: &Config,
    choose: impl FnOnce(&Config, &Path, &Value) -> Result<Chosen, String>,
) -> Exit {
    let request = match &image.from_medium {
        None => match wish(image, hold) {
            Ok(request) => request,
            Err(message) => return usage(&message),
        },
        Some(medium) => {
            // What this device has seen and committed to, only the daemon knows.
            let status = match connect(config).and_then(|mut client| {
                client.ask(&Request::Status).map_err(|error| unreachable(&error)).and_then(accepted)
            }) {
                Ok(response) => response.status.unwrap_or_default(),
                Err(exit) => return exit,
            };
            // Which bundles are for this device is in the configuration, and what is wrong with that is no detail here.
            let chosen = Config::load(&config.path)
                .map_err(|error| error.to_string())
                .and_then(|config| choose(&config, medium, &status));
            match chosen {
                Ok(Chosen { artifact, told }) => {
                    told.iter().for_each(|line| say(&clean(line)));
                    let terms = Terms { hold, unattended: true, ..Terms::default() };
                    Request::Install(Box::new(Install::new(artifact, Origin::Local, None).on(terms)))
                }
                Err(message) => {
                    complain(&message, "");
                    return Exit::Failed;
                }
            }
        }
    };
    match ask(&request, config) {
        Exit::Done if image.wait => watch::until_taken(&config.control.socket),
        exit @ (Exit::Done | Exit::Failed | Exit::Usage | Exit::Unreachable) => exit,
    }
}

fn usage(message: &str) -> Exit {
    complain(message, "");
    Exit::Usage
}

fn ask(request: &Request, config: &Config) -> Exit {
    let response = match connect(config)
        .and_then(|mut client| client.ask(request).map_err(|error| unreachable(&error)).and_then(accepted))
    {
        Ok(response) => response,
        Err(exit) => return exit,
    };
    match &response.properties {
        Some(properties) => say(&lines(properties)),
        None => say(&clean(&response.message.unwrap_or_else(|| "done".into()))),
    }
    Exit::Done
}

/// Asks the person at the terminal whether a factory reset is really wanted. Where there is nobody to ask, it is not.
pub(super) fn is_meant() -> bool {
    if !io::stdin().is_terminal() {
        complain(
            "a factory reset may lose data, and there is nobody here to ask",
            "if it is meant, say --yes",
        );
        return false;
    }
    say("This takes the device back to what it was made with, and its data may be lost. Type yes to go on:");
    let mut line = String::new();
    let is_meant = io::stdin().read_line(&mut line).is_ok() && line.trim() == "yes";
    if !is_meant {
        complain("nothing was done", "");
    }
    is_meant
}

/// A line for each property, and one for each that could not be told.
fn lines(properties: &Value) -> String {
    let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let failed = properties.get("$errors").map(members).unwrap_or_default();
    let values = members(properties);
    let width = values.keys().chain(failed.keys()).map(String::len).max().unwrap_or(0);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), clean);
    let told = values.iter().filter(|(name, _)| *name != "$errors");
    let mut lines: Vec<_> =
        told.map(|(name, value)| format!("{:width$}  {}", clean(name), text(value))).collect();
    lines
        .extend(failed.iter().map(|(name, why)| format!("{:width$}  not known: {}", clean(name), text(why))));
    lines.join("\n")
}

/// The request that a command line stands for.
pub(super) fn request(command: &Command) -> Result<Request, String> {
    Ok(match command {
        Command::Apply => Request::Apply,
        Command::Cancel => Request::Cancel,
        Command::Confirm => Request::Confirm,
        Command::Download { image } => wish(image, true)?,
        Command::FactoryReset { .. } => Request::FactoryReset,
        Command::Install { image, hold } => wish(image, *hold)?,
        Command::Properties { what: None } => Request::ReadProperties(Vec::new()),
        Command::Properties { what: Some(Properties::Get { names }) } => {
            Request::ReadProperties(names.clone())
        }
        Command::Properties { what: Some(Properties::Set { name, value }) } => {
            Request::WriteProperties([(name.clone(), scalar(value))].into())
        }
        Command::Reboot => Request::Reboot,
        Command::Reload => Request::Reload,
        Command::Retry => Request::Retry,
        Command::Rollback => Request::Rollback,
        Command::Run { .. }
        | Command::Net { .. }
        | Command::Guard
        | Command::Status { .. }
        | Command::CheckConfig
        | Command::Doctor { .. } => return Err("not a request".into()),
    })
}

/// What is named by the command line itself.
fn wish(image: &Image, hold: bool) -> Result<Request, String> {
    let Image { source, sha256, version_label, signed_only, from_medium: _, wait: _ } = image;
    let source = source.as_ref().ok_or("no file and no address")?;
    let (version, location) = (version_label.clone(), location(source)?);
    // That is all there is to see to: what is named like this is a signed bundle to the daemon, or nothing.
    if *signed_only && !location.is_bundle() {
        return Err(format!("{source} is no signed bundle: its name does not end in .twb"));
    }
    let artifact = Artifact { version, location, sha256: *sha256, size: None };
    let terms = Terms { hold, ..Terms::default() };
    Ok(Request::Install(Box::new(Install::new(artifact, Origin::Local, None).on(terms))))
}

/// A number, a truth value or a quoted text as JSON has it; all else is text as it is.
fn scalar(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        Ok(Value::Null | Value::Array(_) | Value::Object(_)) | Err(_) => text.into(),
    }
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
