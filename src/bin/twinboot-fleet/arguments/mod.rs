//! What may be written on the command line, and the help that is the manual. Nothing but clap and the words of
//! `twinboot::model` is used here, so that manual pages and completions are made from it by whoever includes this module.
//!
//! Every line of a help that begins with two blanks and `twinboot-fleet` is an example, and a test runs it as it stands.

mod look;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use look::{Devices, Query, Twin, TwinGet, TwinSet};

const AFTER: &str = "\
Which hub: the first of these that is there.
  --hub NAME                            the profile ~/.config/twinboot/fleet/NAME.toml (below $XDG_CONFIG_HOME if set):
                                        connection_string or connection_string_file, and ca_file
  --connection-string-file FILE         a file with the service's connection string
  $TWINBOOT_HUB                         as --hub
  $TWINBOOT_CONNECTION_STRING_FILE      as --connection-string-file
  $TWINBOOT_CONNECTION_STRING           the connection string itself
  ~/.config/twinboot/fleet/default.toml
A connection string is HostName=…;SharedAccessKeyName=…;SharedAccessKey=…: the policy `service` for methods and twins,
with registry rights for queries, jobs and configurations. Its file must be for you alone (chmod 600). On the command
line it is not taken: others could read it there.

Exit status:
  0  done
  1  refused or failed, with the reason on standard error
  2  the command line or the settings are wrong
  3  the hub cannot be reached, or does not let us in

Examples:
  twinboot-fleet devices
  twinboot-fleet devices --help";

/// Watch and update the firmware of a fleet of gateways, by their Azure IoT Hub
#[derive(Debug, Parser)]
#[command(name = "twinboot-fleet", version, after_help = AFTER, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// Which hub.
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which hub.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which hub")]
pub(crate) struct Connection {
    /// A profile: ~/.config/twinboot/fleet/NAME.toml
    #[arg(long, value_name = "NAME", global = true, conflicts_with = "connection_string_file")]
    pub(crate) hub: Option<String>,
    /// A file with the service's connection string
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) connection_string_file: Option<PathBuf>,
    /// Certificate authorities in PEM to trust besides the system's; or $TWINBOOT_CA_FILE
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca_file: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// List devices
    Devices(Devices),
    /// Ask the hub in its own query language
    Query(Query),
    /// Show or change a device's twin
    #[command(subcommand)]
    Twin(Twin),
}

/// The command line, whole, for manual pages and completions.
#[allow(dead_code, reason = "for those who include this module")]
pub(crate) fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}
