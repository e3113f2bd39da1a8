//! The program `twinboot`. This is the one place where the adapters are chosen and given their settings; see the
//! library for what they are and how it turns.

#[path = "main/assemble.rs"]
mod assemble;
#[path = "main/daemon.rs"]
mod daemon;
#[path = "main/doctor/mod.rs"]
mod doctor;
#[path = "main/door.rs"]
mod door;
#[path = "main/guard.rs"]
mod guard;
#[path = "main/inspect.rs"]
mod inspect;
#[path = "main/loader.rs"]
mod loader;
#[path = "main/medium/mod.rs"]
mod medium;
#[path = "main/network.rs"]
mod network;
#[path = "main/orders.rs"]
mod orders;
#[path = "main/overdue.rs"]
mod overdue;
#[path = "main/programs.rs"]
mod programs;
#[path = "main/reach.rs"]
mod reach;
#[path = "main/settings.rs"]
mod settings;
#[path = "main/stranded.rs"]
mod stranded;
#[path = "main/way_out.rs"]
mod way_out;

use std::process::ExitCode;

use twinboot::cli;

fn main() -> ExitCode {
    cli::main(daemon::run, network::run, inspect::all, guard::run, doctor::examine, medium::choose)
}
