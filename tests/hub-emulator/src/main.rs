//! `hub-emulator`: the emulator as a program. Reads the command line, starts it, prints what happens until it is told
//! to stop. Everything else is the library's.

mod arguments;

use std::process::ExitCode;

use clap::Parser as _;
use hub_emulator::{Emulator, Event};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    let events = emulator.events();
    if let Some(directory) = &arguments.images {
        emulator.images().serve_directory(directory);
    }
    for fault in &arguments.fault {
        emulator.throw(fault.clone());
    }
    println!("devices   mqtts://{}:{}", arguments.host, emulator.mqtt_port());
    println!("service   https://{}:{}", arguments.host, emulator.https_port());
    println!("images    {}", emulator.images().url(""));
    println!("page      https://{}:{}/", arguments.host, emulator.https_port());
    println!("CA        {}", arguments.ca.display());
    println!("service connection string: {}", emulator.service_connection_string());
    for device in &arguments.device {
        let created = emulator.create_device_with_key(&device.id, device.key.as_deref(), device.tags.clone());
        let text = created.map_err(|error| format!("device {}: {error}", device.id))?;
        println!("device connection string: {text}");
    }
    let quiet = arguments.quiet;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let stopped = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let signals = Signals::listen()?;
            // Scripts wait for this line, and may send signals after it.
            println!("ready");
            std::thread::spawn(move || {
                // Ends with the emulator.
                events.iter().filter(|_| !quiet).for_each(|event| println!("{}", line(&event)));
            });
            signals.until_stopped(&emulator).await;
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

struct Signals {
    interrupt: Signal,
    print: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        let interrupt = signal(SignalKind::interrupt())?;
        let print = signal(SignalKind::user_defined1())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Signals { interrupt, print, terminate })
    }

    /// Prints the state at SIGUSR1, returns at SIGINT and SIGTERM.
    async fn until_stopped(mut self, emulator: &Emulator) {
        loop {
            tokio::select! {
                _ = self.print.recv() => print_state(&emulator.state()),
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
            }
        }
    }
}

fn print_state(state: &Value) {
    println!("{state:#}");
}
