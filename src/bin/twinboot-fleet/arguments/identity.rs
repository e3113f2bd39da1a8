//! Identities of devices.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Create and delete the identities of devices
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Identity {
    /// Create a device with new keys
    Create(IdentityCreate),
    /// Show a device's connection string, which is a secret
    ShowConnectionString(IdentityShow),
    /// Delete a device, its twin and its keys
    Delete(IdentityDelete),
}

/// Create a device with new keys
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  twinboot-fleet identity create gateway-new --tag devicetype=gateway --tag site=berlin"
)]
pub(crate) struct IdentityCreate {
    /// Its id
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,
    /// A tag of its twin; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) tag: Vec<String>,
}

/// Delete a device, its twin and its keys
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet identity delete gateway-new --yes")]
pub(crate) struct IdentityDelete {
    /// Which
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Show a device's connection string, which is a secret
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "On a terminal it is shown only with --reveal: it would stay on the screen.\n\nExamples:\n  \
    twinboot-fleet identity show-connection-string gateway-new --to gateway-new.secret\n  \
    twinboot-fleet identity show-connection-string gateway-new | wc -c"
)]
pub(crate) struct IdentityShow {
    /// Whose
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,
    /// Into a new file for you alone, instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Print it, on a terminal too
    #[arg(long)]
    pub(crate) reveal: bool,
}
