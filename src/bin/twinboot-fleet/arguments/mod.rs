//! What may be written on the command line, and the help that is the manual. Nothing but clap and the words of
//! `twinboot::model` is used here, so that manual pages and completions are made from it by whoever includes this module.
//!
//! Every line of a help that begins with two blanks and `twinboot-fleet` is an example, and a test runs it as it stands.

mod act;
mod bundle;
mod identity;
mod job;
mod look;
mod rollout;
mod share;
mod span;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use act::{
    Apply, By, Cancel, Configure, Disruptive, Download, FactoryReset, Following, Image, Plain, ReadProperty,
    Reboot, Rollback, Targets, Update, WriteProperty,
};
pub(crate) use bundle::{
    Announced, Bundle, BundleCommand, Create, Cut, Delegate, Inspect, Keygen, Sign, Signing, Verify,
};
pub(crate) use identity::{Identity, IdentityShow};
pub(crate) use job::{Job, JobCommand, JobKind, JobList, Schedule};
pub(crate) use look::{Devices, Query, Twin, TwinGet, TwinSet};
pub(crate) use rollout::{Abort, Delete, Deploy, Pause, Resume, Rollouts, Watch, Watching};
pub(crate) use share::{Share, Size};
pub(crate) use span::Span;

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
  0  done; what was watched has ended well
  1  refused or failed, on one device at least, with the reason on standard error
  2  the command line or the settings are wrong, or nobody agreed
  3  the hub cannot be reached, or does not let us in
  4  what was watched has not ended in time

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
    /// Update devices and watch them to the end
    Update(Update),
    /// Have devices download and verify an image, and wait to be told to apply it
    Download(Download),
    /// Have devices switch over to what they have downloaded
    Apply(Apply),
    /// Stop the update of devices, as far as they have not switched over
    Cancel(Cancel),
    /// Have devices go back to their previous system
    Rollback(Rollback),
    /// Reboot devices, unless that would cost an update
    Reboot(Reboot),
    /// Have devices go back to what they were made with: their data may be lost
    FactoryReset(FactoryReset),
    /// Read properties of devices
    ReadProperty(ReadProperty),
    /// Set properties of devices that may be set
    WriteProperty(WriteProperty),
    /// Change settings of devices
    Configure(Configure),
    /// Roll out an image to all devices of a kind, at once or in waves
    Deploy(Deploy),
    /// List roll-outs and other configurations, with their counts
    Rollouts(Rollouts),
    /// Watch a roll-out, a job or devices to the end
    Watch(Watch),
    /// Keep a roll-out from devices that have not begun; those under way go on
    Pause(Pause),
    /// Go on with a roll-out that was paused, has halted, or was left alone
    Resume(Resume),
    /// End a roll-out: the wish leaves all devices that do not run the new version yet, and what can be stopped is
    Abort(Abort),
    /// Delete a roll-out's configuration: the wish leaves every device, and nothing remembers it
    Delete(Delete),
    /// Schedule work on many devices, and look at it
    Job(Job),
    /// Create and delete the identities of devices
    #[command(subcommand)]
    Identity(Identity),
    /// Make, sign and look at signed bundles
    Bundle(Bundle),
}

/// The command line, whole, for manual pages and completions.
#[allow(dead_code, reason = "for those who include this module")]
pub(crate) fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}
