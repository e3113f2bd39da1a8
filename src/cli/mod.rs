//! The command line: what may be written, and the verbs that ask the daemon.
//!
//! The daemon itself is not here: `run` is given to [`main`] by the program's `main`. Everything that is printed goes
//! through its `output` module, or the screen of `--watch`.

mod check;
pub mod doctor;
mod output;
mod progress;
mod request;
mod status;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::config::{Config, Finding};
use crate::control::client::{Client, Error};
use crate::control::proto::{Fault, Response};
use crate::model::Artifact;
pub use output::complain;

const EXIT_CODES: &str = "\
Exit status:
  0  done, or begun; with status --watch: the update succeeded
  1  refused or failed, with the reason on standard error; with status: the daemon waits
     for something that is missing; with check-config: it cannot work like this; with
     doctor: something failed, or with --strict was warned of
  2  the command line is wrong
  3  the daemon cannot be reached, with what to do about it on standard error";

/// Power-fail safe A/B firmware updates, driven by an Azure IoT Hub device twin.
#[derive(Debug, Parser)]
#[command(name = "twinboot", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub struct Arguments {
    /// The configuration; drop-ins are read from conf.d beside it
    #[arg(long, value_name = "FILE", global = true, default_value = Config::PATH)]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the daemon; systemd does this
    Run {
        /// Leave the network to the process behind this socket, `twinboot net`; without it, one process does it all
        #[arg(long, value_name = "SOCKET")]
        net: Option<PathBuf>,
        /// Write what the adapters do as well
        #[arg(long, short)]
        verbose: bool,
    },
    /// Run the network side of `run --net`; systemd does this, and gives it its socket as standard input
    Net {
        /// Listen on this socket instead, until told to end
        #[arg(long, value_name = "SOCKET")]
        socket: Option<PathBuf>,
        /// Write what the adapters do as well
        #[arg(long, short)]
        verbose: bool,
    },
    /// Reboot a system on trial that nobody judges, when its time is over; systemd does this
    Guard,
    /// Show what runs and what an update is doing
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Go on showing it until the update has ended
        #[arg(long)]
        watch: bool,
    },
    /// Install an image
    Install {
        /// Which.
        #[command(flatten)]
        image: Image,
        /// Only download and verify it; `twinboot apply` switches over
        #[arg(long)]
        hold: bool,
    },
    /// Download and verify an image, and wait for `twinboot apply`
    Download {
        /// Which.
        #[command(flatten)]
        image: Image,
    },
    /// Stop the update, as long as it has not switched over
    Cancel,
    /// Keep the system on trial without waiting for its health checks
    Confirm,
    /// Go back to the previous system
    Rollback,
    /// Switch over to what is downloaded and waits for consent
    Apply,
    /// Try again what failed
    Retry,
    /// Reboot, unless that would cost a trial
    Reboot,
    /// Read the configuration again and go on under it; an update under way goes on
    Reload,
    /// Go back to what the device was made with; its data may be lost
    FactoryReset {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Show or set properties of the device
    Properties {
        /// What to do; without it, all are shown.
        #[command(subcommand)]
        what: Option<Properties>,
    },
    /// Check the configuration and what it names, and print what results
    CheckConfig,
    /// Look this board over: whether it can be trusted with an update
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Take warnings for failures
        #[arg(long)]
        strict: bool,
        /// Write a variable that the bootloader hands on to the kernel; reboot, and doctor tells whether it came back
        #[arg(long)]
        canary: bool,
    },
}

/// An image, as it is named on a command line.
#[derive(clap::Args, Clone, Debug)]
pub struct Image {
    /// A file on this device or an https:// address
    #[arg(value_name = "FILE|URL", value_hint = clap::ValueHint::FilePath, required_unless_present = "from_medium")]
    pub source: Option<String>,
    /// Digest of the file as it is fetched; root need not give one for a file
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<crate::model::Sha256>,
    /// What the version is called
    #[arg(long, value_name = "VERSION")]
    pub version_label: Option<crate::model::Version>,
    /// Only if it is a signed bundle (*.twb)
    #[arg(long)]
    pub signed_only: bool,
    /// The newest bundle for this device at the top of this directory, such as a stick; signed, of course. What was rolled
    /// back here before is not tried again
    #[arg(
        long,
        value_name = "DIRECTORY",
        value_hint = clap::ValueHint::DirPath,
        conflicts_with_all = ["source", "sha256", "version_label"]
    )]
    pub from_medium: Option<PathBuf>,
    /// Go on showing it until the file is not needed any more, as the image is in its slot; or it was refused
    #[arg(long)]
    pub wait: bool,
}

/// What was found on a medium.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chosen {
    /// The newest bundle for this device.
    pub artifact: Artifact,
    /// What is to be said of it, and of what was passed over; a line each.
    pub told: Vec<String>,
}

