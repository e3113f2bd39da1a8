//! What makes devices do something, at once.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use twinboot::model::{Sha256, Version};

use super::Span;

/// Which devices.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("targets").required(true).multiple(false).args(["devices", "condition"]))]
pub(crate) struct Targets {
    /// Which devices
    #[arg(value_name = "DEVICE")]
    pub(crate) devices: Vec<String>,
    /// All for which this holds, in the hub's query language
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
}

/// Whether and how to follow what was begun.
#[derive(Args, Clone, Debug)]
pub(crate) struct Following {
    /// Do not wait for the end
    #[arg(long)]
    pub(crate) no_watch: bool,
    /// Wait no longer than this: 90s, 30m, 2h
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) timeout: Span,
    /// How often to look; otherwise every 2 s, or 30 s at more than 20 devices: the hub answers few queries
    #[arg(long, value_name = "TIME")]
    pub(crate) every: Option<Span>,
    /// What happens, as a JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// An image: where devices fetch it, and what it must be.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("digest").required(true).multiple(false).args(["sha256", "image", "firmware"]))]
pub(crate) struct Image {
    /// What the version is called
    #[arg(long, value_name = "VERSION", required_unless_present = "firmware", conflicts_with = "firmware")]
    pub(crate) version_label: Option<Version>,
    /// Where devices fetch it: https://…, or @FILE with the address in it, if it holds a secret
    #[arg(long, value_name = "URL", required_unless_present = "firmware")]
    pub(crate) uri: Option<String>,
    /// SHA-256 of the file as it is fetched, 64 hex digits; of a bundle, its check value
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<Sha256>,
    /// A copy of the file on this machine, to take the digest and the size from
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// All of that from the file that `bundle create` or `bundle sign` wrote with --deploy-json
    #[arg(long, value_name = "FILE")]
    pub(crate) firmware: Option<PathBuf>,
    /// A name for this attempt: what a device rolled back is tried again only under a new one
    #[arg(long, value_name = "ID")]
    pub(crate) job_id: Option<String>,
}

/// How devices are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum By {
    /// A direct method: the device must be connected, and answers at once
    Method,
    /// The desired property `firmware`: it waits for a device that is away
    Twin,
}

const UPDATE_HELP: &str = "\
Each device is watched until it runs the new version, has failed, or went back. More than 1000 devices are for `deploy`.

Examples:
  twinboot-fleet update gateway-001 --version-label 2.0.0 --uri https://example.com/gateway-2.0.0.squashfs \
--image gateway-2.0.0.squashfs
  twinboot-fleet update --where \"tags.site = 'berlin'\" --by twin --yes --version-label 2.0.0 \
--uri https://example.com/gateway-2.0.0.squashfs --image gateway-2.0.0.squashfs --timeout 30m";

/// Update devices and watch them to the end
#[derive(Args, Clone, Debug)]
#[command(after_help = UPDATE_HELP)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) targets: Targets,
    #[command(flatten)]
    pub(crate) image: Image,
    /// How devices are told
    #[arg(long, value_enum, default_value_t = By::Method)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) following: Following,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

const DOWNLOAD_HELP: &str = "\
Then `twinboot-fleet apply` switches over. Each device is watched until it has downloaded and verified the image.

Examples:
  twinboot-fleet download gateway-001 --version-label 3.0.0 --uri https://example.com/gateway-3.0.0.squashfs \
--image gateway-3.0.0.squashfs";

/// Have devices download and verify an image, and wait to be told to apply it
#[derive(Args, Clone, Debug)]
#[command(after_help = DOWNLOAD_HELP)]
pub(crate) struct Download {
    #[command(flatten)]
    pub(crate) targets: Targets,
    #[command(flatten)]
    pub(crate) image: Image,
    /// How devices are told
    #[arg(long, value_enum, default_value_t = By::Method)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) following: Following,
}

/// Devices that do what one word says, and reboot.
#[derive(Args, Clone, Debug)]
pub(crate) struct Disruptive {
    #[command(flatten)]
    pub(crate) targets: Targets,
    #[command(flatten)]
    pub(crate) following: Following,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Devices that do what one word says.
#[derive(Args, Clone, Debug)]
pub(crate) struct Plain {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Answers as a JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Have devices switch over to what they have downloaded
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet apply gateway-001")]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) what: Disruptive,
}

/// Have devices go back to their previous system
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet rollback gateway-001")]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) what: Disruptive,
}

/// Reboot devices, unless that would cost an update
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet reboot gateway-001\n  \
    twinboot-fleet reboot --where \"tags.site = 'berlin'\" --yes --no-watch")]
pub(crate) struct Reboot {
    #[command(flatten)]
    pub(crate) what: Disruptive,
}

/// Have devices go back to what they were made with: their data may be lost
#[derive(Args, Clone, Debug)]
#[command(after_help = "A device whose maker declared no factory reset refuses (501).\n\nExamples:\n  \
    twinboot-fleet factory-reset gateway-001 --yes")]
pub(crate) struct FactoryReset {
    #[command(flatten)]
    pub(crate) what: Disruptive,
}

/// Stop the update of devices, as far as they have not switched over
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet cancel gateway-001")]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) what: Plain,
}

/// Read properties of devices
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet read-property gateway-001\n  \
    twinboot-fleet read-property gateway-001 --name hostname,uptime --json")]
pub(crate) struct ReadProperty {
    #[command(flatten)]
    pub(crate) what: Plain,
    /// Which; all if none is named
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) name: Vec<String>,
}

/// Set properties of devices that may be set
#[derive(Args, Clone, Debug)]
#[command(after_help = "VALUE is JSON, and what is no JSON is text.\n\nExamples:\n  \
    twinboot-fleet write-property gateway-001 --set site=berlin")]
pub(crate) struct WriteProperty {
    #[command(flatten)]
    pub(crate) what: Plain,
    /// What to set; can be repeated
    #[arg(long, value_name = "NAME=VALUE", required = true)]
    pub(crate) set: Vec<String>,
}

const CONFIGURE_HELP: &str = "\
Settings are the members of the desired property `twinboot`: window, timeZone, consentRequired, consent, rateLimit,
progressInterval, pollInterval, logLevel. null takes one back. Each device's acknowledgement is waited for and shown.

Examples:
  twinboot-fleet configure gateway-001 --set rateLimit=1000000 --set window=02:00-04:30
  twinboot-fleet configure gateway-001 --set rateLimit=null --set window=null";

/// Change settings of devices
#[derive(Args, Clone, Debug)]
#[command(after_help = CONFIGURE_HELP)]
pub(crate) struct Configure {
    #[command(flatten)]
    pub(crate) what: Plain,
    /// What to set; can be repeated
    #[arg(long, value_name = "NAME=VALUE", required = true)]
    pub(crate) set: Vec<String>,
    /// Wait no longer than this for devices to acknowledge
    #[arg(long, value_name = "TIME", default_value = "1m")]
    pub(crate) timeout: Span,
}
