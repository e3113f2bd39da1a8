//! `hub-emulator`: the emulator as a program. Reads the command line, starts it, prints what happens until it is told
//! to stop. Everything else is the library's.

mod arguments;
mod fleet_command;
mod roster;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;
use hub_emulator::Event;
use serde_json::Value;

use arguments::{Arguments, Command};
use signals::Signals;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.command {
        Some(Command::Fleet(fleet)) => {
            fleet_command::run(&arguments, fleet).map_err(|error| error.to_string())
        }
        None => run(&arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("hub-emulator: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let emulator = arguments.start()?;
    let events = emulator.events();
    let quiet = arguments.quiet;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let stopped = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let mut signals = Signals::listen()?;
            // Scripts wait for this line, and may send signals after it.
            println!("ready");
            std::thread::spawn(move || {
                // Ends with the emulator.
                events.iter().filter(|_| !quiet).for_each(|event| println!("{}", line(&event)));
            });
            signals.stop_or(|| print_state(&emulator.state())).await;
            Ok(())
        })
    });
    if arguments.state_at_exit {
        print_state(&emulator.state());
    }
    stopped.map_err(|error| format!("listening for signals: {error}"))
}

/// One line of at most 200 characters: whole twins would bury the rest.
fn line(event: &Event) -> String {
    let text = event.to_string();
    if text.chars().count() <= 200 {
        return text;
    }
    text.chars().take(199).chain(['…']).collect()
}

fn print_state(state: &Value) {
    println!("{state:#}");
}
