//! What each command does. Each gives how it ended, or why it could not.

mod act;
mod bundle;
mod configure;
mod deploy;
mod devices;
mod identity;
mod job;
mod paths;
mod properties;
mod query;
mod targets;
mod twin;
mod update;
mod watch;
mod wish;

use std::sync::Arc;

use act::Deed;
pub(crate) use targets::each;

use crate::arguments::{Command, Twin};
use crate::failure::{Exit, Outcome};
use crate::hub::Hub;

/// Does what was asked.
///
/// # Errors
/// Why it ends early.
pub(crate) async fn run(hub: &Arc<Hub>, command: &Command) -> Outcome<Exit> {
    match command {
        Command::Devices(wanted) => devices::list(hub, wanted).await,
        Command::Query(wanted) => query::ask(hub, wanted).await,
        Command::Twin(Twin::Get(wanted)) => twin::get(hub, wanted).await,
        Command::Twin(Twin::Set(wanted)) => twin::set(hub, wanted).await,
        Command::Update(wanted) => update::update(hub, wanted).await,
        Command::Download(wanted) => update::download(hub, wanted).await,
        Command::Apply(wanted) => act::disrupt(hub, Deed::Apply, &wanted.what).await,
        Command::Cancel(wanted) => act::cancel(hub, &wanted.what).await,
        Command::Rollback(wanted) => act::disrupt(hub, Deed::Rollback, &wanted.what).await,
        Command::Reboot(wanted) => act::disrupt(hub, Deed::Reboot, &wanted.what).await,
        Command::FactoryReset(wanted) => act::disrupt(hub, Deed::FactoryReset, &wanted.what).await,
        Command::ReadProperty(wanted) => properties::read(hub, wanted).await,
        Command::WriteProperty(wanted) => properties::write(hub, wanted).await,
        Command::Configure(wanted) => configure::run(hub, wanted).await,
        Command::Deploy(wanted) => deploy::deploy(hub, wanted).await,
        Command::Rollouts(wanted) => deploy::list(hub, wanted).await,
        Command::Watch(wanted) => watch::run(hub, wanted).await,
        Command::Pause(wanted) => deploy::pause(hub, wanted).await,
        Command::Resume(wanted) => deploy::resume(hub, wanted).await,
        Command::Abort(wanted) => deploy::abort(hub, wanted).await,
        Command::Delete(wanted) => deploy::delete(hub, wanted).await,
        Command::Job(wanted) => job::run(hub, &wanted.what).await,
        Command::Identity(wanted) => identity::run(hub, wanted).await,
        Command::Bundle(_) => local(command).unwrap_or(Ok(Exit::Done)),
    }
}

/// Does what needs no hub; nothing, if it is something else.
pub(crate) fn local(command: &Command) -> Option<Outcome<Exit>> {
    if let Command::Bundle(wanted) = command { Some(bundle::run(&wanted.what)) } else { None }
}