/// What to do with properties.
#[derive(Clone, Debug, Subcommand)]
pub enum Properties {
    /// Show some, or all
    Get {
        /// Their names
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Set one that may be set
    Set {
        /// Its name
        name: String,
        /// Its value: a number, true, false, or text; a number in double quotes is text
        value: String,
    },
}

/// How a command ended; the numbers are promised in `--help`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2
    Usage,
    /// 3
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
        })
    }
}

/// Reads the command line. A wrong one, `--help` and `--version` end the process here.
pub fn parse() -> Arguments {
    Arguments::parse()
}

/// How the daemon is to be run.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The configuration.
    pub config: PathBuf,
    /// The socket of the process that has the network; `None` if this one has it.
    pub net: Option<PathBuf>,
    /// Whether to write what the adapters do as well.
    pub verbose: bool,
}

/// How the network side is to be run.
#[derive(Clone, Debug)]
pub struct NetLaunch {
    /// Where to listen; standard input, if nowhere is said.
    pub socket: Option<PathBuf>,
    /// Whether to write what the adapters do as well.
    pub verbose: bool,
}

/// The whole program but what needs the adapters: reads the command line, and does what is asked. `daemon` is called
/// for `run`, `net` for `net`, `inspect` for `check-config`, to look at what a configuration names, `guard` for `guard`,
/// `examine` for `doctor`, and `choose` for `install --from-medium`, to look for bundles in a directory.
pub fn main(
    daemon: impl FnOnce(Launch) -> ExitCode,
    net: impl FnOnce(NetLaunch) -> ExitCode,
    inspect: impl FnOnce(&Config) -> Vec<Finding>,
    guard: impl FnOnce(&Path) -> ExitCode,
    examine: impl FnOnce(&Config, doctor::Consultation) -> Vec<doctor::Check>,
    choose: impl FnOnce(&Config, &Path, &Value) -> Result<Chosen, String>,
) -> ExitCode {
    let Arguments { config, command } = parse();
    match command {
        Command::Run { net, verbose } => daemon(Launch { config, net, verbose }),
        Command::Net { socket, verbose } => net(NetLaunch { socket, verbose }),
        Command::CheckConfig => check::show(&config, inspect).into(),
        Command::Guard => guard(&config),
        Command::Doctor { json, strict, canary } => {
            doctor::show(&config, doctor::Consultation { canary }, (json, strict), examine).into()
        }
        Command::Status { .. }
        | Command::Install { .. }
        | Command::Download { .. }
        | Command::Cancel
        | Command::Confirm
        | Command::Rollback
        | Command::Apply
        | Command::Retry
        | Command::Reboot
        | Command::Reload
        | Command::FactoryReset { .. }
        | Command::Properties { .. } => client_command(&command, &config, choose),
    }
}

/// Does what the daemon is to be asked for. Of the configuration only the socket counts, so nothing else in it is in
/// the way; the daemon itself says what is wrong with it.
fn client_command(
    command: &Command,
    path: &Path,
    choose: impl FnOnce(&Config, &Path, &Value) -> Result<Chosen, String>,
) -> ExitCode {
    let config = Config::understood(path);
    let exit = match command {
        Command::Run { .. }
        | Command::Net { .. }
        | Command::CheckConfig
        | Command::Guard
        | Command::Doctor { .. } => Exit::Usage,
        Command::Status { json, watch: false } => status::show(&config, *json),
        Command::Status { json, watch: true } => watch::follow(&config.control.socket, *json),
        Command::FactoryReset { yes: false } if !request::is_meant() => Exit::Usage,
        Command::Install { image, hold } => request::install(image, *hold, &config, choose),
        Command::Download { image } => request::install(image, true, &config, choose),
        Command::Cancel
        | Command::Confirm
        | Command::Rollback
        | Command::Apply
        | Command::Retry
        | Command::Reboot
        | Command::Reload
        | Command::FactoryReset { .. }
        | Command::Properties { .. } => request::send(command, &config),
    };
    exit.into()
}

/// Says why the daemon could not be asked.
fn unreachable(error: &Error) -> Exit {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    complain(&format!("{error}{cause}"), error.remedy());
    Exit::Unreachable
}

/// Says why the daemon refused, if it did.
fn accepted(response: Response) -> Result<Response, Exit> {
    if response.ok {
        return Ok(response);
    }
    let unexplained = || Fault { code: "?".into(), message: "refused".into(), remedy: String::new() };
    let fault = response.error.unwrap_or_else(unexplained);
    complain(&format!("{} ({})", fault.message, fault.code), &fault.remedy);
    Err(Exit::Failed)
}

fn connect(config: &Config) -> Result<Client, Exit> {
    Client::connect(&config.control.socket).map_err(|error| unreachable(&error))
}
