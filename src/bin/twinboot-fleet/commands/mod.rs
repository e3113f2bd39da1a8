//! What each command does. Each gives how it ended, or why it could not.

mod devices;
mod paths;
mod query;
mod twin;

use crate::arguments::{Command, Twin};
use crate::failure::{Exit, Outcome};
use crate::hub::Hub;

/// Does what was asked.
///
/// # Errors
/// Why it ends early.
pub(crate) async fn run(hub: &Hub, command: &Command) -> Outcome<Exit> {
    match command {
        Command::Devices(wanted) => devices::list(hub, wanted).await,
        Command::Query(wanted) => query::ask(hub, wanted).await,
        Command::Twin(Twin::Get(wanted)) => twin::get(hub, wanted).await,
        Command::Twin(Twin::Set(wanted)) => twin::set(hub, wanted).await,
    }
}
