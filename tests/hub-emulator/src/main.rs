//! `hub-emulator`: the emulator as a program. Reads the command line, starts it, prints what happens until it is told
//! to stop. Everything else is the library's.

mod arguments;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use hub_emulator::{Emulator, Event};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("hub-emulator: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let emulator = Emulator::start(arguments.options()).map_err(|error| error.to_string())?;
    let emulator = Arc::new(emulator);
    let events = emulator.events();
    if let Some(directory) = &arguments.images {
        emulator.images().serve_directory(directory);
    }
    for fault in &arguments.fault {
        emulator.faults().set(fault.clone());
    }
    println!("devices   mqtts://{}:{}", arguments.host, emulator.mqtt_port());
    println!("service   https://{}:{}", arguments.host, emulator.https_port());
    println!("images    {}", emulator.images().url(""));
    println!("CA        {}", arguments.ca.display());
    println!("service connection string: {}", emulator.service_connection_string());
    for device in &arguments.device {
        let created = emulator.create_device_with_key(&device.id, device.key.as_deref(), device.tags.clone());
        let text = created.map_err(|error| format!("device {}: {error}", device.id))?;
        println!("device connection string: {text}");
    }
    // Scripts wait for this line.
    println!("ready");
    let quiet = arguments.quiet;
    std::thread::spawn(move || {
        // Ends with the emulator.
        events.iter().filter(|_| !quiet).for_each(|event| println!("{}", line(&event)));
    });
    let stopped = until_stopped(&emulator).map_err(|error| format!("waiting for signals: {error}"));
    if arguments.state_at_exit {
        print_state(&emulator.state());
    }
    stopped
}

/// One line of at most 200 characters: whole twins would bury the rest.
fn line(event: &Event) -> String {
    let text = event.to_string();
    if text.chars().count() <= 200 {
        return text;
    }
    text.chars().take(199).chain(['…']).collect()
}

/// Prints the state at SIGUSR1, returns at SIGINT and SIGTERM.
fn until_stopped(emulator: &Emulator) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut print = signal(SignalKind::user_defined1())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = print.recv() => print_state(&emulator.state()),
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
        }
    })
}

fn print_state(state: &Value) {
    println!("{state:#}");
}
