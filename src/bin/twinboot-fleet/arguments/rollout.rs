//! Rolling out to a whole fleet by automatic device configurations, and watching.

use clap::Args;

use super::{Image, Share, Size, Span};

const DEPLOY_HELP: &str = "\
The hub leads: it sets the wish in the twins of all devices for which CONDITION holds, of those that come later too, and
counts them by the tutorials' five metrics. With waves this tool moves the condition on: a wave has so many devices in
all, chosen by chance and marked by the tag `twinboot`; the next one begins when enough of them have
ended. When too many have failed, nobody else gets it. What is needed to go on is kept in the configuration's labels,
so that `twinboot-fleet resume` does so from anywhere.

A device bears one mark: as long as another roll-out goes by the marks of these devices, new waves are refused. While
devices are marked the configuration is for nobody, and `preparing`; one that is left so is for `resume` or `delete`.

Examples:
  twinboot-fleet deploy gateway-2-0-0 --target \"tags.devicetype = 'gateway'\" --version-label 2.0.0 \
--uri https://example.com/gateway-2.0.0.squashfs --image gateway-2.0.0.squashfs --dry-run
  twinboot-fleet deploy gateway-2-0-0 --target \"tags.devicetype = 'gateway'\" --version-label 2.0.0 \
--uri https://example.com/gateway-2.0.0.squashfs --image gateway-2.0.0.squashfs --waves 1%,10%,100% --halt-at 5% --yes";

/// Roll out an image to all devices of a kind, at once or in waves
#[derive(Args, Clone, Debug)]
#[command(after_help = DEPLOY_HELP)]
pub(crate) struct Deploy {
    /// What to call the configuration: lower-case letters, digits, '-'
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Which devices: a condition on tags, deviceId, or reported properties that no update changes; * is all
    #[arg(long, value_name = "CONDITION")]
    pub(crate) target: String,
    #[command(flatten)]
    pub(crate) image: Image,
    /// Among configurations that say different things to a device the highest wins
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub(crate) priority: u32,
    /// How many devices in all after each wave: numbers or percents
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',')]
    pub(crate) waves: Vec<Size>,
    /// A first wave of so many, and then all
    #[arg(long, value_name = "SIZE", conflicts_with = "waves")]
    pub(crate) canary: Option<Size>,
    /// Halt when more than this share of the devices of the waves so far has failed or gone back; otherwise 5%
    #[arg(long, value_name = "PERCENT")]
    pub(crate) halt_at: Option<Share>,
    /// The next wave begins when this share of the devices so far has ended, well or not; otherwise 90%
    #[arg(long, value_name = "PERCENT")]
    pub(crate) enough: Option<Share>,
    /// Print the configuration as it would be made, and do nothing; of the address what stands before a question mark
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print all of the address, secrets included
    #[arg(long, requires = "dry_run")]
    pub(crate) reveal: bool,
    #[command(flatten)]
    pub(crate) watching: Watching,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// How to look at a whole fleet.
#[derive(Args, Clone, Debug)]
pub(crate) struct Watching {
    /// Do not wait for the end; of a roll-out in waves, only the first is begun
    #[arg(long)]
    pub(crate) no_watch: bool,
    /// Wait no longer than this: 90s, 30m, 2h, 7d
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub(crate) timeout: Span,
    /// How often to look; the real hub counts every few minutes, and answers 20 queries in one
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) every: Span,
    /// What happens, as a JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

const WATCH_HELP: &str = "\
NAME is that of a roll-out, of a job, or of devices. Without one it is all devices, or those of --where, until none of
them is being updated. On a terminal it is a table, elsewhere a line for each change.

Examples:
  twinboot-fleet watch
  twinboot-fleet watch gateway-2-0-0
  twinboot-fleet watch gateway-001 --json
  twinboot-fleet watch --where \"tags.devicetype = 'gateway'\" --timeout 30m";

/// Watch a roll-out, a job or devices to the end
#[derive(Args, Clone, Debug)]
#[command(after_help = WATCH_HELP)]
pub(crate) struct Watch {
    /// A roll-out, a job, or devices
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Devices for which this holds
    #[arg(long = "where", value_name = "CONDITION", conflicts_with = "names")]
    pub(crate) condition: Option<String>,
    /// Wait no longer than this: 90s, 30m, 2h, 7d
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub(crate) timeout: Span,
    /// How often to look; otherwise every few seconds, or 30 s where that takes queries, of which the hub answers few
    #[arg(long, value_name = "TIME")]
    pub(crate) every: Option<Span>,
    /// What happens, as a JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Keep a roll-out from devices that have not begun; those under way go on
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet pause gateway-2-0-0")]
pub(crate) struct Pause {
    /// Which roll-out
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

const RESUME_HELP: &str = "\
Devices that have failed do not try the same again by themselves: `update` with a --job-id has them do so. A wave that
waits for devices which are away for long goes on with a smaller share for --enough.

Examples:
  twinboot-fleet resume gateway-2-0-0 --yes";

/// Go on with a roll-out that was paused, has halted, or was left alone
#[derive(Args, Clone, Debug)]
#[command(after_help = RESUME_HELP)]
pub(crate) struct Resume {
    /// Which roll-out
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// From now on, halt only when more than this share has failed
    #[arg(long, value_name = "PERCENT")]
    pub(crate) halt_at: Option<Share>,
    /// From now on, the next wave begins when this share of the devices so far has ended, well or not
    #[arg(long, value_name = "PERCENT")]
    pub(crate) enough: Option<Share>,
    #[command(flatten)]
    pub(crate) watching: Watching,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

const ABORT_HELP: &str = "\
Devices that run the new version keep it, and the wish for it, so that no older one takes its place. The others go by
the roll-out before this one, if its configuration still stands: where that would be an update, too, it is asked for.

Examples:
  twinboot-fleet abort gateway-2-0-0";

/// End a roll-out: the wish leaves all devices that do not run the new version yet, and what can be stopped is
#[derive(Args, Clone, Debug)]
#[command(after_help = ABORT_HELP)]
pub(crate) struct Abort {
    /// Which roll-out
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

const DELETE_HELP: &str = "\
Devices that run the new version keep it, unless the configuration of an older roll-out still stands for them: by that
they go back, so it is asked for. `abort` keeps them where they are. Delete the oldest roll-outs first.

Examples:
  twinboot-fleet delete gateway-2-0-0";

/// Delete a roll-out's configuration: the wish leaves every device, and nothing remembers it
#[derive(Args, Clone, Debug)]
#[command(after_help = DELETE_HELP)]
pub(crate) struct Delete {
    /// Which roll-out
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// List roll-outs and other configurations, with their counts
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  twinboot-fleet rollouts\n  twinboot-fleet rollouts --json")]
pub(crate) struct Rollouts {
    /// Whole configurations, a JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}
