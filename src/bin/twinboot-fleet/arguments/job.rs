//! Scheduled jobs: what the hub itself does on many devices, at a time of its own.

use clap::{Args, Subcommand, ValueEnum};
use twinboot::model::Timestamp;

use super::{Image, Span, Targets};

const JOB_HELP: &str = "\
The hub leads a job: it goes on when this machine is off. A job is complete when every device has been told and has
answered; how the update itself goes on is for `twinboot-fleet watch`. Real hubs run one job at a time, or a few.

Examples:
  twinboot-fleet job update gateway-001 --version-label 2.0.0 --uri https://example.com/gateway-2.0.0.squashfs \
--image gateway-2.0.0.squashfs --id night-1
  twinboot-fleet job reboot --where \"tags.devicetype = 'gateway'\" --time-limit 30m --yes
  twinboot-fleet job show night-1
  twinboot-fleet job list";

/// Schedule work on many devices, and look at it
#[derive(Args, Clone, Debug)]
#[command(after_help = JOB_HELP)]
pub(crate) struct Job {
    /// What to do.
    #[command(subcommand)]
    pub(crate) what: JobCommand,
}

/// What to do with jobs.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Schedule a firmware update
    Update(JobUpdate),
    /// Schedule a reboot
    Reboot(JobReboot),
    /// Schedule a factory reset: data may be lost
    FactoryReset(JobFactoryReset),
    /// Schedule a change of settings
    Configure(JobConfigure),
    /// Schedule the reading of properties
    ReadProperty(JobRead),
    /// Schedule the setting of properties
    WriteProperty(JobWrite),
    /// List jobs, by when they start
    List(JobList),
    /// Show a job with its children, one for each device
    Show(JobShow),
    /// Cancel a job: devices that have been told already go on
    Cancel(JobCancel),
}

/// When, on which devices, and under which name.
#[derive(Args, Clone, Debug)]
pub(crate) struct Schedule {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// What to call the job; otherwise a name with the time in it
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// When it starts, in UTC, such as 2026-11-21T02:00Z; otherwise now
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Timestamp>,
    /// How long it may take in all
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) time_limit: Span,
    /// Do not wait for the job's end
    #[arg(long)]
    pub(crate) no_watch: bool,
    /// What happens, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Schedule a firmware update
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet job update gateway-001 --version-label 2.0.0 \
    --uri https://example.com/gateway-2.0.0.squashfs --image gateway-2.0.0.squashfs")]
pub(crate) struct JobUpdate {
    #[command(flatten)]
    pub(crate) schedule: Schedule,
    #[command(flatten)]
    pub(crate) image: Image,
}

/// Schedule a reboot
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet job reboot gateway-001\n  \
    twinboot-fleet job reboot --where \"tags.devicetype = 'gateway'\" --at 2099-12-31T02:00Z --no-watch --yes")]
pub(crate) struct JobReboot {
    #[command(flatten)]
    pub(crate) schedule: Schedule,
}

/// Schedule a factory reset: data may be lost
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet job factory-reset gateway-001 --yes")]
pub(crate) struct JobFactoryReset {
    #[command(flatten)]
    pub(crate) schedule: Schedule,
}

/// Schedule a change of settings
#[derive(Args, Clone, Debug)]
#[command(after_help = "Settings are those of `twinboot-fleet configure`.\n\nExamples:\n  \
    twinboot-fleet job configure gateway-001 --set rateLimit=1000000")]
pub(crate) struct JobConfigure {
    #[command(flatten)]
    pub(crate) schedule: Schedule,
    /// What to set; can be repeated
    #[arg(long, value_name = "NAME=VALUE", required = true)]
    pub(crate) set: Vec<String>,
}

/// Schedule the reading of properties
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet job read-property gateway-001 --name hostname,uptime")]
pub(crate) struct JobRead {
    #[command(flatten)]
    pub(crate) schedule: Schedule,
    /// Which; all if none is named
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) name: Vec<String>,
}

/// Schedule the setting of properties
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet job write-property gateway-001 --set site=berlin")]
pub(crate) struct JobWrite {
    #[command(flatten)]
    pub(crate) schedule: Schedule,
    /// What to set; can be repeated
    #[arg(long, value_name = "NAME=VALUE", required = true)]
    pub(crate) set: Vec<String>,
}

/// The kinds of job that the hub itself tells apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum JobKind {
    /// Direct methods: all but configure
    Method,
    /// Twins: configure
    Twin,
}

/// List jobs, by when they start
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  twinboot-fleet job list\n  twinboot-fleet job list --status failed --json\n  \
    twinboot-fleet job list --device gateway-001"
)]
pub(crate) struct JobList {
    /// Only those that stand so: queued, scheduled, running, completed, failed, cancelled
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
    /// Only those of this kind
    #[arg(long, value_enum)]
    pub(crate) kind: Option<JobKind>,
    /// The parts of this device in all jobs, instead of jobs
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["status", "kind"])]
    pub(crate) device: Option<String>,
    /// As JSON, an object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show a job with its children, one for each device
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  twinboot-fleet job show night-1\n  twinboot-fleet job show night-1 --json"
)]
pub(crate) struct JobShow {
    /// Which job
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// As JSON, an object a line: the job, then its children
    #[arg(long)]
    pub(crate) json: bool,
}

/// Cancel a job: devices that have been told already go on
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  twinboot-fleet job reboot gateway-001 --id later --at 2099-01-01T02:00Z --no-watch\n  \
    twinboot-fleet job cancel later"
)]
pub(crate) struct JobCancel {
    /// Which job
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}
