//! `twinboot-fleet`, the operator's command line: a client of the hub's service REST API. It knows the fleet by what the
//! hub knows, holds nothing of its own, and talks to no device directly.
//!
//! `arguments` is what may be written, `connection` which hub and key, `hub` the requests, `commands` what each command
//! does, `follow` how devices are led to the end of it, `rollout` how a whole fleet
//! is, `show` what is printed.

mod arguments;
mod commands;
mod connection;
mod failure;
mod follow;
mod hub;
mod rollout;
mod show;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;

use arguments::Arguments;
use connection::Connection;
use failure::{Exit, Failure, Outcome};
use hub::Hub;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.text.is_empty() {
                show::complain(&failure.text, &failure.remedy);
            }
            failure.exit.into()
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<Exit> {
    // The key of a whole fleet is in this process. A kernel without the call is no reason to stop.
    let _ = twinboot::host::disable_core_dumps();
    if let Some(outcome) = commands::local(&arguments.command) {
        return outcome;
    }
    let connection = Connection::find(&arguments.connection, &|name| std::env::var_os(name))?;
    let hub = Arc::new(Hub::new(connection)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("starting the runtime: {error}")))?;
    runtime.block_on(commands::run(&hub, &arguments.command))
}
