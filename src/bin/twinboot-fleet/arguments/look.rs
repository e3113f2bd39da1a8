//! Looking at devices, and at their twins.

use clap::{Args, Subcommand};

const DEVICES_HELP: &str = "\
Columns are id, connected, firmware, pending, status, detail, code, started, ended, enabled, activity; or any path into
the twin, such as tags.site. CONDITION is what stands behind WHERE in the hub's query language.

Examples:
  twinboot-fleet devices
  twinboot-fleet devices --where \"tags.devicetype = 'gateway' AND connectionState = 'Connected'\"
  twinboot-fleet devices --where \"properties.reported.firmware.fwUpdateStatus = 'error'\" --columns id,code,detail
  twinboot-fleet devices --columns id,tags.site,firmware --json --limit 10";

/// List devices
#[derive(Args, Clone, Debug)]
#[command(after_help = DEVICES_HELP)]
pub(crate) struct Devices {
    /// Only those for which this holds
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
    /// What to show of each
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "id,connected,firmware,pending,status,detail"
    )]
    pub(crate) columns: Vec<String>,
    /// A JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// No more than so many
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<u64>,
}

const QUERY_HELP: &str = "\
The language is the vendor's: see \"IoT Hub query language\". Each row is printed as a JSON object on a line of its own.

Examples:
  twinboot-fleet query \"SELECT deviceId, tags FROM devices WHERE tags.devicetype = 'gateway'\"
  twinboot-fleet query \"SELECT COUNT() AS devices FROM devices\"
  twinboot-fleet query --limit 5 \"SELECT * FROM devices.jobs WHERE devices.jobs.status = 'failed'\"";

/// Ask the hub in its own query language
#[derive(Args, Clone, Debug)]
#[command(after_help = QUERY_HELP)]
pub(crate) struct Query {
    /// The query
    #[arg(value_name = "SELECT …")]
    pub(crate) text: String,
    /// No more rows than so many
    #[arg(long, value_name = "NUMBER")]
    pub(crate) limit: Option<u64>,
}

/// Show or change a device's twin
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Twin {
    /// Show it
    Get(TwinGet),
    /// Change tags or desired properties
    Set(TwinSet),
}

const GET_HELP: &str = "\
Examples:
  twinboot-fleet twin get gateway-001
  twinboot-fleet twin get gateway-001 --path properties.reported.firmware";

/// Show it
#[derive(Args, Clone, Debug)]
#[command(after_help = GET_HELP)]
pub(crate) struct TwinGet {
    /// Whose
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,
    /// Only what stands at this path
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
}

const SET_HELP: &str = "\
PATH begins with tags. or properties.desired.; VALUE is JSON, and what is no JSON is text; null takes away.

Examples:
  twinboot-fleet twin set gateway-001 tags.site=berlin tags.floor=3
  twinboot-fleet twin set gateway-001 properties.desired.twinboot.rateLimit=1000000
  twinboot-fleet twin set gateway-001 tags.floor=null";

/// Change tags or desired properties
#[derive(Args, Clone, Debug)]
#[command(after_help = SET_HELP)]
pub(crate) struct TwinSet {
    /// Whose
    #[arg(value_name = "DEVICE")]
    pub(crate) device: String,
    /// What to put where
    #[arg(value_name = "PATH=VALUE", required = true)]
    pub(crate) values: Vec<String>,
    /// Only if the twin still has this etag
    #[arg(long, value_name = "ETAG")]
    pub(crate) etag: Option<String>,
}
